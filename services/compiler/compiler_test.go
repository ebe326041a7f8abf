package compiler

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	wfv1 "github.com/argoproj/argo-workflows/v3/pkg/apis/workflow/v1alpha1"
	argo "github.com/argoproj/argo-workflows/v3/workflow/common"
	helmv2 "github.com/fluxcd/helm-controller/api/v2"
	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"orkestra.dev/api/v1alpha1"
	"orkestra.dev/pkg/events"
	"orkestra.dev/pkg/plan"
	"orkestra.dev/services/compiler/compile"
)

const uid = "6c1f5c4e-7b1e-4a54-8a4d-0e5f1d2c3b4a"

func rollout(generation int64) events.Rollout {
	return events.Rollout{Group: "g", UID: uid, Generation: generation}
}

// newGroup has two applications, b after a, and a is split.
func newGroup() *v1alpha1.ApplicationGroup {
	app := func(name string, dependencies ...string) v1alpha1.Application {
		return v1alpha1.Application{DAG: v1alpha1.DAG{Name: name, Dependencies: dependencies}, Spec: v1alpha1.ApplicationSpec{
			Chart:   v1alpha1.ChartRef{URL: "https://charts.example.com", Name: name, Version: "1.0.0"},
			Release: v1alpha1.Release{TargetNamespace: "target"},
		}}
	}
	a := app("a")
	a.Spec.Subcharts = []v1alpha1.DAG{{Name: "x"}}
	return &v1alpha1.ApplicationGroup{
		ObjectMeta: metav1.ObjectMeta{Name: "g", UID: uid, Generation: 3, Finalizers: []string{v1alpha1.Finalizer}},
		Spec:       v1alpha1.ApplicationGroupSpec{Applications: []v1alpha1.Application{a, app("b", "a")}},
	}
}

func deleted(group *v1alpha1.ApplicationGroup) *v1alpha1.ApplicationGroup {
	group.DeletionTimestamp = new(metav1.Now())
	return group
}

func staged() []events.StagedApplication {
	return []events.StagedApplication{
		{Name: "a", Chart: "a", Version: "1.0.0", Pieces: []events.StagedPiece{
			{Subchart: "x", Chart: "a-x", Version: "1.0.0", HelmChart: "g-a-x-01234567"},
			{Chart: "a", Version: "1.0.0", HelmChart: "g-a-01234567"},
		}},
		{Name: "b", Chart: "b", Version: "1.0.0", Pieces: []events.StagedPiece{{Chart: "b", Version: "1.0.0", HelmChart: "g-b-01234567"}}},
	}
}

// cluster is an API server in memory, and Argo: what is told to stop has, unless it is down.
type cluster struct {
	client.Client
	t        *testing.T
	argoDown bool
	// before is called before each write; calls do not overlap.
	before func(verb string, obj client.Object) error
	sync.Mutex
}

func (c *cluster) ask(verb string, obj client.Object) error {
	c.Lock()
	defer c.Unlock()
	if c.before != nil {
		return c.before(verb, obj)
	}
	return nil
}

func newCluster(t *testing.T, objects ...client.Object) *cluster {
	t.Helper()
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{clientgoscheme.AddToScheme, v1alpha1.AddToScheme, wfv1.AddToScheme, helmv2.AddToScheme} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	c := &cluster{t: t}
	c.Client = fake.NewClientBuilder().WithScheme(scheme).WithObjects(objects...).WithStatusSubresource(&v1alpha1.ApplicationGroup{}).
		WithInterceptorFuncs(interceptor.Funcs{
			Create: func(ctx context.Context, w client.WithWatch, obj client.Object, opts ...client.CreateOption) error {
				if err := c.ask("create", obj); err != nil {
					return err
				}
				if wf, ok := obj.(*wfv1.Workflow); ok {
					wf.UID = "uid-of-workflow"
				}
				return w.Create(ctx, obj, opts...)
			},
			Patch: func(ctx context.Context, w client.WithWatch, obj client.Object, patch client.Patch, opts ...client.PatchOption) error {
				if err := c.ask("patch", obj); err != nil {
					return err
				}
				if err := w.Patch(ctx, obj, patch, opts...); err != nil {
					return err
				}
				if wf, ok := obj.(*wfv1.Workflow); ok && wf.Spec.Shutdown != "" && !c.argoDown {
					return w.Update(ctx, finished(wf.DeepCopy(), wfv1.WorkflowFailed))
				}
				return nil
			},
			SubResourcePatch: func(ctx context.Context, w client.Client, sub string, obj client.Object, patch client.Patch, opts ...client.SubResourcePatchOption) error {
				if err := c.ask("patch", obj); err != nil {
					return err
				}
				return w.SubResource(sub).Patch(ctx, obj, patch, opts...)
			},
		}).Build()
	return c
}

