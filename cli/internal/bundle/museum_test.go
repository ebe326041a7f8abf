package bundle_test

import (
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	ociregistry "github.com/google/go-containerregistry/pkg/registry"

	"orkestra.dev/services/stager/archive"
)

// museum is a Helm repository with ChartMuseum's API, as its documentation has it. It
// begins with charts by file name.
type museum struct {
	URL string

	mu       sync.Mutex
	files    map[string][]byte
	password string
	uploads  []string
	broken   int // uploads until it breaks, where it is positive
}

func newMuseum(t *testing.T, files map[string][]byte) *museum {
	t.Helper()
	m := &museum{files: files}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /team/index.yaml", m.index)
	mux.HandleFunc("GET /team/charts/{file}", func(w http.ResponseWriter, r *http.Request) {
		data, ok := m.files[r.PathValue("file")]
		if !ok {
			http.NotFound(w, r)
			return
		}
		_, _ = w.Write(data)
	})
	mux.HandleFunc("POST /api/team/charts", func(w http.ResponseWriter, r *http.Request) { m.upload(t, w, r, ".tgz") })
	mux.HandleFunc("POST /api/team/prov", func(w http.ResponseWriter, r *http.Request) { m.upload(t, w, r, ".tgz.prov") })
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		m.mu.Lock()
		defer m.mu.Unlock()
		if _, password, _ := r.BasicAuth(); password != m.password {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		mux.ServeHTTP(w, r)
	}))
	t.Cleanup(s.Close)
	m.URL = s.URL + "/team"
	return m
}

func (m *museum) index(w http.ResponseWriter, _ *http.Request) {
	charts := map[string][]any{}
	for file, data := range m.files {
		stem, ok := strings.CutSuffix(file, ".tgz")
		if !ok {
			continue
		}
		name, version, _ := strings.Cut(stem, "-")
		charts[name] = append(charts[name], map[string]any{
			"name": name, "version": version, "urls": []string{"charts/" + file}, "digest": strings.TrimPrefix(archive.Digest(data), "sha256:"),
		})
	}
	_ = json.NewEncoder(w).Encode(map[string]any{"apiVersion": "v1", "entries": charts})
}

// upload a chart, or a provenance, whose name is in what it says of itself.
func (m *museum) upload(t *testing.T, w http.ResponseWriter, r *http.Request, ext string) {
	data, err := io.ReadAll(r.Body)
	if err != nil {
		t.Error(err)
	}
	var name, version string
	said := string(data)
	if ext == ".tgz" {
		files, err := archive.Read(data, archive.DefaultLimits)
		if err != nil {
			t.Error(err)
		}
		said = string(files[slices.IndexFunc(files, func(f archive.File) bool { return f.Name == "Chart.yaml" })].Data)
	}
	for line := range strings.Lines(said) {
		if v, ok := strings.CutPrefix(line, "name: "); ok {
			name = strings.TrimSpace(v)
		}
		if v, ok := strings.CutPrefix(line, "version: "); ok {
			version = strings.TrimSpace(v)
		}
	}
	file := name + "-" + version + ext
	if m.broken > 0 {
		if m.broken--; m.broken == 0 {
			w.WriteHeader(http.StatusInsufficientStorage)
			fmt.Fprint(w, `{"error":"the disk is full"}`)
			return
		}
	}
	if _, ok := m.files[file]; ok {
		w.WriteHeader(http.StatusConflict)
		return
	}
	m.files[file] = data
	m.uploads = append(m.uploads, file)
	w.WriteHeader(http.StatusCreated)
	fmt.Fprint(w, `{"saved":true}`)
}

// oci is a registry that counts the tags which are put into it.
func oci(t *testing.T) (url string, puts func() int) {
	t.Helper()
	var mu sync.Mutex
	n := 0
	inner := ociregistry.New(ociregistry.Logger(log.New(io.Discard, "", 0)))
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPut && strings.Contains(r.URL.Path, "/manifests/") && !strings.Contains(r.URL.Path, "sha256:") {
			mu.Lock()
			n++
			mu.Unlock()
		}
		inner.ServeHTTP(w, r)
	}))
	t.Cleanup(s.Close)
	return "oci://" + strings.TrimPrefix(s.URL, "http://") + "/charts", func() int {
		mu.Lock()
		defer mu.Unlock()
		return n
	}
}
