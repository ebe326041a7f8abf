// Package history is what a group was: its revisions, what became of each, and how to
// have one again. Pure: objects in, values out.
package history

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	wfv1 "github.com/argoproj/argo-workflows/v3/pkg/apis/workflow/v1alpha1"
	appsv1 "k8s.io/api/apps/v1"

	"orkestra.dev/api/v1alpha1"
	"orkestra.dev/cli/internal/change"
	"orkestra.dev/pkg/events"
	"orkestra.dev/pkg/service/groupstatus"
	"orkestra.dev/services/compiler/compile"
)

// Status is what became of a revision.
type Status string

// The statuses.
const (
	// Current: the newest that was rolled out whole. The group runs it, or is on its
	// way from it.
	Current Status = "current"
	// Good: it was rolled out whole, and another came after it.
	Good Status = "good"
	// Underway: its workflow runs.
	Underway Status = "under way"
	// Suspended: its workflow is held.
	Suspended Status = "suspended"
	// RollingBack: its rollout failed, and the group is on its way back from it.
	RollingBack Status = "rolling back"
	// RolledBack: its rollout failed, and the group went back from it.
	RolledBack Status = "rolled back"
	// Removed: its rollout failed, and all that it had made was removed.
	Removed Status = "removed"
	// Failed: its rollout failed, or the way back from it did.
	Failed Status = "failed"
	// Superseded: a newer rollout, or a person, stopped its workflow.
	Superseded Status = "superseded"
	// Unknown: it was not rolled out whole, and its workflow is not there to say why.
	Unknown Status = "unknown"
)

// Revision of a group.
type Revision struct {
	compile.Revision
	// Name of the ControllerRevision, and of the workflow that rolled it out.
	Name string
	// Number of the revision. Rollouts of one generation that were asked for one after
	// the other may share one.
	Number  int64
	Created time.Time
	Status  Status
	good    bool
}

// Good says whether it was rolled out whole.
func (r Revision) Good() bool { return r.good }

// Charts are those that the revision installs.
func (r Revision) Charts() map[string]change.Chart {
	out := map[string]change.Chart{}
	for _, app := range r.Staged {
		c := change.Chart{Chart: app.Chart, Version: app.Version, Subcharts: map[string]string{}}
		for _, p := range app.Pieces {
			if p.Subchart != "" {
				c.Subcharts[p.Subchart] = p.SubchartVersion
			}
		}
		out[app.Name] = c
	}
	return out
}

// Pinned is the revision's spec with each chart at the very version that it was rolled
// out with, so that a range comes to nothing else.
func (r Revision) Pinned() v1alpha1.ApplicationGroupSpec {
	spec := *r.Spec.DeepCopy()
	charts := r.Charts()
	for i := range spec.Applications {
		if version := charts[spec.Applications[i].Name].Version; version != "" {
			spec.Applications[i].Spec.Chart.Version = version
		}
	}
	return spec
}

// Of a group, the newest revision first. Workflows are the group's, as far as they are
// there and may be seen: without them the group's own status has to do.
func Of(group *v1alpha1.ApplicationGroup, objects []appsv1.ControllerRevision, workflows []wfv1.Workflow) ([]Revision, error) {
	var out []Revision
	objects = slices.Clone(objects)
	slices.SortFunc(objects, func(a, b appsv1.ControllerRevision) int { return compile.NewestFirst(&a, &b) })
	for i := range objects {
		o := &objects[i]
		if o.Annotations[v1alpha1.AnnotationGroupUID] != string(group.UID) {
			continue
		}
		r, err := compile.RevisionOf(o)
		if err != nil {
			return nil, err
		}
		out = append(out, Revision{
			Revision: r, Name: o.Name, Number: o.Revision, Created: o.CreationTimestamp.Time,
			good: o.Labels[v1alpha1.LabelRevision] == v1alpha1.RevisionGood,
		})
	}
	runs := runsOf(group, workflows)
	standing := true // what runs is the newest good revision
	for i := range out {
		out[i].Status = status(out[i], runs)
		switch {
		case out[i].Status == Removed:
			standing = false
		case out[i].good && standing:
			out[i].Status, standing = Current, false
		}
	}
	return out, nil
}

// run is a workflow of a rollout.
type run struct {
	rollout events.Rollout
	kind    events.WorkflowType
	name    string
	created time.Time
	phase   wfv1.WorkflowPhase
	// held: it is suspended. stopped: it was told to end.
	held, stopped bool
}

