package execute_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	wfv1 "github.com/argoproj/argo-workflows/v3/pkg/apis/workflow/v1alpha1"
	helmv2 "github.com/fluxcd/helm-controller/api/v2"
	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"orkestra.dev/api/v1alpha1"
	"orkestra.dev/pkg/plan"
	"orkestra.dev/services/executor/execute"
)

// seeds of the random plans: enough that a rule which is left out is missed by some.
const seeds = 120

// run lets everybody act in a random order until nothing is left to be done.
func (s *sim) run(early bool, disturb func()) {
	for range 150 {
		s.step(early)
		if disturb != nil {
			disturb()
		}
	}
	for idle := 0; idle < 3; {
		before := fmt.Sprint(s.ends(), s.version)
		s.look(early, false, false)
		s.argo()
		if !s.helm() && !s.gates() && before == fmt.Sprint(s.ends(), s.version) {
			idle++ // a settlement may wait for the clock
		}
	}
}

func (s *sim) step(early bool) {
	switch s.rng.IntN(8) {
	case 0:
		if s.rng.IntN(3) == 0 {
			s.argoBehind()
		} else {
			s.argo()
		}
		s.wfBefore = s.wf.DeepCopy()
	case 1, 2:
		s.helm()
	case 3:
		s.gates()
	case 4:
		s.stale = map[execute.Key]*helmv2.HelmRelease{}
		for k, hr := range s.releases {
			s.stale[k] = hr
		}
	default:
		s.look(early, s.rng.IntN(3) == 0, s.rng.IntN(5) == 0)
	}
}

// Whatever the order of events, a plan comes to the end to which it comes when only
// what Argo has activated is begun, and nothing is begun that Argo could not have.
func TestEarlyStartChangesNoOutcome(t *testing.T) {
	ahead, placed, failed := 0, 0, 0
	for seed := range uint64(seeds) {
		early, late := newSim(t, seed), newSim(t, seed)
		early.run(true, nil)
		late.run(false, nil)
		if diff := cmp.Diff(late.ends(), early.ends()); diff != "" {
			t.Errorf("seed %d ends otherwise with early start (-without +with):\n%s", seed, diff)
		}
		if !early.wf.Status.Fulfilled() {
			t.Errorf("seed %d does not end: %v", seed, early.ends())
		}
		if late.ahead > 0 || late.placed > 0 {
			t.Errorf("seed %d: %d releases were begun, and %d nodes written, ahead of Argo without early start", seed, late.ahead, late.placed)
		}
		if early.wf.Status.Phase == wfv1.WorkflowFailed {
			failed++
		}
		ahead += early.ahead
		placed += early.placed
		if t.Failed() {
			t.FailNow()
		}
	}
	if ahead < seeds || placed < seeds || failed < seeds/10 {
		t.Errorf("of %d plans, %d releases were begun ahead of Argo, %d nodes were written ahead of it and %d failed: the plans say too little", seeds, ahead, placed, failed)
	}
}

// A workflow that is stopped, held or overtaken in the middle begins nothing more, and
// one that is held goes on when it is let go.
func TestEarlyStartStops(t *testing.T) {
	for name, disturb := range map[string]func(*sim){
		"stopped":    func(s *sim) { s.wf.Spec.Shutdown = wfv1.ShutdownStrategyTerminate },
		"superseded": func(s *sim) { s.group.Generation = 3 },
		"held": func(s *sim) {
			if s.wf.Spec.Suspend == nil {
				s.wf.Spec.Suspend = new(true)
			} else {
				s.wf.Spec.Suspend = nil
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			for seed := range uint64(seeds) {
				s := newSim(t, seed)
				s.run(true, func() {
					if s.rng.IntN(30) == 0 {
						disturb(s)
					}
				})
				if t.Failed() {
					t.Fatalf("seed %d", seed)
				}
			}
		})
	}
}

// A release that was done when a child of it was begun counts as done, though it is not
// any more when Argo comes to it.
func TestEarlyStartKeepsWhatWasDone(t *testing.T) {
	for seed := range uint64(seeds) {
		s := newSim(t, seed)
		s.run(true, func() {
			if s.action == plan.Install && s.rng.IntN(30) == 0 {
				s.flap()
			}
		})
		for _, l := range s.leaves {
			for _, b := range l.before {
				if s.begun[l.task] && s.phase(b).FailedOrError() {
					t.Errorf("seed %d: %s was begun, and %s, which comes before it, has failed", seed, l.task, b)
				}
			}
		}
		if t.Failed() {
			t.FailNow()
		}
	}
}

