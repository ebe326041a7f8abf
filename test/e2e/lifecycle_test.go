package e2e

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"orkestra.dev/api/v1alpha1"
	"orkestra.dev/local/timing"
)

// The main job: the bookinfo group comes up in order and goes in reverse.
func TestBookinfo(t *testing.T) {
	const name = "bookinfo"
	group := bookinfo(t)
	applied := time.Now()
	create(t, group)
	g := awaitReady(t, name, 2*time.Minute, metav1.ConditionTrue, v1alpha1.ReasonSucceeded)

	want := []string{
		"bookinfo/bookinfo", "bookinfo/bookinfo-details", "bookinfo/bookinfo-productpage",
		"bookinfo/bookinfo-ratings", "bookinfo/bookinfo-reviews", "gateway/gateway",
	}
	live := releases(t, name)
	if diff := cmp.Diff(want, names(live)); diff != "" {
		t.Errorf("releases (-want +got):\n%s", diff)
	}
	for key, hr := range live {
		if got := hr.GetReleaseName(); !strings.HasPrefix(key, "gateway/") && got != "bookinfo" {
			t.Errorf("release %s has the Helm name %q: every piece of an application has the application's", key, got)
		}
		if hr.Spec.ChartRef == nil {
			t.Errorf("release %s does not refer to a staged HelmChart", key)
		}
	}
	var deployments appsv1.DeploymentList
	if err := env.client.List(t.Context(), &deployments, client.InNamespace("bookinfo")); err != nil {
		t.Fatal(err)
	}
	replicasOf := map[string]int32{}
	for _, d := range deployments.Items {
		replicasOf[d.Name] = *d.Spec.Replicas
	}
	// ratings: 2 is the parent's override of the subchart's 1; reviews: 2 is the group's.
	if diff := cmp.Diff(map[string]int32{"details": 1, "productpage": 1, "ratings": 2, "reviews": 2}, replicasOf); diff != "" {
		t.Errorf("replicas of the Deployments (-want +got):\n%s", diff)
	}

	if g.Status.LastSucceededGeneration != g.Generation {
		t.Errorf("lastSucceededGeneration is %d, want %d", g.Status.LastSucceededGeneration, g.Generation)
	}
	for _, a := range g.Status.Applications {
		if !a.Staged || a.Version == "" || a.Error != "" {
			t.Errorf("status of application %s: %+v", a.Name, a.ChartStatus)
		}
		if a.Name == "bookinfo" {
			if diff := cmp.Diff([]string{"details", "productpage", "ratings", "reviews"}, names(a.Subcharts)); diff != "" {
				t.Errorf("subcharts in the status (-want +got):\n%s", diff)
			}
		}
	}
	inOrder(t, name, 6)

	first := env.recorder.Releases(name)[0].Created.Sub(applied)
	edges := env.recorder.Edges(name)
	median := timing.Percentile(edges, 50)
	t.Logf("apply to first HelmRelease created: %s", first.Round(time.Millisecond))
	t.Logf("edge overhead of %d edges: median %s, max %s", len(edges), median.Round(time.Millisecond), timing.Percentile(edges, 100).Round(time.Millisecond))
	if len(edges) != 5 {
		t.Errorf("%d releases have parents, want 5", len(edges))
	}

	deleteInReverse(t, name)
}

// inOrder fails where a release was created before its parents were ready. The watch that tells may have to find the
// API server again first.
func inOrder(t *testing.T, group string, want int) {
	t.Helper()
	eventually(t, caughtUp, "the watch to see the releases of group "+group, func(context.Context) error {
		live := slices.DeleteFunc(env.recorder.Releases(group), func(r timing.Release) bool { return !r.Deleted.IsZero() })
		if len(live) != want {
			return fmt.Errorf("it saw %d, want %d", len(live), want)
		}
		return nil
	})
	for _, e := range env.recorder.Edges(group) {
		if e.Overhead < 0 {
			t.Errorf("%s was created %s before %s was ready", e.Child, -e.Overhead, e.Parent)
		}
	}
}

