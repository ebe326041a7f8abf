// Package past tells how a group stood at a time, from what was said of it until then.
// Pure: facts in, the tree of status out.
package past

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"orkestra.dev/api/v1alpha1"
	"orkestra.dev/cli/internal/trace"
	"orkestra.dev/cli/internal/tree"
	"orkestra.dev/pkg/events"
)

// State of a group as it was told.
type State struct {
	tree.Node
	// Rollout that was asked for last.
	Rollout events.Rollout
	// Origin of it, as far as that is known.
	Origin events.Origin
	// Begun is when it was asked for.
	Begun time.Time
	// Last is the id of the last fact that was said until then.
	Last string
	// Cut: the facts begin in the middle, for the stream no longer has the first. What was
	// installed before them is not known.
	Cut bool
}

// Of a group at a time, from its facts in the order of the stream; later ones are passed
// over. It is false where there was no such group then, or nothing is known of it.
func Of(facts []events.Fact, at time.Time) (State, bool) {
	var f *fold
	for _, fact := range facts {
		if fact.Data == nil || fact.Rollout.Group == "" || fact.Time.After(at) {
			continue
		}
		if f == nil || f.Rollout.UID != fact.Rollout.UID {
			f = &fold{at: at, releases: map[string]*release{}}
			f.Name = fact.Rollout.Group
			f.Cut = !first(fact)
		}
		f.hear(fact)
	}
	if f == nil || f.gone {
		return State{}, false
	}
	f.Children = f.applications()
	f.Took = f.took()
	return f.State, true
}

// first says whether nothing was said of a group before.
func first(f events.Fact) bool {
	switch f.Data.(type) {
	case events.GroupDesired, events.GroupRejected, events.GroupSuspended:
		return f.Rollout.Generation == 1 && f.Rollout.RequestedAt == ""
	default:
		return false
	}
}

// release as it was told.
type release struct {
	application, name string
	phase             tree.Phase
	message           string
	// began and ended are of the phase; ended is zero while it goes on.
	began, ended time.Time
	// installed: Helm had installed it once.
	installed bool
}

type fold struct {
	State
	at time.Time
	// releases by task: <application>.<task>.
	releases map[string]*release
	// ended is when the rollout was over; zero while it is under way.
	ended time.Time
	gone  bool
}

func (f *fold) hear(fact events.Fact) {
	f.Last = fact.EventID()
	switch d := fact.Data.(type) {
	case events.GroupDesired:
		f.begin(fact, tree.Working, "waiting for its charts to be staged")
	case events.GroupSuspended:
		f.begin(fact, tree.Suspended, "held")
	case events.GroupDeleting:
		f.begin(fact, tree.Deleting, "waiting for its removal to be begun")
	case events.GroupRejected:
		f.begin(fact, tree.Failed, d.Reason+": "+d.Message)
		f.ended = fact.Time
	case events.GroupDeleted:
		f.gone = true
	default:
		// What is said late of an older rollout says nothing of the newer one.
		if f.Rollout.Group == "" {
			f.Rollout, f.Begun = fact.Rollout, fact.Time
		}
		f.release(fact)
		if fact.Rollout == f.Rollout {
			f.rollout(fact)
		}
	}
}

func (f *fold) begin(fact events.Fact, phase tree.Phase, message string) {
	f.Rollout, f.Begun, f.ended = fact.Rollout, fact.Time, time.Time{}
	f.Origin = trace.OriginOf(fact.Data)
	f.Phase, f.Message = phase, message
}

func (f *fold) rollout(fact events.Fact) {
	end := func(phase tree.Phase, message string) { f.Phase, f.Message, f.ended = phase, message, fact.Time }
	switch d := fact.Data.(type) {
	case events.ChartsStaged:
		f.staged(d)
		f.Message = "its charts are staged"
	case events.ChartsFailed:
		end(tree.Failed, fmt.Sprintf("%s: application %s: %s", d.Reason, d.Application, d.Message))
	case events.WorkflowSubmitted:
		f.ended = time.Time{}
		if f.Phase != tree.Deleting {
			f.Phase = tree.Working
		}
		f.Message = fmt.Sprintf("%s, %d releases", d.WorkflowType, d.Releases)
	case events.WorkflowRejected:
		end(tree.Failed, d.Reason+": "+d.Message)
	case events.RolloutUnchanged:
		end(tree.Ready, fmt.Sprintf("%d releases are as they should be", d.Releases))
		f.settle()
	case events.RolloutSucceeded:
		switch d.WorkflowType {
		case events.WorkflowForward:
			end(tree.Ready, "rolled out")
			f.settle()
		case events.WorkflowRollback:
			end(tree.Failed, "the rollout failed, and the group went back to what it was")
		default:
			if f.Phase == tree.Deleting {
				end(tree.Deleting, "everything is removed")
			} else {
				end(tree.Failed, "the rollout failed, and what it had made was removed")
			}
		}
	case events.RolloutFailed:
		end(tree.Failed, strings.Trim(d.Reason+": "+d.Message, ": "))
	}
}

