package compiler

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	wfv1 "github.com/argoproj/argo-workflows/v3/pkg/apis/workflow/v1alpha1"
	argo "github.com/argoproj/argo-workflows/v3/workflow/common"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/selection"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"orkestra.dev/api/v1alpha1"
	"orkestra.dev/pkg/events"
)

// patience is how a handler waits for workflows that it has stopped.
type patience struct {
	// poll is the time between two looks, most the time after which to give up for
	// now, and again when to come back.
	poll, most, again time.Duration
}

// Argo looks at a stopped workflow within its DEFAULT_REQUEUE_TIME, 100 ms in our
// deployments and 10 s in others.
var defaultPatience = patience{poll: 50 * time.Millisecond, most: 2 * time.Second, again: time.Second}

// rolloutOf is the rollout that a workflow is for; zero where it is not of our making.
func rolloutOf(wf *wfv1.Workflow) events.Rollout {
	var r events.Rollout
	if err := json.Unmarshal([]byte(wf.Annotations[v1alpha1.AnnotationRollout]), &r); err != nil {
		return events.Rollout{}
	}
	return r
}

func typeOf(wf *wfv1.Workflow) events.WorkflowType {
	return events.WorkflowType(wf.Labels[v1alpha1.LabelWorkflowType])
}

// unfinished is the workflows of a group that Argo is not done with.
func (c *compiler) unfinished(ctx context.Context, group string) ([]wfv1.Workflow, error) {
	running, err := labels.NewRequirement(argo.LabelKeyCompleted, selection.NotEquals, []string{"true"})
	if err != nil {
		return nil, fmt.Errorf("selecting unfinished workflows: %w", err)
	}
	selector := labels.SelectorFromSet(labels.Set{v1alpha1.LabelOwner: group}).Add(*running)
	var list wfv1.WorkflowList
	if err := c.client.List(ctx, &list, client.InNamespace(c.options.Namespace), client.MatchingLabelsSelector{Selector: selector}); err != nil {
		return nil, fmt.Errorf("listing the workflows of group %s: %w", group, err)
	}
	var out []wfv1.Workflow
	for _, wf := range list.Items {
		if !wf.Status.Fulfilled() {
			out = append(out, wf)
		}
	}
	return out, nil
}

// atRest says whether the newest workflow of a group has succeeded. Each release that it
// was to write is written then, and whoever is late with a write, of it or of an older one,
// has an older resourceVersion. What the status says of it must agree with what is there: a
// workflow that somebody has deleted may have failed. Argo deletes it a day after its end, and then
// the status is all that is left to say how it ended.
func (c *compiler) atRest(ctx context.Context, group *v1alpha1.ApplicationGroup) (bool, error) {
	last := group.Status.Rollout
	if last == nil || last.Phase != string(wfv1.WorkflowSucceeded) || last.Started == nil {
		return false, nil
	}
	all := &metav1.PartialObjectMetadataList{}
	all.SetGroupVersionKind(wfv1.SchemeGroupVersion.WithKind("WorkflowList"))
	if err := c.client.List(ctx, all, client.InNamespace(c.options.Namespace), client.MatchingLabels{v1alpha1.LabelOwner: group.Name}); err != nil {
		return false, fmt.Errorf("listing the workflows of group %s: %w", group.Name, err)
	}
	return newestSucceeded(all.Items, last.Workflow, last.Started.Time), nil
}

// newestSucceeded says whether, of workflows, the named one, which was started then, is the newest, and
// has succeeded; it need not be there any more. Times are of whole seconds: of two in one second
// neither is the newest.
func newestSucceeded(all []metav1.PartialObjectMetadata, name string, started time.Time) bool {
	made := started
	for _, wf := range all {
		if wf.Name != name {
			continue
		}
		if wf.Labels[argo.LabelKeyPhase] != string(wfv1.WorkflowSucceeded) || wf.Labels[argo.LabelKeyCompleted] != "true" {
			return false
		}
		made = wf.CreationTimestamp.Time
	}
	return !slices.ContainsFunc(all, func(wf metav1.PartialObjectMetadata) bool {
		return wf.Name != name && !wf.CreationTimestamp.Time.Before(made)
	})
}

