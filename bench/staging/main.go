// Command staging measures how long the stager takes for a group of many charts: cold,
// again, and again after a restart. It runs the real stager against a real API server,
// source-controller, ChartMuseum and NATS, in a stack of its own, and counts what is
// asked of the chart repository and of ChartMuseum. Then, with all services, it takes the
// way of a group to its first release apart.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/go-logr/logr"
	ctrl "sigs.k8s.io/controller-runtime"

	"orkestra.dev/local/stack"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	ctrl.SetLogger(logr.Discard())
	root := flag.String("root", ".", "the checkout")
	charts := flag.Int("charts", 200, "how many charts the group has")
	size := flag.Int("size", 100<<10, "size of each packed chart, in bytes")
	repeats := flag.Int("repeats", 3, "how often each way to a first release is measured")
	out := flag.String("out", "docs/benchmarks", "folder for staging.md and staging.json")
	flag.Parse()
	if err := bench(ctx, *root, *out, *charts, *size, *repeats); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func bench(ctx context.Context, root, out string, charts, size, repeats int) (err error) {
	o := stack.Options{Root: root, Dir: filepath.Join(root, ".local", "bench"), Log: os.Stderr}
	s, err := stack.Up(ctx, o)
	if err != nil {
		return fmt.Errorf("bringing up the stack: %w", err)
	}
	defer func() { err = errors.Join(err, s.Down(context.WithoutCancel(ctx), true)) }()
	if err := stack.BuildServices(ctx, root, s.Bin, os.Stderr); err != nil {
		return fmt.Errorf("building the stager: %w", err)
	}
	r := report{Charts: charts, ChartBytes: size}
	if r.Phases, err = measureStager(ctx, s, charts, size); err != nil {
		return err
	}
	o.Services = true
	if _, err := stack.Up(ctx, o); err != nil {
		return fmt.Errorf("starting the services: %w", err)
	}
	if r.Paths, err = measurePaths(ctx, s, measured, repeats); err != nil {
		return err
	}
	return r.write(out)
}

// measureStager stages one group with a stager of the benchmark's own.
func measureStager(ctx context.Context, s *stack.Stack, charts, size int) (phases []phase, err error) {
	w, err := newWorld(ctx, s, charts, size)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, w.close()) }()

	for _, p := range []struct {
		name          string
		fetch, pushed int
	}{
		{"cold", charts, charts},
		{"again", 0, 0},
		{"again, by a stager that was just started", charts, 0},
	} {
		if p.fetch > 0 { // nothing is in its memory
			if err := w.startStager(ctx); err != nil {
				return nil, err
			}
		}
		m, err := w.stage(ctx, p.name)
		if err != nil {
			return nil, fmt.Errorf("staging %s: %w", p.name, err)
		}
		if m.Downloads != p.fetch || m.Pushes != p.pushed {
			return nil, fmt.Errorf("staging %s took %d downloads and %d pushes, it should take %d and %d", p.name, m.Downloads, m.Pushes, p.fetch, p.pushed)
		}
		phases = append(phases, m)
	}
	return phases, nil
}
