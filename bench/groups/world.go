package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/wait"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"orkestra.dev/api/v1alpha1"
	"orkestra.dev/bench/loopback"
	"orkestra.dev/bench/proc"
	"orkestra.dev/local/stack"
	"orkestra.dev/services/stager/archive"
)

// patience with one group.
const patience = 20 * time.Minute

type world struct {
	stack  *stack.Stack
	client client.Client
	// charts is where the one chart comes from.
	charts      string
	closeCharts func() error
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
	config, err := w.stack.RESTConfig()
	if err != nil {
		return nil, err
	}
	config.QPS = -1
	scheme := runtime.NewScheme()
	if err := errors.Join(v1alpha1.AddToScheme(scheme), corev1.AddToScheme(scheme)); err != nil {
		return nil, err
	}
	if w.client, err = client.New(config, client.Options{Scheme: scheme}); err != nil {
		return nil, fmt.Errorf("making a client: %w", err)
	}
	w.charts, w.closeCharts, err = serveChart()
	return w, err
}

func (w *world) close(ctx context.Context) error {
	var errs []error
	if w.closeCharts != nil {
		errs = append(errs, w.closeCharts())
	}
	return errors.Join(append(errs, w.stack.Down(ctx, true))...)
}

// serveChart is a repository with one chart of one ConfigMap.
func serveChart() (url string, closing func() error, err error) {
	data, err := archive.Write("small", []archive.File{
		{Name: "Chart.yaml", Data: []byte("apiVersion: v2\nname: small\nversion: 1.0.0\n")},
		{Name: "values.yaml", Data: []byte("message: none\n")},
		{Name: "templates/configmap.yaml", Data: []byte("apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: {{ .Release.Name }}\ndata:\n  message: {{ .Values.message | quote }}\n")},
	})
	if err != nil {
		return "", nil, fmt.Errorf("packing the chart: %w", err)
	}
	files := map[string][]byte{
		"/small-1.0.0.tgz": data,
		"/index.yaml": []byte("apiVersion: v1\nentries:\n  small:\n  - {apiVersion: v2, name: small, version: 1.0.0, digest: " +
			strings.TrimPrefix(archive.Digest(data), "sha256:") + ", urls: [small-1.0.0.tgz]}\n"),
	}
	return loopback.Serve(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if data, ok := files[r.URL.Path]; ok {
			http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(data))
			return
		}
		http.NotFound(w, r)
	}))
}

// grow rolls groups out, and reads all memory now and then.
func (w *world) grow(ctx context.Context, o options) (*report, error) {
	r := &report{Groups: o.groups, Applications: o.applications, InFlight: o.inFlight, Began: time.Now().UTC()}
	read := func(groups int) error {
		reading, err := w.read(ctx)
		if err != nil {
			return err
		}
		reading.Groups, reading.Seconds = groups, time.Since(r.Began).Seconds()
		r.Readings = append(r.Readings, reading)
		fmt.Fprintf(os.Stderr, "%4d groups after %s: %s\n", groups, time.Since(r.Began).Round(time.Second), reading)
		return nil
	}
	if err := pause(ctx, o.rest); err != nil {
		return nil, err
	}
	if err := read(0); err != nil {
		return nil, err
	}
	for first := 0; first < o.groups; first += o.every {
		last := min(first+o.every, o.groups)
		if err := w.rollOut(ctx, o, first, last); err != nil {
			return nil, err
		}
		if err := read(last); err != nil {
			return nil, err
		}
	}
	if err := pause(ctx, o.rest); err != nil {
		return nil, err
	}
	return r, read(o.groups)
}

// rollOut the groups from first to last, last not among them.
func (w *world) rollOut(ctx context.Context, o options, first, last int) error {
	work, ctx := errgroup.WithContext(ctx)
	work.SetLimit(o.inFlight)
	for n := first; n < last; n++ {
		work.Go(func() error {
			name := fmt.Sprintf("group-%d", n)
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
		a.Spec.Chart = v1alpha1.ChartRef{URL: w.charts, Name: "small", Version: "1.0.0"}
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

// read the memory of every service, the larger of its replicas, and of what it works with.
func (w *world) read(ctx context.Context) (reading, error) {
	r := reading{Resident: map[string]float64{}, Own: map[string]float64{}}
	pids, err := w.stack.PIDs(ctx)
	if err != nil {
		return r, err
	}
	for process, pid := range pids {
		resident, own, err := proc.MiB(pid)
		if err != nil {
			return r, fmt.Errorf("%s: %w", process, err)
		}
		name := strings.TrimSuffix(process, "-2")
		if slices.Contains(shown, name) {
			r.Resident[name], r.Own[name] = max(r.Resident[name], resident), max(r.Own[name], own)
		}
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
