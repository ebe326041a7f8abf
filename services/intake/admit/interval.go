package admit

import (
	"time"

	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"orkestra.dev/api/v1alpha1"
)

const (
	// minInterval is the shortest spec.interval that is heeded: a request is named by
	// its second.
	minInterval = time.Second
	// spacing is the least time between two requests that changes of references make:
	// an object that is written all the time must not keep a group from ever being
	// rolled out whole.
	spacing = 5 * time.Second
)

// tick says when spec.interval asks for the group again: at, if that is now, in the
// form of requestedAt; else in how long, and zero where it does not. It asks only for
// what is rolled out whole: a group that is under way, or has failed, is left to
// itself, or to its owner.
func (s State) tick() (at string, in time.Duration) {
	if s.Group.Spec.Interval == nil || s.Group.Spec.Interval.Duration <= 0 || !s.done() {
		return "", 0
	}
	interval := max(s.Group.Spec.Interval.Duration, minInterval)
	last := s.lastEnd()
	since := s.Now.Sub(last)
	if since < interval {
		return "", interval - since
	}
	// Ticks that nobody was there for are one. All who see the same group find the
	// same one.
	return stamp(last.Add(since - since%interval)), 0
}

// done: the group is what it asks for now.
func (s State) done() bool {
	ready := apimeta.FindStatusCondition(s.Group.Status.Conditions, v1alpha1.ConditionReady)
	return ready != nil && ready.Status == metav1.ConditionTrue && ready.ObservedGeneration == s.Group.Generation &&
		s.Group.Status.LastHandledReconcileAt == s.Rollout.RequestedAt
}

// lastEnd is when the last rollout ended, as far as it was noted: one that found
// nothing to do leaves no more than its request. What lies ahead is not believed: a
// user may write any time into the annotation.
func (s State) lastEnd() time.Time {
	last := s.Group.CreationTimestamp.Time
	noted := []time.Time{s.requested()}
	if ready := apimeta.FindStatusCondition(s.Group.Status.Conditions, v1alpha1.ConditionReady); ready != nil {
		noted = append(noted, ready.LastTransitionTime.Time)
	}
	if r := s.Group.Status.Rollout; r != nil && r.Finished != nil {
		noted = append(noted, r.Finished.Time)
	}
	for _, t := range noted {
		if t.After(last) && !t.After(s.Now) {
			last = t
		}
	}
	return last
}

// requested is the time in requestedAt; zero where there is none, or something else.
func (s State) requested() time.Time {
	at, err := time.Parse(time.RFC3339Nano, s.Rollout.RequestedAt)
	if err != nil {
		return time.Time{}
	}
	return at
}

// spaced is how long a request must wait that a change makes.
func (s State) spaced() time.Duration {
	if since := s.Now.Sub(s.requested()); since >= 0 && since < spacing {
		return spacing - since
	}
	return 0
}

// stamp is a time as requestedAt has it.
func stamp(t time.Time) string { return t.UTC().Truncate(time.Second).Format(time.RFC3339) }
