// Package watcher observes Workflows and HelmReleases, says what it sees as
// events, and sums it up in the status of the group. It changes nothing else.
//
// Replicas all watch and all say: what they say has the same ids, so that it is
// stored once, and they write the same status.
package watcher

import (
	"context"
	"fmt"
	"time"

	wfv1 "github.com/argoproj/argo-workflows/v3/pkg/apis/workflow/v1alpha1"
	helmv2 "github.com/fluxcd/helm-controller/api/v2"
	"github.com/spf13/pflag"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/selection"
	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"orkestra.dev/api/v1alpha1"
	"orkestra.dev/pkg/events"
	"orkestra.dev/pkg/service"
)

// sayer publishes facts.
type sayer func(ctx context.Context, facts ...events.Fact) error

// options are the flags that only the watcher has.
type options struct{ workers int }

// New is the service.
func New() service.Service {
	o := &options{}
	return service.Service{
		Name:  "watcher",
		Short: "Tells what becomes of workflows and releases",
		Long: `The watcher follows Argo's Workflows and Flux's HelmReleases, says what happens
to them as events, and writes the conditions of the groups that they belong to.
Replicas do the same work; what they say twice is stored once.`,
		Example: "  orkestra-watcher --nats-url nats://nats:4222",
		AddFlags: func(fs *pflag.FlagSet) {
			fs.IntVar(&o.workers, "workers", 8, "objects of each kind looked at at a time")
		},
		Validate: func() error {
			if o.workers < 1 {
				return fmt.Errorf("--workers %d: want 1 or more", o.workers)
			}
			return nil
		},
		Schemes: []func(*runtime.Scheme) error{v1alpha1.AddToScheme, wfv1.AddToScheme, helmv2.AddToScheme},
		Cache:   cacheOptions,
		Setup: func(_ context.Context, e *service.Env) error {
			for _, setup := range []func(*service.Env, int) error{setupWorkflows, setupReleases, setupGroups, setupMetrics} {
				if err := setup(e, o.workers); err != nil {
					return err
				}
			}
			return nil
		},
	}
}

// controllerOptions: after a failure a look is repeated within seconds, also when
// the bus was away for long.
func controllerOptions(workers int) controller.Options {
	return controller.Options{
		MaxConcurrentReconciles: workers,
		RateLimiter:             workqueue.NewTypedItemExponentialFailureRateLimiter[reconcile.Request](50*time.Millisecond, 5*time.Second),
	}
}

// cacheOptions: our workflows and releases, and of them what is looked at. They
// are large, and never changed here, so they are not copied for each look either.
func cacheOptions(namespace string) cache.Options {
	owned := labels.NewSelector()
	if has, err := labels.NewRequirement(v1alpha1.LabelOwner, selection.Exists, nil); err == nil {
		owned = owned.Add(*has)
	}
	return cache.Options{
		ByObject: map[client.Object]cache.ByObject{
			&v1alpha1.ApplicationGroup{}: {Transform: slim},
			&wfv1.Workflow{}: {
				Namespaces:            map[string]cache.Config{namespace: {LabelSelector: owned}},
				Transform:             slim,
				UnsafeDisableDeepCopy: new(true),
			},
			&helmv2.HelmRelease{}: {
				Label:                 labels.SelectorFromSet(labels.Set{v1alpha1.LabelHeritage: v1alpha1.Heritage}),
				Transform:             slim,
				UnsafeDisableDeepCopy: new(true),
			},
		},
	}
}
