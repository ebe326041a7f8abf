package executor

import (
	"context"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	helmv2 "github.com/fluxcd/helm-controller/api/v2"
	"github.com/google/go-cmp/cmp"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"orkestra.dev/api/v1alpha1"
	"orkestra.dev/pkg/events"
	"orkestra.dev/pkg/plan"
)

func jobNode(task string) plan.Node {
	return plan.Node{Task: task, Action: plan.Install, Kind: plan.Job, Release: release("web"),
		Job: &batchv1.Job{ObjectMeta: metav1.ObjectMeta{Name: "migrate", Namespace: "jobs"}}}
}

func waitNode(task, kind, expr string) plan.Node {
	return plan.Node{Task: task, Action: plan.Install, Kind: plan.Wait, Release: release("web"),
		Wait: &v1alpha1.WaitFor{APIVersion: "v1", Kind: kind, Namespace: "target", Name: "it", Expr: expr}}
}

func valuesSecret(edit ...func(*corev1.Secret)) *corev1.Secret {
	s := &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Name: "orkestra-values-1a2b", Namespace: "target",
			Labels: map[string]string{v1alpha1.LabelHeritage: v1alpha1.Heritage, v1alpha1.LabelOwner: "shop", v1alpha1.LabelValues: "true"}},
		Immutable: new(true),
		Data:      map[string][]byte{"values.yaml": []byte("password: hunter2\n")},
	}
	for _, e := range edit {
		e(s)
	}
	return s
}

// open are the tasks for which a look is to come back, and what else it says.
func open(t *testing.T, err error) ([]string, error) {
	t.Helper()
	o, ok := errors.AsType[*stillOpen](err)
	if !ok {
		return nil, err
	}
	return o.tasks, o.rest
}

func (c *cluster) job() *batchv1.Job {
	c.t.Helper()
	job := &batchv1.Job{}
	if err := c.Get(c.t.Context(), client.ObjectKey{Namespace: "jobs", Name: "migrate"}, job); err != nil {
		c.t.Fatal(err)
	}
	return job
}

func (c *cluster) endJob(kind batchv1.JobConditionType) {
	c.t.Helper()
	job := c.job()
	job.Status.Conditions = []batchv1.JobCondition{{Type: kind, Status: corev1.ConditionTrue, Message: "the end"}}
	if err := c.Status().Update(c.t.Context(), job); err != nil {
		c.t.Fatal(err)
	}
}

func TestLookRunsAJob(t *testing.T) {
	c := newClusterOf(t, interceptor.Funcs{}, []plan.Node{jobNode("migrate")})
	for range 2 {
		if tasks, rest := open(t, c.look()); len(tasks) != 1 || rest != nil {
			t.Fatalf("a Job that runs is looked at again: %v, %v", tasks, rest)
		}
	}
	if err := c.Get(t.Context(), client.ObjectKey{Name: "jobs"}, &corev1.Namespace{}); err != nil {
		t.Errorf("the Job's namespace is made first: %v", err)
	}
	if got := c.job().Annotations[v1alpha1.AnnotationWorkflowUID]; got != "uid-wf" {
		t.Errorf("the Job says who ran it: got %q", got)
	}
	c.endJob(batchv1.JobComplete)
	c.mustLook()
	if diff := cmp.Diff(map[string]string{"migrate": "Succeeded"}, c.nodes()); diff != "" {
		t.Errorf("a Job that is complete settles its node (-want +got):\n%s", diff)
	}
}