// wf makes the workflow one DAG of tasks, each with what it depends on; those in pods
// are pods.
func wf(dependencies map[string][]string, pods ...string) func(*world) {
	return func(w *world) {
		dag := &wfv1.DAGTemplate{}
		for task, before := range dependencies {
			template := "wait"
			if slices.Contains(pods, task) {
				template = "pod"
			}
			dag.Tasks = append(dag.Tasks, wfv1.DAGTask{Name: task, Template: template, Dependencies: before})
			if _, ok := w.Plan[task]; !ok {
				w.Plan[task] = plan.Node{Task: task, Action: plan.Install, Release: wanted(task)}
			}
		}
		w.Workflow.Spec.Entrypoint = "entry"
		w.Workflow.Spec.Templates = []wfv1.Template{{Name: "entry", DAG: dag}, {Name: "wait", Suspend: &wfv1.SuspendTemplate{}}, {Name: "pod", Container: &corev1.Container{}}}
		w.Early = true
	}
}

func pod(task string, phase wfv1.NodePhase) func(*world) {
	return func(w *world) {
		w.Workflow.Status.Nodes["id-"+task] = wfv1.NodeStatus{ID: "id-" + task, Name: workflow + "." + task, Type: wfv1.NodeTypePod, Phase: phase, StartedAt: activated}
	}
}

// walked: Argo has looked at the workflow.
func walked(w *world) {
	w.Workflow.Status.Nodes[workflow] = wfv1.NodeStatus{ID: workflow, Name: workflow, Type: wfv1.NodeTypeDAG, Phase: wfv1.NodeRunning, StartedAt: activated}
}

