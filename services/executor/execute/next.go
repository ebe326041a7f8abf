package execute

import (
	"fmt"
	"time"

	wfv1 "github.com/argoproj/argo-workflows/v3/pkg/apis/workflow/v1alpha1"
	helmv2 "github.com/fluxcd/helm-controller/api/v2"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"orkestra.dev/api/v1alpha1"
	"orkestra.dev/pkg/events"
	"orkestra.dev/pkg/plan"
)

// Apply writes a HelmRelease.
type Apply struct {
	Node Node
	// Release to create, where it has no resourceVersion, else to update.
	Release *helmv2.HelmRelease
	Needs   Needs
}

// Needs is what must be there before a release, or a Job.
type Needs struct {
	Namespaces []Namespace
	// Values is an immutable Secret; nil where there is none.
	Values *corev1.Secret
}

// Namespace that a release needs.
type Namespace struct {
	Name string
	// Storage: it holds only Helm's records of pieces of the group's charts.
	Storage bool
}

// Delete deletes a HelmRelease.
type Delete struct {
	Node Node
	// Release as it was seen: its UID and resourceVersion fence the deletion.
	Release *helmv2.HelmRelease
	// Mark is to be written before; nil where that is done. The marks make the
	// events of the deletion those of this workflow.
	Mark *helmv2.HelmRelease
}

// Run creates a Job.
type Run struct {
	Node  Node
	Job   *batchv1.Job
	Needs Needs
	// Failed is the Job of that name that an earlier workflow ran, to be deleted
	// before; nil where there is none.
	Failed *batchv1.Job
}

// Prepare makes what the release of a pod needs.
type Prepare struct {
	Node  Node
	Needs Needs
}

// Settle tells Argo the end of a node.
type Settle struct {
	// Node has no ID where Argo has not activated it: then it is written with its end.
	Node Node
	// Since is when what Argo has not activated was begun.
	Since time.Time
	// Phase is Succeeded or Failed.
	Phase   wfv1.NodePhase
	Message string
	// StorageNamespace that nothing needs any more; empty where there is none.
	StorageNamespace string
}

// Actions for one workflow, each list in the order in which its nodes were activated.
type Actions struct {
	Apply   []Apply
	Delete  []Delete
	Run     []Run
	Prepare []Prepare
	Settle  []Settle
	// Poll are the tasks of which nobody will tell when they are done.
	Poll []string
	// Superseded says what came after the workflow, where something was left
	// undone for that.
	Superseded string
	// Ahead: some of what is begun Argo has not activated yet.
	Ahead bool
	// Opens: when that is settled there may be more to begin ahead of Argo.
	Opens bool
	// Later is for how long the settlements may wait for more of them: Argo could do
	// nothing with them but write them down. 0: they are due.
	Later time.Duration
}

// Next decides what is to be done.
func Next(s State) (Actions, error) {
	var a Actions
	var begin []*decision
	inFlight := map[Key]bool{}
	decisions, forArgo := s.decisions()
	failing := s.failing(decisions)
	ahead := s.Early && !failing
	place := ahead && mayPlace(s.Workflow) && s.superseded() == ""
	for _, d := range decisions {
		v := d.verdict
		switch {
		case !d.planned:
			a.Settle = append(a.Settle, Settle{Node: d.Node, Phase: wfv1.NodeFailed,
				Message: fmt.Sprintf("the plan of workflow %s has no release for task %s", s.Workflow.Name, d.Task)})
			continue
		case v.Step == Begin && (ahead || !d.ahead):
			begin = append(begin, d)
		case d.ahead && (!place || v.Step != Succeed): // it is settled when Argo has activated it
		default:
			s.settle(&a, d)
		}
		if v.InFlight {
			inFlight[KeyOf(d.want.Release)] = true
		}
		if v.Poll && !d.ahead {
			a.Poll = append(a.Poll, d.Task)
		}
	}
	if len(begin) > 0 && !s.suspended() {
		a.Superseded = s.superseded()
	}
	if a.Superseded == "" && !s.suspended() {
		// With as many pods as the limit Argo activates nothing.
		pods := podsOf(s.Workflow)
		for _, d := range begin {
			if s.Held[d.Task] {
				continue
			}
			if err := s.begin(&a, d, inFlight, pods); err != nil {
				return Actions{}, err
			}
		}
	}
	a.Later = s.mayWait(a, inFlight, forArgo || failing)
	return a, nil
}

