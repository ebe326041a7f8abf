package watcher

import (
	"maps"
	"strings"
	"unique"

	wfv1 "github.com/argoproj/argo-workflows/v3/pkg/apis/workflow/v1alpha1"
	helmv2 "github.com/fluxcd/helm-controller/api/v2"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"orkestra.dev/api/v1alpha1"
	"orkestra.dev/services/watcher/observe"
)

// slim leaves out what is large and not looked at.
func slim(object any) (any, error) {
	switch o := object.(type) {
	case *v1alpha1.ApplicationGroup:
		slimGroup(o)
	case *helmv2.HelmRelease:
		o.ManagedFields = nil
		o.Labels, o.Annotations = shared(o.Labels), shared(told(o.Annotations))
		o.Spec.Values = nil
		o.Spec.PostRenderers = nil
		o.Status.Inventory = nil
		if len(o.Status.History) > 1 {
			o.Status.History = o.Status.History[:1]
		}
		share(o.Status.Conditions)
	case *wfv1.Workflow:
		observe.Slim(o)
	}
	return object, nil
}

// slimGroup leaves of the applications what is asked of them: what they are called, and whether they have an
// expression of their own for being ready. Values are the most of a group, and kubectl keeps all of it once more in an annotation.
func slimGroup(group *v1alpha1.ApplicationGroup) {
	group.ManagedFields = nil
	maps.DeleteFunc(group.Annotations, func(name, _ string) bool {
		return !strings.HasPrefix(name, v1alpha1.GroupVersion.Group+"/")
	})
	for i := range group.Spec.Applications {
		app := &group.Spec.Applications[i]
		app.Dependencies = nil
		app.Spec = v1alpha1.ApplicationSpec{
			Subcharts: app.Spec.Subcharts, // groupstatus.Releases counts them
			Release:   v1alpha1.Release{ReadyExpr: app.Spec.Release.ReadyExpr},
		}
	}
	share(group.Status.Conditions)
	for i := range group.Status.Applications {
		app := &group.Status.Applications[i]
		shareChart(&app.ChartStatus)
		for name, chart := range app.Subcharts {
			shareChart(&chart)
			app.Subcharts[name] = chart
		}
	}
}

func shareChart(c *v1alpha1.ChartStatus) {
	c.Chart, c.Version, c.Phase = once(c.Chart), once(c.Version), v1alpha1.ReleasePhase(once(string(c.Phase)))
	share(c.Conditions)
}

// share keeps the words of conditions once: those of a release are in the status of its group too.
func share(conditions []metav1.Condition) {
	for i := range conditions {
		c := &conditions[i]
		c.Type, c.Status = once(c.Type), metav1.ConditionStatus(once(string(c.Status)))
		c.Reason, c.Message = once(c.Reason), once(c.Message)
	}
}

// told are the annotations of a release that anybody looks at here: what the others say is for the compiler and for people.
func told(annotations map[string]string) map[string]string {
	maps.DeleteFunc(annotations, func(name, _ string) bool {
		switch name {
		case v1alpha1.AnnotationRollout, v1alpha1.AnnotationGroupUID, v1alpha1.AnnotationWorkflow, v1alpha1.AnnotationWorkflowUID,
			v1alpha1.AnnotationNode, v1alpha1.AnnotationStartedAt, v1alpha1.AnnotationSubchart:
			return false
		default:
			return true
		}
	})
	return annotations
}

// once is the string, kept once however many objects have it. Of the labels, annotations and conditions of ten releases
// most are the same.
func once(s string) string { return unique.Make(s).Value() }

// shared is the map with each string kept once.
func shared(m map[string]string) map[string]string {
	if m == nil {
		return nil
	}
	out := make(map[string]string, len(m))
	for k, v := range m {
		out[once(k)] = once(v)
	}
	return out
}
