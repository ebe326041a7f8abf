package execute_test

import (
	"testing"
	"time"

	wfv1 "github.com/argoproj/argo-workflows/v3/pkg/apis/workflow/v1alpha1"
	helmv2 "github.com/fluxcd/helm-controller/api/v2"
	"github.com/google/go-cmp/cmp"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"orkestra.dev/api/v1alpha1"
	"orkestra.dev/pkg/plan"
	"orkestra.dev/services/executor/execute"
)

// recently is an activation that leaves time.
var recently = metav1.Time{Time: now.Add(-time.Minute)}

// step adds a node of another kind than a release, activated at since.
func step(task string, kind plan.Kind, since metav1.Time, edit ...func(*plan.Node)) func(*world) {
	return func(w *world) {
		node(task, plan.Install, wfv1.NodeRunning, since)(w)
		n := w.Plan[task]
		n.Kind, n.Timeout = kind, metav1.Duration{Duration: 2 * time.Minute}
		switch kind {
		case plan.Job:
			n.Job = &batchv1.Job{ObjectMeta: metav1.ObjectMeta{Name: "migrate", Namespace: "target"}}
		case plan.Wait:
			n.Wait = &v1alpha1.WaitFor{APIVersion: "apps/v1", Kind: "Deployment", Name: "web", Namespace: "target", Expr: "self.status.ready"}
		case plan.Release, plan.Prepare:
		}
		for _, e := range edit {
			e(&n)
		}
		w.Plan[task] = n
	}
}

func undone(n *plan.Node) { n.Action = plan.Delete }

// aJob is the Job of a task as an earlier workflow made it.
func aJob(task string, edit ...func(*batchv1.Job)) func(*world) {
	return func(w *world) {
		j := &batchv1.Job{ObjectMeta: metav1.ObjectMeta{
			Name: "migrate", Namespace: "target", UID: "uid-job", ResourceVersion: "3",
			Labels:      map[string]string{v1alpha1.LabelHeritage: v1alpha1.Heritage, v1alpha1.LabelOwner: group},
			Annotations: map[string]string{v1alpha1.AnnotationGroupUID: groupUID, v1alpha1.AnnotationWorkflow: "shop-0-forward", v1alpha1.AnnotationWorkflowUID: "uid-before"},
		}}
		for _, e := range edit {
			e(j)
		}
		w.Jobs = map[string]*batchv1.Job{task: j}
	}
}

func ourJob(j *batchv1.Job) {
	j.Annotations[v1alpha1.AnnotationWorkflow], j.Annotations[v1alpha1.AnnotationWorkflowUID] = workflow, wfUID
}

func ended(kind batchv1.JobConditionType) func(*batchv1.Job) {
	return func(j *batchv1.Job) {
		j.Status.Conditions = []batchv1.JobCondition{
			{Type: batchv1.JobSuspended, Status: corev1.ConditionFalse},
			{Type: kind, Status: corev1.ConditionTrue, Reason: "BackoffLimitExceeded", Message: "Job has reached the specified backoff limit"},
		}
	}
}

func object(task string, content map[string]any) func(*world) {
	return func(w *world) { w.Objects = map[string]execute.Object{task: {Content: content}} }
}

func expects(expr string) func(*plan.Node) { return func(n *plan.Node) { n.Wait.Expr = expr } }

type stepCase struct {
	reason string
	state  execute.State
	want   summary
}

func runStepCases(t *testing.T, cases map[string]stepCase) {
	t.Helper()
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(tc.want, summarize(next(t, tc.state))); diff != "" {
				t.Errorf("%s (-want +got):\n%s", tc.reason, diff)
			}
		})
	}
}

func fails(task, message string) summary { return summary{Fail: map[string]string{task: message}} }

