package intake

import (
	"context"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	helmv2 "github.com/fluxcd/helm-controller/api/v2"
	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/event"

	"orkestra.dev/api/v1alpha1"
	"orkestra.dev/pkg/events"
	"orkestra.dev/services/intake/admit"
)

// world is a cluster, and what is said in it.
type world struct {
	client.WithWatch
	said []string
	now  time.Time
}

func newWorld(t *testing.T, objects ...client.Object) *world {
	t.Helper()
	s := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{v1alpha1.AddToScheme, helmv2.AddToScheme, corev1.AddToScheme, appsv1.AddToScheme, batchv1.AddToScheme} {
		if err := add(s); err != nil {
			t.Fatal(err)
		}
	}
	s.AddKnownTypeWithName(workflowList, &unstructured.UnstructuredList{})
	s.AddKnownTypeWithName(workflowList.GroupVersion().WithKind("Workflow"), &unstructured.Unstructured{})
	c := fake.NewClientBuilder().WithScheme(s).WithObjects(objects...).
		WithStatusSubresource(&v1alpha1.ApplicationGroup{}).
		WithIndex(&v1alpha1.ApplicationGroup{}, indexReferences, referred).Build()
	return &world{WithWatch: c, now: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)}
}

// replica of the intake, which knows nothing but the cluster.
func (w *world) replica(cached client.Reader) *reconciler {
	return &reconciler{
		client: w, live: w, cached: cached, namespace: "orkestra", log: slog.New(slog.DiscardHandler),
		now: func() time.Time { return w.now },
		say: func(_ context.Context, facts ...events.Fact) error {
			for _, f := range facts {
				if id := f.EventID(); !slices.Contains(w.said, id) { // what is said twice is stored once
					w.said = append(w.said, id)
				}
			}
			return nil
		},
	}
}

func (w *world) reconcile(t *testing.T, r *reconciler) ctrl.Result {
	t.Helper()
	result, err := r.Reconcile(t.Context(), ctrl.Request{NamespacedName: types.NamespacedName{Name: "shop"}})
	if err != nil {
		t.Fatal(err)
	}
	return result
}

func (w *world) group(t *testing.T) *v1alpha1.ApplicationGroup {
	t.Helper()
	g := &v1alpha1.ApplicationGroup{}
	if err := w.Get(t.Context(), client.ObjectKey{Name: "shop"}, g); err != nil {
		t.Fatal(err)
	}
	return g
}

// told are the Kubernetes events.
func (w *world) told(t *testing.T) []string {
	t.Helper()
	var list corev1.EventList
	if err := w.List(t.Context(), &list); err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, e := range list.Items {
		out = append(out, e.Type+" "+e.Reason+": "+e.Message)
	}
	slices.Sort(out)
	return out
}

func shop(change ...func(*v1alpha1.ApplicationGroup)) *v1alpha1.ApplicationGroup {
	g := &v1alpha1.ApplicationGroup{ObjectMeta: metav1.ObjectMeta{
		Name: "shop", UID: "u", Generation: 1, Finalizers: []string{v1alpha1.Finalizer},
	}}
	g.Spec.Applications = []v1alpha1.Application{{
		DAG: v1alpha1.DAG{Name: "web"},
		Spec: v1alpha1.ApplicationSpec{
			Chart:   v1alpha1.ChartRef{URL: "https://charts.example.com", Name: "web", Version: "1.0.0"},
			Release: v1alpha1.Release{TargetNamespace: "web"},
		},
	}}
	for _, c := range change {
		c(g)
	}
	return g
}

func withValues(g *v1alpha1.ApplicationGroup) {
	g.Spec.Applications[0].Spec.Release.ValuesFrom = []helmv2.ValuesReference{{Kind: "Secret", Name: "passwords"}}
}

func secret(password string) *corev1.Secret {
	return &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: "web", Name: "passwords", UID: "s"}, Data: map[string][]byte{"values.yaml": []byte(password)},
	}
}

