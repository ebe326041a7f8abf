package compiler

import (
	"context"
	"errors"
	"fmt"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"orkestra.dev/api/v1alpha1"
	"orkestra.dev/pkg/events"
	"orkestra.dev/services/compiler/compile"
)

// collect removes what older rollouts of the group have left and nothing refers to any
// more: values and Jobs. While a workflow of it runs nothing is removed: the next
// release to be written may be the one that needs it.
func (c *compiler) collect(ctx context.Context, rollout events.Rollout) error {
	running, err := c.unfinished(ctx, rollout.Group)
	if err != nil || len(running) > 0 {
		return err
	}
	return errors.Join(c.collectValues(ctx, rollout), c.collectJobs(ctx, rollout))
}

// collectValues removes the Secrets with values to which no release refers.
func (c *compiler) collectValues(ctx context.Context, rollout events.Rollout) error {
	var secrets corev1.SecretList
	if err := c.client.List(ctx, &secrets, client.MatchingLabels{v1alpha1.LabelValues: "true", v1alpha1.LabelOwner: rollout.Group}); err != nil {
		return fmt.Errorf("listing the values of group %s: %w", rollout.Group, err)
	}
	if len(secrets.Items) == 0 {
		return nil
	}
	inventory, err := c.inventory(ctx, rollout)
	if err != nil {
		return err
	}
	wanted := map[types.NamespacedName]bool{}
	for _, hr := range inventory {
		for _, ref := range hr.Spec.ValuesFrom {
			wanted[types.NamespacedName{Namespace: hr.Namespace, Name: ref.Name}] = true
		}
	}
	var errs []error
	for i := range secrets.Items {
		errs = append(errs, c.discard(ctx, rollout, &secrets.Items[i], wanted))
	}
	return errors.Join(errs...)
}

// collectJobs removes the Jobs that no revision to which the group may go back would
// run: one that has completed for such a revision is not run for it again.
func (c *compiler) collectJobs(ctx context.Context, rollout events.Rollout) error {
	jobs, err := c.jobs(ctx, rollout)
	if err != nil || len(jobs) == 0 {
		return err
	}
	revisions, err := c.revisions(ctx, rollout)
	if err != nil {
		return err
	}
	wanted := map[types.NamespacedName]bool{}
	for i := range revisions {
		r, err := c.read(ctx, &revisions[i])
		if err != nil {
			return err
		}
		group := &v1alpha1.ApplicationGroup{ObjectMeta: metav1.ObjectMeta{Name: rollout.Group}, Spec: r.Spec}
		names, err := compile.Jobs(compile.Input{Group: group, Staged: r.Staged, Values: r.Values, Rollout: r.Rollout, Options: c.options})
		if _, refused := errors.AsType[*compile.Error](err); refused {
			// What it would run cannot be told, so that everything stays.
			c.log.WarnContext(ctx, "not collecting jobs", "group", rollout.Group, "revision", revisions[i].Name, "error", err)
			return nil
		}
		if err != nil {
			return fmt.Errorf("reading the jobs of revision %s: %w", revisions[i].Name, err)
		}
		for _, name := range names {
			wanted[name] = true
		}
	}
	var errs []error
	for i := range jobs {
		errs = append(errs, c.discard(ctx, rollout, &jobs[i], wanted))
	}
	return errors.Join(errs...)
}

// discard an object of the group, this one by UID, that is not wanted.
func (c *compiler) discard(ctx context.Context, rollout events.Rollout, o client.Object, wanted map[types.NamespacedName]bool) error {
	key := client.ObjectKeyFromObject(o)
	if wanted[key] || o.GetAnnotations()[v1alpha1.AnnotationGroupUID] != rollout.UID {
		return nil
	}
	c.log.InfoContext(ctx, "collecting", "group", rollout.Group, "kind", fmt.Sprintf("%T", o), "object", key)
	uid := o.GetUID()
	err := c.client.Delete(ctx, o, client.Preconditions{UID: &uid}, client.PropagationPolicy(metav1.DeletePropagationBackground))
	if client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("collecting %T %s: %w", o, key, err)
	}
	return nil
}

// jobs of the group and of those that had its name before.
func (c *compiler) jobs(ctx context.Context, rollout events.Rollout) ([]batchv1.Job, error) {
	var all batchv1.JobList
	if err := c.client.List(ctx, &all, client.MatchingLabels{v1alpha1.LabelHeritage: v1alpha1.Heritage, v1alpha1.LabelOwner: rollout.Group}); err != nil {
		return nil, fmt.Errorf("listing the jobs of group %s: %w", rollout.Group, err)
	}
	return all.Items, nil
}
