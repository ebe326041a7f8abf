package groupstatus

import (
	"context"
	"sync"
	"time"

	"sigs.k8s.io/controller-runtime/pkg/client"

	"orkestra.dev/api/v1alpha1"
	"orkestra.dev/pkg/events"
)

// A write of the status of a hundred releases costs the API server 0.4 s of processor time and one of a
// thousand 2.9 s (docs/benchmarks/costs.md), and where several services write at a time it does
// each once more for every one that was faster: five writes took it all of the 2.6 s in which one
// release of a hundred was changed.
const (
	largeGroup = 20
	perTurn    = 1000 // ms
	perRelease = 5    // ms
)

// Of a small group the watcher and intake say so after a turn of requeued, and who waits for it with a message in
// hand after inHand. Until then the first release is begun, and what lies before that is not slowed
// down; and the watcher's first two writes become one.
const (
	requeued = 250 * time.Millisecond
	inHand   = 100 * time.Millisecond
)

// Turn is a service's place among those that say of a rollout that all is well so far.
type Turn int

// The turns: that the group is being worked on comes first.
const (
	WatchersTurn Turn = iota + 1
	IntakesTurn
	StagersTurn
	CompilersTurn
)

// Later is how long a service puts off to say of a large group what nobody waits for, so that
// no two of them write at a time, and none while a small change is rolled out: for each turn 1 s, and
// 5 ms for each release. Of a group of less than 20 releases, whose status is small, it is until the first release is begun.
func Later(group *v1alpha1.ApplicationGroup, turn Turn) time.Duration {
	switch releases := Releases(group); {
	case releases >= largeGroup:
		return time.Duration(int(turn)*(perTurn+perRelease*releases)) * time.Millisecond
	case turn == WatchersTurn || turn == IntakesTurn:
		return time.Duration(turn) * requeued
	default:
		return inHand
	}
}

// Releases is about how many releases a group has: one for each application, and for each subchart that it names.
func Releases(group *v1alpha1.ApplicationGroup) int {
	releases := 0
	for i := range group.Spec.Applications {
		releases += 1 + len(group.Spec.Applications[i].Spec.Subcharts)
	}
	return releases
}

// ApplyLater is Apply when the turn of that manager has come, unless all is said already. current reads the
// group anew after that; where it is superseded by then there is nobody to tell.
func ApplyLater(ctx context.Context, c client.Client, fieldManager string, group *v1alpha1.ApplicationGroup, s Status,
	turn Turn, current Current,
) error {
	if later := Later(group, turn); later > 0 {
		said, err := says(group, desired(group, s), fieldManager)
		if err != nil || said {
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(later):
		}
		group, err = current(ctx, RolloutOf(group))
		if events.IsSuperseded(err) {
			return nil
		}
		if err != nil {
			return err
		}
	}
	return ApplyCurrent(ctx, c, fieldManager, group, s, current)
}

// Held remembers since when it is put off to say something of groups. The zero value remembers nothing.
type Held struct {
	mu    sync.Mutex
	since map[string]held // by group
}

type held struct {
	rollout string
	at      time.Time
}

// Left is how long it is put off from now on, in that turn, to say something of the rollout that
// the group asks for. The first time that it is asked is when that begins.
func (h *Held) Left(group *v1alpha1.ApplicationGroup, turn Turn, now time.Time) time.Duration {
	later := Later(group, turn)
	if later == 0 {
		return 0
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.since == nil {
		h.since = map[string]held{}
	}
	rollout := RolloutOf(group).ID()
	if h.since[group.Name].rollout != rollout {
		h.since[group.Name] = held{rollout: rollout, at: now}
	}
	return max(0, later-now.Sub(h.since[group.Name].at))
}

// Forget a group that is gone.
func (h *Held) Forget(group string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.since, group)
}
