package bundle

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"path"
	"strings"

	"helm.sh/helm/v3/pkg/chart"
)

// museum is a repository with ChartMuseum's API. Its client in helm-push takes files and
// no context, and knows no provenance.
type museum struct {
	*Target
	at, api *url.URL
}

func newMuseum(at *url.URL, t *Target) *museum {
	context := path.Join("/", t.ContextPath)
	api := *at
	api.Path = path.Join(context, "api", strings.TrimPrefix(path.Join("/", at.Path), context))
	return &museum{Target: t, at: at, api: &api}
}

// Push uploads the archive, and then the provenance.
func (m *museum) Push(ctx context.Context, meta *chart.Metadata, archive, provenance []byte) error {
	if err := m.post(ctx, "charts", archive); err != nil || provenance == nil {
		return err
	}
	return m.PushProvenance(ctx, meta, archive, provenance)
}

// PushProvenance uploads it. What is there may be the same.
func (m *museum) PushProvenance(ctx context.Context, meta *chart.Metadata, _, provenance []byte) error {
	err := m.post(ctx, "prov", provenance)
	if !errors.Is(err, errThere) {
		return err
	}
	file := "charts/" + meta.Name + "-" + meta.Version + ".tgz.prov"
	resp, err := m.do(ctx, http.MethodGet, m.at.JoinPath(file), nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	there, err := io.ReadAll(io.LimitReader(resp.Body, maxProof+1))
	if err != nil {
		return fmt.Errorf("reading %s: %w", file, err)
	}
	if resp.StatusCode != http.StatusOK || !bytes.Equal(there, provenance) {
		return fmt.Errorf("it holds another provenance at %s: delete that, or load to another URL", m.at.JoinPath(file))
	}
	return nil
}

func (m *museum) post(ctx context.Context, what string, body []byte) error {
	resp, err := m.do(ctx, http.MethodPost, m.api.JoinPath(what), body)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	switch resp.StatusCode {
	case http.StatusCreated:
		return nil
	case http.StatusConflict:
		return errThere
	case http.StatusUnauthorized, http.StatusForbidden:
		return fmt.Errorf("%s answered %s: say who you are with --username and --password-stdin, or --token-stdin", m.api.JoinPath(what), resp.Status)
	case http.StatusNotFound, http.StatusMethodNotAllowed:
		return fmt.Errorf("%s answered %s: is it a ChartMuseum with --disable-api=false, and is --context-path right?", m.api.JoinPath(what), resp.Status)
	default:
		return fmt.Errorf("%s answered %s%s", m.api.JoinPath(what), resp.Status, said(resp.Body))
	}
}

func (m *museum) do(ctx context.Context, method string, to *url.URL, body []byte) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, to.String(), bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	switch l := m.Login; {
	case l.Token != "":
		req.Header.Set("Authorization", "Bearer "+l.Token)
	case l.Username != "":
		req.SetBasicAuth(l.Username, l.Password)
	}
	return m.http.Do(req)
}

// said is what the museum gives as the cause: {"error": "..."}.
func said(body io.Reader) string {
	var answer struct{ Error string }
	if err := json.NewDecoder(io.LimitReader(body, 4<<10)).Decode(&answer); err != nil || answer.Error == "" {
		return ""
	}
	return ": " + answer.Error
}