func finished(wf *wfv1.Workflow, phase wfv1.WorkflowPhase) *wfv1.Workflow {
	wf.Labels[argo.LabelKeyCompleted] = "true"
	wf.Status.Phase = phase
	return wf
}

func (c *cluster) handle(f events.Fact) ([]events.Fact, error) {
	s := &compiler{
		client: c, options: compile.Options{Namespace: "orkestra", Parallelism: 7}, log: slog.New(slog.DiscardHandler),
		patience: patience{poll: time.Millisecond, most: 500 * time.Millisecond, again: time.Second},
	}
	return s.Handle(c.t.Context(), f)
}

func (c *cluster) workflows() map[string]wfv1.Workflow {
	c.t.Helper()
	var list wfv1.WorkflowList
	if err := c.List(c.t.Context(), &list); err != nil {
		c.t.Fatal(err)
	}
	out := map[string]wfv1.Workflow{}
	for _, wf := range list.Items {
		out[wf.Name] = wf
	}
	return out
}

func (c *cluster) plan(workflow string) (map[string]plan.Node, []corev1.Secret) {
	c.t.Helper()
	var list corev1.SecretList
	if err := c.List(c.t.Context(), &list, client.InNamespace("orkestra"), client.MatchingLabels{plan.LabelWorkflow: workflow}); err != nil {
		c.t.Fatal(err)
	}
	nodes, err := plan.Nodes(list.Items)
	if err != nil {
		c.t.Fatal(err)
	}
	return nodes, list.Items
}

func (c *cluster) compiled() *metav1.Condition {
	c.t.Helper()
	var group v1alpha1.ApplicationGroup
	if err := c.Get(c.t.Context(), client.ObjectKey{Name: "g"}, &group); err != nil {
		c.t.Fatal(err)
	}
	return apimeta.FindStatusCondition(group.Status.Conditions, v1alpha1.ConditionCompiled)
}

// workflow is one that a rollout has left in the cluster.
func workflow(t *testing.T, r events.Rollout, kind events.WorkflowType, attempt int) *wfv1.Workflow {
	t.Helper()
	identity, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	return &wfv1.Workflow{ObjectMeta: metav1.ObjectMeta{
		Name: compile.WorkflowName(r, kind, attempt), Namespace: "orkestra", UID: "uid-of-workflow",
		Labels:      map[string]string{v1alpha1.LabelOwner: r.Group, v1alpha1.LabelWorkflowType: string(kind)},
		Annotations: map[string]string{v1alpha1.AnnotationRollout: string(identity)},
	}}
}

func release(name, group string) *helmv2.HelmRelease {
	return &helmv2.HelmRelease{ObjectMeta: metav1.ObjectMeta{
		Name: name, Namespace: "target",
		Labels:      map[string]string{v1alpha1.LabelOwner: "g", v1alpha1.LabelApplication: name},
		Annotations: map[string]string{v1alpha1.AnnotationGroupUID: group, v1alpha1.AnnotationTask: name + "-" + name},
	}}
}

var chartsStaged = events.ChartsStaged{Applications: staged()}

