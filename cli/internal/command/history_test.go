package command

import (
	"strings"
	"testing"

	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
	"sigs.k8s.io/yaml"

	"orkestra.dev/pkg/events"
	"orkestra.dev/pkg/events/eventstest"
)

// Where the stream is named, the history says who asked for a revision, and why; and without
// an answer it is what the cluster says.
func TestHistorySaysWhoAndWhy(t *testing.T) {
	nats := eventstest.Single(t)
	bus := eventstest.Bus(t, nats.URL(), "intake")
	w := newWorld(t, interceptor.Funcs{}, three(t)...)
	t.Setenv("NATS_URL", nats.URL())
	hook := events.Fact{Data: events.WebhookReceived{
		Namespace: "orkestra", Receiver: "ci", ReceiverUID: "r", ReceiverGeneration: 1, ReceiverType: "github", Delivery: "d1", Event: "package",
		Charts: []events.ChartVersion{{Registry: "ghcr.io/shop", Name: "web", Version: "1.1.0"}},
	}}
	desired := func(generation int64, origin events.Origin) events.Fact {
		return events.New(events.Rollout{Group: "shop", UID: shopUID, Generation: generation}, events.GroupDesired{Origin: origin})
	}
	tell(t, bus, hook, desired(1, events.Origin{User: "ann@example.com", Manager: "kubectl"}),
		desired(2, events.Origin{Manager: "orkestra-intake", Event: hook.EventID()}))
	w.says(0, `
REVISION  GENERATION  BEGUN                STATUS       BY                            WHY                                     CHARTS            WORKFLOW
1         1           2026-01-02 03:04:01  good         ann@example.com with kubectl  a new spec                              mesh 2.0.0, web…  shop-forward-g1-1047db0e
2         2           2026-01-02 03:04:02  current      orkestra-intake               orkestra/ci: github package, web 1.1.0  mesh 2.0.0, web…  shop-forward-g2-d9527b4b
3         3           2026-01-02 03:04:03  rolled back                                                                        mesh 2.0.0, web…  shop-forward-g3-49e5dd50
`, "", "history", "shop")
	_, out, _ := w.run("history", "shop", "-o", "yaml")
	var views []revisionView
	if err := yaml.Unmarshal([]byte(out), &views); err != nil || len(views) != 3 || views[0].Origin.User != "ann@example.com" ||
		views[1].Origin.Event != hook.EventID() || views[2].Origin != (events.Origin{}) {
		t.Errorf("for programs: %v\n%s", err, out)
	}
	nats.Stop(0)
	if code, out, errs := w.run("history", "shop"); code != 0 || !strings.Contains(out, "rolled back") || !strings.Contains(errs, "who asked is not known") {
		t.Errorf("without the stream: exit code %d, %s%s", code, out, errs)
	}
}
