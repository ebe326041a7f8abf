package compile

import (
	"strings"

	helmv2 "github.com/fluxcd/helm-controller/api/v2"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"orkestra.dev/api/v1alpha1"
	"orkestra.dev/pkg/events"
)

// listSeparator is between the names of an annotation that lists names. No name of
// an application or a task may have it.
const listSeparator = ","

// owned is what marks an object as made for a group.
func owned(group string, labels map[string]string) map[string]string {
	out := map[string]string{
		v1alpha1.LabelHeritage: v1alpha1.Heritage,
		v1alpha1.LabelOwner:    group,
	}
	for k, v := range labels {
		out[k] = v
	}
	return out
}

// labelValue makes a chart's name a label's value. Helm allows a name that is longer
// than that, or that ends in a character that a label's value may not end in.
func labelValue(name string) string {
	return strings.TrimFunc(v1alpha1.Shorten(name, v1alpha1.MaxLabel), func(r rune) bool {
		return r == '-' || r == '_' || r == '.'
	})
}

// helmRelease is the object that installs one piece, without values. What the executor
// finds out, its node and the time among it, the executor adds.
func (c *compiler) helmRelease(app *v1alpha1.Application, dependencies []string, staged events.StagedApplication, piece events.StagedPiece, r ReleaseGraph) *helmv2.HelmRelease {
	want := app.Spec.Release.DeepCopy()
	interval := want.Interval
	if interval.Duration == 0 {
		interval = metav1.Duration{Duration: v1alpha1.DefaultInterval}
	}
	annotations := map[string]string{
		v1alpha1.AnnotationGroupUID:                c.rollout.UID,
		v1alpha1.AnnotationWorkflow:                c.workflow,
		v1alpha1.AnnotationTask:                    r.Task,
		v1alpha1.AnnotationDependencies:            strings.Join(r.Dependencies, listSeparator),
		v1alpha1.AnnotationApplicationDependencies: strings.Join(dependencies, listSeparator),
	}
	if len(app.Spec.Subcharts) > 0 {
		annotations[v1alpha1.AnnotationSplit] = "true"
	}
	storage := ""
	if piece.Subchart != "" {
		annotations[v1alpha1.AnnotationSubchart] = piece.Subchart
		annotations[v1alpha1.AnnotationParentChart] = staged.Chart
		storage = v1alpha1.StorageNamespace(c.rollout.Group, piece.Subchart)
	}
	hr := &helmv2.HelmRelease{
		TypeMeta: metav1.TypeMeta{APIVersion: helmv2.GroupVersion.String(), Kind: helmv2.HelmReleaseKind},
		ObjectMeta: metav1.ObjectMeta{
			Name:      r.Name,
			Namespace: want.TargetNamespace,
			Labels: owned(c.rollout.Group, map[string]string{
				v1alpha1.LabelChart:       labelValue(piece.Chart),
				v1alpha1.LabelApplication: v1alpha1.DNSName(app.Name),
			}),
			Annotations: annotations,
			// helm-controller's first look at a release without its finalizer only adds
			// it, and comes back after its minimum retry delay, 750 ms.
			Finalizers: []string{helmv2.HelmReleaseFinalizer},
		},
		Spec: helmv2.HelmReleaseSpec{
			ChartRef: &helmv2.CrossNamespaceSourceReference{
				Kind:      "HelmChart",
				Name:      piece.HelmChart,
				Namespace: c.options.Namespace,
			},
			Interval:        interval,
			Timeout:         want.Timeout,
			TargetNamespace: want.TargetNamespace,
			// The pieces of a chart speak of each other by the name of the release, so
			// they share it, and keep their records apart.
			ReleaseName:        v1alpha1.ReleaseName(app.Name, ""),
			StorageNamespace:   storage,
			ServiceAccountName: want.ServiceAccountName,
			KubeConfig:         want.KubeConfig,
			MaxHistory:         want.MaxHistory,
			DriftDetection:     want.DriftDetection,
			PostRenderers:      want.PostRenderers,
			CommonMetadata:     want.CommonMetadata,
			Install:            want.Install,
			Upgrade:            want.Upgrade,
			Rollback:           want.Rollback,
			Uninstall:          want.Uninstall,
			Test:               want.Test,
		},
	}
	return hr
}

// forDeletion is what a delete node needs to know of a release: who it is and whose,
// where its records are and how long it may take. The values stay behind.
func forDeletion(live helmv2.HelmRelease, workflow, task string) *helmv2.HelmRelease {
	keep := func(from map[string]string, keys ...string) map[string]string {
		out := map[string]string{}
		for _, k := range keys {
			if v, ok := from[k]; ok {
				out[k] = v
			}
		}
		return out
	}
	annotations := keep(live.Annotations, v1alpha1.AnnotationGroupUID, v1alpha1.AnnotationSubchart)
	annotations[v1alpha1.AnnotationWorkflow] = workflow
	annotations[v1alpha1.AnnotationTask] = task
	return &helmv2.HelmRelease{
		TypeMeta: metav1.TypeMeta{APIVersion: helmv2.GroupVersion.String(), Kind: helmv2.HelmReleaseKind},
		ObjectMeta: metav1.ObjectMeta{
			Name:        live.Name,
			Namespace:   live.Namespace,
			UID:         live.UID,
			Labels:      keep(live.Labels, v1alpha1.LabelHeritage, v1alpha1.LabelOwner, v1alpha1.LabelApplication),
			Annotations: annotations,
		},
		Spec: helmv2.HelmReleaseSpec{
			Interval:         live.Spec.Interval,
			Timeout:          live.Spec.Timeout,
			ReleaseName:      live.Spec.ReleaseName,
			TargetNamespace:  live.Spec.TargetNamespace,
			StorageNamespace: live.Spec.StorageNamespace,
		},
	}
}

// cleanedUp is the options of an upgrade that, where it fails, takes away what it has
// created: the release that it is rolled back to knows nothing of that, and Helm would
// leave it for good.
func cleanedUp(want *helmv2.Upgrade) *helmv2.Upgrade {
	out := &helmv2.Upgrade{}
	if want != nil {
		out = want.DeepCopy()
	}
	out.CleanupOnFail = true
	return out
}
