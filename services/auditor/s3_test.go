package auditor

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"

	"orkestra.dev/pkg/events/eventstest"
	"orkestra.dev/services/auditor/record"
)

// store is an S3 server with a bucket, which may refuse to answer.
type store struct {
	*httptest.Server
	backend gofakes3.Backend
	// fail, where set, answers a request in the server's place, after the server has done
	// what was asked where done is set.
	fail atomic.Pointer[func(r *http.Request) (status int, done bool)]
}

func newStore(t *testing.T) *store {
	t.Helper()
	s := &store{backend: s3mem.New()}
	if err := s.backend.CreateBucket("archive"); err != nil {
		t.Fatal(err)
	}
	real := gofakes3.New(s.backend).Server()
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if fail := s.fail.Load(); fail != nil {
			if status, done := (*fail)(r); status != 0 {
				if done {
					real.ServeHTTP(httptest.NewRecorder(), r)
				}
				http.Error(w, canary, status)
				return
			}
		}
		real.ServeHTTP(w, r)
	}))
	t.Cleanup(s.Close)
	return s
}

// objects by name, below the prefix.
func (s *store) objects(t *testing.T) fstest.MapFS {
	t.Helper()
	list, err := s.backend.ListBucket("archive", nil, gofakes3.ListBucketPage{})
	if err != nil {
		t.Fatal(err)
	}
	out := fstest.MapFS{}
	for _, o := range list.Contents {
		object, err := s.backend.GetObject("archive", o.Key, nil)
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(object.Contents)
		if err != nil {
			t.Fatal(err)
		}
		out[strings.TrimPrefix(o.Key, "audit/test/")] = &fstest.MapFile{Data: data}
	}
	return out
}