// settle adds the end of a node that has come to one.
func (s State) settle(a *Actions, d *decision) {
	switch d.verdict.Step {
	case Succeed:
		end := Settle{Node: d.Node, Phase: wfv1.NodeSucceeded, StorageNamespace: s.unneeded(d.want)}
		if d.ahead {
			end.Since = s.begunAt(d.want)
		}
		a.Settle = append(a.Settle, end)
		a.Opens = a.Opens || s.Early && !plain(d.want)
	case Fail:
		a.Settle = append(a.Settle, Settle{Node: d.Node, Phase: wfv1.NodeFailed, Message: d.verdict.Message})
	case Begin, Wait:
	}
}

// begunAt is when this workflow began a release that is done; of one that it found to be
// so, or that is gone, it is now.
func (s State) begunAt(want plan.Node) time.Time {
	if hr := s.Releases[KeyOf(want.Release)]; hr != nil && written(s.Owner(), hr) {
		return startedAt(hr)
	}
	return s.Now
}

// decide says what comes next for a node.
func (s State) decide(n waiting, want plan.Node) Verdict {
	if problem, refused := s.Refused[n.Task]; refused {
		if want.Kind == plan.Job {
			return failed("Job", want.Job.Namespace, want.Job.Name, problem)
		}
		return fail(want.Release, problem)
	}
	switch want.Kind {
	case plan.Job:
		return job(s.Owner(), want, s.Jobs[n.Task], n.since, s.Now)
	case plan.Wait:
		return await(want, s.Objects[n.Task], n.since, s.Now)
	case plan.Prepare:
		return s.prepare(n.Task, want)
	case plan.Release, "":
		return Decide(s.Owner(), want, s.Releases[KeyOf(want.Release)], n.since, s.Now)
	default:
		return fail(want.Release, fmt.Sprintf("is part of a step of kind %q, which this executor does not know", want.Kind))
	}
}

// begin adds what a node begins with. Of releases there are only as many in
// flight as the workflow allows.
func (s State) begin(a *Actions, d *decision, inFlight map[Key]bool, pods int) error {
	n, want := d.Node, d.want
	switch want.Kind {
	case plan.Job:
		job, err := desiredJob(s.Owner(), n.Task, want.Job, s.Now)
		if err != nil {
			return err
		}
		a.Run = append(a.Run, Run{Node: n, Job: job, Failed: s.Jobs[n.Task],
			Needs: Needs{Namespaces: []Namespace{{Name: want.Job.Namespace}}}})
		return nil
	case plan.Prepare:
		a.Prepare = append(a.Prepare, Prepare{Node: n, Needs: needsOf(want)})
		return nil
	case plan.Wait, plan.Release, "": // nobody begins a wait
	}
	key := KeyOf(want.Release)
	limit := s.Workflow.Spec.Parallelism
	busy := len(inFlight)
	if d.ahead {
		busy += pods
	}
	// Two executors of one release share its HelmRelease: one of them begins it.
	if inFlight[key] || limit != nil && *limit > 0 && int64(busy) >= *limit {
		return nil
	}
	inFlight[key] = true
	a.Ahead = a.Ahead || d.ahead
	return s.beginRelease(a, n, want)
}

