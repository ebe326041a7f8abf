package intake

import (
	"slices"
	"testing"

	helmv2 "github.com/fluxcd/helm-controller/api/v2"
	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"orkestra.dev/api/v1alpha1"
)

func orphaning(g *v1alpha1.ApplicationGroup) {
	g.Finalizers = append(g.Finalizers, metav1.FinalizerOrphanDependents)
}

// revision that a group owns, or owned.
func revision(name, uid string, owners ...string) *appsv1.ControllerRevision {
	r := &appsv1.ControllerRevision{ObjectMeta: ownedBy(uid)}
	r.Namespace, r.Name = "orkestra", name
	for _, owner := range owners {
		r.OwnerReferences = append(r.OwnerReferences, metav1.OwnerReference{
			APIVersion: v1alpha1.GroupVersion.String(), Kind: v1alpha1.Kind, Name: "shop", UID: types.UID(owner),
		})
	}
	return r
}

// wholeRelease is one as an executor writes it.
func wholeRelease() *helmv2.HelmRelease {
	hr := helmRelease("web", "web", "u")
	for _, name := range append(slices.Clone(identity), v1alpha1.AnnotationTask) {
		if hr.Annotations[name] == "" {
			hr.Annotations[name] = "x"
		}
	}
	return hr
}

// collected is what the garbage collector leaves of the group's part.
func (w *world) collected(t *testing.T) {
	t.Helper()
	g := w.group(t)
	g.Finalizers = []string{v1alpha1.Finalizer}
	if err := w.Update(t.Context(), g); err != nil {
		t.Fatal(err)
	}
}

func (w *world) finish(t *testing.T, name string) {
	t.Helper()
	wf := workflow(name, "true")
	if err := w.Get(t.Context(), client.ObjectKeyFromObject(wf), wf); err != nil {
		t.Fatal(err)
	}
	wf.SetLabels(workflow(name, "true").GetLabels())
	if err := w.Update(t.Context(), wf); err != nil {
		t.Fatal(err)
	}
}

func (w *world) alone(t *testing.T) {
	t.Helper()
	if err := w.Get(t.Context(), client.ObjectKey{Name: "shop"}, &v1alpha1.ApplicationGroup{}); !apierrors.IsNotFound(err) {
		t.Errorf("the group goes: got %v", err)
	}
	hr := &helmv2.HelmRelease{}
	if err := w.Get(t.Context(), client.ObjectKey{Namespace: "web", Name: "web"}, hr); err != nil {
		t.Fatal(err)
	}
	want := wholeRelease()
	want.Annotations = map[string]string{v1alpha1.AnnotationTask: "x"}
	if hr.DeletionTimestamp != nil || !cmp.Equal(want.Labels, hr.Labels) || !cmp.Equal(want.Annotations, hr.Annotations) {
		t.Errorf("its release stays, and may be taken over: %+v", hr.ObjectMeta)
	}
	var revisions appsv1.ControllerRevisionList
	if err := w.List(t.Context(), &revisions); err != nil {
		t.Fatal(err)
	}
	if len(revisions.Items) != 1 || revisions.Items[0].Name != "other" {
		t.Errorf("its revisions are of no use to anybody: %v", revisions.Items)
	}
	if diff := cmp.Diff([]string{"group.deleted/u/1/"}, w.said); diff != "" {
		t.Errorf("nothing is reversed (-want +got):\n%s", diff)
	}
	told := []string{"Normal Orphaned: the group went alone; left as they are, to helm-controller: HelmRelease web/web"}
	if diff := cmp.Diff(told, w.told(t)); diff != "" {
		t.Errorf("what was left is told (-want +got):\n%s", diff)
	}
}

func TestOrphan(t *testing.T) {
	policy := func(g *v1alpha1.ApplicationGroup) { g.Spec.NamespaceDeletionPolicy = v1alpha1.NamespacesDelete }
	w := newWorld(t, shop(deleted, orphaning, policy), wholeRelease(), revision("one", "u", "u"), revision("other", "another", "another"),
		workflow("running", "false"))
	w.reconcile(t, w.replica(w))
	if got := w.group(t).Annotations[v1alpha1.AnnotationOrphan]; got != v1alpha1.Orphaned {
		t.Fatalf("that the group goes alone outlives the finalizer that says so: got %q", got)
	}
	w.collected(t)
	if w.reconcile(t, w.replica(w)).RequeueAfter == 0 {
		t.Error("a workflow that runs is waited for")
	}
	wf := workflow("running", "")
	if err := w.Get(t.Context(), client.ObjectKeyFromObject(wf), wf); err != nil {
		t.Fatal(err)
	}
	if how, _, _ := unstructured.NestedString(wf.Object, "spec", "shutdown"); how != "Terminate" {
		t.Errorf("what runs is stopped: %q", how)
	}
	if got := w.group(t).Finalizers; len(w.said) > 0 || !slices.Contains(got, v1alpha1.Finalizer) {
		t.Errorf("until then the group stays: said %v, finalizers %v", w.said, got)
	}
	w.finish(t, "running")
	w.reconcile(t, w.replica(w))
	w.alone(t)
}

// Nobody was there to see the finalizer.
func TestOrphanedBefore(t *testing.T) {
	w := newWorld(t, shop(deleted), wholeRelease(), revision("one", "u"), revision("other", "another"))
	w.reconcile(t, w.replica(w))
	w.alone(t)
}

func TestOwnedIsNotOrphaned(t *testing.T) {
	w := newWorld(t, shop(deleted), wholeRelease(), revision("one", "u", "u"), revision("other", "another"))
	w.reconcile(t, w.replica(w))
	if diff := cmp.Diff([]string{"group.deleting/u/1/"}, w.said); diff != "" {
		t.Errorf("a group that was deleted as usual is reversed (-want +got):\n%s", diff)
	}
}
