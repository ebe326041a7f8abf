// Package compiler is the shell around the core in compile: when the charts of a
// group are staged, or a group is to go, it makes the Workflow, writes the plan that
// the executors follow, and submits both.
package compiler

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	wfv1 "github.com/argoproj/argo-workflows/v3/pkg/apis/workflow/v1alpha1"
	helmv2 "github.com/fluxcd/helm-controller/api/v2"
	"github.com/spf13/pflag"
	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"orkestra.dev/api/v1alpha1"
	"orkestra.dev/pkg/events"
	"orkestra.dev/pkg/service"
	"orkestra.dev/services/compiler/compile"
)

// consumer is the name of the compiler's consumer in events.Topology.
const consumer = "compiler"

type options struct {
	workers         int
	parallelism     int64
	executorImage   string
	executorAccount string
}

// New is the compiler as a service.
func New() service.Service {
	var o options
	return service.Service{
		Name:  "compiler",
		Short: "Make workflows of groups whose charts are staged",
		Long: `The compiler makes an Argo Workflow of an ApplicationGroup and its staged charts:
a DAG of applications, of the releases of each, and of the executors of those. What
is to be done at each node it writes into Secrets that the Workflow owns. A group
that is being deleted gets the reverse, and one whose rollout has failed a rollback to
its last good revision. A group that is as it should be already gets no workflow, and
one that is suspended has its workflow held.

The steps of a group with spec.executor: pod, and executors of type custom and keptn,
are pods of the workflow. Orkestra's own run --executor-image, which has the binary
orkestra-executor in its path; all run under --executor-service-account, in the
namespace of the workflows.

An older workflow of the group that still runs is stopped first. What cannot be
compiled is said in the condition Compiled. Any number of replicas may run side by
side.`,
		Example: `  # Against a cluster and a NATS server that listen on this machine
  orkestra-compiler --kubeconfig ~/.kube/config --nats-url nats://127.0.0.1:4222

  # Up to fifty releases of a group at a time
  orkestra-compiler --parallelism 50

  # Steps in pods, with the image that the installation's registry has
  orkestra-compiler --executor-image registry.example.com/orkestra-executor:v1`,
		AddFlags: func(fs *pflag.FlagSet) {
			fs.IntVar(&o.workers, "workers", 4, "groups that are compiled side by side")
			fs.Int64Var(&o.parallelism, "parallelism", compile.DefaultParallelism, "releases of one workflow that are in work at a time")
			fs.StringVar(&o.executorImage, "executor-image", compile.DefaultExecutorImage, "image of the pods of groups and applications with executor: pod")
			fs.StringVar(&o.executorAccount, "executor-service-account", compile.DefaultExecutorServiceAccount, "service account of the pods of workflows")
		},
		Validate: o.validate,
		Schemes:  []func(*runtime.Scheme) error{v1alpha1.AddToScheme, wfv1.AddToScheme, helmv2.AddToScheme},
		// Everything is read live: each read is a fence, or is once per rollout.
		Uncached: []client.Object{
			&v1alpha1.ApplicationGroup{}, &wfv1.Workflow{}, &helmv2.HelmRelease{}, &corev1.Secret{}, &corev1.ConfigMap{},
			&appsv1.ControllerRevision{}, &batchv1.Job{},
		},
		Setup: func(_ context.Context, e *service.Env) error { return o.setup(e) },
	}
}

func (o *options) validate() error {
	var errs []error
	if o.workers < 1 {
		errs = append(errs, fmt.Errorf("--workers %d: want at least 1", o.workers))
	}
	if o.parallelism < 1 {
		errs = append(errs, fmt.Errorf("--parallelism %d: want at least 1", o.parallelism))
	}
	if o.executorImage == "" {
		errs = append(errs, errors.New("--executor-image: name the image that runs steps in pods"))
	}
	for _, problem := range validation.IsDNS1123Subdomain(o.executorAccount) {
		errs = append(errs, fmt.Errorf("--executor-service-account %s: %s", o.executorAccount, problem))
	}
	return errors.Join(errs...)
}

func (o *options) setup(e *service.Env) error {
	c := &compiler{
		client: e.Manager.GetClient(),
		options: compile.Options{
			Namespace: e.Namespace, Parallelism: o.parallelism,
			ExecutorImage: o.executorImage, ExecutorServiceAccount: o.executorAccount,
		},
		patience: defaultPatience,
		log:      e.Log,
	}
	return e.Consume(consumer, o.workers, c.Handle)
}

// compiler handles the facts that call for a workflow.
type compiler struct {
	// client reads live.
	client  client.Client
	options compile.Options
	// patience is how long a handler waits for older workflows to stop, before it
	// asks to be called again.
	patience patience
	log      *slog.Logger
}

// Handle compiles on charts.staged, on group.deleting, and on rollout.failed what
// tries that again or undoes it; on group.suspended it holds what runs.
func (c *compiler) Handle(ctx context.Context, f events.Fact) ([]events.Fact, error) {
	switch p := f.Data.(type) {
	case events.ChartsStaged:
		return c.forward(ctx, f.Rollout, p.Applications)
	case events.GroupSuspended:
		return nil, c.suspended(ctx, f.Rollout)
	case events.GroupDeleting:
		return c.reverse(ctx, f.Rollout)
	case events.RolloutSucceeded:
		return nil, c.succeeded(ctx, f.Rollout, p)
	case events.RolloutFailed:
		return c.failed(ctx, f.Rollout, p)
	default:
		return nil, nil
	}
}
