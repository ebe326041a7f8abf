package events

import (
	"cmp"
	"fmt"
	"strconv"
	"strings"
	"time"
)

const (
	subjectPrefix = "orkestra.v1."
	subjectAll    = subjectPrefix + ">"
)

// Fact is one thing that has happened, to be said or as it was heard.
type Fact struct {
	// Rollout that the fact is about; empty where the payload is Standalone.
	Rollout Rollout
	// Data is the payload, as a value: events.GroupDesired{}, not a pointer.
	Data Payload

	// CausationID is the id of the event that led to this one. A consumer sets it
	// on what its handler returns.
	CausationID string
	// TraceParent is the W3C trace context in which the story began. A consumer
	// hands it on; Say takes it from its context where it is empty.
	TraceParent string
	// Time at which it happened. Say takes the clock where it is zero; it is not
	// part of the identity.
	Time time.Time

	// ID and Source identify the event that was heard; they are ignored by Say.
	ID, Source string
	// Attempt is 1 for the first delivery of an event to a consumer. It counts
	// the waiting ones too.
	Attempt uint64
	// Sequence is the position of the event in its stream.
	Sequence uint64
}

// New is a fact to be said. Its id is a function of what it says, so that
// saying it twice, by whomever, is saying it once.
func New(r Rollout, p Payload) Fact { return Fact{Rollout: r, Data: p} }

// EventID is the id of the event: the one that was heard, else the one under
// which the fact will be said:
//
//	<what>/<uid>/<generation>/<requestedAt>[/<key>]
//
// e.g. group.desired/<uid>/3/ for a rollout that nobody requested by annotation; of a
// Standalone payload <what>/<key>.
func (f Fact) EventID() string {
	if f.ID != "" {
		return f.ID
	}
	return f.contentID()
}

func (f Fact) contentID() string {
	if _, ok := f.Data.(Standalone); ok {
		return f.Type().What() + "/" + f.Data.Key()
	}
	id := f.Type().What() + "/" + token(f.Rollout.UID) +
		"/" + strconv.FormatInt(f.Rollout.Generation, 10) +
		"/" + token(f.Rollout.RequestedAt)
	if f.Data != nil && f.Data.Key() != "" {
		id += "/" + f.Data.Key()
	}
	return id
}

// Type is the CloudEvents type of the payload, empty where there is none.
func (f Fact) Type() Type {
	if f.Data == nil {
		return ""
	}
	return f.Data.EventType()
}

// About is the name of what the fact is about: the group, unless the payload is
// Standalone.
func (f Fact) About() string {
	if s, ok := f.Data.(Standalone); ok {
		return s.About()
	}
	return f.Rollout.Group
}

// Subject is the NATS subject of a fact: orkestra.v1.<thing>.<group>, and of a
// Standalone payload orkestra.v1.<thing>.<what it is about>.
func Subject(f Fact) string {
	return subjectPrefix + f.Type().Thing() + "." + SubjectToken(f.About())
}

// partition is what the events that must keep their order have in common.
func (f Fact) partition() string { return cmp.Or(f.Rollout.UID, f.About()) }

// story is what the events that belong together have in common.
func (f Fact) story() string {
	if _, ok := f.Data.(Standalone); ok {
		return f.contentID()
	}
	return f.Rollout.ID()
}

// validate reports what is missing from a fact.
func (f Fact) validate() error {
	s, ok := f.Data.(Standalone)
	switch {
	case !ok:
		return f.Rollout.validate()
	case s.About() == "" || strings.ContainsAny(s.About(), "*> \t\r\n"):
		return fmt.Errorf("%q is no name of what %s is about", s.About(), f.Type())
	case f.Rollout != Rollout{}:
		return fmt.Errorf("%s is about no rollout, and names one of group %q", f.Type(), f.Rollout.Group)
	default:
		return nil
	}
}
