// Command webhooks measures what intake bears of webhooks: as many as a busy platform has,
// each news to a group, and then a thousand a second for ten seconds, with one replica and
// with two, beside a bare handler that stores as many bytes in the same stream. The API
// server and NATS are real ones, in a stack of their own.
// It fails where a delivery was answered with 2xx and the stream does not have it.
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
	"time"

	"github.com/go-logr/logr"
	ctrl "sigs.k8s.io/controller-runtime"

	"orkestra.dev/local/stack"
)

// options of a run.
type options struct {
	root, dir, out, pprof string
	// rate of deliveries a second, for seconds.
	rate, seconds int
	// steadyRate of deliveries a second, for steadySeconds, each of which is news to a group.
	steadyRate, steadySeconds int
	// groups to which a delivery of the mix is news, spread over the run.
	groups int
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	ctrl.SetLogger(logr.Discard())
	var o options
	var bare string
	var size int
	flag.StringVar(&o.root, "root", ".", "the checkout")
	flag.StringVar(&o.dir, "dir", "", "folder of the stack (default: .local/bench of the checkout)")
	flag.StringVar(&o.out, "out", "docs/benchmarks", "folder for webhooks.md and webhooks.json")
	flag.StringVar(&o.pprof, "pprof", "", "folder for CPU profiles of intake; empty is none")
	flag.IntVar(&o.rate, "rate", 1000, "deliveries a second")
	flag.IntVar(&o.seconds, "seconds", 10, "how long they come")
	flag.IntVar(&o.steadyRate, "steady-rate", 50, "deliveries a second of a busy day, each news to a group")
	flag.IntVar(&o.steadySeconds, "steady-seconds", 20, "how long those come")
	flag.IntVar(&o.groups, "groups", 200, "how many of the deliveries are news to a group")
	flag.StringVar(&bare, "bare", "", "be the bare handler, on this address")
	flag.IntVar(&size, "size", 0, "how many bytes the bare handler stores")
	flag.Parse()
	var err error
	if bare != "" {
		err = serveBare(ctx, bare, size, os.Getenv)
	} else {
		err = bench(ctx, o)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func bench(ctx context.Context, o options) (err error) {
	if o.dir == "" {
		o.dir = filepath.Join(o.root, ".local", "bench")
	}
	s, err := stack.Up(ctx, stack.Options{Root: o.root, Dir: o.dir, Log: os.Stderr})
	if err != nil {
		return fmt.Errorf("bringing up the stack: %w", err)
	}
	defer func() { err = errors.Join(err, s.Down(context.WithoutCancel(ctx), true)) }()
	w, err := newWorld(ctx, s, o)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.close()) }()

	r := report{Rate: o.rate, Seconds: o.seconds, SteadyRate: o.steadyRate, SteadySeconds: o.steadySeconds, Groups: o.groups, Made: time.Now().UTC().Truncate(time.Minute)}
	for _, replicas := range []int{1, 2} {
		runs, err := w.measureIntake(ctx, replicas)
		if err != nil {
			return fmt.Errorf("%d replicas: %w", replicas, err)
		}
		r.Runs = append(r.Runs, runs...)
	}
	peer, err := w.measureBare(ctx, r.Runs[0].EventBytes)
	if err != nil {
		return fmt.Errorf("the bare handler: %w", err)
	}
	r.Runs = append(r.Runs, peer...)
	if err := r.write(o.out); err != nil {
		return err
	}
	for _, run := range r.Runs {
		if run.Lost > 0 {
			return fmt.Errorf("%s, %s: %d deliveries were answered with 202, and the stream does not have them", run.Contender, run.Scenario, run.Lost)
		}
	}
	return nil
}
