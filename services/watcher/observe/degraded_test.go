package observe_test

import (
	"strconv"
	"testing"

	helmv2 "github.com/fluxcd/helm-controller/api/v2"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"orkestra.dev/api/v1alpha1"
	"orkestra.dev/services/watcher/observe"
)

// A group that is rolled out says when it is not what was rolled out any more.
func TestDegraded(t *testing.T) {
	const web, redis = "web", "redis"
	installed := helmReady(metav1.ConditionTrue, "InstallSucceeded", "installed")
	parent := func(hr *helmv2.HelmRelease) {
		hr.Name = web
		delete(hr.Annotations, v1alpha1.AnnotationSubchart)
	}
	rolledOut := func(g *v1alpha1.ApplicationGroup) {
		condition(v1alpha1.ConditionReady, metav1.ConditionTrue, "Succeeded", "generation 3 is rolled out", generation)(g)
		g.Status.LastSucceededGeneration = generation
		g.Spec.Applications = []v1alpha1.Application{{DAG: v1alpha1.DAG{Name: web}}}
	}
	told := func(of, subchart v1alpha1.ReleasePhase) func(*v1alpha1.ApplicationGroup) {
		return func(g *v1alpha1.ApplicationGroup) {
			g.Status.Applications = []v1alpha1.ApplicationStatus{{
				Name: web, ChartStatus: v1alpha1.ChartStatus{Phase: of},
				Subcharts: map[string]v1alpha1.ChartStatus{redis: {Phase: subchart, Staged: true}},
			}}
		}
	}
	since := condition(v1alpha1.ConditionDegraded, metav1.ConditionTrue, v1alpha1.ReasonReleasesNotReady, "web/redis is gone", generation)
	const ready, pending = v1alpha1.ReleaseReady, v1alpha1.ReleasePending
	whole := []*helmv2.HelmRelease{release(installed, parent), release(installed)}
	for name, tc := range map[string]struct {
		reason   string
		group    *v1alpha1.ApplicationGroup
		releases []*helmv2.HelmRelease
		want     string
	}{
		"Whole":    {reason: "all is there", group: group(rolledOut, told(ready, ready)), releases: whole},
		"Gone":     {reason: "somebody has deleted a release", group: group(rolledOut, told(ready, ready)), releases: whole[:1], want: "web/redis is gone"},
		"Stays":    {reason: "it stays gone when its phase was written", group: group(rolledOut, told(ready, pending), since), releases: whole[:1], want: "web/redis is gone"},
		"Back":     {reason: "it was put back", group: group(rolledOut, told(ready, pending), since), releases: whole},
		"NotHeard": {reason: "a replica that has not heard of a release yet says nothing of it", group: group(rolledOut, told(ready, pending)), releases: whole[:1]},
		"Failed": {
			reason: "helm-controller could not keep a release as it is", group: group(rolledOut, told(ready, ready)),
			releases: []*helmv2.HelmRelease{whole[0], release(helmReady(metav1.ConditionFalse, "UpgradeFailed", "no"))},
			want:     "web/redis has failed",
		},
		"Going": {
			reason: "somebody deletes a release, and its hooks run", group: group(rolledOut, told(ready, ready)),
			releases: []*helmv2.HelmRelease{release(installed, parent, func(hr *helmv2.HelmRelease) { hr.DeletionTimestamp = new(at(0)) }), whole[1]},
			want:     "web is being deleted",
		},
		"AtWork":     {reason: "what helm-controller is at is not lost", group: group(rolledOut, told(ready, ready)), releases: []*helmv2.HelmRelease{whole[0], release(helmReady(metav1.ConditionUnknown, "Progressing", ""))}},
		"RollingOut": {reason: "a rollout has words of its own", group: group(told(ready, ready)), releases: whole[:1]},
	} {
		t.Run(name, func(t *testing.T) {
			status, _ := observe.Summarize(observe.World{Group: tc.group, Releases: tc.releases, Now: now})
			got := ""
			if c := apimeta.FindStatusCondition(status.Conditions, v1alpha1.ConditionDegraded); c != nil {
				got = c.Message
				if c.Status != metav1.ConditionTrue || observe.Compare(tc.group, status) != observe.News && apimeta.FindStatusCondition(tc.group.Status.Conditions, v1alpha1.ConditionDegraded) == nil {
					t.Errorf("%s: it is news, and true: %+v", tc.reason, c)
				}
			}
			if got != tc.want {
				t.Errorf("%s: got %q, want %q", tc.reason, got, tc.want)
			}
		})
	}
}

// Of a large group not all are named.
func TestDegradedNamesAFew(t *testing.T) {
	g := group(condition(v1alpha1.ConditionReady, metav1.ConditionTrue, "Succeeded", "generation 3 is rolled out", generation))
	g.Status.LastSucceededGeneration = generation
	for i := range 7 {
		name := "a" + strconv.Itoa(i)
		g.Spec.Applications = append(g.Spec.Applications, v1alpha1.Application{DAG: v1alpha1.DAG{Name: name}})
		g.Status.Applications = append(g.Status.Applications, v1alpha1.ApplicationStatus{Name: name, ChartStatus: v1alpha1.ChartStatus{Phase: v1alpha1.ReleaseReady}})
	}
	status, _ := observe.Summarize(observe.World{Group: g, Now: now})
	c := apimeta.FindStatusCondition(status.Conditions, v1alpha1.ConditionDegraded)
	if want := "a0 is gone, a1 is gone, a2 is gone, a3 is gone, a4 is gone, 2 more"; c == nil || c.Message != want {
		t.Errorf("got %+v, want %q", c, want)
	}
}
