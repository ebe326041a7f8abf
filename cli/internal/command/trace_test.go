package command

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"orkestra.dev/cli/internal/trace"
	"orkestra.dev/pkg/events"
	"orkestra.dev/pkg/events/eventstest"
)

func tell(t *testing.T, bus *events.Bus, facts ...events.Fact) {
	t.Helper()
	if err := bus.Say(t.Context(), facts...); err != nil {
		t.Fatal(err)
	}
}

func TestTrace(t *testing.T) {
	nats := eventstest.Single(t)
	bus := eventstest.Bus(t, nats.URL(), "stager")
	t.Setenv("NATS_URL", nats.URL())
	first := events.Rollout{Group: "my.shop", UID: shopUID, Generation: 1}
	second := first
	second.Generation, second.RequestedAt = 2, "2026-05-04T03:02:01Z"
	// It has the same subject as my.shop.
	like := events.Rollout{Group: "my_shop", UID: "7c1f5c4e-7b1e-4a54-8a4d-0e5f1d2c3b4a", Generation: 2}
	staged := events.New(first, events.ChartsStaged{})
	staged.CausationID = events.New(first, events.GroupDesired{}).EventID()
	tell(t, bus, events.New(first, events.GroupDesired{}), events.New(second, events.GroupDesired{}), staged, events.New(like, events.GroupDesired{}))

	of := func(args ...string) (out trace.Trace) {
		t.Helper()
		code, text, errs := run(t, "", append([]string{"trace", "-o", "json"}, args...)...)
		var doc map[string]any
		if err := json.Unmarshal([]byte(text), &doc); code != 0 || err != nil {
			t.Fatalf("%v: exit code %d, %v, %s", args, code, err, errs)
		}
		out.Generation = int64(doc["generation"].(float64))
		out.Facts = int(doc["facts"].(float64))
		out.Group, out.UID = doc["group"].(string), doc["uid"].(string)
		return out
	}
	if got := of("my.shop"); got.Generation != 2 || got.UID != shopUID || got.Facts != 1 {
		t.Errorf("the rollout that was begun last, though the other spoke last: %+v", got)
	}
	for _, args := range [][]string{{"my.shop", "--rollout", "1"}, {"my.shop", "--rollout", "1/"}, {staged.EventID()}} {
		if got := of(args...); got.Generation != 1 || got.Facts != 2 {
			t.Errorf("%v: %+v", args, got)
		}
	}
	if got := of("my.shop", "--rollout", "2/2026-05-04T03:02:01Z"); got.Generation != 2 {
		t.Errorf("a rollout by its request: %+v", got)
	}
	code, out, errs := run(t, "", "trace", staged.EventID())
	lines := strings.Split(out, "\n")
	if code != 0 || !strings.HasPrefix(lines[0], "my.shop generation 1: under way for ") || !strings.Contains(lines[3], "└─ charts.staged") || !strings.HasSuffix(lines[3], "◀") {
		t.Errorf("the event is pointed at, in the tree: exit code %d, %s\n%s", code, errs, out)
	}
	for what, args := range map[string][]string{
		"no events of group none":             {"none"},
		"no such rollout of group my.shop":    {"my.shop", "--rollout", "7"},
		"no event group.desired/nobody/1/":    {"group.desired/nobody/1/"},
		"the event names its rollout":         {staged.EventID(), "--rollout", "1"},
		`--rollout "x": want a generation`:    {"my.shop", "--rollout", "x"},
		`--output "wide": want text, json or`: {"my.shop", "-o", "wide"},
	} {
		if code, _, errs := run(t, "", append([]string{"trace"}, args...)...); code == 0 || !strings.Contains(errs, what) {
			t.Errorf("trace %v: exit code %d, %q, want %q", args, code, errs, what)
		}
	}
}

func TestMoment(t *testing.T) {
	now := time.Date(2026, 5, 4, 3, 2, 1, 0, time.UTC)
	for text, want := range map[string]time.Time{
		"": {}, "1h": now.Add(-time.Hour), "2026-05-04T01:00:00Z": time.Date(2026, 5, 4, 1, 0, 0, 0, time.UTC),
	} {
		if got, err := moment("--since", text, now); err != nil || !got.Equal(want) {
			t.Errorf("%q is %s, %v; want %s", text, got, err, want)
		}
	}
	for _, text := range []string{"-1h", "0s", "yesterday", "2026-05-04T03:02:02Z"} {
		if got, err := moment("--since", text, now); err == nil || !strings.Contains(err.Error(), "--since") {
			t.Errorf("%q is %s, %v; want an error that names the flag", text, got, err)
		}
	}
}
