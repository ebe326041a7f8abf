package compiler

import (
	"errors"
	"strings"
	"testing"

	wfv1 "github.com/argoproj/argo-workflows/v3/pkg/apis/workflow/v1alpha1"
	helmv2 "github.com/fluxcd/helm-controller/api/v2"
	"github.com/fluxcd/pkg/apis/meta"
	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"orkestra.dev/api/v1alpha1"
	"orkestra.dev/pkg/events"
	"orkestra.dev/services/compiler/compile"
)

func suspended(group *v1alpha1.ApplicationGroup) *v1alpha1.ApplicationGroup {
	group.Spec.Suspend = true
	return group
}

func failedAt(r events.Rollout, attempt int) events.Fact {
	return events.New(r, events.RolloutFailed{
		WorkflowRef: events.WorkflowRef{Workflow: compile.WorkflowName(r, events.WorkflowForward, attempt), WorkflowType: events.WorkflowForward},
		Reason:      "Failed",
	})
}

func succeededFact(r events.Rollout, kind events.WorkflowType, attempt int) events.Fact {
	return events.New(r, events.RolloutSucceeded{WorkflowRef: events.WorkflowRef{Workflow: compile.WorkflowName(r, kind, attempt), WorkflowType: kind}})
}

// must handle a fact without an error.
func (c *cluster) must(f events.Fact) []events.Fact {
	c.t.Helper()
	facts, err := c.handle(f)
	if err != nil {
		c.t.Fatalf("%s: %v", f.Type(), err)
	}
	return facts
}

// install plays executor and helm-controller: all releases of a workflow's plan are
// there and ready, and the workflow has ended.
func (c *cluster) install(workflow string) {
	c.t.Helper()
	nodes, _ := c.plan(workflow)
	if len(nodes) == 0 {
		c.t.Fatalf("workflow %s has no plan", workflow)
	}
	for _, n := range nodes {
		if n.Values != nil {
			if err := c.Create(c.t.Context(), n.Values.DeepCopy()); err != nil && !apierrors.IsAlreadyExists(err) {
				c.t.Fatal(err)
			}
		}
		hr := n.Release.DeepCopy()
		err := c.Create(c.t.Context(), hr)
		if apierrors.IsAlreadyExists(err) {
			var have helmv2.HelmRelease
			if err := c.Get(c.t.Context(), client.ObjectKeyFromObject(hr), &have); err != nil {
				c.t.Fatal(err)
			}
			have.Spec, have.Annotations, have.Labels = hr.Spec, hr.Annotations, hr.Labels
			hr, err = &have, c.Update(c.t.Context(), &have)
		}
		if err != nil {
			c.t.Fatal(err)
		}
		hr.Status.ObservedGeneration = hr.Generation
		hr.Status.Conditions = []metav1.Condition{{Type: meta.ReadyCondition, Status: metav1.ConditionTrue, ObservedGeneration: hr.Generation}}
		if err := c.Update(c.t.Context(), hr); err != nil {
			c.t.Fatal(err)
		}
	}
	c.end(workflow, wfv1.WorkflowSucceeded)
}

func (c *cluster) end(workflow string, phase wfv1.WorkflowPhase) {
	c.t.Helper()
	wf := c.workflows()[workflow]
	if err := c.Update(c.t.Context(), finished(&wf, phase)); err != nil {
		c.t.Fatal(err)
	}
}

// edit the group as its owner does, and give the rollout that comes of it.
func (c *cluster) edit(change func(*v1alpha1.ApplicationGroup)) events.Rollout {
	c.t.Helper()
	var group v1alpha1.ApplicationGroup
	if err := c.Get(c.t.Context(), client.ObjectKey{Name: "g"}, &group); err != nil {
		c.t.Fatal(err)
	}
	change(&group)
	group.Generation++
	if err := c.Update(c.t.Context(), &group); err != nil {
		c.t.Fatal(err)
	}
	r := rollout(group.Generation)
	r.RequestedAt = group.Annotations[v1alpha1.AnnotationRequestedAt]
	return r
}

