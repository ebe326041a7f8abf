// Package trace tells what led to what in a rollout, and where its time went. Pure:
// facts and a time in, a tree out.
package trace

import (
	"cmp"
	"path"
	"slices"
	"time"

	"orkestra.dev/pkg/events"
)

// Link says how it is known under which fact another one belongs.
type Link string

// The links.
const (
	// LinkNone: nothing led to it that is known; it begins a tree.
	LinkNone Link = ""
	// LinkCause: the event names its cause.
	LinkCause Link = "cause"
	// LinkMeaning: the event names none, as what is said of the cluster's objects does
	// not. It belongs there by what it is about.
	LinkMeaning Link = "meaning"
)

// Stage of a rollout: what went on until a fact was said.
type Stage string

// The stages, in their order.
const (
	// Receiving: from a webhook's delivery to the request that it led to.
	Receiving Stage = "receiving"
	// Staging: from the request to the staged charts.
	Staging Stage = "staging"
	// Compiling: from what called for a workflow to the workflow.
	Compiling Stage = "compiling"
	// Argo: from the workflow, or from the last node that ended, to the next that begins.
	Argo Stage = "argo"
	// Helm: from the node's begin to what became of its release, with the executor.
	Helm Stage = "helm"
	// Reporting: from what became of the release to the node's end.
	Reporting Stage = "reporting"
	// Settling: from the last node's end to the rollout's.
	Settling Stage = "settling"
	// Other is what has no place in the above.
	Other Stage = "other"
)

var stages = []Stage{Receiving, Staging, Compiling, Argo, Helm, Reporting, Settling, Other}

// Step is a fact in the tree.
type Step struct {
	ID   string    `json:"id"`
	What string    `json:"what"`
	Time time.Time `json:"time"`
	// Service that said it.
	Service string `json:"service"`
	// Link to the step that this one is a child of.
	Link Link `json:"link,omitempty"`
	// Cause that the event names.
	Cause string `json:"cause,omitempty"`
	// After is the step that this one had to wait for, "" for the first.
	After string `json:"after,omitempty"`
	// Offset from the first fact, in seconds.
	Offset float64 `json:"offsetSeconds"`
	// Took is the time since After, in seconds.
	Took float64 `json:"tookSeconds"`
	// Stage that Took is of.
	Stage Stage `json:"stage,omitempty"`
	// Slow: Took stands out.
	Slow bool `json:"slow,omitempty"`
	// Critical: the rollout's end had to wait for this step.
	Critical bool           `json:"critical,omitempty"`
	Data     events.Payload `json:"data,omitempty"`
	Children []*Step        `json:"children,omitempty"`

	fact events.Fact
	took time.Duration
}

// Part is the share of a stage in a rollout's time.
type Part struct {
	Stage   Stage   `json:"stage"`
	Seconds float64 `json:"seconds"`
}

// Trace of a rollout.
type Trace struct {
	Group       string `json:"group"`
	UID         string `json:"uid"`
	Generation  int64  `json:"generation"`
	RequestedAt string `json:"requestedAt,omitempty"`
	// Origin is who asked for the rollout, as far as that is known.
	Origin events.Origin `json:"origin,omitzero"`
	// Outcome is the fact with which the rollout is over, as group.rejected; "" while it
	// is under way.
	Outcome string `json:"outcome,omitempty"`
	// Cut: the facts begin in the middle, for the stream no longer has the first.
	Cut bool `json:"cut,omitempty"`
	// Seconds from the first fact to the outcome, or to now.
	Seconds float64 `json:"seconds"`
	// Facts in the tree.
	Facts int `json:"facts"`
	// Parts of the time, along the steps that the end had to wait for: they add up to
	// Seconds.
	Parts []Part  `json:"parts"`
	Steps []*Step `json:"steps"`
}

// Of the facts of one rollout, with those about no rollout that led to it, in the order of
// the stream. Now is the end of a rollout that is under way.
func Of(facts []events.Fact, now time.Time) Trace {
	var b builder
	seen := map[string]bool{}
	for _, f := range facts {
		// The stream may have a fact twice: it was said again much later, or replayed.
		if id := f.EventID(); !seen[id] && f.Data != nil {
			seen[id] = true
			b.add(f)
		}
	}
	if len(b.steps) == 0 {
		return Trace{}
	}
	out := Trace{Facts: len(b.steps)}
	for _, s := range slices.Backward(b.steps) {
		if r := s.fact.Rollout; r.Group != "" {
			out.Group, out.UID, out.Generation, out.RequestedAt = r.Group, r.UID, r.Generation, r.RequestedAt
		}
		if origin := OriginOf(s.Data); origin != (events.Origin{}) {
			out.Origin = origin
		}
	}
	out.Cut = !begins(b.steps[0].fact.Data)
	for i := range b.steps {
		b.place(i)
	}
	for _, s := range b.steps {
		if s.Link == LinkNone {
			out.Steps = append(out.Steps, s)
		}
	}
	last, over := b.end()
	end := now
	if over {
		out.Outcome, end = last.What, last.Time
	}
	out.Seconds = max(end.Sub(b.steps[0].Time), 0).Seconds()
	out.Parts = b.parts(last, end, over)
	b.mark(out.Seconds)
	return out
}