func TestForwardSubmits(t *testing.T) {
	c := newCluster(t, newGroup())
	r := rollout(3)
	name := compile.WorkflowName(r, events.WorkflowForward, 0)
	want := []events.Fact{events.New(r, events.WorkflowSubmitted{
		WorkflowRef: events.WorkflowRef{Workflow: name, WorkflowUID: "uid-of-workflow", WorkflowType: events.WorkflowForward},
		Releases:    3,
	})}
	for _, nth := range []string{"first", "second"} {
		got, err := c.handle(events.New(r, chartsStaged))
		if err != nil {
			t.Fatalf("the %s time: %v", nth, err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("the %s time it is said all the same (-want +got):\n%s", nth, diff)
		}
	}
	if all := c.workflows(); len(all) != 1 || *all[name].Spec.Parallelism != 7 {
		t.Errorf("one rollout has one workflow, with the parallelism of the installation: %v", all)
	}
	nodes, secrets := c.plan(name)
	if len(nodes) != 3 || nodes["a.a-x"].Release.Spec.ChartRef.Name != "g-a-x-01234567" {
		t.Errorf("the plan has a node for each release: %v", nodes)
	}
	for _, s := range secrets {
		if len(s.OwnerReferences) != 1 || s.OwnerReferences[0].UID != "uid-of-workflow" {
			t.Errorf("the workflow owns the plan: %v", s.OwnerReferences)
		}
	}
	if cond := c.compiled(); cond == nil || cond.Status != metav1.ConditionTrue || cond.ObservedGeneration != 3 {
		t.Errorf("Compiled is true of the generation: %v", cond)
	}
}

// A submitter that dies after any of its writes leaves what the next one can finish.
func TestForwardDiesAtAnyWrite(t *testing.T) {
	died := errors.New("died")
	for last := range 8 {
		c := newCluster(t, newGroup())
		writes := 0
		c.before = func(string, client.Object) error {
			if writes++; writes > last {
				return died
			}
			return nil
		}
		_, err := c.handle(events.New(rollout(3), chartsStaged))
		if done := err == nil; done {
			if last < 4 {
				t.Errorf("it takes %d writes: a secret, the workflow, its owner, the condition", last)
			}
			return
		}
		if !errors.Is(err, died) {
			t.Fatalf("after %d writes: %v", last, err)
		}
		c.before = nil
		if _, err := c.handle(events.New(rollout(3), chartsStaged)); err != nil {
			t.Fatalf("after a death at write %d: %v", last+1, err)
		}
		name := compile.WorkflowName(rollout(3), events.WorkflowForward, 0)
		nodes, secrets := c.plan(name)
		if len(c.workflows()) != 1 || len(nodes) != 3 || secrets[0].OwnerReferences[0].Kind != "Workflow" || c.compiled() == nil {
			t.Errorf("after a death at write %d something is missing", last+1)
		}
	}
	t.Error("it never came to an end")
}

func TestForwardReplacesAnAbandonedPlan(t *testing.T) {
	c := newCluster(t, newGroup())
	c.before = func(_ string, obj client.Object) error {
		if _, ok := obj.(*wfv1.Workflow); ok {
			return errors.New("died")
		}
		return nil
	}
	other := staged()
	other[1].Pieces[0].HelmChart = "g-b-older"
	if _, err := c.handle(events.New(rollout(3), events.ChartsStaged{Applications: other})); err == nil {
		t.Fatal("it should have died")
	}
	c.before = nil
	if _, err := c.handle(events.New(rollout(3), chartsStaged)); err != nil {
		t.Fatal(err)
	}
	nodes, _ := c.plan(compile.WorkflowName(rollout(3), events.WorkflowForward, 0))
	if got := nodes["b.b-b"].Release.Spec.ChartRef.Name; got != "g-b-01234567" {
		t.Errorf("the plan has chart %s", got)
	}
}

func TestForwardStopsOlderWorkflows(t *testing.T) {
	older, before, otherGroup := workflow(t, rollout(2), events.WorkflowForward, 0), workflow(t, rollout(1), events.WorkflowForward, 0), workflow(t, rollout(2), events.WorkflowForward, 0)
	otherGroup.Name, otherGroup.Labels[v1alpha1.LabelOwner] = "other", "other"
	c := newCluster(t, newGroup(), older, finished(before, wfv1.WorkflowSucceeded), otherGroup)
	c.before = func(verb string, obj client.Object) error {
		if _, ok := obj.(*wfv1.Workflow); ok && verb == "create" {
			if wf := c.workflows()[older.Name]; !wf.Status.Fulfilled() {
				t.Error("a workflow is not submitted while an older one runs")
			}
		}
		return nil
	}
	if _, err := c.handle(events.New(rollout(3), chartsStaged)); err != nil {
		t.Fatal(err)
	}
	all := c.workflows()
	if all[older.Name].Spec.Shutdown != wfv1.ShutdownStrategyStop {
		t.Error("the older workflow is stopped")
	}
	if all[before.Name].Spec.Shutdown != "" || all["other"].Spec.Shutdown != "" {
		t.Error("a workflow that has finished, or is another group's, is left alone")
	}
}

func TestForwardWaitsForArgo(t *testing.T) {
	c := newCluster(t, newGroup(), workflow(t, rollout(2), events.WorkflowForward, 0))
	c.argoDown = true
	_, err := c.handle(events.New(rollout(3), chartsStaged))
	if _, waits := events.RetryDelay(err); !waits {
		t.Errorf("while the older workflow has not stopped it waits: %v", err)
	}
	if len(c.workflows()) != 1 {
		t.Error("and submits nothing")
	}
}

func TestSuperseded(t *testing.T) {
	requested := newGroup()
	requested.Annotations = map[string]string{v1alpha1.AnnotationRequestedAt: "now"}
	another := newGroup()
	another.UID = "another"
	cases := map[string]struct {
		reason  string
		objects []client.Object
		fact    events.Fact
	}{
		"Gone":          {"a group that is gone", nil, events.New(rollout(3), chartsStaged)},
		"Older":         {"a generation that is no longer current", []client.Object{newGroup()}, events.New(rollout(2), chartsStaged)},
		"Requested":     {"a rollout that was requested again", []client.Object{requested}, events.New(rollout(3), chartsStaged)},
		"MadeAgain":     {"a group that was deleted and made again", []client.Object{another}, events.New(rollout(3), chartsStaged)},
		"Deleted":       {"a group that is being deleted is not rolled out", []client.Object{deleted(newGroup())}, events.New(rollout(3), chartsStaged)},
		"Alone":         {"of a group that goes alone nothing is undone", []client.Object{alone(newGroup()), release("a", uid)}, events.New(rollout(3), events.GroupDeleting{})},
		"NotDeleted":    {"a group that is not being deleted is not undone", []client.Object{newGroup(), release("a", uid)}, events.New(rollout(3), events.GroupDeleting{})},
		"NewerWorkflow": {"a newer workflow is not stopped", []client.Object{newGroup(), workflow(t, rollout(4), events.WorkflowForward, 0)}, events.New(rollout(3), chartsStaged)},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			c := newCluster(t, tc.objects...)
			writes := 0
			c.before = func(string, client.Object) error { writes++; return nil }
			facts, err := c.handle(tc.fact)
			if !events.IsSuperseded(err) || len(facts) > 0 || writes > 0 {
				t.Errorf("%s: superseded and nothing done; got %v, %v, %d writes", tc.reason, facts, err, writes)
			}
		})
	}
}

