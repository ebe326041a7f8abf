// Package e2enode runs Orkestra on a node that is real: a kubelet and containerd run the pods of the releases and those of
// the workflows. It needs root, and what `orkestra-local up --node containerd` asks for; without that it fails.
package e2enode

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	helmv2 "github.com/fluxcd/helm-controller/api/v2"
	"github.com/go-logr/logr"
	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"orkestra.dev/api/v1alpha1"
	"orkestra.dev/local/stack"
	"orkestra.dev/pkg/events"
)

// env is what the tests share.
var env struct {
	stack  *stack.Stack
	vars   map[string]string
	client client.Client
	bus    *events.Bus
}

func TestMain(m *testing.M) {
	ctrl.SetLogger(logr.Discard()) // what fails here fails a test
	os.Exit(run(m))
}

func run(m *testing.M) int {
	ctx, cancel := context.WithTimeout(context.Background(), time.Hour)
	defer cancel()
	down, err := up(ctx)
	if err != nil {
		fmt.Fprintln(os.Stderr, "e2enode: bringing up the stack:", err)
		return 1
	}
	code := m.Run()
	if code != 0 && os.Getenv("CI") == "" {
		fmt.Println("e2enode: the stack is left running for a look; `go run ./local/cmd/orkestra-local down --wipe --dir .local/e2e-node` takes it down")
		return code
	}
	if err := down(); err != nil {
		fmt.Fprintln(os.Stderr, "e2enode: taking down the stack:", err)
		return 1
	}
	if err := stack.NodeLeft(env.stack.Dir); err != nil {
		fmt.Fprintln(os.Stderr, "e2enode: the node was not cleaned up:", err)
		return 1
	}
	return code
}

func up(ctx context.Context) (down func() error, err error) {
	root, err := filepath.Abs("../..")
	if err != nil {
		return nil, err
	}
	o := stack.Options{
		Root: root, Dir: filepath.Join(root, ".local", "e2e-node"), Log: os.Stdout, LogLevel: "debug",
		Services: true, Node: stack.Containerd, Images: []string{"custom-executor"},
	}
	// What an earlier run left is of no use.
	old, err := stack.Open(o)
	if err != nil {
		return nil, err
	}
	if err := old.Down(ctx, true); err != nil {
		return nil, fmt.Errorf("taking down an earlier stack: %w", err)
	}
	if env.stack, err = stack.Up(ctx, o); err != nil {
		return nil, err
	}
	down = func() error {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		return env.stack.Down(ctx, true)
	}
	if env.vars, err = env.stack.Env(); err != nil {
		return down, err
	}
	config, err := env.stack.RESTConfig()
	if err != nil {
		return down, err
	}
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{clientgoscheme.AddToScheme, v1alpha1.AddToScheme, helmv2.AddToScheme} {
		if err := add(scheme); err != nil {
			return down, err
		}
	}
	if env.client, err = client.New(config, client.Options{Scheme: scheme}); err != nil {
		return down, err
	}
	options := events.Options{Source: "orkestra://e2enode/test"}.FromEnvironment(func(name string) string { return env.vars[name] })
	env.bus, err = events.Connect(ctx, options)
	return down, err
}
