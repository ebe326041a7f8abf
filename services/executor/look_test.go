package executor

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	wfv1 "github.com/argoproj/argo-workflows/v3/pkg/apis/workflow/v1alpha1"
	"github.com/argoproj/argo-workflows/v3/workflow/packer"
	helmv2 "github.com/fluxcd/helm-controller/api/v2"
	"github.com/fluxcd/pkg/apis/meta"
	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"orkestra.dev/api/v1alpha1"
	"orkestra.dev/pkg/events"
	"orkestra.dev/pkg/plan"
)

// These tests are about what happens between the look and the write; that the
// writes mean to the API server what they should is for the end-to-end tests.

const (
	namespace = "orkestra"
	wfName    = "shop-1"
)

var rollout = events.Rollout{Group: "shop", UID: "uid-shop", Generation: 1}

func release(name string, edit ...func(*helmv2.HelmRelease)) *helmv2.HelmRelease {
	hr := &helmv2.HelmRelease{
		TypeMeta: metav1.TypeMeta{APIVersion: helmv2.GroupVersion.String(), Kind: helmv2.HelmReleaseKind},
		ObjectMeta: metav1.ObjectMeta{
			Name: name, Namespace: "target",
			Labels: map[string]string{v1alpha1.LabelHeritage: v1alpha1.Heritage, v1alpha1.LabelOwner: "shop"},
		},
		Spec: helmv2.HelmReleaseSpec{ReleaseName: name},
	}
	for _, e := range edit {
		e(hr)
	}
	return hr
}

func makeReady(hr *helmv2.HelmRelease) {
	hr.Status.ObservedGeneration = hr.Generation
	hr.Status.Conditions = []metav1.Condition{{
		Type: meta.ReadyCondition, Status: metav1.ConditionTrue, Reason: "InstallSucceeded", ObservedGeneration: hr.Generation,
		LastTransitionTime: metav1.Now(),
	}}
}

// cluster is an API server, with a group, and a workflow whose nodes wait.
type cluster struct {
	client.WithWatch
	t      *testing.T
	writer *writer
}

func newCluster(t *testing.T, action plan.Action, on interceptor.Funcs, tasks []string, objects ...client.Object) *cluster {
	t.Helper()
	var nodes []plan.Node
	for _, task := range tasks {
		hr := release(task)
		hr.Spec.StorageNamespace = "storage-" + task
		nodes = append(nodes, plan.Node{Task: task, Action: action, Release: hr})
	}
	return newClusterOf(t, on, nodes, objects...)
}

// newClusterOf has a workflow whose nodes were activated a second ago.
func newClusterOf(t *testing.T, on interceptor.Funcs, nodes []plan.Node, objects ...client.Object) *cluster {
	t.Helper()
	s := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{clientgoscheme.AddToScheme, v1alpha1.AddToScheme, wfv1.AddToScheme, helmv2.AddToScheme} {
		if err := add(s); err != nil {
			t.Fatal(err)
		}
	}
	annotation, err := json.Marshal(rollout)
	if err != nil {
		t.Fatal(err)
	}
	wf := &wfv1.Workflow{
		ObjectMeta: metav1.ObjectMeta{
			Name: wfName, Namespace: namespace, UID: "uid-wf",
			Labels:      map[string]string{v1alpha1.LabelWorkflowType: "forward", v1alpha1.LabelOwner: "shop"},
			Annotations: map[string]string{v1alpha1.AnnotationRollout: string(annotation)},
		},
		Status: wfv1.WorkflowStatus{Phase: wfv1.WorkflowRunning, Nodes: wfv1.Nodes{}},
	}
	for _, n := range nodes {
		wf.Status.Nodes["id-"+n.Task] = wfv1.NodeStatus{ID: "id-" + n.Task, Name: wfName + "." + n.Task, Type: wfv1.NodeTypeSuspend,
			Phase: wfv1.NodeRunning, StartedAt: metav1.Time{Time: time.Now().Add(-time.Second)}}
	}
	if err := packer.CompressWorkflowIfNeeded(wf); err != nil {
		t.Fatal(err)
	}
	secrets, err := plan.Secrets(wfName, namespace, nil, nodes)
	if err != nil {
		t.Fatal(err)
	}
	objects = append(objects, wf, &v1alpha1.ApplicationGroup{ObjectMeta: metav1.ObjectMeta{Name: "shop", UID: "uid-shop", Generation: 1}})
	for _, secret := range secrets {
		objects = append(objects, secret)
	}
	// An API server has this index of everything.
	name := func(o client.Object) []string { return []string{o.GetName()} }
	c := fake.NewClientBuilder().WithScheme(s).WithStatusSubresource(&helmv2.HelmRelease{}).
		WithIndex(&wfv1.Workflow{}, metav1.ObjectNameField, name).WithIndex(&v1alpha1.ApplicationGroup{}, metav1.ObjectNameField, name).
		WithObjects(objects...).WithInterceptorFuncs(on).Build()
	return &cluster{WithWatch: c, t: t, writer: &writer{
		reader: &reader{cached: c, live: c, namespace: namespace, plans: newPlans(c), now: time.Now},
		client: c, log: slog.New(slog.DiscardHandler), count: func(string) {}, began: func(*helmv2.HelmRelease) {},
		later: func(string, string, time.Duration) {},
	}}
}