func TestAChangedSecretIsOneRollout(t *testing.T) {
	w := newWorld(t, shop(withValues), secret("hunter2"))
	r := w.replica(w)
	w.reconcile(t, r)
	first := w.group(t).Annotations[v1alpha1.AnnotationReferences]
	if first == "" || strings.Contains(first, "passwords") {
		t.Fatalf("what the rollout saw is noted, without names: got %q", first)
	}
	w.reconcile(t, w.replica(w)) // the intake was started again
	if diff := cmp.Diff([]string{"group.desired/u/1/"}, w.said); diff != "" {
		t.Fatalf("nothing has changed (-want +got):\n%s", diff)
	}

	before := newWorld(t, secret("hunter2")) // a cache that is behind
	s := &corev1.Secret{}
	if err := w.Get(t.Context(), client.ObjectKey{Namespace: "web", Name: "passwords"}, s); err != nil {
		t.Fatal(err)
	}
	s.Data["values.yaml"] = []byte("hunter3")
	if err := w.Update(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		w.reconcile(t, r)
		w.now = w.now.Add(time.Minute)
		w.reconcile(t, w.replica(w))
		w.reconcile(t, w.replica(before))
	}
	want := []string{"group.desired/u/1/", "group.desired/u/1/2026-01-01T00:00:00Z"}
	if diff := cmp.Diff(want, w.said); diff != "" {
		t.Errorf("a change is one rollout, however many see it, and however late (-want +got):\n%s", diff)
	}
}

func TestTwoThatAskAtOnce(t *testing.T) {
	w := newWorld(t, shop(withValues), secret("hunter2"))
	r := w.replica(w)
	g := w.group(t)
	d := admit.Decision{RequestedAt: "a", Record: "b"}
	if err := r.annotate(t.Context(), g.DeepCopy(), d); err != nil {
		t.Fatal(err)
	}
	d.RequestedAt = "c"
	if err := r.annotate(t.Context(), g, d); !apierrors.IsConflict(err) {
		t.Errorf("of two that ask for a rollout of what they both saw, one is refused: got %v", err)
	}
	if got := w.group(t).Annotations; got[v1alpha1.AnnotationRequestedAt] != "a" || got[v1alpha1.AnnotationReferences] != "b" {
		t.Errorf("got %v", got)
	}
}

func TestInterval(t *testing.T) {
	w := newWorld(t)
	ended := metav1.NewTime(w.now.Add(-90 * time.Minute))
	g := shop(func(g *v1alpha1.ApplicationGroup) {
		g.CreationTimestamp = metav1.NewTime(w.now.Add(-24 * time.Hour))
		g.Spec.Interval = &metav1.Duration{Duration: time.Hour}
		g.Status.Conditions = []metav1.Condition{{Type: v1alpha1.ConditionReady, Status: metav1.ConditionTrue, ObservedGeneration: 1, LastTransitionTime: ended}}
	})
	w = newWorld(t, g)
	w.reconcile(t, w.replica(w))
	w.reconcile(t, w.replica(w))
	want := []string{"group.desired/u/1/2025-12-31T23:30:00Z"}
	if diff := cmp.Diff(want, w.said); diff != "" {
		t.Errorf("when the interval has passed the group is asked for, once (-want +got):\n%s", diff)
	}
}

func TestSuspend(t *testing.T) {
	w := newWorld(t, shop(withValues, func(g *v1alpha1.ApplicationGroup) { g.Spec.Suspend = true }))
	for range 2 {
		w.reconcile(t, w.replica(w))
	}
	if diff := cmp.Diff([]string{"group.suspended/u/1/"}, w.said); diff != "" {
		t.Errorf("a group that is held says so, and asks for nothing (-want +got):\n%s", diff)
	}
	c := apimeta.FindStatusCondition(w.group(t).Status.Conditions, v1alpha1.ConditionAccepted)
	if c == nil || c.Status != metav1.ConditionTrue || c.Reason != v1alpha1.ReasonSuspended {
		t.Errorf("its spec is good: got %+v", c)
	}
}

func TestRefusedExpression(t *testing.T) {
	bad := shop(func(g *v1alpha1.ApplicationGroup) { g.Spec.Applications[0].Spec.Release.ReadyExpr = "self.status ==" })
	if _, err := (validator{}).ValidateCreate(t.Context(), bad); err == nil || !strings.Contains(err.Error(), "spec.applications[0].spec.release.readyExpr") {
		t.Errorf("an expression that does not compile is refused at the door, by its field: got %v", err)
	}
}