func TestNextOfAJob(t *testing.T) {
	newer := func(w *world) { w.Group.Generation = 3 }
	held := func(w *world) { w.Workflow.Spec.Suspend = new(true) }
	runStepCases(t, map[string]stepCase{
		"Missing":   {"a Job that is not there is run", newWorld(step("a.job", plan.Job, recently)), summary{Run: []string{"a.job"}}},
		"Running":   {"a Job that runs is looked at again", newWorld(step("a.job", plan.Job, recently), aJob("a.job", ourJob)), summary{Poll: []string{"a.job"}}},
		"Complete":  {"a Job that is complete settles its node", newWorld(step("a.job", plan.Job, recently), aJob("a.job", ourJob, ended(batchv1.JobComplete))), summary{Succeed: []string{"a.job"}}},
		"RunBefore": {"a Job that an earlier workflow ran to its end is not run again", newWorld(step("a.job", plan.Job, recently), aJob("a.job", ended(batchv1.JobComplete))), summary{Succeed: []string{"a.job"}}},
		"RunningBefore": {"a Job that an earlier workflow began is waited for",
			newWorld(step("a.job", plan.Job, recently), aJob("a.job")), summary{Poll: []string{"a.job"}}},
		"Failing": {"a Job whose pods are still being ended has not failed yet",
			newWorld(step("a.job", plan.Job, recently), aJob("a.job", ourJob, ended(batchv1.JobFailureTarget))), summary{Poll: []string{"a.job"}}},
		"Failed": {"a Job that failed fails its node, in its own words",
			newWorld(step("a.job", plan.Job, recently), aJob("a.job", ourJob, ended(batchv1.JobFailed))),
			fails("a.job", "Job target/migrate failed: Job has reached the specified backoff limit")},
		"FailedBefore": {"a Job that failed under an earlier workflow is run again",
			newWorld(step("a.job", plan.Job, recently), aJob("a.job", ended(batchv1.JobFailed))), summary{Run: []string{"a.job"}}},
		"Foreign": {"a Job that Orkestra did not make is left alone",
			newWorld(step("a.job", plan.Job, recently), aJob("a.job", func(j *batchv1.Job) { j.Labels = nil })),
			fails("a.job", "Job target/migrate is there already and was not made by Orkestra: it is neither taken over nor deleted")},
		"OtherGroup": {"a Job of another group is left alone",
			newWorld(step("a.job", plan.Job, recently), aJob("a.job", func(j *batchv1.Job) { j.Labels[v1alpha1.LabelOwner] = "other" })),
			fails("a.job", `Job target/migrate belongs to group "other"`)},
		"Going": {"a Job that is being deleted is run again when it is gone",
			newWorld(step("a.job", plan.Job, recently), aJob("a.job", func(j *batchv1.Job) { j.DeletionTimestamp = &recently })), summary{Poll: []string{"a.job"}}},
		"GoingForTooLong": {"a Job that does not go does not hold the node for ever",
			newWorld(step("a.job", plan.Job, activated), aJob("a.job", func(j *batchv1.Job) { j.DeletionTimestamp = &activated })),
			fails("a.job", "Job target/migrate is still being deleted after 2m")},
		"Expired": {"a Job that does not end fails its node, and says how far it came",
			newWorld(step("a.job", plan.Job, activated), aJob("a.job", ourJob, func(j *batchv1.Job) { j.Status.Active, j.Status.Failed = 1, 2 })),
			fails("a.job", "Job target/migrate did not complete within 2m: 1 of its pods are active, 2 have failed")},
		"GoneForTooLong": {"a Job that somebody deletes again and again is not run for ever",
			newWorld(step("a.job", plan.Job, activated)), fails("a.job", "Job target/migrate is not there after 2m")},
		"CompleteAtLast": {"a Job that is complete is complete, however late it is seen",
			newWorld(step("a.job", plan.Job, activated), aJob("a.job", ourJob, ended(batchv1.JobComplete))), summary{Succeed: []string{"a.job"}}},
		"Delete":     {"the delete of a Job does nothing", newWorld(step("a.job", plan.Job, recently, undone)), summary{Succeed: []string{"a.job"}}},
		"Suspended":  {"a workflow that a user holds runs no Job", newWorld(step("a.job", plan.Job, recently), held), summary{}},
		"Superseded": {"an older generation runs no Job", newWorld(step("a.job", plan.Job, recently), newer), summary{Superseded: "generation 3 of group shop"}},
		"SupersededRunning": {"a Job that was begun is settled by an older generation, too",
			newWorld(step("a.job", plan.Job, recently), aJob("a.job", ourJob), newer), summary{Poll: []string{"a.job"}}},
		"NoRoom": {"Jobs do not count against the parallelism of releases",
			newWorld(limit(1), waits("a.one"), there("a.one", ours(time.Second), progressing), step("b.job", plan.Job, recently)),
			summary{Run: []string{"b.job"}}},
		"TakesNoRoom": {"nor do they keep a release from its turn",
			newWorld(limit(1), waits("a.one"), step("b.job", plan.Job, recently), aJob("b.job", ourJob)),
			summary{Apply: []string{"a.one"}, Poll: []string{"b.job"}}},
		"Held":    {"a Job that cannot be begun this time is not begun", newWorld(step("a.job", plan.Job, recently), func(w *world) { w.Held = map[string]bool{"a.job": true} }), summary{}},
		"Refused": {"a Job that the API server does not take fails its node", newWorld(step("a.job", plan.Job, recently), func(w *world) { w.Refused = map[string]string{"a.job": "cannot be written: no containers"} }), fails("a.job", "Job target/migrate cannot be written: no containers")},
	})
}

