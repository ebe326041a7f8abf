package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	helmv2 "github.com/fluxcd/helm-controller/api/v2"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"orkestra.dev/api/v1alpha1"
	"orkestra.dev/pkg/events"
)

// workflowOf waits until the group has a workflow of a type that is not at its end.
func workflowOf(t *testing.T, group string, kind events.WorkflowType) {
	t.Helper()
	eventually(t, time.Minute, fmt.Sprintf("a %s workflow of group %s", kind, group), func(context.Context) error {
		for _, wf := range workflows(t, group) {
			if wf.Labels[v1alpha1.LabelWorkflowType] == string(kind) && len(wf.Status.Nodes) > 0 {
				return nil
			}
		}
		return errors.New("there is none")
	})
}

// A group that is deleted in any phase of its life goes, and leaves nothing.
func TestDeleteInEachPhase(t *testing.T) {
	s := serve(t)
	add(t, s, "small", "1.0.0", configMapChart())
	add(t, s, "small", "2.0.0", brokenChart())
	const n = 6
	upgrade := func(g *v1alpha1.ApplicationGroup) {
		for i := range g.Spec.Applications {
			g.Spec.Applications[i].Spec.Release.Values = values(t, map[string]any{"message": "newer"})
		}
		g.Spec.Applications[n-1].Spec.Chart.Version = "2.0.0"
	}
	installed := func(t *testing.T, name string) {
		create(t, chain(name, s.URL, n))
		awaitReady(t, name, time.Minute, metav1.ConditionTrue, v1alpha1.ReasonSucceeded)
	}
	phases := map[string]func(t *testing.T, name string){
		"accepted": func(t *testing.T, name string) { create(t, chain(name, s.URL, n)) },
		"unstaged": func(t *testing.T, name string) {
			g := chain(name, s.URL, n)
			g.Spec.Applications[0].Spec.Chart.Version = "9.9.9"
			create(t, g)
			awaitReady(t, name, time.Minute, metav1.ConditionFalse, v1alpha1.ReasonChartPullFailed)
		},
		"installing": func(t *testing.T, name string) {
			create(t, chain(name, s.URL, n))
			awaitReleases(t, name, 2)
		},
		"ready": installed,
		"upgrading": func(t *testing.T, name string) {
			installed(t, name)
			update(t, name, func(g *v1alpha1.ApplicationGroup) {
				upgrade(g)
				g.Spec.Applications[n-1].Spec.Chart.Version = "1.0.0"
			})
			eventually(t, time.Minute, "the second workflow", func(context.Context) error {
				if forwards(t, name) < 2 {
					return errors.New("there is one")
				}
				return nil
			})
		},
		"rollingback": func(t *testing.T, name string) {
			installed(t, name)
			update(t, name, upgrade)
			workflowOf(t, name, events.WorkflowRollback)
		},
		"rolledback": func(t *testing.T, name string) {
			installed(t, name)
			update(t, name, upgrade)
			awaitCondition(t, name, v1alpha1.ConditionRollbackWorkflowSucceeded, metav1.ConditionTrue)
		},
		"reversing": func(t *testing.T, name string) {
			g := chain(name, s.URL, n)
			g.Spec.Applications[n-1].Spec.Chart.Version = "2.0.0"
			create(t, g)
			workflowOf(t, name, events.WorkflowReverse)
		},
	}
	for phase, reach := range phases {
		t.Run(phase, func(t *testing.T) {
			name := "gone" + phase
			reach(t, name)
			deleteInReverse(t, name)
			if left := configMaps(t, name); len(left) != 0 {
				t.Errorf("objects left: %v", names(left))
			}
		})
	}
}

// held puts a finalizer on a release that nobody takes off, as a hook that never ends
// would hold it.
func held(t *testing.T, key client.ObjectKey) (release func()) {
	t.Helper()
	const finalizer = "example.com/held"
	change := func(ctx context.Context, to func([]string) []string) error {
		var hr helmv2.HelmRelease
		if err := env.client.Get(ctx, key, &hr); err != nil {
			return err
		}
		hr.Finalizers = to(hr.Finalizers)
		return env.client.Update(ctx, &hr)
	}
	eventually(t, 10*time.Second, "holding release "+key.String(), func(ctx context.Context) error {
		return change(ctx, func(f []string) []string { return append(f, finalizer) })
	})
	return func() {
		t.Helper()
		eventually(t, 10*time.Second, "letting release "+key.String()+" go", func(ctx context.Context) error {
			err := change(ctx, func(f []string) []string {
				out := []string{}
				for _, name := range f {
					if name != finalizer {
						out = append(out, name)
					}
				}
				return out
			})
			return client.IgnoreNotFound(err)
		})
	}
}