func runsOf(group *v1alpha1.ApplicationGroup, workflows []wfv1.Workflow) []run {
	var out []run
	for i := range workflows {
		wf := &workflows[i]
		var rollout events.Rollout
		if json.Unmarshal([]byte(wf.Annotations[v1alpha1.AnnotationRollout]), &rollout) != nil {
			continue // not of our making
		}
		out = append(out, run{
			rollout: rollout, kind: events.WorkflowType(wf.Labels[v1alpha1.LabelWorkflowType]), name: wf.Name,
			created: wf.CreationTimestamp.Time, phase: wf.Status.Phase,
			held: wf.Spec.Suspend != nil && *wf.Spec.Suspend, stopped: wf.Spec.Shutdown != "",
		})
	}
	last, now := group.Status.Rollout, groupstatus.RolloutOf(group)
	if last == nil || last.Generation != now.Generation || slices.ContainsFunc(out, func(r run) bool { return r.name == last.Workflow }) {
		return out
	}
	r := run{rollout: now, kind: events.WorkflowType(last.Type), name: last.Workflow, phase: wfv1.WorkflowPhase(last.Phase)}
	if last.Started != nil {
		r.created = last.Started.Time
	}
	return append(out, r)
}

func status(r Revision, runs []run) Status {
	if r.good {
		return Good
	}
	newest := func(kinds ...events.WorkflowType) *run {
		var found *run
		for i := range runs {
			if runs[i].rollout == r.Rollout && slices.Contains(kinds, runs[i].kind) && (found == nil || found.created.Before(runs[i].created)) {
				found = &runs[i]
			}
		}
		return found
	}
	if undo := newest(events.WorkflowRollback, events.WorkflowReverse); undo != nil {
		switch {
		case !undo.phase.Completed():
			return RollingBack
		case undo.phase != wfv1.WorkflowSucceeded:
			return Failed
		case undo.kind == events.WorkflowReverse:
			return Removed
		default:
			return RolledBack
		}
	}
	switch forward := newest(events.WorkflowForward); {
	case forward == nil:
		return Unknown
	case !forward.phase.Completed() && forward.held && !forward.stopped:
		return Suspended
	case !forward.phase.Completed(), forward.phase == wfv1.WorkflowSucceeded:
		// One that has succeeded is marked good in a moment.
		return Underway
	case forward.stopped:
		return Superseded
	default:
		return Failed
	}
}

// Running is the revision that the group runs, or is on its way from; false where none
// was rolled out whole.
func Running(revisions []Revision) (Revision, bool) {
	return find(revisions, func(r Revision) bool { return r.Status == Current })
}

// Asked is the revision of the rollout that the group asks for now; false where there
// is none yet. A rollout that found nothing to do has none of its own where what runs is
// the very same.
func Asked(group *v1alpha1.ApplicationGroup, revisions []Revision) (Revision, bool) {
	now := groupstatus.RolloutOf(group)
	if r, ok := find(revisions, func(r Revision) bool { return r.Rollout == now }); ok {
		return r, true
	}
	if group.Status.LastUnchangedRollout == now.ID() {
		return Running(revisions)
	}
	return Revision{}, false
}

func find(revisions []Revision, is func(Revision) bool) (Revision, bool) {
	if i := slices.IndexFunc(revisions, is); i >= 0 {
		return revisions[i], true
	}
	return Revision{}, false
}

// Previous is the revision to go back to from what the group asks for now: the newest
// good one that is another, and not just another rollout of the same charts and values.
func Previous(group *v1alpha1.ApplicationGroup, revisions []Revision) (Revision, bool, error) {
	live := group.Spec
	asked, known := Asked(group, revisions)
	if known {
		live = asked.Pinned()
	}
	live.Suspend = false
	for _, r := range revisions {
		if !r.good || known && r.Name == asked.Name {
			continue
		}
		spec := r.Pinned()
		spec.Suspend = false
		same, err := change.Same(&live, &spec)
		if err != nil {
			return Revision{}, false, err
		}
		if !same {
			return r, true, nil
		}
	}
	return Revision{}, false, nil
}

// Select the revision that a user means, by its number or its name. Of several of one
// number it is the newest that was rolled out whole, else the newest.
func Select(group string, revisions []Revision, want string) (Revision, error) {
	number, err := strconv.ParseInt(want, 10, 64)
	matches := func(r Revision) bool { return r.Name == want || err == nil && r.Number == number }
	if r, ok := find(revisions, func(r Revision) bool { return matches(r) && r.good }); ok {
		return r, nil
	}
	if r, ok := find(revisions, matches); ok {
		return r, nil
	}
	return Revision{}, fmt.Errorf("group %s has no revision %s; %s", group, want, Available(revisions))
}

// Available says which revisions there are, in words.
func Available(revisions []Revision) string {
	if len(revisions) == 0 {
		return "it has none: nothing of it has been rolled out yet"
	}
	out := make([]string, len(revisions))
	for i, r := range revisions {
		out[i] = fmt.Sprintf("%d (%s)", r.Number, r.Status)
	}
	return "it has " + strings.Join(out, ", ")
}
