package watcher

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	wfv1 "github.com/argoproj/argo-workflows/v3/pkg/apis/workflow/v1alpha1"
	helmv2 "github.com/fluxcd/helm-controller/api/v2"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/util/resourceversion"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"orkestra.dev/api/v1alpha1"
	"orkestra.dev/pkg/service"
	"orkestra.dev/pkg/service/groupstatus"
	"orkestra.dev/services/watcher/observe"
)

const (
	// fieldManager under which the status is written.
	fieldManager = "orkestra-watcher"

	// detailsDelay is how long details are collected before they are written, and
	// detailsShare times what the last write took, up to detailsMost: some 5 s for the status of
	// a hundred releases, which costs the API server 0.07 s of processor time when nothing else is at work
	// (docs/benchmarks/costs.md).
	detailsDelay = time.Second
	detailsShare = 80
	detailsMost  = time.Minute

	// behindDelay is how long an informer is given to show what was written. It takes milliseconds.
	behindDelay = 50 * time.Millisecond
)

// groups writes the status of groups.
type groups struct {
	client    client.Client
	namespace string
	now       func() time.Time

	// held are the groups of which it is not yet written that they are worked on.
	held groupstatus.Held

	mu   sync.Mutex
	last map[string]written // by group
}

// written is when this process wrote a group's status last, how long it took, and
// the resourceVersion that the group has since.
type written struct {
	at      time.Time
	took    time.Duration
	version string
}

func setupGroups(e *service.Env, workers int) error {
	r := &groups{
		client: e.Manager.GetClient(), namespace: e.Namespace, now: time.Now, last: map[string]written{},
	}
	err := ctrl.NewControllerManagedBy(e.Manager).Named("groups").
		For(&v1alpha1.ApplicationGroup{}, builder.WithPredicates(predicate.Funcs{
			UpdateFunc: func(u event.UpdateEvent) bool { return concerns(u.ObjectOld, u.ObjectNew) },
		})).
		Watches(&wfv1.Workflow{}, handler.EnqueueRequestsFromMapFunc(r.groupOf)).
		Watches(&helmv2.HelmRelease{}, r.delayed()).
		WithOptions(controllerOptions(workers)).
		Complete(r)
	if err != nil {
		return fmt.Errorf("watching groups: %w", err)
	}
	return nil
}

// groupOf is the group that a workflow or a release is made for. The label may be
// a shortened name, the rollout has all of it.
func (r *groups) groupOf(_ context.Context, o client.Object) []reconcile.Request {
	if rollout, err := observe.RolloutOf(o); err == nil {
		return []reconcile.Request{{NamespacedName: client.ObjectKey{Name: rollout.Group}}}
	}
	if owner := o.GetLabels()[v1alpha1.LabelOwner]; owner != "" {
		return []reconcile.Request{{NamespacedName: client.ObjectKey{Name: owner}}}
	}
	return nil
}

// delayed collects the changes of releases, which are only details of a group.
func (r *groups) delayed() handler.EventHandler {
	later := func(ctx context.Context, o client.Object, q queue) {
		for _, req := range r.groupOf(ctx, o) {
			q.AddAfter(req, detailsDelay)
		}
	}
	return handler.Funcs{
		CreateFunc: func(ctx context.Context, e event.CreateEvent, q queue) { later(ctx, e.Object, q) },
		UpdateFunc: func(ctx context.Context, e event.UpdateEvent, q queue) { later(ctx, e.ObjectNew, q) },
		DeleteFunc: func(ctx context.Context, e event.DeleteEvent, q queue) { later(ctx, e.Object, q) },
	}
}

// concerns tells the changes of a group that we sum up from those that we wrote:
// two replicas that answered each other's writes would never come to rest.
func concerns(before, after client.Object) bool {
	old, ok := before.(*v1alpha1.ApplicationGroup)
	group, same := after.(*v1alpha1.ApplicationGroup)
	if !ok || !same || old.UID != group.UID || old.Generation != group.Generation ||
		(old.DeletionTimestamp == nil) != (group.DeletionTimestamp == nil) ||
		old.Annotations[v1alpha1.AnnotationRequestedAt] != group.Annotations[v1alpha1.AnnotationRequestedAt] ||
		old.Status.LastUnchangedRollout != group.Status.LastUnchangedRollout {
		return true
	}
	for _, kind := range []string{v1alpha1.ConditionAccepted, v1alpha1.ConditionStaged, v1alpha1.ConditionCompiled} {
		a, b := apimeta.FindStatusCondition(old.Status.Conditions, kind), apimeta.FindStatusCondition(group.Status.Conditions, kind)
		if (a == nil) != (b == nil) || a != nil && *a != *b {
			return true
		}
	}
	return false
}

