package stager

import (
	"slices"
	"testing"
	"time"

	"github.com/fluxcd/pkg/apis/meta"
	sourcev1 "github.com/fluxcd/source-controller/api/v1"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"orkestra.dev/pkg/events"
)

func TestPatienceIsForEachChart(t *testing.T) {
	g := newGroup("one", "two")
	g.Spec.Applications[1].Spec.Subcharts = nil
	w := newWorld(t, g)
	w.broken, w.patience = true, time.Second
	type outcome struct {
		facts []events.Fact
		err   error
	}
	done := make(chan outcome, 1)
	go func() {
		facts, err := w.desire(t, g)
		done <- outcome{facts, err}
	}()
	began := time.Now()
	every := time.NewTicker(600 * time.Millisecond)
	defer every.Stop()
	for {
		select {
		case o := <-done:
			if o.err != nil || o.facts[0].Data.EventType() != events.TypeChartsStaged {
				t.Errorf("a source-controller that goes on is waited for: %v, %v", o.facts, o.err)
			}
			if took := time.Since(began); took < w.patience {
				t.Errorf("it took %s, which is less than our patience", took)
			}
			return
		case <-every.C:
			w.makeOne(t)
		}
	}
}

// makeOne makes one HelmChart ready, as source-controller does after a while.
func (w *world) makeOne(t *testing.T) {
	t.Helper()
	var all sourcev1.HelmChartList
	if err := w.client.List(t.Context(), &all); err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(all.Items, func(h sourcev1.HelmChart) bool {
		return apimeta.IsStatusConditionFalse(h.Status.Conditions, meta.ReadyCondition)
	})
	if i < 0 {
		return
	}
	h := &all.Items[i]
	apimeta.SetStatusCondition(&h.Status.Conditions, metav1.Condition{Type: meta.ReadyCondition, Status: metav1.ConditionTrue, Reason: "Done", ObservedGeneration: h.Generation})
	if err := w.client.Status().Update(t.Context(), h); err != nil {
		t.Fatal(err)
	}
}
