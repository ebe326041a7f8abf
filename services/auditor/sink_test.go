package auditor

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"orkestra.dev/pkg/events/eventstest"
)

// receiver takes events, in the way that answer says.
type receiver struct {
	mu     sync.Mutex
	ids    []string
	types  []string
	tokens map[string]bool
	// repeats are the events that came twice in a row: a request that was given up may
	// be answered after all.
	repeats int
	// answer is the status for an event's id; 0 is 202.
	answer func(id string) int
	*httptest.Server
}

const canary = "c4n4ry-of-the-sink"

func newReceiver(t *testing.T) *receiver {
	t.Helper()
	e := &receiver{tokens: map[string]bool{}, answer: func(string) int { return 0 }}
	e.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		e.mu.Lock()
		defer e.mu.Unlock()
		body, err := io.ReadAll(r.Body)
		var event struct{ ID, Type, Source, Specversion string }
		if err != nil || json.Unmarshal(body, &event) != nil || event.Specversion != "1.0" || event.Source == "" ||
			!strings.HasPrefix(r.Header.Get("Content-Type"), "application/cloudevents+json") || len(r.Header.Get(headerHash)) != 64 {
			t.Errorf("that is no CloudEvent: %s, %v", body, err)
		}
		e.tokens[r.Header.Get("Authorization")] = true
		if status := e.answer(event.ID); status != 0 {
			http.Error(w, canary, status)
			return
		}
		if n := len(e.ids); n > 0 && e.ids[n-1] == event.ID {
			e.repeats++
			return
		}
		e.ids, e.types = append(e.ids, event.ID), append(e.types, event.Type)
		w.WriteHeader(http.StatusAccepted)
	}))
	t.Cleanup(e.Close)
	return e
}

func (e *receiver) answers(f func(id string) int) { e.mu.Lock(); defer e.mu.Unlock(); e.answer = f }
func (e *receiver) got() []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return append([]string(nil), e.types...)
}

// to adds a sink.
func to(e *receiver, name, tokenFile string) func(*auditor) {
	return func(a *auditor) {
		a.sinks = append(a.sinks, &sink{
			name: name, dir: a.dir,
			target:   &endpoint{url: e.URL + "/?token=" + canary, tokenFile: tokenFile, source: "orkestra://test/auditor", client: newClient()},
			backoff:  func(uint64) time.Duration { return 5 * time.Millisecond },
			progress: a.progress, log: a.log, metrics: a.metrics, now: a.now,
		})
	}
}

func withStream(types ...string) []string {
	return append([]string{"dev.orkestra.audit.stream.v1"}, types...)
}

func desiredTypes(n int) (types []string) {
	for range n {
		types = append(types, "dev.orkestra.group.desired.v1")
	}
	return types
}

func (e *receiver) await(t *testing.T, n int) {
	t.Helper()
	eventstest.Eventually(t, timeout, fmt.Sprintf("the endpoint has %d", n), func() bool { return len(e.got()) >= n })
}

