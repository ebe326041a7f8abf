package trace

import (
	"slices"
	"strings"
	"time"

	"orkestra.dev/pkg/events"
)

// OriginOf is who asked for what a fact asks for; empty for other facts.
func OriginOf(p events.Payload) events.Origin {
	switch d := p.(type) {
	case events.GroupDesired:
		return d.Origin
	case events.GroupSuspended:
		return d.Origin
	case events.GroupDeleting:
		return d.Origin
	default:
		return events.Origin{}
	}
}

// Who is an origin in a few words: "ann@example.com with kubectl, for webhook.received/1";
// empty where nothing is known.
func Who(o events.Origin) string {
	text := o.User
	switch {
	case o.User != "" && o.Manager != "":
		text += " with " + o.Manager
	case o.User == "":
		text = o.Manager
	}
	if o.Event != "" {
		text = strings.TrimPrefix(text+", for "+o.Event, ", ")
	}
	return text
}

// workflow that a fact is about.
func workflow(p events.Payload) string {
	switch d := p.(type) {
	case events.WorkflowSubmitted:
		return d.Workflow
	case events.RolloutSucceeded:
		return d.Workflow
	case events.RolloutFailed:
		return d.Workflow
	}
	if ref, ok := node(p); ok {
		return ref.Workflow
	}
	if ref, ok := release(p); ok {
		return ref.Workflow
	}
	return ""
}

func node(p events.Payload) (events.NodeRef, bool) {
	switch d := p.(type) {
	case events.NodeStarted:
		return d.NodeRef, true
	case events.NodeSucceeded:
		return d.NodeRef, true
	case events.NodeFailed:
		return d.NodeRef, true
	default:
		return events.NodeRef{}, false
	}
}

func release(p events.Payload) (events.ReleaseRef, bool) {
	switch d := p.(type) {
	case events.ReleaseReady:
		return d.ReleaseRef, true
	case events.ReleaseFailed:
		return d.ReleaseRef, true
	case events.ReleaseExpired:
		return d.ReleaseRef, true
	case events.ReleaseDeleted:
		return d.ReleaseRef, true
	default:
		return events.ReleaseRef{}, false
	}
}

// is says whether a step is of that type and workflow.
func is[P events.Payload](workflowName string) func(*Step) bool {
	return func(s *Step) bool {
		_, ok := s.Data.(P)
		return ok && workflow(s.Data) == workflowName
	}
}

func either(tests ...func(*Step) bool) func(*Step) bool {
	return func(s *Step) bool {
		return slices.ContainsFunc(tests, func(test func(*Step) bool) bool { return test(s) })
	}
}

// meaning is what a fact belongs under where it names no cause, or one that is not
// there: the last such before it. It is nil for what begins a tree.
func meaning(p events.Payload) func(*Step) bool {
	if ref, ok := node(p); ok {
		if _, begun := p.(events.NodeStarted); begun {
			return is[events.WorkflowSubmitted](ref.Workflow)
		}
		// The release's outcome is the node's; a node that is skipped has none.
		return func(s *Step) bool {
			if r, ok := release(s.Data); ok {
				return r.Workflow == ref.Workflow && covers(ref.Task, r.Task)
			}
			begun, ok := s.Data.(events.NodeStarted)
			return ok && begun.Node == ref.Node && begun.Workflow == ref.Workflow
		}
	}
	if ref, ok := release(p); ok {
		// A release may be begun, and done, before Argo comes to its node.
		return either(func(s *Step) bool { return startOf(s, ref.Workflow, ref.Task) }, is[events.WorkflowSubmitted](ref.Workflow))
	}
	switch d := p.(type) {
	case events.RolloutSucceeded:
		return is[events.WorkflowSubmitted](d.Workflow)
	case events.RolloutFailed:
		return is[events.WorkflowSubmitted](d.Workflow)
	case events.ChartsStaged, events.ChartsFailed:
		return is[events.GroupDesired]("")
	case events.WorkflowSubmitted, events.WorkflowRejected, events.RolloutUnchanged:
		return beginsWorkflow
	case events.GroupDeleted:
		return is[events.GroupDeleting]("")
	default:
		return nil
	}
}

