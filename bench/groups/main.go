// Command groups measures how much memory Orkestra's services use as the groups of a
// cluster grow in number: groups that are rolled out by all that is real, but for Helm, and stay.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"time"
)

type options struct {
	root, dir, out string
	// groups in all, applications of each, and how many are rolled out at once.
	groups, applications, inFlight int
	// every so many groups all memory is read.
	every int
	// within is how long groups are rolled out; 0: until there are as many as asked for.
	within time.Duration
	// helm has helm-controller install all releases.
	helm bool
	// rest before the first reading and the last ones: what a garbage collector gives back, it
	// gives back within minutes.
	rest time.Duration
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx); err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "groups:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) (err error) {
	o := options{}
	f := flag.NewFlagSet("groups", flag.ContinueOnError)
	f.StringVar(&o.root, "root", ".", "checkout of Orkestra")
	f.StringVar(&o.dir, "dir", "", "folder of the stack; .local/bench-groups of the checkout where it is empty")
	f.StringVar(&o.out, "out", filepath.Join("docs", "benchmarks"), "folder of the report; empty prints it only")
	f.IntVar(&o.groups, "groups", 1000, "groups in all")
	f.DurationVar(&o.within, "within", 0, "be content with the groups that are there after so long; 0: wait for all")
	f.BoolVar(&o.helm, "helm", false, "have helm-controller install all releases, a quarter of a second each, and not only those of the first group")
	f.IntVar(&o.applications, "applications", 10, "applications of each group, half of them in a chain")
	f.IntVar(&o.inFlight, "in-flight", 10, "groups that are rolled out at once")
	f.IntVar(&o.every, "every", 100, "groups between two readings")
	f.DurationVar(&o.rest, "rest", 90*time.Second, "wait before the first reading and the last two")
	f.Usage = func() {
		fmt.Fprintf(f.Output(), "usage: go run ./bench/groups [flags]\n\nexample: go run ./bench/groups -groups 100 -every 25 -helm\n\n")
		f.PrintDefaults()
	}
	if err := f.Parse(os.Args[1:]); err != nil {
		return err
	}
	if f.NArg() > 0 || min(o.groups, o.applications, o.inFlight, o.every) < 1 {
		return fmt.Errorf("-groups, -applications, -in-flight and -every are at least 1, and there are no arguments: %q", f.Args())
	}
	if o.root, err = filepath.Abs(o.root); err != nil {
		return fmt.Errorf("finding the checkout: %w", err)
	}
	if o.dir == "" {
		o.dir = filepath.Join(o.root, ".local", "bench-groups")
	}
	w, err := newWorld(ctx, o)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.close(context.WithoutCancel(ctx))) }()
	r, err := w.grow(ctx, o)
	if err != nil {
		return err
	}
	return write(o, r)
}