// A release that will not go keeps its group, which says which one and since when; it
// goes by itself when the release does.
func TestReleaseThatWillNotGo(t *testing.T) {
	s := serve(t)
	add(t, s, "small", "1.0.0", configMapChart())
	const name = "stuck"
	g := chain(name, s.URL, 2)
	for i := range g.Spec.Applications {
		g.Spec.Applications[i].Spec.Release.Timeout = &metav1.Duration{Duration: 2 * time.Second}
	}
	create(t, g)
	awaitReady(t, name, time.Minute, metav1.ConditionTrue, v1alpha1.ReasonSucceeded)
	free := held(t, client.ObjectKey{Namespace: name, Name: "a1"})
	if err := env.client.Delete(t.Context(), g); err != nil {
		t.Fatal(err)
	}
	eventually(t, time.Minute, "the group to name the release", func(ctx context.Context) error {
		g, err := get(ctx, name)
		if err != nil {
			return err
		}
		if m := message(g, v1alpha1.ConditionReady); !strings.Contains(m, "stuck/a1") {
			return errors.New(m)
		}
		return nil
	})
	if _, ok := releases(t, name)[name+"/a0"]; !ok {
		t.Error("a0 went before a1, which depends on it")
	}
	free()
	remove(t, name)
	nothingLeft(t, name)
}

// Its owner may let a group go whatever is left of it.
func TestForceDelete(t *testing.T) {
	s := serve(t)
	add(t, s, "small", "1.0.0", configMapChart())
	const name = "forced"
	create(t, chain(name, s.URL, 2))
	g := awaitReady(t, name, time.Minute, metav1.ConditionTrue, v1alpha1.ReasonSucceeded)
	free := held(t, client.ObjectKey{Namespace: name, Name: "a1"})
	if err := env.client.Delete(t.Context(), g); err != nil {
		t.Fatal(err)
	}
	update(t, name, func(g *v1alpha1.ApplicationGroup) {
		if g.Annotations == nil {
			g.Annotations = map[string]string{}
		}
		g.Annotations[v1alpha1.AnnotationForceDelete] = "true"
	})
	eventually(t, 20*time.Second, "the group to go", func(ctx context.Context) error {
		g, err := get(ctx, name)
		if apierrors.IsNotFound(err) {
			return nil
		}
		return errors.Join(err, errors.New(conditions(g)))
	})
	free()
	eventually(t, 30*time.Second, "the releases to go after it", func(context.Context) error {
		if left := names(releases(t, name)); len(left) != 0 {
			return fmt.Errorf("left: %v", left)
		}
		return nil
	})
}

// Namespaces go with the group where it says so, but for one that it did not make and
// one in which another group has a release.
func TestNamespaceDeletionPolicy(t *testing.T) {
	s := serve(t)
	add(t, s, "small", "1.0.0", configMapChart())
	const name = "tidy"
	namespace(t, "tidy-before")
	g := chain(name, s.URL, 3)
	g.Spec.NamespaceDeletionPolicy = v1alpha1.NamespacesDelete
	for i, ns := range []string{"tidy-own", "tidy-shared", "tidy-before"} {
		g.Spec.Applications[i].Spec.Release.TargetNamespace = ns
	}
	create(t, g)
	awaitReady(t, name, time.Minute, metav1.ConditionTrue, v1alpha1.ReasonSucceeded)
	other := chain("tidyother", s.URL, 1)
	other.Spec.Applications[0].Name = "other"
	other.Spec.Applications[0].Spec.Release.TargetNamespace = "tidy-shared"
	create(t, other)
	awaitReady(t, other.Name, time.Minute, metav1.ConditionTrue, v1alpha1.ReasonSucceeded)
	remove(t, name)
	eventually(t, time.Minute, "the group's own namespace to go", func(ctx context.Context) error {
		err := env.client.Get(ctx, client.ObjectKey{Name: "tidy-own"}, &corev1.Namespace{})
		if apierrors.IsNotFound(err) {
			return nil
		}
		return fmt.Errorf("it is there: %w", err)
	})
	for _, ns := range []string{"tidy-shared", "tidy-before"} {
		var kept corev1.Namespace
		if err := env.client.Get(t.Context(), client.ObjectKey{Name: ns}, &kept); err != nil || kept.DeletionTimestamp != nil {
			t.Errorf("namespace %s: %v, deleted at %v: want it kept", ns, err, kept.DeletionTimestamp)
		}
	}
}

