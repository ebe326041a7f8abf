package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	wfv1 "github.com/argoproj/argo-workflows/v3/pkg/apis/workflow/v1alpha1"
	helmv2 "github.com/fluxcd/helm-controller/api/v2"
	corev1 "k8s.io/api/core/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"orkestra.dev/api/v1alpha1"
	"orkestra.dev/pkg/events"
	"orkestra.dev/test/repository"
)

// eventually polls until check is content, and fails with what it said last.
func eventually(t *testing.T, within time.Duration, what string, check func(ctx context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), within)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	var last error
	for {
		err := check(ctx)
		if err == nil {
			return
		}
		if ctx.Err() == nil || last == nil { // what a check says of its own end is no news
			last = err
		}
		select {
		case <-ctx.Done():
			t.Fatalf("%s: not within %s: %v", what, within, last)
		case <-tick.C:
		}
	}
}

// serve starts a repository for one test.
func serve(t *testing.T) *repository.Server {
	t.Helper()
	s := repository.New()
	t.Cleanup(s.Close)
	return s
}

// configMapChart is a small real chart: one ConfigMap named like the release, so
// that what is measured and tested is the order and not the pods.
func configMapChart() repository.Files {
	return repository.Files{
		"values.yaml": "message: hello\n",
		"templates/configmap.yaml": `apiVersion: v1
kind: ConfigMap
metadata:
  name: {{ .Release.Name }}-{{ .Chart.Name }}
data:
  message: {{ .Values.message | quote }}
`,
	}
}

func add(t *testing.T, s *repository.Server, name, version string, files repository.Files) {
	t.Helper()
	if err := s.Add(name, version, files); err != nil {
		t.Fatal(err)
	}
}

// parse reads a manifest strictly, as kubectl does.
func parse(t *testing.T, manifest string) *v1alpha1.ApplicationGroup {
	t.Helper()
	g := &v1alpha1.ApplicationGroup{}
	if err := yaml.UnmarshalStrict([]byte(manifest), g); err != nil {
		t.Fatalf("reading the manifest: %v\n%s", err, manifest)
	}
	return g
}

// create makes the group, and sees to it that nothing is left of it.
func create(t *testing.T, g *v1alpha1.ApplicationGroup) {
	t.Helper()
	if err := env.client.Create(t.Context(), g); err != nil {
		t.Fatalf("creating group %s: %v", g.Name, err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			dump(t, g.Name)
		}
		remove(t, g.Name)
	})
}

// remove deletes a group and waits until it is gone.
func remove(t *testing.T, name string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	g := &v1alpha1.ApplicationGroup{ObjectMeta: metav1.ObjectMeta{Name: name}}
	if err := env.client.Delete(ctx, g); err != nil {
		if !apierrors.IsNotFound(err) {
			t.Errorf("deleting group %s: %v", name, err)
		}
		return
	}
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		err := env.client.Get(ctx, client.ObjectKey{Name: name}, g)
		if apierrors.IsNotFound(err) {
			return
		}
		select {
		case <-ctx.Done():
			t.Errorf("group %s does not go: %v %s", name, err, conditions(g))
			return
		case <-tick.C:
		}
	}
}

func get(ctx context.Context, name string) (*v1alpha1.ApplicationGroup, error) {
	g := &v1alpha1.ApplicationGroup{}
	return g, env.client.Get(ctx, client.ObjectKey{Name: name}, g)
}

// update changes the spec of the group as it is now.
func update(t *testing.T, name string, change func(*v1alpha1.ApplicationGroup)) *v1alpha1.ApplicationGroup {
	t.Helper()
	var g *v1alpha1.ApplicationGroup
	eventually(t, 10*time.Second, "updating group "+name, func(ctx context.Context) (err error) {
		if g, err = get(ctx, name); err != nil {
			return err
		}
		change(g)
		return env.client.Update(ctx, g)
	})
	return g
}

// awaitReady waits until Ready has the status and reason for the newest generation.
func awaitReady(t *testing.T, name string, within time.Duration, status metav1.ConditionStatus, reason string) *v1alpha1.ApplicationGroup {
	t.Helper()
	var g *v1alpha1.ApplicationGroup
	eventually(t, within, fmt.Sprintf("group %s to be Ready=%s/%s", name, status, reason), func(ctx context.Context) (err error) {
		if g, err = get(ctx, name); err != nil {
			return err
		}
		c := apimeta.FindStatusCondition(g.Status.Conditions, v1alpha1.ConditionReady)
		if c == nil || c.Status != status || c.Reason != reason || c.ObservedGeneration != g.Generation || g.Status.ObservedGeneration != g.Generation {
			return errors.New(conditions(g))
		}
		return nil
	})
	return g
}

func conditions(g *v1alpha1.ApplicationGroup) string {
	var b strings.Builder
	fmt.Fprintf(&b, "generation %d, observed %d;", g.Generation, g.Status.ObservedGeneration)
	for _, c := range g.Status.Conditions {
		fmt.Fprintf(&b, " %s=%s/%s@%d %q;", c.Type, c.Status, c.Reason, c.ObservedGeneration, c.Message)
	}
	return b.String()
}