func deleted(g *v1alpha1.ApplicationGroup) { g.DeletionTimestamp = new(metav1.Now()) }

func forcedOut(g *v1alpha1.ApplicationGroup) {
	g.Annotations = map[string]string{v1alpha1.AnnotationForceDelete: "true"}
}

func ownedBy(uid string) metav1.ObjectMeta {
	return metav1.ObjectMeta{
		Labels:      map[string]string{v1alpha1.LabelOwner: "shop", v1alpha1.LabelHeritage: v1alpha1.Heritage},
		Annotations: map[string]string{v1alpha1.AnnotationGroupUID: uid},
	}
}

func helmRelease(namespace, name, uid string) *helmv2.HelmRelease {
	hr := &helmv2.HelmRelease{ObjectMeta: ownedBy(uid)}
	hr.Namespace, hr.Name, hr.UID = namespace, name, types.UID("uid-"+name)
	hr.Finalizers = []string{"finalizers.fluxcd.io"}
	return hr
}

func workflow(name, labels string) *unstructured.Unstructured {
	wf := &unstructured.Unstructured{}
	wf.SetGroupVersionKind(workflowList.GroupVersion().WithKind("Workflow"))
	wf.SetNamespace("orkestra")
	wf.SetName(name)
	wf.SetLabels(map[string]string{v1alpha1.LabelOwner: "shop", labelCompleted: labels, v1alpha1.LabelWorkflowType: "reverse"})
	wf.SetAnnotations(map[string]string{v1alpha1.AnnotationRollout: `{"group":"shop","uid":"u","generation":1}`})
	return wf
}