// ahead is what a fact belongs under that was said before the one that it belongs under
// by its meaning: Argo may come to a node before the compiler has said that there is a
// workflow. It is nil for all others.
func ahead(p events.Payload) func(*Step) bool {
	if _, begun := p.(events.NodeStarted); begun {
		return beginsWorkflow
	}
	return nil
}

// beginsWorkflow: the compiler answers it with a workflow.
func beginsWorkflow(s *Step) bool {
	_, failed := s.Data.(events.RolloutFailed)
	return failed || either(is[events.ChartsStaged](""), is[events.GroupDeleting](""))(s)
}

func startOf(s *Step, workflowName, task string) bool {
	d, ok := s.Data.(events.NodeStarted)
	return ok && d.Workflow == workflowName && covers(d.Task, task)
}

// covers: the task of a node is that of its release, or one of its executors.
func covers(nodeTask, task string) bool {
	return nodeTask == task || strings.HasPrefix(nodeTask, task+".")
}

// gate is what a fact had to wait for, where that is not what it belongs under: a node
// begins when others have ended, and a rollout ends with its last node. Which nodes a
// node waits for is not said in the stream, so it is the last that ended before.
func gate(p events.Payload) func(*Step) bool {
	switch p.(type) {
	case events.NodeStarted, events.RolloutSucceeded, events.RolloutFailed:
		name := workflow(p)
		return either(is[events.NodeSucceeded](name), is[events.NodeFailed](name), is[events.WorkflowSubmitted](name))
	case events.GroupDeleted:
		return func(s *Step) bool { return ends(s.Data) }
	default:
		return nil
	}
}

// ends says whether a fact may be a rollout's last.
func ends(p events.Payload) bool {
	switch p.(type) {
	case events.GroupRejected, events.ChartsFailed, events.WorkflowRejected, events.RolloutUnchanged,
		events.RolloutSucceeded, events.RolloutFailed, events.GroupSuspended, events.GroupDeleted:
		return true
	default:
		return false
	}
}

func stageOf(p events.Payload) Stage {
	switch p.(type) {
	case events.GroupDesired, events.GroupSuspended, events.GroupDeleting:
		return Receiving
	case events.ChartsStaged, events.ChartsFailed:
		return Staging
	case events.WorkflowSubmitted, events.WorkflowRejected, events.RolloutUnchanged:
		return Compiling
	case events.NodeStarted:
		return Argo
	case events.ReleaseReady, events.ReleaseFailed, events.ReleaseExpired, events.ReleaseDeleted:
		return Helm
	case events.NodeSucceeded, events.NodeFailed:
		return Reporting
	case events.RolloutSucceeded, events.RolloutFailed, events.GroupDeleted:
		return Settling
	default:
		return Other
	}
}

const (
	// slowTimes the median of its kind is slow, of which there are at least slowPeers.
	slowTimes, slowPeers = 3, 3
	// slowLeast is what is never slow, whatever the others took.
	slowLeast = 500 * time.Millisecond
	// slowShare of the whole time is slow, in parts of it.
	slowShare = 0.3
)

// mark the steps that stand out: that took much longer than their kind, or that a large
// part of the rollout's time went into.
func (b *builder) mark(seconds float64) {
	byKind := map[string][]time.Duration{}
	for _, s := range b.steps {
		byKind[s.What] = append(byKind[s.What], s.took)
	}
	for _, all := range byKind {
		slices.Sort(all)
	}
	for _, s := range b.steps {
		kind := byKind[s.What]
		odd := len(kind) >= slowPeers && s.took > slowTimes*kind[(len(kind)-1)/2]
		large := s.Critical && s.Took >= slowShare*seconds
		s.Slow = s.took >= slowLeast && (odd || large)
	}
}
