// Package shelf is a repository on loopback, of charts that a benchmark makes.
package shelf

import (
	"bytes"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"orkestra.dev/bench/loopback"
	"orkestra.dev/services/stager/archive"
)

// Version of every chart.
const Version = "1.0.0"

// Shelf is the repository, until it is closed.
type Shelf struct {
	URL   string
	Close func() error
}

// New serves charts by their names. Whoever is given a file is told to served, by its path.
func New(charts map[string][]archive.File, served func(path string)) (*Shelf, error) {
	files := map[string][]byte{}
	var index strings.Builder
	index.WriteString("apiVersion: v1\nentries:\n")
	for _, name := range slices.Sorted(maps.Keys(charts)) {
		data, err := archive.Write(name, charts[name])
		if err != nil {
			return nil, fmt.Errorf("packing chart %s: %w", name, err)
		}
		file := name + "-" + Version + ".tgz"
		files["/"+file] = data
		fmt.Fprintf(&index, "  %s:\n  - {apiVersion: v2, name: %s, version: %s, digest: %s, urls: [%s]}\n",
			name, name, Version, strings.TrimPrefix(archive.Digest(data), "sha256:"), file)
	}
	files["/index.yaml"] = []byte(index.String())
	url, closing, err := loopback.Serve(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		data, ok := files[r.URL.Path]
		if !ok {
			http.NotFound(w, r)
			return
		}
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(data))
		served(r.URL.Path)
	}))
	if err != nil {
		return nil, err
	}
	return &Shelf{URL: url, Close: closing}, nil
}

// Chart of one ConfigMap, with the message that its values have; more is what else its Chart.yaml says.
func Chart(name, more string) []archive.File {
	return []archive.File{
		{Name: "Chart.yaml", Data: []byte("apiVersion: v2\nname: " + name + "\nversion: " + Version + "\n" + more)},
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