// Reconcile implements reconcile.Reconciler.
func (r *groups) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	group := &v1alpha1.ApplicationGroup{}
	if err := r.client.Get(ctx, req.NamespacedName, group); err != nil {
		if apierrors.IsNotFound(err) {
			r.forget(req.Name)
			return ctrl.Result{}, nil
		}
		return ctrl.Result{}, fmt.Errorf("reading group %s: %w", req.Name, err)
	}
	switch behind, err := r.behind(group); {
	case err != nil:
		return ctrl.Result{}, err
	case behind:
		// All that was written just now would be news once more.
		return ctrl.Result{RequeueAfter: behindDelay}, nil
	}
	world, err := r.observe(ctx, group)
	if err != nil {
		return ctrl.Result{}, err
	}
	status, again := observe.Summarize(world)
	switch observe.Compare(group, status) {
	case observe.NothingNew:
		return ctrl.Result{RequeueAfter: again}, nil
	case observe.Details:
		if wait := r.wait(req.Name); wait > 0 {
			return ctrl.Result{RequeueAfter: wait}, nil
		}
	case observe.Underway:
		if left := r.held.Left(group, groupstatus.WatchersTurn, r.now()); left > 0 {
			return ctrl.Result{RequeueAfter: left}, nil
		}
	case observe.News:
	}
	// First the event: it is made once, however often we come this way.
	if err := r.announce(ctx, group, status); err != nil {
		return ctrl.Result{}, err
	}
	begun := r.now()
	version, err := groupstatus.Apply(ctx, r.client, fieldManager, group, status)
	switch {
	case apierrors.IsConflict(err):
		// Another service has written meanwhile, and its part must not be lost.
		return ctrl.Result{RequeueAfter: behindDelay}, nil
	case err != nil:
		return ctrl.Result{}, err
	}
	r.wrote(req.Name, r.now().Sub(begun), version)
	return ctrl.Result{RequeueAfter: again}, nil
}

func (r *groups) observe(ctx context.Context, group *v1alpha1.ApplicationGroup) (observe.World, error) {
	w := observe.World{Group: group, Now: r.now()}
	owned := client.MatchingLabels{v1alpha1.LabelOwner: v1alpha1.Shorten(group.Name, v1alpha1.MaxLabel)}
	var wfs wfv1.WorkflowList
	if err := r.client.List(ctx, &wfs, owned, client.InNamespace(r.namespace)); err != nil {
		return w, fmt.Errorf("listing the workflows of group %s: %w", group.Name, err)
	}
	var broken error
	for i := range wfs.Items {
		wf, err := unpacked(&wfs.Items[i])
		broken = errors.Join(broken, err)
		if err == nil {
			w.Workflows = append(w.Workflows, wf)
		}
	}
	var hrs helmv2.HelmReleaseList
	if err := r.client.List(ctx, &hrs, owned); err != nil {
		return w, fmt.Errorf("listing the releases of group %s: %w", group.Name, err)
	}
	for i := range hrs.Items {
		w.Releases = append(w.Releases, &hrs.Items[i])
	}
	return w, broken
}

// wait is how long details of a group are held back.
func (r *groups) wait(group string) time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	last := r.last[group]
	return min(max(detailsDelay, detailsShare*last.took), detailsMost) - r.now().Sub(last.at)
}

// behind reports whether the informer has yet to show what this process has written.
func (r *groups) behind(group *v1alpha1.ApplicationGroup) (bool, error) {
	r.mu.Lock()
	last := r.last[group.Name]
	r.mu.Unlock()
	if last.version == "" {
		return false, nil
	}
	order, err := resourceversion.CompareResourceVersion(group.ResourceVersion, last.version)
	if err != nil {
		return false, fmt.Errorf("comparing the versions of group %s: %w", group.Name, err)
	}
	return order < 0, nil
}

func (r *groups) forget(group string) {
	r.held.Forget(group)
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.last, group)
}

func (r *groups) wrote(group string, took time.Duration, version string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.last[group] = written{at: r.now(), took: took, version: version}
}
