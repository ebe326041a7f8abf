package trace

import (
	"math"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"orkestra.dev/pkg/events"
)

var (
	begun   = time.Date(2026, 5, 4, 3, 2, 0, 0, time.UTC)
	rollout = events.Rollout{Group: "shop", UID: "6c1f5c4e-7b1e-4a54-8a4d-0e5f1d2c3b4a", Generation: 3}
)

// story is told in milliseconds from its beginning.
type story struct{ facts []events.Fact }

func (s *story) say(ms int, service string, p events.Payload, cause ...events.Payload) {
	f := events.New(rollout, p)
	f.Time, f.Source = begun.Add(time.Duration(ms)*time.Millisecond), "orkestra://cluster/"+service
	for _, c := range cause {
		f.CausationID = events.New(rollout, c).EventID()
	}
	s.facts = append(s.facts, f)
}

func forward(name string) events.WorkflowSubmitted {
	return events.WorkflowSubmitted{WorkflowRef: events.WorkflowRef{Workflow: name, WorkflowType: events.WorkflowForward}, Releases: 3}
}

// run a node of a workflow, and its release.
func (s *story) run(w events.WorkflowSubmitted, task string, started, ready, succeeded int) {
	ref := events.NodeRef{WorkflowRef: w.WorkflowRef, Node: w.Workflow + "-" + task, Task: task}
	s.say(started, "watcher", events.NodeStarted{NodeRef: ref})
	s.say(ready, "watcher", events.ReleaseReady{ReleaseRef: events.ReleaseRef{Workflow: w.Workflow, Task: task, Name: task, ReleaseUID: task}})
	s.say(succeeded, "watcher", events.NodeSucceeded{NodeRef: ref})
}

// whole is a rollout of mesh, and then of web and db side by side.
func whole() *story {
	s, w := &story{}, forward("shop-g3")
	s.say(0, "intake", events.GroupDesired{})
	s.say(500, "stager", events.ChartsStaged{}, events.GroupDesired{})
	s.say(600, "compiler", w, events.ChartsStaged{})
	s.run(w, "mesh.mesh-mesh", 650, 1650, 1660)
	// In the order of the stream: both begin before one is ready.
	db, web := &story{}, &story{}
	db.run(w, "web.web-db", 1700, 2700, 2710)
	web.run(w, "web.web-web", 1700, 7700, 7710)
	s.facts = append(s.facts, db.facts[0], web.facts[0])
	s.facts = append(s.facts, db.facts[1:]...)
	s.facts = append(s.facts, web.facts[1:]...)
	s.say(7730, "watcher", events.RolloutSucceeded{WorkflowRef: w.WorkflowRef})
	return s
}

func lines(t Trace) string {
	return strings.Join(Lines(t, Style{Width: 100, Details: func(p events.Payload) string {
		if ref, ok := node(p); ok {
			return ref.Task
		}
		return ""
	}}), "\n") + "\n"
}

func TestLinesOfAFinishedRollout(t *testing.T) {
	want := `shop generation 3: rollout.succeeded after 7.73s, 13 events

  +0.000s            group.desired                  intake
  +0.500s   0.500s   └─ charts.staged               stager
  +0.600s   0.100s      └─ workflow.submitted       compiler
  +0.650s   0.050s         ├┄ node.started          watcher   mesh.mesh-mesh
  +1.650s   1.000s         │  └┄ release.ready      watcher
  +1.660s   0.010s         │     └┄ node.succeeded  watcher   mesh.mesh-mesh
  +1.700s   0.040s         ├┄ node.started          watcher   web.web-db
  +2.700s   1.000s         │  └┄ release.ready      watcher
  +2.710s   0.010s         │     └┄ node.succeeded  watcher   web.web-db
  +1.700s   0.040s         ├┄ node.started          watcher   web.web-web
  +7.700s   6.000s !       │  └┄ release.ready      watcher
  +7.710s   0.010s         │     └┄ node.succeeded  watcher   web.web-web
  +7.730s   0.020s         └┄ rollout.succeeded     watcher

time: helm 7.00s (91%), staging 0.50s (6%), compiling 0.10s, argo 0.09s, reporting 0.02s, settling 0.02s
─ the event names its cause   ┄ it names none, and belongs there by what it is about
! took much longer than others of its kind, or a large part of the whole time
`
	if diff := cmp.Diff(want, lines(Of(whole().facts, begun.Add(time.Hour)))); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestOf(t *testing.T) {
	retried := func() *story {
		s, w := whole(), forward("shop-g3-r1")
		last := &s.facts[len(s.facts)-1]
		failed := events.RolloutFailed{WorkflowRef: forward("shop-g3").WorkflowRef, Reason: "Failed"}
		last.Data = failed
		s.say(9000, "compiler", w, failed)
		return s
	}
	cases := map[string]struct {
		reason  string
		facts   []events.Fact
		now     int
		outcome string
		cut     bool
		parts   map[Stage]float64
		count   int
	}{
		"Twice": {
			reason: "a fact that was said again, or replayed, is in the tree once",
			facts:  append(whole().facts, whole().facts...), now: 99000, outcome: "rollout.succeeded", count: 13,
			parts: map[Stage]float64{Staging: .5, Compiling: .1, Argo: .09, Helm: 7, Reporting: .02, Settling: .02},
		},
		"Staging":   {reason: "until the charts are there they are being staged", facts: whole().facts[:1], now: 4000, count: 1, parts: map[Stage]float64{Staging: 4}},
		"Compiling": {reason: "and then the workflow is made", facts: whole().facts[:2], now: 4500, count: 2, parts: map[Stage]float64{Staging: .5, Compiling: 4}},
		"Argo":      {reason: "which Argo is to begin", facts: whole().facts[:3], now: 1600, count: 3, parts: map[Stage]float64{Staging: .5, Compiling: .1, Argo: 1}},
		"Helm": {
			reason: "a node that has begun and not ended is Helm's, though another has ended since",
			facts:  whole().facts[:10], now: 3710, count: 10, parts: map[Stage]float64{Staging: .5, Compiling: .1, Argo: .09, Helm: 3, Reporting: .02},
		},
		"Cut": {
			reason: "a stream that has forgotten the beginning says so", cut: true,
			facts: whole().facts[3:], now: 99000, outcome: "rollout.succeeded", count: 10,
			parts: map[Stage]float64{Argo: .04, Helm: 7, Reporting: .02, Settling: .02},
		},
		"Retried": {
			reason: "a workflow that takes up what a failed one has left goes on, from its failure",
			facts:  retried().facts, now: 10000, count: 14,
			parts: map[Stage]float64{Staging: .5, Compiling: 1.37, Argo: 1.09, Helm: 7, Reporting: .02, Settling: .02},
		},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			got := Of(tc.facts, begun.Add(time.Duration(tc.now)*time.Millisecond))
			parts, sum := map[Stage]float64{}, 0.0
			for _, p := range got.Parts {
				parts[p.Stage], sum = math.Round(p.Seconds*1000)/1000, sum+p.Seconds
			}
			if diff := cmp.Diff(tc.parts, parts); diff != "" {
				t.Errorf("%s: parts (-want +got):\n%s", tc.reason, diff)
			}
			if math.Abs(sum-got.Seconds) > 1e-6 {
				t.Errorf("%s: the parts are %.3fs together, and the whole is %.3fs", tc.reason, sum, got.Seconds)
			}
			if got.Outcome != tc.outcome || got.Cut != tc.cut || got.Facts != tc.count {
				t.Errorf("%s: outcome %q, cut %t, %d facts; want %q, %t, %d", tc.reason, got.Outcome, got.Cut, got.Facts, tc.outcome, tc.cut, tc.count)
			}
		})
	}
}