// deleteInReverse deletes the group and asserts that no release went before those
// that depend on it.
func deleteInReverse(t *testing.T, group string) {
	t.Helper()
	before := map[string]timing.Release{}
	for _, r := range env.recorder.Releases(group) {
		if r.Deleted.IsZero() {
			before[r.UID] = r
		}
	}
	remove(t, group)
	nothingLeft(t, group)
	eventually(t, 5*time.Second, "the watch to see every release go", func(context.Context) error {
		for _, r := range env.recorder.Releases(group) {
			if _, ok := before[r.UID]; ok && r.Deleted.IsZero() {
				return fmt.Errorf("%s is there", r.Name)
			}
		}
		return nil
	})
	for _, e := range env.recorder.Reversed(group) {
		if e.Overhead < 0 {
			t.Errorf("%s went %s before %s, which depends on it, was gone", e.Child, -e.Overhead, e.Parent)
		}
	}
}

// Subcharts empty: one release per application (the original's behaviour 2).
func TestWithoutSubcharts(t *testing.T) {
	g := bookinfo(t)
	g.Name = "whole"
	for i := range g.Spec.Applications {
		g.Spec.Applications[i].Spec.Subcharts = nil
		g.Spec.Applications[i].Spec.Release.TargetNamespace = "whole"
	}
	create(t, g)
	awaitReady(t, g.Name, time.Minute, metav1.ConditionTrue, v1alpha1.ReasonSucceeded)
	if diff := cmp.Diff([]string{"whole/bookinfo", "whole/gateway"}, names(releases(t, g.Name))); diff != "" {
		t.Errorf("releases (-want +got):\n%s", diff)
	}
}

// chain is a group of n applications of one chart, each after the one before.
func chain(name, url string, n int) *v1alpha1.ApplicationGroup {
	g := &v1alpha1.ApplicationGroup{ObjectMeta: metav1.ObjectMeta{Name: name}}
	for i := range n {
		a := v1alpha1.Application{DAG: v1alpha1.DAG{Name: fmt.Sprintf("a%d", i)}}
		if i > 0 {
			a.Dependencies = []string{fmt.Sprintf("a%d", i-1)}
		}
		a.Spec.Chart = v1alpha1.ChartRef{URL: url, Name: "small", Version: "1.0.0"}
		a.Spec.Release = v1alpha1.Release{TargetNamespace: name, Timeout: &metav1.Duration{Duration: time.Minute}}
		g.Spec.Applications = append(g.Spec.Applications, a)
	}
	return g
}

// A chain is measured without pods to wait for: with the charts staged the first
// HelmRelease is there within 2 s, and an edge costs less than 300 ms (median).
func TestSpeedOfAChain(t *testing.T) {
	s := serve(t)
	add(t, s, "small", "1.0.0", configMapChart())
	const n = 8
	create(t, chain("speed", s.URL, 1))
	awaitReady(t, "speed", time.Minute, metav1.ConditionTrue, v1alpha1.ReasonSucceeded)

	// Seven more of the same chart: what they need is staged.
	applied := time.Now()
	update(t, "speed", func(g *v1alpha1.ApplicationGroup) { g.Spec.Applications = chain("speed", s.URL, n).Spec.Applications })
	awaitReady(t, "speed", time.Minute, metav1.ConditionTrue, v1alpha1.ReasonSucceeded)
	inOrder(t, "speed", n)
	first := env.recorder.Releases("speed")[1].Created.Sub(applied)
	edges := env.recorder.Edges("speed")[1:] // the first release was ready long before its child was asked for
	median := timing.Percentile(edges, 50)
	t.Logf("apply to first HelmRelease created: %s; to all ready: %s", first.Round(time.Millisecond), time.Since(applied).Round(time.Millisecond))
	t.Logf("edge overhead of %d edges: median %s, p90 %s, max %s", len(edges), median.Round(time.Millisecond),
		timing.Percentile(edges, 90).Round(time.Millisecond), timing.Percentile(edges, 100).Round(time.Millisecond))
	if first > 2*time.Second {
		t.Errorf("the first HelmRelease came after %s, want under 2s", first)
	}
	if len(edges) != n-2 || median > 300*time.Millisecond {
		t.Errorf("edge overhead of %d edges has a median of %s, want %d edges under 300ms", len(edges), median, n-2)
	}
}

