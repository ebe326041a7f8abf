package groupstatus

import (
	"fmt"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"orkestra.dev/api/v1alpha1"
)

func large(releases int) *v1alpha1.ApplicationGroup {
	g := &v1alpha1.ApplicationGroup{ObjectMeta: metav1.ObjectMeta{Name: "g", UID: "u", Generation: 1}}
	for i := range releases {
		app := v1alpha1.Application{DAG: v1alpha1.DAG{Name: fmt.Sprintf("a%d", i)}}
		g.Spec.Applications = append(g.Spec.Applications, app)
	}
	return g
}

func TestLater(t *testing.T) {
	split := large(1)
	split.Spec.Applications[0].Spec.Subcharts = make([]v1alpha1.DAG, 99)
	for name, tc := range map[string]struct {
		group *v1alpha1.ApplicationGroup
		turn  Turn
		want  time.Duration
	}{
		"a small group waits for nobody": {large(19), CompilersTurn, 0},
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
