package main

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"orkestra.dev/api/v1alpha1"
	"orkestra.dev/bench/shelf"
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

// supply is a repository that counts how many charts are downloaded.
type supply struct {
	counter
	*shelf.Shelf
	// indexed is when the index was read last.
	indexed time.Time
	names   []string
}

// numbered are the names of so many charts.
func numbered(charts int) []string {
	var names []string
	for i := range charts {
		names = append(names, fmt.Sprintf("chart-%03d", i))
	}
	return names
}

// newSupply has charts of these names, each of about size bytes when packed.
func newSupply(names []string, size int) (*supply, error) {
	s := &supply{names: names}
	charts := map[string][]archive.File{}
	noise := rand.NewChaCha8([32]byte{1})
	for _, name := range names {
		body := make([]byte, max(size-400, 0)) // the rest is headers
		if _, err := noise.Read(body); err != nil {
			return nil, err
		}
		charts[name] = append(shelf.Chart(name, ""), archive.File{Name: "files/noise", Data: body})
	}
	var err error
	if s.Shelf, err = shelf.New(charts, s.served); err != nil {
		return nil, err
	}
	return s, nil
}

func (s *supply) served(path string) {
	if strings.HasSuffix(path, ".tgz") {
		s.count()
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.indexed = time.Now()
}

// group of all charts.
func (s *supply) group() *v1alpha1.ApplicationGroup {
	g := &v1alpha1.ApplicationGroup{ObjectMeta: metav1.ObjectMeta{Name: group}}
	for _, name := range s.names {
		a := v1alpha1.Application{DAG: v1alpha1.DAG{Name: name}}
		a.Spec.Chart = v1alpha1.ChartRef{URL: s.URL, Name: name, Version: shelf.Version}
		a.Spec.Release = v1alpha1.Release{TargetNamespace: group, Interval: metav1.Duration{Duration: 5 * time.Minute}}
		g.Spec.Applications = append(g.Spec.Applications, a)
	}
	return g
}