func TestRunOfAJob(t *testing.T) {
	short := func(n *plan.Node) { n.Job.Spec.TTLSecondsAfterFinished = new(int32(0)) }
	s := newWorld(step("a.job", plan.Job, recently, short), aJob("a.job", ended(batchv1.JobFailed)))
	run := next(t, s).Run[0]
	if run.Failed == nil || run.Failed.UID != "uid-job" || run.Job.UID != "" {
		t.Errorf("the Job that failed is deleted, and another created: %+v", run)
	}
	if diff := cmp.Diff([]execute.Namespace{{Name: "target"}}, run.Needs.Namespaces); diff != "" {
		t.Errorf("the Job's namespace must be there before (-want +got):\n%s", diff)
	}
	if got := *run.Job.Spec.TTLSecondsAfterFinished; got != 300 {
		t.Errorf("a Job stays until its end was seen: it goes after %d s", got)
	}
	want := map[string]string{v1alpha1.LabelHeritage: v1alpha1.Heritage, v1alpha1.LabelOwner: group, v1alpha1.LabelGeneration: "2"}
	if diff := cmp.Diff(want, run.Job.Labels); diff != "" {
		t.Errorf("a Job says whose it is (-want +got):\n%s", diff)
	}
	s.Jobs["a.job"] = run.Job
	if diff := cmp.Diff(summary{Poll: []string{"a.job"}}, summarize(next(t, s))); diff != "" {
		t.Errorf("what was run is recognised, and not run again (-want +got):\n%s", diff)
	}
}

