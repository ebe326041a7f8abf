package groupstatus

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	"orkestra.dev/api/v1alpha1"
	"orkestra.dev/pkg/events"
)

func large(releases int) *v1alpha1.ApplicationGroup {
	g := &v1alpha1.ApplicationGroup{ObjectMeta: metav1.ObjectMeta{Name: "g", UID: "u", Generation: 1}}
	for i := range releases {
		app := v1alpha1.Application{DAG: v1alpha1.DAG{Name: fmt.Sprintf("a%d", i)}}
		g.Spec.Applications = append(g.Spec.Applications, app)
	}
	return g
}

// served is the group on an API server, and how it is read there.
func served(t *testing.T, g *v1alpha1.ApplicationGroup) (client.Client, Current) {
	t.Helper()
	scheme := runtime.NewScheme()
	if err := v1alpha1.AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	c := fake.NewClientBuilder().WithScheme(scheme).WithObjects(g).WithStatusSubresource(g).Build()
	return c, func(ctx context.Context, _ events.Rollout) (*v1alpha1.ApplicationGroup, error) {
		now := &v1alpha1.ApplicationGroup{}
		return now, c.Get(ctx, client.ObjectKeyFromObject(g), now)
	}
}

func TestLater(t *testing.T) {
	split := large(1)
	split.Spec.Applications[0].Spec.Subcharts = make([]v1alpha1.DAG, 99)
	for name, tc := range map[string]struct {
		group *v1alpha1.ApplicationGroup
		turn  Turn
		want  time.Duration
	}{
		"a small group is to begin":      {large(19), WatchersTurn, 250 * time.Millisecond},
		"a message is not held for long": {large(19), CompilersTurn, 100 * time.Millisecond},
		"the watcher is the first":       {large(100), WatchersTurn, 1500 * time.Millisecond},
		"parts of a chart are releases":  {split, WatchersTurn, 1500 * time.Millisecond},
		"the compiler is the last":       {large(100), CompilersTurn, 6 * time.Second},
		"a write of a thousand is dear":  {large(1000), CompilersTurn, 24 * time.Second},
	} {
		if got := Later(tc.group, tc.turn); got != tc.want {
			t.Errorf("%s: %s, want %s", name, got, tc.want)
		}
	}
}

func TestHeld(t *testing.T) {
	var h Held
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	g := large(100)
	left := func(want time.Duration, what string) {
		t.Helper()
		if got := h.Left(g, WatchersTurn, now); got != want {
			t.Errorf("%s: %s left, want %s", what, got, want)
		}
	}
	left(1500*time.Millisecond, "the first time")
	now = now.Add(time.Second)
	left(500*time.Millisecond, "a second later")
	now = now.Add(time.Second)
	left(0, "when its turn has come")
	g.Generation++
	left(1500*time.Millisecond, "another rollout")
	now = now.Add(time.Minute)
	left(0, "a minute later")
	h.Forget(g.Name)
	left(1500*time.Millisecond, "one that was forgotten")
}

func TestApplyLater(t *testing.T) {
	status := Status{Conditions: []metav1.Condition{{Type: v1alpha1.ConditionCompiled, Status: metav1.ConditionTrue, Reason: v1alpha1.ReasonCompiled}}}
	for name, tc := range map[string]struct {
		releases int
		// said: the group says it already; moved: it asks for something else by then.
		said, moved bool
		waits       time.Duration
		written     bool
	}{
		"Small":   {releases: 2, waits: 100 * time.Millisecond, written: true},
		"Large":   {releases: 100, waits: 6 * time.Second, written: true},
		"Said":    {releases: 100, said: true},
		"MovedOn": {releases: 100, moved: true, waits: 6 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := large(tc.releases)
				c, read := served(t, g)
				now := func(ctx context.Context, r events.Rollout) (*v1alpha1.ApplicationGroup, error) {
					if tc.moved {
						return nil, events.Superseded("another generation")
					}
					return read(ctx, r)
				}
				if tc.said {
					g.Status.Conditions = []metav1.Condition{status.Conditions[0]}
					g.Status.Conditions[0].ObservedGeneration = g.Generation
					g.ManagedFields = []metav1.ManagedFieldsEntry{{
						Manager: "me", Operation: metav1.ManagedFieldsOperationApply, Subresource: "status",
						FieldsV1: metav1.NewFieldsV1(`{"f:status":{"f:conditions":{"k:{\"type\":\"Compiled\"}":{".":{}}}}}`),
					}}
				}
				began := time.Now()
				if err := ApplyLater(t.Context(), c, "me", g, status, CompilersTurn, now); err != nil {
					t.Fatal(err)
				}
				if waited := time.Since(began); waited != tc.waits {
					t.Errorf("waited %s, want %s", waited, tc.waits)
				}
				have, err := read(t.Context(), events.Rollout{})
				if err != nil {
					t.Fatal(err)
				}
				if written := len(have.Status.Conditions) == 1; written != tc.written {
					t.Errorf("written is %v", written)
				}
			})
		})
	}
}