func (c *cluster) look() error { return c.writer.look(c.t.Context(), wake{workflow: wfName}) }

func (c *cluster) mustLook() {
	c.t.Helper()
	if err := c.look(); err != nil {
		c.t.Fatal(err)
	}
}

func (c *cluster) release(name string) *helmv2.HelmRelease {
	c.t.Helper()
	hr := &helmv2.HelmRelease{}
	if err := c.Get(c.t.Context(), client.ObjectKey{Namespace: "target", Name: name}, hr); err != nil {
		c.t.Fatal(err)
	}
	return hr
}

// nodes are the phases, and the messages of those that failed, by task.
func (c *cluster) nodes() map[string]string {
	c.t.Helper()
	wf := &wfv1.Workflow{}
	if err := c.Get(c.t.Context(), client.ObjectKey{Namespace: namespace, Name: wfName}, wf); err != nil {
		c.t.Fatal(err)
	}
	if err := packer.DecompressWorkflow(wf); err != nil {
		c.t.Fatal(err)
	}
	out := map[string]string{}
	for _, n := range wf.Status.Nodes {
		out[strings.TrimPrefix(n.Name, wfName+".")] = strings.TrimSpace(string(n.Phase) + " " + n.Message)
	}
	return out
}

func TestLookInstallsThenSettles(t *testing.T) {
	c := newCluster(t, plan.Install, interceptor.Funcs{}, []string{"web"})
	c.mustLook()
	hr := c.release("web")
	if got := hr.Annotations[v1alpha1.AnnotationWorkflow]; got != wfName {
		t.Errorf("the release says for which workflow it was written: got %q", got)
	}
	if got := hr.Labels[v1alpha1.LabelGeneration]; got != "1" {
		t.Errorf("the release says which generation wrote it: got %q", got)
	}
	for name, labels := range map[string]map[string]string{
		"target":      {v1alpha1.LabelHeritage: v1alpha1.Heritage, v1alpha1.LabelOwner: "shop"},
		"storage-web": {v1alpha1.LabelHeritage: v1alpha1.Heritage, v1alpha1.LabelStorage: "true", v1alpha1.LabelOwner: "shop"},
	} {
		ns := &corev1.Namespace{}
		if err := c.Get(t.Context(), client.ObjectKey{Name: name}, ns); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(labels, ns.Labels); diff != "" {
			t.Errorf("namespace %s says for which group it was made (-want +got):\n%s", name, diff)
		}
		if ns.Annotations[v1alpha1.AnnotationGroupUID] != "uid-shop" || len(ns.OwnerReferences) > 0 {
			t.Errorf("namespace %s does not go with the group by itself: %+v", name, ns.ObjectMeta)
		}
	}
	if diff := cmp.Diff(map[string]string{"web": "Running"}, c.nodes()); diff != "" {
		t.Errorf("a release that was just written is waited for (-want +got):\n%s", diff)
	}

	makeReady(hr)
	if err := c.Status().Update(t.Context(), hr); err != nil {
		t.Fatal(err)
	}
	before := hr.ResourceVersion
	c.mustLook()
	if diff := cmp.Diff(map[string]string{"web": "Succeeded"}, c.nodes()); diff != "" {
		t.Errorf("a release that is ready settles its node (-want +got):\n%s", diff)
	}
	c.mustLook() // an event that is delivered twice does nothing
	if after := c.release("web").ResourceVersion; after != before {
		t.Errorf("a release that was written is not written again: %s became %s", before, after)
	}
}

func TestLookSettlesWhatIsReadyAlready(t *testing.T) {
	c := newCluster(t, plan.Install, interceptor.Funcs{}, []string{"web"}, release("web", makeReady))
	c.mustLook()
	if diff := cmp.Diff(map[string]string{"web": "Succeeded"}, c.nodes()); diff != "" {
		t.Errorf("a release that does not change is settled in the look that writes it: no event will come (-want +got):\n%s", diff)
	}
}

