package e2e

import (
	"context"
	"fmt"
	"testing"
	"time"

	helmv2 "github.com/fluxcd/helm-controller/api/v2"
	"github.com/google/go-cmp/cmp"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"orkestra.dev/api/v1alpha1"
	"orkestra.dev/pkg/events"
	"orkestra.dev/test/repository"
)

// touched are the releases that had a Helm action, or at least another spec, between
// two looks.
func touched(before, after map[string]helmv2.HelmRelease) []string {
	out := []string{}
	for name, hr := range after {
		was, there := before[name]
		if !there || was.UID != hr.UID || was.Generation != hr.Generation ||
			was.Status.History.Latest().Version != hr.Status.History.Latest().Version {
			out = append(out, name)
		}
	}
	return out
}

// forwards are the forward workflows of a group.
func forwards(t *testing.T, group string) int {
	t.Helper()
	n := 0
	for _, wf := range workflows(t, group) {
		if wf.Labels[v1alpha1.LabelWorkflowType] == string(events.WorkflowForward) {
			n++
		}
	}
	return n
}

// requested asks for a reconciliation, and waits until it is handled.
func requested(t *testing.T, name, token string) *v1alpha1.ApplicationGroup {
	t.Helper()
	update(t, name, func(g *v1alpha1.ApplicationGroup) {
		if g.Annotations == nil {
			g.Annotations = map[string]string{}
		}
		g.Annotations[v1alpha1.AnnotationRequestedAt] = token
	})
	return handled(t, name, token)
}

func handled(t *testing.T, name, token string) *v1alpha1.ApplicationGroup {
	t.Helper()
	var g *v1alpha1.ApplicationGroup
	eventually(t, time.Minute, "request "+token+" to be handled", func(ctx context.Context) (err error) {
		if g, err = get(ctx, name); err != nil {
			return err
		}
		if g.Status.LastHandledReconcileAt != token {
			return fmt.Errorf("handled last: %q; %s", g.Status.LastHandledReconcileAt, conditions(g))
		}
		return nil
	})
	return g
}

// An upgrade of one application of twenty touches one release, and is a workflow of that one.
func TestOneOfTwenty(t *testing.T) {
	s := serve(t)
	add(t, s, "small", "1.0.0", configMapChart())
	add(t, s, "small", "1.1.0", configMapChart())
	const name = "twenty"
	g := chain(name, s.URL, 20)
	for i := range g.Spec.Applications {
		g.Spec.Applications[i].Dependencies = nil
	}
	g.Spec.Applications[19].Dependencies = []string{"a7"}
	create(t, g)
	awaitReady(t, name, 2*time.Minute, metav1.ConditionTrue, v1alpha1.ReasonSucceeded)
	before := releases(t, name)
	update(t, name, func(g *v1alpha1.ApplicationGroup) { g.Spec.Applications[7].Spec.Chart.Version = "1.1.0" })
	awaitReady(t, name, time.Minute, metav1.ConditionTrue, v1alpha1.ReasonSucceeded)
	after := releases(t, name)
	if diff := cmp.Diff([]string{name + "/a7"}, touched(before, after)); diff != "" {
		t.Errorf("releases that were touched (-want +got):\n%s", diff)
	}
	for key, hr := range after {
		const by = v1alpha1.AnnotationWorkflow
		if written := hr.Annotations[by] != before[key].Annotations[by]; written != (key == name+"/a7") {
			t.Errorf("%s was written by %s, and before by %s", key, hr.Annotations[by], before[key].Annotations[by])
		}
	}
	// The group is large enough for the compiler to wait for its turn.
	eventually(t, time.Minute, "what the compiler says", func(ctx context.Context) error {
		g, err := get(ctx, name)
		if err != nil {
			return err
		}
		if r := g.Status.Rollout; r == nil || r.Progress != "1/1" || r.Generation != g.Generation {
			return fmt.Errorf("the rollout is %+v", r)
		}
		want := fmt.Sprintf("workflow %s has 1 of 20 releases: the others are as they should be", g.Status.Rollout.Workflow)
		if c := apimeta.FindStatusCondition(g.Status.Conditions, v1alpha1.ConditionCompiled); c == nil || c.Message != want {
			return fmt.Errorf("%s is %+v, want %q", v1alpha1.ConditionCompiled, c, want)
		}
		return nil
	})
}