// A chart version that does not exist is said within 30 s, and a patch mends it
// (behaviour 3).
func TestChartVersionThatDoesNotExist(t *testing.T) {
	s := serve(t)
	add(t, s, "small", "1.0.0", configMapChart())
	g := chain("missing", s.URL, 2)
	g.Spec.Applications[1].Spec.Chart.Version = "9.9.9"
	create(t, g)
	failed := awaitReady(t, g.Name, 30*time.Second, metav1.ConditionFalse, v1alpha1.ReasonChartPullFailed)
	for _, want := range []string{"a1", "small", "9.9.9", s.URL} {
		if !strings.Contains(message(failed, v1alpha1.ConditionReady), want) {
			t.Errorf("the message does not name %q: %s", want, message(failed, v1alpha1.ConditionReady))
		}
	}
	if n := len(releases(t, g.Name)); n != 0 {
		t.Errorf("%d releases of a group whose charts could not be staged", n)
	}
	update(t, g.Name, func(g *v1alpha1.ApplicationGroup) { g.Spec.Applications[1].Spec.Chart.Version = "1.0.0" })
	awaitReady(t, g.Name, time.Minute, metav1.ConditionTrue, v1alpha1.ReasonSucceeded)
}

// An application that is added later is rolled out (behaviour 4), a chart's new
// version reaches its release (behaviour 5), and what did not change is not touched.
func TestUpdate(t *testing.T) {
	s := serve(t)
	add(t, s, "small", "1.0.0", configMapChart())
	add(t, s, "small", "1.1.0", configMapChart())
	create(t, chain("update", s.URL, 2))
	awaitReady(t, "update", time.Minute, metav1.ConditionTrue, v1alpha1.ReasonSucceeded)
	before := releases(t, "update")

	update(t, "update", func(g *v1alpha1.ApplicationGroup) {
		more := chain("update", s.URL, 3).Spec.Applications[2]
		more.Spec.Chart.Version = "1.1.0"
		g.Spec.Applications = append(g.Spec.Applications, more)
	})
	g := awaitReady(t, "update", time.Minute, metav1.ConditionTrue, v1alpha1.ReasonSucceeded)
	if g.Status.ObservedGeneration != g.Generation || g.Status.LastSucceededGeneration != g.Generation {
		t.Errorf("generation %d, observed %d, succeeded %d", g.Generation, g.Status.ObservedGeneration, g.Status.LastSucceededGeneration)
	}
	after := releases(t, "update")
	if diff := cmp.Diff([]string{"update/a0", "update/a1", "update/a2"}, names(after)); diff != "" {
		t.Errorf("releases (-want +got):\n%s", diff)
	}
	for name, hr := range before {
		if got := after[name]; got.Generation != hr.Generation || got.Status.History.Latest().Version != hr.Status.History.Latest().Version {
			t.Errorf("release %s was touched though nothing of it changed", name)
		}
	}

	update(t, "update", func(g *v1alpha1.ApplicationGroup) { g.Spec.Applications[0].Spec.Chart.Version = "1.1.0" })
	awaitReady(t, "update", time.Minute, metav1.ConditionTrue, v1alpha1.ReasonSucceeded)
	a0 := releases(t, "update")["update/a0"]
	if v := a0.Status.History.Latest().ChartVersion; v != "1.1.0" {
		t.Errorf("release a0 has chart version %s, want 1.1.0", v)
	}
}