// newerGeneration makes the group move on, and its workflow write the release.
func newerGeneration(ctx context.Context, c client.WithWatch, create bool) error {
	group := &v1alpha1.ApplicationGroup{}
	if err := c.Get(ctx, client.ObjectKey{Name: "shop"}, group); err != nil {
		return err
	}
	group.Generation = 2
	if err := c.Update(ctx, group); err != nil {
		return err
	}
	hr := release("web")
	hr.Annotations = map[string]string{v1alpha1.AnnotationWorkflow: "shop-2", v1alpha1.AnnotationWorkflowUID: "uid-newer"}
	hr.Spec.ReleaseName = "newer"
	if create {
		return c.Create(ctx, hr)
	}
	have := &helmv2.HelmRelease{}
	if err := c.Get(ctx, client.ObjectKeyFromObject(hr), have); err != nil {
		return err
	}
	have.Annotations, have.Spec = hr.Annotations, hr.Spec
	return c.Update(ctx, have)
}

func TestLookThatIsOvertakenWritesNothing(t *testing.T) {
	isWeb := func(o client.Object) bool { _, ok := o.(*helmv2.HelmRelease); return ok }

	t.Run("Create", func(t *testing.T) {
		overtake := true
		c := newCluster(t, plan.Install, interceptor.Funcs{
			Create: func(ctx context.Context, c client.WithWatch, o client.Object, opts ...client.CreateOption) error {
				if isWeb(o) && overtake {
					overtake = false
					if err := newerGeneration(ctx, c, true); err != nil {
						return err
					}
				}
				return c.Create(ctx, o, opts...)
			},
		}, []string{"web"})
		if err := c.look(); !events.IsSuperseded(err) {
			t.Errorf("the older generation is superseded: got %v", err)
		}
		if got := c.release("web").Spec.ReleaseName; got != "newer" {
			t.Errorf("what the newer generation made stays: got %q", got)
		}
	})
	t.Run("Update", func(t *testing.T) {
		overtake := true
		c := newCluster(t, plan.Install, interceptor.Funcs{
			Update: func(ctx context.Context, c client.WithWatch, o client.Object, opts ...client.UpdateOption) error {
				if isWeb(o) && overtake {
					overtake = false
					if err := newerGeneration(ctx, c, false); err != nil {
						return err
					}
				}
				return c.Update(ctx, o, opts...)
			},
		}, []string{"web"}, release("web"))
		if err := c.look(); !events.IsSuperseded(err) {
			t.Errorf("the older generation is superseded: got %v", err)
		}
		if got := c.release("web").Spec.ReleaseName; got != "newer" {
			t.Errorf("what the newer generation wrote stays: got %q", got)
		}
	})
}

func TestLookSettlesOnTopOfOthers(t *testing.T) {
	overtake := true
	c := newCluster(t, plan.Install, interceptor.Funcs{
		Patch: func(ctx context.Context, c client.WithWatch, o client.Object, p client.Patch, opts ...client.PatchOption) error {
			if overtake {
				overtake = false
				wf := &wfv1.Workflow{}
				if err := c.Get(ctx, client.ObjectKeyFromObject(o), wf); err != nil {
					return err
				}
				n := wf.Status.Nodes["id-db"]
				n.Phase, n.Message = wfv1.NodeFailed, "another replica's"
				wf.Status.Nodes["id-db"] = n
				if err := c.Update(ctx, wf); err != nil {
					return err
				}
			}
			return c.Patch(ctx, o, p, opts...)
		},
	}, []string{"web", "db"}, release("web", makeReady), release("db", makeReady))
	c.mustLook()
	want := map[string]string{"web": "Succeeded", "db": "Failed another replica's"}
	if diff := cmp.Diff(want, c.nodes()); diff != "" {
		t.Errorf("what was settled in between stays, the rest is settled (-want +got):\n%s", diff)
	}
}

func TestLookAtACompressedWorkflow(t *testing.T) {
	defer packer.SetMaxWorkflowSize(1400)()
	tasks := strings.Fields("t-a t-b t-c t-d t-e t-f t-g t-h t-i t-j t-k t-l")
	var releases []client.Object
	for _, task := range tasks {
		releases = append(releases, release(task, makeReady))
	}
	c := newCluster(t, plan.Install, interceptor.Funcs{}, tasks, releases...)
	wf := &wfv1.Workflow{}
	key := client.ObjectKey{Namespace: namespace, Name: wfName}
	if err := c.Get(t.Context(), key, wf); err != nil || wf.Status.CompressedNodes == "" {
		t.Fatalf("the workflow is to be compressed for this test: %v", err)
	}
	c.mustLook()
	for task, phase := range c.nodes() {
		if phase != "Succeeded" {
			t.Errorf("node %s of a compressed workflow is settled: got %s", task, phase)
		}
	}
	if err := c.Get(t.Context(), key, wf); err != nil || wf.Status.CompressedNodes == "" || len(wf.Status.Nodes) != 0 {
		t.Errorf("a workflow that is too large stays compressed: %d nodes in the open, %v", len(wf.Status.Nodes), err)
	}
}

