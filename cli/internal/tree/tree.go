// Package tree shows how a group stands: its applications, the releases of each, how
// far each is, for how long, and what it says. Pure: objects and a time in, lines out.
package tree

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	wfv1 "github.com/argoproj/argo-workflows/v3/pkg/apis/workflow/v1alpha1"
	helmv2 "github.com/fluxcd/helm-controller/api/v2"
	"github.com/fluxcd/pkg/apis/meta"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"orkestra.dev/api/v1alpha1"
	"orkestra.dev/pkg/events"
	"orkestra.dev/services/compiler/compile"
)

// Phase of a release, an application or a group.
type Phase string

// The phases, from bad to good: an application has the first of those of its releases.
const (
	Failed     Phase = "Failed"
	Deleting   Phase = "Deleting"
	Installing Phase = "Installing"
	Upgrading  Phase = "Upgrading"
	// Waiting: the release is there, and the workflow has not come to it yet.
	Waiting Phase = "Waiting"
	// Pending: the release is not there yet.
	Pending Phase = "Pending"
	Ready   Phase = "Ready"
	// Degraded is a group's that was rolled out, and is not what was rolled out any more.
	Degraded Phase = "Degraded"
	// Gone: the group is being deleted, or its first rollout was taken back, and the
	// release is no longer there.
	Gone Phase = "Gone"
	// Working is a group's, while it is on its way, and a release's of which no more
	// can be seen.
	Working Phase = "Working"
	// Suspended is a group's that is held.
	Suspended Phase = "Suspended"
)

var order = []Phase{Failed, Deleting, Installing, Upgrading, Working, Waiting, Pending, Ready, Gone}

// State is what a tree is made of.
type State struct {
	Group *v1alpha1.ApplicationGroup
	// Workflows of the group, nodes decompressed.
	Workflows []wfv1.Workflow
	// Releases that carry the group's name.
	Releases []helmv2.HelmRelease
	// Hidden: the releases may not be seen. What the group's status says of them has
	// to do.
	Hidden bool
	Now    time.Time
}

// Node is a line of the tree.
type Node struct {
	Name  string
	Phase Phase
	// Took is how long the phase took, or has taken by now; 0 where nothing is known.
	Took    time.Duration
	Message string
	// Children are an application's releases, and a group's applications.
	Children []Node
}

// Done says how the group's current rollout has ended. Over is false while it goes on.
// One of a group that is held goes on when somebody resumes it, so it is over for now.
func Done(group *v1alpha1.ApplicationGroup) (over, ok bool) {
	ready := apimeta.FindStatusCondition(group.Status.Conditions, v1alpha1.ConditionReady)
	if ready == nil || ready.ObservedGeneration != group.Generation ||
		group.Status.LastHandledReconcileAt != group.Annotations[v1alpha1.AnnotationRequestedAt] {
		return false, false
	}
	if ready.Status == metav1.ConditionTrue {
		return true, true
	}
	if group.Spec.Suspend && ready.Reason == v1alpha1.ReasonSuspended {
		return true, false
	}
	return apimeta.IsStatusConditionTrue(group.Status.Conditions, v1alpha1.ConditionStalled), false
}

// Of a group.
func Of(s State) Node {
	b := builder{State: s, workflow: newest(s)}
	out := Node{Name: s.Group.Name}
	ready := apimeta.FindStatusCondition(s.Group.Status.Conditions, v1alpha1.ConditionReady)
	switch over, ok := Done(s.Group); {
	case !s.Group.DeletionTimestamp.IsZero() && !over:
		out.Phase = Deleting
	case s.Group.Spec.Suspend && s.Group.DeletionTimestamp.IsZero():
		out.Phase = Suspended
	case waits(s.Group) != "":
		out.Phase = Working
	case ok && condition(s.Group, v1alpha1.ConditionDegraded) != nil:
		out.Phase = Degraded
	case ok:
		out.Phase = Ready
	case over, ready != nil && ready.Status == metav1.ConditionFalse && ready.ObservedGeneration == s.Group.Generation:
		out.Phase = Failed
	default:
		out.Phase = Working
	}
	out.Message = Message(s.Group)
	if text := Rollout(s.Group, s.Now); text != "" {
		out.Message = strings.TrimSuffix(text+"; "+out.Message, "; ")
	}
	if b.workflow != nil {
		out.Took = since(b.workflow.Status.StartedAt.Time, cmp.Or(b.workflow.Status.FinishedAt.Time, s.Now))
	}
	out.Children = b.applications()
	return out
}

