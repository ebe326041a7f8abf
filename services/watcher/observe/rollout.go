package observe

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"

	wfv1 "github.com/argoproj/argo-workflows/v3/pkg/apis/workflow/v1alpha1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"orkestra.dev/api/v1alpha1"
	"orkestra.dev/pkg/events"
)

// annotationTotal holds, on a workflow in the watcher's cache, how many leaves its
// templates plan: they are large, and this is all that is asked of them. The API
// server never sees it.
const annotationTotal = "orkestra.azure.microsoft.com/total"

// retrySuffix ends the name of a forward workflow that was made after one that failed.
var retrySuffix = regexp.MustCompile(`-r[0-9]+$`)

// Slim counts the leaves of a workflow, and leaves out its templates, and of its nodes what is not asked for: a group has
// a workflow for each of its rollouts of the last day. One that is slim already stays as it is: an informer that lists
// what there is when it starts transforms it twice.
func Slim(wf *wfv1.Workflow) {
	if wf.Annotations == nil {
		wf.Annotations = map[string]string{}
	}
	if _, slim := wf.Annotations[annotationTotal]; !slim || len(wf.Spec.Templates) > 0 {
		wf.Annotations[annotationTotal] = strconv.Itoa(planned(wf.Spec))
	}
	wf.ManagedFields = nil
	wf.Spec.Templates = nil
	wf.Status.StoredTemplates = nil
	wf.Status.StoredWorkflowSpec = nil
	nodes := wfv1.Nodes{}
	next := nextLeaves(wf.Status.Nodes)
	for id, n := range wf.Status.Nodes {
		// With its first node, the workflow itself, it has begun.
		if isRelease(n) || id == wf.Name {
			nodes[id] = wfv1.NodeStatus{
				ID: n.ID, Name: n.Name, Type: n.Type, Phase: n.Phase, Message: n.Message, StartedAt: n.StartedAt, FinishedAt: n.FinishedAt,
				Daemoned: n.Daemoned, TaskResultSynced: n.TaskResultSynced, Children: next(n),
			}
		}
	}
	wf.Status.Nodes = nodes
}

// nextLeaves tells the leaves that come next after a node, through whatever is between them.
func nextLeaves(nodes wfv1.Nodes) func(wfv1.NodeStatus) []string {
	through := map[string][]string{} // of what is no leaf
	var next func(wfv1.NodeStatus) []string
	next = func(n wfv1.NodeStatus) []string {
		var out []string
		for _, id := range n.Children {
			child, there := nodes[id]
			switch {
			case !there:
			case isRelease(child):
				out = append(out, child.ID)
			default:
				if _, known := through[id]; !known {
					through[id] = nil // a node that comes after itself is no reason to go round
					through[id] = next(child)
				}
				out = append(out, through[id]...)
			}
		}
		slices.Sort(out)
		return slices.Compact(out)
	}
	return next
}

// total is how many leaves the workflow plans: Argo's nodes are only those that it
// has reached.
func total(wf *wfv1.Workflow) int {
	if n, err := strconv.Atoi(wf.Annotations[annotationTotal]); err == nil {
		return n
	}
	return planned(wf.Spec)
}

// planned counts the leaves of the entry's graph: the tasks whose template is no DAG.
func planned(spec wfv1.WorkflowSpec) int {
	graphs := map[string]*wfv1.DAGTemplate{}
	for i := range spec.Templates {
		if dag := spec.Templates[i].DAG; dag != nil {
			graphs[spec.Templates[i].Name] = dag
		}
	}
	counted := map[string]int{}
	var count func(template string) int
	count = func(template string) int {
		dag := graphs[template]
		if dag == nil {
			return 1
		}
		n, ok := counted[template]
		if ok {
			return n
		}
		counted[template] = 0 // a workflow by hand may call itself
		for _, task := range dag.Tasks {
			n += count(task.Template)
		}
		counted[template] = n
		return n
	}
	if graphs[spec.Entrypoint] == nil {
		return 0
	}
	return count(spec.Entrypoint)
}

// rolloutStatus is how far the newest workflow of the group has come. A workflow that
// was collected is told of as before, and what another replica has seen more of is
// not taken back.
func (s summary) rolloutStatus() *v1alpha1.RolloutStatus {
	old := s.Group.Status.Rollout
	wf := s.newest("", func(run) bool { return true })
	if wf == nil || s.seenMore(old, wf) {
		return old.DeepCopy()
	}
	out := &v1alpha1.RolloutStatus{
		Revision:   s.revisionOf(wf),
		Generation: s.generationOf(wf),
		Type:       string(typeOf(wf)),
		Workflow:   wf.Name,
		Phase:      string(wf.Status.Phase),
		Started:    timeOf(wf.Status.StartedAt),
		Finished:   timeOf(wf.Status.FinishedAt),
		Total:      int32(total(wf)),
	}
	out.Done = int32(s.countOf(wf).done)
	out.Progress = fmt.Sprintf("%d/%d", out.Done, out.Total)
	return out
}

// seenMore: the status tells of a later moment than wf is at: of the same workflow
// further on, or of a later one that this replica does not see yet.
func (s summary) seenMore(old *v1alpha1.RolloutStatus, wf *wfv1.Workflow) bool {
	if old == nil || old.Started == nil {
		return false
	}
	if old.Workflow != wf.Name {
		known := s.newest("", func(r run) bool { return r.wf.Name == old.Workflow })
		return known == nil && old.Started.After(wf.CreationTimestamp.Time)
	}
	started := timeOf(wf.Status.StartedAt)
	return started == nil && old.Started.After(wf.CreationTimestamp.Time) ||
		old.Started.Equal(started) && old.Finished != nil && wf.Status.FinishedAt.IsZero()
}

// revisionOf is what the workflow brings the group to, as it says itself. One of an
// earlier version of the compiler does not: the first forward workflow of a
// rollout has the name of its revision; those that try it again have a suffix, for
// which a long name is cut. A rollback goes to the last that succeeded before it, as
// far as its workflow is still there to be seen.
func (s summary) revisionOf(wf *wfv1.Workflow) string {
	if name := wf.Annotations[v1alpha1.AnnotationRevision]; name != "" {
		return name
	}
	switch typeOf(wf) {
	case events.WorkflowForward:
		rollout, err := RolloutOf(wf)
		first := s.newest(events.WorkflowForward, func(r run) bool {
			return err == nil && r.rollout == rollout && !retrySuffix.MatchString(r.wf.Name)
		})
		if first != nil {
			return first.Name
		}
		return retrySuffix.ReplaceAllString(wf.Name, "")
	case events.WorkflowRollback:
		good := s.newest(events.WorkflowForward, func(r run) bool {
			return r.wf.Status.Successful() && r.wf.CreationTimestamp.Before(&wf.CreationTimestamp)
		})
		if good != nil {
			return s.revisionOf(good)
		}
	case events.WorkflowReverse:
	}
	return ""
}

func timeOf(t metav1.Time) *metav1.Time {
	if t.IsZero() {
		return nil
	}
	return t.DeepCopy()
}
