package main

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"orkestra.dev/api/v1alpha1"
	"orkestra.dev/bench/loopback"
	"orkestra.dev/services/stager/archive"
)

const mergePatch = types.MergePatchType

// counter of requests of one kind.
type counter struct {
	mu   sync.Mutex
	n    int
	last time.Time // when one was answered
}

func (c *counter) count() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.n++
	c.last = time.Now()
}

// read is how many there were, and how long after began the last was answered.
func (c *counter) read(began time.Time) (n int, after time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.n > 0 {
		after = c.last.Sub(began)
	}
	return c.n, after
}

func (c *counter) reset() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.n = 0
}

// shelf is a repository that counts how many charts are downloaded.
type shelf struct {
	counter
	// indexed is when the index was read last.
	indexed time.Time
	url     string
	names   []string
	close   func() error
}

// numbered are the names of so many charts.
func numbered(charts int) []string {
	var names []string
	for i := range charts {
		names = append(names, fmt.Sprintf("chart-%03d", i))
	}
	return names
}

// newShelf has charts of these names, each of about size bytes when packed.
func newShelf(names []string, size int) (*shelf, error) {
	s := &shelf{names: names}
	files := map[string][]byte{}
	var index strings.Builder
	index.WriteString("apiVersion: v1\nentries:\n")
	noise := rand.NewChaCha8([32]byte{1})
	for _, name := range names {
		body := make([]byte, max(size-400, 0)) // the rest is headers
		if _, err := noise.Read(body); err != nil {
			return nil, err
		}
		data, err := archive.Write(name, []archive.File{
			{Name: "Chart.yaml", Data: []byte("apiVersion: v2\nname: " + name + "\nversion: 1.0.0\n")},
			{Name: "templates/cm.yaml", Data: []byte("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: '{{ .Release.Name }}'}\ndata: {message: '{{ .Values.message }}'}\n")},
			{Name: "files/noise", Data: body},
		})
		if err != nil {
			return nil, err
		}
		files["/"+name+"-1.0.0.tgz"] = data
		fmt.Fprintf(&index, "  %s:\n  - {apiVersion: v2, name: %s, version: 1.0.0, digest: %s, urls: [%s-1.0.0.tgz]}\n",
			name, name, strings.TrimPrefix(archive.Digest(data), "sha256:"), name)
	}
	files["/index.yaml"] = []byte(index.String())
	var err error
	s.url, s.close, err = loopback.Serve(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		data, ok := files[r.URL.Path]
		if !ok {
			w.WriteHeader(http.StatusNotFound)
			return
		}
		_, _ = w.Write(data) // who hangs up has what he wants
		if strings.HasSuffix(r.URL.Path, ".tgz") {
			s.count()
			return
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		s.indexed = time.Now()
	}))
	return s, err
}

// group of all charts.
func (s *shelf) group() *v1alpha1.ApplicationGroup {
	g := &v1alpha1.ApplicationGroup{ObjectMeta: metav1.ObjectMeta{Name: group}}
	for _, name := range s.names {
		a := v1alpha1.Application{DAG: v1alpha1.DAG{Name: name}}
		a.Spec.Chart = v1alpha1.ChartRef{URL: s.url, Name: name, Version: "1.0.0"}
		a.Spec.Release = v1alpha1.Release{TargetNamespace: group, Interval: metav1.Duration{Duration: 5 * time.Minute}}
		g.Spec.Applications = append(g.Spec.Applications, a)
	}
	return g
}
