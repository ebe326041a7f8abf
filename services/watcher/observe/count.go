package observe

import (
	wfv1 "github.com/argoproj/argo-workflows/v3/pkg/apis/workflow/v1alpha1"
	helmv2 "github.com/fluxcd/helm-controller/api/v2"

	"orkestra.dev/api/v1alpha1"
	"orkestra.dev/pkg/events"
	"orkestra.dev/pkg/plan/outcome"
)

// count is how far a workflow has come, in leaves.
type count struct{ done, failed, active int }

// countOf counts Argo's nodes, and, while the workflow runs, the releases of which Argo has not been
// told yet: that they are done, or that they were begun at all (ADR 8). What else than Helm a release waits
// for, its readyExpr, is not seen on it: Argo's node says when that holds.
func (s summary) countOf(wf *wfv1.Workflow) count {
	var c count
	ahead := map[string]*helmv2.HelmRelease{}
	if !wf.Status.Fulfilled() && typeOf(wf) != events.WorkflowReverse {
		ahead = s.written(wf)
	}
	installed := s.installed()
	for _, n := range wf.Status.Nodes {
		if !isRelease(n) {
			continue
		}
		task := taskOf(wf, n)
		switch {
		case n.Phase == wfv1.NodeSucceeded:
			c.done++
		case n.Phase.FailedOrError():
			c.failed++
		case n.Fulfilled():
		case installed(ahead[task]):
			c.done++
		default:
			c.active++
		}
		delete(ahead, task)
	}
	for _, hr := range ahead {
		if installed(hr) {
			c.done++
		} else {
			c.active++
		}
	}
	return c
}

// written are the releases that a workflow wrote, by the node for which.
func (s summary) written(wf *wfv1.Workflow) map[string]*helmv2.HelmRelease {
	out := map[string]*helmv2.HelmRelease{}
	for _, hr := range s.Releases {
		node := hr.Annotations[v1alpha1.AnnotationNode]
		if node != "" && hr.DeletionTimestamp == nil && hr.Annotations[v1alpha1.AnnotationWorkflowUID] == string(wf.UID) {
			out[node] = hr
		}
	}
	return out
}

// installed says which releases are done: Helm is, and nothing else is asked of them.
func (s summary) installed() func(*helmv2.HelmRelease) bool {
	gated := map[string]bool{}
	for i := range s.Group.Spec.Applications {
		if app := &s.Group.Spec.Applications[i]; app.Spec.Release.ReadyExpr != "" {
			gated[v1alpha1.DNSName(app.Name)] = true
		}
	}
	return func(hr *helmv2.HelmRelease) bool {
		return hr != nil && outcome.Of(hr).Phase == outcome.Ready && !gated[hr.Labels[v1alpha1.LabelApplication]]
	}
}
