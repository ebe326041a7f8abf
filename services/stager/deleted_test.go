package stager

import (
	"testing"

	sourcev1 "github.com/fluxcd/source-controller/api/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"orkestra.dev/api/v1alpha1"
	"orkestra.dev/pkg/events"
	"orkestra.dev/pkg/service/groupstatus"
)

func TestDeleted(t *testing.T) {
	gone := newGroup("one")
	deleted := events.New(groupstatus.RolloutOf(gone), events.GroupDeleted{})
	w := newWorld(t)
	w.museum.held[museumChart{"shop", "1.0.0"}] = "d"
	if _, err := w.handle(t.Context(), deleted); err != nil || len(w.museum.held) > 0 {
		t.Errorf("a group's charts go with it: %v, %v", err, w.museum.held)
	}
	chart := func(name string, owners ...metav1.OwnerReference) *sourcev1.HelmChart {
		h := &sourcev1.HelmChart{ObjectMeta: object("orkestra", name), Spec: sourcev1.HelmChartSpec{Chart: name, Version: "1.0.0"}}
		h.Labels, h.OwnerReferences = map[string]string{v1alpha1.LabelOwner: gone.Name}, owners
		return h
	}
	w = newWorld(t, chart("alone"), chart("owned", metav1.OwnerReference{UID: gone.UID}))
	for _, name := range []string{"alone", "owned"} {
		w.museum.held[museumChart{name, "1.0.0"}] = "d"
	}
	if _, err := w.handle(t.Context(), deleted); err != nil || len(w.museum.held) != 1 || w.museum.held[museumChart{"alone", "1.0.0"}] == "" {
		t.Errorf("those stay that a HelmChart needs which the group left behind: %v, %v", err, w.museum.held)
	}
	other := newGroup("one")
	other.UID = "another"
	w = newWorld(t, other)
	w.museum.held[museumChart{"shop", "1.0.0"}] = "d"
	if _, err := w.handle(t.Context(), deleted); !events.IsSuperseded(err) || len(w.museum.held) != 1 {
		t.Errorf("those of another group of its name stay: %v, %v", err, w.museum.held)
	}
}

// The end of a group is heard by one replica while another stages it, or brings its charts back.
func TestNothingIsLeftOfWhatIsPushedAfterTheEnd(t *testing.T) {
	ends := func(t *testing.T, w *world, g *v1alpha1.ApplicationGroup) func() {
		return func() { must(t, w.client.Delete(t.Context(), g)) }
	}
	t.Run("Staged", func(t *testing.T) {
		g := newGroup("one")
		w := newWorld(t, g)
		w.museum.pushing = ends(t, w, g)
		if _, err := w.desire(t, g); !events.IsSuperseded(err) || len(w.museum.pushed) == 0 || len(w.museum.held) > 0 {
			t.Errorf("what was pushed goes: %v, pushed %v, held %v", err, w.museum.pushed, w.museum.held)
		}
	})
	t.Run("StagedByOneThatDied", func(t *testing.T) {
		w := newWorld(t)
		w.museum.held[museumChart{"shop", "1.0.0"}] = "d"
		if _, err := w.desire(t, newGroup("one")); !events.IsSuperseded(err) || len(w.museum.held) > 0 {
			t.Errorf("the event is heard again: %v, held %v", err, w.museum.held)
		}
	})
	t.Run("Restocked", func(t *testing.T) {
		g := newGroup("one")
		c := newCellar(t, g)
		c.rollOut(t, g, "first")
		clear(c.museum.held)
		c.museum.pushed, c.museum.pushing = nil, ends(t, c.world, g)
		must(t, c.sweep(t.Context()))
		if len(c.museum.pushed) == 0 || len(c.museum.held) > 0 {
			t.Errorf("what was pushed goes: pushed %v, held %v", c.museum.pushed, c.museum.held)
		}
	})
	t.Run("ToBeRestocked", func(t *testing.T) {
		g := newGroup("one")
		c := newCellar(t, g)
		c.rollOut(t, g, "first")
		clear(c.museum.held)
		c.museum.pushed = nil
		s, groups, err := c.observe(t.Context())
		must(t, err)
		must(t, c.world.client.Delete(t.Context(), g))
		must(t, c.tidy(t.Context(), &groups[0], s.Charts))
		if len(c.museum.pushed) > 0 {
			t.Errorf("a group that has gone since it was seen needs nothing: pushed %v", c.museum.pushed)
		}
	})
	t.Run("PutBack", func(t *testing.T) {
		c, g := newUnneeded(t)
		c.museum.taken = func() {
			c.museum.taken = nil
			c.change(t, g)
			c.museum.pushing = ends(t, c.world, g)
		}
		must(t, c.sweep(t.Context()))
		if len(c.museum.held) > 0 {
			t.Errorf("what was put back goes: held %v", c.museum.held)
		}
	})
}
