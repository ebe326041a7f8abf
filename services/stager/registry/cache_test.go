package registry_test

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"orkestra.dev/services/stager/registry"
)

// counted is a handler, and how many bytes it has sent.
type counted struct {
	http.Handler
	mu       sync.Mutex
	requests int
	sent     int
}

type countingWriter struct {
	http.ResponseWriter
	*counted
}

func (w countingWriter) Write(p []byte) (int, error) {
	w.mu.Lock()
	w.sent += len(p)
	w.mu.Unlock()
	return w.ResponseWriter.Write(p)
}

func (c *counted) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c.mu.Lock()
	c.requests++
	c.mu.Unlock()
	c.Handler.ServeHTTP(countingWriter{w, c}, r)
}

// bulky is an index of about 20 MiB in JSON, with one chart more.
var bulky = sync.OnceValue(func() []byte {
	var b bytes.Buffer
	b.WriteString(`{"apiVersion":"v1","entries":{"web":[{"version":"1.0.0","urls":["web.tgz"]}]`)
	for i := 0; b.Len() < 20<<20; i++ {
		fmt.Fprintf(&b, `,"chart-%d":[{"version":"1.0.0","urls":["chart.tgz"],"description":"%s"}]`, i, strings.Repeat("words ", 100))
	}
	b.WriteString("}}")
	return b.Bytes()
})

// An index that has not changed costs a request and no download, whatever the server
// says it by; and one in a compressed form is read as it is.
func TestAnUnchangedIndexIsNotDownloaded(t *testing.T) {
	published := time.Unix(1_000_000, 0)
	plain := func(tag string, modified time.Time) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("ETag", tag)
			http.ServeContent(w, r, "", modified, bytes.NewReader(bulky()))
		})
	}
	var zipped bytes.Buffer
	zw := gzip.NewWriter(&zipped)
	if _, err := zw.Write(bulky()); err != nil {
		t.Fatal(err)
	}
	if err := zw.Close(); err != nil {
		t.Fatal(err)
	}
	packed := func(encoding string) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if encoding != "" {
				w.Header().Set("Content-Encoding", encoding)
			}
			w.Header().Set("Content-Type", "application/gzip")
			http.ServeContent(w, r, "", published, bytes.NewReader(zipped.Bytes()))
		})
	}
	for name, h := range map[string]http.Handler{
		"ETag": plain(`W/"x"`, time.Time{}), "LastModified": plain("", published), "Encoded": packed("gzip"), "File": packed(""),
	} {
		t.Run(name, func(t *testing.T) {
			c := &counted{Handler: h}
			url := serve(t, c.ServeHTTP)
			now := time.Unix(2_000_000, 0)
			reg := registry.New(registry.Options{AllowPrivate: true, Now: func() time.Time { return now }})
			for range 3 {
				now = now.Add(time.Hour)
				if _, err := reg.Resolve(t.Context(), registry.Ref{URL: url, Name: "web"}); err != nil {
					t.Fatal(err)
				}
			}
			if most := len(bulky()) + 1000; c.requests != 3 || c.sent > most {
				t.Errorf("%d bytes were sent in %d requests, want at most %d in 3", c.sent, c.requests, most)
			}
		})
	}
}

func TestIndexesAreKeptUpToASize(t *testing.T) {
	var b strings.Builder
	b.WriteString("apiVersion: v1\nentries:\n  web:\n")
	for i := range 500 {
		fmt.Fprintf(&b, "  - version: %d.0.0\n    urls: [web-%d.tgz]\n", i, i)
	}
	shelves := []*shelf{newShelf(t, b.String(), nil), newShelf(t, b.String(), nil), newShelf(t, b.String(), nil)}
	reg := registry.New(registry.Options{AllowPrivate: true, IndexCacheBytes: 120_000, IndexTTL: time.Hour}) // two of them
	downloads := func(i int) int {
		t.Helper()
		if _, err := reg.Resolve(t.Context(), registry.Ref{URL: shelves[i].URL, Name: "web"}); err != nil {
			t.Fatal(err)
		}
		return len(shelves[i].requests())
	}
	for step, c := range []struct{ shelf, downloads int }{{0, 1}, {1, 1}, {0, 0}, {1, 0}, {2, 1}, {1, 0}, {0, 1}} {
		if got := downloads(c.shelf); got != c.downloads {
			t.Errorf("step %d: %d downloads of index %d, want %d", step, got, c.shelf, c.downloads)
		}
	}
}

// What was read of a repository before a chart was asked for does not answer that: it may
// have been pushed in between. A time that lies ahead is not waited for.
func TestAnIndexIsNotOlderThanWhatIsAskedFor(t *testing.T) {
	newest := "1.0.0"
	server := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(w, `{"apiVersion":"v1","entries":{"web":[{"version":%q,"urls":["web.tgz"]}]}}`, newest)
	})
	r := local()
	for _, step := range []struct {
		since time.Time
		want  string
	}{{time.Time{}, "1.0.0"}, {time.Time{}, "1.0.0"}, {time.Now().Add(time.Hour), "1.1.0"}} {
		got, err := r.Resolve(t.Context(), registry.Ref{URL: server, Name: "web", Version: "1.x", Since: step.since})
		if err != nil || got.Version != step.want {
			t.Errorf("since %s: got %+v %v, want %s", step.since, got, err, step.want)
		}
		newest = "1.1.0"
	}
}