// The last fence is the API server's: nobody writes an older generation over a newer.
func TestFence(t *testing.T) {
	s := serve(t)
	add(t, s, "small", "1.0.0", configMapChart())
	const name = "fenced"
	create(t, chain(name, s.URL, 1))
	awaitReady(t, name, time.Minute, metav1.ConditionTrue, v1alpha1.ReasonSucceeded)
	update(t, name, func(g *v1alpha1.ApplicationGroup) {
		g.Spec.Applications[0].Spec.Release.Values = values(t, map[string]any{"message": "newer"})
	})
	g := awaitReady(t, name, time.Minute, metav1.ConditionTrue, v1alpha1.ReasonSucceeded)
	hr := releases(t, name)[name+"/a0"]
	if got := hr.Labels[v1alpha1.LabelGeneration]; got != strconv.FormatInt(g.Generation, 10) {
		t.Fatalf("the release is of generation %q, want %d", got, g.Generation)
	}
	older, err := json.Marshal(map[string]any{
		"metadata": map[string]any{"labels": map[string]any{v1alpha1.LabelGeneration: strconv.FormatInt(g.Generation-1, 10)}},
		"spec":     map[string]any{"values": map[string]any{"message": "older"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	err = env.client.Patch(t.Context(), &hr, client.RawPatch("application/merge-patch+json", older))
	if !apierrors.IsInvalid(err) && !apierrors.IsForbidden(err) {
		t.Errorf("an older generation was written over a newer: %v", err)
	}
}

// A group that is deleted with its dependents orphaned goes alone: its releases stay as
// they are, and a group of that name that comes later takes them over without an action.
func TestOrphan(t *testing.T) {
	s := serve(t)
	add(t, s, "small", "1.0.0", configMapChart())
	const name = "orphaned"
	g := chain(name, s.URL, 2)
	create(t, g)
	awaitReady(t, name, time.Minute, metav1.ConditionTrue, v1alpha1.ReasonSucceeded)
	before := releases(t, name)
	if err := env.client.Delete(t.Context(), g, client.PropagationPolicy(metav1.DeletePropagationOrphan)); err != nil {
		t.Fatal(err)
	}
	eventually(t, 30*time.Second, "the group to go", func(ctx context.Context) error {
		g, err := get(ctx, name)
		if apierrors.IsNotFound(err) {
			return nil
		}
		return errors.Join(err, errors.New(conditions(g)))
	})
	after := releases(t, name)
	for key, hr := range before {
		if got, ok := after[key]; !ok || got.UID != hr.UID || got.DeletionTimestamp != nil || got.Status.History.Latest().Version != 1 {
			t.Errorf("release %s did not stay as it was", key)
		}
	}
	create(t, chain(name, s.URL, 2))
	awaitReady(t, name, time.Minute, metav1.ConditionTrue, v1alpha1.ReasonSucceeded)
	for key, hr := range releases(t, name) {
		if hr.UID != before[key].UID || hr.Status.History.Latest().Version != 1 {
			t.Errorf("release %s was not taken over as it is", key)
		}
	}
}

// A release of a group that is rolled out is deleted by hand: the group says so, and puts it back when it is asked for again.
func TestWhatIsDeletedByHandIsMissedAndPutBack(t *testing.T) {
	s := serve(t)
	add(t, s, "small", "1.0.0", configMapChart())
	const name = "missed"
	create(t, chain(name, s.URL, 3))
	awaitReady(t, name, time.Minute, metav1.ConditionTrue, v1alpha1.ReasonSucceeded)

	hr := releases(t, name)[name+"/a1"]
	if err := env.client.Delete(t.Context(), &hr); err != nil {
		t.Fatal(err)
	}
	eventually(t, 30*time.Second, "the group to name what is gone", func(ctx context.Context) error {
		g, err := get(ctx, name)
		if err != nil {
			return err
		}
		c := apimeta.FindStatusCondition(g.Status.Conditions, v1alpha1.ConditionDegraded)
		if c == nil || c.Status != metav1.ConditionTrue || c.Message != "a1 is gone" || !apimeta.IsStatusConditionTrue(g.Status.Conditions, v1alpha1.ConditionReady) {
			return fmt.Errorf("it says %+v", g.Status.Conditions)
		}
		return nil
	})
	if _, out, _ := orkestra(t, "status", name); !strings.Contains(out, "Degraded") || !strings.Contains(out, "orkestra reconcile "+name) {
		t.Errorf("the command line says:\n%s", out)
	}
	if code, _, errs := orkestra(t, "reconcile", name, "--wait", "--timeout", "1m"); code != 0 {
		t.Fatalf("reconcile ends with %d: %s", code, errs)
	}
	if _, ok := releases(t, name)[name+"/a1"]; !ok {
		t.Error("a1 was not put back")
	}
	eventually(t, 30*time.Second, "the group to be whole again", func(ctx context.Context) error {
		g, err := get(ctx, name)
		if err == nil && apimeta.FindStatusCondition(g.Status.Conditions, v1alpha1.ConditionDegraded) != nil {
			err = errors.New("it is still degraded")
		}
		return err
	})
}
