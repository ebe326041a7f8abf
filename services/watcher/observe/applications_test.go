package observe_test

import (
	"testing"
	"time"

	helmv2 "github.com/fluxcd/helm-controller/api/v2"
	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"orkestra.dev/api/v1alpha1"
	"orkestra.dev/services/watcher/observe"
)

func TestApplications(t *testing.T) {
	g := group(func(g *v1alpha1.ApplicationGroup) {
		// The application is named otherwise than its chart and its objects.
		g.Spec.Applications = []v1alpha1.Application{{DAG: v1alpha1.DAG{Name: "Web"}}, {DAG: v1alpha1.DAG{Name: "idle"}}}
		g.Status.Applications = []v1alpha1.ApplicationStatus{{
			Name: "Web", ChartStatus: v1alpha1.ChartStatus{Version: "1", Staged: true},
			Subcharts: map[string]v1alpha1.ChartStatus{
				"redis": {Version: "2", Staged: true},
				"mongo": {Version: "3", Staged: true},
				"left":  {Phase: v1alpha1.ReleaseReady}, // what the stager no longer has
			},
		}}
	})
	installed := helmReady(metav1.ConditionTrue, "InstallSucceeded", "installed")
	broken := helmReady(metav1.ConditionFalse, "InstallFailed", "boom")
	since := func(d time.Duration) func(*helmv2.HelmRelease) {
		return func(hr *helmv2.HelmRelease) { hr.Status.Conditions[0].LastTransitionTime = at(d) }
	}
	parent := func(hr *helmv2.HelmRelease) { delete(hr.Annotations, v1alpha1.AnnotationSubchart) }
	world := observe.World{Group: g, Now: now, Releases: []*helmv2.HelmRelease{
		release(broken, since(-time.Second)),
		release(installed, since(-time.Minute), parent),
		release(installed, func(hr *helmv2.HelmRelease) {
			hr.Annotations[v1alpha1.AnnotationSubchart] = "of another group"
			hr.Annotations[v1alpha1.AnnotationGroupUID] = "uid-before"
		}),
	}}
	status, _ := observe.Summarize(world)
	want := []v1alpha1.ApplicationStatus{{
		Name: "Web",
		ChartStatus: v1alpha1.ChartStatus{
			Phase: v1alpha1.ReleaseReady, LastTransitionTime: new(at(-time.Minute)),
			Conditions: release(installed, since(-time.Minute)).Status.Conditions,
		},
		Subcharts: map[string]v1alpha1.ChartStatus{
			"redis": {
				Phase: v1alpha1.ReleaseFailed, LastTransitionTime: new(at(-time.Second)),
				Conditions: release(broken, since(-time.Second)).Status.Conditions,
			},
			"mongo": {Phase: v1alpha1.ReleasePending},
		},
	}, {
		Name: "idle", ChartStatus: v1alpha1.ChartStatus{Phase: v1alpha1.ReleasePending},
	}}
	if diff := cmp.Diff(want, status.Releases); diff != "" {
		t.Errorf("releases show under the names that the spec has for them (-want +got):\n%s", diff)
	}

	g.Status.Conditions, g.Status.ObservedGeneration = status.Conditions, status.ObservedGeneration
	if told := observe.Compare(g, status); told != observe.Details {
		t.Errorf("that a release has changed is a detail of the group: got %v", told)
	}
	g.Status.Applications = status.Releases
	g.Status.Applications[0].Chart, g.Status.Applications[0].Version, g.Status.Applications[0].Staged = "web", "2", true
	if told := observe.Compare(g, status); told != observe.NothingNew {
		t.Errorf("what the stager says of the same applications is not the watcher's: got %v", told)
	}
}

func TestPhase(t *testing.T) {
	begun := at(-10 * time.Second)
	for name, tc := range map[string]struct {
		reason string
		hr     *helmv2.HelmRelease
		want   v1alpha1.ReleasePhase
		since  metav1.Time
	}{
		"Written": {
			reason: "a release that helm-controller has not looked at is on its way since it was written",
			hr:     release(), want: v1alpha1.ReleaseProgressing, since: begun,
		},
		"Upgrading": {
			reason: "what helm-controller said of an older generation does not count",
			hr: release(helmReady(metav1.ConditionTrue, "InstallSucceeded", ""), func(hr *helmv2.HelmRelease) {
				hr.Generation++
				hr.Status.Conditions[0].LastTransitionTime = at(-time.Hour)
			}),
			want: v1alpha1.ReleaseProgressing, since: begun,
		},
		"Installing": {
			reason: "while Helm is at work, the time is the later one",
			hr: release(helmReady(metav1.ConditionUnknown, "Progressing", ""), func(hr *helmv2.HelmRelease) {
				hr.Status.Conditions[0].LastTransitionTime = at(-time.Second)
			}),
			want: v1alpha1.ReleaseProgressing, since: at(-time.Second),
		},
		"Deleting": {
			reason: "a release that goes is going, however it was",
			hr:     release(helmReady(metav1.ConditionTrue, "InstallSucceeded", ""), gone),
			want:   v1alpha1.ReleaseDeleting, since: at(-time.Minute),
		},
	} {
		g := group(func(g *v1alpha1.ApplicationGroup) {
			g.Spec.Applications = []v1alpha1.Application{{DAG: v1alpha1.DAG{Name: "web"}}}
		})
		status, _ := observe.Summarize(observe.World{Group: g, Now: now, Releases: []*helmv2.HelmRelease{tc.hr}})
		got := status.Releases[0].Subcharts["redis"]
		if got.Phase != tc.want || got.LastTransitionTime == nil || !got.LastTransitionTime.Equal(&tc.since) {
			t.Errorf("%s: %s: got %s since %v, want %s since %s", name, tc.reason, got.Phase, got.LastTransitionTime, tc.want, tc.since)
		}
	}
}
