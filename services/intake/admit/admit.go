// Package admit is the core of the intake: what a group, as it is now, calls for.
// Values in, values out.
package admit

import (
	"slices"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"orkestra.dev/api/v1alpha1"
	"orkestra.dev/pkg/events"
	"orkestra.dev/pkg/readiness"
)

// Workflow is what the intake has to know of a workflow of the group.
type Workflow struct {
	// Name of the object.
	Name string
	// Type is forward, reverse or rollback.
	Type events.WorkflowType
	// Rollout that it was made for.
	Rollout events.Rollout
	// Finished says that Argo is done with it, Succeeded that it went well.
	Finished, Succeeded bool
}

// State is what was seen of a group.
type State struct {
	// Group as it is now.
	Group *v1alpha1.ApplicationGroup
	// Rollout that it asks for.
	Rollout events.Rollout
	// Now is when it was seen.
	Now time.Time
	// Versions of the objects that the group refers to, of those that are there. A group
	// that is being deleted is not asked for them.
	Versions map[Reference]string
	// Releases is the number of its HelmReleases. Only a group that is being
	// deleted is asked for them, and for its workflows.
	Releases int
	// Workflows of the group, this one by UID.
	Workflows []Workflow
	// Overdue says that the deletion was asked for so long ago that the compiler
	// has had its time to answer.
	Overdue bool
	// Disowned says that the garbage collector has taken the group off what the group
	// owned, of which something is still there: the group was deleted as an orphaner.
	Disowned bool
}

// Action is what is to be done next.
type Action string

// The actions.
const (
	// Nothing: the group is on its way out, and not by us.
	Nothing Action = "Nothing"
	// AddFinalizer, so that a deletion waits for the reverse.
	AddFinalizer Action = "AddFinalizer"
	// Refuse the spec, in the condition Accepted and with group.rejected.
	Refuse Action = "Refuse"
	// Suspend what is under way, with group.suspended.
	Suspend Action = "Suspend"
	// Record what the rollout sees of the references, and then look again.
	Record Action = "Record"
	// Request another rollout, which is another state of the group.
	Request Action = "Request"
	// Announce the spec with group.desired.
	Announce Action = "Announce"
	// AnnounceDeletion with group.deleting.
	AnnounceDeletion Action = "AnnounceDeletion"
	// AskAgain for the deletion, as a new rollout: the reverse workflow that was
	// there is gone, or has left something behind.
	AskAgain Action = "AskAgain"
	// Wait for the reverse workflow.
	Wait Action = "Wait"
	// Release the group: all that it had is gone.
	Release Action = "Release"
	// Force the group out: what it has left is told to go, and not waited for.
	Force Action = "Force"
	// RecordOrphan, in AnnotationOrphan, while it can be seen that the group is to go
	// without its releases.
	RecordOrphan Action = "RecordOrphan"
	// Orphan the releases: stop what runs, and then let the group go alone.
	Orphan Action = "Orphan"
)

// Decision is an action with what it takes.
type Decision struct {
	Action Action
	// Why, of Refuse and Request.
	Why string
	// Again is when to look again though nothing changes; zero is never. Only a group
	// that is not being deleted has it.
	Again time.Duration
	// RequestedAt names the rollout of Request.
	RequestedAt string
	// Record is the value of v1alpha1.AnnotationReferences to be written by Record and Request;
	// empty where there is none.
	Record string
}

// forced is the value of AnnotationForceDelete that means it.
const forced = "true"

// Validate says what is wrong with a spec, its CEL expressions included.
func Validate(group *v1alpha1.ApplicationGroup) field.ErrorList {
	return append(group.Validate(), readiness.Validate(group)...)
}

// Next decides.
func Next(s State) Decision {
	ours := slices.Contains(s.Group.Finalizers, v1alpha1.Finalizer)
	switch {
	case !s.Group.DeletionTimestamp.IsZero() && !ours:
		return Decision{Action: Nothing}
	case !s.Group.DeletionTimestamp.IsZero() && (s.Disowned || v1alpha1.GoesAlone(s.Group)):
		return Decision{Action: s.alone()}
	case !s.Group.DeletionTimestamp.IsZero():
		return Decision{Action: s.end()}
	case !ours:
		return Decision{Action: AddFinalizer}
	}
	if errs := Validate(s.Group); len(errs) > 0 {
		return Decision{Action: Refuse, Why: errs.ToAggregate().Error()}
	}
	if s.Group.Spec.Suspend {
		return Decision{Action: Suspend}
	}
	return s.desired()
}

// desired is what a spec calls for that can be rolled out.
func (s State) desired() Decision {
	unset, changed := s.changes()
	if unset {
		return Decision{Action: Record, Record: s.record(s.Rollout)}
	}
	if changed != "" {
		if wait := s.spaced(); wait > 0 {
			return Decision{Action: Announce, Again: wait}
		}
		return s.request(s.Now.UTC().Format(time.RFC3339Nano), changed)
	}
	at, in := s.tick()
	if at != "" {
		return s.request(at, "spec.interval has passed")
	}
	return Decision{Action: Announce, Again: in}
}

func (s State) request(at, why string) Decision {
	next := s.Rollout
	next.RequestedAt = at
	return Decision{Action: Request, Why: why, RequestedAt: at, Record: s.record(next)}
}

// alone is what a group calls for that goes without its releases. The charts of those
// are to be nobody's when the group goes, or else they would go with it: that is what
// the garbage collector does until it takes its finalizer off.
func (s State) alone() Action {
	switch {
	case s.Group.Annotations[v1alpha1.AnnotationOrphan] != v1alpha1.Orphaned:
		return RecordOrphan
	case slices.Contains(s.Group.Finalizers, metav1.FinalizerOrphanDependents):
		return Wait
	default:
		return Orphan
	}
}

// end is what a group calls for that is being deleted.
func (s State) end() Action {
	var running, reversing, reversed, failed bool
	for _, w := range s.Workflows {
		switch {
		case !w.Finished:
			running = true
			reversing = reversing || w.Type == events.WorkflowReverse
		case w.Type == events.WorkflowReverse && w.Rollout == s.Rollout:
			reversed = reversed || w.Succeeded
			failed = failed || !w.Succeeded
		}
	}
	switch {
	case s.Releases == 0 && !running:
		return Release
	case s.Group.Annotations[v1alpha1.AnnotationForceDelete] == forced:
		return Force
	case reversing:
		return Wait
	case s.Releases > 0 && failed && !reversed:
		// A release that will not go: its owner has to look. Asking again is
		// theirs, by the annotation.
		return Wait
	case s.Releases > 0 && (reversed || s.Overdue):
		return AskAgain
	default:
		return AnnounceDeletion
	}
}