func TestLookRunsAFailedJobAgain(t *testing.T) {
	before := &batchv1.Job{ObjectMeta: metav1.ObjectMeta{Name: "migrate", Namespace: "jobs", UID: "uid-before",
		Labels: map[string]string{v1alpha1.LabelHeritage: v1alpha1.Heritage, v1alpha1.LabelOwner: "shop"}},
		Status: batchv1.JobStatus{Conditions: []batchv1.JobCondition{{Type: batchv1.JobFailed, Status: corev1.ConditionTrue}}}}
	c := newClusterOf(t, interceptor.Funcs{}, []plan.Node{jobNode("migrate")}, before)
	if tasks, _ := open(t, c.look()); len(tasks) != 1 {
		t.Fatalf("the Job is under way: %v", tasks)
	}
	if c.job().UID == before.UID {
		t.Error("a Job that failed under an earlier workflow is made anew")
	}
	c.endJob(batchv1.JobFailed)
	c.mustLook()
	if diff := cmp.Diff(map[string]string{"migrate": "Failed Job jobs/migrate failed: the end"}, c.nodes()); diff != "" {
		t.Errorf("and fails its node when it fails again (-want +got):\n%s", diff)
	}
}

func TestLookAtARefusedJob(t *testing.T) {
	c := newClusterOf(t, interceptor.Funcs{
		Create: func(ctx context.Context, c client.WithWatch, o client.Object, opts ...client.CreateOption) error {
			if _, isJob := o.(*batchv1.Job); isJob {
				return apierrors.NewInvalid(schema.GroupKind{Group: "batch", Kind: "Job"}, o.GetName(), nil)
			}
			return c.Create(ctx, o, opts...)
		},
	}, []plan.Node{jobNode("migrate")})
	c.mustLook()
	if got := c.nodes()["migrate"]; !strings.HasPrefix(got, "Failed Job jobs/migrate cannot be written: ") {
		t.Errorf("a Job that the API server does not take fails its node: got %q", got)
	}
}

func TestLookWaitsForAnObject(t *testing.T) {
	c := newClusterOf(t, interceptor.Funcs{}, []plan.Node{waitNode("wait", "ConfigMap", "self.data.stage == 'done'")})
	if tasks, _ := open(t, c.look()); len(tasks) != 1 {
		t.Fatalf("an object that is not there is looked for again: %v", tasks)
	}
	it := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "it", Namespace: "target"}, Data: map[string]string{"stage": "begun"}}
	if err := c.Create(t.Context(), it); err != nil {
		t.Fatal(err)
	}
	if tasks, _ := open(t, c.look()); len(tasks) != 1 {
		t.Fatalf("an object that is not as it should be is looked at again: %v", tasks)
	}
	it.Data["stage"] = "done"
	if err := c.Update(t.Context(), it); err != nil {
		t.Fatal(err)
	}
	c.mustLook()
	if diff := cmp.Diff(map[string]string{"wait": "Succeeded"}, c.nodes()); diff != "" {
		t.Errorf("an object that is as it should be settles its node (-want +got):\n%s", diff)
	}
}

func TestAWaitThatCannotBeReadHoldsUpNobody(t *testing.T) {
	c := newClusterOf(t, interceptor.Funcs{
		Get: func(ctx context.Context, c client.WithWatch, key client.ObjectKey, o client.Object, opts ...client.GetOption) error {
			if u, ok := o.(*unstructured.Unstructured); ok && u.GetKind() == "Gadget" {
				return &meta.NoKindMatchError{GroupKind: schema.GroupKind{Kind: "Gadget"}}
			} else if ok {
				return apierrors.NewForbidden(schema.GroupResource{Resource: "secrets"}, key.Name, errors.New("no"))
			}
			return c.Get(ctx, key, o, opts...)
		},
	}, []plan.Node{
		waitNode("a-wait", "Gadget", ""), waitNode("b-wait", "Secret", ""),
		{Task: "web", Action: plan.Install, Release: release("web")},
	}, release("web", makeReady))
	tasks, rest := open(t, c.look())
	if diff := cmp.Diff([]string{"a-wait", "b-wait"}, tasks); diff != "" || rest != nil {
		t.Errorf("what cannot be read is waited for, and is no failure: %v\n%s", rest, diff)
	}
	if got := c.nodes()["web"]; got != "Succeeded" {
		t.Errorf("a release beside it is settled: got %q", got)
	}
}