func (c *cluster) revisions() map[string]string {
	c.t.Helper()
	var list appsv1.ControllerRevisionList
	if err := c.List(c.t.Context(), &list); err != nil {
		c.t.Fatal(err)
	}
	out := map[string]string{}
	for _, r := range list.Items {
		out[r.Name] = r.Labels[v1alpha1.LabelRevision]
	}
	return out
}

func TestSuspend(t *testing.T) {
	r := rollout(3)
	runs, rollback, reverse := workflow(t, rollout(2), events.WorkflowForward, 0), workflow(t, rollout(1), events.WorkflowRollback, 0), workflow(t, rollout(1), events.WorkflowReverse, 0)
	done := finished(workflow(t, rollout(1), events.WorkflowForward, 0), wfv1.WorkflowSucceeded)
	c := newCluster(t, suspended(newGroup()), runs, rollback, reverse, done)
	for range 2 {
		c.must(events.New(r, events.GroupSuspended{}))
	}
	got := map[string]bool{}
	for name, wf := range c.workflows() {
		got[name] = held(&wf)
	}
	want := map[string]bool{runs.Name: true, rollback.Name: true, reverse.Name: false, done.Name: false}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("what runs is held, but for a reverse (-want +got):\n%s", diff)
	}
	for _, f := range []events.Fact{events.New(r, chartsStaged), failedAt(r, 0)} {
		if _, err := c.handle(f); !events.IsSuperseded(err) {
			t.Errorf("nothing is compiled for a group that is held: %s gives %v", f.Type(), err)
		}
	}
	resumed := c.edit(func(g *v1alpha1.ApplicationGroup) { g.Spec.Suspend = false })
	if _, err := c.handle(events.New(r, events.GroupSuspended{})); !events.IsSuperseded(err) {
		t.Errorf("a suspension that is over holds nothing: %v", err)
	}
	c.must(events.New(resumed, chartsStaged))
	if wf := c.workflows()[runs.Name]; wf.Spec.Shutdown != wfv1.ShutdownStrategyStop || held(&wf) {
		t.Errorf("a workflow that is held is let go to be stopped: Argo never ends it else: %+v", wf.Spec)
	}
}

// A workflow that was stopped and is held, whoever did that, would stay for ever.
func TestStoppedAndHeld(t *testing.T) {
	older := workflow(t, rollout(2), events.WorkflowForward, 0)
	older.Spec.Shutdown, older.Spec.Suspend = wfv1.ShutdownStrategyTerminate, new(true)
	c := newCluster(t, newGroup(), older)
	c.must(events.New(rollout(3), chartsStaged))
	if wf := c.workflows()[older.Name]; wf.Spec.Shutdown != wfv1.ShutdownStrategyTerminate || held(&wf) {
		t.Errorf("it is let go, and stopped as it was: %+v", wf.Spec)
	}
}

func TestRetries(t *testing.T) {
	group := newGroup()
	group.Spec.Remediation = &v1alpha1.Remediation{Retries: 2}
	c := newCluster(t, group)
	r := rollout(3)
	name := func(attempt int) string { return compile.WorkflowName(r, events.WorkflowForward, attempt) }
	c.must(events.New(r, chartsStaged))
	for attempt := range 2 {
		c.end(name(attempt), wfv1.WorkflowFailed)
		for _, nth := range []string{"first", "second"} {
			facts := c.must(failedAt(r, attempt))
			if len(facts) != 1 || facts[0].Data.(events.WorkflowSubmitted).Workflow != name(attempt+1) {
				t.Fatalf("the %s time it is said, failure %d is answered by retry %d: %v", nth, attempt, attempt+1, facts)
			}
		}
	}
	if !strings.HasSuffix(name(1), "-r1") || len(c.workflows()) != 3 {
		t.Errorf("two retries are three workflows: %v", c.workflows())
	}
	for _, wf := range c.workflows() {
		if to := wf.Annotations[v1alpha1.AnnotationRevision]; to != compile.RevisionName(r) {
			t.Errorf("workflow %s is another try of the same revision, and says %q", wf.Name, to)
		}
	}
	if nodes, _ := c.plan(name(2)); nodes["a.a-x"].Release.Spec.ChartRef.Name != "g-a-x-01234567" || nodes["a.a-x"].Release.Annotations[v1alpha1.AnnotationWorkflow] != name(2) {
		t.Errorf("a retry has the charts of the first: %v", nodes)
	}
	c.install(name(2))
	c.end(name(2), wfv1.WorkflowFailed)
	facts := c.must(failedAt(r, 2))
	if len(facts) != 1 || facts[0].Data.(events.WorkflowSubmitted).WorkflowType != events.WorkflowReverse {
		t.Errorf("when no retry is left the group is remedied: %v", facts)
	}
}