func (s State) beginRelease(a *Actions, n Node, want plan.Node) error {
	have := s.Releases[KeyOf(want.Release)]
	if want.Action == plan.Delete {
		d := Delete{Node: n, Release: have}
		if !written(s.Owner(), have) {
			mark, err := Marked(s.Owner(), n.Task, have, s.Now)
			if err != nil {
				return err
			}
			d.Mark = mark
		}
		a.Delete = append(a.Delete, d)
		return nil
	}
	release, err := Desired(s.Owner(), n.Task, want.Release, have, s.Now)
	if err != nil {
		return err
	}
	a.Apply = append(a.Apply, Apply{Node: n, Release: release, Needs: needsOf(want)})
	return nil
}

func needsOf(want plan.Node) Needs {
	return Needs{Namespaces: Namespaces(want.Release), Values: want.Values}
}

// Namespaces that a release needs: where it is installed, and where Helm keeps
// its records if that is elsewhere.
func Namespaces(hr *helmv2.HelmRelease) []Namespace {
	out := []Namespace{{Name: hr.Namespace}}
	if target := hr.GetReleaseNamespace(); target != hr.Namespace {
		out = append(out, Namespace{Name: target})
	}
	if storage := storageOf(hr); storage != "" {
		out = append(out, Namespace{Name: storage, Storage: true})
	}
	return out
}

// storageOf is the namespace of Helm's records, empty where they are with the release.
func storageOf(hr *helmv2.HelmRelease) string {
	if ns := hr.GetStorageNamespace(); ns != hr.Namespace && ns != hr.GetReleaseNamespace() {
		return ns
	}
	return ""
}

// unneeded is the storage namespace of a release that is gone, where no other
// release of the group, there or planned, keeps its records in it.
func (s State) unneeded(gone plan.Node) string {
	ns := storageOf(gone.Release)
	if gone.Action != plan.Delete || ns == "" {
		return ""
	}
	for key, hr := range s.Releases {
		if hr != nil && hr.GetStorageNamespace() == ns && !s.settledAsGone(key) {
			return ""
		}
	}
	for _, n := range s.Plan {
		if n.Action == plan.Install && n.Release.GetStorageNamespace() == ns {
			return ""
		}
	}
	return ns
}

// settledAsGone: the workflow has deleted the release, and its node says that it is gone. The informer of another
// replica may show it a moment longer; who settles the last one is to see that nothing is left.
func (s State) settledAsGone(key Key) bool {
	for task, n := range s.Plan {
		if n.Action == plan.Delete && KeyOf(n.Release) == key {
			name := s.Workflow.Name + "." + task
			for _, node := range s.Workflow.Status.Nodes {
				if node.Name == name {
					return node.Phase == wfv1.NodeSucceeded
				}
			}
			return false
		}
	}
	return false
}

// suspended: a user holds the workflow. What was begun is settled, nothing more begun.
func (s State) suspended() bool {
	return s.Workflow.Spec.Suspend != nil && *s.Workflow.Spec.Suspend
}

// superseded says why the workflow may not begin anything. A reverse workflow
// always may: it only deletes what is the group's, and the group may have moved
// on, or be gone.
func (s State) superseded() string {
	if s.Workflow.Labels[v1alpha1.LabelWorkflowType] == string(events.WorkflowReverse) {
		return ""
	}
	switch g := s.Group; {
	case g == nil:
		return "the end of group " + s.Rollout.Group
	case string(g.UID) != s.Rollout.UID:
		return fmt.Sprintf("another group %s (UID %s)", g.Name, g.UID)
	case g.DeletionTimestamp != nil:
		return "the deletion of group " + g.Name
	case g.Generation != s.Rollout.Generation:
		return fmt.Sprintf("generation %d of group %s", g.Generation, g.Name)
	default:
		return ""
	}
}

// SameFence reports whether two looks at a group of that name allow the same to be begun.
func SameFence(a, b *metav1.ObjectMeta) bool {
	if a == nil || b == nil {
		return a == b
	}
	return a.UID == b.UID && a.Generation == b.Generation && (a.DeletionTimestamp == nil) == (b.DeletionTimestamp == nil)
}
