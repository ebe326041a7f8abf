package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	helmv2 "github.com/fluxcd/helm-controller/api/v2"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"orkestra.dev/api/v1alpha1"
	"orkestra.dev/bench/rollout/figures"
	"orkestra.dev/bench/rollout/shape"
	"orkestra.dev/bench/shelf"
	"orkestra.dev/local/stack"
	"orkestra.dev/pkg/events"
)

// patience with one phase of one contender.
const patience = 20 * time.Minute

// world is what all contenders run in.
type world struct {
	stack   *stack.Stack
	options stack.Options
	// up is when all of the stack was.
	up time.Time
	// controller are the flags that helm-controller runs with now.
	controller []string
	config     *rest.Config
	client     client.Client
	bus        *events.Bus
	meter      *meter
	watch      *watch
	stopWatch  context.CancelFunc
	shelf      *shelf.Shelf
}

// argsOf are the flags of servers, and those of our own services.
func argsOf(all map[string][]string) (servers, services map[string][]string) {
	servers, services = map[string][]string{}, map[string][]string{}
	for name, args := range all {
		if slices.Contains(stack.Services, name) {
			services[name] = args
		} else {
			servers[name] = args
		}
	}
	return servers, services
}

// newWorld brings a stack up. What it has started is taken down again where that fails.
func newWorld(ctx context.Context, o options) (_ *world, err error) {
	w := &world{options: stack.Options{Root: o.root, Dir: filepath.Join(o.root, ".local", "bench"), Services: true,
		Node: o.node, RequeueTime: o.argoRequeue, Log: os.Stderr}}
	w.options.ServerArgs, w.options.ServiceArgs = argsOf(o.serverArgs)
	// What an interrupted Up has started is found by Open.
	if w.stack, err = stack.Open(w.options); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, w.close(context.WithoutCancel(ctx)))
		}
	}()
	if _, err := stack.Up(ctx, w.options); err != nil {
		return nil, fmt.Errorf("bringing up the stack: %w", err)
	}
	go w.stack.Tend(ctx)
	w.up = time.Now()
	if slices.Contains(o.contenders, figures.Helmfile) {
		if err := buildHelmfile(ctx, o.root, w.stack.Bin); err != nil {
			return nil, err
		}
	}
	if w.config, err = w.stack.RESTConfig(); err != nil {
		return nil, err
	}
	scheme := runtime.NewScheme()
	if err := errors.Join(v1alpha1.AddToScheme(scheme), helmv2.AddToScheme(scheme), corev1.AddToScheme(scheme)); err != nil {
		return nil, err
	}
	if w.client, err = client.New(w.config, client.Options{Scheme: scheme}); err != nil {
		return nil, fmt.Errorf("making a client: %w", err)
	}
	env, err := w.stack.Env()
	if err != nil {
		return nil, err
	}
	getenv := func(name string) string { return env[name] }
	if w.bus, err = events.Connect(ctx, events.Options{Source: "orkestra://bench/rollout"}.FromEnvironment(getenv)); err != nil {
		return nil, err
	}
	if w.meter, err = newMeter(w.stack, w.bus, w.config); err != nil {
		return nil, err
	}
	if w.shelf, err = newShelf(o.graphs); err != nil {
		return nil, err
	}
	watching, stop := context.WithCancel(ctx)
	w.stopWatch = stop
	w.watch, err = newWatch(watching, w.config)
	return w, err
}

func (w *world) close(ctx context.Context) error {
	var errs []error
	if w.stopWatch != nil {
		w.stopWatch()
	}
	if w.bus != nil {
		errs = append(errs, w.bus.Close())
	}
	if w.shelf != nil {
		errs = append(errs, w.shelf.Close())
	}
	errs = append(errs, w.stack.Down(ctx, true), os.RemoveAll(filepath.Join(w.options.Dir, "helmfile")))
	return errors.Join(errs...)
}

// runWith restarts helm-controller where it has other flags; our services stay as they
// are.
func (w *world) runWith(ctx context.Context, flags []string) error {
	if slices.Equal(flags, w.controller) {
		return nil
	}
	o := w.options
	o.Services, o.Log = false, nil
	o.ServerArgs = map[string][]string{}
	for server, args := range w.options.ServerArgs {
		o.ServerArgs[server] = args
	}
	o.ServerArgs["helm-controller"] = slices.Concat(o.ServerArgs["helm-controller"], flags)
	if _, err := stack.Up(ctx, o); err != nil {
		return fmt.Errorf("restarting helm-controller with %s: %w", strings.Join(flags, " "), err)
	}
	w.controller = flags
	return nil
}

// newRollout makes what an entrant runs in.
func (w *world) newRollout(ctx context.Context, e entrant, g shape.Graph, repeat int) (*rollout, error) {
	if err := w.runWith(ctx, e.controller); err != nil {
		return nil, err
	}
	namespace := fmt.Sprintf("%s-%s-%d", e.name, strings.ReplaceAll(g.Name(), ":", "-"), repeat)
	if err := w.client.Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}}); err != nil {
		return nil, fmt.Errorf("creating namespace %s: %w", namespace, err)
	}
	r := &rollout{world: w, track: newTrack(namespace, g, e.byRecords), entrant: e,
		programs: map[string]float64{}, peaks: map[string]float64{}}
	w.watch.follow(r.track)
	return r, e.prepare(ctx, r)
}

// one entrant on one graph: install, change, again.
func (w *world) one(ctx context.Context, e entrant, g shape.Graph, repeat int) (out []figures.Run, err error) {
	r, err := w.newRollout(ctx, e, g, repeat)
	if err != nil {
		return nil, err
	}
	defer w.watch.unfollow(r.track)
	for _, p := range []struct {
		phase figures.Phase
		do    func(context.Context) (bool, error)
	}{
		{figures.Install, func(ctx context.Context) (bool, error) { return true, e.install(ctx, r) }},
		{figures.Change, func(ctx context.Context) (bool, error) { return true, e.change(ctx, r) }},
		{figures.Again, func(ctx context.Context) (bool, error) { return e.again(ctx, r) }},
	} {
		run, err := r.measure(ctx, repeat, p.phase, p.do)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", p.phase, err)
		}
		if run == nil {
			continue
		}
		if p.phase == figures.Install && (e.name == figures.Orkestra || e.name == figures.Pods) {
			if run.WorkflowBytes, err = w.workflowBytes(ctx, r.namespace); err != nil {
				return nil, err
			}
		}
		out = append(out, *run)
	}
	return out, r.takeAway(ctx)
}

// takeAway what the rollout has made.
func (r *rollout) takeAway(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, patience, fmt.Errorf("it was not done within %s", patience))
	defer cancel()
	if err := r.entrant.clean(ctx, r); err != nil {
		return err
	}
	return r.wipe(ctx)
}
