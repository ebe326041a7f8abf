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

	"orkestra.dev/api/v1alpha1"
	"orkestra.dev/pkg/events"
	"orkestra.dev/test/repository"
)

// brokenChart is one that the API server refuses: Helm fails at once.
func brokenChart() repository.Files {
	f := configMapChart()
	f["templates/broken.yaml"] = "apiVersion: v1\nkind: Service\nmetadata:\n  name: 1-is-no-name\nspec:\n  ports:\n    - port: 80\n"
	return f
}

// awaitCondition waits for a condition of the newest generation.
func awaitCondition(t *testing.T, name, kind string, status metav1.ConditionStatus) {
	t.Helper()
	eventually(t, time.Minute, fmt.Sprintf("group %s to be %s=%s", name, kind, status), func(ctx context.Context) error {
		g, err := get(ctx, name)
		if err != nil {
			return err
		}
		c := apimeta.FindStatusCondition(g.Status.Conditions, kind)
		if c == nil || c.Status != status || c.ObservedGeneration != g.Generation {
			return errors.New(conditions(g))
		}
		return nil
	})
}

// chartVersions that are installed, by release.
func chartVersions(t *testing.T, group string) map[string]string {
	t.Helper()
	out := map[string]string{}
	for name, hr := range releases(t, group) {
		if latest := hr.Status.History.Latest(); latest != nil {
			out[name] = latest.ChartVersion
		}
	}
	return out
}

