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

	"orkestra.dev/local/stack"
	"orkestra.dev/pkg/events"
	"orkestra.dev/test/e2enode/realnode"
)

// env is what the tests share.
var env struct {
	*realnode.Cluster
	vars map[string]string
	bus  *events.Bus
}

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	ctx, cancel := context.WithTimeout(context.Background(), time.Hour)
	defer cancel()
	if err := up(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "e2enode: bringing up the stack:", err)
		return 1
	}
	code := m.Run()
	if code != 0 && os.Getenv("CI") == "" {
		fmt.Println("e2enode: the stack is left running for a look; `go run ./local/cmd/orkestra-local down --wipe --dir .local/e2e-node` takes it down")
		return code
	}
	if err := env.Down(); err != nil {
		fmt.Fprintln(os.Stderr, "e2enode:", err)
		return 1
	}
	return code
}

func up(ctx context.Context) error {
	root, err := filepath.Abs("../..")
	if err != nil {
		return err
	}
	env.Cluster, err = realnode.Up(ctx, stack.Options{
		Root: root, Dir: filepath.Join(root, ".local", "e2e-node"), Log: os.Stdout, LogLevel: "debug",
		Services: true, Node: stack.Containerd, Images: []string{"custom-executor"},
	})
	if err != nil {
		return err
	}
	if env.vars, err = env.Stack.Env(); err != nil {
		return err
	}
	options := events.Options{Source: "orkestra://e2enode/test"}.FromEnvironment(func(name string) string { return env.vars[name] })
	env.bus, err = events.Connect(ctx, options)
	return err
}
