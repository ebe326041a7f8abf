package compiler

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	wfv1 "github.com/argoproj/argo-workflows/v3/pkg/apis/workflow/v1alpha1"
	helmv2 "github.com/fluxcd/helm-controller/api/v2"
	batchv1 "k8s.io/api/batch/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"orkestra.dev/api/v1alpha1"
	"orkestra.dev/pkg/events"
	"orkestra.dev/pkg/service/groupstatus"
	"orkestra.dev/services/compiler/compile"
)

const fieldManager = "orkestra-compiler"

// forward submits the workflow that brings a group to its spec, or finds that it is
// there already.
func (c *compiler) forward(ctx context.Context, rollout events.Rollout, staged []events.StagedApplication) ([]events.Fact, error) {
	name := compile.WorkflowName(rollout, events.WorkflowForward, 0)
	var wf *wfv1.Workflow
	var older []wfv1.Workflow
	err := together(
		func() (err error) { wf, err = c.find(ctx, rollout, events.WorkflowForward, name); return err },
		func() (err error) { older, err = c.older(ctx, rollout, name); return err },
	)
	if err != nil {
		return nil, err
	}
	// Only when no older workflow runs does nobody make or remove releases of the group. A thousand releases take as
	// long to read as their group.
	rests := wf == nil && len(older) == 0
	var group *v1alpha1.ApplicationGroup
	var live []helmv2.HelmRelease
	err = together(
		func() (err error) { group, err = c.current(ctx, rollout); return err },
		func() (err error) {
			if rests {
				live, err = c.inventory(ctx, rollout)
			}
			return err
		},
	)
	if err != nil {
		return nil, err
	}
	if wf != nil {
		releases, err := c.adopt(ctx, wf)
		if err != nil {
			return nil, err
		}
		return c.compiled(ctx, group, wf, releases)
	}
	in := compile.Input{Group: group, Staged: staged, Inventory: live, Rollout: rollout, Options: c.options}
	if in.Values, err = c.values(ctx, group); err != nil {
		return nil, err
	}
	if !rests {
		// What cannot be compiled does not stop what runs.
		if _, err = compile.Forward(in); err != nil {
			return c.reject(ctx, group, events.WorkflowForward, err)
		}
		if err := c.quiet(ctx, rollout, name); err != nil {
			return nil, err
		}
		err = together( // waiting for them took its time
			func() (err error) { in.Group, err = c.current(ctx, rollout); return err },
			func() (err error) { in.Inventory, err = c.inventory(ctx, rollout); return err },
		)
		if err != nil {
			return nil, err
		}
	}
	if in.AtRest, err = c.atRest(ctx, in.Group); err != nil {
		return nil, err
	}
	facts, err := c.roll(ctx, in)
	if err != nil {
		return c.reject(ctx, in.Group, events.WorkflowForward, err)
	}
	return facts, nil
}

// roll compiles a group and submits what comes of it, unless nothing is to be done.
func (c *compiler) roll(ctx context.Context, in compile.Input) ([]events.Fact, error) {
	p, err := compile.Forward(in)
	if err != nil {
		return nil, err
	}
	// Most rollouts change a release: for them, what leaves no trace need not be read.
	if p.Stands(in) {
		var good *compile.Revision
		var jobs []batchv1.Job
		err := together(
			func() (err error) { good, err = c.lastGood(ctx, in.Rollout, true); return err },
			func() (err error) { jobs, err = c.jobs(ctx, in.Rollout); return err },
		)
		if err != nil {
			return nil, err
		}
		if p.Passed(in, jobs, good) {
			return c.unchanged(ctx, in, p, good)
		}
	}
	wf, err := c.submit(ctx, p, func() error { return c.remember(ctx, compile.NewRevision(in)) })
	if err != nil {
		return nil, err
	}
	return c.compiled(ctx, in.Group, wf, p.Releases())
}

// compiled says that there is a workflow: first the event, for which somebody may wait.
func (c *compiler) compiled(ctx context.Context, group *v1alpha1.ApplicationGroup, wf *wfv1.Workflow, releases int) ([]events.Fact, error) {
	err := events.Afterwards(ctx, func(ctx context.Context) error {
		s := compiledIs(groupstatus.Status{}, metav1.ConditionTrue, v1alpha1.ReasonCompiled, contents(wf, releases))
		return groupstatus.ApplyLater(ctx, c.client, fieldManager, group, s, groupstatus.CompilersTurn, c.asked)
	})
	if err != nil {
		return nil, err
	}
	return submitted(groupstatus.RolloutOf(group), wf, releases), nil
}