// Helm's failure is the group's, at once and in Helm's words.
func TestFailedInstall(t *testing.T) {
	s := serve(t)
	add(t, s, "small", "1.0.0", configMapChart())
	add(t, s, "broken", "1.0.0", brokenChart())
	g := chain("broken", s.URL, 3)
	g.Spec.Applications[1].Spec.Chart.Name = "broken"
	begin := time.Now()
	create(t, g)
	failed := awaitReady(t, g.Name, 30*time.Second, metav1.ConditionFalse, v1alpha1.ReasonWorkflowFailed)
	t.Logf("said after %s: %s", time.Since(begin).Round(time.Millisecond), message(failed, v1alpha1.ConditionReady))
	for _, want := range []string{"a1", "1-is-no-name"} {
		if !strings.Contains(message(failed, v1alpha1.ConditionReady), want) {
			t.Errorf("the message does not say %q", want)
		}
	}
	if _, ok := releases(t, g.Name)["broken/a2"]; ok {
		t.Error("a release was made though its parent failed")
	}
	// The owner mends the chart.
	update(t, g.Name, func(g *v1alpha1.ApplicationGroup) { g.Spec.Applications[1].Spec.Chart.Name = "small" })
	awaitReady(t, g.Name, time.Minute, metav1.ConditionTrue, v1alpha1.ReasonSucceeded)
}

// Two groups at once, of the same charts, do not know of each other.
func TestTwoGroupsAtOnce(t *testing.T) {
	s := serve(t)
	add(t, s, "small", "1.0.0", configMapChart())
	create(t, chain("left", s.URL, 4))
	create(t, chain("right", s.URL, 4))
	awaitReady(t, "left", time.Minute, metav1.ConditionTrue, v1alpha1.ReasonSucceeded)
	awaitReady(t, "right", time.Minute, metav1.ConditionTrue, v1alpha1.ReasonSucceeded)
	inOrder(t, "left", 4)
	inOrder(t, "right", 4)
	remove(t, "left")
	nothingLeft(t, "left")
	if n := len(releases(t, "right")); n != 4 {
		t.Errorf("%d releases of the other group, want 4", n)
	}
}

// Two groups that want the same release: the second is told, and takes nothing.
func TestReleaseOfAnotherGroup(t *testing.T) {
	s := serve(t)
	add(t, s, "small", "1.0.0", configMapChart())
	create(t, chain("first", s.URL, 1))
	awaitReady(t, "first", time.Minute, metav1.ConditionTrue, v1alpha1.ReasonSucceeded)
	g := chain("second", s.URL, 1)
	g.Spec.Applications[0].Spec.Release.TargetNamespace = "first"
	create(t, g)
	failed := awaitReady(t, "second", 30*time.Second, metav1.ConditionFalse, v1alpha1.ReasonWorkflowFailed)
	if m := message(failed, v1alpha1.ConditionReady); !strings.Contains(m, "first") {
		t.Errorf("the message does not name the owner: %s", m)
	}
	hr := releases(t, "first")["first/a0"]
	if hr.Labels[v1alpha1.LabelOwner] != "first" {
		t.Errorf("the release's owner is %q", hr.Labels[v1alpha1.LabelOwner])
	}
}

// A group that is deleted while it comes up is undone (behaviour 7).
func TestDeleteInMidRollout(t *testing.T) {
	s := serve(t)
	add(t, s, "small", "1.0.0", configMapChart())
	g := chain("aborted", s.URL, 12)
	create(t, g)
	awaitReleases(t, g.Name, 3)
	deleteInReverse(t, g.Name)
	var left corev1.ConfigMapList
	if err := env.client.List(t.Context(), &left, client.InNamespace(g.Name), client.MatchingLabels{"app.kubernetes.io/managed-by": "Helm"}); err != nil {
		t.Fatal(err)
	}
	if n := len(left.Items); n != 0 {
		t.Errorf("%d objects of releases are left", n)
	}
}
