package stager

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	sourcev1 "github.com/fluxcd/source-controller/api/v1"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"orkestra.dev/api/v1alpha1"
	"orkestra.dev/services/stager/registry"
)

func chartOf(group string) *sourcev1.HelmChart {
	return &sourcev1.HelmChart{ObjectMeta: metav1.ObjectMeta{Name: "c", Labels: map[string]string{v1alpha1.LabelOwner: group}}}
}

func TestBellsRingForTheirGroup(t *testing.T) {
	b := &bells{}
	one, leaveOne := b.hear("one")
	again, leaveAgain := b.hear("one")
	two, leaveTwo := b.hear("two")
	b.ring(chartOf("one"))
	b.ring(toolscache.DeletedFinalStateUnknown{Obj: chartOf("one")})
	b.ring("something else")
	if len(one) != 1 || len(again) != 1 || len(two) != 0 {
		t.Errorf("all who wait for the group are rung once, and no others: %d, %d, %d", len(one), len(again), len(two))
	}
	leaveOne()
	leaveAgain()
	leaveTwo()
	b.ring(chartOf("two"))
	if len(two) != 0 || len(b.by) != 0 {
		t.Errorf("who has left is forgotten: %v", b.by)
	}
}

func TestPollLooksWhenTheBellRings(t *testing.T) {
	rung := make(chan struct{}, 1)
	looks := 0
	err := poll(t.Context(), time.Hour, time.Minute, rung, func() (bool, error) {
		looks++
		rung <- struct{}{} // at the last look too: nobody is there to take it
		return looks == 3, nil
	})
	if err != nil || looks != 3 {
		t.Errorf("%d looks, %v", looks, err)
	}
	none := func() (bool, error) { return false, nil }
	if err := poll(t.Context(), time.Millisecond, 20*time.Millisecond, nil, none); !errors.Is(err, errPatience) {
		t.Errorf("patience ends: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := poll(ctx, time.Hour, time.Hour, nil, none); !errors.Is(err, context.Canceled) {
		t.Errorf("who is told to stop stops: %v", err)
	}
}

func TestEachIsBounded(t *testing.T) {
	var at, most atomic.Int64
	var done [5 * parallel]atomic.Bool
	each(len(done), func(i int) {
		n := at.Add(1)
		defer at.Add(-1)
		for seen := most.Load(); n > seen && !most.CompareAndSwap(seen, n); seen = most.Load() {
			continue
		}
		done[i].Store(true)
	})
	for i := range done {
		if !done[i].Load() {
			t.Errorf("%d was left out", i)
		}
	}
	if most.Load() > parallel {
		t.Errorf("%d at a time", most.Load())
	}
}

// slowly is a registry that answers when it is let.
type slowly struct {
	registry.Registry
	until <-chan struct{}
}

func (s slowly) Resolve(ctx context.Context, ref registry.Ref) (*registry.Resolved, error) {
	select {
	case <-s.until:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	return s.Registry.Resolve(ctx, ref)
}

func TestWhatTakesLongSaysSo(t *testing.T) {
	g := newGroup("one")
	w := newWorld(t, g)
	until := make(chan struct{})
	w.registry = slowly{w.registry, until}
	done := make(chan error, 1)
	go func() {
		_, err := w.desire(t, g)
		done <- err
	}()
	err := poll(t.Context(), tick, 10*time.Second, nil, func() (bool, error) {
		var live v1alpha1.ApplicationGroup
		if err := w.client.Get(t.Context(), client.ObjectKeyFromObject(g), &live); err != nil {
			return false, err
		}
		c := apimeta.FindStatusCondition(live.Status.Conditions, v1alpha1.ConditionStaged)
		return c != nil && c.Status == metav1.ConditionUnknown && c.Reason == v1alpha1.ReasonProgressing, nil
	})
	if err != nil {
		t.Errorf("it is under way, and its status says so: %v", err)
	}
	close(until)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if c, _ := w.staged(t); c.Status != metav1.ConditionTrue {
		t.Errorf("what was said on the way does not stay: %+v", c)
	}
}
