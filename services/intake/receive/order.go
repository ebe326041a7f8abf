package receive

import (
	"encoding/json"
	"time"

	"orkestra.dev/api/v1alpha1"
)

const (
	// Spacing is the least time between two requests for a group that pushes make.
	Spacing = time.Second
	// Settling is how long a rollout that a push has asked for is left to come to its end
	// before the next push cuts in: what was pushed may be in it already.
	Settling = 10 * time.Second
	// skew is by how much the clocks of replicas may differ.
	skew = 5 * time.Second
)

// Mark is the place of an event among all: its sequence in the stream and, since a stream
// that was lost begins again, when it was said.
type Mark struct {
	Sequence uint64    `json:"sequence"`
	Time     time.Time `json:"time"`
}

// upTo says whether m is other or was said before it.
func (m Mark) upTo(other Mark) bool {
	return m.Sequence <= other.Sequence && m.Time.Before(other.Time.Add(skew))
}

// Later is a mark up to which both are: events that are said at about the same time are not
// stored in the order of their times. Of two that are further apart it is the later one.
func (m Mark) Later(other Mark) Mark {
	switch apart := other.Time.Sub(m.Time); {
	case apart > skew:
		return other
	case apart < -skew:
		return m
	case apart > 0:
		m.Time = other.Time
	}
	m.Sequence = max(m.Sequence, other.Sequence)
	return m
}

// asked is the value of v1alpha1.AnnotationRequestedBy.
type asked struct {
	Event       string `json:"event"`
	Generation  int64  `json:"generation,omitempty"`
	RequestedAt string `json:"requestedAt,omitempty"`
	// Sequence of the last event that had been heard of: pushes up to it are covered.
	Sequence uint64 `json:"sequence,omitempty"`
}

// Next is what a push, or a wish to reconcile, calls for.
type Next struct {
	// Covered: the group was asked for since.
	Covered bool
	// Wait is in how long to look again at the group, since it was asked for just now.
	Wait time.Duration
	// AtMost is in how long there is nothing more to wait for, whatever the group does.
	AtMost time.Duration
}

// NextRequest decides about an event and a group that it is news to. Requests are
// compared by sequence and by time: where the clocks of replicas differ, one too many is
// made, and never one too few.
func NextRequest(group *v1alpha1.ApplicationGroup, m Mark, now time.Time) Next {
	at := group.Annotations[v1alpha1.AnnotationRequestedAt]
	var by asked
	if err := json.Unmarshal([]byte(group.Annotations[v1alpha1.AnnotationRequestedBy]), &by); err != nil || by.RequestedAt != at || at == "" {
		return Next{} // nobody asked, or somebody else did
	}
	last, err := time.Parse(time.RFC3339Nano, at)
	if err != nil {
		return Next{}
	}
	if m.Sequence <= by.Sequence && m.Time.Before(last) {
		return Next{Covered: true}
	}
	switch since := now.Sub(last); {
	case since < 0:
		return Next{}
	case since < Spacing:
		return Next{Wait: Spacing - since, AtMost: Settling - since}
	case since < Settling && group.Status.LastHandledReconcileAt != at:
		return Next{Wait: Spacing, AtMost: max(Settling-since, Spacing)}
	default:
		return Next{}
	}
}

// Ask writes into a group that it is to be reconciled, for an event. Heard is the last
// event that was heard of before.
func Ask(group *v1alpha1.ApplicationGroup, event string, heard Mark, now time.Time) error {
	at := now.UTC().Format(time.RFC3339Nano)
	if err := annotate(group, v1alpha1.AnnotationRequestedBy, asked{Event: event, RequestedAt: at, Sequence: heard.Sequence}); err != nil {
		return err
	}
	group.Annotations[v1alpha1.AnnotationRequestedAt] = at
	return nil
}

// AskedBy writes into a group for which event the spec was changed that it has now; the
// API server will count one generation more.
func AskedBy(group *v1alpha1.ApplicationGroup, event string) error {
	return annotate(group, v1alpha1.AnnotationRequestedBy, asked{Event: event, Generation: group.Generation + 1})
}

// deploys is the value of v1alpha1.AnnotationDeploys: by application and field.
type deploys map[string]map[v1alpha1.ReceiverField]Mark

// Outdated drops from a deploy request the fields for which a later one, or this very one,
// was done already. Nothing may be left.
func Outdated(group *v1alpha1.ApplicationGroup, d Deploy, m Mark) Deploy {
	done := deploysOf(group)[d.Application]
	if at, ok := done[v1alpha1.ReceiverFieldVersion]; ok && m.upTo(at) {
		d.Version = ""
	}
	if at, ok := done[v1alpha1.ReceiverFieldValues]; ok && m.upTo(at) {
		d.Values = nil
	}
	return d
}

// Done writes into a group that a deploy request was, also where nothing had to be
// changed for it: an older one that comes late is to find it. What is said of
// applications that have gone, goes.
func Done(group *v1alpha1.ApplicationGroup, d Deploy, m Mark) error {
	all, kept := deploysOf(group), deploys{}
	for i := range group.Spec.Applications {
		name := group.Spec.Applications[i].Name
		fields := all[name]
		if name == d.Application {
			if fields == nil {
				fields = map[v1alpha1.ReceiverField]Mark{}
			}
			if d.Version != "" {
				fields[v1alpha1.ReceiverFieldVersion] = m
			}
			if d.Values != nil {
				fields[v1alpha1.ReceiverFieldValues] = m
			}
		}
		if len(fields) > 0 {
			kept[name] = fields
		}
	}
	return annotate(group, v1alpha1.AnnotationDeploys, kept)
}

func deploysOf(group *v1alpha1.ApplicationGroup) deploys {
	var out deploys
	if err := json.Unmarshal([]byte(group.Annotations[v1alpha1.AnnotationDeploys]), &out); err != nil {
		return nil // what somebody else wrote there says nothing
	}
	return out
}

func annotate(group *v1alpha1.ApplicationGroup, name string, value any) error {
	text, err := json.Marshal(value)
	if err != nil {
		return err
	}
	if group.Annotations == nil {
		group.Annotations = map[string]string{}
	}
	group.Annotations[name] = string(text)
	return nil
}
