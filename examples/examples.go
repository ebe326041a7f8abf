// Package examples holds the project's own example charts and groups, and puts
// them where a group can ask for them.
package examples

import (
	"bytes"
	"context"
	"embed"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"path"
	"strings"

	"sigs.k8s.io/yaml"

	"orkestra.dev/services/stager/archive"
)

//go:embed all:charts
var charts embed.FS

//go:embed bookinfo.yaml
var bookinfo string

// Bookinfo is the ApplicationGroup of bookinfo.yaml, with its charts at repository. The
// Secret with its username and password is namespace/name; empty: it does not ask.
func Bookinfo(repository, secret string) []byte {
	if namespace, name, ok := strings.Cut(secret, "/"); ok {
		repository += fmt.Sprintf("\n          authSecretRef: {namespace: %s, name: %s}", namespace, name)
	}
	return []byte(strings.ReplaceAll(bookinfo, "url: CHARTS", "url: "+repository))
}

// Chart is a packaged chart.
type Chart struct {
	Name, Version string
	// Archive is the .tgz: the same for the same files.
	Archive []byte
}

// Charts packages every chart in the folder charts.
func Charts() ([]Chart, error) {
	dirs, err := charts.ReadDir("charts")
	if err != nil {
		return nil, fmt.Errorf("reading the example charts: %w", err)
	}
	var out []Chart
	for _, d := range dirs {
		c, err := pack(path.Join("charts", d.Name()))
		if err != nil {
			return nil, fmt.Errorf("packaging the example chart %s: %w", d.Name(), err)
		}
		out = append(out, c)
	}
	return out, nil
}

func pack(dir string) (Chart, error) {
	meta, err := charts.ReadFile(path.Join(dir, "Chart.yaml"))
	if err != nil {
		return Chart{}, err
	}
	var c Chart
	if err := yaml.Unmarshal(meta, &c); err != nil {
		return Chart{}, fmt.Errorf("reading Chart.yaml: %w", err)
	}
	var files []archive.File
	err = fs.WalkDir(charts, dir, func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := charts.ReadFile(name)
		files = append(files, archive.File{Name: strings.TrimPrefix(name, dir+"/"), Data: data})
		return err
	})
	if err != nil {
		return Chart{}, err
	}
	c.Archive, err = archive.Write(c.Name, files)
	return c, err
}

// Museum is a ChartMuseum that charts are put into.
type Museum struct {
	URL string
	// Username and Password of who may write; empty: it does not ask.
	Username, Password string
}

// Push puts the charts into a tenant, and returns the URL under which it serves them as
// a Helm repository. A chart that is there is left alone.
func (m Museum) Push(ctx context.Context, tenant string) (string, error) {
	list, err := Charts()
	if err != nil {
		return "", err
	}
	base := strings.TrimRight(m.URL, "/")
	for _, c := range list {
		if err := m.push(ctx, base+"/api/"+tenant+"/charts", c); err != nil {
			return "", fmt.Errorf("pushing the example chart %s %s: %w", c.Name, c.Version, err)
		}
	}
	return base + "/" + tenant, nil
}

func (m Museum) push(ctx context.Context, url string, c Chart) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(c.Archive))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/gzip")
	if m.Username != "" {
		req.SetBasicAuth(m.Username, m.Password)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 4<<10))
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusCreated && resp.StatusCode != http.StatusConflict {
		return fmt.Errorf("%s answered %s: %s", url, resp.Status, bytes.TrimSpace(body))
	}
	return nil
}
