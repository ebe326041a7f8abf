package compiler

import (
	"context"
	"errors"
	"fmt"
	"slices"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"orkestra.dev/api/v1alpha1"
	"orkestra.dev/pkg/events"
	"orkestra.dev/services/compiler/compile"
)

// reasonBadRevision is the reason of a dead letter: a ControllerRevision of the group
// is none that we have written.
const reasonBadRevision = "BadRevision"

// remember keeps what a rollout is to bring the group to, before it is begun.
func (c *compiler) remember(ctx context.Context, r compile.Revision) error {
	o, err := r.Object(c.options)
	if err != nil {
		return err
	}
	err = c.client.Create(ctx, o)
	if apierrors.IsAlreadyExists(err) {
		err = c.client.Get(ctx, client.ObjectKeyFromObject(o), o)
	}
	if err != nil {
		return refusedByAPI(fmt.Sprintf("keeping revision %s", o.Name), err)
	}
	snapshot, err := r.Snapshot(o)
	if err != nil || snapshot == nil {
		return err
	}
	return c.keep(ctx, snapshot)
}

// keep a snapshot. One that is there with other values is of a submitter that died
// before there was a workflow, and is replaced.
func (c *compiler) keep(ctx context.Context, want *corev1.Secret) error {
	doing := "keeping the values in Secret " + want.Name
	err := c.client.Create(ctx, want.DeepCopy())
	if !apierrors.IsAlreadyExists(err) {
		return refusedByAPI(doing, err)
	}
	have := &corev1.Secret{}
	if err := c.client.Get(ctx, client.ObjectKeyFromObject(want), have); err != nil {
		return fmt.Errorf("%s: %w", doing, err)
	}
	if apiequality.Semantic.DeepEqual(have.Data, want.Data) && apiequality.Semantic.DeepEqual(have.OwnerReferences, want.OwnerReferences) {
		return nil
	}
	if err := c.client.Delete(ctx, have, client.Preconditions{UID: &have.UID}); client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("%s: %w", doing, err)
	}
	return refusedByAPI(doing, c.client.Create(ctx, want.DeepCopy()))
}

// succeeded marks the rollout's revision as one to go back to, and lets go what is not
// needed any more.
func (c *compiler) succeeded(ctx context.Context, rollout events.Rollout, what events.RolloutSucceeded) error {
	switch what.WorkflowType {
	case events.WorkflowForward:
		if err := c.markGood(ctx, rollout); err != nil {
			return err
		}
	case events.WorkflowRollback:
	default:
		return nil
	}
	return c.collect(ctx, rollout)
}

// markGood marks the revision of a rollout as one to go back to, and lets the oldest go.
func (c *compiler) markGood(ctx context.Context, rollout events.Rollout) error {
	o := &appsv1.ControllerRevision{}
	o.Namespace, o.Name = c.options.Namespace, compile.RevisionName(rollout)
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

// lastGood is the newest good revision of the group, with its values; that of the
// rollout itself only where own says so. It is nil where there is none.
func (c *compiler) lastGood(ctx context.Context, rollout events.Rollout, own bool) (*compile.Revision, error) {
	revisions, err := c.revisions(ctx, rollout)
	if err != nil {
		return nil, err
	}
	for _, o := range revisions {
		if o.Labels[v1alpha1.LabelRevision] != v1alpha1.RevisionGood {
			continue
		}
		r, err := c.read(ctx, &o)
		if err != nil {
			return nil, err
		}
		if own || r.Rollout != rollout {
			return r, nil
		}
	}
	return nil, nil
}

// revision of that name, with its values; nil where there is none.
func (c *compiler) revision(ctx context.Context, name string) (*compile.Revision, error) {
	o := &appsv1.ControllerRevision{}
	err := c.client.Get(ctx, client.ObjectKey{Namespace: c.options.Namespace, Name: name}, o)
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading revision %s: %w", name, err)
	}
	return c.read(ctx, o)
}

// read a revision, and its snapshot of values where it has one.
func (c *compiler) read(ctx context.Context, o *appsv1.ControllerRevision) (*compile.Revision, error) {
	r, err := compile.RevisionOf(o)
	if err != nil {
		return nil, events.Terminal(reasonBadRevision, err)
	}
	snapshot := &corev1.Secret{}
	err = c.client.Get(ctx, client.ObjectKey{Namespace: o.Namespace, Name: compile.SnapshotName(o.Name)}, snapshot)
	if apierrors.IsNotFound(err) {
		return &r, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading the values of revision %s: %w", o.Name, err)
	}
	if r, err = r.WithSnapshot(snapshot); err != nil {
		return nil, events.Terminal(reasonBadRevision, err)
	}
	return &r, nil
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
	slices.SortFunc(ours, func(a, b appsv1.ControllerRevision) int { return compile.NewestFirst(&a, &b) })
	return ours, nil
}