// A retry that succeeds makes the rollout's revision a good one.
func TestRetrySucceeds(t *testing.T) {
	group := newGroup()
	group.Spec.Remediation = &v1alpha1.Remediation{Retries: 1}
	c := newCluster(t, group)
	r := rollout(3)
	c.must(events.New(r, chartsStaged))
	c.end(compile.WorkflowName(r, events.WorkflowForward, 0), wfv1.WorkflowFailed)
	c.must(failedAt(r, 0))
	c.install(compile.WorkflowName(r, events.WorkflowForward, 1))
	c.must(succeededFact(r, events.WorkflowForward, 1))
	if diff := cmp.Diff(map[string]string{compile.RevisionName(r): v1alpha1.RevisionGood}, c.revisions()); diff != "" {
		t.Errorf("revisions (-want +got):\n%s", diff)
	}
}

func TestUnchanged(t *testing.T) {
	c := newCluster(t, newGroup())
	first := rollout(3)
	c.must(events.New(first, chartsStaged))
	c.install(compile.WorkflowName(first, events.WorkflowForward, 0))
	c.must(succeededFact(first, events.WorkflowForward, 0))

	asked := c.edit(func(g *v1alpha1.ApplicationGroup) {
		g.Annotations = map[string]string{v1alpha1.AnnotationRequestedAt: "now"}
	})
	want := []events.Fact{events.New(asked, events.RolloutUnchanged{Releases: 3})}
	for range 2 {
		if diff := cmp.Diff(want, c.must(events.New(asked, chartsStaged))); diff != "" {
			t.Errorf("a group that is as it should be (-want +got):\n%s", diff)
		}
	}
	var group v1alpha1.ApplicationGroup
	if err := c.Get(t.Context(), client.ObjectKey{Name: "g"}, &group); err != nil {
		t.Fatal(err)
	}
	if cond := c.compiled(); cond.Status != metav1.ConditionTrue || cond.Reason != v1alpha1.ReasonUnchanged || group.Status.LastUnchangedRollout != asked.ID() {
		t.Errorf("the status says so: %+v, %s", cond, group.Status.LastUnchangedRollout)
	}
	if len(c.workflows()) != 1 {
		t.Errorf("there is no workflow: %v", c.workflows())
	}
	if diff := cmp.Diff(map[string]string{compile.RevisionName(first): v1alpha1.RevisionGood}, c.revisions()); diff != "" {
		t.Errorf("the same state is one revision (-want +got):\n%s", diff)
	}

	// A spec that says the same in other words is a revision of its own.
	other := c.edit(func(g *v1alpha1.ApplicationGroup) { g.Spec.Applications[0].Spec.Chart.Version = ">=1.0.0" })
	if facts := c.must(events.New(other, chartsStaged)); len(facts) != 1 || facts[0].Type() != events.TypeRolloutUnchanged {
		t.Errorf("it calls for the same releases: %v", facts)
	}
	if c.revisions()[compile.RevisionName(other)] != v1alpha1.RevisionGood {
		t.Errorf("its revision is kept, and good: %v", c.revisions())
	}

	drifted := release("b", uid)
	if err := c.Delete(t.Context(), drifted); err != nil {
		t.Fatal(err)
	}
	if facts := c.must(events.New(other, chartsStaged)); len(facts) != 1 || facts[0].Type() != events.TypeWorkflowSubmitted {
		t.Errorf("what was removed by hand is put back: %v", facts)
	}
}

func holding(name, password string) *corev1.Secret {
	return &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "target", Name: name}, Data: map[string][]byte{"values.yaml": []byte("password: " + password)}}
}

func withValuesFrom() *v1alpha1.ApplicationGroup {
	group := newGroup()
	group.Spec.Applications[1].Spec.Release.ValuesFrom = []helmv2.ValuesReference{{Kind: "Secret", Name: "mine"}}
	return group
}