// older is the workflows of a group that Argo is not done with, but for the one of the
// rollout that is named next.
func (c *compiler) older(ctx context.Context, rollout events.Rollout, next string) ([]wfv1.Workflow, error) {
	running, err := c.unfinished(ctx, rollout.Group)
	return slices.DeleteFunc(running, func(wf wfv1.Workflow) bool { return wf.Name == next && rolloutOf(&wf) == rollout }), err
}

// quiet stops what older rollouts of the group still run, and returns when nothing
// does, but for the workflow that is named next: another replica may have submitted it
// by now. Two workflows of one group would undo each other's work. It gives up for
// now, by RetryAfter, where Argo takes its time.
func (c *compiler) quiet(ctx context.Context, rollout events.Rollout, next string) error {
	most := time.NewTimer(c.patience.most)
	defer most.Stop()
	poll := time.NewTicker(c.patience.poll)
	defer poll.Stop()
	for {
		running, err := c.older(ctx, rollout, next)
		if err != nil || len(running) == 0 {
			return err
		}
		for _, wf := range running {
			if was := rolloutOf(&wf); was.UID == rollout.UID && was.Generation > rollout.Generation {
				return events.Superseded("workflow " + wf.Name)
			}
			if err := c.stop(ctx, &wf); err != nil {
				return err
			}
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-most.C:
			return events.RetryAfter(c.patience.again, fmt.Errorf("waiting for workflow %s to stop", running[0].Name))
		case <-poll.C:
		}
	}
}

// held says whether somebody holds the workflow.
func held(wf *wfv1.Workflow) bool { return wf.Spec.Suspend != nil && *wf.Spec.Suspend }

// stop asks Argo to end a workflow, as `argo stop` does. One that is held is let go
// with that: Argo fails its nodes all the same, but looks no further, so that the
// workflow itself would never end (operator.go, operate, ShouldSuspend).
func (c *compiler) stop(ctx context.Context, wf *wfv1.Workflow) error {
	if wf.Spec.Shutdown != "" && !held(wf) {
		return nil
	}
	shutdown := cmp.Or(wf.Spec.Shutdown, wfv1.ShutdownStrategyStop)
	return c.steer(ctx, "stopping", wf, map[string]any{"shutdown": shutdown, "suspend": nil})
}

// suspended holds what runs for a group that is held, but for a reverse: a group that
// is being deleted goes. Releases that are begun come to their end.
func (c *compiler) suspended(ctx context.Context, rollout events.Rollout) error {
	group, err := c.asked(ctx, rollout)
	if err != nil {
		return err
	}
	if !group.Spec.Suspend {
		return events.Superseded("group " + rollout.Group + ", which is not suspended")
	}
	running, err := c.unfinished(ctx, rollout.Group)
	if err != nil {
		return err
	}
	for _, wf := range running {
		if rolloutOf(&wf).UID != rollout.UID || typeOf(&wf) == events.WorkflowReverse || wf.Spec.Shutdown != "" || held(&wf) {
			continue
		}
		if err := c.steer(ctx, "suspending", &wf, map[string]any{"suspend": true}); err != nil {
			return err
		}
	}
	return nil
}

// steer changes the spec of a workflow that runs.
func (c *compiler) steer(ctx context.Context, doing string, wf *wfv1.Workflow, spec map[string]any) error {
	patch, err := json.Marshal(map[string]any{"spec": spec})
	if err != nil {
		return fmt.Errorf("encoding the patch of workflow %s: %w", wf.Name, err)
	}
	c.log.InfoContext(ctx, doing+" workflow", "group", wf.Labels[v1alpha1.LabelOwner], "workflow", wf.Name)
	err = c.client.Patch(ctx, wf, client.RawPatch(types.MergePatchType, patch))
	if err = client.IgnoreNotFound(err); err != nil {
		return fmt.Errorf("%s workflow %s: %w", doing, wf.Name, err)
	}
	return nil
}

// submitted says that Argo has the workflow.
func submitted(rollout events.Rollout, wf *wfv1.Workflow, releases int) []events.Fact {
	return []events.Fact{events.New(rollout, events.WorkflowSubmitted{
		WorkflowRef: events.WorkflowRef{Workflow: wf.Name, WorkflowUID: string(wf.UID), WorkflowType: typeOf(wf)},
		Releases:    releases,
	})}
}