func TestNextAhead(t *testing.T) {
	chain := map[string][]string{"a": nil, "b": {"a"}, "c": {"b"}}
	ready := ours(time.Second)
	for name, tc := range map[string]struct {
		reason string
		state  execute.State
		want   summary
	}{
		"ParentReady": {
			reason: "a child is begun with the settlement of its last parent",
			state:  newWorld(waits("a"), there("a", ready), wf(chain)),
			want:   summary{Succeed: []string{"a"}, Apply: []string{"b"}},
		},
		"Off": {
			reason: "without early start Argo comes between",
			state:  newWorld(waits("a"), there("a", ready), wf(chain), func(w *world) { w.Early = false }),
			want:   summary{Succeed: []string{"a"}},
		},
		"FarAhead": {
			reason: "what Argo has not activated is done all the same, and its node is written",
			state:  newWorld(waits("a"), there("a", ready), wf(chain), walked, there("b", ready, at("b"))),
			want:   summary{Succeed: []string{"a", "b"}, Apply: []string{"c"}},
		},
		"FarAheadOfTheFirstLook": {
			reason: "before Argo's first look there is nothing to write nodes into",
			state:  newWorld(wf(chain), there("a", ready, at("a")), there("b", ready, at("b")), func(w *world) { w.Workflow.Status.Phase = wfv1.WorkflowUnknown }),
			want:   summary{Apply: []string{"c"}},
		},
		"FarAheadAndHeld": {
			reason: "of a workflow that a user holds only what is active is settled",
			state:  newWorld(waits("a"), there("a", ready), wf(chain), walked, there("b", ready, at("b")), func(w *world) { w.Workflow.Spec.Suspend = new(true) }),
			want:   summary{Succeed: []string{"a"}},
		},
		"FarAheadOfAnotherGeneration": {
			reason: "what the group has moved on from is stopped in a moment",
			state:  newWorld(waits("a"), there("a", ready), wf(chain), walked, there("b", ready, at("b")), func(w *world) { w.Group.Generation = 3 }),
			want:   summary{Succeed: []string{"a"}, Superseded: "generation 3 of group shop"},
		},
		"FarAheadOfAFailure": {
			reason: "after a failure Argo says what becomes of the rest",
			state: newWorld(waits("a"), there("a", ready), walked, there("b", ready, at("b")), pod("p", wfv1.NodeFailed),
				wf(map[string][]string{"a": nil, "b": {"a"}, "p": nil}, "p")),
			want: summary{Succeed: []string{"a"}},
		},
		"NotAsWanted": {
			reason: "a parent that is ready with what an earlier workflow wrote is not done",
			state:  newWorld(waits("a"), there("a", ready), wf(chain), there("b")),
			want:   summary{Succeed: []string{"a"}, Apply: []string{"b"}},
		},
		"Limit": {
			reason: "what was begun ahead counts against the limit",
			state: newWorld(waits("a"), there("a", ready), limit(1), there("b", ready, at("b"), progressing),
				wf(map[string][]string{"a": nil, "b": {"a"}, "c": {"a"}})),
			want: summary{Succeed: []string{"a"}, Apply: nil},
		},
		"PodsAtTheLimit": {
			reason: "with as many pods as the limit Argo activates nothing",
			state: newWorld(waits("a"), there("a", ready), limit(1), pod("p", wfv1.NodeRunning),
				wf(map[string][]string{"a": nil, "b": {"a"}, "p": nil}, "p")),
			want: summary{Succeed: []string{"a"}},
		},
		"BehindAPod": {
			reason: "a pod is Argo's to run",
			state:  newWorld(waits("a"), there("a", ready), wf(chain, "b")),
			want:   summary{Succeed: []string{"a"}},
		},
		"PodFailed": {
			reason: "after a failure only Argo says what begins",
			state: newWorld(waits("a"), there("a", ready), pod("p", wfv1.NodeFailed),
				wf(map[string][]string{"a": nil, "b": {"a"}, "p": nil}, "p")),
			want: summary{Succeed: []string{"a"}},
		},
		"FailedAhead": {
			reason: "a failure of what Argo has not activated is told when it has, and nothing more begins ahead",
			state: newWorld(waits("a"), there("a", ready), there("b", ready, at("b"), failed),
				wf(map[string][]string{"a": nil, "b": {"a"}, "c": {"a"}})),
			want: summary{Succeed: []string{"a"}},
		},
		"New": {
			reason: "a workflow that Argo has not looked at yet is one that it will begin",
			state:  newWorld(wf(chain), func(w *world) { w.Workflow.Status.Phase = wfv1.WorkflowUnknown }),
			want:   summary{Apply: []string{"a"}},
		},
		"Pending": {
			reason: "a workflow that Argo holds back is not begun",
			state:  newWorld(wf(chain), func(w *world) { w.Workflow.Status.Phase = wfv1.WorkflowPending }),
		},
		"Condition": {
			reason: "what has a condition is Argo's to judge",
			state: newWorld(waits("a"), there("a", ready), wf(map[string][]string{"a": nil, "b": {"a"}}), func(w *world) {
				tasks := w.Workflow.Spec.Templates[0].DAG.Tasks
				for i := range tasks {
					if tasks[i].Name == "b" {
						tasks[i].When = "{{workflow.name}} == other"
					}
				}
			}),
			want: summary{Succeed: []string{"a"}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(tc.want, summarize(next(t, tc.state))); diff != "" {
				t.Errorf("%s (-want +got):\n%s", tc.reason, diff)
			}
		})
	}
}

// at says for which node the release was written.
func at(task string) func(*helmv2.HelmRelease) {
	return func(hr *helmv2.HelmRelease) { hr.Annotations[v1alpha1.AnnotationNode] = task }
}

// of fills the plan up to n nodes, which are of no account otherwise.
func of(n int) func(*world) {
	return func(w *world) {
		for i := len(w.Plan); i < n; i++ {
			task := fmt.Sprintf("other-%d", i)
			w.Plan[task] = plan.Node{Task: task, Action: plan.Install, Release: wanted(task)}
		}
	}
}

