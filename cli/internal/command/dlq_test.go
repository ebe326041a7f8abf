package command

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"orkestra.dev/pkg/events"
	"orkestra.dev/pkg/events/eventstest"
)

// buried is a stream in which the stager gave up on group.desired of each rollout.
func buried(t *testing.T, rollouts ...events.Rollout) *events.Bus {
	t.Helper()
	nats := eventstest.Single(t)
	t.Setenv("NATS_URL", nats.URL())
	bus := eventstest.Bus(t, nats.URL(), "stager")
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- bus.Consume(ctx, "stager", 1, func(context.Context, events.Fact) ([]events.Fact, error) {
			return nil, events.Terminal("BadChart", errors.New("no Chart.yaml in \x1b[31ma chart with a name that is long, and that nobody wants to read to its end"))
		})
	}()
	for i, r := range rollouts {
		// One after the other: what is superseded before it is heard makes no letter.
		tell(t, bus, events.New(r, events.GroupDesired{}))
		eventstest.Eventually(t, 20*time.Second, fmt.Sprintf("letter %d is there", i+1), func() bool { return len(left(t, bus)) == i+1 })
	}
	stop()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	return bus
}

func left(t *testing.T, bus *events.Bus) (out []uint64) {
	t.Helper()
	letters, err := lettersOf(t.Context(), bus, events.DeadLetterFilter{})
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range letters {
		out = append(out, l.Sequence)
	}
	return out
}

// heard counts the events that are replayed, and those that are not.
func heard(t *testing.T, bus *events.Bus) (n int) {
	t.Helper()
	err := bus.Follow(t.Context(), events.FollowOptions{}, func(events.Fact, []byte) error { n++; return nil })
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestDeadLettersAreShown(t *testing.T) {
	buried(t, events.Rollout{Group: "shop", UID: shopUID, Generation: 3})
	code, out, errs := run(t, "", "dlq", "list")
	lines := strings.Split(strings.TrimSpace(out), "\n")
	if code != 0 || len(lines) != 2 || !strings.Contains(lines[1], "stager    group.desired  shop   BadChart  no Chart.yaml in [31ma") {
		t.Errorf("a line for each letter: exit code %d, %s\n%q", code, errs, out)
	}
	for _, line := range lines {
		if len([]rune(line)) > 100 {
			t.Errorf("%d columns, want 100 at most: %s", len([]rune(line)), line)
		}
	}
	if _, out, _ = run(t, "", "dlq", "list", "-o", "wide"); !strings.Contains(out, "event 1 of 20") || !strings.Contains(out, "to its end") {
		t.Errorf("-o wide has all of it: %s", out)
	}
	var views []map[string]any
	_, out, _ = run(t, "", "dlq", "list", "-o", "json")
	if err := json.Unmarshal([]byte(out), &views); err != nil || len(views) != 1 || views[0]["event"].(map[string]any)["specversion"] != "1.0" {
		t.Errorf("the event is in the letter as JSON: %v\n%s", err, out)
	}
	if _, out, _ = run(t, "", "dlq", "show", "1"); !strings.Contains(out, "Reason:     BadChart\n") || !strings.Contains(out, `"type": "dev.orkestra.group.desired.v1"`) {
		t.Errorf("a letter with its event: %s", out)
	}
	if code, out, errs = run(t, "", "dlq", "list", "--group", "other"); code != 0 || out != "" || !strings.Contains(errs, "no dead letters") {
		t.Errorf("none of another group: exit code %d, %q, %q", code, out, errs)
	}
	for what, args := range map[string][]string{
		"there is no dead letter 9":      {"show", "9"},
		`"x" is no number`:               {"replay", "x"},
		"say which letter, or --all":     {"discard"},
		"and not both":                   {"replay", "1", "--all"},
		"are for --all":                  {"discard", "1", "--group", "shop"},
		"say --yes to go on":             {"discard", "1"},
		`--output "xml": want text`:      {"list", "-o", "xml"},
		"accepts 1 arg(s), received 0":   {"show"},
		"unknown command \"lst\" for":    {"lst"},
		"accepts at most 1 arg(s), rece": {"replay", "1", "2"},
	} {
		if code, _, errs := run(t, "", append([]string{"dlq"}, args...)...); code == 0 || !strings.Contains(errs, what) {
			t.Errorf("dlq %v: exit code %d, %q, want %q", args, code, errs, what)
		}
	}
}

func TestReplayOfWhatMatters(t *testing.T) {
	now := events.Rollout{Group: "shop", UID: shopUID, Generation: 3}
	old, other, gone := now, now, now
	old.Generation = 2
	other.UID = "7c1f5c4e-7b1e-4a54-8a4d-0e5f1d2c3b4a"
	gone.Group, gone.UID = "gone", "8c1f5c4e-7b1e-4a54-8a4d-0e5f1d2c3b4a"
	bus := buried(t, old, now, gone)
	w := newWorld(t, interceptor.Funcs{}, shopAt(3, "1.0.0"))
	before := heard(t, bus)

	code, out, errs := w.run("dlq", "replay", "--all", "--yes")
	if code != 1 || out != "letter 2 replayed\n" {
		t.Errorf("what matters is replayed, and the others stay: exit code %d\n%s", code, out)
	}
	for _, want := range []string{"it is of generation 2 of group shop, which is at 3", "there is no group gone"} {
		if !strings.Contains(errs, want) {
			t.Errorf("errors %q, want %q in them", errs, want)
		}
	}
	if got := heard(t, bus); got != before+1 {
		t.Errorf("%d events after the replay, want %d", got, before+1)
	}
	if passed := passed(other, now); !strings.Contains(passed, "made again") {
		t.Errorf("another group of that name: %q", passed)
	}
	w.says(0, "letter 1 discarded\nletter 3 discarded\n", "", "dlq", "discard", "--all", "--yes")
	if rest := left(t, bus); len(rest) != 0 {
		t.Errorf("letters %v are left", rest)
	}
}

func TestReplayWithoutACluster(t *testing.T) {
	bus := buried(t, events.Rollout{Group: "shop", UID: shopUID, Generation: 3})
	t.Setenv("KUBECONFIG", t.TempDir()+"/none")
	code, _, errs := run(t, "", "dlq", "replay", "1")
	if code != 1 || !strings.Contains(errs, "--force") || len(left(t, bus)) != 1 {
		t.Errorf("what cannot be checked is not replayed: exit code %d: %s", code, errs)
	}
	if code, out, errs := run(t, "", "dlq", "replay", "1", "--force"); code != 0 || out != "letter 1 replayed\n" {
		t.Errorf("unless it is forced: exit code %d, %s%s", code, out, errs)
	}
}
