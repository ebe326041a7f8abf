package stager

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"orkestra.dev/api/v1alpha1"
	"orkestra.dev/pkg/events"
	"orkestra.dev/services/stager/archive"
	"orkestra.dev/services/stager/registry"
)

// shelves is a ChartMuseum that has its charts in memory, and troubles that meet whoever
// talks to it, one request each, by the method of the request.
type shelves struct {
	mu       sync.Mutex
	charts   map[string][]byte // by name-version.tgz
	troubles map[string][]trouble
}

// trouble answers in place of the server; it tells whether the server goes on then.
type trouble func(w http.ResponseWriter) (goOn bool)

func answering(code int, body string) trouble {
	return func(w http.ResponseWriter) bool {
		w.WriteHeader(code)
		fmt.Fprint(w, body)
		return false
	}
}

// hangUp ends the connection, with half an answer where one is given.
func hangUp(half string) trouble {
	return func(w http.ResponseWriter) bool {
		if half != "" {
			w.Header().Set("Content-Length", fmt.Sprint(2*len(half)))
			fmt.Fprint(w, half)
		}
		panic(http.ErrAbortHandler)
	}
}

// lostAnswer stores what it is sent, and dies before it says so.
func lostAnswer(w http.ResponseWriter) bool { return true }

func (s *shelves) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var lost bool
	if pending := s.troubles[r.Method]; len(pending) > 0 {
		s.troubles[r.Method] = pending[1:]
		if lost = pending[0](w); !lost {
			return
		}
	}
	switch {
	case r.Method == http.MethodPost:
		f, h, err := r.FormFile("chart")
		if err != nil {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		data := make([]byte, h.Size)
		if _, err := f.ReadAt(data, 0); err != nil {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		files, err := archive.Unpack(data)
		if err != nil {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		name := ""
		for _, file := range files {
			if file.Name == "Chart.yaml" {
				name = string(file.Data)
			}
		}
		key := chartKey(name)
		if _, there := s.charts[key]; there {
			w.WriteHeader(http.StatusConflict)
			return
		}
		s.charts[key] = data
		if lost {
			panic(http.ErrAbortHandler)
		}
		w.WriteHeader(http.StatusCreated)
	case strings.HasSuffix(r.URL.Path, "/index.yaml"):
		var list []string
		for key, data := range s.charts {
			name, version, _ := strings.Cut(key, " ")
			list = append(list, fmt.Sprintf(`%q:[{"name":%q,"version":%q,"digest":%q}]`, key, name, version, strings.TrimPrefix(archive.Digest(data), "sha256:")))
		}
		fmt.Fprint(w, `{"entries":{`+strings.Join(list, ",")+"}}") // JSON is YAML
	default:
		w.WriteHeader(http.StatusNotFound)
	}
}

// chartKey is "name version" of a Chart.yaml as this test's charts and their pieces
// have it: in one line, or one field a line.
func chartKey(text string) string {
	field := func(name string) string {
		_, rest, _ := strings.Cut(text, name+": ")
		return rest[:strings.IndexAny(rest, ",}\n")]
	}
	return field("name") + " " + field("version")
}

func TestTroubleWithTheMuseum(t *testing.T) {
	for name, c := range map[string]struct {
		promise  string
		troubles map[string][]trouble
		say      string // the condition, while it lasts
		heals    bool   // in the first attempt
	}{
		"NoAnswer": {"a museum that hangs up", map[string][]trouble{http.MethodGet: {hangUp("")}}, "reaching ChartMuseum", false},
		"Broken":   {"one that fails", map[string][]trouble{http.MethodGet: {answering(500, `{"error":"out of order"}`)}}, "out of order", false},
		"HalfList": {"one that dies in the middle of its list", map[string][]trouble{http.MethodGet: {hangUp(`{"shop":[`)}}, "reaching ChartMuseum", false},
		"BadList":  {"one whose proxy answers for it", map[string][]trouble{http.MethodGet: {answering(200, `<html>`)}}, "does not list its charts", false},
		"Full":     {"one whose disk is full", map[string][]trouble{http.MethodPost: {answering(500, `{"error":"write /data/shop.tgz: no space left on device"}`)}}, "no space left on device", false},
		"Limit":    {"one that has reached its limit", map[string][]trouble{http.MethodPost: {answering(507, `{"error":"repo has reached storage limit"}`)}}, "507", false},
		"PushLost": {"one that dies before it has stored a chart", map[string][]trouble{http.MethodPost: {hangUp("")}}, "reaching ChartMuseum", false},
		"AckLost":  {"one that dies after it has", map[string][]trouble{http.MethodPost: {lostAnswer}}, "reaching ChartMuseum", false},
		"BehindIt": {"one that lists a chart late", map[string][]trouble{http.MethodGet: {answering(200, `{"entries":{}}`), answering(200, `{"entries":{}}`)}}, "", true},
	} {
		t.Run(name, func(t *testing.T) {
			g := newGroup("one")
			w := newWorld(t, g)
			s := &shelves{charts: map[string][]byte{}, troubles: c.troubles}
			server := httptest.NewUnstartedServer(s)
			server.Config.ErrorLog = nil
			server.Start()
			defer server.Close()
			m, err := newMuseum(server.URL, "")
			if err != nil {
				t.Fatal(err)
			}
			w.stager.museum = &mirrored{chartMuseum: m, world: w}
			facts, err := w.desire(t, g)
			if !c.heals {
				if _, retry := events.RetryDelay(err); !retry || facts != nil {
					t.Fatalf("%s is waited for: %v, %v", c.promise, facts, err)
				}
				cond, _ := w.staged(t)
				if cond.Reason != v1alpha1.ReasonStagingUnavailable || !strings.Contains(cond.Message, c.say) {
					t.Errorf("%s is told of: %+v, want %q", c.promise, cond, c.say)
				}
				facts, err = w.desire(t, g)
			}
			if err != nil || len(facts) != 1 || facts[0].Data.EventType() != events.TypeChartsStaged {
				t.Fatalf("after %s nothing is lost: %v, %v", c.promise, facts, err)
			}
			if cond, _ := w.staged(t); cond.Reason != v1alpha1.ReasonStaged || len(s.charts) != 2 {
				t.Errorf("after %s all is as it would have been: %+v, %d charts", c.promise, cond, len(s.charts))
			}
		})
	}
}

// mirrored tells the world's source-controller what the museum holds.
type mirrored struct {
	*chartMuseum
	world *world
}

func (m *mirrored) Held(ctx context.Context, tenant string) (held, error) {
	h, err := m.chartMuseum.Held(ctx, tenant)
	m.world.museum.mu.Lock()
	defer m.world.museum.mu.Unlock()
	m.world.museum.held = h
	return h, err
}

func TestTheMuseumIsRestarted(t *testing.T) {
	g := newGroup("one")
	w := newWorld(t, g)
	s := &shelves{charts: map[string][]byte{}}
	first := httptest.NewServer(s)
	m, err := newMuseum(first.URL, "")
	if err != nil {
		t.Fatal(err)
	}
	w.stager.museum = &mirrored{chartMuseum: m, world: w}
	address := first.Listener.Addr().String()
	first.Close()
	if _, err := w.desire(t, g); err == nil {
		t.Fatal("a museum that is away takes nothing")
	}
	if c, _ := w.staged(t); c.Reason != v1alpha1.ReasonStagingUnavailable || !strings.Contains(c.Message, "connection refused") {
		t.Errorf("the condition says so: %+v", c)
	}
	listener, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	second := &httptest.Server{Listener: listener, Config: &http.Server{Handler: s}}
	second.Start()
	defer second.Close()
	if facts, err := w.desire(t, g); err != nil || facts[0].Data.EventType() != events.TypeChartsStaged {
		t.Fatalf("when it is back the group is staged: %v, %v", facts, err)
	}
}

func TestTroubleWithTheRegistry(t *testing.T) {
	index := func(digest string) string {
		return `{"apiVersion":"v1","entries":{"shop":[null,{"name":"shop","version":"1.0.0","urls":["shop-1.0.0.tgz"],"digest":"` + digest + `"}]}}`
	}
	for name, c := range map[string]struct {
		promise string
		trouble trouble
		path    string
	}{
		"Index":     {"a registry that hangs up", hangUp(""), "/index.yaml"},
		"Broken":    {"one that fails", answering(503, ""), "/index.yaml"},
		"HalfIndex": {"one that dies in the middle of its index", hangUp(index("")[:40]), "/index.yaml"},
		"HalfChart": {"one that dies in the middle of a chart", hangUp("half"), "/shop-1.0.0.tgz"},
	} {
		t.Run(name, func(t *testing.T) {
			g := newGroup("one")
			w := newWorld(t)
			data := w.shelf["shop"].([]byte)
			var down atomic.Bool
			down.Store(true)
			server := httptest.NewServer(http.HandlerFunc(func(out http.ResponseWriter, r *http.Request) {
				if r.URL.Path == c.path && down.Load() {
					c.trouble(out)
					return
				}
				if r.URL.Path == "/index.yaml" {
					fmt.Fprint(out, index(strings.TrimPrefix(archive.Digest(data), "sha256:")))
					return
				}
				if _, err := out.Write(data); err != nil {
					t.Error(err)
				}
			}))
			defer server.Close()
			g.Spec.Applications[0].Spec.Chart.URL = server.URL
			if err := w.client.Create(t.Context(), g); err != nil {
				t.Fatal(err)
			}
			now := time.Now()
			w.registry = registry.New(registry.Options{AllowPrivate: true, Now: func() time.Time { return now }})
			_, err := w.desire(t, g)
			_, retry := events.RetryDelay(err)
			if cond, _ := w.staged(t); cond.Reason != v1alpha1.ReasonRepositoryUnreachable || !retry {
				t.Errorf("%s is told of: %+v, %v", c.promise, cond, err)
			}
			now = now.Add(time.Hour)
			down.Store(false)
			if facts, err := w.desire(t, g); err != nil || facts[0].Data.EventType() != events.TypeChartsStaged {
				t.Fatalf("after %s the group is staged: %v, %v", c.promise, facts, err)
			}
		})
	}
	t.Run("HostileIndex", func(t *testing.T) {
		w := newWorld(t)
		for _, body := range []string{ // CVE-2022-23525, CVE-2024-26147, CVE-2020-15185
			`{"apiVersion":"v1","entries":{"shop":[null]}}`, `{"apiVersion":"v1","entries":{"shop":null}}`, `{"apiVersion":"v1","entries":null}`,
			`null`, ``, `[]`, `{"apiVersion":"v1","entries":{"shop":[{},{"name":"shop"},{"version":"1.0.0"},{"name":"shop","version":"1.0.0","urls":[]}]}}`,
			`{"apiVersion":"v1","entries":{"shop":[{"name":"shop","version":"1.0.0","urls":["file:///etc/passwd"]}]}}`, laughs(),
		} {
			server := httptest.NewServer(http.HandlerFunc(func(out http.ResponseWriter, _ *http.Request) { fmt.Fprint(out, body) }))
			app := newGroup("one").Spec.Applications[0]
			app.Spec.Chart.URL = server.URL
			w.registry = registry.New(registry.Options{AllowPrivate: true})
			if _, err := w.prepareOne(t.Context(), &app, time.Time{}); err == nil {
				t.Errorf("%.60s: nothing is staged of such an index", body)
			}
			server.Close()
		}
	})
}
