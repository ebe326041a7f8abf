package observe_test

import (
	"fmt"
	"testing"
	"time"

	wfv1 "github.com/argoproj/argo-workflows/v3/pkg/apis/workflow/v1alpha1"
	"github.com/google/go-cmp/cmp"

	"orkestra.dev/api/v1alpha1"
	"orkestra.dev/pkg/events"
	"orkestra.dev/services/watcher/observe"
)

// plans gives a workflow the graph of two applications of which the second has two
// releases, one of them with three steps: five leaves.
func plans(wf *wfv1.Workflow) {
	dag := func(name string, templates ...string) wfv1.Template {
		t := wfv1.Template{Name: name, DAG: &wfv1.DAGTemplate{}}
		for i, template := range templates {
			t.DAG.Tasks = append(t.DAG.Tasks, wfv1.DAGTask{Name: fmt.Sprintf("t%d", i), Template: template})
		}
		return t
	}
	wf.Spec.Entrypoint = "entry"
	wf.Spec.Templates = []wfv1.Template{
		dag("entry", "mesh", "web"), dag("mesh", "leaf"), dag("web", "leaf", "steps"), dag("steps", "leaf", "pod", "leaf"),
		dag("not called", "leaf"),
		{Name: "leaf", Suspend: &wfv1.SuspendTemplate{}}, {Name: "pod"},
	}
}

func startedAt(d time.Duration) func(*wfv1.Workflow) {
	return func(wf *wfv1.Workflow) { wf.Status.StartedAt = at(d) }
}

func TestRolloutStatus(t *testing.T) {
	done := func(tasks ...string) func(*wfv1.Workflow) {
		return func(wf *wfv1.Workflow) {
			for _, task := range tasks {
				node(task, wfv1.NodeSucceeded, -time.Minute, "")(wf)
			}
		}
	}
	told := func(s v1alpha1.RolloutStatus) func(*v1alpha1.ApplicationGroup) {
		return func(g *v1alpha1.ApplicationGroup) { g.Status.Rollout = &s }
	}
	forward := v1alpha1.RolloutStatus{
		Revision: "shop-3-forward", Generation: 3, Type: "forward", Workflow: "shop-3-forward", Phase: "Running",
		Started: new(at(-time.Hour)), Done: 2, Total: 5, Progress: "2/5",
	}
	finished := forward
	finished.Phase, finished.Finished, finished.Done, finished.Progress = "Succeeded", new(at(-time.Minute)), 5, "5/5"
	retried := forward
	retried.Workflow, retried.Done, retried.Progress = "shop-3-forward-r1", 0, "0/5"
	cut := retried
	cut.Workflow = "sho-3-forward-r1"
	pending := v1alpha1.RolloutStatus{
		Revision: "shop-3-forward", Generation: 3, Type: "forward", Workflow: "shop-3-forward", Total: 5, Progress: "0/5",
	}
	rollback := v1alpha1.RolloutStatus{
		Revision: "shop-2-forward", Generation: 3, Type: "rollback", Workflow: "shop-3-rollback", Phase: "Running",
		Started: new(at(-time.Minute)), Total: 5, Progress: "0/5",
	}
	named, unknown, reverse := rollback, rollback, rollback
	named.Revision, unknown.Revision = "shop-1-forward", ""
	reverse.Revision, reverse.Type, reverse.Workflow = "", "reverse", "shop-3-reverse"
	running := workflow(events.WorkflowForward, wfv1.WorkflowRunning, plans, startedAt(-time.Hour), done("mesh.mesh", "web.redis"),
		dag("web"), node("web.web.job", wfv1.NodeRunning, 0, ""))
	good := workflow(events.WorkflowForward, wfv1.WorkflowSucceeded, of(events.Rollout{Group: "shop", UID: "uid-shop", Generation: 2}), made(-2*time.Hour))
	failed := workflow(events.WorkflowForward, wfv1.WorkflowFailed, plans, startedAt(-time.Hour))
	back := func(edit ...func(*wfv1.Workflow)) *wfv1.Workflow {
		return workflow(events.WorkflowRollback, wfv1.WorkflowRunning,
			append(edit, plans, made(-time.Minute), startedAt(-time.Minute))...)
	}
	wfs := func(list ...*wfv1.Workflow) []*wfv1.Workflow { return list }

	for name, tc := range map[string]struct {
		reason string
		group  *v1alpha1.ApplicationGroup
		wfs    []*wfv1.Workflow
		want   *v1alpha1.RolloutStatus
	}{
		"None":      {reason: "a group without a workflow has no rollout", group: group()},
		"Running":   {reason: "steps that Argo has not reached count too", group: group(), wfs: wfs(running), want: &forward},
		"Submitted": {reason: "a workflow that Argo has not seen has no times", group: group(), wfs: wfs(workflow(events.WorkflowForward, "", plans)), want: &pending},
		"Collected": {reason: "what became of a workflow outlives it", group: group(told(finished)), want: &finished},
		"Behind": {
			reason: "the end of a workflow is not taken back by a replica that has not seen it",
			group:  group(told(finished)), wfs: wfs(running), want: &finished,
		},
		"FurtherBehind": {
			reason: "nor is a workflow that a replica has not seen at all",
			group:  group(told(rollback)), wfs: wfs(failed), want: &rollback,
		},
		"MadeAgain": {
			reason: "a workflow that was made again under its name is another one",
			group:  group(told(finished)), want: &pending,
			wfs: wfs(workflow(events.WorkflowForward, "", plans, made(-time.Second))),
		},
		"TriedAgain": {
			reason: "a workflow that tries again goes to the same revision",
			group:  group(), want: &retried,
			wfs: wfs(failed, workflow(events.WorkflowForward, wfv1.WorkflowRunning, plans, again(1), startedAt(-time.Hour))),
		},
		"TriedAgainUnderACutName": {
			reason: "also where its own name had to be cut",
			group:  group(), want: &cut,
			wfs: wfs(failed, workflow(events.WorkflowForward, wfv1.WorkflowRunning, plans, again(1), startedAt(-time.Hour),
				func(wf *wfv1.Workflow) { wf.Name = "sho-3-forward-r1" })),
		},
		"RollingBack": {
			reason: "a rollback goes to the last that succeeded",
			group:  group(told(finished)), wfs: wfs(good, failed, back()), want: &rollback,
		},
		"RollingBackByName": {
			reason: "a rollback that names its revision is believed",
			group:  group(), want: &named,
			wfs: wfs(good, back(func(wf *wfv1.Workflow) { wf.Annotations[v1alpha1.AnnotationRevision] = "shop-1-forward" })),
		},
		"RollingBackToTheUnknown": {
			reason: "a revision whose workflow is gone is not guessed",
			group:  group(), wfs: wfs(failed, back()), want: &unknown,
		},
		"Reversing": {
			reason: "a reverse goes to no revision",
			group:  group(), want: &reverse,
			wfs: wfs(good, workflow(events.WorkflowReverse, wfv1.WorkflowRunning, plans, made(-time.Minute), startedAt(-time.Minute))),
		},
	} {
		t.Run(name, func(t *testing.T) {
			status, _ := observe.Summarize(observe.World{Group: tc.group, Workflows: tc.wfs, Now: now})
			if diff := cmp.Diff(tc.want, status.Rollout); diff != "" {
				t.Errorf("%s (-want +got):\n%s", tc.reason, diff)
			}
		})
	}
}