// Message is what the condition Ready says of the group's generation, with its reason
// where the phase does not say that.
func Message(group *v1alpha1.ApplicationGroup) string {
	if text := waits(group); text != "" {
		return text
	}
	ready := apimeta.FindStatusCondition(group.Status.Conditions, v1alpha1.ConditionReady)
	if c := condition(group, v1alpha1.ConditionDegraded); c != nil {
		return ready.Message + ", and not whole: " + c.Message
	}
	switch ready.Reason {
	case v1alpha1.ReasonSucceeded, v1alpha1.ReasonProgressing, v1alpha1.ReasonSuspended, v1alpha1.ReasonTerminating:
		return ready.Message
	default:
		return strings.TrimSuffix(ready.Reason+": "+ready.Message, ": ")
	}
}

// condition of the group's generation that is True; nil where there is none.
func condition(group *v1alpha1.ApplicationGroup, kind string) *metav1.Condition {
	c := apimeta.FindStatusCondition(group.Status.Conditions, kind)
	if c == nil || c.Status != metav1.ConditionTrue || c.ObservedGeneration != group.Generation {
		return nil
	}
	return c
}

// waits says what of a group nobody has looked at yet; empty where its status is about
// what is asked for now.
func waits(group *v1alpha1.ApplicationGroup) string {
	ready := apimeta.FindStatusCondition(group.Status.Conditions, v1alpha1.ConditionReady)
	switch {
	case ready != nil && ready.ObservedGeneration == group.Generation:
		atRest := ready.Status == metav1.ConditionTrue || apimeta.IsStatusConditionTrue(group.Status.Conditions, v1alpha1.ConditionStalled)
		if atRest && group.Status.LastHandledReconcileAt != group.Annotations[v1alpha1.AnnotationRequestedAt] {
			return "waiting for another rollout to be begun"
		}
		return ""
	case !group.DeletionTimestamp.IsZero():
		return "waiting for its removal to be begun"
	default:
		return fmt.Sprintf("waiting for generation %d to be taken up", group.Generation)
	}
}

// Rollout says how far the newest workflow of the group's generation is, and since when,
// in the time zone of now.
func Rollout(group *v1alpha1.ApplicationGroup, now time.Time) string {
	r := group.Status.Rollout
	if r == nil || r.Generation != group.Generation || waits(group) != "" {
		return ""
	}
	text := strings.TrimSpace(r.Type + " " + r.Progress)
	if r.Started == nil {
		return text
	}
	started := r.Started.In(now.Location())
	format := time.DateTime
	if started.Format(time.DateOnly) == now.Format(time.DateOnly) {
		format = time.TimeOnly
	}
	return text + ", started " + started.Format(format)
}

// newest is the group's newest workflow; nil where there is none. Kubernetes keeps whole seconds: of two of the same one
// that of the newer generation is newer.
func newest(s State) *wfv1.Workflow {
	var found *wfv1.Workflow
	for i := range s.Workflows {
		wf := &s.Workflows[i]
		if wf.Annotations[v1alpha1.AnnotationGroupUID] != string(s.Group.UID) {
			continue
		}
		if found == nil || cmp.Or(wf.CreationTimestamp.Compare(found.CreationTimestamp.Time),
			cmp.Compare(generation(wf), generation(found)), cmp.Compare(wf.Name, found.Name)) > 0 {
			found = wf
		}
	}
	return found
}

