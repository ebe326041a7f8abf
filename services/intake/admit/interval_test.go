package admit

import (
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"orkestra.dev/api/v1alpha1"
	"orkestra.dev/pkg/events"
)

func TestInterval(t *testing.T) {
	ago := func(d time.Duration) string { return now.Add(-d).Format(time.RFC3339) }
	every := func(d time.Duration) func(*v1alpha1.ApplicationGroup) {
		return func(g *v1alpha1.ApplicationGroup) { g.Spec.Interval = &metav1.Duration{Duration: d} }
	}
	ready := func(status metav1.ConditionStatus, since time.Duration) func(*v1alpha1.ApplicationGroup) {
		return func(g *v1alpha1.ApplicationGroup) {
			g.Status.Conditions = []metav1.Condition{{
				Type: v1alpha1.ConditionReady, Status: status, ObservedGeneration: 3, LastTransitionTime: metav1.NewTime(now.Add(-since)),
			}}
		}
	}
	finished := func(since time.Duration) func(*v1alpha1.ApplicationGroup) {
		return func(g *v1alpha1.ApplicationGroup) {
			g.Status.Rollout = &v1alpha1.RolloutStatus{Finished: new(metav1.NewTime(now.Add(-since)))}
		}
	}
	requested := func(at, handled string) func(*v1alpha1.ApplicationGroup) {
		return func(g *v1alpha1.ApplicationGroup) {
			g.Annotations = map[string]string{v1alpha1.AnnotationRequestedAt: at}
			g.Status.LastHandledReconcileAt = handled
		}
	}
	changed := func(g *v1alpha1.ApplicationGroup) { g.Status.Conditions[0].ObservedGeneration-- }
	const yes = metav1.ConditionTrue
	with := func(change ...func(*v1alpha1.ApplicationGroup)) *v1alpha1.ApplicationGroup { return group(change...) }

	for name, tc := range map[string]struct {
		reason string
		group  *v1alpha1.ApplicationGroup
		at     string
		again  time.Duration
	}{
		"None":    {"a group without an interval is asked for by nobody", with(ready(yes, 23*time.Hour)), "", 0},
		"Zero":    {"nor one whose interval is nothing", with(every(0), ready(yes, 23*time.Hour)), "", 0},
		"NotYet":  {"until the interval has passed it is waited for", with(every(time.Hour), ready(yes, 20*time.Minute)), "", 40 * time.Minute},
		"Passed":  {"when it has, the group is asked for as of then", with(every(time.Hour), ready(yes, 61*time.Minute)), ago(time.Minute), 0},
		"Late":    {"of many that nobody was there for, the last", with(every(time.Hour), ready(yes, 5*time.Hour+time.Minute)), ago(time.Minute), 0},
		"Rounded": {"it is named by its second", with(every(1500*time.Millisecond), ready(yes, 2*time.Second)), ago(time.Second), 0},
		"TooOften": {
			"an interval of less than a second is one of a second",
			with(every(time.Millisecond), ready(yes, 1500*time.Millisecond)), ago(time.Second), 0,
		},
		"WorkflowEndedLater": {
			"a rollout that left Ready as it was counts from the end of its workflow",
			with(every(time.Hour), ready(yes, 23*time.Hour), finished(10*time.Minute)), "", 50 * time.Minute,
		},
		"FoundNothingToDo": {
			"one that left nothing but its request counts from there",
			with(every(time.Hour), ready(yes, 23*time.Hour), requested(ago(15*time.Minute), ago(15*time.Minute))), "", 45 * time.Minute,
		},
		"RequestedForTomorrow": {
			"a time that has not come is not believed",
			with(every(time.Hour), ready(yes, 30*time.Minute), requested(ago(-24*time.Hour), ago(-24*time.Hour))), "", 30 * time.Minute,
		},
		"RequestedSomehow": {
			"a request need not be a time",
			with(every(time.Hour), ready(yes, 30*time.Minute), requested("please", "please")), "", 30 * time.Minute,
		},
		"UnderWay":    {"what is under way is left alone", with(every(time.Hour), ready(metav1.ConditionUnknown, 23*time.Hour)), "", 0},
		"Failed":      {"and so is what has failed", with(every(time.Hour), ready(metav1.ConditionFalse, 23*time.Hour)), "", 0},
		"ReadyBefore": {"what is said of an older spec is past", with(every(time.Hour), ready(yes, 23*time.Hour), changed), "", 0},
		"JustRequested": {
			"a request that is not handled is under way",
			with(every(time.Hour), ready(yes, 23*time.Hour), requested(ago(0), "")), "", 0,
		},
		"NeverSummedUp": {"a group of which nothing is known is under way", with(every(time.Hour)), "", 0},
	} {
		t.Run(name, func(t *testing.T) {
			s := State{Group: tc.group, Now: now, Rollout: events.Rollout{
				Group: "g", UID: "u", Generation: 3, RequestedAt: tc.group.Annotations[v1alpha1.AnnotationRequestedAt],
			}}
			d := Next(s)
			want := Announce
			if tc.at != "" {
				want = Request
			}
			if d.Action != want || d.RequestedAt != tc.at || d.Again != tc.again {
				t.Fatalf("%s: got %s at %q, again in %s; want %s, %q, %s", tc.reason, d.Action, d.RequestedAt, d.Again, want, tc.at, tc.again)
			}
			if d.Action != Request {
				return
			}
			// Two replicas that look a moment apart ask for the same.
			s.Now = now.Add(300 * time.Millisecond)
			if other := Next(s); other.RequestedAt != d.RequestedAt {
				t.Errorf("%s: another replica asks for %q, not %q", tc.reason, other.RequestedAt, d.RequestedAt)
			}
		})
	}
}