func TestNextOfAWait(t *testing.T) {
	secret := func(n *plan.Node) { n.Wait.APIVersion, n.Wait.Kind, n.Wait.Name = "v1", "Secret", "token" }
	noExpr := expects("")
	available := func(status string) map[string]any {
		return map[string]any{"apiVersion": "example.com/v1", "kind": "Database", "metadata": map[string]any{"generation": int64(1)},
			"status": map[string]any{"observedGeneration": int64(1), "conditions": []any{
				map[string]any{"type": "Ready", "status": status, "reason": "X", "message": "creating the disk"}}}}
	}
	ready := map[string]any{"status": map[string]any{"ready": true}}
	runStepCases(t, map[string]stepCase{
		"Holds":    {"a node whose object is as it should be is settled", newWorld(step("a.wait", plan.Wait, recently), object("a.wait", ready)), summary{Succeed: []string{"a.wait"}}},
		"HoldsNot": {"one whose object is not is looked at again", newWorld(step("a.wait", plan.Wait, recently, expects("!self.status.ready")), object("a.wait", ready)), summary{Poll: []string{"a.wait"}}},
		"NoField":  {"a field that is not there yet may come", newWorld(step("a.wait", plan.Wait, recently), object("a.wait", map[string]any{})), summary{Poll: []string{"a.wait"}}},
		"NoObject": {"an object that is not there yet may come", newWorld(step("a.wait", plan.Wait, recently)), summary{Poll: []string{"a.wait"}}},
		"Unknown": {"a kind that is not known yet may be installed", newWorld(step("a.wait", plan.Wait, recently),
			func(w *world) { w.Objects = map[string]execute.Object{"a.wait": {Problem: "no such kind"}} }), summary{Poll: []string{"a.wait"}}},
		"Current":    {"without an expression the object must be current", newWorld(step("a.wait", plan.Wait, recently, noExpr), object("a.wait", available("True"))), summary{Succeed: []string{"a.wait"}}},
		"NotCurrent": {"and is waited for while it is not", newWorld(step("a.wait", plan.Wait, recently, noExpr), object("a.wait", available("False"))), summary{Poll: []string{"a.wait"}}},
		"NoExpression": {"what is no expression will never hold",
			newWorld(step("a.wait", plan.Wait, recently, expects("status.ready")), object("a.wait", ready)),
			fails("a.wait", "Deployment target/web cannot be waited for: ERROR: <input>:1:1: undeclared reference to 'status' (in container '')\n | status.ready\n | ^")},
		"Expired": {"a wait whose time is up fails its node, and says what was seen last",
			newWorld(step("a.wait", plan.Wait, activated), object("a.wait", map[string]any{})),
			fails("a.wait", `Deployment target/web is not as it should be after 2m: "self.status.ready" does not hold: no such key: status`)},
		"ExpiredMissing": {"an object that never came is named", newWorld(step("a.wait", plan.Wait, activated)),
			fails("a.wait", "Deployment target/web is not as it should be after 2m: it is not there")},
		"ExpiredNotCurrent": {"kstatus says what is missing", newWorld(step("a.wait", plan.Wait, activated, noExpr), object("a.wait", available("False"))),
			fails("a.wait", "Deployment target/web is not as it should be after 2m: InProgress: creating the disk")},
		"ExpiredSecret": {"nothing is said of what a Secret holds",
			newWorld(step("a.wait", plan.Wait, activated, secret, expects("self.data[self.data.key] == 'x'")), object("a.wait", map[string]any{"data": map[string]any{"key": "hunter2"}})),
			fails("a.wait", `Secret target/token is not as it should be after 2m: "self.data[self.data.key] == 'x'" does not hold`)},
		"DefaultTimeout": {"without a time of its own it has that of its release",
			newWorld(step("a.wait", plan.Wait, metav1.Time{Time: now.Add(-5*time.Minute - time.Second)}, func(n *plan.Node) { n.Timeout = metav1.Duration{} })),
			fails("a.wait", "Deployment target/web is not as it should be after 5m: it is not there")},
		"Delete":  {"there is nothing to wait for on the way back", newWorld(step("a.wait", plan.Wait, recently, undone)), summary{Succeed: []string{"a.wait"}}},
		"Limited": {"a wait does not count against the parallelism", newWorld(limit(1), step("a.wait", plan.Wait, activated, func(n *plan.Node) { n.Timeout.Duration = 2 * time.Hour }), waits("b.one")), summary{Apply: []string{"b.one"}, Poll: []string{"a.wait"}}},
	})
}

func TestNextOfAPreparation(t *testing.T) {
	keeps := func(n *plan.Node) { n.Release.Spec.StorageNamespace = "orkestra-shop-redis" }
	runStepCases(t, map[string]stepCase{
		"Begin":     {"what a pod needs is made", newWorld(limit(1), waits("a.one"), there("a.one", ours(time.Second), progressing), step("b.prepare", plan.Prepare, recently)), summary{Prepare: []string{"b.prepare"}}},
		"Done":      {"and then the node is settled", newWorld(step("a.prepare", plan.Prepare, recently), func(w *world) { w.Prepared = map[string]bool{"a.prepare": true} }), summary{Succeed: []string{"a.prepare"}}},
		"Delete":    {"nothing is made for a delete", newWorld(step("a.prepare", plan.Prepare, recently, undone)), summary{Succeed: []string{"a.prepare"}}},
		"Refused":   {"what cannot be made fails the node", newWorld(step("a.prepare", plan.Prepare, recently), func(w *world) { w.Refused = map[string]string{"a.prepare": "cannot be written: x"} }), fails("a.prepare", "HelmRelease target/a.prepare cannot be written: x")},
		"Unknown":   {"a step of a later Orkestra is refused", newWorld(step("a.new", "teleport", recently)), fails("a.new", `HelmRelease target/a.new is part of a step of kind "teleport", which this executor does not know`)},
		"Suspended": {"nothing is made for a workflow that a user holds", newWorld(step("a.prepare", plan.Prepare, recently), func(w *world) { w.Workflow.Spec.Suspend = new(true) }), summary{}},
	})

	s := newWorld(step("a.prepare", plan.Prepare, recently, undone, keeps))
	if got := next(t, s).Settle[0].StorageNamespace; got != "orkestra-shop-redis" {
		t.Errorf("when a pod has deleted a release, its records go: %q", got)
	}
	left := existing("a.prepare", func(hr *helmv2.HelmRelease) { hr.Spec.StorageNamespace = "orkestra-shop-redis" })
	s.Releases[execute.KeyOf(left)] = left
	if got := next(t, s).Settle[0].StorageNamespace; got != "" {
		t.Errorf("and not while it is there: Helm needs %q for the uninstall", got)
	}
}

