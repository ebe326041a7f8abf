// Package repository is a Helm repository in a test's own process: charts can be
// added while it serves, and every request is counted.
package repository

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"

	"sigs.k8s.io/yaml"

	"orkestra.dev/services/stager/archive"
)

// Files are a chart's files by path. Chart.yaml is written where it is missing.
type Files map[string]string

// Server is a Helm repository over HTTP.
type Server struct {
	// URL to name in a group.
	URL string

	server *httptest.Server
	mu     sync.Mutex
	charts map[string][]byte // by file name
	index  map[string][]entry
	hits   map[string]int
}

type entry struct {
	APIVersion string   `json:"apiVersion"`
	Name       string   `json:"name"`
	Version    string   `json:"version"`
	URLs       []string `json:"urls"`
	Digest     string   `json:"digest"`
}

// New serves an empty repository on loopback until Close.
func New() *Server {
	s := &Server{charts: map[string][]byte{}, index: map[string][]entry{}, hits: map[string]int{}}
	s.server = httptest.NewServer(s)
	s.URL = s.server.URL
	return s
}

// Close stops serving.
func (s *Server) Close() { s.server.Close() }

// Hits is how often a path was asked for.
func (s *Server) Hits(path string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.hits[path]
}

// Add packs a chart and serves it.
func (s *Server) Add(name, version string, files Files) error {
	data, err := Pack(name, version, files)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	file := name + "-" + version + ".tgz"
	s.charts[file] = data
	s.index[name] = append(s.index[name], entry{
		APIVersion: "v2", Name: name, Version: version, URLs: []string{"charts/" + file},
		Digest: strings.TrimPrefix(archive.Digest(data), "sha256:"),
	})
	return nil
}

// Pack makes the archive of a chart.
func Pack(name, version string, files Files) ([]byte, error) {
	list := make([]archive.File, 0, len(files)+1)
	if _, ok := files["Chart.yaml"]; !ok {
		list = append(list, archive.File{Name: "Chart.yaml", Data: fmt.Appendf(nil, "apiVersion: v2\nname: %s\nversion: %s\n", name, version)})
	}
	for f, data := range files {
		list = append(list, archive.File{Name: f, Data: []byte(data)})
	}
	return archive.Write(name, list)
}

// ServeHTTP answers index.yaml and charts/<file>.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.hits[r.URL.Path]++
	if r.URL.Path == "/index.yaml" {
		for _, list := range s.index {
			slices.SortFunc(list, func(a, b entry) int { return strings.Compare(b.Version, a.Version) })
		}
		data, err := yaml.Marshal(map[string]any{"apiVersion": "v1", "entries": s.index})
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		w.Header().Set("Content-Type", "application/yaml")
		_, _ = w.Write(data)
		return
	}
	data, ok := s.charts[strings.TrimPrefix(r.URL.Path, "/charts/")]
	if !ok {
		http.NotFound(w, r)
		return
	}
	_, _ = w.Write(data)
}
