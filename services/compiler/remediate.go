package compiler

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	appsv1 "k8s.io/api/apps/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"orkestra.dev/api/v1alpha1"
	"orkestra.dev/pkg/events"
	"orkestra.dev/services/compiler/compile"
)

// reasonTerminated is that of a rollout whose workflow was stopped: by a newer rollout,
// which sees to the group, or by a person, who does.
const reasonTerminated = "Terminated"

// failed undoes a failed rollout, as the group's remediation says. Only a forward
// workflow is undone: a rollback that fails says so, and that is the end of it.
func (c *compiler) failed(ctx context.Context, rollout events.Rollout, what events.RolloutFailed) ([]events.Fact, error) {
	if what.WorkflowType != events.WorkflowForward || what.Reason == reasonTerminated {
		return nil, nil
	}
	group, err := c.current(ctx, rollout, false)
	if err != nil {
		return nil, err
	}
	strategy := v1alpha1.RemediationRollback
	if r := group.Spec.Remediation; r != nil {
		strategy = cmp.Or(r.Strategy, strategy)
	}
	if strategy == v1alpha1.RemediationNone {
		return nil, nil
	}
	inventory, err := c.inventory(ctx, rollout)
	if err != nil {
		return nil, err
	}
	good, err := c.lastGood(ctx, rollout)
	if err != nil {
		return nil, err
	}
	var p *compile.Plan
	kind := events.WorkflowReverse
	if strategy == v1alpha1.RemediationRollback && good != nil {
		kind = events.WorkflowRollback
		p, err = compile.Rollback(compile.Input{Group: group, Inventory: inventory, Rollout: rollout, Options: c.options}, *good)
	} else {
		p, err = compile.Reverse(compile.ReverseInput{Group: group, Inventory: inventory, Rollout: rollout, Options: c.options})
	}
	if err != nil {
		return c.reject(ctx, group, kind, err)
	}
	if p == nil {
		return nil, nil
	}
	wf, err := c.find(ctx, p.Workflow)
	if err != nil {
		return nil, err
	}
	if wf != nil { // submitted before, by us or by another
		return c.again(ctx, rollout, wf)
	}
	if err := c.quiet(ctx, rollout); err != nil {
		return nil, err
	}
	if wf, err = c.submit(ctx, p, nil); err != nil {
		return c.reject(ctx, group, kind, err)
	}
	return submitted(rollout, wf, len(p.Nodes)), nil
}

// remember keeps what a rollout is to bring the group to, before it is begun.
func (c *compiler) remember(ctx context.Context, r compile.Revision) error {
	o, err := r.Object(c.options)
	if err != nil {
		return err
	}
	err = c.client.Create(ctx, o)
	if apierrors.IsAlreadyExists(err) {
		return nil
	}
	return refusedByAPI(fmt.Sprintf("keeping revision %s", o.Name), err)
}

// succeeded marks the rollout's revision as one to go back to, and lets the oldest go.
func (c *compiler) succeeded(ctx context.Context, rollout events.Rollout, what events.RolloutSucceeded) error {
	if what.WorkflowType != events.WorkflowForward {
		return nil
	}
	o := &appsv1.ControllerRevision{}
	o.Namespace, o.Name = c.options.Namespace, what.Workflow
	patch := fmt.Appendf(nil, `{"metadata":{"labels":{%q:%q}}}`, v1alpha1.LabelRevision, v1alpha1.RevisionGood)
	if err := c.client.Patch(ctx, o, client.RawPatch(types.MergePatchType, patch)); err != nil {
		if apierrors.IsNotFound(err) {
			return nil // the group is gone, and its revisions with it
		}
		return fmt.Errorf("marking revision %s: %w", o.Name, err)
	}
	group := &v1alpha1.ApplicationGroup{}
	if err := c.client.Get(ctx, client.ObjectKey{Name: rollout.Group}, group); err != nil {
		return client.IgnoreNotFound(err)
	}
	revisions, err := c.revisions(ctx, rollout)
	if err != nil {
		return err
	}
	keep := int(v1alpha1.DefaultRevisionHistoryLimit)
	if limit := group.Spec.RevisionHistoryLimit; limit != nil {
		keep = int(*limit)
	}
	var errs []error
	for _, r := range revisions {
		good := r.Labels[v1alpha1.LabelRevision] == v1alpha1.RevisionGood
		if good {
			keep--
		}
		// A revision that is not good and is older than this one never will be.
		if good && keep < 0 || !good && r.Revision < rollout.Generation {
			errs = append(errs, client.IgnoreNotFound(c.client.Delete(ctx, &r)))
		}
	}
	return errors.Join(errs...)
}

// lastGood is the newest good revision of the group that is not the rollout's own; nil
// where there is none.
func (c *compiler) lastGood(ctx context.Context, rollout events.Rollout) (*compile.Revision, error) {
	revisions, err := c.revisions(ctx, rollout)
	if err != nil {
		return nil, err
	}
	for _, o := range revisions {
		if o.Labels[v1alpha1.LabelRevision] != v1alpha1.RevisionGood {
			continue
		}
		r, err := compile.RevisionOf(&o)
		if err != nil {
			return nil, events.Terminal("BadRevision", err)
		}
		if r.Rollout != rollout {
			return &r, nil
		}
	}
	return nil, nil
}

// revisions of the group, this one by UID, the newest first.
func (c *compiler) revisions(ctx context.Context, rollout events.Rollout) ([]appsv1.ControllerRevision, error) {
	var all appsv1.ControllerRevisionList
	if err := c.client.List(ctx, &all, client.InNamespace(c.options.Namespace), client.MatchingLabels{v1alpha1.LabelOwner: rollout.Group}); err != nil {
		return nil, fmt.Errorf("listing the revisions of group %s: %w", rollout.Group, err)
	}
	ours := slices.DeleteFunc(all.Items, func(o appsv1.ControllerRevision) bool {
		return o.Annotations[v1alpha1.AnnotationGroupUID] != rollout.UID
	})
	slices.SortFunc(ours, func(a, b appsv1.ControllerRevision) int {
		return cmp.Or(cmp.Compare(b.Revision, a.Revision), b.CreationTimestamp.Compare(a.CreationTimestamp.Time), cmp.Compare(a.Name, b.Name))
	})
	return ours, nil
}