func message(g *v1alpha1.ApplicationGroup, conditionType string) string {
	if c := apimeta.FindStatusCondition(g.Status.Conditions, conditionType); c != nil {
		return c.Message
	}
	return ""
}

// releases of a group by namespace/name.
func releases(t *testing.T, name string) map[string]helmv2.HelmRelease {
	t.Helper()
	var list helmv2.HelmReleaseList
	if err := env.client.List(t.Context(), &list, client.MatchingLabels{v1alpha1.LabelOwner: name}); err != nil {
		t.Fatal(err)
	}
	out := map[string]helmv2.HelmRelease{}
	for _, hr := range list.Items {
		out[hr.Namespace+"/"+hr.Name] = hr
	}
	return out
}

// awaitReleases waits until a rollout is under way: at least n of the group's releases
// are made.
func awaitReleases(t *testing.T, name string, n int) {
	t.Helper()
	eventually(t, time.Minute, fmt.Sprintf("%d releases of group %s", n, name), func(ctx context.Context) error {
		var list helmv2.HelmReleaseList
		if err := env.client.List(ctx, &list, client.MatchingLabels{v1alpha1.LabelOwner: name}); err != nil {
			return err
		}
		if len(list.Items) < n {
			return fmt.Errorf("%d so far", len(list.Items))
		}
		return nil
	})
}

func names[V any](m map[string]V) []string {
	out := make([]string, 0, len(m))
	for k := range m {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}

func workflows(t *testing.T, name string) []wfv1.Workflow {
	t.Helper()
	var list wfv1.WorkflowList
	if err := env.client.List(t.Context(), &list, client.InNamespace("orkestra"), client.MatchingLabels{v1alpha1.LabelOwner: name}); err != nil {
		t.Fatal(err)
	}
	return list.Items
}

// facts that were said of a group, in the order of the stream.
func facts(t *testing.T, name string) []events.Fact {
	t.Helper()
	// Where NATS was away the connection comes back by itself, a moment after it.
	eventually(t, 20*time.Second, "the bus to answer", func(ctx context.Context) error {
		_, err := env.bus.EventStream(ctx)
		return err
	})
	var out []events.Fact
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	err := env.bus.Follow(ctx, events.FollowOptions{Group: name}, func(f events.Fact, _ []byte) error {
		out = append(out, f)
		return nil
	})
	if err != nil {
		t.Fatalf("reading the stream: %v", err)
	}
	return out
}

// nothingLeft fails where anything that was made for the group is still there.
func nothingLeft(t *testing.T, name string) {
	t.Helper()
	owned := client.MatchingLabels{v1alpha1.LabelOwner: name}
	eventually(t, time.Minute, "everything of group "+name+" to go", func(ctx context.Context) error {
		for _, list := range []client.ObjectList{
			&helmv2.HelmReleaseList{}, &wfv1.WorkflowList{}, &corev1.SecretList{}, &corev1.NamespaceList{},
		} {
			selector := []client.ListOption{owned}
			if _, ok := list.(*corev1.NamespaceList); ok {
				selector = append(selector, client.HasLabels{v1alpha1.LabelStorage}) // others are kept
			}
			if err := env.client.List(ctx, list, selector...); err != nil {
				return err
			}
			if n := apimeta.LenList(list); n > 0 {
				return fmt.Errorf("%d objects of %T", n, list)
			}
		}
		return nil
	})
}

// dump prints what a person would look at first.
func dump(t *testing.T, name string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if g, err := get(ctx, name); err == nil {
		t.Logf("group %s: %s", name, conditions(g))
	}
	var hrs helmv2.HelmReleaseList
	if err := env.client.List(ctx, &hrs, client.MatchingLabels{v1alpha1.LabelOwner: name}); err == nil {
		for _, hr := range hrs.Items {
			for _, c := range hr.Status.Conditions {
				t.Logf("release %s/%s: %s=%s/%s %s", hr.Namespace, hr.Name, c.Type, c.Status, c.Reason, c.Message)
			}
		}
	}
	var wfs wfv1.WorkflowList
	if err := env.client.List(ctx, &wfs, client.InNamespace("orkestra"), client.MatchingLabels{v1alpha1.LabelOwner: name}); err == nil {
		for _, wf := range wfs.Items {
			t.Logf("workflow %s: %s %s", wf.Name, wf.Status.Phase, wf.Status.Message)
			for _, n := range wf.Status.Nodes {
				t.Logf("  node %s: %s %s", n.Name, n.Phase, n.Message)
			}
		}
	}
	err := env.bus.Follow(ctx, events.FollowOptions{Group: name}, func(f events.Fact, _ []byte) error {
		t.Logf("event %d %s", f.Sequence, f.EventID())
		return nil
	})
	if err != nil {
		t.Logf("reading the stream: %v", err)
	}
}

func values(t *testing.T, v map[string]any) *apiextensionsv1.JSON {
	t.Helper()
	return &apiextensionsv1.JSON{Raw: []byte(mustJSON(t, v))}
}

func mustJSON(t *testing.T, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