func TestLookMakesValues(t *testing.T) {
	node := func(kind plan.Kind) []plan.Node {
		return []plan.Node{{Task: "web", Action: plan.Install, Kind: kind, Release: release("web"), Values: valuesSecret()}}
	}
	for name, tc := range map[string]struct {
		reason string
		kind   plan.Kind
		there  []client.Object
		want   string
	}{
		"Prepare":      {"what a pod needs is made", plan.Prepare, nil, "Succeeded"},
		"PreparedOnce": {"what is there already is right", plan.Prepare, []client.Object{valuesSecret()}, "Succeeded"},
		"Release":      {"a release is written after its values", plan.Release, []client.Object{release("web", makeReady)}, "Succeeded"},
		"Foreign": {"a Secret that somebody else made is not taken for the group's", plan.Prepare,
			[]client.Object{valuesSecret(func(s *corev1.Secret) { s.Labels = nil })},
			"Failed HelmRelease target/web cannot be written: its values Secret target/orkestra-values-1a2b is there already and was not made by Orkestra for this group: delete it"},
		"Mutable": {"nor one that can be changed", plan.Release,
			[]client.Object{valuesSecret(func(s *corev1.Secret) { s.Immutable = nil })},
			"Failed HelmRelease target/web cannot be written: its values Secret target/orkestra-values-1a2b is there already and was not made by Orkestra for this group: delete it"},
	} {
		t.Run(name, func(t *testing.T) {
			c := newClusterOf(t, interceptor.Funcs{}, node(tc.kind), tc.there...)
			c.mustLook()
			if diff := cmp.Diff(map[string]string{"web": tc.want}, c.nodes()); diff != "" {
				t.Errorf("%s (-want +got):\n%s", tc.reason, diff)
			}
			if err := c.Get(t.Context(), client.ObjectKeyFromObject(valuesSecret()), &corev1.Secret{}); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestLookAtAReadyExpression(t *testing.T) {
	node := plan.Node{Task: "web", Action: plan.Install, Release: release("web"), ReadyExpr: "self.spec.values.ok"}
	c := newClusterOf(t, interceptor.Funcs{}, []plan.Node{node}, release("web", makeReady))
	c.writer.reader.cached = &slimmed{c.WithWatch}
	if tasks, _ := open(t, c.look()); len(tasks) != 1 {
		t.Fatalf("a release with which only Helm is content is looked at again: %v", tasks)
	}
	hr := c.release("web")
	hr.Spec.Values = &apiextensionsv1.JSON{Raw: []byte(`{"ok": true}`)}
	if err := c.Update(t.Context(), hr); err != nil {
		t.Fatal(err)
	}
	c.mustLook()
	if diff := cmp.Diff(map[string]string{"web": "Succeeded"}, c.nodes()); diff != "" {
		t.Errorf("an expression sees the whole release, and not what the informer keeps of it (-want +got):\n%s", diff)
	}
}

// slimmed reads releases as the informer keeps them.
type slimmed struct{ client.WithWatch }

func (s *slimmed) Get(ctx context.Context, key client.ObjectKey, o client.Object, opts ...client.GetOption) error {
	if err := s.WithWatch.Get(ctx, key, o, opts...); err != nil {
		return err
	}
	_, err := slim(o)
	return err
}

func (s *slimmed) List(ctx context.Context, list client.ObjectList, opts ...client.ListOption) error {
	if err := s.WithWatch.List(ctx, list, opts...); err != nil {
		return err
	}
	releases, ok := list.(*helmv2.HelmReleaseList)
	if !ok {
		return nil
	}
	for i := range releases.Items {
		if _, err := slim(&releases.Items[i]); err != nil {
			return err
		}
	}
	return nil
}

func TestLookThatIsFencedLooksAgain(t *testing.T) {
	denied := apierrors.NewInvalid(helmv2.GroupVersion.WithKind("HelmRelease").GroupKind(), "web", nil)
	denied.ErrStatus.Message += ": ValidatingAdmissionPolicy 'orkestra-helmrelease-fence' denied request"
	fenced := func(moveOn bool) *cluster {
		return newCluster(t, plan.Install, interceptor.Funcs{
			Update: func(ctx context.Context, c client.WithWatch, o client.Object, opts ...client.UpdateOption) error {
				if _, isRelease := o.(*helmv2.HelmRelease); !isRelease {
					return c.Update(ctx, o, opts...)
				}
				if moveOn {
					group := &v1alpha1.ApplicationGroup{}
					if err := c.Get(ctx, client.ObjectKey{Name: "shop"}, group); err != nil {
						return err
					}
					group.Generation = 2
					if err := c.Update(ctx, group); err != nil {
						return err
					}
				}
				return denied
			},
		}, []string{"web"}, release("web"))
	}
	if err := fenced(true).look(); !events.IsSuperseded(err) {
		t.Errorf("an older generation that the fence stopped is superseded: got %v", err)
	}
	c := fenced(false)
	c.mustLook()
	if got := c.nodes()["web"]; !strings.Contains(got, fence) {
		t.Errorf("a fence that nobody has overtaken fails the node, and says why: got %q", got)
	}
}

func TestFenceSpeaksOurNames(t *testing.T) {
	policy, err := os.ReadFile("../../deploy/policies/helmrelease-fence.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"name: " + fence, "'" + v1alpha1.LabelGeneration + "'", "'" + v1alpha1.LabelHeritage + "'",
		"'" + v1alpha1.LabelOwner + "'", "'" + v1alpha1.AnnotationGroupUID + "'"} {
		if !strings.Contains(string(policy), name) {
			t.Errorf("the policy does not speak of %s", name)
		}
	}
}

func TestCarryOn(t *testing.T) {
	waiting := &stillOpen{tasks: []string{"a", "b"}, polled: map[string]bool{"a": true, "b": true, "done": true}}
	boom := errors.New("boom")
	for name, tc := range map[string]struct {
		reason  string
		task    string
		attempt uint64
		err     error
		want    error
		waits   bool
	}{
		"Nothing":     {reason: "an event of a workflow without such steps ends", task: "a", attempt: 1},
		"First":       {reason: "that of the first open step comes back", task: "a", attempt: 1, err: waiting, waits: true},
		"Second":      {reason: "that of another ends: once a second is enough for a workflow", task: "b", attempt: 1, err: waiting},
		"Heir":        {reason: "one that came back for a step that is done comes back for the others", task: "done", attempt: 9, err: waiting, waits: true},
		"DoneAtOnce":  {reason: "one whose step was done at once ends", task: "done", attempt: 1, err: waiting},
		"Release":     {reason: "one of a release ends, however often it was delivered", task: "web", attempt: 9, err: waiting},
		"Failure":     {reason: "a failure comes first", task: "a", attempt: 1, err: &stillOpen{tasks: []string{"a"}, rest: boom}, want: boom},
		"Superseded":  {reason: "what a superseded workflow began is settled all the same", task: "a", attempt: 1, err: &stillOpen{tasks: []string{"a"}, rest: events.Superseded("x")}, waits: true},
		"OtherError":  {reason: "another error is told", task: "a", attempt: 1, err: boom, want: boom},
		"NoTaskAtAll": {reason: "an event of no step ends", attempt: 9, err: waiting},
	} {
		t.Run(name, func(t *testing.T) {
			got := carryOn(events.Fact{Attempt: tc.attempt}, tc.task, tc.err)
			if delay, waits := events.RetryDelay(got); waits != tc.waits || waits && delay != time.Second {
				t.Fatalf("%s: got %v after %s", tc.reason, got, delay)
			}
			if !tc.waits && !errors.Is(got, tc.want) {
				t.Errorf("%s: got %v, want %v", tc.reason, got, tc.want)
			}
		})
	}
}
