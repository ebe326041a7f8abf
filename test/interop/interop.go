// Package interop reads what Orkestra says with programs that are not ours: the JavaScript
// SDKs of NATS, CloudEvents and AsyncAPI, and the command line of NATS.
package interop

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
)

// Folder of the JavaScript programs.
func Folder() string {
	_, file, _, _ := runtime.Caller(0)
	return filepath.Dir(file)
}

// Install brings the modules that package-lock.json names, unless they are there.
func Install(ctx context.Context) error {
	lock, err := os.Stat(filepath.Join(Folder(), "package-lock.json"))
	if err != nil {
		return err
	}
	installed, err := os.Stat(filepath.Join(Folder(), "node_modules", ".package-lock.json"))
	if err == nil && !installed.ModTime().Before(lock.ModTime()) {
		return nil
	}
	cmd := exec.CommandContext(ctx, "npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund")
	cmd.Dir = Folder()
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("installing the JavaScript modules, which takes Node and npm: %w\n%s", err, out)
	}
	return nil
}

// Node is a program of Folder, to be run with variables beside those of this process.
func Node(ctx context.Context, variables map[string]string, program string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "node", append([]string{filepath.Join(Folder(), program)}, args...)...)
	return with(cmd, variables)
}

// NATS is the command line of NATS, to be run with variables beside those of this process.
// Go builds it the first time, which takes minutes.
func NATS(ctx context.Context, variables map[string]string, args ...string) *exec.Cmd {
	module := filepath.Join(Folder(), "..", "..", "tools", "natscli")
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