// begins says whether nothing of a rollout comes before the fact.
func begins(p events.Payload) bool {
	switch p.(type) {
	case events.GroupDesired, events.GroupRejected, events.GroupSuspended, events.GroupDeleting, events.GroupDeleted, events.Standalone:
		return true
	default:
		return false
	}
}

type builder struct {
	// steps in the order of the stream.
	steps []*Step
}

func (b *builder) add(f events.Fact) {
	b.steps = append(b.steps, &Step{
		ID: f.EventID(), What: f.Type().What(), Time: f.Time.UTC(), Service: path.Base(f.Source), Cause: f.CausationID, Data: f.Data, fact: f,
	})
}

// place a step in the tree, and in the chain of what waited for what.
func (b *builder) place(i int) {
	s := b.steps[i]
	s.Offset = s.Time.Sub(b.steps[0].Time).Seconds()
	// A cause comes before what it led to, or the tree would be none.
	parent := b.last(i, func(c *Step) bool { return c.ID == s.Cause })
	if parent != nil {
		s.Link = LinkCause
	} else if parent = cmp.Or(b.last(i, meaning(s.Data)), b.last(i, ahead(s.Data))); parent != nil {
		s.Link = LinkMeaning
	}
	after := parent
	if waits := gate(s.Data); waits != nil {
		after = cmp.Or(b.last(i, waits), parent)
	}
	s.Stage = stageOf(s.Data)
	if parent != nil {
		parent.Children = append(parent.Children, s)
	}
	if after != nil {
		s.After = after.ID
		s.took = max(s.Time.Sub(after.Time), 0)
		s.Took = s.took.Seconds()
	}
}

// last step before the i'th that is such a one; nil where there is none.
func (b *builder) last(i int, such func(*Step) bool) *Step {
	if such == nil {
		return nil
	}
	for _, s := range slices.Backward(b.steps[:i]) {
		if such(s) {
			return s
		}
	}
	return nil
}

// end is the fact with which the rollout is over, and else the last that there is. What
// is said after the end, of a release that somebody edits, is no part of the rollout.
func (b *builder) end() (last *Step, over bool) {
	last = b.last(len(b.steps), func(s *Step) bool { return ends(s.Data) })
	if last == nil {
		return b.steps[len(b.steps)-1], false
	}
	// The stager tries again, and another workflow takes up what a failed one has left.
	again := b.last(len(b.steps), func(s *Step) bool {
		switch s.Data.(type) {
		case events.ChartsStaged, events.WorkflowSubmitted:
			return slices.Index(b.steps, s) > slices.Index(b.steps, last)
		default:
			return false
		}
	})
	if again != nil {
		return b.steps[len(b.steps)-1], false
	}
	return last, true
}

// parts of the time, from the end back to the first fact.
func (b *builder) parts(last *Step, end time.Time, over bool) []Part {
	sums := map[Stage]time.Duration{}
	if !over {
		sums[b.under(last)] += max(end.Sub(last.Time), 0)
	}
	byID := map[string]*Step{}
	for _, s := range b.steps {
		byID[s.ID] = s
	}
	for s := last; s != nil && !s.Critical; s = byID[s.After] {
		s.Critical = true
		sums[s.Stage] += s.took
		if s.After == "" {
			sums[Other] += s.Time.Sub(b.steps[0].Time)
		}
	}
	out := []Part{}
	for _, stage := range stages {
		if d := sums[stage]; d > 0 {
			out = append(out, Part{stage, d.Seconds()})
		}
	}
	return out
}

// under way: the stage that goes on after the last fact.
func (b *builder) under(last *Step) Stage {
	switch last.Data.(type) {
	case events.Standalone:
		return Receiving
	case events.GroupDesired:
		return Staging
	case events.ChartsStaged, events.GroupDeleting:
		return Compiling
	case events.ReleaseReady, events.ReleaseFailed, events.ReleaseExpired, events.ReleaseDeleted:
		return Reporting
	case events.WorkflowSubmitted, events.NodeStarted, events.NodeSucceeded, events.NodeFailed:
		if b.running() {
			return Helm
		}
		return Argo
	default:
		return Other
	}
}

// running: a node has begun and not ended.
func (b *builder) running() bool {
	open := map[string]bool{}
	for _, s := range b.steps {
		if ref, ok := node(s.Data); ok {
			_, open[ref.Node] = s.Data.(events.NodeStarted)
		}
	}
	for _, begun := range open {
		if begun {
			return true
		}
	}
	return false
}