// generation of the group that a workflow is of; 0 where it does not say.
func generation(wf *wfv1.Workflow) int64 {
	n, err := strconv.ParseInt(wf.Labels[v1alpha1.LabelGeneration], 10, 64)
	if err != nil {
		return 0
	}
	return n
}

type builder struct {
	State
	workflow *wfv1.Workflow
}

// part is a release that is named in the spec, or that is there, or both.
type part struct {
	name     string
	task     string
	subchart string
	live     *helmv2.HelmRelease
}

// applications in the order of their names: those of the spec, and those that have
// left it and still have releases.
func (b builder) applications() []Node {
	type application struct {
		name  string
		parts []part
	}
	apps := map[string]*application{}
	// A spec that is wrong has no graph; its releases are shown all the same.
	if g, err := compile.Graph(b.Group, nil); err == nil {
		for _, a := range g.Applications {
			app := &application{name: a.Name}
			for _, r := range a.Releases {
				app.parts = append(app.parts, part{name: r.Name, task: r.Task, subchart: r.Subchart})
			}
			apps[v1alpha1.DNSName(a.Name)] = app
		}
	}
	for i := range b.Releases {
		hr := &b.Releases[i]
		if hr.Annotations[v1alpha1.AnnotationGroupUID] != string(b.Group.UID) {
			continue
		}
		key := cmp.Or(hr.Labels[v1alpha1.LabelApplication], hr.Name)
		app := apps[key]
		if app == nil {
			app = &application{name: key}
			apps[key] = app
		}
		j := slices.IndexFunc(app.parts, func(p part) bool { return p.name == hr.Name && p.live == nil })
		if j < 0 {
			app.parts = append(app.parts, part{name: hr.Name, task: hr.Annotations[v1alpha1.AnnotationTask]})
			j = len(app.parts) - 1
		}
		app.parts[j].live = hr
	}
	var out []Node
	for key, app := range apps {
		n := Node{Name: app.name, Phase: Ready}
		slices.SortFunc(app.parts, func(x, y part) int { return cmp.Compare(x.name, y.name) })
		for _, p := range app.parts {
			n.Children = append(n.Children, b.release(key, p))
		}
		n.Phase = Worst(n.Children)
		// An application that is removed has nothing to be ready.
		if len(n.Children) > 0 || b.Group.DeletionTimestamp.IsZero() {
			out = append(out, n)
		}
	}
	slices.SortFunc(out, func(x, y Node) int { return cmp.Compare(x.Name, y.Name) })
	return out
}

// Worst phase of some nodes, in the order from bad to good; Ready where there are none.
func Worst(nodes []Node) Phase {
	for _, p := range order {
		if slices.ContainsFunc(nodes, func(n Node) bool { return n.Phase == p }) {
			return p
		}
	}
	return Ready
}

func (b builder) release(app string, p part) Node {
	n := Node{Name: p.name, Phase: Pending}
	if node := b.node(app, p); node != nil && node.FailedOrError() {
		n.Phase, n.Message = Failed, node.Message
	}
	hr := p.live
	if hr == nil {
		if b.Hidden && n.Phase == Pending {
			return b.told(app, p, n)
		}
		if b.reversed() && n.Phase == Pending {
			n.Phase = Gone
		}
		return n
	}
	started, err := time.Parse(time.RFC3339Nano, hr.Annotations[v1alpha1.AnnotationStartedAt])
	if err != nil {
		started = time.Time{}
	}
	ready := apimeta.FindStatusCondition(hr.Status.Conditions, meta.ReadyCondition)
	observed := ready != nil && hr.Status.ObservedGeneration == hr.Generation
	switch {
	case n.Phase == Failed:
		if ready != nil {
			n.Took = since(started, ready.LastTransitionTime.Time)
		}
	case !hr.DeletionTimestamp.IsZero():
		n.Phase = Deleting
		n.Took = since(hr.DeletionTimestamp.Time, b.Now)
	case b.workflow != nil && !b.workflow.Status.Fulfilled() && hr.Annotations[v1alpha1.AnnotationWorkflow] != b.workflow.Name:
		n.Phase = Waiting
	case observed && ready.Status == metav1.ConditionTrue:
		n.Phase = Ready
		n.Message = chart(hr)
		n.Took = since(started, ready.LastTransitionTime.Time)
	case observed && ready.Status == metav1.ConditionFalse && !apimeta.IsStatusConditionTrue(hr.Status.Conditions, meta.ReconcilingCondition):
		n.Phase = Failed
		n.Message = ready.Message
		n.Took = since(started, ready.LastTransitionTime.Time)
	default:
		n.Phase = Installing
		if len(hr.Status.History) > 0 && hr.Status.History.Latest().Version > 1 || hr.Generation > 1 {
			n.Phase = Upgrading
		}
		if ready != nil {
			n.Message = ready.Message
		}
		n.Took = since(started, b.Now)
	}
	return n
}

