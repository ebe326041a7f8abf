package observe_test

import (
	"testing"
	"time"

	wfv1 "github.com/argoproj/argo-workflows/v3/pkg/apis/workflow/v1alpha1"
	helmv2 "github.com/fluxcd/helm-controller/api/v2"
	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"orkestra.dev/api/v1alpha1"
	"orkestra.dev/pkg/events"
	"orkestra.dev/pkg/plan/outcome"
	"orkestra.dev/services/watcher/observe"
)

var releaseRef = events.ReleaseRef{
	Workflow: "shop-3-forward", Namespace: "target", Name: "web-redis",
	ReleaseUID: "uid-hr", ReleaseGeneration: 2, Task: "web.web-redis",
}

func TestRelease(t *testing.T) {
	const moment = 10 * time.Millisecond
	running := workflow(events.WorkflowForward, wfv1.WorkflowRunning)
	installed := helmReady(metav1.ConditionTrue, "InstallSucceeded", "installed")
	unknown := helmReady(metav1.ConditionUnknown, "Progressing", "Running 'install' action")

	for name, tc := range map[string]struct {
		reason string
		hr     *helmv2.HelmRelease
		wf     *wfv1.Workflow
		want   []events.Payload
		again  time.Duration
	}{
		"Ready": {
			reason: "a release that is ready says which chart is installed",
			hr: release(installed, func(hr *helmv2.HelmRelease) {
				hr.Status.History = helmv2.Snapshots{{ChartName: "redis", ChartVersion: "1.2.3"}}
			}),
			wf:   running,
			want: []events.Payload{events.ReleaseReady{ReleaseRef: releaseRef, Chart: "redis", Version: "1.2.3"}},
		},
		"ReadyBeforeItsHistory": {
			reason: "a release that is ready says which chart was attempted where the history still has the one before",
			hr: release(installed, func(hr *helmv2.HelmRelease) {
				hr.Labels = map[string]string{v1alpha1.LabelChart: "redis"}
				hr.Status.History = helmv2.Snapshots{{ChartName: "redis", ChartVersion: "1.2.3"}}
				hr.Status.LastAttemptedRevision = "1.3.0"
			}),
			wf:   running,
			want: []events.Payload{events.ReleaseReady{ReleaseRef: releaseRef, Chart: "redis", Version: "1.3.0"}},
		},
		"Failed": {
			reason: "a release that helm-controller gave up says why",
			hr:     release(helmReady(metav1.ConditionFalse, "InstallFailed", "boom")),
			wf:     running,
			want:   []events.Payload{events.ReleaseFailed{ReleaseRef: releaseRef, Reason: "InstallFailed", Message: "boom"}},
		},
		"Progressing": {
			reason: "a release at work is looked at again when its time is up, counted from when it was begun",
			hr:     release(unknown),
			wf:     running,
			again:  50*time.Second + outcome.Grace + moment,
		},
		"Expired": {
			reason: "a release whose time is up says so",
			hr:     release(unknown, startedAgo(time.Minute+outcome.Grace+time.Second)),
			wf:     running,
			want:   []events.Payload{events.ReleaseExpired{ReleaseRef: releaseRef, TimeoutSeconds: 60}},
		},
		"Deleting": {
			reason: "a release that is being deleted is not ready, however it was, and its deletion has a time too",
			hr:     release(installed, func(hr *helmv2.HelmRelease) { hr.DeletionTimestamp = new(at(0)) }),
			wf:     running,
			again:  50*time.Second + outcome.Grace + moment,
		},
		"DeletionExpired": {
			reason: "a deletion whose time is up says so",
			hr: release(installed, startedAgo(time.Hour), func(hr *helmv2.HelmRelease) {
				hr.DeletionTimestamp = new(at(-time.Hour))
			}),
			wf:   running,
			want: []events.Payload{events.ReleaseExpired{ReleaseRef: releaseRef, TimeoutSeconds: 60}},
		},
		"WorkflowFinished": {
			reason: "nobody waits for the releases of a workflow that has ended",
			hr:     release(installed),
			wf:     workflow(events.WorkflowForward, wfv1.WorkflowFailed),
		},
		"WorkflowMadeAgain": {
			reason: "another workflow of that name does not wait for what the one before wrote",
			hr:     release(installed),
			wf:     workflow(events.WorkflowForward, wfv1.WorkflowRunning, func(wf *wfv1.Workflow) { wf.UID = "another" }),
		},
		"WorkflowNotSeenYet": {
			reason: "the workflow may reach us after its release: in doubt it is said",
			hr:     release(installed),
			want:   []events.Payload{events.ReleaseReady{ReleaseRef: releaseRef, Chart: "web-redis"}},
		},
		"WorkflowCollected": {
			reason: "the releases of a workflow that is long gone are not told of for ever",
			hr:     release(installed, startedAgo(2*time.Hour)),
		},
		"NobodysRelease": {
			reason: "a release that no workflow of ours wrote tells nothing",
			hr:     release(installed, func(hr *helmv2.HelmRelease) { delete(hr.Annotations, v1alpha1.AnnotationRollout) }),
		},
	} {
		t.Run(name, func(t *testing.T) {
			facts, again := observe.Release(tc.hr, tc.wf, now)
			if again != tc.again {
				t.Errorf("%s: looked at again after %s, want %s", tc.reason, again, tc.again)
			}
			if diff := cmp.Diff(tc.want, payloads(facts)); diff != "" {
				t.Errorf("%s (-want +got):\n%s", tc.reason, diff)
			}
		})
	}
}

func payloads(facts []events.Fact) []events.Payload {
	var out []events.Payload
	for _, f := range facts {
		out = append(out, f.Data)
	}
	return out
}

func TestRetryByAnotherWorkflowIsAnotherEvent(t *testing.T) {
	installed := helmReady(metav1.ConditionTrue, "InstallSucceeded", "installed")
	first, _ := observe.Release(release(installed), nil, now)
	again, _ := observe.Release(release(installed, func(hr *helmv2.HelmRelease) {
		hr.Annotations[v1alpha1.AnnotationWorkflow] = "shop-4-forward"
	}), nil, now)
	if first[0].EventID() == again[0].EventID() {
		t.Errorf("the same generation of a release, wanted by another workflow, is told again: both are %s", first[0].EventID())
	}
}

func TestDeleted(t *testing.T) {
	want := []events.Payload{events.ReleaseDeleted{ReleaseRef: releaseRef}}
	if diff := cmp.Diff(want, payloads(observe.Deleted(release()))); diff != "" {
		t.Errorf("a release that is gone tells the workflow that wrote it last (-want +got):\n%s", diff)
	}
	nobodys := release(func(hr *helmv2.HelmRelease) { hr.Annotations = nil })
	if facts := observe.Deleted(nobodys); facts != nil {
		t.Errorf("a release that no workflow of ours wrote tells nothing: got %+v", facts)
	}
}
