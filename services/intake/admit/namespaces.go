package admit

import (
	"slices"
	"strings"

	helmv2 "github.com/fluxcd/helm-controller/api/v2"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"orkestra.dev/api/v1alpha1"
)

// Namespaces are those that go with the group: its policy says so, they were made for
// it, and no HelmRelease uses them, of whomever: kept are those of which the first two
// hold and the last does not. Both are sorted by name. Namespaces and releases are all
// that there are; own is Orkestra's namespace, which stays.
func Namespaces(group *v1alpha1.ApplicationGroup, namespaces []metav1.PartialObjectMetadata, releases []helmv2.HelmRelease, own string) (gone []metav1.PartialObjectMetadata, kept []string) {
	if group.Spec.NamespaceDeletionPolicy != v1alpha1.NamespacesDelete {
		return nil, nil
	}
	used := map[string]bool{}
	for i := range releases {
		hr := &releases[i]
		for _, namespace := range []string{hr.Namespace, hr.GetReleaseNamespace(), hr.GetStorageNamespace()} {
			used[namespace] = true
		}
	}
	for _, ns := range namespaces {
		switch {
		case ns.Name == own || !ns.DeletionTimestamp.IsZero() || !madeFor(group, ns):
		case used[ns.Name]:
			kept = append(kept, ns.Name)
		default:
			gone = append(gone, ns)
		}
	}
	slices.Sort(kept)
	slices.SortFunc(gone, func(a, b metav1.PartialObjectMetadata) int { return strings.Compare(a.Name, b.Name) })
	return gone, kept
}

// madeFor: the executor made the namespace for this very group.
func madeFor(group *v1alpha1.ApplicationGroup, ns metav1.PartialObjectMetadata) bool {
	return ns.Labels[v1alpha1.LabelHeritage] == v1alpha1.Heritage &&
		ns.Labels[v1alpha1.LabelOwner] == v1alpha1.Shorten(group.Name, v1alpha1.MaxLabel) &&
		ns.Annotations[v1alpha1.AnnotationGroupUID] == string(group.UID)
}
