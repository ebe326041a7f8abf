package watcher

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	wfv1 "github.com/argoproj/argo-workflows/v3/pkg/apis/workflow/v1alpha1"
	helmv2 "github.com/fluxcd/helm-controller/api/v2"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	clientevents "k8s.io/client-go/tools/events"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"orkestra.dev/api/v1alpha1"
	"orkestra.dev/pkg/events"
	"orkestra.dev/pkg/service"
	"orkestra.dev/pkg/service/groupstatus"
	"orkestra.dev/services/watcher/observe"
)

const (
	// fieldManager under which the status is written.
	fieldManager = "orkestra-watcher"

	// detailsDelay is how long details are collected before they are written: a
	// group of a thousand releases is a large object.
	detailsDelay = time.Second

	// The Kubernetes events of the original.
	eventSuccess = "ReconcileSuccess"
	eventError   = "ReconcileError"
	eventAction  = "Reconcile"
)

// groups writes the status of groups.
type groups struct {
	client    client.Client
	namespace string
	recorder  clientevents.EventRecorder
	now       func() time.Time

	mu   sync.Mutex
	last map[string]written // by group
}

// written is what this process wrote of a group last. The informer may be behind it.
type written struct {
	at time.Time
	// ready is the turn of Ready that was announced.
	ready turn
}

// turn tells one turn of Ready from another.
type turn struct {
	rollout events.Rollout
	status  metav1.ConditionStatus
	reason  string
}

func setupGroups(e *service.Env, workers int) error {
	r := &groups{
		client: e.Manager.GetClient(), namespace: e.Namespace,
		recorder: e.Manager.GetEventRecorder(fieldManager), now: time.Now, last: map[string]written{},
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
		old.Annotations[v1alpha1.AnnotationRequestedAt] != group.Annotations[v1alpha1.AnnotationRequestedAt] {
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
	case observe.News:
	}
	if err := groupstatus.Apply(ctx, r.client, fieldManager, group, status); err != nil {
		return ctrl.Result{}, err
	}
	r.announce(group, status)
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
	return detailsDelay - r.now().Sub(r.last[group].at)
}

func (r *groups) forget(group string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.last, group)
}

// wrote notes a write, and reports whether it is the first that says so of Ready.
func (r *groups) wrote(group *v1alpha1.ApplicationGroup, now turn) (first bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	first = r.last[group.Name].ready != now
	r.last[group.Name] = written{at: r.now(), ready: now}
	before := apimeta.FindStatusCondition(group.Status.Conditions, v1alpha1.ConditionReady)
	return first && (before == nil || before.Status != now.status || before.Reason != now.reason ||
		before.ObservedGeneration != now.rollout.Generation)
}

// announce tells the turns of Ready as Kubernetes events.
func (r *groups) announce(group *v1alpha1.ApplicationGroup, status groupstatus.Status) {
	ready := apimeta.FindStatusCondition(status.Conditions, v1alpha1.ConditionReady)
	if ready == nil || !r.wrote(group, turn{groupstatus.RolloutOf(group), ready.Status, ready.Reason}) {
		return
	}
	switch {
	case ready.Status == metav1.ConditionTrue:
		r.recorder.Eventf(group, nil, corev1.EventTypeNormal, eventSuccess, eventAction, "%s", note(ready.Message))
	case ready.Status == metav1.ConditionFalse && ready.Reason != v1alpha1.ReasonTerminating:
		r.recorder.Eventf(group, nil, corev1.EventTypeWarning, eventError, eventAction, "%s", note(ready.Reason+": "+ready.Message))
	}
}

// note is a message as long as a Kubernetes event may have it.
func note(message string) string {
	const limit = 1024
	if len(message) <= limit {
		return message
	}
	return strings.ToValidUTF8(message[:limit-3], "") + "..."
}
