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

// A delivery is traced to all rollouts that it led to, and a rollout back to it.
func TestTraceOfADelivery(t *testing.T) {
	nats := eventstest.Single(t)
	bus := eventstest.Bus(t, nats.URL(), "intake")
	t.Setenv("NATS_URL", nats.URL())
	hook := events.Fact{Data: events.WebhookReceived{
		Namespace: "orkestra", Receiver: "ci", ReceiverUID: "r", ReceiverGeneration: 1, ReceiverType: "github", Delivery: "d1", Event: "package",
		Charts: []events.ChartVersion{{Registry: "ghcr.io/shop", Name: "web", Version: "1.1.0"}},
	}}
	idle := events.Fact{Data: events.WebhookReceived{Namespace: "orkestra", Receiver: "ci", ReceiverUID: "r", ReceiverGeneration: 1, ReceiverType: "github", Delivery: "d2"}}
	tell(t, bus, hook, idle)
	for _, name := range []string{"shop", "mall"} {
		r := events.Rollout{Group: name, UID: "uid-" + name, Generation: 2}
		asked := events.New(r, events.GroupDesired{Origin: events.Origin{Manager: "orkestra-intake", Event: hook.EventID()}})
		asked.CausationID = hook.EventID()
		tell(t, bus, asked)
	}
	code, out, errs := run(t, "", "trace", "shop")
	for _, want := range []string{
		"shop generation 2: under way", "asked for by orkestra-intake, for " + hook.EventID(), "webhook.received", "orkestra/ci: github package, web 1.1.0", "└─ group.desired",
	} {
		if code != 0 || !strings.Contains(out, want) {
			t.Errorf("the delivery is above the rollout: exit code %d, %q is not in %s\n%s", code, want, errs, out)
		}
	}
	code, out, errs = run(t, "", "trace", hook.EventID(), "-o", "json")
	var all []struct{ Group string }
	if err := json.Unmarshal([]byte(out), &all); code != 0 || err != nil || len(all) != 2 || all[0].Group != "shop" || all[1].Group != "mall" {
		t.Errorf("both rollouts: exit code %d, %v, %s%s", code, err, out, errs)
	}
	if code, out, _ := run(t, "", "trace", idle.EventID()); code != 0 || !strings.Contains(out, "led to no rollout") {
		t.Errorf("a delivery that led to nothing: exit code %d, %s", code, out)
	}
	if code, _, errs := run(t, "", "trace", "webhook.received/r/none"); code != 1 || !strings.Contains(errs, "there is no event") {
		t.Errorf("a delivery that is not there: exit code %d, %s", code, errs)
	}
	if code, out, _ := run(t, "", "events", "--type", "webhook.received"); code != 0 || !strings.Contains(out, "orkestra/ci  github package, web 1.1.0") {
		t.Errorf("events: exit code %d, %s", code, out)
	}
}

func TestStatusAt(t *testing.T) {
	nats := eventstest.Single(t)
	bus := eventstest.Bus(t, nats.URL(), "intake")
	t.Setenv("NATS_URL", nats.URL())
	r := events.Rollout{Group: "shop", UID: "u", Generation: 1}
	at := time.Now().Add(-time.Hour).Truncate(time.Second)
	for i, p := range []events.Payload{events.GroupDesired{Origin: events.Origin{Manager: "kubectl", User: "ann"}}, events.RolloutUnchanged{Releases: 0}, events.GroupDeleted{}} {
		f := events.New(r, p)
		f.Time = at.Add(time.Duration(i) * time.Minute)
		tell(t, bus, f)
	}
	for name, tc := range map[string]struct {
		args []string
		code int
		want string
	}{
		"Underway": {[]string{"shop", "--at", at.Format(time.RFC3339)}, 0, "↻ Working    waiting for its charts"},
		"Who":      {[]string{"shop", "--at", at.Format(time.RFC3339)}, 0, "asked for by ann with kubectl"},
		"Ready":    {[]string{"shop", "--at", at.Add(90 * time.Second).Format(time.RFC3339), "-o", "json"}, 0, `"phase": "Ready"`},
		"Before":   {[]string{"shop", "--at", "2h"}, 1, "its oldest event of the group is of"},
		"After":    {[]string{"shop", "--at", "1m"}, 1, "it was deleted before"},
		"Nothing":  {[]string{"mall", "--at", "1m"}, 1, "no events of group mall"},
		"No name":  {[]string{"--at", "1m"}, 2, "say which group"},
		"Watch":    {[]string{"shop", "--at", "1m", "--watch"}, 2, "leave out --watch"},
		"No time":  {[]string{"shop", "--at", "noon"}, 2, "--at"},
	} {
		if code, out, errs := run(t, "", append([]string{"status"}, tc.args...)...); code != tc.code || !strings.Contains(out+errs, tc.want) {
			t.Errorf("%s: exit code %d, want %d and %q: %s%s", name, code, tc.code, tc.want, out, errs)
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
