package compile

import (
	"encoding/json"
	"slices"

	helmv2 "github.com/fluxcd/helm-controller/api/v2"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/types"

	"orkestra.dev/api/v1alpha1"
	"orkestra.dev/pkg/events"
	"orkestra.dev/pkg/plan"
	"orkestra.dev/pkg/plan/outcome"
)

// deletionPropagation is what the API server puts into spec.uninstall where it says
// nothing of it (the HelmRelease's schema).
const deletionPropagation = "background"

// Stands says whether each HelmRelease is there, as it would be written, ready, and made
// for this group, and none is to go. In is what the plan was made of. Where the plan has
// also Passed, all that it would do is done already.
func (p *Plan) Stands(in Input) bool {
	have := inventoryByName(in.Inventory)
	return !slices.ContainsFunc(p.Nodes, func(n plan.Node) bool {
		return n.Action == plan.Delete ||
			!asWanted(n.Release, have[types.NamespacedName{Namespace: n.Release.Namespace, Name: n.Release.Name}], in.Rollout.UID)
	})
}

// Passed says whether each Job of the plan has completed, and an application with other
// steps is as it was in last, the newest good revision of the group, or nil. Jobs are
// those of the group. A step that is a pod, and a wait, is not run for an application that
// did not change since it passed them.
func (p *Plan) Passed(in Input, jobs []batchv1.Job, last *Revision) bool {
	return !slices.ContainsFunc(p.Nodes, func(n plan.Node) bool {
		return n.Kind == plan.Job && !completed(n.Job, in.Rollout.UID, jobs)
	}) && !slices.ContainsFunc(in.Group.Spec.Applications, func(app v1alpha1.Application) bool {
		return gated(app) && !passed(in, last, app.Name)
	})
}

// Releases is how many nodes of the plan are about a HelmRelease.
func (p *Plan) Releases() int {
	return len(slices.DeleteFunc(slices.Clone(p.Nodes), func(n plan.Node) bool { return n.Kind != "" && n.Kind != plan.Release }))
}

// completed says whether the Job has run to its end under that name, for that group.
func completed(want *batchv1.Job, group string, jobs []batchv1.Job) bool {
	return slices.ContainsFunc(jobs, func(have batchv1.Job) bool {
		return have.Namespace == want.Namespace && have.Name == want.Name && have.DeletionTimestamp == nil &&
			have.Annotations[v1alpha1.AnnotationGroupUID] == group &&
			slices.ContainsFunc(have.Status.Conditions, func(c batchv1.JobCondition) bool {
				return c.Type == batchv1.JobComplete && c.Status == corev1.ConditionTrue
			})
	})
}

// asWanted says whether have is ready and is what the plan would write. The marks of
// the workflow that wrote it are not looked at; what says its place among others is,
// because a reverse goes by that.
func asWanted(want, have *helmv2.HelmRelease, group string) bool {
	if have == nil || have.DeletionTimestamp != nil || have.Labels[v1alpha1.LabelHeritage] != v1alpha1.Heritage ||
		have.Annotations[v1alpha1.AnnotationGroupUID] != group || outcome.Of(have).Phase != outcome.Ready {
		return false
	}
	for k, v := range want.Labels {
		if have.Labels[k] != v {
			return false
		}
	}
	for k, v := range want.Annotations {
		if k != v1alpha1.AnnotationWorkflow && have.Annotations[k] != v {
			return false
		}
	}
	return apiequality.Semantic.DeepEqual(canonical(want), canonical(have))
}

// canonical is the spec as the API server would keep it, its values in one order.
func canonical(hr *helmv2.HelmRelease) *helmv2.HelmReleaseSpec {
	spec := hr.Spec.DeepCopy()
	if u := spec.Uninstall; u != nil && u.DeletionPropagation == nil {
		u.DeletionPropagation = new(deletionPropagation)
	}
	if spec.Values == nil {
		return spec
	}
	var values any
	if json.Unmarshal(spec.Values.Raw, &values) != nil {
		return spec // as it is, it is equal to nothing that we write
	}
	if data, err := json.Marshal(values); err == nil {
		spec.Values.Raw = data
	}
	return spec
}

// gated says whether the releases of an application have to pass what leaves no trace
// in the cluster.
func gated(app v1alpha1.Application) bool {
	return app.Spec.Release.ReadyExpr != "" || slices.ContainsFunc(app.Spec.Workflow, func(e v1alpha1.Executor) bool {
		return e.Type == v1alpha1.ExecutorWait || e.Type == v1alpha1.ExecutorCustom || e.Type == v1alpha1.ExecutorKeptn
	})
}

// passed says whether the application was rolled out whole as it is now. That its
// releases are ready is not enough: a step behind them may have failed.
func passed(in Input, last *Revision, name string) bool {
	if last == nil {
		return false
	}
	before, err := stateOf(*last, name)
	if err != nil {
		return false // it cannot be told, and to run a step again does no harm
	}
	now, err := stateOf(NewRevision(in), name)
	return err == nil && before == now
}

// stateOf is the digest of all that makes an application's releases in a revision.
func stateOf(r Revision, name string) (string, error) {
	apps := slices.DeleteFunc(slices.Clone(r.Spec.Applications), func(a v1alpha1.Application) bool { return a.Name != name })
	staged := slices.DeleteFunc(slices.Clone(r.Staged), func(a events.StagedApplication) bool { return a.Name != name })
	return digest(apps, staged, r.Values[name])
}
