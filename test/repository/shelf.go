package repository

import (
	"bytes"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"sigs.k8s.io/yaml"

	"orkestra.dev/services/stager/archive"
)

// shelf is a Helm repository: index.yaml and charts/<file>.
type shelf struct {
	mu     sync.Mutex
	charts map[string][]byte // by file name
	index  map[string][]entry
}

type entry struct {
	APIVersion string   `json:"apiVersion"`
	Name       string   `json:"name"`
	Version    string   `json:"version"`
	URLs       []string `json:"urls"`
	Digest     string   `json:"digest"`
}

func (s *shelf) add(name, version string, data []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	file := name + "-" + version + ".tgz"
	s.charts[file] = data
	s.index[name] = append(s.index[name], entry{
		APIVersion: "v2", Name: name, Version: version, URLs: []string{"charts/" + file},
		Digest: strings.TrimPrefix(archive.Digest(data), "sha256:"),
	})
	slices.SortFunc(s.index[name], func(a, b entry) int { return strings.Compare(b.Version, a.Version) })
	return nil
}

// ServeHTTP answers with an entity tag, so that what is unchanged is not sent again.
func (s *shelf) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	data, ok := s.charts[strings.TrimPrefix(r.URL.Path, "/charts/")]
	if r.URL.Path == "/index.yaml" {
		var err error
		data, err = yaml.Marshal(map[string]any{"apiVersion": "v1", "entries": s.index})
		if ok = err == nil; !ok {
			s.mu.Unlock()
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		w.Header().Set("Content-Type", "application/yaml")
	}
	s.mu.Unlock()
	if !ok {
		http.NotFound(w, r)
		return
	}
	w.Header().Set("ETag", `"`+archive.Digest(data)+`"`)
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(data))
}
