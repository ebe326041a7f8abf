// Package executor runs the nodes of workflows: it writes and deletes HelmReleases
// when Argo activates their nodes, runs Jobs, waits for objects, and settles the
// nodes in Argo when that is done. It decides no order: that is the workflow's. A
// release is begun as soon as Argo would activate its node if it knew what is done.
//
// Every event that it handles is only a wake-up for one workflow, at which it
// looks anew; what it decides is in package execute. RunPod does the same for one
// release in a process of its own.
package executor

import (
	"context"
	"errors"
	"fmt"
	"time"

	wfv1 "github.com/argoproj/argo-workflows/v3/pkg/apis/workflow/v1alpha1"
	helmv2 "github.com/fluxcd/helm-controller/api/v2"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/pflag"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/manager"

	"orkestra.dev/api/v1alpha1"
	"orkestra.dev/pkg/events"
	"orkestra.dev/pkg/service"
)

// consumer is our name in the topology.
const consumer = "executor"

// options are the flags that only the executor has.
type options struct {
	workers int
	resync  time.Duration
	early   bool
}

// New is the service.
func New() service.Service {
	o := &options{}
	return service.Service{
		Name:  "executor",
		Short: "Runs the release nodes of workflows",
		Long: `The executor applies and deletes the HelmReleases of the nodes that Argo
activates, as many at a time as the workflow's parallelism allows, and settles the
nodes when helm-controller is done with them. It does not wait for Argo where it sees
itself that all that comes before a release is done (--early-start). It runs the Jobs of the steps between
them, and waits for what they wait for. Replicas share the work.

"orkestra-executor run" does the same for one HelmRelease, in a pod of a workflow:
see orkestra-executor run --help.`,
		Example: "  orkestra-executor --nats-url nats://nats:4222 --workers 32",
		AddFlags: func(fs *pflag.FlagSet) {
			fs.IntVar(&o.workers, "workers", 16, "events handled at a time")
			fs.DurationVar(&o.resync, "resync", 10*time.Second, "how often running workflows are looked at without an event")
			fs.BoolVar(&o.early, "early-start", true, "begin a release when its parents are done, without waiting for Argo to activate its node")
		},
		Validate: func() error {
			if o.workers < 1 {
				return fmt.Errorf("--workers %d: want 1 or more", o.workers)
			}
			if o.resync < time.Second {
				return fmt.Errorf("--resync %s: want 1s or more", o.resync)
			}
			return nil
		},
		Schemes: []func(*runtime.Scheme) error{v1alpha1.AddToScheme, wfv1.AddToScheme, helmv2.AddToScheme},
		Cache:   cacheOptions,
		// Workflows are read live, to fence what is done; what was heard of them the informer is asked for by name.
		Uncached: []client.Object{&wfv1.Workflow{}, &corev1.Secret{}},
		Setup:    o.setup,
	}
}

// cacheOptions: of the releases that Orkestra made, what Next looks at, and the workflows that
// have not ended.
func cacheOptions(namespace string) cache.Options {
	return cache.Options{
		DefaultTransform: cache.TransformStripManagedFields(),
		ByObject: map[client.Object]cache.ByObject{
			&wfv1.Workflow{}: {
				Namespaces:            map[string]cache.Config{namespace: {LabelSelector: unfinished()}},
				UnsafeDisableDeepCopy: new(true),
			},
			&helmv2.HelmRelease{}: {
				Label:     labels.SelectorFromSet(labels.Set{v1alpha1.LabelHeritage: v1alpha1.Heritage}),
				Transform: slim,
			},
		},
	}
}

// slim leaves out what is large and not looked at: the values above all.
func slim(object any) (any, error) {
	if hr, ok := object.(*helmv2.HelmRelease); ok {
		hr.ManagedFields = nil
		hr.Spec.Values = nil
		hr.Spec.PostRenderers = nil
		hr.Status.History = nil
		hr.Status.Inventory = nil
	}
	return object, nil
}

func (o *options) setup(ctx context.Context, e *service.Env) error {
	// The informers are made now, so that the service is ready when they are in step.
	namespaces, groups := &metav1.PartialObjectMetadata{}, &metav1.PartialObjectMetadata{}
	namespaces.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("Namespace"))
	groups.SetGroupVersionKind(v1alpha1.GroupVersion.WithKind(v1alpha1.Kind))
	for _, kind := range []client.Object{&helmv2.HelmRelease{}, &wfv1.Workflow{}, namespaces, groups} {
		if _, err := e.Manager.GetCache().GetInformer(ctx, kind, cache.BlockUntilSynced(false)); err != nil {
			return fmt.Errorf("watching %T: %w", kind, err)
		}
	}
	actions := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "orkestra_executor_actions_total",
		Help: "Releases applied and deleted, Jobs run, values prepared, and nodes settled.",
	}, []string{"action"})
	if err := e.Registerer.Register(actions); err != nil {
		return fmt.Errorf("registering metrics: %w", err)
	}
	plans := newPlans(e.Manager.GetAPIReader())
	w := &writer{
		reader: &reader{
			cached:    e.Manager.GetClient(),
			live:      e.Manager.GetAPIReader(),
			namespace: e.Namespace,
			plans:     plans,
			recent:    newRecent(e.Manager.GetCache(), e.Namespace, time.Now),
			now:       time.Now,
			early:     o.early,
		},
		client: e.Manager.GetClient(),
		log:    e.Log,
		count:  func(action string) { actions.WithLabelValues(action).Inc() },
	}
	wakes := newWakes(w.look)
	w.later = newPostponed(ctx, wakes, e.Log).look
	own := newOwn(ctx, wakes.do, e.Log)
	w.began = own.began
	if err := own.watch(ctx, e.Manager.GetCache()); err != nil {
		return err
	}
	if err := w.reader.recent.watch(ctx, e.Manager.GetCache()); err != nil {
		return err
	}
	r := &resync{
		live: e.Manager.GetAPIReader(), client: e.Manager.GetClient(), reader: w.reader, now: time.Now,
		namespace: e.Namespace, every: o.resync, plans: plans, own: own, wakes: wakes, log: e.Log,
	}
	if err := e.Manager.Add(manager.RunnableFunc(r.run)); err != nil {
		return fmt.Errorf("adding the resync: %w", err)
	}
	return e.Consume(consumer, o.workers, func(ctx context.Context, f events.Fact) ([]events.Fact, error) {
		wake, ok := wakeOf(f)
		if !ok || own.answered(ctx, f) {
			return nil, nil
		}
		if err := w.reader.await(ctx, wake); err != nil {
			return nil, err
		}
		return nil, carryOn(f, wake.task, wakes.do(ctx, wake))
	})
}

// ignoreEnded: a look at what has ended meanwhile has nothing to do, and what is
// waited for is no failure.
func ignoreEnded(err error) error {
	if open, ok := errors.AsType[*stillOpen](err); ok {
		err = open.rest
	}
	if events.IsSuperseded(err) || errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}