func TestValuesNotFound(t *testing.T) {
	c := newCluster(t, withValuesFrom())
	_, err := c.handle(events.New(rollout(3), chartsStaged))
	if _, waits := events.RetryDelay(err); !waits {
		t.Fatalf("it is tried again: %v", err)
	}
	cond := c.compiled()
	if cond == nil || cond.Status != metav1.ConditionFalse || cond.Reason != v1alpha1.ReasonValuesNotFound || !strings.Contains(cond.Message, "Secret target/mine") {
		t.Errorf("the condition names the reference: %+v", cond)
	}
	if len(c.workflows()) != 0 {
		t.Error("nothing is submitted")
	}
	if err := c.Create(t.Context(), holding("mine", "hunter2")); err != nil {
		t.Fatal(err)
	}
	c.must(events.New(rollout(3), chartsStaged))
	if cond := c.compiled(); cond.Status != metav1.ConditionTrue {
		t.Errorf("when it is there the group is compiled: %+v", cond)
	}
}

// A rollback has the values of its revision, and what nobody refers to any more goes.
func TestValuesAreKept(t *testing.T) {
	c := newCluster(t, withValuesFrom(), holding("mine", "first"), holding("orkestra-values-of-another", "x"))
	first := rollout(3)
	firstWorkflow := compile.WorkflowName(first, events.WorkflowForward, 0)
	secretOf := func(workflow string) *corev1.Secret {
		nodes, _ := c.plan(workflow)
		return nodes["b.b-b"].Values
	}
	c.must(events.New(first, chartsStaged))
	c.install(firstWorkflow)
	c.must(succeededFact(first, events.WorkflowForward, 0))

	if err := c.Update(t.Context(), holding("mine", "second")); err != nil {
		t.Fatal(err)
	}
	second := c.edit(func(g *v1alpha1.ApplicationGroup) {
		g.Annotations = map[string]string{v1alpha1.AnnotationRequestedAt: "now"}
	})
	secondWorkflow := compile.WorkflowName(second, events.WorkflowForward, 0)
	c.must(events.New(second, chartsStaged))
	if a, b := secretOf(firstWorkflow), secretOf(secondWorkflow); a.Name == b.Name || !strings.Contains(string(b.Data["values.yaml"]), "second") {
		t.Fatalf("a value that has changed is another Secret: %s, %s", a.Name, b.Name)
	}
	c.install(secondWorkflow)
	c.end(secondWorkflow, wfv1.WorkflowFailed)
	facts := c.must(failedAt(second, 0))
	if len(facts) != 1 || facts[0].Data.(events.WorkflowSubmitted).WorkflowType != events.WorkflowRollback {
		t.Fatalf("it is rolled back: %v", facts)
	}
	back := facts[0].Data.(events.WorkflowSubmitted).Workflow
	if diff := cmp.Diff(secretOf(firstWorkflow).Data, secretOf(back).Data); diff != "" {
		t.Errorf("to the values that it had (-want +got):\n%s", diff)
	}
	c.must(succeededFact(second, events.WorkflowRollback, 0))
	if err := c.Get(t.Context(), client.ObjectKeyFromObject(secretOf(secondWorkflow)), &corev1.Secret{}); err != nil {
		t.Errorf("while a workflow runs all values stay: %v", err)
	}
	c.install(back)
	c.must(succeededFact(second, events.WorkflowRollback, 0))
	if err := c.Get(t.Context(), client.ObjectKeyFromObject(secretOf(secondWorkflow)), &corev1.Secret{}); !apierrors.IsNotFound(err) {
		t.Errorf("values that no release refers to are removed: %v", err)
	}
	for _, stays := range []client.Object{secretOf(firstWorkflow), holding("mine", ""), holding("orkestra-values-of-another", "")} {
		if err := c.Get(t.Context(), client.ObjectKeyFromObject(stays), &corev1.Secret{}); err != nil {
			t.Errorf("Secret %s stays: %v", stays.GetName(), err)
		}
	}
	var all corev1.SecretList
	if err := c.List(t.Context(), &all, client.InNamespace("orkestra")); err != nil {
		t.Fatal(err)
	}
	kept := 0
	for _, s := range all.Items {
		if strings.HasSuffix(s.Name, "-values") {
			kept++
		}
	}
	if kept != 2 {
		t.Errorf("each revision keeps its own values: %d", kept)
	}
}