// contents of a workflow, for a user.
func contents(wf *wfv1.Workflow, releases int) string {
	if standing, err := strconv.Atoi(wf.Annotations[v1alpha1.AnnotationStanding]); err == nil {
		return fmt.Sprintf("workflow %s has %d of %d releases: the others are as they should be", wf.Name, releases, releases+standing)
	}
	return fmt.Sprintf("workflow %s has %d releases", wf.Name, releases)
}

// unchanged says that there is nothing to do. The revision is one to go back to, unless
// the newest of those is the same: a group that is looked at again and again would lose
// all its others.
func (c *compiler) unchanged(ctx context.Context, in compile.Input, p *compile.Plan, good *compile.Revision) ([]events.Fact, error) {
	revision := compile.NewRevision(in)
	same := false
	if good != nil {
		var err error
		if same, err = revision.SameAs(*good); err != nil {
			return nil, err
		}
	}
	if !same {
		if err := c.remember(ctx, revision); err != nil {
			return nil, err
		}
		if err := c.markGood(ctx, in.Rollout); err != nil {
			return nil, err
		}
	}
	releases := p.Releases() + p.Standing
	c.log.InfoContext(ctx, "unchanged", "group", in.Group.Name, "generation", in.Group.Generation, "releases", releases)
	err := c.say(ctx, in.Group, groupstatus.Status{LastUnchangedRollout: in.Rollout.ID()}, metav1.ConditionTrue, v1alpha1.ReasonUnchanged,
		fmt.Sprintf("%d releases are as they should be", releases))
	if err != nil {
		return nil, err
	}
	return []events.Fact{events.New(in.Rollout, events.RolloutUnchanged{Releases: releases})}, nil
}

// asked reads the group of a rollout, and finds the rollout superseded where the group
// asks for something else by now.
func (c *compiler) asked(ctx context.Context, rollout events.Rollout) (*v1alpha1.ApplicationGroup, error) {
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
	return group, nil
}

// current is the group of a rollout that is to be carried out: one that is neither
// being deleted nor held.
func (c *compiler) current(ctx context.Context, rollout events.Rollout) (*v1alpha1.ApplicationGroup, error) {
	group, err := c.asked(ctx, rollout)
	switch {
	case err != nil:
		return nil, err
	case !group.DeletionTimestamp.IsZero():
		return nil, events.Superseded("the deletion of group " + rollout.Group)
	case group.Spec.Suspend:
		return nil, events.Superseded("the suspension of group " + rollout.Group)
	}
	return group, nil
}

// deleting is the group of a rollout that is being deleted.
func (c *compiler) deleting(ctx context.Context, rollout events.Rollout) (*v1alpha1.ApplicationGroup, error) {
	group, err := c.asked(ctx, rollout)
	switch {
	case err != nil:
		return nil, err
	case group.DeletionTimestamp.IsZero():
		return nil, events.Superseded("group " + rollout.Group + ", which is not being deleted")
	case v1alpha1.GoesAlone(group):
		return nil, events.Superseded("group " + rollout.Group + ", which goes without its releases")
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
	if err := c.say(ctx, group, groupstatus.Status{}, metav1.ConditionFalse, refused.Reason, refused.Error()); err != nil {
		return nil, err
	}
	return []events.Fact{events.New(rollout, events.WorkflowRejected{
		WorkflowType: kind, Reason: refused.Reason, Message: refused.Error(),
	})}, nil
}

// say writes the condition Compiled, beside what else there is to say.
func (c *compiler) say(ctx context.Context, group *v1alpha1.ApplicationGroup, s groupstatus.Status, status metav1.ConditionStatus, reason, message string) error {
	_, err := groupstatus.Apply(ctx, c.client, fieldManager, group, compiledIs(s, status, reason, message))
	return err
}

// compiledIs is the status with the condition Compiled.
func compiledIs(s groupstatus.Status, status metav1.ConditionStatus, reason, message string) groupstatus.Status {
	s.Conditions = []metav1.Condition{{Type: v1alpha1.ConditionCompiled, Status: status, Reason: reason, Message: message}}
	return s
}