func TestCauseWins(t *testing.T) {
	s, w := &story{}, forward("shop-g3")
	failed := events.RolloutFailed{WorkflowRef: w.WorkflowRef, Reason: "Failed"}
	back := events.WorkflowSubmitted{WorkflowRef: events.WorkflowRef{Workflow: "shop-rollback", WorkflowType: events.WorkflowRollback}}
	s.say(0, "compiler", w)
	s.say(10, "watcher", failed)
	s.say(20, "compiler", back, failed)
	s.say(30, "watcher", events.RolloutSucceeded{WorkflowRef: back.WorkflowRef})
	got := Of(s.facts, begun)
	if len(got.Steps) != 1 || len(got.Steps[0].Children) != 1 {
		t.Fatalf("one tree, with the failure under its workflow: %s", lines(got))
	}
	failure := got.Steps[0].Children[0]
	if len(failure.Children) != 1 || failure.Children[0].Link != LinkCause || failure.Children[0].Children[0].What != "rollout.succeeded" {
		t.Errorf("the rollback is under the failure that it names, and its end under it: %s", lines(got))
	}
}

// Argo may come to a node before the compiler has said that there is a workflow, and a
// release may be done before Argo comes to its node.
func TestWhatIsSaidAhead(t *testing.T) {
	s, w := &story{}, forward("shop-g3")
	ref := events.NodeRef{WorkflowRef: w.WorkflowRef, Node: "n", Task: "mesh.mesh-mesh"}
	s.say(0, "intake", events.GroupDesired{})
	s.say(10, "stager", events.ChartsStaged{}, events.GroupDesired{})
	s.say(20, "watcher", events.NodeStarted{NodeRef: ref})
	s.say(30, "compiler", w, events.ChartsStaged{})
	s.say(40, "watcher", events.ReleaseReady{ReleaseRef: events.ReleaseRef{Workflow: w.Workflow, Task: "web.web-web"}})
	got := Of(s.facts, begun)
	if len(got.Steps) != 1 || len(got.Steps[0].Children) != 1 {
		t.Fatalf("it is one tree: %s", lines(got))
	}
	staged := got.Steps[0].Children[0]
	if len(staged.Children) != 2 || staged.Children[0].What != "node.started" {
		t.Fatalf("the node is under what the workflow was made of: %s", lines(got))
	}
	if submitted := staged.Children[1]; len(submitted.Children) != 1 || submitted.Children[0].What != "release.ready" {
		t.Errorf("the release is under its workflow: %s", lines(got))
	}
}

// Who can say an event can name any cause.
func TestRingOfCauses(t *testing.T) {
	s := &story{}
	s.say(10, "x", events.GroupDesired{}, events.ChartsStaged{})
	s.say(0, "x", events.ChartsStaged{}, events.GroupDesired{})
	got := Of(s.facts, begun)
	if got.Facts != 2 || !strings.Contains(lines(got), "charts.staged") {
		t.Errorf("facts that name each other as their cause are shown: %s", lines(got))
	}
}
