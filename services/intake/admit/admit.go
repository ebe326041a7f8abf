// Package admit is the core of the intake: what a group, as it is now, calls for.
// Values in, values out.
package admit

import (
	"orkestra.dev/api/v1alpha1"
	"orkestra.dev/pkg/events"
)

// Workflow is what the intake has to know of a workflow of the group.
type Workflow struct {
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
	// Releases is the number of its HelmReleases. Only a group that is being
	// deleted is asked for them, and for its workflows.
	Releases int
	// Workflows of the group, this one by UID.
	Workflows []Workflow
	// Overdue says that the deletion was asked for so long ago that the compiler
	// has had its time to answer.
	Overdue bool
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
)

// Next decides. For Refuse, the second value says why.
func Next(s State) (Action, string) {
	ours := false
	for _, f := range s.Group.Finalizers {
		ours = ours || f == v1alpha1.Finalizer
	}
	if s.Group.DeletionTimestamp.IsZero() {
		if !ours {
			return AddFinalizer, ""
		}
		if errs := s.Group.Validate(); len(errs) > 0 {
			return Refuse, errs.ToAggregate().Error()
		}
		return Announce, ""
	}
	if !ours {
		return Nothing, ""
	}

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
		return Release, ""
	case reversing:
		return Wait, ""
	case s.Releases > 0 && failed && !reversed:
		// A release that will not go: its owner has to look. Asking again is
		// theirs, by the annotation.
		return Wait, ""
	case s.Releases > 0 && (reversed || s.Overdue):
		return AskAgain, ""
	default:
		return AnnounceDeletion, ""
	}
}
