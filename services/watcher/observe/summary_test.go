package observe_test

import (
	"testing"
	"time"

	wfv1 "github.com/argoproj/argo-workflows/v3/pkg/apis/workflow/v1alpha1"
	helmv2 "github.com/fluxcd/helm-controller/api/v2"
	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"orkestra.dev/api/v1alpha1"
	"orkestra.dev/pkg/events"
	"orkestra.dev/services/watcher/observe"
)

// want is a status, one string for each condition: "False Failed: message".
type want struct {
	Conditions map[string]string
	Succeeded  int64
	Handled    string
	Again      time.Duration
}

func summarized(w observe.World) want {
	status, again := observe.Summarize(w)
	out := want{Conditions: map[string]string{}, Succeeded: status.LastSucceededGeneration, Handled: status.LastHandledReconcileAt, Again: again}
	for _, c := range status.Conditions {
		out.Conditions[c.Type] = string(c.Status) + " " + c.Reason + ": " + c.Message
	}
	return out
}

func TestSummarize(t *testing.T) {
	const (
		ready, working, stalled = v1alpha1.ConditionReady, v1alpha1.ConditionReconciling, v1alpha1.ConditionStalled
		forward                 = v1alpha1.ConditionForwardWorkflowSucceeded
		reverse                 = v1alpha1.ConditionReverseWorkflowSucceeded
		rollback                = v1alpha1.ConditionRollbackWorkflowSucceeded
		yes, no, unknown        = metav1.ConditionTrue, metav1.ConditionFalse, metav1.ConditionUnknown
	)
	older := events.Rollout{Group: "shop", UID: "uid-shop", Generation: generation - 1}
	requested := func(g *v1alpha1.ApplicationGroup) {
		g.Annotations = map[string]string{v1alpha1.AnnotationRequestedAt: "now"}
	}
	failed := node("web.redis", wfv1.NodeFailed, 0, "HelmRelease target/web-redis failed: boom")
	endedAgo := func(d time.Duration) func(*wfv1.Workflow) {
		return func(wf *wfv1.Workflow) { wf.Status.FinishedAt = at(-d) }
	}
	wfs := func(list ...*wfv1.Workflow) []*wfv1.Workflow { return list }
	doneText := "generation 3 is rolled out"
	failedText := "web.redis: HelmRelease target/web-redis failed: boom"

	for name, tc := range map[string]struct {
		reason string
		world  observe.World
		want   want
	}{
		"FirstVisit": {
			reason: "a group has its conditions from the first visit",
			world:  observe.World{Group: group()},
			want: want{Conditions: map[string]string{
				ready:   "Unknown Progressing: waiting for the spec to be accepted",
				working: "True Progressing: waiting for the spec to be accepted",
			}},
		},
		"Staging": {
			reason: "the message says how far it has come",
			world:  observe.World{Group: group(condition("Accepted", yes, "Accepted", "", generation))},
			want: want{Conditions: map[string]string{
				ready: "Unknown Progressing: staging the charts", working: "True Progressing: staging the charts",
			}},
		},
		"Invalid": {
			reason: "a spec that is refused waits for a change",
			world:  observe.World{Group: group(condition("Accepted", no, "InvalidSpec", "a -> b -> a", generation))},
			want:   want{Conditions: map[string]string{ready: "False InvalidSpec: a -> b -> a", stalled: "True InvalidSpec: a -> b -> a"}},
		},
		"ChartNotFound": {
			reason: "a chart that is not there waits for a change, in the original's words",
			world:  observe.World{Group: group(condition("Staged", no, "ChartNotFound", "no web 9.9.9", generation))},
			want:   want{Conditions: map[string]string{ready: "False ChartPullFailed: no web 9.9.9", stalled: "True ChartPullFailed: no web 9.9.9"}},
		},
		"RegistryAway": {
			reason: "a registry that does not answer is tried again",
			world:  observe.World{Group: group(condition("Staged", no, "RepositoryUnreachable", "timeout", generation))},
			want:   want{Conditions: map[string]string{ready: "False ChartPullFailed: timeout", working: "True Progressing: timeout"}},
		},
		"NotCompiled": {
			reason: "a workflow that cannot be made waits for a change",
			world: observe.World{Group: group(
				condition("Staged", yes, "Staged", "", generation), condition("Compiled", no, "X", "too large", generation))},
			want: want{Conditions: map[string]string{
				ready:   "False WorkflowTemplateGenerationFailed: too large",
				stalled: "True WorkflowTemplateGenerationFailed: too large",
			}},
		},
		"StaleConditions": {
			reason: "what was said of an older generation does not count",
			world: observe.World{Group: group(condition("Accepted", yes, "Accepted", "", generation),
				condition("Staged", no, "ChartNotFound", "old", generation-1), condition("Compiled", no, "X", "old", generation-1))},
			want: want{Conditions: map[string]string{
				ready: "Unknown Progressing: staging the charts", working: "True Progressing: staging the charts",
			}},
		},
		"Running": {
			reason: "a workflow at work says how far it is",
			world: observe.World{Group: group(), Workflows: wfs(workflow(events.WorkflowForward, wfv1.WorkflowRunning,
				node("web.a", wfv1.NodeSucceeded, 0, ""), node("web.b", wfv1.NodeRunning, 0, ""), failed))},
			want: want{Conditions: map[string]string{
				ready:   "Unknown Progressing: workflow shop-3-forward is running: 1 done, 1 active, 1 failed",
				working: "True Progressing: workflow shop-3-forward is running: 1 done, 1 active, 1 failed",
				forward: "Unknown Progressing: workflow shop-3-forward is running: 1 done, 1 active, 1 failed",
			}},
		},
		"WorkflowSuspended": {
			reason: "a workflow that a user holds says so",
			world: observe.World{Group: group(), Workflows: wfs(workflow(events.WorkflowForward, wfv1.WorkflowRunning,
				hold))},
			want: want{Conditions: map[string]string{
				ready:   "Unknown Progressing: workflow shop-3-forward is suspended",
				working: "True Progressing: workflow shop-3-forward is suspended",
				forward: "False Suspended: workflow shop-3-forward is suspended",
			}},
		},
		"Succeeded": {
			reason: "a rollout that is done is ready, and its generation and request are noted",
			world: observe.World{Group: group(requested), Workflows: wfs(workflow(events.WorkflowForward, wfv1.WorkflowSucceeded,
				of(events.Rollout{Group: "shop", UID: "uid-shop", Generation: generation, RequestedAt: "now"})))},
			want: want{Succeeded: generation, Handled: "now", Conditions: map[string]string{
				ready: "True Succeeded: " + doneText, forward: "True Succeeded: workflow shop-3-forward succeeded",
			}},
		},
		"SucceededBeforeTheRequest": {
			reason: "a new request for the same spec is a new rollout",
			world: observe.World{Group: group(requested, condition("Compiled", yes, "Compiled", "", generation)),
				Workflows: wfs(workflow(events.WorkflowForward, wfv1.WorkflowSucceeded))},
			want: want{Conditions: map[string]string{
				ready: "Unknown Progressing: waiting for the workflow", working: "True Progressing: waiting for the workflow",
				forward: "True Succeeded: workflow shop-3-forward succeeded",
			}},
		},
		"WorkflowCollected": {
			reason: "success outlives the workflow that it was seen on, and so does what was said of it",
			world: observe.World{Group: group(requested,
				condition(ready, yes, "Succeeded", doneText, generation),
				condition(forward, yes, "Succeeded", "workflow shop-3-forward succeeded", generation),
				func(g *v1alpha1.ApplicationGroup) {
					g.Status.LastSucceededGeneration, g.Status.LastHandledReconcileAt = generation, "now"
				})},
			want: want{Succeeded: generation, Handled: "now", Conditions: map[string]string{
				ready: "True Succeeded: " + doneText, forward: "True Succeeded: workflow shop-3-forward succeeded",
			}},
		},
		"ReplicaIsBehind": {
			reason: "success is not taken back by a replica that has not seen it yet",
			world: observe.World{
				Group: group(condition(ready, yes, "Succeeded", doneText, generation),
					condition(forward, yes, "Succeeded", "workflow shop-3-forward succeeded", generation),
					func(g *v1alpha1.ApplicationGroup) { g.Status.LastSucceededGeneration = generation }),
				Workflows: wfs(workflow(events.WorkflowForward, wfv1.WorkflowRunning)),
			},
			want: want{Succeeded: generation, Conditions: map[string]string{
				ready: "True Succeeded: " + doneText, forward: "True Succeeded: workflow shop-3-forward succeeded",
			}},
		},
		"SucceededOlderGeneration": {
			reason: "the success of an older generation is not that of this one",
			world: observe.World{
				Group: group(condition(ready, yes, "Succeeded", "generation 2 is rolled out", generation-1),
					func(g *v1alpha1.ApplicationGroup) { g.Status.LastSucceededGeneration = generation - 1 }),
				Workflows: wfs(workflow(events.WorkflowForward, wfv1.WorkflowSucceeded, of(older))),
			},
			want: want{Succeeded: generation - 1, Conditions: map[string]string{
				ready:   "Unknown Progressing: waiting for the spec to be accepted",
				working: "True Progressing: waiting for the spec to be accepted",
				forward: "True Succeeded: workflow shop-2-forward succeeded",
			}},
		},
		"JustFailed": {
			reason: "after a failure the workflow that undoes it is awaited for a while",
			world: observe.World{Group: group(), Workflows: wfs(
				workflow(events.WorkflowForward, wfv1.WorkflowFailed, failed, endedAgo(5*time.Second)))},
			want: want{Again: 10*time.Second + 10*time.Millisecond, Conditions: map[string]string{
				ready: "False WorkflowFailed: " + failedText, working: "True Progressing: " + failedText,
				forward: "False Failed: " + failedText,
			}},
		},
		"Failed": {
			reason: "a failure with nothing to undo waits for a change",
			world:  observe.World{Group: group(), Workflows: wfs(workflow(events.WorkflowForward, wfv1.WorkflowFailed, failed))},
			want: want{Conditions: map[string]string{
				ready: "False WorkflowFailed: " + failedText, stalled: "True WorkflowFailed: " + failedText,
				forward: "False Failed: " + failedText,
			}},
		},
		"RollingBack": {
			reason: "while the group goes back, the failure stays Ready's reason",
			world: observe.World{Group: group(), Workflows: wfs(
				workflow(events.WorkflowForward, wfv1.WorkflowFailed, failed),
				workflow(events.WorkflowRollback, wfv1.WorkflowRunning, made(-time.Minute)))},
			want: want{Conditions: map[string]string{
				ready: "False WorkflowFailed: " + failedText, working: "True Progressing: " + failedText,
				forward:  "False Failed: " + failedText,
				rollback: "Unknown Progressing: workflow shop-3-rollback is submitted",
			}},
		},
		"RolledBack": {
			reason: "a group that went back says both",
			world: observe.World{Group: group(), Workflows: wfs(
				workflow(events.WorkflowForward, wfv1.WorkflowFailed, failed),
				workflow(events.WorkflowRollback, wfv1.WorkflowSucceeded, made(-time.Minute)))},
			want: want{Conditions: map[string]string{
				ready: "False WorkflowFailed: " + failedText, stalled: "True WorkflowFailed: " + failedText,
				forward:  "False Failed: " + failedText,
				rollback: "True Succeeded: workflow shop-3-rollback succeeded",
			}},
		},
		"FailedAndCollected": {
			reason: "failure outlives its workflow too, and so does the way back",
			world: observe.World{Group: group(
				condition(ready, no, "WorkflowFailed", failedText, generation),
				condition(rollback, yes, "Succeeded", "workflow shop-3-rollback succeeded", generation))},
			want: want{Conditions: map[string]string{
				ready: "False WorkflowFailed: " + failedText, stalled: "True WorkflowFailed: " + failedText,
				rollback: "True Succeeded: workflow shop-3-rollback succeeded",
			}},
		},
		"AfterTheRollback": {
			reason: "a new generation is not rolled back, although the one before was",
			world: observe.World{
				Group: group(condition(rollback, yes, "Succeeded", "workflow shop-2-rollback succeeded", generation-1)),
				Workflows: wfs(
					workflow(events.WorkflowRollback, wfv1.WorkflowSucceeded, of(older)),
					workflow(events.WorkflowForward, wfv1.WorkflowSucceeded)),
			},
			want: want{Succeeded: generation, Conditions: map[string]string{
				ready: "True Succeeded: " + doneText, forward: "True Succeeded: workflow shop-3-forward succeeded",
			}},
		},
		"Terminated": {
			reason: "a workflow that was stopped says so",
			world: observe.World{Group: group(), Workflows: wfs(workflow(events.WorkflowForward, wfv1.WorkflowFailed, failed,
				func(wf *wfv1.Workflow) { wf.Spec.Shutdown = wfv1.ShutdownStrategyStop }))},
			want: want{Conditions: map[string]string{
				ready:   "False WorkflowFailed: workflow shop-3-forward was stopped",
				stalled: "True WorkflowFailed: workflow shop-3-forward was stopped",
				forward: "False Failed: workflow shop-3-forward was stopped",
			}},
		},
		"Deleting": {
			reason: "a group that goes is terminating, whatever it was",
			world: observe.World{
				Group: group(deleting, condition(ready, yes, "Succeeded", doneText, generation),
					func(g *v1alpha1.ApplicationGroup) { g.Status.LastSucceededGeneration = generation }),
				Workflows: wfs(
					workflow(events.WorkflowForward, wfv1.WorkflowSucceeded),
					workflow(events.WorkflowReverse, wfv1.WorkflowRunning, node("web.a", wfv1.NodeRunning, 0, ""))),
			},
			want: want{Succeeded: generation, Conditions: map[string]string{
				ready:   "False Terminating: workflow shop-3-reverse is running: 0 done, 1 active",
				working: "True Progressing: workflow shop-3-reverse is running: 0 done, 1 active",
				forward: "True Succeeded: workflow shop-3-forward succeeded",
				reverse: "Unknown Progressing: workflow shop-3-reverse is running: 0 done, 1 active",
			}},
		},
		"DeletingAlone": {
			reason: "of a group that goes alone nothing is said to be removed",
			world:  observe.World{Group: group(deleting, func(g *v1alpha1.ApplicationGroup) { g.Finalizers = []string{"orphan"} })},
			want: want{Conditions: map[string]string{
				ready: "False Terminating: the group goes, and its releases stay", working: "True Progressing: the group goes, and its releases stay",
			}},
		},
		"DeletionFailed": {
			reason: "a group that cannot go waits for a change, and says why",
			world: observe.World{Group: group(deleting), Workflows: wfs(
				workflow(events.WorkflowReverse, wfv1.WorkflowFailed, failed))},
			want: want{Conditions: map[string]string{
				ready: "False Terminating: " + failedText, stalled: "True Terminating: " + failedText,
				reverse: "False Failed: " + failedText,
			}},
		},
		"Held": {
			reason: "a group that is held says what is held, and neither works nor is stalled",
			world: observe.World{
				Group:     group(held, lastSucceeded(2)),
				Workflows: wfs(workflow(events.WorkflowForward, wfv1.WorkflowRunning, of(older), hold, node("web.a", wfv1.NodeSucceeded, 0, ""))),
			},
			want: want{Succeeded: 2, Conditions: map[string]string{
				ready:   "False Suspended: held by spec.suspend: the last good generation is 2, workflow shop-2-forward is suspended",
				forward: "False Suspended: workflow shop-2-forward is suspended",
			}},
		},
		"HeldFromTheFirst": {
			reason: "a group that is held before it was rolled out is not at work",
			world:  observe.World{Group: group(held, condition("Accepted", yes, "Suspended", "", generation))},
			want:   want{Conditions: map[string]string{ready: "False Suspended: held by spec.suspend: nothing is rolled out"}},
		},
		"HeldAndInvalid": {
			reason: "a spec that is refused is refused whether it is held or not",
			world:  observe.World{Group: group(held, condition("Accepted", no, "InvalidSpec", "a -> b -> a", generation))},
			want:   want{Conditions: map[string]string{ready: "False InvalidSpec: a -> b -> a", stalled: "True InvalidSpec: a -> b -> a"}},
		},
		"HeldAndDeleted": {
			reason: "a deletion goes its way, held or not",
			world:  observe.World{Group: group(held, deleting)},
			want: want{Conditions: map[string]string{
				ready:   "False Terminating: the releases of the group are going to be removed",
				working: "True Progressing: the releases of the group are going to be removed",
			}},
		},
		"Unchanged": {
			reason: "a request that finds nothing to do is a success without a workflow",
			world: observe.World{Group: group(requested, lastSucceeded(generation), unchanged("uid-shop/3/now"),
				condition("Compiled", yes, "Unchanged", "", generation))},
			want: want{Succeeded: generation, Handled: "now", Conditions: map[string]string{ready: "True Succeeded: " + doneText}},
		},
		"UnchangedAfterAFailure": {
			reason: "what is as it should be is ready, whatever became of the workflow before",
			world: observe.World{
				Group: group(unchanged("uid-shop/3"), condition("Compiled", yes, "Unchanged", "", generation)),
				Workflows: wfs(workflow(events.WorkflowForward, wfv1.WorkflowFailed, of(older), failed),
					workflow(events.WorkflowRollback, wfv1.WorkflowSucceeded, of(older))),
			},
			want: want{Succeeded: generation, Conditions: map[string]string{
				ready: "True Succeeded: " + doneText, forward: "False Failed: " + failedText,
			}},
		},
		"LookedAtAgain": {
			reason: "a group is ready while it is looked at again, and the request is not handled before that is done",
			world: observe.World{
				Group: group(requested, condition(ready, yes, "Succeeded", doneText, generation), lastSucceeded(generation),
					condition("Compiled", yes, "Unchanged", "", generation), unchanged("uid-shop/3"), condition("Staged", yes, "Staged", "", generation)),
				Workflows: wfs(workflow(events.WorkflowForward, wfv1.WorkflowSucceeded)),
			},
			want: want{Succeeded: generation, Conditions: map[string]string{
				ready: "True Succeeded: " + doneText, forward: "True Succeeded: workflow shop-3-forward succeeded",
			}},
		},
		"MendedAgain": {
			reason: "a group that was looked at again, and found wanting, is at work",
			world: observe.World{
				Group: group(requested, condition(ready, yes, "Succeeded", doneText, generation), lastSucceeded(generation)),
				Workflows: wfs(workflow(events.WorkflowForward, wfv1.WorkflowRunning,
					of(events.Rollout{Group: "shop", UID: "uid-shop", Generation: generation, RequestedAt: "now"}))),
			},
			want: want{Succeeded: generation, Conditions: map[string]string{
				ready:   "Unknown Progressing: workflow shop-3-forward is submitted",
				working: "True Progressing: workflow shop-3-forward is submitted",
				forward: "Unknown Progressing: workflow shop-3-forward is submitted",
			}},
		},
		"UnchangedBeforeTheRequest": {
			reason: "that an earlier request found nothing to do says nothing of this one",
			world: observe.World{Group: group(requested, unchanged("uid-shop/3"), condition("Compiled", yes, "Unchanged", "", generation),
				condition("Accepted", yes, "Accepted", "", generation))},
			want: want{Conditions: map[string]string{
				ready: "Unknown Progressing: waiting for the workflow", working: "True Progressing: waiting for the workflow",
			}},
		},
		"TryingAgain": {
			reason: "a failure is not the end while the workflow is to be tried again",
			world:  observe.World{Group: group(retries(2)), Workflows: wfs(workflow(events.WorkflowForward, wfv1.WorkflowFailed, failed))},
			want: want{Conditions: map[string]string{
				ready:   "Unknown Progressing: " + failedText + "; trying again (1 of 2)",
				working: "True Progressing: " + failedText + "; trying again (1 of 2)",
				forward: "Unknown Progressing: " + failedText + "; trying again (1 of 2)",
			}},
		},
		"TriedAgain": {
			reason: "of the workflows of a rollout the newest counts",
			world: observe.World{Group: group(retries(2)), Workflows: wfs(
				workflow(events.WorkflowForward, wfv1.WorkflowFailed, failed),
				workflow(events.WorkflowForward, wfv1.WorkflowRunning, again(1)))},
			want: want{Conditions: map[string]string{
				ready:   "Unknown Progressing: workflow shop-3-forward-r1 is submitted",
				working: "True Progressing: workflow shop-3-forward-r1 is submitted",
				forward: "Unknown Progressing: workflow shop-3-forward-r1 is submitted",
			}},
		},
		"TriedAgainInVain": {
			reason: "when no try is left, the failure is the end",
			world: observe.World{Group: group(retries(1)), Workflows: wfs(
				workflow(events.WorkflowForward, wfv1.WorkflowFailed, failed),
				workflow(events.WorkflowForward, wfv1.WorkflowFailed, again(1), failed))},
			want: want{Conditions: map[string]string{
				ready: "False WorkflowFailed: " + failedText, stalled: "True WorkflowFailed: " + failedText,
				forward: "False Failed: " + failedText,
			}},
		},
		"StoppedIsNotTriedAgain": {
			reason: "a workflow that somebody stopped is not tried again",
			world: observe.World{Group: group(retries(2)), Workflows: wfs(workflow(events.WorkflowForward, wfv1.WorkflowFailed,
				func(wf *wfv1.Workflow) { wf.Spec.Shutdown = wfv1.ShutdownStrategyStop }))},
			want: want{Conditions: map[string]string{
				ready:   "False WorkflowFailed: workflow shop-3-forward was stopped",
				stalled: "True WorkflowFailed: workflow shop-3-forward was stopped",
				forward: "False Failed: workflow shop-3-forward was stopped",
			}},
		},
		"FailureOutlivesARetry": {
			reason: "what another replica knows to be the end is the end, also where this one sees one workflow of two",
			world: observe.World{Group: group(retries(1), condition(ready, no, "WorkflowFailed", failedText, generation)),
				Workflows: wfs(workflow(events.WorkflowForward, wfv1.WorkflowFailed, failed))},
			want: want{Conditions: map[string]string{
				ready: "False WorkflowFailed: " + failedText, stalled: "True WorkflowFailed: " + failedText,
				forward: "False Failed: " + failedText,
			}},
		},
		"RequestAfterTheRollback": {
			reason: "a new request for a spec that was rolled back is not rolled back itself",
			world: observe.World{
				Group: group(requested, condition("Accepted", yes, "Accepted", "", generation),
					condition(rollback, yes, "Succeeded", "workflow shop-3-rollback succeeded", generation)),
				Workflows: wfs(workflow(events.WorkflowForward, wfv1.WorkflowFailed, failed), workflow(events.WorkflowRollback, wfv1.WorkflowSucceeded)),
			},
			want: want{Conditions: map[string]string{
				ready: "Unknown Progressing: staging the charts", working: "True Progressing: staging the charts",
				forward: "False Failed: " + failedText,
			}},
		},
		"ReleaseThatWillNotGo": {
			reason: "a release that will not go is named, in helm-controller's words, while it is waited for",
			world: observe.World{
				Group: group(deleting), Workflows: wfs(workflow(events.WorkflowReverse, wfv1.WorkflowRunning)),
				Releases: []*helmv2.HelmRelease{release(gone, helmReady(no, "UninstallFailed", "hook web-clean timed out")), release()},
			},
			want: want{Conditions: map[string]string{
				ready:   "False Terminating: workflow shop-3-reverse is submitted; HelmRelease target/web-redis cannot be removed: hook web-clean timed out",
				working: "True Progressing: workflow shop-3-reverse is submitted; HelmRelease target/web-redis cannot be removed: hook web-clean timed out",
				reverse: "Unknown Progressing: workflow shop-3-reverse is submitted",
			}},
		},
		"ReleaseThatSomebodyHolds": {
			reason: "a release that Helm is done with, and somebody else is not, says who",
			world: observe.World{
				Group: group(deleting), Workflows: wfs(workflow(events.WorkflowReverse, wfv1.WorkflowRunning)),
				Releases: []*helmv2.HelmRelease{release(gone, helmReady(no, "UninstallSucceeded", "done"), func(hr *helmv2.HelmRelease) {
					hr.Finalizers = []string{"example.com/hold"}
				})},
			},
			want: want{Conditions: map[string]string{
				ready:   "False Terminating: workflow shop-3-reverse is submitted; HelmRelease target/web-redis is held by the finalizer example.com/hold",
				working: "True Progressing: workflow shop-3-reverse is submitted; HelmRelease target/web-redis is held by the finalizer example.com/hold",
				reverse: "Unknown Progressing: workflow shop-3-reverse is submitted",
			}},
		},
		"ValuesMissing": {
			reason: "values that are not there are waited for",
			world: observe.World{Group: group(condition("Staged", yes, "Staged", "", generation),
				condition("Compiled", no, "ValuesNotFound", "no Secret target/web", generation))},
			want: want{Conditions: map[string]string{
				ready:   "False WorkflowTemplateGenerationFailed: no Secret target/web",
				working: "True Progressing: no Secret target/web",
			}},
		},
		"OtherGroupOfThatName": {
			reason: "the workflows of a group that was deleted do not count for the one that was made again",
			world: observe.World{Group: group(), Workflows: wfs(workflow(events.WorkflowForward, wfv1.WorkflowSucceeded,
				of(events.Rollout{Group: "shop", UID: "uid-before", Generation: generation})))},
			want: want{Conditions: map[string]string{
				ready:   "Unknown Progressing: waiting for the spec to be accepted",
				working: "True Progressing: waiting for the spec to be accepted",
			}},
		},
		"Newest": {
			reason: "of two attempts the newest is told of",
			world: observe.World{Group: group(deleting), Workflows: wfs(
				workflow(events.WorkflowReverse, wfv1.WorkflowSucceeded, made(-time.Minute)),
				workflow(events.WorkflowReverse, wfv1.WorkflowFailed, made(-2*time.Minute)))},
			want: want{Conditions: map[string]string{
				ready:   "False Terminating: the releases of the group are removed",
				working: "True Progressing: the releases of the group are removed",
				reverse: "True Succeeded: workflow shop-3-reverse succeeded",
			}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			tc.world.Now = now
			if diff := cmp.Diff(tc.want, summarized(tc.world)); diff != "" {
				t.Errorf("%s (-want +got):\n%s", tc.reason, diff)
			}
			status, _ := observe.Summarize(tc.world)
			if status.ObservedGeneration != generation {
				t.Errorf("the status speaks of the generation that there is: got %d", status.ObservedGeneration)
			}
			// Nothing is said by the second of two replicas that see the same.
			written(tc.world.Group, status)
			if again, _ := observe.Summarize(tc.world); observe.Compare(tc.world.Group, again) != observe.NothingNew {
				t.Errorf("a status that is written is at rest: got %+v", again)
			}
		})
	}
}
