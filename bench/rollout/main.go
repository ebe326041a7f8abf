// Command rollout measures how long groups of Helm releases that wait for each other
// take: with Orkestra, with Flux's dependsOn, with Helmfile, and with a perfect
// sequencer, which is the limit. All run on one stack of their own, against the same API
// server and helm-controller, in turns.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"maps"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/go-logr/logr"
	"k8s.io/klog/v2"
	ctrl "sigs.k8s.io/controller-runtime"

	"orkestra.dev/api/v1alpha1"
	"orkestra.dev/bench/rollout/figures"
	"orkestra.dev/bench/rollout/shape"
	"orkestra.dev/local/stack"
)

// options of the benchmark.
type options struct {
	root, out, guard, writeGuard string
	graphs, fluxGraphs, taken    []shape.Graph
	contenders                   []string
	node                         stack.Node
	repeat, large                int
	fluxRequeue, argoRequeue     time.Duration
	serverArgs                   map[string][]string
	command                      string
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	ctrl.SetLogger(logr.Discard())
	klog.SetLogger(logr.Discard())
	o, err := parse(os.Args[1:])
	if errors.Is(err, flag.ErrHelp) {
		return
	}
	if err == nil {
		err = bench(ctx, o)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

const (
	defaultCases = "chain:4,chain:10,bookinfo:6,fan:30,umbrella:31,ladder:40,ladder:100"
	quickCases   = "chain:10,bookinfo:6,ladder:20"
)

// parse flags.
func parse(args []string) (options, error) {
	o := options{serverArgs: map[string][]string{}, command: strings.TrimSpace("go run ./bench/rollout " + strings.Join(args, " "))}
	flags := flag.NewFlagSet("rollout", flag.ContinueOnError)
	quick := flags.Bool("quick", false, "small and short, for CI: "+quickCases+", Orkestra and the sequencer only; no report is written unless -out is given")
	cases := flags.String("cases", defaultCases, "<shape>:<releases>, separated by commas; the shapes are chain, fan, ladder, bookinfo and umbrella")
	fluxCases := flags.String("flux-cases", "chain:4", "the cases in which Flux runs with its default requeue: half a minute for each level, once")
	contenders := flags.String("contenders", strings.Join(anywhere(), ","), "who runs, separated by commas; "+figures.Pods+" wants -node "+string(stack.Containerd))
	flags.StringVar((*string)(&o.node), "node", string(stack.Simulated), "what plays the node: "+string(stack.Simulated)+", or, as root, "+string(stack.Containerd))
	flags.StringVar(&o.root, "root", ".", "the checkout")
	flags.StringVar(&o.out, "out", "docs/benchmarks", "folder for rollout.md, rollout.json and rollout.svg; empty: they are not written")
	flags.IntVar(&o.repeat, "repeat", 2, "how often each case is run")
	flags.IntVar(&o.large, "large", 31, "cases with at least as many releases are run once")
	flags.DurationVar(&o.fluxRequeue, "flux-requeue", time.Second, "helm-controller's --requeue-dependency for "+figures.FluxShort)
	flags.DurationVar(&o.argoRequeue, "argo-requeue", 100*time.Millisecond, "how long Argo waits before it looks at a workflow again")
	flags.StringVar(&o.guard, "guard", "", "file of ratios: fail where one is now worse by more than a third")
	flags.StringVar(&o.writeGuard, "write-guard", "", "file to write the ratios to, for -guard")
	taken := flags.String("breakdown", "chain:10,ladder:40", "the cases in which it is measured what an edge's time is made of; empty: none")
	flags.Func("server-arg", "<server>=<flag>, for a server or a service of the stack, such as helm-controller=--concurrent=20; may be repeated", func(s string) error {
		server, arg, ok := strings.Cut(s, "=")
		if !ok {
			return fmt.Errorf("want <server>=<flag>, not %q", s)
		}
		o.serverArgs[server] = append(o.serverArgs[server], arg)
		return nil
	})
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	given := map[string]bool{}
	flags.Visit(func(f *flag.Flag) { given[f.Name] = true })
	if *quick {
		set := func(name string, target *string, value string) {
			if !given[name] {
				*target = value
			}
		}
		set("cases", cases, quickCases)
		set("contenders", contenders, figures.Orkestra+","+figures.Sequencer)
		set("out", &o.out, "")
		set("breakdown", taken, "")
	}
	var errs [3]error
	if *taken != "" {
		o.taken, errs[2] = shape.Parse(*taken)
	}
	o.graphs, errs[0] = shape.Parse(*cases)
	o.fluxGraphs, errs[1] = shape.Parse(*fluxCases)
	o.contenders = strings.Split(*contenders, ",")
	for _, c := range o.contenders {
		if !slices.Contains(figures.Contenders, c) {
			return o, fmt.Errorf("there is no contender %q: %s", c, strings.Join(figures.Contenders, ", "))
		}
	}
	if o.node != stack.Simulated && o.node != stack.Containerd {
		return o, fmt.Errorf("there is no node %q: %s, %s", o.node, stack.Simulated, stack.Containerd)
	}
	if slices.Contains(o.contenders, figures.Pods) && o.node != stack.Containerd {
		return o, fmt.Errorf("%s needs a node that runs pods: add -node %s", figures.Pods, stack.Containerd)
	}
	return o, errors.Join(errs[:]...)
}

// anywhere are the contenders that need no node.
func anywhere() []string {
	return slices.DeleteFunc(slices.Clone(figures.Contenders), func(c string) bool { return c == figures.Pods })
}

// entrants of the benchmark. Those with the same controller follow each other, so that
// it is restarted as seldom as can be.
func (o options) entrants() []entrant {
	all := []entrant{
		{name: figures.Sequencer, contender: sequencer{}, sequences: true},
		{name: figures.Orkestra, contender: orkestra{}, sequences: true},
		{name: figures.Pods, contender: orkestra{mode: v1alpha1.ExecutorModePod}, sequences: true},
		{name: figures.Helmfile, contender: helmfile{}, byRecords: true},
		{name: figures.Flux, contender: flux{}},
		{name: figures.FluxShort, contender: flux{}, controller: []string{"--requeue-dependency=" + o.fluxRequeue.String()}},
	}
	return slices.DeleteFunc(all, func(e entrant) bool { return !slices.Contains(o.contenders, e.name) })
}

// runs tells whether an entrant runs a graph in a repeat.
func (o options) runs(e entrant, g shape.Graph, repeat int) bool {
	if e.name == figures.Flux {
		return repeat == 1 && slices.ContainsFunc(o.fluxGraphs, func(f shape.Graph) bool { return f.Name() == g.Name() })
	}
	return repeat == 1 || len(g.Releases) < o.large
}

func bench(ctx context.Context, o options) (err error) {
	began := time.Now()
	w, err := newWorld(ctx, o)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.close(context.WithoutCancel(ctx))) }()
	report := figures.Report{Command: o.command, Date: began.UTC().Format(time.DateOnly), Settings: o.settings()}
	if report.Machine, err = machine(); err != nil {
		return err
	}
	if report.Versions, err = versions(ctx, w.stack.Bin, slices.Contains(o.contenders, figures.Helmfile)); err != nil {
		return err
	}
	if report.IdleMiB, err = w.meter.idle(ctx); err != nil {
		return err
	}
	if report.Runs, err = w.all(ctx, o); err != nil {
		return err
	}
	if len(o.taken) > 0 && slices.Contains(o.contenders, figures.Orkestra) {
		if report.Milestone, err = w.breakdown(ctx, o.taken); err != nil {
			return fmt.Errorf("taking an edge apart: %w", err)
		}
	}
	report.Seconds = time.Since(began).Seconds()
	return errors.Join(write(o, report), guard(o, report))
}

