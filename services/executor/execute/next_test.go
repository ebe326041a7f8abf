package execute_test

import (
	"strings"
	"testing"
	"time"

	wfv1 "github.com/argoproj/argo-workflows/v3/pkg/apis/workflow/v1alpha1"
	helmv2 "github.com/fluxcd/helm-controller/api/v2"
	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"orkestra.dev/api/v1alpha1"
	"orkestra.dev/pkg/events"
	"orkestra.dev/pkg/plan"
	"orkestra.dev/services/executor/execute"
)

func TestNext(t *testing.T) {
	reverse := func(w *world) { w.Workflow.Labels[v1alpha1.LabelWorkflowType] = string(events.WorkflowReverse) }
	later := metav1.Time{Time: activated.Add(time.Second)}

	for name, tc := range map[string]struct {
		reason string
		state  execute.State
		want   summary
	}{
		"NothingWaits": {
			reason: "a node that Argo has not activated, or that is settled, is left alone",
			state: newWorld(
				node("a.pending", plan.Install, wfv1.NodePending, activated),
				node("a.done", plan.Install, wfv1.NodeSucceeded, activated)),
		},
		"Install": {
			reason: "a release that is not there is written",
			state:  newWorld(waits("a.one")),
			want:   summary{Apply: []string{"a.one"}},
		},
		"Upgrade": {
			reason: "a release that an earlier workflow wrote is written again, however ready it is",
			state:  newWorld(waits("a.one"), there("a.one")),
			want:   summary{Apply: []string{"a.one"}},
		},
		"SameNameOtherWorkflow": {
			reason: "a workflow that was deleted and made again under its name writes again",
			state: newWorld(waits("a.one"), there("a.one", ours(time.Second), func(hr *helmv2.HelmRelease) {
				hr.Annotations[v1alpha1.AnnotationWorkflowUID] = "uid-of-the-deleted-one"
			})),
			want: summary{Apply: []string{"a.one"}},
		},
		"InFlight": {
			reason: "a release that is begun is waited for",
			state:  newWorld(waits("a.one"), there("a.one", ours(time.Second), progressing)),
		},
		"Ready": {
			reason: "a release that this workflow wrote and that is ready settles its node",
			state:  newWorld(waits("a.one"), there("a.one", ours(time.Second))),
			want:   summary{Succeed: []string{"a.one"}},
		},
		"Failed": {
			reason: "a release that helm-controller gave up fails its node at once, in Helm's words",
			state:  newWorld(waits("a.one"), there("a.one", ours(time.Second), failed)),
			want:   summary{Fail: map[string]string{"a.one": "HelmRelease target/a.one failed: Helm install failed: boom"}},
		},
		"NotExpired": {
			reason: "Helm's own timeout is given time to be reported",
			state:  newWorld(waits("a.one"), there("a.one", ours(5*time.Minute+time.Second), progressing)),
		},
		"Expired": {
			reason: "a release that takes longer than its timeout fails its node, and says what it was at",
			state:  newWorld(waits("a.one"), there("a.one", ours(5*time.Minute+11*time.Second), progressing)),
			want: summary{Fail: map[string]string{
				"a.one": "HelmRelease target/a.one did not become ready within 5m: Running 'install' action",
			}},
		},
		"NobodysRelease": {
			reason: "what Orkestra did not make is never taken over",
			state:  newWorld(waits("a.one"), there("a.one", func(hr *helmv2.HelmRelease) { hr.Labels = nil })),
			want: summary{Fail: map[string]string{
				"a.one": "HelmRelease target/a.one is there already and was not made by Orkestra: it is neither taken over nor deleted",
			}},
		},
		"OtherGroupsRelease": {
			reason: "a release of another group is never taken over",
			state:  newWorld(waits("a.one"), there("a.one", func(hr *helmv2.HelmRelease) { hr.Labels[v1alpha1.LabelOwner] = "other" })),
			want:   summary{Fail: map[string]string{"a.one": `HelmRelease target/a.one belongs to group "other"`}},
		},
		"EarlierGroupsRelease": {
			reason: "a group that was deleted and made again does not inherit",
			state: newWorld(waits("a.one"), there("a.one", func(hr *helmv2.HelmRelease) {
				hr.Annotations[v1alpha1.AnnotationGroupUID] = "uid-earlier"
			})),
			want: summary{Fail: map[string]string{
				"a.one": `HelmRelease target/a.one belongs to an earlier group "shop" (UID uid-earlier): delete it first`,
			}},
		},
		"OriginalOrkestrasRelease": {
			reason: "a release that the original made for the group has no UID, and is the group's",
			state: newWorld(waits("a.one"), there("a.one", func(hr *helmv2.HelmRelease) {
				delete(hr.Annotations, v1alpha1.AnnotationGroupUID)
			})),
			want: summary{Apply: []string{"a.one"}},
		},
		"StillGoing": {
			reason: "a release that is being deleted is made anew when it is gone",
			state: newWorld(node("a.one", plan.Install, wfv1.NodeRunning, metav1.Time{Time: now.Add(-time.Minute)}),
				there("a.one", deleting(time.Minute))),
		},
		"StillGoingForTooLong": {
			reason: "a deletion that does not end does not hold the node for ever",
			state:  newWorld(waits("a.one"), there("a.one", deleting(time.Hour))),
			want: summary{Fail: map[string]string{
				"a.one": "HelmRelease target/a.one is still being deleted after 5m: installed",
			}},
		},
		"Limit": {
			reason: "no more are in flight than the workflow's parallelism, and those that were activated first come first",
			state: newWorld(limit(3),
				node("b.late", plan.Install, wfv1.NodeRunning, later),
				node("a.late", plan.Install, wfv1.NodeRunning, later),
				waits("z.first"), waits("y.first"),
				waits("a.busy"), there("a.busy", ours(time.Second), progressing)),
			want: summary{Apply: []string{"y.first", "z.first"}},
		},
		"LimitReached": {
			reason: "what is done makes room at once",
			state: newWorld(limit(1), waits("a.one"), waits("b.two"), waits("c.three"),
				there("a.one", ours(time.Second))),
			want: summary{Succeed: []string{"a.one"}, Apply: []string{"b.two"}},
		},
		"NoLimit": {
			reason: "a workflow without parallelism has no limit",
			state:  newWorld(waits("a.one"), waits("b.two"), waits("c.three")),
			want:   summary{Apply: []string{"a.one", "b.two", "c.three"}},
		},
		"TwoExecutorsOneRelease": {
			reason: "two nodes of one release write it once and are settled together",
			state: newWorld(waits("a.one"), waits("b.two"), func(w *world) {
				n := w.Plan["b.two"]
				n.Release = wanted("a.one")
				w.Plan["b.two"] = n
			}),
			want: summary{Apply: []string{"a.one"}},
		},
		"NoPlan": {
			reason: "a node that the plan does not know fails, rather than wait for ever",
			state:  newWorld(waits("a.one"), func(w *world) { delete(w.Plan, "a.one") }),
			want: summary{Fail: map[string]string{
				"a.one": "the plan of workflow shop-1-forward has no release for task a.one",
			}},
		},
		"Refused": {
			reason: "a release that the API server does not take fails its node",
			state:  newWorld(waits("a.one"), func(w *world) { w.Refused = map[string]string{"a.one": "cannot be written: spec.interval is invalid"} }),
			want:   summary{Fail: map[string]string{"a.one": "HelmRelease target/a.one cannot be written: spec.interval is invalid"}},
		},
		"Held": {
			reason: "what cannot be begun this time does not keep others from their turn",
			state:  newWorld(limit(1), waits("a.one"), waits("b.two"), func(w *world) { w.Held = map[string]bool{"a.one": true} }),
			want:   summary{Apply: []string{"b.two"}},
		},
		"ShutDown": {
			reason: "a workflow that is being stopped does nothing more: Argo ends its nodes",
			state: newWorld(waits("a.one"), waits("b.two"), there("b.two", ours(time.Second)),
				func(w *world) { w.Workflow.Spec.Shutdown = wfv1.ShutdownStrategyTerminate }),
		},
		"Finished": {
			reason: "a workflow that has ended does nothing more",
			state:  newWorld(waits("a.one"), func(w *world) { w.Workflow.Status.Phase = wfv1.WorkflowFailed }),
		},
		"Suspended": {
			reason: "a workflow that a user holds begins nothing, and settles what it began",
			state: newWorld(waits("a.one"), waits("b.two"), there("b.two", ours(time.Second)),
				func(w *world) { w.Workflow.Spec.Suspend = new(true) }),
			want: summary{Succeed: []string{"b.two"}},
		},
		"NewerGeneration": {
			reason: "an older generation writes nothing more, and settles what it wrote",
			state: newWorld(waits("a.one"), waits("b.two"), there("b.two", ours(time.Second)),
				func(w *world) { w.Group.Generation = 3 }),
			want: summary{Succeed: []string{"b.two"}, Superseded: "generation 3 of group shop"},
		},
		"GroupGone": {
			reason: "nothing is written for a group that is gone",
			state:  newWorld(waits("a.one"), func(w *world) { w.Group = nil }),
			want:   summary{Superseded: "the end of group shop"},
		},
		"GroupAnother": {
			reason: "nothing is written for a group that was deleted and made again",
			state:  newWorld(waits("a.one"), func(w *world) { w.Group.UID = "uid-2" }),
			want:   summary{Superseded: "another group shop (UID uid-2)"},
		},
		"GroupDeleting": {
			reason: "a group that is being deleted gets nothing new",
			state:  newWorld(waits("a.one"), func(w *world) { w.Group.DeletionTimestamp = &activated }),
			want:   summary{Superseded: "the deletion of group shop"},
		},
		"ReverseOfDeletingGroup": {
			reason: "a deleting group is undone",
			state: newWorld(reverse, goes("a.one"), there("a.one"),
				func(w *world) { w.Group.DeletionTimestamp = &activated; w.Group.Generation = 3 }),
			want: summary{Delete: []string{"a.one"}},
		},
		"ReverseOfGoneGroup": {
			reason: "a group that is gone is undone all the same",
			state:  newWorld(reverse, goes("a.one"), there("a.one"), func(w *world) { w.Group = nil }),
			want:   summary{Delete: []string{"a.one"}},
		},
		"DeleteInForward": {
			reason: "an application that left the spec is deleted by a forward workflow",
			state:  newWorld(goes("a.one"), there("a.one")),
			want:   summary{Delete: []string{"a.one"}},
		},
		"DeleteInForwardSuperseded": {
			reason: "an older generation deletes nothing more either: the newer one may want it",
			state:  newWorld(goes("a.one"), there("a.one"), func(w *world) { w.Group.Generation = 3 }),
			want:   summary{Superseded: "generation 3 of group shop"},
		},
		"Deleted": {
			reason: "a release that is gone settles its node",
			state:  newWorld(reverse, goes("a.one")),
			want:   summary{Succeed: []string{"a.one"}},
		},
		"DeletingByUs": {
			reason: "a deletion that this workflow began is waited for",
			state:  newWorld(reverse, goes("a.one"), there("a.one", ours(time.Second), deleting(time.Second))),
		},
		"DeletingByAnother": {
			reason: "a deletion that somebody else began is made this workflow's, so that it hears of its end",
			state:  newWorld(reverse, goes("a.one"), there("a.one", deleting(time.Second))),
			want:   summary{Delete: []string{"a.one"}},
		},
		"MarkedNotDeleted": {
			reason: "a death between the marks and the deletion is made good",
			state:  newWorld(reverse, goes("a.one"), there("a.one", ours(time.Second))),
			want:   summary{Delete: []string{"a.one"}},
		},
		"DeletionExpired": {
			reason: "a deletion that does not end fails its node, and says why",
			state: newWorld(reverse, goes("a.one"), there("a.one", ours(6*time.Minute), deleting(6*time.Minute),
				ready(metav1.ConditionFalse, "UninstallFailed", "failed to uninstall: boom"))),
			want: summary{Fail: map[string]string{
				"a.one": "HelmRelease target/a.one was not uninstalled within 5m: failed to uninstall: boom",
			}},
		},
		"DeleteForeign": {
			reason: "a release of another group is never deleted",
			state:  newWorld(reverse, goes("a.one"), there("a.one", func(hr *helmv2.HelmRelease) { hr.Labels[v1alpha1.LabelOwner] = "other" })),
			want:   summary{Fail: map[string]string{"a.one": `HelmRelease target/a.one belongs to group "other"`}},
		},
		"DeleteLimit": {
			reason: "deletions count against the parallelism too",
			state: newWorld(reverse, limit(1), goes("a.one"), goes("b.two"),
				there("a.one", ours(time.Second), deleting(time.Second)), there("b.two")),
		},
	} {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(tc.want, summarize(next(t, tc.state))); diff != "" {
				t.Errorf("%s (-want +got):\n%s", tc.reason, diff)
			}
		})
	}
}