func TestASinkThatIsAwayHoldsUpNobody(t *testing.T) {
	t.Parallel()
	bus := eventstest.Bus(t, eventstest.Single(t).URL(), "auditor")
	dir, log := t.TempDir(), &logs{}
	token := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(token, []byte(canary+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	good, away := newReceiver(t), newReceiver(t)
	away.answers(func(string) int { return http.StatusServiceUnavailable })
	say(t, bus, 1, 3)
	a := newAuditor(t, dir, bus, log, to(good, "good", token), to(away, "away", ""))
	stop := start(t, a)
	good.await(t, 4)
	say(t, bus, 4, 5)
	good.await(t, 6)
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	if n := len(away.got()); n != 0 {
		t.Errorf("the sink that is away has %d", n)
	}

	// It comes back, after a restart of the auditor, and gets everything in order; the
	// other gets nothing twice.
	away.answers(func(string) int { return 0 })
	a = newAuditor(t, dir, bus, log, to(good, "good", token), to(away, "away", ""))
	stop = start(t, a)
	away.await(t, 6)
	say(t, bus, 6, 6)
	good.await(t, 7)
	away.await(t, 7)
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	for name, e := range map[string]*receiver{"good": good, "away": away} {
		if diff := cmp.Diff(withStream(desiredTypes(6)...), e.got()); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
	if good.repeats != 0 {
		t.Errorf("the endpoint that was there was told %d times again", good.repeats)
	}
	if !good.tokens["Bearer "+canary] || len(good.tokens) != 1 {
		t.Error("the endpoint was not given the token alone")
	}
	checkCanary(t, dir, log)
}

// checkCanary: neither the token, nor the URL's query, nor what an endpoint answers
// is in a log or a file.
func checkCanary(t *testing.T, dir string, log *logs) {
	t.Helper()
	if log.String() == "" || strings.Contains(log.String(), canary) {
		t.Errorf("the canary is in the log, or there is none:\n%s", log)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		data, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil || bytes.Contains(data, []byte(canary)) {
			t.Errorf("the canary is in %s, %v", e.Name(), err)
		}
	}
}

func TestWhatAnEndpointRefusesIsSkippedAndSaid(t *testing.T) {
	t.Parallel()
	bus := eventstest.Bus(t, eventstest.Single(t).URL(), "auditor")
	dir, log := t.TempDir(), &logs{}
	e := newReceiver(t)
	asked := 0
	e.answers(func(id string) int {
		if strings.HasSuffix(id, "/2/") {
			asked++
			return http.StatusUnprocessableEntity
		}
		return 0
	})
	say(t, bus, 1, 3)
	stop := start(t, newAuditor(t, dir, bus, log, to(e, "picky", "")))
	e.await(t, 3)
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(withStream(desiredTypes(2)...), e.got()); diff != "" || asked != refusals {
		t.Errorf("asked %d times, want %d (-want +got):\n%s", asked, refusals, diff)
	}
	refused, err := os.ReadFile(filepath.Join(dir, "sink-picky.refused.jsonl"))
	all, _ := trailOf(t, dir)
	var noted struct {
		N      uint64
		Hash   string
		Status int
	}
	if err != nil || json.Unmarshal(refused, &noted) != nil || noted.N != 3 || noted.Hash != all[2].Hash || noted.Status != 422 {
		t.Errorf("noted is %s, %v", refused, err)
	}
	if !strings.Contains(log.String(), "it is skipped") {
		t.Error("no log tells of the refusal")
	}
	checkCanary(t, dir, log)
}

func TestAnUnreachableEndpointIsNotShown(t *testing.T) {
	t.Parallel()
	bus := eventstest.Bus(t, eventstest.Single(t).URL(), "auditor")
	dir, log := t.TempDir(), &logs{}
	e := newReceiver(t)
	e.Close()
	stop := start(t, newAuditor(t, dir, bus, log, to(e, "closed", "")))
	eventstest.Eventually(t, timeout, "it is tried", func() bool { return strings.Contains(log.String(), "handing a record on again") })
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	checkCanary(t, dir, log)
}

func TestASinkBeginsWithWhatIsLeft(t *testing.T) {
	t.Parallel()
	bus := eventstest.Bus(t, eventstest.Single(t).URL(), "auditor")
	dir, log := t.TempDir(), &logs{}
	say(t, bus, 1, 3)
	recorded(t, newAuditor(t, dir, bus, log, func(a *auditor) { a.rotation.size = 1 }), 4)
	names, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(dir, names[0].Name())); err != nil { // an operator puts it elsewhere
		t.Fatal(err)
	}
	e := newReceiver(t)
	stop := start(t, newAuditor(t, dir, bus, log, to(e, "late", "")))
	e.await(t, 3)
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(desiredTypes(3), e.got()); diff != "" || !strings.Contains(log.String(), "records are gone") {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestJudge(t *testing.T) {
	for status, want := range map[int]string{
		200: outcomeDelivered, 202: outcomeDelivered, 301: outcomeRetried, 400: outcomeRefused, 401: outcomeRetried,
		403: outcomeRetried, 404: outcomeRefused, 408: outcomeRetried, 422: outcomeRefused, 429: outcomeRetried, 500: outcomeRetried, 503: outcomeRetried,
	} {
		if got := judge(status, ""); got.what != want {
			t.Errorf("%d is %s, want %s", status, got.what, want)
		}
	}
	for header, want := range map[string]time.Duration{"7": 7 * time.Second, "999999": longestRetryAfter, "soon": 0, "-1": 0, "": 0} {
		if got := judge(503, header).after; got != want {
			t.Errorf("Retry-After %q is %s, want %s", header, got, want)
		}
	}
}
