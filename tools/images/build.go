package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"golang.org/x/mod/modfile"
	"golang.org/x/mod/module"

	"orkestra.dev/tools/images/catalog"
)

// builder compiles programs for platforms.
type builder struct {
	root, scratch string
}

// build compiles the image's program and returns the path of it. What is up to date is left alone, by Go itself.
func (b *builder) build(ctx context.Context, i catalog.Image, platform v1.Platform, version string) (string, error) {
	dir := filepath.Join(b.root, i.Module)
	if i.Missing != "" {
		var err error
		if dir, err = b.mended(ctx, i); err != nil {
			return "", err
		}
	}
	out := filepath.Join(b.scratch, platform.OS+"-"+platform.Architecture, i.Module, i.Binary)
	if err := os.MkdirAll(filepath.Dir(out), 0o755); err != nil {
		return "", fmt.Errorf("making a folder for %s: %w", i.Binary, err)
	}
	// No paths and no version control: what is left is a function of the sources and the toolchain. The build id stays, by
	// which Go sees that a program is up to date.
	ldflags := "-s -w"
	if i.VersionSymbol != "" {
		ldflags += " -X " + i.VersionSymbol + "=" + version
	}
	args := []string{"build", "-trimpath", "-buildvcs=false", "-ldflags", ldflags, "-o", out}
	if i.Upstream == "" {
		// As the local stack builds our own programs, which says why.
		args = append(args, "-tags", "grpcnotrace")
	}
	_, err := golang(ctx, dir, []string{"GOOS=" + platform.OS, "GOARCH=" + platform.Architecture}, append(args, i.Package)...)
	if err != nil {
		return "", fmt.Errorf("building %s for %s: %w", i.Name, platform, err)
	}
	return out, nil
}

// mended is a folder in which the image's program can be built although its module lacks a file: a copy of our module that
// takes the other from a copy too. The module cache itself may not be written to, nor overlaid.
func (b *builder) mended(ctx context.Context, i catalog.Image) (string, error) {
	module := filepath.Join(b.root, i.Module)
	// On a new machine it is not there yet, and has no folder.
	if _, err := golang(ctx, module, nil, "mod", "download", i.Upstream); err != nil {
		return "", fmt.Errorf("downloading the module %s: %w", i.Upstream, err)
	}
	upstream, err := golang(ctx, module, nil, "list", "-m", "-f", "{{.Dir}}", i.Upstream)
	if err != nil {
		return "", fmt.Errorf("finding the module %s: %w", i.Upstream, err)
	}
	source := strings.TrimSpace(string(upstream))
	dir := filepath.Join(b.scratch, "mended", i.Name)
	to := filepath.Join(dir, filepath.Base(source))
	if err := copyOnce(source, to, i.From, i.Missing); err != nil {
		return "", fmt.Errorf("copying the module %s: %w", i.Upstream, err)
	}
	for _, name := range []string{"go.mod", "go.sum"} {
		content, err := os.ReadFile(filepath.Join(b.root, i.Module, name))
		if err != nil {
			return "", fmt.Errorf("reading the module of %s: %w", i.Name, err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o644); err != nil {
			return "", fmt.Errorf("copying the module of %s: %w", i.Name, err)
		}
	}
	_, err = golang(ctx, dir, nil, "mod", "edit", "-replace", i.Upstream+"=./"+filepath.Base(source))
	if err != nil {
		return "", fmt.Errorf("replacing the module %s: %w", i.Upstream, err)
	}
	return dir, nil
}

// copyOnce copies a module that never changes, and puts the missing file in last: where it is, the copy is whole.
func copyOnce(source, to, from, missing string) error {
	if _, err := os.Stat(filepath.Join(to, missing)); err == nil {
		return nil
	}
	if err := os.RemoveAll(to); err != nil {
		return err
	}
	if err := os.CopyFS(to, os.DirFS(source)); err != nil {
		return err
	}
	content, err := os.ReadFile(filepath.Join(to, from))
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(to, missing), content, 0o644)
}

// version of an image: the tag of ours, or that of the module that it is from, as go.mod requires it.
func (b *builder) version(i catalog.Image, tag string) (string, error) {
	if i.Upstream == "" {
		return tag, nil
	}
	path := filepath.Join(b.root, i.Module, "go.mod")
	content, err := os.ReadFile(path)
	if err != nil {
		return "", fmt.Errorf("reading the version of %s: %w", i.Name, err)
	}
	file, err := modfile.Parse(path, content, nil)
	if err != nil {
		return "", fmt.Errorf("reading the version of %s: %w", i.Name, err)
	}
	for _, r := range file.Require {
		if r.Mod.Path == i.Upstream {
			// A tag has no plus sign, a version may.
			return strings.ReplaceAll(module.CanonicalVersion(r.Mod.Version), "+", "-"), nil
		}
	}
	return "", fmt.Errorf("reading the version of %s: %s does not require %s", i.Name, path, i.Upstream)
}

// golang runs the go command in a module, without the workspace and without a C compiler. Its complaints become the error.
func golang(ctx context.Context, dir string, env []string, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GOWORK=off", "CGO_ENABLED=0", "GOFLAGS=")
	cmd.Env = append(cmd.Env, env...)
	var complaints bytes.Buffer
	cmd.Stderr = &complaints
	// An interrupted go command takes its compilers along; a killed one would not.
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("go %s: %w\n%s", args[0], err, bytes.TrimSpace(complaints.Bytes()))
	}
	return out, nil
}