func TestStorageNamespace(t *testing.T) {
	storage := func(task string) func(*world) {
		return func(w *world) {
			n := w.Plan[task]
			n.Release.Spec.StorageNamespace = "orkestra-shop-redis"
			w.Plan[task] = n
		}
	}
	keepsIn := func(ns string) func(*helmv2.HelmRelease) {
		return func(hr *helmv2.HelmRelease) { hr.Spec.StorageNamespace = ns }
	}
	for name, tc := range map[string]struct {
		reason string
		state  execute.State
		want   string
	}{
		"Unneeded": {
			reason: "the records of a piece go with it",
			state:  newWorld(goes("a.redis"), storage("a.redis"), there("b.two", keepsIn("elsewhere"))),
			want:   "orkestra-shop-redis",
		},
		"Shared": {
			reason: "a namespace that another release keeps its records in stays",
			state:  newWorld(goes("a.redis"), storage("a.redis"), there("b.redis", keepsIn("orkestra-shop-redis"))),
		},
		"SharedWithWhatIsGone": {
			reason: "what another replica has settled as gone keeps nothing there, though an informer still shows it",
			state: newWorld(goes("a.redis"), storage("a.redis"), node("b.redis", plan.Delete, wfv1.NodeSucceeded, activated), storage("b.redis"),
				there("b.redis", keepsIn("orkestra-shop-redis"), deleting(time.Second))),
			want: "orkestra-shop-redis",
		},
		"SharedWithWhatGoes": {
			reason: "what is not gone yet keeps its records there",
			state: newWorld(goes("a.redis"), storage("a.redis"), goes("b.redis"), storage("b.redis"),
				there("b.redis", ours(time.Second), keepsIn("orkestra-shop-redis"), deleting(time.Second))),
		},
		"Planned": {
			reason: "a namespace that this very workflow will need stays",
			state: newWorld(goes("a.redis"), storage("a.redis"),
				node("b.redis", plan.Install, wfv1.NodePending, activated), storage("b.redis")),
		},
		"Target": {
			reason: "the namespace that a release is installed in is not ours to remove",
			state:  newWorld(goes("a.redis")),
		},
	} {
		t.Run(name, func(t *testing.T) {
			a := next(t, tc.state)
			if len(a.Settle) != 1 || a.Settle[0].StorageNamespace != tc.want {
				t.Errorf("%s: got %+v, want the namespace %q", tc.reason, a.Settle, tc.want)
			}
		})
	}
}

func TestNextIsDeterministic(t *testing.T) {
	var edits []func(*world)
	for _, task := range strings.Fields("a.a a.b a.c b.a b.b c.a d.a e.a f.a g.a") {
		edits = append(edits, waits(task), there(task))
	}
	s := newWorld(append(edits, limit(7))...)
	want := next(t, s)
	for range 20 {
		if diff := cmp.Diff(want, next(t, s)); diff != "" {
			t.Fatalf("the same state gives the same actions (-want +got):\n%s", diff)
		}
	}
}

func TestMessageIsBounded(t *testing.T) {
	s := newWorld(waits("a.one"), there("a.one", ours(time.Second), func(hr *helmv2.HelmRelease) {
		ready(metav1.ConditionFalse, "InstallFailed", strings.Repeat("ä", 10_000))(hr)
	}))
	got := next(t, s).Settle[0].Message
	if len(got) > 1024 || !strings.HasSuffix(got, "ä...") {
		t.Errorf("a message of Helm's is cut, at a character's border: %d bytes, ending in %q", len(got), got[len(got)-8:])
	}
}