func TestForwardRejects(t *testing.T) {
	group := newGroup()
	group.Spec.Applications[1].Spec.Workflow = []v1alpha1.Executor{{DAG: v1alpha1.DAG{Name: "e"}, Type: v1alpha1.ExecutorKeptn}}
	c := newCluster(t, group)
	facts, err := c.handle(events.New(rollout(3), chartsStaged))
	if err != nil {
		t.Fatalf("that a group cannot be compiled is an outcome: %v", err)
	}
	if len(facts) != 1 {
		t.Fatalf("one fact, not %v", facts)
	}
	said, ok := facts[0].Data.(events.WorkflowRejected)
	cond := c.compiled()
	if !ok || said.Reason != v1alpha1.ReasonInvalidSpec || !strings.Contains(said.Message, "spec.applications[1].spec.workflow[0].params.configMapRef") {
		t.Errorf("the fact names the field: %+v", facts[0].Data)
	}
	if cond == nil || cond.Status != metav1.ConditionFalse || cond.Reason != said.Reason || cond.Message != said.Message {
		t.Errorf("the condition says the same: %+v", cond)
	}
	if len(c.workflows()) != 0 {
		t.Error("nothing is submitted")
	}
}

// What the API server will never take is an outcome; what may pass is not.
func TestForwardRefusedByTheAPIServer(t *testing.T) {
	refuse := func(err error) ([]events.Fact, error) {
		c := newCluster(t, newGroup())
		c.before = func(verb string, obj client.Object) error {
			if _, ok := obj.(*wfv1.Workflow); ok {
				return err
			}
			return nil
		}
		return c.handle(events.New(rollout(3), chartsStaged))
	}
	facts, err := refuse(apierrors.NewRequestEntityTooLargeError("limit is 3145728"))
	if err != nil || len(facts) != 1 || facts[0].Type() != events.TypeWorkflowRejected {
		t.Errorf("a workflow that is too large is rejected: %v, %v", facts, err)
	}
	if facts, err = refuse(apierrors.NewServiceUnavailable("later")); err == nil || len(facts) > 0 {
		t.Errorf("a server that is away is a reason to try again: %v, %v", facts, err)
	}
}

