package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	helmv2 "github.com/fluxcd/helm-controller/api/v2"
	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/wait"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"orkestra.dev/api/v1alpha1"
	"orkestra.dev/bench/proc"
	"orkestra.dev/bench/shelf"
	"orkestra.dev/local/stack"
	"orkestra.dev/services/stager/archive"
)

const (
	// patience with one group.
	patience = 20 * time.Minute
	// chart is what every release installs: one ConfigMap.
	chart = "small"
)

type world struct {
	stack  *stack.Stack
	client client.WithWatch
	// charts is where the one chart comes from.
	charts *shelf.Shelf
}

// newWorld brings a stack up. What it has started is taken down again where that fails.
func newWorld(ctx context.Context, o options) (_ *world, err error) {
	w := &world{}
	so := stack.Options{Root: o.root, Dir: o.dir, Services: true, Log: os.Stderr}
	// What an interrupted Up has started is found by Open.
	if w.stack, err = stack.Open(so); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, w.close(context.WithoutCancel(ctx)))
		}
	}()
	if _, err := stack.Up(ctx, so); err != nil {
		return nil, fmt.Errorf("bringing up the stack: %w", err)
	}
	go w.stack.Tend(ctx)
	config, err := w.stack.RESTConfig()
	if err != nil {
		return nil, err
	}
	config.QPS = -1
	scheme := runtime.NewScheme()
	if err := errors.Join(v1alpha1.AddToScheme(scheme), corev1.AddToScheme(scheme), helmv2.AddToScheme(scheme)); err != nil {
		return nil, err
	}
	if w.client, err = client.NewWithWatch(config, client.Options{Scheme: scheme}); err != nil {
		return nil, fmt.Errorf("making a client: %w", err)
	}
	w.charts, err = shelf.New(map[string][]archive.File{chart: shelf.Chart(chart, "")}, func(string) {})
	return w, err
}

func (w *world) close(ctx context.Context) error {
	var errs []error
	if w.charts != nil {
		errs = append(errs, w.charts.Close())
	}
	return errors.Join(append(errs, w.stack.Down(ctx, true))...)
}

// grow rolls groups out, and reads all memory now and then.
func (w *world) grow(ctx context.Context, o options) (_ *report, err error) {
	r := &report{Asked: o.groups, Within: o.within, Rest: o.rest, Every: o.every, Applications: o.applications, InFlight: o.inFlight, Helm: o.helm, Began: time.Now().UTC()}
	read := func(groups int, what string) error {
		reading, err := w.read(ctx)
		if err != nil {
			return err
		}
		reading.What, reading.Groups, reading.Seconds = what, groups, time.Since(r.Began).Seconds()
		r.Readings = append(r.Readings, reading)
		fmt.Fprintf(os.Stderr, "%s after %s, %d groups: %s\n", what, time.Since(r.Began).Round(time.Second), groups, reading)
		return nil
	}
	rested := func(groups int, what string) error {
		if err := pause(ctx, o.rest); err != nil {
			return err
		}
		return read(groups, what)
	}
	if err := rested(0, "idle"); err != nil {
		return nil, err
	}
	first := 0
	if !o.helm {
		if err := w.rollOut(ctx, o, 0, 1); err != nil {
			return nil, err
		}
		var end func() error
		if ctx, end, err = w.standIn(ctx, groupName(0)); err != nil {
			return nil, err
		}
		defer func() { err = errors.Join(err, end()) }()
		first = 1
	}
	for first < o.groups && (o.within == 0 || time.Since(r.Began) < o.within) {
		last := min(first-first%o.every+o.every, o.groups)
		if err := w.rollOut(ctx, o, first, last); err != nil {
			return nil, err
		}
		if err := read(last, "rolled out"); err != nil {
			return nil, err
		}
		first = last
	}
	r.Groups = first
	if err := rested(first, "at rest"); err != nil {
		return nil, err
	}
	if err := w.restart(ctx); err != nil {
		return nil, err
	}
	return r, rested(first, "started anew")
}

// restart our services, which then read all that there is.
func (w *world) restart(ctx context.Context) error {
	for _, name := range ours {
		p, err := w.stack.Process(name)
		if err != nil {
			return err
		}
		if err := p.Stop(ctx); err != nil {
			return fmt.Errorf("stopping %s: %w", name, err)
		}
		if err := p.Start(ctx); err != nil {
			return fmt.Errorf("starting %s: %w", name, err)
		}
	}
	return nil
}

func groupName(n int) string { return fmt.Sprintf("group-%d", n) }

// rollOut the groups from first to last, last not among them.
func (w *world) rollOut(ctx context.Context, o options, first, last int) error {
	work, ctx := errgroup.WithContext(ctx)
	work.SetLimit(o.inFlight)
	for n := first; n < last; n++ {
		work.Go(func() error {
			name := groupName(n)
			if err := w.client.Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}); err != nil {
				return fmt.Errorf("creating namespace %s: %w", name, err)
			}
			if err := w.client.Create(ctx, w.group(name, o.applications)); err != nil {
				return fmt.Errorf("creating group %s: %w", name, err)
			}
			return w.awaitReady(ctx, name)
		})
	}
	return work.Wait()
}

// group of as many applications, the first half of them in a chain.
func (w *world) group(name string, applications int) *v1alpha1.ApplicationGroup {
	g := &v1alpha1.ApplicationGroup{ObjectMeta: metav1.ObjectMeta{Name: name}}
	for n := range applications {
		a := v1alpha1.Application{DAG: v1alpha1.DAG{Name: fmt.Sprintf("app-%d", n)}}
		if n > 0 && n < applications/2 {
			a.Dependencies = []string{fmt.Sprintf("app-%d", n-1)}
		}
		a.Spec.Chart = v1alpha1.ChartRef{URL: w.charts.URL, Name: chart, Version: shelf.Version}
		a.Spec.Release = v1alpha1.Release{TargetNamespace: name, Interval: metav1.Duration{Duration: time.Hour}}
		g.Spec.Applications = append(g.Spec.Applications, a)
	}
	return g
}

func (w *world) awaitReady(ctx context.Context, name string) error {
	g := &v1alpha1.ApplicationGroup{}
	err := wait.PollUntilContextTimeout(ctx, 250*time.Millisecond, patience, false, func(ctx context.Context) (bool, error) {
		err := w.client.Get(ctx, client.ObjectKey{Name: name}, g)
		return apimeta.IsStatusConditionTrue(g.Status.Conditions, v1alpha1.ConditionReady), err
	})
	if err != nil {
		return fmt.Errorf("group %s is not ready: %w", name, err)
	}
	return nil
}

// read the memory of every service, and of what they work with.
func (w *world) read(ctx context.Context) (reading, error) {
	r := reading{Resident: map[string]float64{}, Own: map[string]float64{}, Peak: map[string]float64{}}
	for _, name := range shown {
		p, err := w.stack.Process(name)
		if err != nil {
			return r, err
		}
		status := p.Status(ctx)
		if name == helmController && status.PID == 0 {
			continue
		}
		if status.Err != nil {
			return r, fmt.Errorf("%s is not healthy: %w", name, status.Err)
		}
		resident, own, err := proc.MiB(status.PID)
		if err != nil {
			return r, fmt.Errorf("%s: %w", name, err)
		}
		peak, err := proc.PeakMiB(status.PID)
		if err != nil {
			return r, fmt.Errorf("%s: %w", name, err)
		}
		r.Resident[name], r.Own[name], r.Peak[name] = resident, own, peak
	}
	return r, nil
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}