// settings that the page mentions.
func (o options) settings() []string {
	out := []string{
		fmt.Sprintf("Cases of %d releases or more were run once, and so was flux, half a minute for each level.", o.large),
		fmt.Sprintf("flux-short is helm-controller with --requeue-dependency=%s; all run with --concurrent=%d.", o.fluxRequeue, concurrency),
		fmt.Sprintf("Argo's DEFAULT_REQUEUE_TIME is %s.", o.argoRequeue),
	}
	if slices.ContainsFunc(o.graphs, func(g shape.Graph) bool { return g.Shape == shape.Umbrella }) {
		out = append(out, "An umbrella is one chart that Orkestra splits into its subcharts and itself; the others install as many charts that are small from the start.")
	}
	if o.node == stack.Containerd {
		out = append(out, "A kubelet and containerd run pods, on the same machine; orkestra-pods is Orkestra with a pod for each step.")
	}
	for _, server := range slices.Sorted(maps.Keys(o.serverArgs)) {
		out = append(out, fmt.Sprintf("%s was given %s.", server, strings.Join(o.serverArgs[server], " ")))
	}
	return out
}

// all runs of all repeats, in turns.
func (w *world) all(ctx context.Context, o options) ([]figures.Run, error) {
	if err := w.warmUp(ctx, o); err != nil {
		return nil, fmt.Errorf("warming up: %w", err)
	}
	var out []figures.Run
	for repeat := 1; repeat <= o.repeat; repeat++ {
		for _, e := range o.entrants() {
			for _, g := range o.graphs {
				if !o.runs(e, g, repeat) {
					continue
				}
				runs, err := w.one(ctx, e, g, repeat)
				if err != nil {
					return nil, fmt.Errorf("%s on %s, repeat %d: %w", e.name, g.Name(), repeat, err)
				}
				for _, run := range runs {
					fmt.Fprintf(os.Stderr, "%-11s %-12s %-8s %7.2f s\n", g.Name(), e.name, run.Phase, run.WallSeconds)
				}
				out = append(out, runs...)
			}
		}
	}
	return out, nil
}

// collectorLooks is how often Kubernetes' garbage collector looks for kinds that are new (StartGarbageCollector in
// cmd/kube-controller-manager/app/core.go), and a little more. Until it has found groups, it reads the group of whatever is made for
// one from the API server, again and again: a cluster is that young for half a minute.
const collectorLooks = 35 * time.Second

// warmUp has everyone do once what they then do for the figures: nobody is to be the
// first whom the API server and helm-controller see.
func (w *world) warmUp(ctx context.Context, o options) error {
	g, err := shape.New(shape.Chain, 2)
	if err != nil {
		return err
	}
	for _, e := range o.entrants() {
		if e.name == figures.Flux || e.name == figures.FluxShort {
			continue
		}
		if _, err := w.one(ctx, e, g, 0); err != nil {
			return err
		}
	}
	select {
	case <-time.After(time.Until(w.up.Add(collectorLooks))):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
