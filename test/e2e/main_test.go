// Package e2e runs Orkestra on real servers: Kubernetes, Argo, Flux, ChartMuseum
// and NATS, with two replicas of every service, each a process of its own. A
// server that does not come up fails the tests.
package e2e

import (
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	wfv1 "github.com/argoproj/argo-workflows/v3/pkg/apis/workflow/v1alpha1"
	helmv2 "github.com/fluxcd/helm-controller/api/v2"
	sourcev1 "github.com/fluxcd/source-controller/api/v1"
	"github.com/go-logr/logr"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"orkestra.dev/api/v1alpha1"
	"orkestra.dev/local/stack"
	"orkestra.dev/local/timing"
	"orkestra.dev/pkg/events"
)

// replicas of every service: what two say or do twice must count once.
const replicas = 2

// env is what the tests share.
var env environment

// environment is a stack, and how tests reach it.
type environment struct {
	stack    *stack.Stack
	vars     map[string]string
	config   *rest.Config
	client   client.WithWatch
	bus      *events.Bus
	recorder *timing.Recorder
	root     string
}

func TestMain(m *testing.M) {
	keep := flag.Bool("keep", false, "leave the stack running after the tests")
	flag.Parse()
	ctrl.SetLogger(logr.Discard()) // what fails here fails a test
	os.Exit(run(m, *keep))
}

func run(m *testing.M, keep bool) int {
	ctx, cancel := context.WithTimeout(context.Background(), 80*time.Minute)
	defer cancel()
	begin := time.Now()
	down, err := up(ctx)
	if err != nil {
		fmt.Fprintln(os.Stderr, "e2e: bringing up the stack:", err)
		return 1
	}
	fmt.Printf("e2e: the stack is up after %s\n", time.Since(begin).Round(100*time.Millisecond))
	code := m.Run()
	if err := permissions(); err != nil {
		fmt.Fprintln(os.Stderr, "e2e: what the services may do:", err)
		code = max(code, 1)
	}
	if keep || code != 0 && os.Getenv("CI") == "" {
		fmt.Println("e2e: the stack is left running in .local/e2e for a look")
		return code
	}
	if err := down(); err != nil {
		fmt.Fprintln(os.Stderr, "e2e: taking down the stack:", err)
		return 1
	}
	return code
}

func up(ctx context.Context) (down func() error, err error) {
	env.root, err = filepath.Abs("../..")
	if err != nil {
		return nil, err
	}
	o := stack.Options{
		Root: env.root, Dir: filepath.Join(env.root, ".local", "e2e"),
		Services: true, Replicas: replicas, Log: os.Stdout, LogLevel: "debug", Audit: true,
		// Hundreds of times as often as by default: what is collected too early fails a test.
		ServiceArgs: map[string][]string{"stager": {"--collect-every", "1s", "--collect-grace", "2s", "--announce-every", "2s"}},
	}
	// What an earlier run left is of no use, and its events would be counted.
	if old, err := stack.Open(o); err == nil {
		if err := old.Down(ctx, true); err != nil {
			return nil, fmt.Errorf("taking down an earlier stack: %w", err)
		}
	}
	down = func() error {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		return env.stack.Down(ctx, true)
	}
	return down, env.up(ctx, o)
}

// up brings up a stack, and reaches it. The recording of releases ends with ctx, and so does the tending.
func (e *environment) up(ctx context.Context, o stack.Options) (err error) {
	e.root = o.Root
	if e.stack, err = stack.Up(ctx, o); err != nil {
		return err
	}
	go e.stack.Tend(ctx)
	if e.vars, err = e.stack.Env(); err != nil {
		return err
	}
	if e.config, err = e.stack.RESTConfig(); err != nil {
		return err
	}
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{
		clientgoscheme.AddToScheme, v1alpha1.AddToScheme, helmv2.AddToScheme, wfv1.AddToScheme, apiextensionsv1.AddToScheme, sourcev1.AddToScheme,
	} {
		if err := add(scheme); err != nil {
			return err
		}
	}
	e.config.QPS = -1
	if e.client, err = client.NewWithWatch(e.config, client.Options{Scheme: scheme}); err != nil {
		return err
	}
	if e.recorder, err = timing.Record(ctx, e.config); err != nil {
		return err
	}
	e.bus, err = events.Connect(ctx, events.Options{Source: "orkestra://e2e/test"}.FromEnvironment(func(name string) string { return e.vars[name] }))
	return err
}
