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