// An upgrade that fails takes the whole group back: what was upgraded has its old
// version and its old objects, what was added is gone, what did not change was not
// touched (behaviours 6 and 8, fault 7).
func TestFailedUpgradeIsRolledBack(t *testing.T) {
	s := serve(t)
	add(t, s, "small", "1.0.0", configMapChart())
	newer := configMapChart()
	newer["values.yaml"] = "message: newer\n"
	add(t, s, "small", "2.0.0", newer)
	add(t, s, "small", "3.0.0", brokenChart())
	const name = "rolled"
	create(t, chain(name, s.URL, 4))
	awaitReady(t, name, time.Minute, metav1.ConditionTrue, v1alpha1.ReasonSucceeded)
	objects, before := configMaps(t, name), releases(t, name)

	// a0 and a2 are upgraded, extra comes between, a3 cannot be installed.
	update(t, name, func(g *v1alpha1.ApplicationGroup) {
		apps := g.Spec.Applications
		apps[0].Spec.Chart.Version = "2.0.0"
		apps[2].Spec.Chart.Version = "2.0.0"
		apps[3].Spec.Chart.Version = "3.0.0"
		extra := *apps[2].DeepCopy()
		extra.Name, extra.Dependencies = "extra", []string{"a2"}
		apps[3].Dependencies = []string{"extra"}
		g.Spec.Applications = append(apps, extra)
	})
	awaitCondition(t, name, v1alpha1.ConditionRollbackWorkflowSucceeded, metav1.ConditionTrue)
	g := awaitReady(t, name, 10*time.Second, metav1.ConditionFalse, v1alpha1.ReasonWorkflowFailed)
	if g.Status.LastSucceededGeneration != 1 {
		t.Errorf("lastSucceededGeneration is %d, want 1", g.Status.LastSucceededGeneration)
	}
	want := map[string]string{"rolled/a0": "1.0.0", "rolled/a1": "1.0.0", "rolled/a2": "1.0.0", "rolled/a3": "1.0.0"}
	if diff := cmp.Diff(want, chartVersions(t, name)); diff != "" {
		t.Errorf("installed after the rollback (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(objects, configMaps(t, name)); diff != "" {
		t.Errorf("objects (-before +after):\n%s", diff)
	}
	if got, was := releases(t, name)["rolled/a1"].Status.History.Latest().Version, before["rolled/a1"].Status.History.Latest().Version; got != was {
		t.Errorf("a1 did not change, and has Helm revision %d instead of %d", got, was)
	}
	once(t, name)

	// The owner mends the spec; the group goes on from where it is.
	update(t, name, func(g *v1alpha1.ApplicationGroup) { g.Spec.Applications[3].Spec.Chart.Version = "2.0.0" })
	awaitReady(t, name, time.Minute, metav1.ConditionTrue, v1alpha1.ReasonSucceeded)
	want = map[string]string{"rolled/a0": "2.0.0", "rolled/a1": "1.0.0", "rolled/a2": "2.0.0", "rolled/extra": "2.0.0", "rolled/a3": "2.0.0"}
	if diff := cmp.Diff(want, chartVersions(t, name)); diff != "" {
		t.Errorf("installed after the mend (-want +got):\n%s", diff)
	}
}

// A first install that fails is reversed: nothing is left of it, and the group says why.
func TestFailedFirstInstallIsReversed(t *testing.T) {
	s := serve(t)
	add(t, s, "small", "1.0.0", configMapChart())
	add(t, s, "broken", "1.0.0", brokenChart())
	g := chain("reversed", s.URL, 3)
	g.Spec.Applications[2].Spec.Chart.Name = "broken"
	create(t, g)
	awaitReady(t, g.Name, time.Minute, metav1.ConditionFalse, v1alpha1.ReasonWorkflowFailed)
	awaitCondition(t, g.Name, v1alpha1.ConditionReverseWorkflowSucceeded, metav1.ConditionTrue)
	if left := names(releases(t, g.Name)); len(left) != 0 {
		t.Errorf("releases left: %v", left)
	}
	if left := configMaps(t, g.Name); len(left) != 0 {
		t.Errorf("objects left: %v", names(left))
	}
	awaitCondition(t, g.Name, v1alpha1.ConditionStalled, metav1.ConditionTrue)
}

// With strategy None a failure is left as it is, for a look.
func TestFailureIsLeftAlone(t *testing.T) {
	s := serve(t)
	add(t, s, "small", "1.0.0", configMapChart())
	add(t, s, "broken", "1.0.0", brokenChart())
	g := chain("kept", s.URL, 2)
	g.Spec.Remediation = &v1alpha1.Remediation{Strategy: v1alpha1.RemediationNone}
	g.Spec.Applications[1].Spec.Chart.Name = "broken"
	create(t, g)
	awaitReady(t, g.Name, time.Minute, metav1.ConditionFalse, v1alpha1.ReasonWorkflowFailed)
	awaitCondition(t, g.Name, v1alpha1.ConditionStalled, metav1.ConditionTrue)
	if diff := cmp.Diff([]string{"kept/a0", "kept/a1"}, names(releases(t, g.Name))); diff != "" {
		t.Errorf("releases (-want +got):\n%s", diff)
	}
	for _, f := range facts(t, g.Name) {
		if s, ok := f.Data.(events.WorkflowSubmitted); ok && s.WorkflowType != events.WorkflowForward {
			t.Errorf("a %s workflow was submitted", s.WorkflowType)
		}
	}
}

// Applications and subcharts that leave the spec are removed, in reverse order, when
// the new state is ready (fault 6).
func TestWhatLeftTheSpecIsRemoved(t *testing.T) {
	s := serve(t)
	add(t, s, "small", "1.0.0", configMapChart())
	const name = "leavers"
	create(t, chain(name, s.URL, 5))
	awaitReady(t, name, time.Minute, metav1.ConditionTrue, v1alpha1.ReasonSucceeded)
	update(t, name, func(g *v1alpha1.ApplicationGroup) {
		g.Spec.Applications = g.Spec.Applications[:2]
		g.Spec.Applications[1].Spec.Release.Values = values(t, map[string]any{"message": "changed"})
	})
	awaitReady(t, name, time.Minute, metav1.ConditionTrue, v1alpha1.ReasonSucceeded)
	if diff := cmp.Diff([]string{"leavers/a0", "leavers/a1"}, names(releases(t, name))); diff != "" {
		t.Errorf("releases (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"a0-small", "a1-small"}, names(configMaps(t, name))); diff != "" {
		t.Errorf("objects (-want +got):\n%s", diff)
	}
	eventually(t, 5*time.Second, "the watch to see three releases go", func(context.Context) error {
		n := 0
		for _, r := range env.recorder.Releases(name) {
			if !r.Deleted.IsZero() {
				n++
			}
		}
		if n != 3 {
			return fmt.Errorf("%d went", n)
		}
		return nil
	})
	for _, e := range env.recorder.Reversed(name) {
		if e.Overhead < 0 {
			t.Errorf("%s went %s before %s, which depends on it", e.Child, -e.Overhead, e.Parent)
		}
	}
}