// reversed says whether all that there is of the group is being removed, or was.
func (b builder) reversed() bool {
	return !b.Group.DeletionTimestamp.IsZero() ||
		b.workflow != nil && b.workflow.Labels[v1alpha1.LabelWorkflowType] == string(events.WorkflowReverse)
}

// phases of a release as the group's status has them.
var phases = map[v1alpha1.ReleasePhase]Phase{
	v1alpha1.ReleasePending: Pending, v1alpha1.ReleaseProgressing: Working, v1alpha1.ReleaseReady: Ready,
	v1alpha1.ReleaseFailed: Failed, v1alpha1.ReleaseDeleting: Deleting,
}

// told is a release that may not be seen, as the group's status tells of it.
func (b builder) told(app string, p part, n Node) Node {
	i := slices.IndexFunc(b.Group.Status.Applications, func(a v1alpha1.ApplicationStatus) bool { return v1alpha1.DNSName(a.Name) == app })
	if i < 0 {
		return n
	}
	s := b.Group.Status.Applications[i].ChartStatus
	if p.subchart != "" {
		s = b.Group.Status.Applications[i].Subcharts[p.subchart]
	}
	n.Phase = cmp.Or(phases[s.Phase], n.Phase)
	if n.Phase == Ready {
		n.Message = strings.TrimSpace(cmp.Or(s.Chart, p.subchart) + " " + s.Version)
	} else if c := apimeta.FindStatusCondition(s.Conditions, meta.ReadyCondition); c != nil {
		n.Message = c.Message
	}
	if s.LastTransitionTime != nil && n.Phase != Ready {
		n.Took = since(s.LastTransitionTime.Time, b.Now)
	}
	return n
}

// node of a release in the newest workflow: the one that failed where it has several.
func (b builder) node(app string, p part) *wfv1.NodeStatus {
	if b.workflow == nil || p.task == "" {
		return nil
	}
	path := b.workflow.Name + "." + app + "." + p.task
	var found *wfv1.NodeStatus
	for _, n := range b.workflow.Status.Nodes {
		if n.Type != wfv1.NodeTypeSuspend || n.Name != path && !strings.HasPrefix(n.Name, path+".") {
			continue
		}
		if found == nil || n.FailedOrError() && !found.FailedOrError() || n.FailedOrError() == found.FailedOrError() && n.Name < found.Name {
			found = &n
		}
	}
	return found
}

// chart that is installed, as Helm recorded it.
func chart(hr *helmv2.HelmRelease) string {
	latest := hr.Status.History.Latest()
	if latest == nil {
		return ""
	}
	return latest.ChartName + " " + latest.ChartVersion
}

// since is what passed between two times; 0 where that is not known. The times of
// Kubernetes are whole seconds: one may come before the start that it follows.
func since(from, to time.Time) time.Duration {
	switch passed := to.Sub(from); {
	case from.IsZero(), passed <= -time.Second:
		return 0
	default:
		return max(passed, 1)
	}
}