func TestReadyExpr(t *testing.T) {
	expr := func(e string) func(*world) {
		return func(w *world) {
			n := w.Plan["a.one"]
			n.ReadyExpr = e
			w.Plan["a.one"] = n
		}
	}
	const revision = `self.status.history[0].chartVersion == "1.2.3" && self.kind == "HelmRelease"`
	installed := func(version string) func(*helmv2.HelmRelease) {
		return func(hr *helmv2.HelmRelease) { hr.Status.History = helmv2.Snapshots{{ChartVersion: version}} }
	}
	runStepCases(t, map[string]stepCase{
		"Holds":    {"a release whose expression holds is done", newWorld(waits("a.one"), there("a.one", ours(time.Second), installed("1.2.3")), expr(revision)), summary{Succeed: []string{"a.one"}}},
		"HoldsNot": {"one with which only Helm is content is looked at again", newWorld(waits("a.one"), there("a.one", ours(time.Second), installed("1.2.2")), expr(revision)), summary{Poll: []string{"a.one"}}},
		"InFlight": {"and counts against the parallelism", newWorld(limit(1), waits("a.one"), there("a.one", ours(time.Second)), expr(revision), waits("b.two")), summary{Poll: []string{"a.one"}}},
		"NotReady": {"while helm-controller is at work, it tells", newWorld(waits("a.one"), there("a.one", ours(time.Second), progressing), expr("true")), summary{}},
		"Expired": {"a release whose expression never holds fails with it", newWorld(waits("a.one"), there("a.one", ours(6*time.Minute)), expr(revision)),
			fails("a.one", `HelmRelease target/a.one did not become ready within 5m: Helm is done, but "self.status.history[0].chartVersion == \"1.2.3\" && self.kind == \"HelmRelease\"" does not hold: no such key: history`)},
		"NoExpression": {"what is no expression will never hold", newWorld(waits("a.one"), there("a.one", ours(time.Second)), expr("1 + 1")),
			fails("a.one", "HelmRelease target/a.one has a readyExpr that is none: the expression gives int: it must be true or false")},
	})
}

func TestMissingChart(t *testing.T) {
	missing := func(said time.Duration) func(*helmv2.HelmRelease) {
		return func(hr *helmv2.HelmRelease) {
			ready(metav1.ConditionFalse, helmv2.ArtifactFailedReason, `could not get Source object: HelmChart.source.toolkit.fluxcd.io "web" not found`)(hr)
			hr.Status.ObservedGeneration = 0
			hr.Status.Conditions[0].LastTransitionTime = metav1.Time{Time: now.Add(-said)}
		}
	}
	runStepCases(t, map[string]stepCase{
		"JustNow": {"a chart that helm-controller has not seen yet may come", newWorld(waits("a.one"), there("a.one", ours(10*time.Second), missing(4*time.Second))), summary{}},
		"Gone": {"one that is gone is not waited for as long as Helm may take", newWorld(waits("a.one"), there("a.one", ours(10*time.Second), missing(6*time.Second))),
			fails("a.one", `HelmRelease target/a.one failed: could not get Source object: HelmChart.source.toolkit.fluxcd.io "web" not found`)},
	})
}

func TestValuesComeWithTheRelease(t *testing.T) {
	values := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "orkestra-values-1a2b", Namespace: "target"}}
	s := newWorld(waits("a.one"), func(w *world) {
		n := w.Plan["a.one"]
		n.Values = values
		w.Plan["a.one"] = n
	})
	want := execute.Needs{Namespaces: []execute.Namespace{{Name: "target"}}, Values: values}
	if diff := cmp.Diff(want, next(t, s).Apply[0].Needs); diff != "" {
		t.Errorf("a release that refers to values needs them (-want +got):\n%s", diff)
	}
}
