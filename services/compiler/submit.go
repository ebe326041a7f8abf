package compiler

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"

	wfv1 "github.com/argoproj/argo-workflows/v3/pkg/apis/workflow/v1alpha1"
	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"orkestra.dev/api/v1alpha1"
	"orkestra.dev/pkg/events"
	"orkestra.dev/pkg/plan"
	"orkestra.dev/services/compiler/compile"
)

// reasonNameTaken is the reason of a dead letter: a workflow that is not of our making
// has the name that one of ours should have.
const reasonNameTaken = "WorkflowNameTaken"

// find reads the workflow of that name, type and rollout; nil where it is not there.
func (c *compiler) find(ctx context.Context, rollout events.Rollout, kind events.WorkflowType, name string) (*wfv1.Workflow, error) {
	wf := &wfv1.Workflow{}
	err := c.client.Get(ctx, client.ObjectKey{Namespace: c.options.Namespace, Name: name}, wf)
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading workflow %s: %w", name, err)
	}
	if rolloutOf(wf) != rollout || typeOf(wf) != kind {
		return nil, events.Terminal(reasonNameTaken, fmt.Errorf("workflow %s is there and is not one of rollout %s", name, rollout.ID()))
	}
	return wf, nil
}

// same reads the workflow that want is, where it is there already; else nil.
func (c *compiler) same(ctx context.Context, want *wfv1.Workflow) (*wfv1.Workflow, error) {
	return c.find(ctx, rolloutOf(want), typeOf(want), want.Name)
}

// together does what does not wait for each other, and returns the first error in the
// order of do.
func together(do ...func() error) error {
	errs := make([]error, len(do))
	var wg sync.WaitGroup
	for i := range do {
		wg.Go(func() { errs[i] = do[i]() })
	}
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// submit writes the plan, with what else has to be there before the workflow is, and
// then the workflow, and makes it the owner of the plan. Each step may have been done by
// a submitter that died, or is being done by another replica.
func (c *compiler) submit(ctx context.Context, p *compile.Plan, before ...func() error) (*wfv1.Workflow, error) {
	secrets, err := p.Secrets()
	if err != nil {
		return nil, err
	}
	for _, s := range secrets {
		// Until there is a workflow the plan belongs to the group, so that it does
		// not outlive it.
		s.OwnerReferences = p.Workflow.OwnerReferences
		before = append(before, func() error { return c.write(ctx, p.Workflow, s) })
	}
	if err := together(before...); err != nil {
		return nil, err
	}
	wf, made, err := c.create(ctx, p.Workflow)
	if err != nil {
		return nil, err
	}
	same, err := c.handOver(ctx, wf, secrets)
	if err != nil {
		return nil, err
	}
	if made && !same {
		// Another replica, that saw the group otherwise, has replaced the plan before the
		// workflow was there, and found this one then.
		return nil, c.takeBack(ctx, wf)
	}
	c.log.InfoContext(ctx, "submitted", "group", wf.Labels[v1alpha1.LabelOwner], "generation", wf.Labels[v1alpha1.LabelGeneration],
		"workflow", wf.Name, "releases", p.Releases())
	return wf, nil
}

// takeBack deletes a workflow whose plan is another's, for both to be made again.
func (c *compiler) takeBack(ctx context.Context, wf *wfv1.Workflow) error {
	uid := wf.UID
	err := c.client.Delete(ctx, wf, client.Preconditions{UID: &uid}, client.PropagationPolicy(metav1.DeletePropagationBackground))
	if client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("taking back workflow %s, whose plan is another's: %w", wf.Name, err)
	}
	return events.RetryAfter(c.patience.again, fmt.Errorf("the plan of workflow %s was another's", wf.Name))
}

