package e2e

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	helmv2 "github.com/fluxcd/helm-controller/api/v2"
	"github.com/google/go-cmp/cmp"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"orkestra.dev/api/v1alpha1"
	"orkestra.dev/pkg/events"
)

// namespace makes one that no group has made.
func namespace(t *testing.T, name string) {
	t.Helper()
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}
	if err := env.client.Create(t.Context(), ns); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := env.client.Delete(context.Background(), ns); err != nil {
			t.Error(err)
		}
	})
}

// says waits until the ConfigMap of a release says something.
func says(t *testing.T, namespace, configMap, want string) {
	t.Helper()
	eventually(t, time.Minute, configMap+" to say "+want, func(ctx context.Context) error {
		var cm corev1.ConfigMap
		if err := env.client.Get(ctx, client.ObjectKey{Namespace: namespace, Name: configMap}, &cm); err != nil {
			return err
		}
		if got := cm.Data["message"]; got != want {
			return fmt.Errorf("it says %q", got)
		}
		return nil
	})
}

// Values out of Secrets and ConfigMaps: a change of one is rolled out in order, a failed
// rollout takes the old content back, and what is secret stays so.
func TestValuesFrom(t *testing.T) {
	s := serve(t)
	add(t, s, "small", "1.0.0", configMapChart())
	add(t, s, "small", "2.0.0", brokenChart())
	const name, canary = "valued", "c4n4ry-in-a-secret"
	namespace(t, name)
	secret := &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: name, Name: "more"},
		StringData: map[string]string{"values.yaml": "message: " + canary + "\n"},
	}
	if err := env.client.Create(t.Context(), secret); err != nil {
		t.Fatal(err)
	}
	g := chain(name, s.URL, 2)
	for i := range g.Spec.Applications {
		g.Spec.Applications[i].Spec.Release.ValuesFrom = []helmv2.ValuesReference{{Kind: "Secret", Name: "more"}}
	}
	create(t, g)
	awaitReady(t, name, time.Minute, metav1.ConditionTrue, v1alpha1.ReasonSucceeded)
	says(t, name, "a0-small", canary)

	// The Secret changes and nothing else does.
	write := func(message string) {
		t.Helper()
		eventually(t, 10*time.Second, "writing the Secret", func(ctx context.Context) error {
			if err := env.client.Get(ctx, client.ObjectKeyFromObject(secret), secret); err != nil {
				return err
			}
			secret.Data = map[string][]byte{"values.yaml": []byte("message: " + message + "\n")}
			return env.client.Update(ctx, secret)
		})
	}
	write(canary + "-2")
	says(t, name, "a0-small", canary+"-2")
	says(t, name, "a1-small", canary+"-2")
	inOrder(t, name, 2)

	// A failed upgrade, with new content in the Secret, takes all back to the old content.
	eventually(t, 30*time.Second, "the group to be ready again", func(ctx context.Context) error {
		g, err := get(ctx, name)
		if err == nil && !ready(g) {
			err = errors.New(conditions(g))
		}
		return err
	})
	update(t, name, func(g *v1alpha1.ApplicationGroup) { g.Spec.Suspend = true })
	write(canary + "-3")
	update(t, name, func(g *v1alpha1.ApplicationGroup) {
		g.Spec.Suspend = false
		g.Spec.Applications[1].Spec.Chart.Version = "2.0.0"
	})
	awaitReady(t, name, time.Minute, metav1.ConditionFalse, v1alpha1.ReasonWorkflowFailed)
	awaitCondition(t, name, v1alpha1.ConditionRollbackWorkflowSucceeded, metav1.ConditionTrue)
	says(t, name, "a0-small", canary+"-2")

	for _, wf := range workflows(t, name) {
		if strings.Contains(mustJSON(t, wf), canary) {
			t.Errorf("the workflow %s holds it", wf.Name)
		}
	}
	for key, hr := range releases(t, name) {
		if strings.Contains(mustJSON(t, hr), canary) {
			t.Errorf("the release %s holds it", key)
		}
	}
	err := env.bus.Follow(t.Context(), events.FollowOptions{Group: name}, func(f events.Fact, raw []byte) error {
		if strings.Contains(string(raw), canary) {
			t.Errorf("event %s holds it", f.EventID())
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// What valuesFrom refers to is not there yet: the group says so, and goes on when it is.
func TestValuesFromIsMissing(t *testing.T) {
	s := serve(t)
	add(t, s, "small", "1.0.0", configMapChart())
	const name = "valueless"
	namespace(t, name)
	g := chain(name, s.URL, 1)
	g.Spec.Applications[0].Spec.Release.ValuesFrom = []helmv2.ValuesReference{{Kind: "ConfigMap", Name: "late"}}
	create(t, g)
	eventually(t, 30*time.Second, "the group to name what is missing", func(ctx context.Context) error {
		g, err := get(ctx, name)
		if err == nil && !strings.Contains(conditions(g), v1alpha1.ReasonValuesNotFound) {
			err = errors.New(conditions(g))
		}
		return err
	})
	cm := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: name, Name: "late"}, Data: map[string]string{"values.yaml": "message: late\n"}}
	if err := env.client.Create(t.Context(), cm); err != nil {
		t.Fatal(err)
	}
	awaitReady(t, name, time.Minute, metav1.ConditionTrue, v1alpha1.ReasonSucceeded)
	says(t, name, "a0-small", "late")
}

// The options of a release reach helm-controller, and what it makes.
func TestReleaseOptions(t *testing.T) {
	s := serve(t)
	add(t, s, "small", "1.0.0", configMapChart())
	const name = "options"
	g := chain(name, s.URL, 1)
	r := &g.Spec.Applications[0].Spec.Release
	r.MaxHistory = new(2)
	r.DriftDetection = &helmv2.DriftDetection{Mode: helmv2.DriftDetectionEnabled}
	r.CommonMetadata = &helmv2.CommonMetadata{Labels: map[string]string{"team": "platform"}}
	r.ReadyExpr = "self.status.history[0].chartVersion == '1.0.0'"
	create(t, g)
	awaitReady(t, name, time.Minute, metav1.ConditionTrue, v1alpha1.ReasonSucceeded)
	hr := releases(t, name)[name+"/a0"]
	if hr.Spec.MaxHistory == nil || *hr.Spec.MaxHistory != 2 {
		t.Errorf("maxHistory: %v", hr.Spec.MaxHistory)
	}
	if diff := cmp.Diff(r.DriftDetection, hr.Spec.DriftDetection); diff != "" {
		t.Errorf("driftDetection (-want +got):\n%s", diff)
	}
	var cm corev1.ConfigMap
	if err := env.client.Get(t.Context(), client.ObjectKey{Namespace: name, Name: "a0-small"}, &cm); err != nil {
		t.Fatal(err)
	}
	if cm.Labels["team"] != "platform" {
		t.Errorf("labels of the chart's object: %v", cm.Labels)
	}
}

// approved is a readyExpr that holds from approve on.
const approved = "has(self.metadata.labels) && 'approved' in self.metadata.labels"

func approve(t *testing.T, release client.ObjectKey) {
	t.Helper()
	hr := &helmv2.HelmRelease{ObjectMeta: metav1.ObjectMeta{Namespace: release.Namespace, Name: release.Name}}
	patch := client.RawPatch(types.MergePatchType, []byte(`{"metadata":{"labels":{"approved":"yes"}}}`))
	if err := env.client.Patch(t.Context(), hr, patch); err != nil {
		t.Fatal(err)
	}
}

// A release is not ready before its own expression holds, and an expression that is
// none is refused.
func TestReadyExpr(t *testing.T) {
	s := serve(t)
	add(t, s, "small", "1.0.0", configMapChart())
	const name = "exprs"
	g := chain(name, s.URL, 2)
	g.Spec.Applications[0].Spec.Release.ReadyExpr = approved
	create(t, g)
	awaitReleases(t, name, 1)
	still(t, "releases before the approval", func() int { return len(releases(t, name)) })
	approve(t, client.ObjectKey{Namespace: name, Name: "a0"})
	awaitReady(t, name, time.Minute, metav1.ConditionTrue, v1alpha1.ReasonSucceeded)

	bad := chain("badexpr", s.URL, 1)
	bad.Spec.Applications[0].Spec.Release.ReadyExpr = "self.metadata.("
	err := env.client.Create(t.Context(), bad)
	if err == nil || !strings.Contains(err.Error(), "spec.applications[0].spec.release.readyExpr") {
		t.Errorf("an expression that does not parse: %v", err)
	}
}

// The parent's place among its subcharts.
func TestParentPlacement(t *testing.T) {
	s := serve(t)
	add(t, s, "umbrella", "1.0.0", umbrellaChart())
	for place, edges := range map[v1alpha1.ParentPlacement]int{v1alpha1.ParentBefore: 2, v1alpha1.ParentBeside: 0} {
		name := "parent" + strings.ToLower(string(place))
		g := chain(name, s.URL, 1)
		g.Spec.Applications[0].Spec.Chart.Name = "umbrella"
		g.Spec.Applications[0].Spec.Subcharts = []v1alpha1.DAG{{Name: "one"}, {Name: "two"}}
		g.Spec.Applications[0].Spec.ParentPlacement = place
		create(t, g)
		awaitReady(t, name, time.Minute, metav1.ConditionTrue, v1alpha1.ReasonSucceeded)
		inOrder(t, name, 3)
		got := 0
		for _, e := range env.recorder.Edges(name) {
			if e.Parent != "a0" {
				t.Errorf("%s waited for %s", e.Child, e.Parent)
			}
			got++
		}
		if got != edges {
			t.Errorf("%s: %d releases waited for another, want %d", place, got, edges)
		}
	}
}

// job is the spec of a Job that the simulated nodes complete.
func job(t *testing.T) *apiextensionsv1.JSON {
	t.Helper()
	return values(t, map[string]any{"template": map[string]any{"spec": map[string]any{
		"restartPolicy": "Never",
		"containers":    []any{map[string]any{"name": "migrate", "image": "example.com/migrate:1"}},
	}}})
}

// A Job and a wait gate what comes after them, and a Job is not run again for nothing.
func TestGates(t *testing.T) {
	s := serve(t)
	add(t, s, "small", "1.0.0", configMapChart())
	add(t, s, "small", "1.1.0", configMapChart())
	const name = "gated"
	namespace(t, name)
	g := chain(name, s.URL, 3)
	g.Spec.Applications[0].Spec.Workflow = []v1alpha1.Executor{
		{DAG: v1alpha1.DAG{Name: "install"}},
		{DAG: v1alpha1.DAG{Name: "migrate", Dependencies: []string{"install"}}, Type: v1alpha1.ExecutorJob, Job: job(t)},
	}
	g.Spec.Applications[1].Spec.Workflow = []v1alpha1.Executor{
		{DAG: v1alpha1.DAG{Name: "gate"}, Type: v1alpha1.ExecutorWait, Wait: &v1alpha1.WaitFor{
			APIVersion: "v1", Kind: "ConfigMap", Name: "gate", Expr: "self.data.open == 'yes'",
		}},
		{DAG: v1alpha1.DAG{Name: "install", Dependencies: []string{"gate"}}},
	}
	create(t, g)
	eventually(t, time.Minute, "the Job to be completed", func(ctx context.Context) error {
		if n := completed(ctx, t, name); n != 1 {
			return fmt.Errorf("%d Jobs are complete", n)
		}
		return nil
	})
	gate := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: name, Name: "gate"}, Data: map[string]string{"open": "no"}}
	if err := env.client.Create(t.Context(), gate); err != nil {
		t.Fatal(err)
	}
	still(t, "releases before the gate is open", func() int { return len(releases(t, name)) })
	if diff := cmp.Diff([]string{name + "/a0"}, names(releases(t, name))); diff != "" {
		t.Fatalf("releases before the gate is open (-want +got):\n%s", diff)
	}
	gate.Data["open"] = "yes"
	if err := env.client.Update(t.Context(), gate); err != nil {
		t.Fatal(err)
	}
	awaitReady(t, name, time.Minute, metav1.ConditionTrue, v1alpha1.ReasonSucceeded)
	inOrder(t, name, 3)

	// a2 is upgraded: the Job of a0, of which nothing changed, is not run again.
	update(t, name, func(g *v1alpha1.ApplicationGroup) { g.Spec.Applications[2].Spec.Chart.Version = "1.1.0" })
	awaitReady(t, name, time.Minute, metav1.ConditionTrue, v1alpha1.ReasonSucceeded)
	if n := completed(t.Context(), t, name); n != 1 {
		t.Errorf("%d Jobs after an upgrade of another application, want 1", n)
	}
	// a0 is upgraded: it is run again.
	update(t, name, func(g *v1alpha1.ApplicationGroup) { g.Spec.Applications[0].Spec.Chart.Version = "1.1.0" })
	awaitReady(t, name, time.Minute, metav1.ConditionTrue, v1alpha1.ReasonSucceeded)
	if n := completed(t.Context(), t, name); n != 2 {
		t.Errorf("%d Jobs after an upgrade of their application, want 2", n)
	}
	deleteInReverse(t, name)
	eventually(t, 30*time.Second, "the Jobs to go with the group", func(ctx context.Context) error {
		if n := completed(ctx, t, name); n != 0 {
			return fmt.Errorf("%d are left", n)
		}
		return nil
	})
}

// completed is how many Jobs of a group have run to their end.
func completed(ctx context.Context, t *testing.T, group string) int {
	t.Helper()
	var jobs batchv1.JobList
	if err := env.client.List(ctx, &jobs, client.MatchingLabels{v1alpha1.LabelOwner: group}); err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, j := range jobs.Items {
		if j.Status.Succeeded > 0 {
			n++
		}
	}
	return n
}
