package compiler

import (
	"context"
	"errors"
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"orkestra.dev/api/v1alpha1"
	"orkestra.dev/pkg/events"
	"orkestra.dev/pkg/service/groupstatus"
	"orkestra.dev/services/compiler/compile"
)

const fieldManager = "orkestra-compiler"

// forward submits the workflow that brings a group to its spec.
func (c *compiler) forward(ctx context.Context, rollout events.Rollout, staged []events.StagedApplication) ([]events.Fact, error) {
	group, err := c.current(ctx, rollout, false)
	if err != nil {
		return nil, err
	}
	in := compile.Input{Group: group, Staged: staged, Rollout: rollout, Options: c.options}
	p, err := compile.Forward(in)
	if err != nil {
		return c.reject(ctx, group, events.WorkflowForward, err)
	}
	wf, err := c.find(ctx, p.Workflow)
	if err != nil {
		return nil, err
	}
	var nodes int
	if wf != nil {
		if nodes, err = c.adopt(ctx, wf); err != nil {
			return nil, err
		}
	} else {
		if err := c.quiet(ctx, rollout); err != nil {
			return nil, err
		}
		// Waiting for the older workflow took its time, and only now does nobody make
		// or remove releases of the group: look again.
		if in.Group, err = c.current(ctx, rollout, false); err != nil {
			return nil, err
		}
		group = in.Group
		if in.Inventory, err = c.inventory(ctx, rollout); err != nil {
			return nil, err
		}
		if p, err = compile.Forward(in); err != nil {
			return c.reject(ctx, group, events.WorkflowForward, err)
		}
		if err := c.remember(ctx, compile.Revision{Rollout: rollout, Spec: group.Spec, Staged: staged}); err != nil {
			return c.reject(ctx, group, events.WorkflowForward, err)
		}
		if wf, err = c.submit(ctx, p, nil); err != nil {
			return c.reject(ctx, group, events.WorkflowForward, err)
		}
		nodes = len(p.Nodes)
	}
	err = c.say(ctx, group, metav1.ConditionTrue, v1alpha1.ReasonCompiled,
		fmt.Sprintf("workflow %s has %d releases", wf.Name, nodes))
	if err != nil {
		return nil, err
	}
	return submitted(rollout, wf, nodes), nil
}

// current reads the group of a rollout, and finds the rollout superseded where the
// group asks for something else by now.
func (c *compiler) current(ctx context.Context, rollout events.Rollout, deleting bool) (*v1alpha1.ApplicationGroup, error) {
	group := &v1alpha1.ApplicationGroup{}
	err := c.client.Get(ctx, client.ObjectKey{Name: rollout.Group}, group)
	if apierrors.IsNotFound(err) {
		return nil, events.Superseded("the end of group " + rollout.Group)
	}
	if err != nil {
		return nil, fmt.Errorf("reading group %s: %w", rollout.Group, err)
	}
	if now := groupstatus.RolloutOf(group); now != rollout {
		return nil, events.Superseded("rollout " + now.ID())
	}
	switch is := !group.DeletionTimestamp.IsZero(); {
	case is && !deleting:
		return nil, events.Superseded("the deletion of group " + rollout.Group)
	case deleting && !is:
		return nil, events.Superseded("group " + rollout.Group + ", which is not being deleted")
	}
	return group, nil
}

// reject says that no workflow can be made of the group. That is an outcome, which
// waits for the group to change; what is not an *compile.Error is a failure.
func (c *compiler) reject(ctx context.Context, group *v1alpha1.ApplicationGroup, kind events.WorkflowType, err error) ([]events.Fact, error) {
	refused, ok := errors.AsType[*compile.Error](err)
	if !ok {
		return nil, err
	}
	rollout := groupstatus.RolloutOf(group)
	c.log.InfoContext(ctx, "rejected", "group", group.Name, "generation", group.Generation, "type", kind, "reason", refused.Reason, "message", refused.Error())
	if err := c.say(ctx, group, metav1.ConditionFalse, refused.Reason, refused.Error()); err != nil {
		return nil, err
	}
	return []events.Fact{events.New(rollout, events.WorkflowRejected{
		WorkflowType: kind, Reason: refused.Reason, Message: refused.Error(),
	})}, nil
}

// say writes the condition Compiled.
func (c *compiler) say(ctx context.Context, group *v1alpha1.ApplicationGroup, status metav1.ConditionStatus, reason, message string) error {
	return groupstatus.Apply(ctx, c.client, fieldManager, group, groupstatus.Status{Conditions: []metav1.Condition{{
		Type: v1alpha1.ConditionCompiled, Status: status, Reason: reason, Message: message,
	}}})
}
