// Package interop reads what Orkestra says with programs that are not ours: the JavaScript
// SDKs of NATS, CloudEvents and AsyncAPI, and the command line of NATS.
package interop

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// Checkout is the root of the checkout that the programs are in.
type Checkout string

// folder of the JavaScript programs.
func (c Checkout) folder() string { return filepath.Join(string(c), "test", "interop") }

// Install brings the modules that package-lock.json names, unless they are there.
func (c Checkout) Install(ctx context.Context) error {
	lock, err := os.Stat(filepath.Join(c.folder(), "package-lock.json"))
	if err != nil {
		return err
	}
	installed, err := os.Stat(filepath.Join(c.folder(), "node_modules", ".package-lock.json"))
	if err == nil && !installed.ModTime().Before(lock.ModTime()) {
		return nil
	}
	cmd := exec.CommandContext(ctx, "npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund")
	cmd.Dir = c.folder()
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("installing the JavaScript modules, which takes Node and npm: %w\n%s", err, out)
	}
	return nil
}

// Node is one of the JavaScript programs, to be run with variables beside those of this process.
func (c Checkout) Node(ctx context.Context, variables map[string]string, program string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "node", append([]string{filepath.Join(c.folder(), program)}, args...)...)
	return with(cmd, variables)
}

// NATS is the command line of NATS, to be run with variables beside those of this process.
// Go builds it the first time, which takes minutes.
func (c Checkout) NATS(ctx context.Context, variables map[string]string, args ...string) *exec.Cmd {
	module := filepath.Join(string(c), "tools", "natscli")
	cmd := exec.CommandContext(ctx, "go", append([]string{"-C", module, "tool", "nats"}, args...)...)
	return with(with(cmd, variables), map[string]string{"GOWORK": "off", "CGO_ENABLED": "0"})
}

func with(cmd *exec.Cmd, variables map[string]string) *exec.Cmd {
	if cmd.Env == nil {
		cmd.Env = os.Environ()
	}
	for name, value := range variables {
		cmd.Env = append(cmd.Env, name+"="+value)
	}
	return cmd
}
