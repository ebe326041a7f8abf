package main

import (
	"bytes"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"orkestra.dev/bench/loopback"
	"orkestra.dev/bench/rollout/shape"
	"orkestra.dev/services/stager/archive"
)

const (
	// chart is what every release installs: one ConfigMap.
	chart        = "small"
	chartVersion = "1.0.0"
	// Values of a release, before and after its change.
	hello   = "hello"
	changed = "changed"
)

func chartFiles(name, extra string) []archive.File {
	return []archive.File{
		{Name: "Chart.yaml", Data: []byte("apiVersion: v2\nname: " + name + "\nversion: " + chartVersion + "\n" + extra)},
		{Name: "values.yaml", Data: []byte("message: none\n")},
		{Name: "templates/configmap.yaml", Data: []byte(`apiVersion: v1
kind: ConfigMap
metadata:
  name: {{ .Release.Name }}-{{ .Chart.Name }}
data:
  message: {{ .Values.message | quote }}
`)},
	}
}

// umbrellaFiles are those of a chart with a subchart for each of a graph's releases
// but the last.
func umbrellaFiles(g shape.Graph) []archive.File {
	var dependencies strings.Builder
	dependencies.WriteString("dependencies:\n")
	var subcharts []archive.File
	for _, r := range g.Releases {
		if r.Subchart == "" {
			continue
		}
		fmt.Fprintf(&dependencies, "- {name: %s, version: %s}\n", r.Subchart, chartVersion)
		for _, f := range chartFiles(r.Subchart, "") {
			subcharts = append(subcharts, archive.File{Name: "charts/" + r.Subchart + "/" + f.Name, Data: f.Data})
		}
	}
	return append(chartFiles(umbrellaChart(g), dependencies.String()), subcharts...)
}

func umbrellaChart(g shape.Graph) string { return fmt.Sprintf("umbrella%d", len(g.Releases)) }

// shelf is the repository that all charts come from.
type shelf struct {
	url   string
	close func() error
}

func newShelf(graphs []shape.Graph) (*shelf, error) {
	charts := map[string][]archive.File{chart: chartFiles(chart, "")}
	for _, g := range graphs {
		if g.Shape == shape.Umbrella {
			charts[umbrellaChart(g)] = umbrellaFiles(g)
		}
	}
	files := map[string][]byte{}
	index := "apiVersion: v1\nentries:\n"
	for name, content := range charts {
		data, err := archive.Write(name, content)
		if err != nil {
			return nil, fmt.Errorf("packing chart %s: %w", name, err)
		}
		file := name + "-" + chartVersion + ".tgz"
		files["/"+file] = data
		index += fmt.Sprintf("  %s:\n  - {apiVersion: v2, name: %s, version: %s, digest: %s, urls: [%s]}\n",
			name, name, chartVersion, strings.TrimPrefix(archive.Digest(data), "sha256:"), file)
	}
	files["/index.yaml"] = []byte(index)
	s := &shelf{}
	var err error
	s.url, s.close, err = loopback.Serve(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		data, ok := files[r.URL.Path]
		if !ok {
			http.NotFound(w, r)
			return
		}
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(data))
	}))
	return s, err
}

// layChart writes the chart as a folder, and returns its path.
func layChart(folder string) (string, error) {
	path := filepath.Join(folder, chart)
	for _, f := range chartFiles(chart, "") {
		to := filepath.Join(path, f.Name)
		if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
			return "", fmt.Errorf("writing the chart: %w", err)
		}
		if err := os.WriteFile(to, f.Data, 0o644); err != nil {
			return "", fmt.Errorf("writing the chart: %w", err)
		}
	}
	return path, nil
}
