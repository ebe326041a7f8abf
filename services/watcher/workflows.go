package watcher

import (
	"context"
	"fmt"
	"time"

	wfv1 "github.com/argoproj/argo-workflows/v3/pkg/apis/workflow/v1alpha1"
	"github.com/argoproj/argo-workflows/v3/workflow/packer"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"orkestra.dev/api/v1alpha1"
	"orkestra.dev/pkg/service"
	"orkestra.dev/services/watcher/observe"
)

// workflows says what workflows tell.
type workflows struct {
	client client.Reader
	memory *memory
	now    func() time.Time
}

func setupWorkflows(e *service.Env, workers int) error {
	r := &workflows{client: e.Manager.GetClient(), memory: newMemory(e.Say), now: time.Now}
	err := ctrl.NewControllerManagedBy(e.Manager).Named("workflows").
		For(&wfv1.Workflow{}).
		WithOptions(controllerOptions(workers)).
		Complete(r)
	if err != nil {
		return fmt.Errorf("watching workflows: %w", err)
	}
	return nil
}

// Reconcile implements reconcile.Reconciler.
func (r *workflows) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	wf := &wfv1.Workflow{}
	if err := r.client.Get(ctx, req.NamespacedName, wf); err != nil {
		if apierrors.IsNotFound(err) {
			r.memory.forget(req.NamespacedName)
			return ctrl.Result{}, nil
		}
		return ctrl.Result{}, fmt.Errorf("reading workflow %s: %w", req.Name, err)
	}
	rollout, err := observe.RolloutOf(wf)
	if err != nil {
		// Somebody put our label on a workflow that is not ours; that stays so.
		return ctrl.Result{}, reconcile.TerminalError(err)
	}
	group := &v1alpha1.ApplicationGroup{}
	err = r.client.Get(ctx, client.ObjectKey{Name: rollout.Group}, group)
	if apierrors.IsNotFound(err) || err == nil && string(group.UID) != rollout.UID {
		return ctrl.Result{}, nil // what a group that is gone leaves behind concerns nobody
	}
	if err != nil {
		return ctrl.Result{}, fmt.Errorf("reading group %s: %w", rollout.Group, err)
	}
	if wf, err = unpacked(wf); err != nil {
		return ctrl.Result{}, err
	}
	facts, err := observe.Workflow(wf, r.now())
	if err != nil {
		return ctrl.Result{}, err
	}
	return ctrl.Result{}, r.memory.tell(ctx, req.NamespacedName, wf.UID, facts)
}

// unpacked is the workflow with its nodes, a copy where Argo has compressed them.
func unpacked(wf *wfv1.Workflow) (*wfv1.Workflow, error) {
	if wf.Status.CompressedNodes == "" {
		return wf, nil
	}
	wf = wf.DeepCopy()
	if err := packer.DecompressWorkflow(wf); err != nil {
		return nil, fmt.Errorf("decompressing workflow %s: %w", wf.Name, err)
	}
	return wf, nil
}
