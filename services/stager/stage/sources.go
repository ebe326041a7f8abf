package stage

import (
	"fmt"
	"strings"
	"time"

	"github.com/fluxcd/pkg/apis/meta"
	sourcev1 "github.com/fluxcd/source-controller/api/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"

	"orkestra.dev/api/v1alpha1"
)

// sourceInterval of what source-controller is given: it is asked to look where
// something has changed, and the charts under a name never change, so this is only for
// the loss of its store.
const sourceInterval = 24 * time.Hour

// Staging is the staging repository, as source-controller reaches it.
type Staging struct {
	// URL of the ChartMuseum, of which each group has a tenant.
	URL string
	// Secret with username and password, in the namespace of the HelmRepositories;
	// empty: who reads is not asked.
	Secret string
}

// HelmRepository is the staging repository of a group: its tenant. It is named like the
// group.
func HelmRepository(group *v1alpha1.ApplicationGroup, namespace string, staging Staging) *sourcev1.HelmRepository {
	repo := &sourcev1.HelmRepository{
		TypeMeta:   sourceType(sourcev1.HelmRepositoryKind),
		ObjectMeta: sourceMeta(group, namespace, group.Name),
		Spec: sourcev1.HelmRepositorySpec{
			URL:      strings.TrimSuffix(staging.URL, "/") + "/" + group.Name,
			Interval: metav1.Duration{Duration: sourceInterval},
		},
	}
	if staging.Secret != "" {
		repo.Spec.SecretRef = &meta.LocalObjectReference{Name: staging.Secret}
	}
	return repo
}

// HelmChart is a staged piece of a group, for its HelmRelease to refer to. Pieces
// that are the same bytes under the same name and version have the same.
func HelmChart(group *v1alpha1.ApplicationGroup, namespace string, p Piece) *sourcev1.HelmChart {
	return &sourcev1.HelmChart{
		TypeMeta:   sourceType(sourcev1.HelmChartKind),
		ObjectMeta: sourceMeta(group, namespace, HelmChartName(group, p)),
		Spec: sourcev1.HelmChartSpec{
			Chart:     p.Chart,
			Version:   p.Version,
			SourceRef: sourcev1.LocalHelmChartSourceReference{Kind: sourcev1.HelmRepositoryKind, Name: group.Name},
			Interval:  metav1.Duration{Duration: sourceInterval},
			// A staged version never changes.
			ReconcileStrategy: sourcev1.ReconcileStrategyChartVersion,
		},
	}
}

func sourceType(kind string) metav1.TypeMeta {
	return metav1.TypeMeta{APIVersion: sourcev1.GroupVersion.String(), Kind: kind}
}

// sourceMeta has an owner only where the group has a UID: to the API server, an owner
// that it does not know is one that is gone, and takes the object along.
func sourceMeta(group *v1alpha1.ApplicationGroup, namespace, name string) metav1.ObjectMeta {
	m := metav1.ObjectMeta{
		Namespace: namespace,
		Name:      name,
		Labels: map[string]string{
			v1alpha1.LabelHeritage: v1alpha1.Heritage,
			v1alpha1.LabelOwner:    v1alpha1.Shorten(group.Name, v1alpha1.MaxLabel),
		},
		// source-controller's own. At an object without it, it would only add it at
		// first, and come back after its minimum retry delay, 750 ms.
		Finalizers: []string{sourcev1.SourceFinalizer},
	}
	if group.UID != "" {
		m.OwnerReferences = []metav1.OwnerReference{{
			APIVersion: v1alpha1.GroupVersion.String(), Kind: v1alpha1.Kind, Name: group.Name, UID: group.UID,
		}}
	}
	return m
}

// Unstructured is a HelmRepository or a HelmChart as it is to be applied: without the
// fields that are not ours, such as its status.
func Unstructured(source runtime.Object) (*unstructured.Unstructured, error) {
	fields, err := runtime.DefaultUnstructuredConverter.ToUnstructured(source)
	if err != nil {
		return nil, fmt.Errorf("encoding %T: %w", source, err)
	}
	unstructured.RemoveNestedField(fields, "status")
	unstructured.RemoveNestedField(fields, "metadata", "creationTimestamp")
	return &unstructured.Unstructured{Object: fields}, nil
}
