package stage

import (
	"fmt"
	"strings"
	"time"

	"github.com/fluxcd/pkg/apis/meta"
	sourcev1 "github.com/fluxcd/source-controller/api/v1"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"

	"orkestra.dev/api/v1alpha1"
)

// sourceInterval of what source-controller is given: the charts under a name never change, so it is
// only for the loss of its store.
const sourceInterval = 24 * time.Hour

// Staging is the staging repository, as source-controller reaches it.
type Staging struct {
	// URL of the ChartMuseum, of which each group has a tenant.
	URL string
	// Secret with username and password, in the namespace of the HelmRepositories;
	// empty: who reads is not asked.
	Secret string
}

// HelmRepository is the staging repository of a group, its tenant, for who installs without Orkestra's services. It
// is named like the group.
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

// Served is a HelmChart, as it is or as it is to be, of which source-controller makes no artifact: Orkestra serves the
// staged archive itself, which has that digest (docs/adr/0012-the-stager-serves-what-it-staged.md). What else is in it stays out, so that it
// can be applied.
func Served(h *sourcev1.HelmChart, digest string) *sourcev1.HelmChart {
	out := &sourcev1.HelmChart{
		TypeMeta: sourceType(sourcev1.HelmChartKind),
		ObjectMeta: metav1.ObjectMeta{
			Namespace:   h.Namespace,
			Name:        h.Name,
			Labels:      map[string]string{},
			Annotations: map[string]string{v1alpha1.AnnotationDigest: digest},
			Finalizers:  []string{sourcev1.SourceFinalizer},
		},
		Spec: *h.Spec.DeepCopy(),
	}
	for _, label := range []string{v1alpha1.LabelHeritage, v1alpha1.LabelOwner} {
		if value, ok := h.Labels[label]; ok {
			out.Labels[label] = value
		}
	}
	for _, owner := range h.OwnerReferences {
		if owner.Kind == v1alpha1.Kind {
			out.OwnerReferences = append(out.OwnerReferences, owner)
		}
	}
	out.Spec.Suspend = true
	return out
}

// DigestOf is that of the archive of a HelmChart, sha256:<hex>, as we have noted it, or as source-controller has fetched it; empty
// where nobody has.
func DigestOf(h *sourcev1.HelmChart) string {
	if digest := h.Annotations[v1alpha1.AnnotationDigest]; digest != "" {
		return digest
	}
	if a := h.Status.Artifact; a != nil && strings.HasPrefix(a.Digest, "sha256:") {
		return a.Digest
	}
	return ""
}

// Artifact is where helm-controller finds the archive of a HelmChart.
type Artifact struct {
	// Path of the archive below the address of who serves it, and the whole URL.
	Path, URL string
	// Digest of it, sha256:<hex>. helm-controller installs nothing else.
	Digest string
}

// Offers tells whether a HelmChart is served and offers an artifact, so that a HelmRelease that refers to it can be
// installed.
func (a Artifact) Offers(h *sourcev1.HelmChart) bool {
	ready := apimeta.FindStatusCondition(h.Status.Conditions, meta.ReadyCondition)
	has := h.Status.Artifact
	return h.Spec.Suspend && h.Status.ObservedGeneration == h.Generation &&
		ready != nil && ready.Status == metav1.ConditionTrue && ready.ObservedGeneration == h.Generation &&
		has != nil && has.URL == a.URL && has.Digest == a.Digest && has.Revision == h.Spec.Version
}

// Status of a HelmChart that offers the artifact, to be applied at a time. ArtifactInStorage is what
// source-controller makes Ready of whenever it passes by, also of what it leaves alone.
func (a Artifact) Status(h *sourcev1.HelmChart, now metav1.Time) *sourcev1.HelmChart {
	condition := func(kind string) metav1.Condition {
		return metav1.Condition{
			Type: kind, Status: metav1.ConditionTrue, Reason: sourcev1.ChartPullSucceededReason,
			Message:            fmt.Sprintf("chart '%s' with version '%s' is served by Orkestra", h.Spec.Chart, h.Spec.Version),
			LastTransitionTime: now, ObservedGeneration: h.Generation,
		}
	}
	return &sourcev1.HelmChart{
		TypeMeta: sourceType(sourcev1.HelmChartKind),
		// Another one of that name is not meant.
		ObjectMeta: metav1.ObjectMeta{Namespace: h.Namespace, Name: h.Name, UID: h.UID},
		Status: sourcev1.HelmChartStatus{
			ObservedGeneration: h.Generation,
			ObservedChartName:  h.Spec.Chart,
			URL:                a.URL,
			Artifact: &meta.Artifact{
				Path: a.Path, URL: a.URL, Revision: h.Spec.Version, Digest: a.Digest, LastUpdateTime: now,
			},
			Conditions: []metav1.Condition{condition(meta.ReadyCondition), condition(sourcev1.ArtifactInStorageCondition)},
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
		// source-controller's own. To an object without it, it would add it at first: a write for nothing.
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
	o, err := fieldsOf(source)
	if err == nil {
		unstructured.RemoveNestedField(o.Object, "status")
	}
	return o, err
}

// UnstructuredStatus is the status of a HelmChart as it is to be applied.
func UnstructuredStatus(source runtime.Object) (*unstructured.Unstructured, error) {
	o, err := fieldsOf(source)
	if err == nil {
		unstructured.RemoveNestedField(o.Object, "spec")
	}
	return o, err
}

func fieldsOf(source runtime.Object) (*unstructured.Unstructured, error) {
	fields, err := runtime.DefaultUnstructuredConverter.ToUnstructured(source)
	if err != nil {
		return nil, fmt.Errorf("encoding %T: %w", source, err)
	}
	unstructured.RemoveNestedField(fields, "metadata", "creationTimestamp")
	return &unstructured.Unstructured{Object: fields}, nil
}
