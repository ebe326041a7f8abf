package compiler

import (
	"cmp"
	"context"

	"orkestra.dev/api/v1alpha1"
	"orkestra.dev/pkg/events"
	"orkestra.dev/pkg/service/groupstatus"
	"orkestra.dev/services/compiler/compile"
)

// reasonTerminated is that of a rollout whose workflow was stopped: by a newer rollout,
// which sees to the group, or by a person, who does.
const reasonTerminated = "Terminated"

// failed tries a failed rollout again or undoes it, as the group's remediation says.
// Only a forward workflow is undone: a rollback that fails says so, and that is the end
// of it.
func (c *compiler) failed(ctx context.Context, rollout events.Rollout, what events.RolloutFailed) ([]events.Fact, error) {
	if what.WorkflowType != events.WorkflowForward || what.Reason == reasonTerminated {
		return nil, nil
	}
	group, err := c.current(ctx, rollout)
	if err != nil {
		return nil, err
	}
	if facts, tried, err := c.retry(ctx, group, what); tried || err != nil {
		return facts, err
	}
	return c.remediate(ctx, group)
}

// remediate undoes the rollout of a group.
func (c *compiler) remediate(ctx context.Context, group *v1alpha1.ApplicationGroup) ([]events.Fact, error) {
	rollout := groupstatus.RolloutOf(group)
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
	good, err := c.lastGood(ctx, rollout, false)
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
	wf, err := c.same(ctx, p.Workflow)
	if err != nil {
		return nil, err
	}
	if wf != nil { // submitted before, by us or by another
		return c.again(ctx, rollout, wf)
	}
	if err := c.quiet(ctx, rollout, p.Workflow.Name); err != nil {
		return nil, err
	}
	if wf, err = c.submit(ctx, p); err != nil {
		return c.reject(ctx, group, kind, err)
	}
	return submitted(rollout, wf, p.Releases()), nil
}

// retry submits a forward workflow that has failed once more, with the charts and the
// values that it had, while the group's remediation has retries left. Its name says
// which retry it is, so that a failure that is said twice is answered once.
func (c *compiler) retry(ctx context.Context, group *v1alpha1.ApplicationGroup, what events.RolloutFailed) (facts []events.Fact, tried bool, err error) {
	rollout := groupstatus.RolloutOf(group)
	attempt := 0
	if r := group.Spec.Remediation; r != nil {
		for n := range int(r.Retries) {
			if compile.WorkflowName(rollout, events.WorkflowForward, n) == what.Workflow {
				attempt = n + 1
			}
		}
	}
	if attempt == 0 {
		return nil, false, nil
	}
	name := compile.WorkflowName(rollout, events.WorkflowForward, attempt)
	wf, err := c.find(ctx, rollout, events.WorkflowForward, name)
	if err != nil {
		return nil, false, err
	}
	if wf != nil {
		facts, err = c.again(ctx, rollout, wf)
		return facts, true, err
	}
	revision, err := c.revision(ctx, compile.RevisionName(rollout))
	if err != nil || revision == nil {
		return nil, false, err
	}
	if err := c.quiet(ctx, rollout, name); err != nil {
		return nil, false, err
	}
	inventory, err := c.inventory(ctx, rollout)
	if err != nil {
		return nil, false, err
	}
	p, err := compile.Forward(compile.Input{
		Group: group, Staged: revision.Staged, Values: revision.Values, Inventory: inventory,
		Rollout: rollout, Attempt: attempt, Options: c.options,
	})
	if err == nil {
		wf, err = c.submit(ctx, p)
	}
	if err != nil {
		facts, err = c.reject(ctx, group, events.WorkflowForward, err)
		return facts, true, err
	}
	facts, err = c.compiled(ctx, group, wf, p.Releases())
	return facts, true, err
}