func TestLookAtARefusal(t *testing.T) {
	refuse := apierrors.NewInvalid(schema.GroupKind{Group: "helm.toolkit.fluxcd.io", Kind: "HelmRelease"}, "web", nil)
	away := apierrors.NewInternalError(errors.New("etcd is away"))
	c := newCluster(t, plan.Install, interceptor.Funcs{
		Create: func(ctx context.Context, c client.WithWatch, o client.Object, opts ...client.CreateOption) error {
			switch _, isRelease := o.(*helmv2.HelmRelease); {
			case isRelease && o.GetName() == "web":
				return refuse
			case isRelease && o.GetName() == "db":
				return away
			}
			return c.Create(ctx, o, opts...)
		},
	}, []string{"web", "db", "api"}, release("api", makeReady))
	err := c.look()
	if _, waiting := events.RetryDelay(err); !errors.Is(err, away) || waiting || events.IsTerminal(err) {
		t.Errorf("what may pass is tried again as a failed attempt: got %v", err)
	}
	got := c.nodes()
	if !strings.HasPrefix(got["web"], "Failed HelmRelease target/web cannot be written: ") {
		t.Errorf("a release that the API server does not take fails its node: got %q", got["web"])
	}
	if got["db"] != "Running" || got["api"] != "Succeeded" {
		t.Errorf("and does not hold up the others: got %v", got)
	}
}

func TestLookAtANamespaceThatGoes(t *testing.T) {
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{
		Name: "target", DeletionTimestamp: &metav1.Time{Time: time.Now()}, Finalizers: []string{"kubernetes"},
	}}
	c := newCluster(t, plan.Install, interceptor.Funcs{}, []string{"web"}, ns)
	if _, waiting := events.RetryDelay(c.look()); !waiting {
		t.Error("a namespace on its way out is waited for")
	}
	if diff := cmp.Diff(map[string]string{"web": "Running"}, c.nodes()); diff != "" {
		t.Errorf("and no node fails for it (-want +got):\n%s", diff)
	}
}

func TestLookAtAnotherGroupsStorage(t *testing.T) {
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{
		Name: "storage-web", Labels: map[string]string{v1alpha1.LabelStorage: "true", v1alpha1.LabelOwner: "other"},
	}}
	c := newCluster(t, plan.Install, interceptor.Funcs{}, []string{"web"}, ns)
	c.mustLook()
	want := map[string]string{"web": `Failed HelmRelease target/web cannot be written: its storage namespace storage-web belongs to group "other"`}
	if diff := cmp.Diff(want, c.nodes()); diff != "" {
		t.Errorf("two groups do not share Helm's records (-want +got):\n%s", diff)
	}
}

func TestLookDeletes(t *testing.T) {
	storageNamespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{
		Name: "storage-web", Labels: map[string]string{v1alpha1.LabelStorage: "true", v1alpha1.LabelOwner: "shop"},
	}}
	keep := release("web", makeReady, func(hr *helmv2.HelmRelease) {
		hr.Finalizers = []string{helmv2.HelmReleaseFinalizer}
		hr.Spec.StorageNamespace = "storage-web"
	})
	c := newCluster(t, plan.Delete, interceptor.Funcs{}, []string{"web", "gone"}, keep, storageNamespace)
	c.mustLook()
	hr := c.release("web")
	if hr.DeletionTimestamp == nil || hr.Annotations[v1alpha1.AnnotationWorkflow] != wfName {
		t.Errorf("a release is deleted, and says by whom: %+v", hr.ObjectMeta)
	}
	if diff := cmp.Diff(map[string]string{"web": "Running", "gone": "Succeeded"}, c.nodes()); diff != "" {
		t.Errorf("what is gone is settled, what goes is waited for (-want +got):\n%s", diff)
	}
	if err := c.Get(t.Context(), client.ObjectKeyFromObject(storageNamespace), &corev1.Namespace{}); err != nil {
		t.Errorf("Helm's records stay while it needs them: %v", err)
	}

	hr.Finalizers = nil
	if err := c.Update(t.Context(), hr); err != nil {
		t.Fatal(err)
	}
	c.mustLook()
	if diff := cmp.Diff(map[string]string{"web": "Succeeded", "gone": "Succeeded"}, c.nodes()); diff != "" {
		t.Errorf("a release that is gone settles its node (-want +got):\n%s", diff)
	}
	if err := c.Get(t.Context(), client.ObjectKeyFromObject(storageNamespace), &corev1.Namespace{}); !apierrors.IsNotFound(err) {
		t.Errorf("and its storage namespace goes with it: %v", err)
	}
}

func TestLookAtWhatIsGone(t *testing.T) {
	c := newCluster(t, plan.Install, interceptor.Funcs{}, []string{"web"})
	if err := c.writer.look(t.Context(), wake{workflow: "another"}); !events.IsSuperseded(err) {
		t.Errorf("a workflow that is gone is superseded: got %v", err)
	}
}