// umbrellaChart has two subcharts, each with a ConfigMap of its own values, and one of
// the parent's.
func umbrellaChart() repository.Files {
	f := configMapChart()
	f["Chart.yaml"] = "apiVersion: v2\nname: umbrella\nversion: 1.0.0\ndependencies:\n- {name: one, version: 1.0.0}\n- {name: two, version: 1.0.0}\n"
	for _, sub := range []string{"one", "two"} {
		f["charts/"+sub+"/Chart.yaml"] = "apiVersion: v2\nname: " + sub + "\nversion: 1.0.0\n"
		for path, data := range configMapChart() {
			f["charts/"+sub+"/"+path] = data
		}
	}
	return f
}

// A value of one subchart touches the releases that can see it: its own, and the parent's.
func TestOneValueOfAnUmbrella(t *testing.T) {
	s := serve(t)
	add(t, s, "umbrella", "1.0.0", umbrellaChart())
	const name = "oneval"
	g := chain(name, s.URL, 1)
	g.Spec.Applications[0].Spec.Chart.Name = "umbrella"
	g.Spec.Applications[0].Spec.Subcharts = []v1alpha1.DAG{{Name: "one"}, {Name: "two"}}
	create(t, g)
	awaitReady(t, name, time.Minute, metav1.ConditionTrue, v1alpha1.ReasonSucceeded)
	before := releases(t, name)
	update(t, name, func(g *v1alpha1.ApplicationGroup) {
		g.Spec.Applications[0].Spec.Release.Values = values(t, map[string]any{"two": map[string]any{"message": "changed"}})
	})
	awaitReady(t, name, time.Minute, metav1.ConditionTrue, v1alpha1.ReasonSucceeded)
	got := map[string]bool{}
	for _, r := range touched(before, releases(t, name)) {
		got[r] = true
	}
	if diff := cmp.Diff(map[string]bool{name + "/a0": true, name + "/a0-two": true}, got); diff != "" {
		t.Errorf("releases that were touched (-want +got):\n%s", diff)
	}
	if got := configMaps(t, name)["a0-two"].(map[string]any)["data"].(map[string]string)["message"]; got != "changed" {
		t.Errorf("the subchart says %q", got)
	}
}

// A request where nothing is to be done makes no workflow, says so, and is quick; the
// group stays Ready all the while.
func TestUnchanged(t *testing.T) {
	s := serve(t)
	add(t, s, "small", "1.0.0", configMapChart())
	const name = "unchanged"
	create(t, chain(name, s.URL, 5))
	awaitReady(t, name, time.Minute, metav1.ConditionTrue, v1alpha1.ReasonSucceeded)
	before := releases(t, name)
	begin := time.Now()
	g := requested(t, name, "once-more")
	t.Logf("handled after %s", time.Since(begin).Round(time.Millisecond))
	if n := forwards(t, name); n != 1 {
		t.Errorf("%d forward workflows, want 1", n)
	}
	if diff := cmp.Diff([]string{}, touched(before, releases(t, name))); diff != "" {
		t.Errorf("releases that were touched (-want +got):\n%s", diff)
	}
	if !ready(g) {
		t.Error(conditions(g))
	}
	said := 0
	for _, f := range facts(t, name) {
		if f.Type() == events.TypeRolloutUnchanged {
			said++
		}
	}
	if said != 1 {
		t.Errorf("rollout.unchanged was said %d times, want once", said)
	}
	// A change of the spec that no release sees is rolled out without a workflow too.
	update(t, name, func(g *v1alpha1.ApplicationGroup) { g.Spec.RevisionHistoryLimit = new(int32(3)) })
	awaitReady(t, name, 20*time.Second, metav1.ConditionTrue, v1alpha1.ReasonSucceeded)
	if n := forwards(t, name); n != 1 {
		t.Errorf("%d forward workflows, want 1", n)
	}
}

