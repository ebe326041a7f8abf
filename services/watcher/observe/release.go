package observe

import (
	"time"

	wfv1 "github.com/argoproj/argo-workflows/v3/pkg/apis/workflow/v1alpha1"
	helmv2 "github.com/fluxcd/helm-controller/api/v2"

	"orkestra.dev/api/v1alpha1"
	"orkestra.dev/pkg/events"
	"orkestra.dev/pkg/plan/outcome"
)

// unheardOf is how long a release is spoken of whose workflow is not to be found:
// the workflow may not have reached us yet, or be gone for good.
const unheardOf = time.Hour

// Release is what a HelmRelease tells of the workflow that wrote it last: that it
// is ready, that helm-controller gave up, or that its time is up. It tells nothing
// where nobody waits for it: wf is that workflow, nil where it was not found. The
// duration says when to look again though nothing changes; zero is never.
func Release(hr *helmv2.HelmRelease, wf *wfv1.Workflow, now time.Time) ([]events.Fact, time.Duration) {
	rollout, err := RolloutOf(hr)
	if err != nil {
		// Nothing of a workflow of ours yet: the original's, or labelled by hand.
		return nil, 0
	}
	started, err := time.Parse(time.RFC3339Nano, hr.Annotations[v1alpha1.AnnotationStartedAt])
	if err != nil {
		started = hr.CreationTimestamp.Time
	}
	deadline := outcome.Deadline(hr, started)
	switch {
	case wf == nil && now.Sub(deadline) > unheardOf:
		return nil, 0
	case wf != nil && (wf.Status.Fulfilled() || string(wf.UID) != hr.Annotations[v1alpha1.AnnotationWorkflowUID]):
		return nil, 0
	}
	ref := refOfRelease(hr)
	say := func(p events.Payload) []events.Fact { return []events.Fact{events.New(rollout, p)} }
	if hr.DeletionTimestamp == nil {
		switch o := outcome.Of(hr); o.Phase {
		case outcome.Ready:
			chart, version := chartOf(hr)
			return say(events.ReleaseReady{ReleaseRef: ref, Chart: chart, Version: version}), 0
		case outcome.Failed:
			return say(events.ReleaseFailed{ReleaseRef: ref, Reason: o.Reason, Message: o.Message}), 0
		case outcome.Progressing:
		}
	}
	if now.After(deadline) {
		return say(events.ReleaseExpired{ReleaseRef: ref, TimeoutSeconds: int64(hr.GetTimeout().Duration / time.Second)}), 0
	}
	// A moment later: a timer that fires too early would be set again.
	return nil, deadline.Sub(now) + 10*time.Millisecond
}

// Deleted is what a HelmRelease that is gone tells the workflow that wrote it last.
func Deleted(hr *helmv2.HelmRelease) []events.Fact {
	rollout, err := RolloutOf(hr)
	if err != nil {
		return nil
	}
	return []events.Fact{events.New(rollout, events.ReleaseDeleted{ReleaseRef: refOfRelease(hr)})}
}

func refOfRelease(hr *helmv2.HelmRelease) events.ReleaseRef {
	return events.ReleaseRef{
		Workflow:          hr.Annotations[v1alpha1.AnnotationWorkflow],
		Namespace:         hr.Namespace,
		Name:              hr.Name,
		ReleaseUID:        string(hr.UID),
		ReleaseGeneration: hr.Generation,
		Task:              hr.Annotations[v1alpha1.AnnotationNode],
	}
}

// chartOf is what a release that is ready has installed: what helm-controller attempted last. Its history may still
// begin with what was installed before, as it is written when Helm's records are read again (outcome.Of).
func chartOf(hr *helmv2.HelmRelease) (chart, version string) {
	attempted := hr.Status.LastAttemptedRevision
	if latest := hr.Status.History.Latest(); latest != nil && (attempted == "" || latest.ChartVersion == attempted) {
		return latest.ChartName, latest.ChartVersion
	}
	return hr.Labels[v1alpha1.LabelChart], attempted
}
