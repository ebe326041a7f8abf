package watcher

import (
	"context"
	"fmt"
	"sync"
	"time"

	wfv1 "github.com/argoproj/argo-workflows/v3/pkg/apis/workflow/v1alpha1"
	helmv2 "github.com/fluxcd/helm-controller/api/v2"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/workqueue"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"orkestra.dev/api/v1alpha1"
	"orkestra.dev/pkg/service"
	"orkestra.dev/services/watcher/observe"
)

// releases says what HelmReleases tell.
type releases struct {
	client    client.Reader
	namespace string
	memory    *memory
	gone      *graveyard
	now       func() time.Time
}

func setupReleases(e *service.Env, workers int) error {
	r := &releases{
		client: e.Manager.GetClient(), namespace: e.Namespace, memory: newMemory(e.Say),
		gone: &graveyard{}, now: time.Now,
	}
	err := ctrl.NewControllerManagedBy(e.Manager).Named("releases").
		Watches(&helmv2.HelmRelease{}, r.handler()).
		WithOptions(controllerOptions(workers)).
		Complete(r)
	if err != nil {
		return fmt.Errorf("watching HelmReleases: %w", err)
	}
	return nil
}

type queue = workqueue.TypedRateLimitingInterface[reconcile.Request]

// handler enqueues releases, and keeps the last that was seen of one that is gone.
func (r *releases) handler() handler.EventHandler {
	enqueue := &handler.EnqueueRequestForObject{}
	return handler.Funcs{
		CreateFunc: enqueue.Create,
		UpdateFunc: enqueue.Update,
		DeleteFunc: func(ctx context.Context, e event.DeleteEvent, q queue) {
			if hr, ok := e.Object.(*helmv2.HelmRelease); ok {
				r.gone.bury(hr)
			}
			enqueue.Delete(ctx, e, q)
		},
	}
}

// Reconcile implements reconcile.Reconciler.
func (r *releases) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	for _, hr := range r.gone.of(req.NamespacedName) {
		if err := r.memory.tell(ctx, req.NamespacedName, hr.UID, observe.Deleted(hr)); err != nil {
			return ctrl.Result{}, err
		}
		r.gone.forget(hr)
	}
	hr := &helmv2.HelmRelease{}
	if err := r.client.Get(ctx, req.NamespacedName, hr); err != nil {
		if apierrors.IsNotFound(err) {
			r.memory.forget(req.NamespacedName)
			return ctrl.Result{}, nil
		}
		return ctrl.Result{}, fmt.Errorf("reading HelmRelease %s: %w", req, err)
	}
	wf, err := r.workflow(ctx, hr)
	if err != nil {
		return ctrl.Result{}, err
	}
	facts, again := observe.Release(hr, wf, r.now())
	if err := r.memory.tell(ctx, req.NamespacedName, hr.UID, facts); err != nil {
		return ctrl.Result{}, err
	}
	return ctrl.Result{RequeueAfter: again}, nil
}

// workflow that wrote the release last; nil where it is not known.
func (r *releases) workflow(ctx context.Context, hr *helmv2.HelmRelease) (*wfv1.Workflow, error) {
	name := hr.Annotations[v1alpha1.AnnotationWorkflow]
	if name == "" {
		return nil, nil
	}
	wf := &wfv1.Workflow{}
	err := r.client.Get(ctx, client.ObjectKey{Namespace: r.namespace, Name: name}, wf)
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading workflow %s: %w", name, err)
	}
	return wf, nil
}

// graveyard holds releases that are gone until that is said: the API server has
// them no more.
type graveyard struct {
	mu   sync.Mutex
	dead map[types.NamespacedName][]*helmv2.HelmRelease
}

func (g *graveyard) bury(hr *helmv2.HelmRelease) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.dead == nil {
		g.dead = map[types.NamespacedName][]*helmv2.HelmRelease{}
	}
	name := client.ObjectKeyFromObject(hr)
	g.dead[name] = append(g.dead[name], hr)
}

func (g *graveyard) of(name types.NamespacedName) []*helmv2.HelmRelease {
	g.mu.Lock()
	defer g.mu.Unlock()
	return append([]*helmv2.HelmRelease(nil), g.dead[name]...)
}

func (g *graveyard) forget(hr *helmv2.HelmRelease) {
	g.mu.Lock()
	defer g.mu.Unlock()
	name := client.ObjectKeyFromObject(hr)
	var left []*helmv2.HelmRelease
	for _, other := range g.dead[name] {
		if other != hr {
			left = append(left, other)
		}
	}
	if len(left) == 0 {
		delete(g.dead, name)
		return
	}
	g.dead[name] = left
}