func ready(g *v1alpha1.ApplicationGroup) bool {
	for _, c := range g.Status.Conditions {
		if c.Type == v1alpha1.ConditionReady {
			return c.Status == metav1.ConditionTrue
		}
	}
	return false
}

// What was edited or deleted by hand is put back by a reconciliation, which the interval
// asks for, and nothing else is touched.
func TestDrift(t *testing.T) {
	s := serve(t)
	add(t, s, "small", "1.0.0", configMapChart())
	const name = "drift"
	g := chain(name, s.URL, 3)
	g.Spec.Interval = &metav1.Duration{Duration: 3 * time.Second}
	create(t, g)
	awaitReady(t, name, time.Minute, metav1.ConditionTrue, v1alpha1.ReasonSucceeded)
	before := releases(t, name)

	edited := before[name+"/a1"]
	eventually(t, 10*time.Second, "the edit by hand", func(ctx context.Context) error {
		if err := env.client.Get(ctx, client.ObjectKeyFromObject(&edited), &edited); err != nil {
			return err
		}
		edited.Spec.Values = values(t, map[string]any{"message": "by hand"})
		return env.client.Update(ctx, &edited)
	})
	eventually(t, time.Minute, "the edit to be undone", func(context.Context) error {
		got := configMaps(t, name)["a1-small"].(map[string]any)["data"].(map[string]string)["message"]
		hr := releases(t, name)[name+"/a1"]
		if got != "hello" || hr.Spec.Values != nil {
			return fmt.Errorf("it says %q", got)
		}
		return nil
	})
	deleted := before[name+"/a2"]
	if err := env.client.Delete(t.Context(), &deleted); err != nil {
		t.Fatal(err)
	}
	eventually(t, time.Minute, "the deleted release to be back", func(context.Context) error {
		if hr, ok := releases(t, name)[name+"/a2"]; !ok || hr.UID == deleted.UID || configMaps(t, name)["a2-small"] == nil {
			return fmt.Errorf("there are %v", names(releases(t, name)))
		}
		return nil
	})
	if got := releases(t, name)[name+"/a0"]; got.Generation != before[name+"/a0"].Generation {
		t.Error("a0 was touched, and nothing of it had changed")
	}
}

// A range is resolved again at each interval.
func TestIntervalResolvesVersions(t *testing.T) {
	s := serve(t)
	add(t, s, "small", "1.0.0", configMapChart())
	const name = "ranged"
	g := chain(name, s.URL, 2)
	g.Spec.Interval = &metav1.Duration{Duration: 2 * time.Second}
	for i := range g.Spec.Applications {
		g.Spec.Applications[i].Spec.Chart.Version = "^1.0.0"
	}
	create(t, g)
	awaitReady(t, name, time.Minute, metav1.ConditionTrue, v1alpha1.ReasonSucceeded)
	add(t, s, "small", "1.2.0", configMapChart())
	add(t, s, "small", "2.0.0", configMapChart())
	eventually(t, time.Minute, "the new version to be rolled out", func(ctx context.Context) error {
		g, err := get(ctx, name)
		if err != nil {
			return err
		}
		for _, a := range g.Status.Applications {
			if a.Version != "1.2.0" {
				return fmt.Errorf("application %s has version %s", a.Name, a.Version)
			}
		}
		if diff := cmp.Diff(map[string]string{name + "/a0": "1.2.0", name + "/a1": "1.2.0"}, chartVersions(t, name)); diff != "" {
			return fmt.Errorf("installed (-want +got):\n%s", diff)
		}
		return nil
	})
}