func TestForce(t *testing.T) {
	w := newWorld(t, shop(deleted, forcedOut), helmRelease("web", "web", "u"), helmRelease("web", "other", "another"),
		workflow("running", "false"), workflow("done", "true"))
	w.reconcile(t, w.replica(w))
	if err := w.Get(t.Context(), client.ObjectKey{Name: "shop"}, &v1alpha1.ApplicationGroup{}); !apierrors.IsNotFound(err) {
		t.Errorf("the group is not waited for: got %v", err)
	}
	var releases helmv2.HelmReleaseList
	if err := w.List(t.Context(), &releases); err != nil {
		t.Fatal(err)
	}
	going := map[string]bool{}
	for _, hr := range releases.Items {
		going[hr.Name] = hr.DeletionTimestamp != nil
	}
	if diff := cmp.Diff(map[string]bool{"web": true, "other": false}, going); diff != "" {
		t.Errorf("what is the group's is told to go (-want +got):\n%s", diff)
	}
	stopped := map[string]string{}
	for _, name := range []string{"running", "done"} {
		wf := workflow("", "")
		if err := w.Get(t.Context(), client.ObjectKey{Namespace: "orkestra", Name: name}, wf); err != nil {
			t.Fatal(err)
		}
		stopped[name], _, _ = unstructured.NestedString(wf.Object, "spec", "shutdown")
	}
	if diff := cmp.Diff(map[string]string{"running": "Terminate", "done": ""}, stopped); diff != "" {
		t.Errorf("what runs is stopped (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"group.deleted/u/1/"}, w.said); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	want := []string{"Warning RemovedByForce: let go by force; told to go, and not waited for: HelmRelease web/web"}
	if diff := cmp.Diff(want, w.told(t)); diff != "" {
		t.Errorf("what was left is told (-want +got):\n%s", diff)
	}
}

func TestTheEndOfAGroup(t *testing.T) {
	namespace := func(name, uid string) *corev1.Namespace {
		ns := &corev1.Namespace{ObjectMeta: ownedBy(uid)}
		ns.Name, ns.UID = name, types.UID("uid-"+name)
		return ns
	}
	w := newWorld(t, shop(deleted, func(g *v1alpha1.ApplicationGroup) { g.Spec.NamespaceDeletionPolicy = v1alpha1.NamespacesDelete }),
		namespace("web", "u"), namespace("shared", "u"), namespace("before", "another"), helmRelease("shared", "theirs", "another"))
	w.reconcile(t, w.replica(w))
	var left corev1.NamespaceList
	if err := w.List(t.Context(), &left); err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, ns := range left.Items {
		names = append(names, ns.Name)
	}
	if diff := cmp.Diff([]string{"before", "shared"}, names); diff != "" {
		t.Errorf("a namespace goes with its group, unless somebody uses it (-want +got):\n%s", diff)
	}
	want := []string{
		"Normal NamespacesDeleted: spec.namespaceDeletionPolicy is Delete: deleted, with all that is in them: web; kept, because a HelmRelease uses them: shared",
		"Normal Removed: everything that was made for the group is gone",
	}
	if diff := cmp.Diff(want, w.told(t)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestWhoRefersToAnObject(t *testing.T) {
	other := shop()
	other.Name, other.UID = "other", "o"
	w := newWorld(t, shop(withValues), other)
	r := w.replica(w)
	for name, want := range map[string]int{"passwords": 1, "sizes": 0} {
		refers := 0
		for _, g := range r.groupsThatReferTo("Secret")(t.Context(), &metav1.PartialObjectMetadata{ObjectMeta: metav1.ObjectMeta{Namespace: "web", Name: name}}) {
			if g.Name == "shop" {
				refers++
			}
		}
		if refers != want {
			t.Errorf("%s: looked at %d times, want %d", name, refers, want)
		}
	}
}

func TestBare(t *testing.T) {
	o := &metav1.PartialObjectMetadata{ObjectMeta: metav1.ObjectMeta{
		Namespace: "web", Name: "passwords", UID: "s", ResourceVersion: "7",
		Annotations:   map[string]string{"kubectl.kubernetes.io/last-applied-configuration": "hunter2"},
		Labels:        map[string]string{"a": "b"},
		ManagedFields: []metav1.ManagedFieldsEntry{{Manager: "kubectl"}},
	}}
	if _, err := bare(o); err != nil {
		t.Fatal(err)
	}
	want := metav1.ObjectMeta{Namespace: "web", Name: "passwords", UID: "s", ResourceVersion: "7"}
	if diff := cmp.Diff(want, o.ObjectMeta); diff != "" {
		t.Errorf("of an object no more is held than which it is (-want +got):\n%s", diff)
	}
}

func TestAsksForMore(t *testing.T) {
	turn := func(g *v1alpha1.ApplicationGroup) {
		g.Status.Conditions = []metav1.Condition{{Type: v1alpha1.ConditionReady, Status: metav1.ConditionTrue, ObservedGeneration: 1}}
	}
	hourly := func(g *v1alpha1.ApplicationGroup) { g.Spec.Interval = &metav1.Duration{Duration: time.Hour} }
	for name, tc := range map[string]struct {
		before, change func(*v1alpha1.ApplicationGroup)
		want           bool
	}{
		"a new spec": {withValues, func(g *v1alpha1.ApplicationGroup) { g.Generation = 2 }, true},
		"force":      {deleted, forcedOut, true},
		"that it goes alone": {deleted, func(g *v1alpha1.ApplicationGroup) {
			g.Annotations = map[string]string{v1alpha1.AnnotationOrphan: "true"}
		}, true},
		"ready, of a group that has an interval": {hourly, turn, true},
		"ready, of a group that has values":      {withValues, turn, true},
		"ready, of any other":                    {deleted, turn, false},
		"progress": {hourly, func(g *v1alpha1.ApplicationGroup) {
			g.Status.Rollout = &v1alpha1.RolloutStatus{Done: 1}
		}, false},
	} {
		before := shop(tc.before)
		after := before.DeepCopy()
		tc.change(after)
		if got := asksForMore().Update(event.UpdateEvent{ObjectOld: before, ObjectNew: after}); got != tc.want {
			t.Errorf("%s: got %v", name, got)
		}
	}
	told := event.UpdateEvent{ObjectOld: secret("a"), ObjectNew: secret("a")}
	if versionChanged().Update(told) {
		t.Error("an object that is told of again has not changed")
	}
	told.ObjectNew.SetResourceVersion("2")
	if !versionChanged().Update(told) {
		t.Error("an object of another version has changed")
	}
}
