package admit

import (
	"testing"

	helmv2 "github.com/fluxcd/helm-controller/api/v2"
	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"orkestra.dev/api/v1alpha1"
)

func TestNamespaces(t *testing.T) {
	namespace := func(name string, change ...func(*metav1.PartialObjectMetadata)) metav1.PartialObjectMetadata {
		ns := metav1.PartialObjectMetadata{ObjectMeta: metav1.ObjectMeta{
			Name:        name,
			Labels:      map[string]string{v1alpha1.LabelHeritage: v1alpha1.Heritage, v1alpha1.LabelOwner: "g"},
			Annotations: map[string]string{v1alpha1.AnnotationGroupUID: "u"},
		}}
		for _, c := range change {
			c(&ns)
		}
		return ns
	}
	all := []metav1.PartialObjectMetadata{
		namespace("web"), namespace("data"), namespace("shared"), namespace("target"), namespace("records"), namespace("orkestra"),
		namespace("going", func(ns *metav1.PartialObjectMetadata) { ns.DeletionTimestamp = new(metav1.NewTime(now)) }),
		namespace("of-the-group-before", func(ns *metav1.PartialObjectMetadata) { ns.Annotations[v1alpha1.AnnotationGroupUID] = "u0" }),
		namespace("of-another", func(ns *metav1.PartialObjectMetadata) { ns.Labels[v1alpha1.LabelOwner] = "h" }),
		namespace("by-hand", func(ns *metav1.PartialObjectMetadata) { delete(ns.Labels, v1alpha1.LabelHeritage) }),
	}
	releases := []helmv2.HelmRelease{
		{ObjectMeta: metav1.ObjectMeta{Namespace: "shared"}},
		{ObjectMeta: metav1.ObjectMeta{Namespace: "elsewhere"}, Spec: helmv2.HelmReleaseSpec{TargetNamespace: "target", StorageNamespace: "records"}},
	}
	policy := func(p v1alpha1.NamespaceDeletionPolicy) *v1alpha1.ApplicationGroup {
		return group(func(g *v1alpha1.ApplicationGroup) { g.Spec.NamespaceDeletionPolicy = p })
	}
	for _, keep := range []v1alpha1.NamespaceDeletionPolicy{"", v1alpha1.NamespacesKeep} {
		if gone, kept := Namespaces(policy(keep), all, nil, "orkestra"); len(gone)+len(kept) > 0 {
			t.Errorf("policy %q: got %v, %v, want nothing deleted", keep, gone, kept)
		}
	}
	gone, kept := Namespaces(policy(v1alpha1.NamespacesDelete), all, releases, "orkestra")
	var names []string
	for _, ns := range gone {
		names = append(names, ns.Name)
	}
	if diff := cmp.Diff([]string{"data", "web"}, names); diff != "" {
		t.Errorf("what was made for this group and is used by nobody goes (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"records", "shared", "target"}, kept); diff != "" {
		t.Errorf("what a HelmRelease uses, in any way, stays (-want +got):\n%s", diff)
	}
}