func writeCredentials(t *testing.T) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "credentials")
	if err := os.WriteFile(file, []byte("[default]\naws_access_key_id = me\naws_secret_access_key = "+canary+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// toStore adds a sink to the store.
func toStore(t *testing.T, s *store) func(*auditor) {
	t.Helper()
	file := writeCredentials(t)
	return func(a *auditor) {
		b, err := newBucket(t.Context(), s.URL+"/archive/audit/test", file, "", a.dir)
		if err != nil {
			t.Fatal(err)
		}
		b.linger = 50 * time.Millisecond
		a.sinks = append(a.sinks, &sink{
			name: "archive", dir: a.dir, target: b, backoff: func(uint64) time.Duration { return 5 * time.Millisecond },
			progress: a.progress, log: a.log, metrics: a.metrics, now: a.now,
		})
	}
}

// archived waits until the objects hold n records, and checks that they are the trail.
func (s *store) archived(t *testing.T, dir string, n uint64) {
	t.Helper()
	var v record.Verifier
	eventstest.Eventually(t, timeout, "the store has the records", func() bool {
		v = record.Verifier{}
		if err := v.Folder(s.objects(t)); err != nil {
			t.Fatalf("the objects are no trail: %v", err)
		}
		return v.Report().Records >= n
	})
	all, _ := trailOf(t, dir)
	if diff := cmp.Diff(all[len(all)-1].Head(), v.Report().Head); diff != "" || v.Report().Records != n {
		t.Errorf("%d records, want %d; the end (-want +got):\n%s", v.Report().Records, n, diff)
	}
}

func TestObjects(t *testing.T) {
	t.Parallel()
	bus := eventstest.Bus(t, eventstest.Single(t).URL(), "auditor")
	dir, log, s := t.TempDir(), &logs{}, newStore(t)
	say(t, bus, 1, 3)
	stop := start(t, newAuditor(t, dir, bus, log, toStore(t, s)))
	s.archived(t, dir, 4)
	say(t, bus, 4, 5)
	s.archived(t, dir, 6)
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	before := s.objects(t)

	// Without its position the sink finds what there is, and writes what is missing.
	if err := os.Remove(filepath.Join(dir, "sink-archive.json")); err != nil {
		t.Fatal(err)
	}
	say(t, bus, 6, 7)
	stop = start(t, newAuditor(t, dir, bus, log, toStore(t, s)))
	s.archived(t, dir, 8)
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	after := s.objects(t)
	for name, o := range before {
		if after[name] == nil || !bytes.Equal(after[name].Data, o.Data) {
			t.Errorf("object %s was replaced", name)
		}
	}
	checkCanary(t, dir, log)
}

func TestAnObjectThatWasWrittenUnseen(t *testing.T) {
	t.Parallel()
	bus := eventstest.Bus(t, eventstest.Single(t).URL(), "auditor")
	dir, log, s := t.TempDir(), &logs{}, newStore(t)
	// The store does what it is asked, and its answer is lost: of the first object only.
	var lost atomic.Bool
	fail := func(r *http.Request) (int, bool) {
		if r.Method == http.MethodPut && lost.CompareAndSwap(false, true) {
			return http.StatusBadGateway, true
		}
		return 0, false
	}
	s.fail.Store(&fail)
	say(t, bus, 1, 4)
	stop := start(t, newAuditor(t, dir, bus, log, toStore(t, s)))
	s.archived(t, dir, 5)
	say(t, bus, 5, 6)
	s.archived(t, dir, 7)
	if err := stop(); err != nil || !lost.Load() {
		t.Fatalf("lost: %t, %v", lost.Load(), err)
	}
	checkCanary(t, dir, log)
}

func TestAStoreThatIsAwayOrRefusesIsWaitedFor(t *testing.T) {
	t.Parallel()
	bus := eventstest.Bus(t, eventstest.Single(t).URL(), "auditor")
	dir, log, s := t.TempDir(), &logs{}, newStore(t)
	say(t, bus, 1, 2)
	for _, status := range []int{http.StatusForbidden, http.StatusServiceUnavailable} {
		fail := func(*http.Request) (int, bool) { return status, false }
		s.fail.Store(&fail)
		before := strings.Count(log.String(), "handing a record on again")
		stop := start(t, newAuditor(t, dir, bus, log, toStore(t, s)))
		eventstest.Eventually(t, timeout, "it is tried", func() bool { return strings.Count(log.String(), "handing a record on again") > before+3 })
		if err := stop(); err != nil {
			t.Fatal(err)
		}
		if len(s.objects(t)) != 0 {
			t.Error("something was written")
		}
	}
	s.fail.Store(nil)
	start(t, newAuditor(t, dir, bus, log, toStore(t, s)))
	s.archived(t, dir, 3)
	checkCanary(t, dir, log)
}

func TestTheObjectsOfAnotherTrailStay(t *testing.T) {
	t.Parallel()
	bus := eventstest.Bus(t, eventstest.Single(t).URL(), "auditor")
	s, log := newStore(t), &logs{}
	say(t, bus, 1, 2)
	first := t.TempDir()
	stop := start(t, newAuditor(t, first, bus, log, toStore(t, s)))
	s.archived(t, first, 3)
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	before := s.objects(t)
	start(t, newAuditor(t, t.TempDir(), bus, log, toStore(t, s)))
	eventstest.Eventually(t, timeout, "the second says what is wrong", func() bool {
		return strings.Contains(log.String(), "give each auditor a prefix of its own")
	})
	if diff := cmp.Diff(before, s.objects(t)); diff != "" {
		t.Errorf("the objects of the first (-want +got):\n%s", diff)
	}
}

// Two auditors that begin at the same time: what the one has written the other does not
// replace.
func TestAnObjectIsNeverReplaced(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	b, err := newBucket(t.Context(), s.URL+"/archive", writeCredentials(t), "", t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []bool{true, false} {
		err := b.put(t.Context(), record.ObjectName(1, 1), []line{{bytes: []byte{byte('a' + i)}}})
		if (err == nil) != want {
			t.Errorf("put %d: %v", i+1, err)
		}
	}
	if got := s.objects(t)[record.ObjectName(1, 1)]; string(got.Data) != "a" {
		t.Errorf("the object is %q", got.Data)
	}
}