// A submitter that dies over a revision with values leaves what the next one can finish,
// with the values that are there by then.
func TestValuesDieAtAnyWrite(t *testing.T) {
	died := errors.New("died")
	for last := range 10 {
		c := newCluster(t, withValuesFrom(), holding("mine", "first"))
		writes := 0
		c.before = func(string, client.Object) error {
			if writes++; writes > last {
				return died
			}
			return nil
		}
		_, err := c.handle(events.New(rollout(3), chartsStaged))
		if err == nil {
			if last < 5 {
				t.Errorf("it takes %d writes: a revision, its values, the plan, the workflow, its owner, the condition", last)
			}
			return
		}
		c.before = nil
		submitted := len(c.workflows()) > 0
		if err := c.Update(t.Context(), holding("mine", "second")); err != nil {
			t.Fatal(err)
		}
		c.must(events.New(rollout(3), chartsStaged))
		var snapshot corev1.Secret
		key := client.ObjectKey{Namespace: "orkestra", Name: compile.SnapshotName(compile.RevisionName(rollout(3)))}
		if err := c.Get(t.Context(), key, &snapshot); err != nil {
			t.Fatal(err)
		}
		nodes, _ := c.plan(compile.WorkflowName(rollout(3), events.WorkflowForward, 0))
		inPlan := string(nodes["b.b-b"].Values.Data["values.yaml"])
		if kept := string(snapshot.Data["b"]); kept != inPlan || strings.Contains(kept, "first") != submitted {
			t.Errorf("after a death at write %d the revision has %s and the plan %s", last+1, kept, inPlan)
		}
	}
	t.Error("it never came to an end")
}

// A Job stays as long as a revision would run it, and no longer.
func TestJobsAreCollected(t *testing.T) {
	group := newGroup()
	group.Spec.RevisionHistoryLimit = new(int32(1))
	group.Spec.Applications[1].Spec.Workflow = []v1alpha1.Executor{
		{DAG: v1alpha1.DAG{Name: "install"}},
		{DAG: v1alpha1.DAG{Name: "smoke", Dependencies: []string{"install"}}, Type: v1alpha1.ExecutorJob,
			Job: &apiextensionsv1.JSON{Raw: []byte(`{"template":{"spec":{"containers":[{"name":"c","image":"i"}]}}}`)}},
	}
	c := newCluster(t, group)
	roll := func(r events.Rollout) *batchv1.Job {
		t.Helper()
		name := compile.WorkflowName(r, events.WorkflowForward, 0)
		c.must(events.New(r, chartsStaged))
		nodes, _ := c.plan(name)
		job := nodes["b.b-b.smoke"].Job
		if err := c.Create(t.Context(), job.DeepCopy()); err != nil {
			t.Fatal(err)
		}
		c.install(name)
		c.must(succeededFact(r, events.WorkflowForward, 0))
		return job
	}
	there := func(job *batchv1.Job) bool {
		err := c.Get(t.Context(), client.ObjectKeyFromObject(job), &batchv1.Job{})
		if err != nil && !apierrors.IsNotFound(err) {
			t.Fatal(err)
		}
		return err == nil
	}
	first := roll(rollout(3))
	if !there(first) {
		t.Error("the Job of a revision that is kept is removed")
	}
	second := roll(c.edit(func(g *v1alpha1.ApplicationGroup) {
		g.Spec.Applications[1].Spec.Release.Values = &apiextensionsv1.JSON{Raw: []byte(`{"a":1}`)}
	}))
	if there(first) || !there(second) {
		t.Errorf("the Job of a revision that is gone goes, and the other stays: %v, %v", there(first), there(second))
	}
}

// alone is a group that was deleted with --cascade=orphan.
func alone(group *v1alpha1.ApplicationGroup) *v1alpha1.ApplicationGroup {
	group.DeletionTimestamp = new(metav1.Now())
	group.Finalizers = []string{v1alpha1.Finalizer}
	group.Annotations = map[string]string{v1alpha1.AnnotationOrphan: v1alpha1.Orphaned}
	return group
}
