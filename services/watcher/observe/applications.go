package observe

import (
	"strings"

	helmv2 "github.com/fluxcd/helm-controller/api/v2"
	"github.com/fluxcd/pkg/apis/meta"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"orkestra.dev/api/v1alpha1"
)

// maxReleaseMessage is how much of a release's message the status of its group
// holds, in bytes: a thousand releases share one object. The whole of it is on
// the HelmRelease.
const maxReleaseMessage = 256

// applications are the conditions of the releases, by the names that the spec has
// for their applications and subcharts. The other fields are the stager's.
func applications(group *v1alpha1.ApplicationGroup, releases []*helmv2.HelmRelease) []v1alpha1.ApplicationStatus {
	found := map[string]map[string][]metav1.Condition{}
	for _, hr := range releases {
		if uid := hr.Annotations[v1alpha1.AnnotationGroupUID]; uid != "" && uid != string(group.UID) {
			continue
		}
		app := hr.Labels[v1alpha1.LabelApplication]
		if found[app] == nil {
			found[app] = map[string][]metav1.Condition{}
		}
		found[app][hr.Annotations[v1alpha1.AnnotationSubchart]] = conditionsOf(hr)
	}
	var out []v1alpha1.ApplicationStatus
	for _, app := range group.Spec.Applications {
		charts := found[v1alpha1.DNSName(app.Name)]
		if len(charts) == 0 {
			continue
		}
		status := v1alpha1.ApplicationStatus{Name: app.Name}
		for subchart, conditions := range charts {
			if subchart == "" {
				status.Conditions = conditions
				continue
			}
			if status.Subcharts == nil {
				status.Subcharts = map[string]v1alpha1.ChartStatus{}
			}
			status.Subcharts[subchart] = v1alpha1.ChartStatus{Conditions: conditions}
		}
		out = append(out, status)
	}
	return out
}

// conditionsOf a release: whether it is ready, in helm-controller's words.
func conditionsOf(hr *helmv2.HelmRelease) []metav1.Condition {
	c := apimeta.FindStatusCondition(hr.Status.Conditions, meta.ReadyCondition)
	if c == nil {
		return nil
	}
	out := *c
	if len(out.Message) > maxReleaseMessage {
		out.Message = strings.ToValidUTF8(out.Message[:maxReleaseMessage-3], "") + "..."
	}
	return []metav1.Condition{out}
}
