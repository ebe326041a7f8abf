package e2e

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"orkestra.dev/api/v1alpha1"
	"orkestra.dev/pkg/events"
)

// still fails where a count changes while it is looked at.
func still(t *testing.T, what string, count func() int) {
	t.Helper()
	first := count()
	for end := time.Now().Add(3 * time.Second); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		if n := count(); n != first {
			t.Fatalf("%s: %d, and then %d", what, first, n)
		}
	}
}

// A suspended group begins nothing more, in mid-rollout and afterwards; resumed, it goes on.
func TestSuspend(t *testing.T) {
	s := serve(t)
	add(t, s, "small", "1.0.0", configMapChart())
	add(t, s, "small", "1.1.0", configMapChart())
	const name, n = "paused", 10
	create(t, chain(name, s.URL, n))
	awaitReleases(t, name, 2)
	update(t, name, func(g *v1alpha1.ApplicationGroup) { g.Spec.Suspend = true })
	g := awaitReady(t, name, 30*time.Second, metav1.ConditionFalse, v1alpha1.ReasonSuspended)
	for _, kind := range []string{v1alpha1.ConditionReconciling, v1alpha1.ConditionStalled} {
		if apimeta.IsStatusConditionTrue(g.Status.Conditions, kind) {
			t.Errorf("a suspended group is %s", kind)
		}
	}
	still(t, "releases of a suspended group", func() int { return len(releases(t, name)) })
	if got := len(releases(t, name)); got >= n {
		t.Fatalf("all %d releases were there before the pause", got)
	}
	// An edit while it is suspended waits.
	update(t, name, func(g *v1alpha1.ApplicationGroup) { g.Spec.Applications[0].Spec.Chart.Version = "1.1.0" })
	still(t, "workflows of a suspended group", func() int { return len(workflows(t, name)) })

	update(t, name, func(g *v1alpha1.ApplicationGroup) { g.Spec.Suspend = false })
	awaitReady(t, name, time.Minute, metav1.ConditionTrue, v1alpha1.ReasonSucceeded)
	inOrder(t, name, n)
	once(t, name)
	if got := chartVersions(t, name)[name+"/a0"]; got != "1.1.0" {
		t.Errorf("a0 has version %s: the edit that was made during the pause is lost", got)
	}
	if diff := cmp.Diff([]string{"1.0.0", "1.1.0"}, saidReady(t, name, "a0")); diff != "" {
		t.Errorf("versions of a0 that were said to be ready (-want +got):\n%s", diff)
	}
}

// saidReady are the chart versions with which a release was said to be ready.
func saidReady(t *testing.T, group, release string) (versions []string) {
	t.Helper()
	for _, f := range facts(t, group) {
		if p, ok := f.Data.(events.ReleaseReady); ok && p.Name == release {
			versions = append(versions, p.Version)
		}
	}
	return versions
}

// A group that is deleted while it is suspended goes.
func TestDeleteSuspended(t *testing.T) {
	s := serve(t)
	add(t, s, "small", "1.0.0", configMapChart())
	g := chain("pausedgone", s.URL, 6)
	create(t, g)
	awaitReleases(t, g.Name, 2)
	update(t, g.Name, func(g *v1alpha1.ApplicationGroup) { g.Spec.Suspend = true })
	deleteInReverse(t, g.Name)
}

// A forward workflow that fails is tried again as often as the spec says, before the
// group is rolled back.
func TestRetries(t *testing.T) {
	s := serve(t)
	add(t, s, "small", "1.0.0", configMapChart())
	add(t, s, "small", "2.0.0", brokenChart())
	const name = "retried"
	g := chain(name, s.URL, 2)
	g.Spec.Remediation = &v1alpha1.Remediation{Retries: 2}
	create(t, g)
	awaitReady(t, name, time.Minute, metav1.ConditionTrue, v1alpha1.ReasonSucceeded)
	g = update(t, name, func(g *v1alpha1.ApplicationGroup) { g.Spec.Applications[1].Spec.Chart.Version = "2.0.0" })
	awaitCondition(t, name, v1alpha1.ConditionRollbackWorkflowSucceeded, metav1.ConditionTrue)
	awaitReady(t, name, 10*time.Second, metav1.ConditionFalse, v1alpha1.ReasonWorkflowFailed)
	tries := 0
	for _, f := range facts(t, name) {
		if p, ok := f.Data.(events.RolloutFailed); ok && p.WorkflowType == events.WorkflowForward && f.Rollout.Generation == g.Generation {
			tries++
		}
	}
	if tries != 3 {
		t.Errorf("the rollout failed %d times before the rollback, want 3", tries)
	}
	if got := chartVersions(t, name)[name+"/a1"]; got != "1.0.0" {
		t.Errorf("a1 has version %s after the rollback", got)
	}
}

// The status says where a rollout is.
func TestStatusOfARollout(t *testing.T) {
	s := serve(t)
	add(t, s, "small", "1.0.0", configMapChart())
	const name, n = "told", 6
	// The third waits for a word, however fast the rest is.
	group := chain(name, s.URL, n)
	group.Spec.Applications[2].Spec.Release.ReadyExpr = approved
	create(t, group)
	eventually(t, time.Minute, "the status to tell of a rollout under way", func(ctx context.Context) error {
		g, err := get(ctx, name)
		if err != nil {
			return err
		}
		r := g.Status.Rollout
		if r == nil || r.Total != n || r.Done != 2 || r.Progress != "2/6" || r.Started == nil || r.Finished != nil {
			return fmt.Errorf("it says %+v", r)
		}
		return nil
	})
	approve(t, client.ObjectKey{Namespace: name, Name: "a2"})
	awaitReady(t, name, time.Minute, metav1.ConditionTrue, v1alpha1.ReasonSucceeded)
	eventually(t, 10*time.Second, "the status to tell of its end", func(ctx context.Context) error {
		g, err := get(ctx, name)
		if err != nil {
			return err
		}
		r := g.Status.Rollout
		if r == nil || r.Done != n || r.Phase != "Succeeded" || r.Finished == nil || r.Revision != r.Workflow || r.Type != string(events.WorkflowForward) {
			return fmt.Errorf("it says %+v", r)
		}
		for _, a := range g.Status.Applications {
			if a.Phase != v1alpha1.ReleaseReady || a.LastTransitionTime == nil || a.Chart != "small" || a.Version != "1.0.0" {
				return errors.New(mustJSON(t, a))
			}
		}
		return nil
	})
}
