package auditor

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"orkestra.dev/pkg/events"
	"orkestra.dev/pkg/events/eventstest"
)

// listener is a bus that notes what was stored, and fails at first.
type listener struct {
	*events.Bus
	mu       sync.Mutex
	failures int
	subjects []string
	ids      []string
}

func (l *listener) PublishCDEvent(ctx context.Context, subject, id string, event []byte) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.failures > 0 {
		l.failures--
		return errors.New("the stream is away")
	}
	var e struct{ ID, Type, Specversion string }
	if err := json.Unmarshal(event, &e); err != nil || e.ID != id || e.Specversion == "" {
		return errors.New("that is no CloudEvent")
	}
	if err := l.Bus.PublishCDEvent(ctx, subject, id, event); err != nil {
		return err
	}
	l.subjects, l.ids = append(l.subjects, subject), append(l.ids, id)
	return nil
}

func (l *listener) stored() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.subjects)
}

func toVocabulary(l *listener) func(*auditor) {
	return func(a *auditor) {
		a.sinks = append(a.sinks, &sink{
			name: cdeventsName, dir: a.dir, target: &vocabulary{bus: l}, backoff: func(uint64) time.Duration { return 5 * time.Millisecond },
			progress: a.progress, log: a.log, metrics: a.metrics, now: a.now,
		})
	}
}

// Facts become CDEvents, whatever is in the way at first; what CDEvents has no word for
// does not hold up what comes after it.
func TestCDEvents(t *testing.T) {
	t.Parallel()
	bus := eventstest.Bus(t, eventstest.Single(t).URL(), "auditor")
	dir, log, l := t.TempDir(), &logs{}, &listener{Bus: bus, failures: 2}
	rollout := events.Rollout{Group: "my.shop", UID: "uid-shop", Generation: 1}
	release := events.ReleaseRef{Workflow: "shop-1-forward", Task: "web.web", Namespace: "web", Name: "web", ReleaseUID: "r", ReleaseGeneration: 1}
	say(t, bus, 1, 1)
	if err := bus.Say(t.Context(), events.New(rollout, events.GroupSuspended{}), events.New(rollout, events.ReleaseReady{ReleaseRef: release, Chart: "web", Version: "1.0.0"})); err != nil {
		t.Fatal(err)
	}
	stop := start(t, newAuditor(t, dir, bus, log, toVocabulary(l)))
	want := []string{"orkestra.cdevents.service.deployed.my_shop"}
	eventstest.Eventually(t, timeout, "the release is told", func() bool {
		all := l.stored()
		return len(all) > 0 && all[len(all)-1] == want[0]
	})
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	told := l.stored()

	// From the beginning once more: the ids are the same, so that the stream has them once.
	if err := os.Remove(filepath.Join(dir, "sink-"+cdeventsName+".json")); err != nil {
		t.Fatal(err)
	}
	stop = start(t, newAuditor(t, dir, bus, log, toVocabulary(l)))
	eventstest.Eventually(t, timeout, "all is told again", func() bool { return len(l.stored()) == 2*len(told) })
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(l.ids[:len(told)], l.ids[len(told):]); diff != "" {
		t.Errorf("the ids (-first +second):\n%s", diff)
	}
}
