package main

import (
	"context"
	"errors"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"orkestra.dev/api/v1alpha1"
	"orkestra.dev/bench/rollout/shape"
)

func graph(t *testing.T, s shape.Shape, n int) shape.Graph {
	t.Helper()
	g, err := shape.New(s, n)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// object with a generation, and Ready for another one, 0: not ready.
func object(name string, generation, ready int64) *unstructured.Unstructured {
	u := &unstructured.Unstructured{Object: map[string]any{}}
	u.SetName(name)
	u.SetGeneration(generation)
	if ready > 0 {
		u.Object["status"] = map[string]any{"observedGeneration": ready, "conditions": []any{
			map[string]any{"type": "Ready", "status": "True", "observedGeneration": ready}}}
	}
	return u
}

func at(ms int) time.Time { return time.UnixMilli(int64(ms)) }

func TestTrackMeasuresEdges(t *testing.T) {
	t.Parallel()
	tr := newTrack("chain", graph(t, shape.Chain, 3), false)
	tr.seeRelease(object("r0000", 1, 0), at(100))
	tr.seeRecord("r0000", "chain/v1", "pending-install", at(150))
	tr.seeRecord("r0000", "chain/v1", "deployed", at(190))
	tr.seeRelease(object("r0000", 1, 1), at(200))
	tr.seeRelease(object("r0000", 1, 1), at(999)) // Ready is what was seen first
	tr.seeRelease(object("r0001", 1, 0), at(210))
	tr.seeRecord("r0001", "chain/v2", "pending-install", at(260))
	tr.seeRelease(object("r0001", 1, 1), at(300))
	tr.seeRelease(object("r0002", 1, 0), at(305))

	edges, err := tr.overheads(tr.created)
	if err != nil || len(edges) != 2 || edges[0] != 0.010 || edges[1] != 0.005 {
		t.Errorf("edges = %v, %v; want 10 and 5 ms", edges, err)
	}
	if gaps, err := tr.overheads(tr.helm); !errors.Is(err, errUnseen) {
		t.Errorf("a release without a record of Helm has a gap: %v, %v", gaps, err)
	}
	if tr.actions != 2 {
		t.Errorf("%d actions, want 2", tr.actions)
	}
}

// In a phase only a new generation counts, and it counts when it is ready itself.
func TestTrackOfASecondPhase(t *testing.T) {
	t.Parallel()
	tr := newTrack("chain", graph(t, shape.Chain, 2), false)
	tr.seeRelease(object("r0000", 1, 1), at(1))
	tr.seeRecord("r0000", "chain/v1", "deployed", at(1))
	tr.phase()
	tr.seeRelease(object("r0000", 1, 1), at(2))
	tr.seeRelease(object("r0000", 2, 1), at(3))
	tr.seeRecord("r0000", "chain/v1", "superseded", at(3))
	if len(tr.ready) != 0 || tr.actions != 0 {
		t.Errorf("ready = %v, actions = %d before there is anything new", tr.ready, tr.actions)
	}
	tr.seeRelease(object("r0000", 2, 2), at(4))
	if tr.ready["r0000"] != at(4) {
		t.Errorf("ready = %v, want the fourth millisecond", tr.ready)
	}
}

// Without HelmReleases a release is ready when Helm's record says so; that of another
// action counts again.
func TestTrackByRecords(t *testing.T) {
	t.Parallel()
	tr := newTrack("chain", graph(t, shape.Chain, 2), true)
	tr.seeRecord("r0000", "chain/v1", "pending-install", at(1))
	if len(tr.ready) != 0 {
		t.Errorf("ready while it is being installed: %v", tr.ready)
	}
	tr.seeRecord("r0000", "chain/v1", "deployed", at(2))
	tr.phase()
	tr.seeRecord("r0000", "chain/v1", "superseded", at(3))
	tr.seeRecord("r0000", "chain/v2", "deployed", at(4))
	if tr.ready["r0000"] != at(4) || tr.actions != 1 {
		t.Errorf("ready = %v with %d actions, want the fourth millisecond with one", tr.ready, tr.actions)
	}
}

// The pieces of a chart have the same release name, and are told apart by where their
// records are.
func TestTrackOfAnUmbrella(t *testing.T) {
	t.Parallel()
	tr := newTrack("group", graph(t, shape.Umbrella, 3), false)
	for rec, want := range map[record]string{
		{v1alpha1.StorageNamespace("group", "sub01"), shape.UmbrellaName}: "umbrella-sub01",
		{"group", shape.UmbrellaName}:                                     shape.UmbrellaName,
		{"group", "umbrella-sub00"}:                                       "umbrella-sub00", // as others install it
	} {
		if got := tr.names[rec]; got != want {
			t.Errorf("the record %v is of %q, want %q", rec, got, want)
		}
	}
}

func TestTrackOfAGroup(t *testing.T) {
	t.Parallel()
	tr := newTrack("group", graph(t, shape.Chain, 2), false)
	tr.seeGroup(object("group", 1, 1), at(1))
	tr.phase()
	tr.seeGroup(object("group", 1, 1), at(2))
	asked := object("group", 1, 1)
	asked.SetAnnotations(map[string]string{v1alpha1.AnnotationRequestedAt: "again"})
	tr.seeGroup(asked, at(3))
	if !tr.groupReady.IsZero() {
		t.Error("the group is ready before the request was handled")
	}
	handled := asked.DeepCopy()
	if err := unstructured.SetNestedField(handled.Object, "again", "status", "lastHandledReconcileAt"); err != nil {
		t.Fatal(err)
	}
	tr.seeGroup(handled, at(4))
	if tr.groupReady != at(4) {
		t.Errorf("groupReady = %v, want the fourth millisecond", tr.groupReady)
	}
}

func TestAwaitSaysWhatIsMissing(t *testing.T) {
	t.Parallel()
	tr := newTrack("chain", graph(t, shape.Chain, 2), false)
	ctx, cancel := context.WithCancelCause(t.Context())
	done := make(chan error, 1)
	go func() { done <- tr.awaitReady(ctx, "r0000") }()
	tr.seeRelease(object("r0000", 1, 1), at(1))
	if err := <-done; err != nil {
		t.Errorf("awaitReady of what is ready: %v", err)
	}
	gone := errors.New("no patience")
	cancel(gone)
	if err := tr.awaitReady(ctx, "r0001"); !errors.Is(err, gone) {
		t.Errorf("awaitReady = %v, want what ended the wait", err)
	}
}

func TestCountRequests(t *testing.T) {
	t.Parallel()
	got, err := countRequests([]byte(`# TYPE apiserver_request_total counter
apiserver_request_total{code="201",group="",resource="secrets",subresource="",verb="POST"} 3
apiserver_request_total{code="409",group="",resource="secrets",subresource="",verb="POST"} 1
apiserver_request_total{code="200",group="apps",resource="deployments",subresource="status",verb="APPLY"} 2
apiserver_request_total{code="200",group="",resource="secrets",subresource="",verb="GET"} 9
apiserver_request_total{code="200",group="coordination.k8s.io",resource="leases",subresource="",verb="PUT"} 9
apiserver_request_duration_seconds_bucket{verb="POST",le="1"} 7
`))
	if err != nil {
		t.Fatal(err)
	}
	if len(got.writes) != 2 || got.writes["post secrets"] != 4 || got.writes["apply deployments/status"] != 2 {
		t.Errorf("writes = %v", got.writes)
	}
	if len(got.reads) != 1 || got.reads["get secrets"] != 9 {
		t.Errorf("reads = %v", got.reads)
	}
}

func TestParseFlags(t *testing.T) {
	t.Parallel()
	o, err := parse([]string{"-quick", "-cases", "fan:7", "-server-arg", "nats=-D", "-guard", "x.json"})
	if err != nil {
		t.Fatal(err)
	}
	if o.out != "" || len(o.graphs) != 1 || o.graphs[0].Name() != "fan:7" || o.serverArgs["nats"][0] != "-D" || len(o.entrants()) != 2 {
		t.Errorf("options = %+v", o)
	}
	servers, services := argsOf(map[string][]string{"nats": {"-D"}, "compiler": {"--parallelism=30"}})
	if len(servers) != 1 || servers["nats"] == nil || len(services) != 1 || services["compiler"] == nil {
		t.Errorf("flags of servers %v, of services %v", servers, services)
	}
	full, err := parse(nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range full.entrants() {
		for repeat, want := range map[int]bool{1: e.name != "flux", 2: false} {
			if got := full.runs(e, graph(t, shape.Fan, 100), repeat); got != want {
				t.Errorf("%s runs fan:100 in repeat %d: %v", e.name, repeat, got)
			}
		}
	}
	for _, args := range [][]string{{"-contenders", "argo"}, {"-cases", "x"}, {"-flux-cases", ""}, {"-server-arg", "nats"}} {
		if _, err := parse(args); err == nil {
			t.Errorf("parse(%v) is no error", args)
		}
	}
}