func TestForwardFindsTheNameTaken(t *testing.T) {
	stranger := workflow(t, rollout(3), events.WorkflowForward, 0)
	stranger.Annotations = nil
	c := newCluster(t, newGroup(), stranger)
	if _, err := c.handle(events.New(rollout(3), chartsStaged)); events.TerminalReason(err) != reasonNameTaken {
		t.Errorf("a workflow of another making is not taken for ours: %v", err)
	}
}

func TestReverse(t *testing.T) {
	r := rollout(3)
	installed := []client.Object{deleted(newGroup()), release("a", uid), release("b", uid), release("elder", "the group that had the name before")}
	asked := r
	asked.RequestedAt = "before"
	cases := map[string]struct {
		reason   string
		objects  []client.Object
		workflow string // submitted; none where empty
		stopped  []string
		waits    bool
	}{
		"Installed": {
			reason: "what is installed is undone", objects: installed,
			workflow: compile.WorkflowName(r, events.WorkflowReverse, 0),
		},
		"Nothing": {
			reason: "where nothing is installed there is nothing to do", objects: []client.Object{deleted(newGroup()), release("elder", "another")},
		},
		"ForwardRuns": {
			reason: "the forward workflow is stopped first", objects: append(slices.Clone(installed), workflow(t, rollout(2), events.WorkflowForward, 0)),
			workflow: compile.WorkflowName(r, events.WorkflowReverse, 0),
			stopped:  []string{compile.WorkflowName(rollout(2), events.WorkflowForward, 0)},
		},
		"ReverseRuns": {
			reason: "a reverse that runs is the one", objects: append(slices.Clone(installed), workflow(t, r, events.WorkflowReverse, 0)),
			workflow: compile.WorkflowName(r, events.WorkflowReverse, 0),
		},
		"AnotherReverseRuns": {
			reason: "a reverse of an earlier request is left to end", objects: append(slices.Clone(installed), workflow(t, asked, events.WorkflowReverse, 0)),
			waits: true,
		},
		"ReverseHasFailed": {
			reason: "a reverse that has finished and left something is tried again", objects: append(slices.Clone(installed),
				finished(workflow(t, r, events.WorkflowReverse, 0), wfv1.WorkflowFailed), finished(workflow(t, r, events.WorkflowReverse, 1), wfv1.WorkflowSucceeded)),
			workflow: compile.WorkflowName(r, events.WorkflowReverse, 2),
		},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			c := newCluster(t, tc.objects...)
			facts, err := c.handle(events.New(r, events.GroupDeleting{}))
			if _, waits := events.RetryDelay(err); waits != tc.waits || err != nil && !waits {
				t.Fatalf("%s: %v", tc.reason, err)
			}
			got := ""
			for _, f := range facts {
				got = f.Data.(events.WorkflowSubmitted).Workflow
			}
			if got != tc.workflow {
				t.Errorf("%s: submitted %q, want %q", tc.reason, got, tc.workflow)
			}
			all := c.workflows()
			for _, name := range tc.stopped {
				if all[name].Spec.Shutdown == "" {
					t.Errorf("%s: %s was not stopped", tc.reason, name)
				}
			}
			if nodes, _ := c.plan(got); name == "Installed" {
				if diff := cmp.Diff([]string{"a.a-a", "b.b-b"}, tasks(nodes)); diff != "" {
					t.Errorf("the group's own releases, and nobody else's (-want +got):\n%s", diff)
				}
			}
		})
	}
}

func tasks(nodes map[string]plan.Node) []string {
	out := []string{}
	for task := range nodes {
		out = append(out, task)
	}
	slices.Sort(out)
	return out
}

func TestOtherFactsAreNotForTheCompiler(t *testing.T) {
	c := newCluster(t, newGroup())
	if facts, err := c.handle(events.New(rollout(3), events.GroupDesired{})); err != nil || facts != nil {
		t.Errorf("got %v, %v", facts, err)
	}
}
