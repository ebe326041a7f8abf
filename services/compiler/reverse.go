package compiler

import (
	"context"
	"fmt"
	"time"

	wfv1 "github.com/argoproj/argo-workflows/v3/pkg/apis/workflow/v1alpha1"
	helmv2 "github.com/fluxcd/helm-controller/api/v2"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"orkestra.dev/api/v1alpha1"
	"orkestra.dev/pkg/events"
	"orkestra.dev/services/compiler/compile"
)

// reversing is when to look again at a reverse workflow of another rollout.
const reversing = 2 * time.Second

// reverse submits the workflow that undoes a group which is being deleted. Where
// nothing of the group is left there is nothing to do: the intake sees it too, and
// lets the group go.
func (c *compiler) reverse(ctx context.Context, rollout events.Rollout) ([]events.Fact, error) {
	group, err := c.deleting(ctx, rollout)
	if err != nil {
		return nil, err
	}
	running, err := c.unfinished(ctx, rollout.Group)
	if err != nil {
		return nil, err
	}
	for _, wf := range running {
		was := rolloutOf(&wf)
		if typeOf(&wf) != events.WorkflowReverse || was.UID != rollout.UID || wf.Spec.Shutdown != "" {
			continue
		}
		if was == rollout {
			return c.again(ctx, rollout, &wf)
		}
		return nil, events.RetryAfter(reversing, fmt.Errorf("workflow %s of an earlier rollout already reverses group %s", wf.Name, rollout.Group))
	}
	if err := c.quiet(ctx, rollout, ""); err != nil {
		return nil, err
	}
	inventory, err := c.inventory(ctx, rollout)
	if err != nil {
		return nil, err
	}
	attempt, err := c.attempt(ctx, rollout)
	if err != nil {
		return nil, err
	}
	p, err := compile.Reverse(compile.ReverseInput{
		Group: group, Inventory: inventory, Rollout: rollout, Attempt: attempt, Options: c.options,
	})
	if err != nil {
		return c.reject(ctx, group, events.WorkflowReverse, err)
	}
	if p == nil {
		return nil, nil
	}
	wf, err := c.submit(ctx, p)
	if err != nil {
		return c.reject(ctx, group, events.WorkflowReverse, err)
	}
	return submitted(rollout, wf, p.Releases()), nil
}

// again says that a workflow was submitted, to which all may not have been done: its
// submitter may have died over it.
func (c *compiler) again(ctx context.Context, rollout events.Rollout, wf *wfv1.Workflow) ([]events.Fact, error) {
	releases, err := c.adopt(ctx, wf)
	if err != nil {
		return nil, err
	}
	return submitted(rollout, wf, releases), nil
}

// inventory is every HelmRelease of the group, this one by UID, wherever it is.
func (c *compiler) inventory(ctx context.Context, rollout events.Rollout) ([]helmv2.HelmRelease, error) {
	var all helmv2.HelmReleaseList
	if err := c.client.List(ctx, &all, client.MatchingLabels{v1alpha1.LabelOwner: rollout.Group}); err != nil {
		return nil, fmt.Errorf("listing the releases of group %s: %w", rollout.Group, err)
	}
	var ours []helmv2.HelmRelease
	for _, hr := range all.Items {
		if hr.Annotations[v1alpha1.AnnotationGroupUID] == rollout.UID {
			ours = append(ours, hr)
		}
	}
	return ours, nil
}

// attempt is the first whose workflow is not there: those before it have finished,
// and left something behind. So a reverse that was compiled twice is one, and one that
// has failed can be tried again.
func (c *compiler) attempt(ctx context.Context, rollout events.Rollout) (int, error) {
	for n := 0; ; n++ {
		wf := &wfv1.Workflow{}
		key := client.ObjectKey{Namespace: c.options.Namespace, Name: compile.WorkflowName(rollout, events.WorkflowReverse, n)}
		err := c.client.Get(ctx, key, wf)
		if apierrors.IsNotFound(err) {
			return n, nil
		}
		if err != nil {
			return 0, fmt.Errorf("reading workflow %s: %w", key.Name, err)
		}
	}
}