// settle: of a rollout that is whole, what was not touched was as wanted already.
func (f *fold) settle() {
	for _, r := range f.releases {
		if r.phase == tree.Pending {
			r.phase = tree.Ready
		}
	}
}

// staged names the releases that there are to be. What is no longer among them is removed
// in the course of the rollout, and is said to be.
func (f *fold) staged(d events.ChartsStaged) {
	for _, a := range d.Applications {
		app := v1alpha1.DNSName(a.Name)
		for _, p := range a.Pieces {
			version := a.Chart + " " + a.Version
			if p.Subchart != "" {
				version = p.Subchart + " " + p.SubchartVersion
			}
			r := f.of(app+"."+v1alpha1.TaskName(a.Name, p.Subchart), v1alpha1.ReleaseName(a.Name, p.Subchart))
			if r.phase != tree.Ready {
				r.phase, r.message = tree.Pending, strings.TrimSpace(version)
			}
		}
	}
}

// of a task, as it was told of so far.
func (f *fold) of(task, name string) *release {
	key, app := task, task
	if first, rest, ok := strings.Cut(task, "."); ok {
		app = first
		step, _, _ := strings.Cut(rest, ".") // what follows is an executor of it
		key = first + "." + step
		if r := f.releases[key]; r != nil {
			name = cmp.Or(name, r.name)
		}
		if name == "" {
			name = step
			if step == v1alpha1.TaskName(app, "") {
				name = v1alpha1.ReleaseName(app, "")
			}
		}
	}
	r := f.releases[key]
	if r == nil {
		r = &release{application: app, phase: tree.Pending}
		f.releases[key] = r
	}
	r.name = cmp.Or(name, r.name)
	return r
}

func (f *fold) release(fact events.Fact) {
	turn := func(r *release, phase tree.Phase, message string) {
		r.phase, r.message, r.ended = phase, message, fact.Time
	}
	switch d := fact.Data.(type) {
	case events.NodeStarted:
		r := f.of(d.Task, "")
		r.phase, r.message, r.began, r.ended = tree.Installing, "", fact.Time, time.Time{}
		switch {
		case d.WorkflowType == events.WorkflowReverse:
			r.phase = tree.Deleting
		case r.installed:
			r.phase = tree.Upgrading
		}
	case events.NodeSucceeded:
		// A node whose release was as wanted already has no other end.
		if r := f.of(d.Task, ""); r.ended.IsZero() {
			if r.phase == tree.Deleting {
				turn(r, tree.Gone, "")
			} else {
				turn(r, tree.Ready, r.message)
			}
		}
	case events.NodeFailed:
		turn(f.of(d.Task, ""), tree.Failed, d.Message)
	case events.ReleaseReady:
		r := f.of(d.Task, d.Name)
		turn(r, tree.Ready, d.Chart+" "+d.Version)
		r.installed = true
	case events.ReleaseFailed:
		turn(f.of(d.Task, d.Name), tree.Failed, d.Reason+": "+d.Message)
	case events.ReleaseExpired:
		turn(f.of(d.Task, d.Name), tree.Failed, fmt.Sprintf("not ready within %s", time.Duration(d.TimeoutSeconds)*time.Second))
	case events.ReleaseDeleted:
		r := f.of(d.Task, d.Name)
		turn(r, tree.Gone, "")
		r.installed = false
	}
}

// applications in the order of their names, each with its releases. What is gone is shown
// while its rollout is under way only.
func (f *fold) applications() []tree.Node {
	apps := map[string]*tree.Node{}
	for _, r := range f.releases {
		if r.phase == tree.Gone && !f.ended.IsZero() && f.Phase != tree.Deleting {
			continue
		}
		app := apps[r.application]
		if app == nil {
			app = &tree.Node{Name: r.application}
			apps[r.application] = app
		}
		n := tree.Node{Name: r.name, Phase: r.phase, Message: r.message}
		if !r.began.IsZero() {
			end := r.ended
			if end.IsZero() {
				end = f.at
			}
			n.Took = max(end.Sub(r.began), 0)
		}
		app.Children = append(app.Children, n)
	}
	var out []tree.Node
	for _, app := range apps {
		slices.SortFunc(app.Children, func(a, b tree.Node) int { return cmp.Compare(a.Name, b.Name) })
		app.Phase = tree.Worst(app.Children)
		out = append(out, *app)
	}
	slices.SortFunc(out, func(a, b tree.Node) int { return cmp.Compare(a.Name, b.Name) })
	return out
}

func (f *fold) took() time.Duration {
	end := f.ended
	if end.IsZero() {
		end = f.at
	}
	return max(end.Sub(f.Begun), 0)
}