func TestSettlementsMayWait(t *testing.T) {
	ready := ours(time.Second)
	changed := func(ago time.Duration) func(*world) {
		return node("a", plan.Install, wfv1.NodeRunning, metav1.Time{Time: now.Add(-ago)})
	}
	just := changed(0)
	since := func(ago time.Duration) func(*helmv2.HelmRelease) {
		return func(hr *helmv2.HelmRelease) {
			hr.Status.Conditions[0].LastTransitionTime = metav1.Time{Time: now.Add(-ago)}
		}
	}
	beside := map[string][]string{"a": nil, "b": nil, "c": nil}
	before := map[string][]string{"a": nil, "b": nil, "c": {"a"}}
	busy := func(w *world) {
		for _, task := range []string{"b", "c"} {
			there(task, ready, at(task), progressing)(w)
		}
	}
	expression := func(w *world) {
		c := w.Plan["c"]
		c.ReadyExpr = "true"
		w.Plan["c"] = c
	}
	for name, tc := range map[string]struct {
		reason string
		state  execute.State
		want   time.Duration
	}{
		"OthersUnderWay": {
			reason: "Argo could do nothing with it, and others may end soon: a look of Argo's takes a quarter of this",
			state:  newWorld(just, waits("b"), waits("c"), there("a", ready, since(0)), busy, wf(beside), of(1000)), want: 28 * time.Second,
		},
		"Quiet": {
			reason: "nothing has ended for as long as four looks of Argo's take",
			state:  newWorld(just, waits("b"), waits("c"), there("a", ready, since(29*time.Second)), busy, wf(beside), of(1000)),
		},
		"OneAfterTheOther": {
			reason: "where something ends now and then it is forty looks of Argo's",
			state:  newWorld(changed(10*time.Second), waits("b"), waits("c"), there("a", ready, since(0)), busy, wf(beside), of(100)), want: time.Second / 2,
		},
		"Large": {
			reason: "of a large workflow there is an end to it",
			state:  newWorld(just, waits("b"), waits("c"), there("a", ready, since(0)), busy, wf(beside), of(50000)), want: 3 * time.Minute,
		},
		"Small": {
			reason: "of a small one nobody sees it sooner than that",
			state:  newWorld(just, waits("b"), waits("c"), there("a", ready, since(0)), busy, wf(beside), of(10)), want: time.Second,
		},
		"Gone": {
			reason: "nobody knows since when a release is gone",
			state:  newWorld(node("a", plan.Delete, wfv1.NodeRunning, metav1.Time{Time: now}), waits("b"), waits("c"), busy, wf(beside), of(1000)),
			want:   28 * time.Second,
		},
		"OtherClock": {
			reason: "whose clock is behind is not told to wait until it has caught up",
			state:  newWorld(changed(-time.Hour), waits("b"), waits("c"), there("a", ready, since(-time.Hour)), busy, wf(beside), of(10)), want: time.Second,
		},
		"Last": {
			reason: "nobody would ask for another look",
			state:  newWorld(just, there("a", ready, since(0)), wf(map[string][]string{"a": nil}), of(50)),
		},
		"LongSince": {
			reason: "the wait was over before it began",
			state:  newWorld(waits("a"), waits("b"), waits("c"), there("a", ready, since(0)), busy, wf(beside), of(50)),
		},
		"BegunAhead": {
			reason: "what Argo would activate next is begun",
			state:  newWorld(just, waits("b"), there("a", ready, since(0)), busy, wf(before), of(100)), want: time.Second,
		},
		"BeforeAPod": {
			reason: "what Argo alone can run is not to wait",
			state:  newWorld(just, waits("b"), there("a", ready, since(0)), busy, wf(before, "c"), of(50)),
		},
		"FarBeforeAPod": {
			reason: "nor where there is a release between, that is done",
			state: newWorld(just, waits("b"), there("a", ready, since(0)), busy, there("c", ready, at("c"), since(0)),
				wf(map[string][]string{"a": nil, "b": nil, "c": {"a"}, "d": {"c"}}, "d"), of(50)),
		},
		"BeforeAnExpression": {
			reason: "an expression is looked at when Argo has activated the node",
			state:  newWorld(just, waits("b"), there("a", ready, since(0)), busy, wf(before), expression, of(50)),
		},
		"Failure": {
			reason: "a failure is told at once",
			state:  newWorld(just, waits("b"), waits("c"), there("a", ready, failed, since(0)), busy, wf(beside), of(50)),
		},
		"FailureBefore": {
			reason: "after a failure only Argo says what begins",
			state: newWorld(just, waits("b"), pod("p", wfv1.NodeFailed), there("a", ready, since(0)), busy,
				wf(map[string][]string{"a": nil, "b": nil, "c": {"a"}, "p": nil}, "p"), of(50)),
		},
		"Off": {
			reason: "without early start the next level waits for it",
			state:  newWorld(just, waits("b"), waits("c"), there("a", ready, since(0)), busy, wf(beside), of(50), func(w *world) { w.Early = false }),
		},
	} {
		t.Run(name, func(t *testing.T) {
			if got := next(t, tc.state).Later; got != tc.want {
				t.Errorf("%s: got %s, want %s", tc.reason, got, tc.want)
			}
		})
	}
}