// write a Secret of a plan whose workflow was not there a moment ago. A Secret that is
// there and is not the same, or that belongs to a workflow which is gone and goes with
// it, is replaced: nobody follows it.
func (c *compiler) write(ctx context.Context, wf *wfv1.Workflow, want *corev1.Secret) error {
	err := c.client.Create(ctx, want.DeepCopy())
	if !apierrors.IsAlreadyExists(err) {
		return refusedByAPI(fmt.Sprintf("writing plan %s", want.Name), err)
	}
	have := &corev1.Secret{}
	if err := c.client.Get(ctx, client.ObjectKeyFromObject(want), have); err != nil {
		return fmt.Errorf("reading plan %s: %w", want.Name, err)
	}
	if apiequality.Semantic.DeepEqual(have.Data, want.Data) && apiequality.Semantic.DeepEqual(have.OwnerReferences, want.OwnerReferences) {
		return nil
	}
	// Another replica may have been faster, with the workflow too: then the plan is
	// that workflow's.
	if there, err := c.same(ctx, wf); err != nil || there != nil {
		return err
	}
	err = c.client.Delete(ctx, have, client.Preconditions{UID: &have.UID, ResourceVersion: &have.ResourceVersion})
	if client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("replacing plan %s: %w", want.Name, err)
	}
	if err := c.client.Create(ctx, want.DeepCopy()); err != nil {
		return fmt.Errorf("replacing plan %s: %w", want.Name, err)
	}
	return nil
}

// create the workflow, or find the one that another replica has just created; made says which.
func (c *compiler) create(ctx context.Context, want *wfv1.Workflow) (wf *wfv1.Workflow, made bool, err error) {
	wf = want.DeepCopy()
	err = c.client.Create(ctx, wf)
	if err == nil {
		return wf, true, nil
	}
	if !apierrors.IsAlreadyExists(err) {
		return nil, false, refusedByAPI(fmt.Sprintf("creating workflow %s", want.Name), err)
	}
	wf, err = c.same(ctx, want)
	if err == nil && wf == nil {
		return nil, false, fmt.Errorf("creating workflow %s: it was there, and is gone", want.Name)
	}
	return wf, false, err
}

// adopt makes a workflow the owner of its plan, and counts the releases in it.
func (c *compiler) adopt(ctx context.Context, wf *wfv1.Workflow) (releases int, err error) {
	var secrets corev1.SecretList
	if err := c.client.List(ctx, &secrets, client.InNamespace(wf.Namespace), client.MatchingLabels{plan.LabelWorkflow: wf.Name}); err != nil {
		return 0, fmt.Errorf("listing the plan of workflow %s: %w", wf.Name, err)
	}
	var others []*corev1.Secret
	for i := range secrets.Items {
		s := &secrets.Items[i]
		if !slices.ContainsFunc(s.OwnerReferences, func(o metav1.OwnerReference) bool { return o.UID == wf.UID }) {
			others = append(others, s)
		}
	}
	if _, err := c.handOver(ctx, wf, others); err != nil {
		return 0, err
	}
	nodes, err := plan.Nodes(secrets.Items)
	if err != nil {
		return 0, err
	}
	p := compile.Plan{Nodes: slices.Collect(maps.Values(nodes))}
	return p.Releases(), nil
}

// handOver makes a workflow the one owner of the Secrets of its plan, and reports whether they hold
// what they are said to hold.
func (c *compiler) handOver(ctx context.Context, wf *wfv1.Workflow, secrets []*corev1.Secret) (same bool, err error) {
	owner := metav1.OwnerReference{
		APIVersion: wfv1.SchemeGroupVersion.String(), Kind: "Workflow", Name: wf.Name, UID: wf.UID,
		Controller: new(true), BlockOwnerDeletion: new(false),
	}
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{"ownerReferences": []metav1.OwnerReference{owner}}})
	if err != nil {
		return false, fmt.Errorf("encoding the owner of plan %s: %w", wf.Name, err)
	}
	var other atomic.Bool
	var do []func() error
	for _, s := range secrets {
		do = append(do, func() error {
			at := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: s.Namespace, Name: s.Name}}
			if err := c.client.Patch(ctx, at, client.RawPatch(types.MergePatchType, patch)); client.IgnoreNotFound(err) != nil {
				return fmt.Errorf("handing plan %s to its workflow: %w", s.Name, err)
			}
			if !apiequality.Semantic.DeepEqual(at.Data, s.Data) {
				other.Store(true)
			}
			return nil
		})
	}
	err = together(do...)
	return !other.Load(), err
}

// refusedByAPI tells what the API server will never take, which is an outcome for the
// group's owner to see, from what may pass. A nil error stays nil.
func refusedByAPI(doing string, err error) error {
	if err == nil {
		return nil
	}
	err = fmt.Errorf("%s: %w", doing, err)
	if apierrors.IsInvalid(err) || apierrors.IsBadRequest(err) || apierrors.IsRequestEntityTooLargeError(err) {
		return &compile.Error{Reason: v1alpha1.ReasonWorkflowTemplateGenerationFailed, Err: err}
	}
	return err
}