func TestWorkflowThatCallsItself(t *testing.T) {
	wf := workflow(events.WorkflowForward, wfv1.WorkflowRunning, plans, func(wf *wfv1.Workflow) {
		web := &wf.Spec.Templates[2]
		web.DAG.Tasks = append(web.DAG.Tasks, wfv1.DAGTask{Name: "again", Template: "entry"})
	})
	status, _ := observe.Summarize(observe.World{Group: group(), Workflows: []*wfv1.Workflow{wf}, Now: now})
	if status.Rollout.Total != 5 {
		t.Errorf("a graph by hand that has no end is counted once: got %d", status.Rollout.Total)
	}
}

func TestCompareRollout(t *testing.T) {
	running := func() *v1alpha1.RolloutStatus {
		return &v1alpha1.RolloutStatus{Workflow: "w", Type: "forward", Phase: "Running", Generation: generation, Done: 1, Total: 5}
	}
	for name, tc := range map[string]struct {
		change func(*v1alpha1.RolloutStatus)
		want   observe.Told
	}{
		"nothing":                     {func(*v1alpha1.RolloutStatus) {}, observe.NothingNew},
		"one node of hundreds":        {func(r *v1alpha1.RolloutStatus) { r.Done = 2 }, observe.Details},
		"no longer running":           {func(r *v1alpha1.RolloutStatus) { r.Phase = "Pending" }, observe.Details},
		"the end":                     {func(r *v1alpha1.RolloutStatus) { r.Phase = "Succeeded" }, observe.News},
		"another workflow":            {func(r *v1alpha1.RolloutStatus) { r.Workflow = "x" }, observe.Underway},
		"a generation in the forward": {func(r *v1alpha1.RolloutStatus) { r.Generation++ }, observe.Underway},
	} {
		g := group()
		status, _ := observe.Summarize(observe.World{Group: g, Now: now})
		written(g, status)
		g.Status.Rollout, status.Rollout = running(), running()
		tc.change(status.Rollout)
		if got := observe.Compare(g, status); got != tc.want {
			t.Errorf("%s: got %v, want %v", name, got, tc.want)
		}
	}
}
