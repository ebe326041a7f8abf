package observe

import (
	"strings"
	"time"

	helmv2 "github.com/fluxcd/helm-controller/api/v2"
	"github.com/fluxcd/pkg/apis/meta"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"orkestra.dev/api/v1alpha1"
	"orkestra.dev/pkg/plan/outcome"
)

// maxReleaseMessage is how much of a release's message the status of its group
// holds, in bytes: a thousand releases share one object. The whole of it is on
// the HelmRelease.
const maxReleaseMessage = 256

// applications are the phases and conditions of the releases, by the names that the
// spec has for their applications and subcharts. The other fields are the stager's.
// All of it follows from the objects, so that two replicas say the same.
func applications(group *v1alpha1.ApplicationGroup, releases []*helmv2.HelmRelease) []v1alpha1.ApplicationStatus {
	found := map[string]map[string]v1alpha1.ChartStatus{}
	for _, hr := range releases {
		if !owns(group, hr) {
			continue
		}
		app := hr.Labels[v1alpha1.LabelApplication]
		if found[app] == nil {
			found[app] = map[string]v1alpha1.ChartStatus{}
		}
		found[app][hr.Annotations[v1alpha1.AnnotationSubchart]] = statusOf(hr)
	}
	staged := map[string]v1alpha1.ApplicationStatus{}
	for _, app := range group.Status.Applications {
		staged[app.Name] = app
	}
	pending := v1alpha1.ChartStatus{Phase: v1alpha1.ReleasePending}
	out := []v1alpha1.ApplicationStatus{}
	for _, app := range group.Spec.Applications {
		status := v1alpha1.ApplicationStatus{Name: app.Name, ChartStatus: pending}
		subchart := func(name string, chart v1alpha1.ChartStatus) {
			if status.Subcharts == nil {
				status.Subcharts = map[string]v1alpha1.ChartStatus{}
			}
			status.Subcharts[name] = chart
		}
		for name, chart := range staged[app.Name].Subcharts {
			if chart.Version != "" || chart.Staged {
				subchart(name, pending)
			}
		}
		for name, chart := range found[v1alpha1.DNSName(app.Name)] {
			if name == "" {
				status.ChartStatus = chart
				continue
			}
			subchart(name, chart)
		}
		out = append(out, status)
	}
	return out
}

// statusOf is the watcher's part of a chart's status. A phase began when the object
// says that it did.
func statusOf(hr *helmv2.HelmRelease) v1alpha1.ChartStatus {
	out := v1alpha1.ChartStatus{Phase: v1alpha1.ReleaseProgressing, Conditions: conditionsOf(hr)}
	if hr.DeletionTimestamp != nil {
		out.Phase, out.LastTransitionTime = v1alpha1.ReleaseDeleting, hr.DeletionTimestamp.DeepCopy()
		return out
	}
	var since metav1.Time
	if c := apimeta.FindStatusCondition(hr.Status.Conditions, meta.ReadyCondition); c != nil {
		since = c.LastTransitionTime
	}
	switch outcome.Of(hr).Phase {
	case outcome.Ready:
		out.Phase = v1alpha1.ReleaseReady
	case outcome.Failed:
		out.Phase = v1alpha1.ReleaseFailed
	case outcome.Progressing:
		if at := begun(hr); since.Before(&at) {
			since = at // what helm-controller says is of before
		}
	}
	out.LastTransitionTime = timeOf(since)
	return out
}

// owns: the release is of this group, and not of one before it that had its name.
func owns(group *v1alpha1.ApplicationGroup, hr *helmv2.HelmRelease) bool {
	uid := hr.Annotations[v1alpha1.AnnotationGroupUID]
	return uid == "" || uid == string(group.UID)
}

// begun is when the release was written last, to the second, as a status has it.
func begun(hr *helmv2.HelmRelease) metav1.Time {
	started, err := time.Parse(time.RFC3339Nano, hr.Annotations[v1alpha1.AnnotationStartedAt])
	if err != nil {
		return hr.CreationTimestamp
	}
	return metav1.NewTime(started.Truncate(time.Second))
}

// conditionsOf a release: whether it is ready, in helm-controller's words, as far as they may be repeated.
func conditionsOf(hr *helmv2.HelmRelease) []metav1.Condition {
	c := apimeta.FindStatusCondition(hr.Status.Conditions, meta.ReadyCondition)
	if c == nil {
		return nil
	}
	out := *c
	out.Message = cut(outcome.Words(hr, c))
	return []metav1.Condition{out}
}

// cut is a release's message as long as the status of its group holds it.
func cut(message string) string {
	if len(message) <= maxReleaseMessage {
		return message
	}
	return strings.ToValidUTF8(message[:maxReleaseMessage-3], "") + "..."
}
