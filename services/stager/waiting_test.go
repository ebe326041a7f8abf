package stager

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"orkestra.dev/api/v1alpha1"
	"orkestra.dev/services/stager/registry"
)

func TestPoll(t *testing.T) {
	looks := 0
	yes, err := poll(t.Context(), time.Minute, func() (bool, error) { looks++; return looks == 3, nil })
	if !yes || err != nil || looks != 3 {
		t.Errorf("%d looks, %t, %v", looks, yes, err)
	}
	none := func() (bool, error) { return false, nil }
	if yes, err := poll(t.Context(), 20*time.Millisecond, none); yes || err != nil {
		t.Errorf("patience ends: %t, %v", yes, err)
	}
	if _, err := poll(t.Context(), time.Minute, func() (bool, error) { return false, errors.ErrUnsupported }); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("what is wrong is told: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := poll(ctx, time.Hour, none); !errors.Is(err, context.Canceled) {
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
	said, err := poll(t.Context(), 10*time.Second, func() (bool, error) {
		var live v1alpha1.ApplicationGroup
		if err := w.client.Get(t.Context(), client.ObjectKeyFromObject(g), &live); err != nil {
			return false, err
		}
		c := apimeta.FindStatusCondition(live.Status.Conditions, v1alpha1.ConditionStaged)
		return c != nil && c.Status == metav1.ConditionUnknown && c.Reason == v1alpha1.ReasonProgressing, nil
	})
	if err != nil || !said {
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
