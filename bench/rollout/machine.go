package main

import (
	"bytes"
	"context"
	"debug/buildinfo"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strings"

	"orkestra.dev/bench/rollout/figures"
)

// machine that this runs on.
func machine() (figures.Machine, error) {
	m := figures.Machine{CPUs: runtime.NumCPU()}
	cpu, errCPU := field("/proc/cpuinfo", "model name")
	memory, errMemory := field("/proc/meminfo", "MemTotal")
	kernel, errKernel := os.ReadFile("/proc/sys/kernel/osrelease")
	if err := errors.Join(errCPU, errMemory, errKernel); err != nil {
		return m, fmt.Errorf("looking at the machine: %w", err)
	}
	var kib float64
	if _, err := fmt.Sscan(memory, &kib); err != nil {
		return m, fmt.Errorf("reading the size of the memory: %w", err)
	}
	m.Model, m.MemoryGiB, m.Kernel = cpu, kib/(1<<20), strings.TrimSpace(string(kernel))
	return m, nil
}

// field is the first value of a name in one of the kernel's tables; empty where it has
// none, as not every architecture names its processor.
func field(path, name string) (string, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(string(data)) {
		if key, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(key) == name {
			return strings.TrimSpace(value), nil
		}
	}
	return "", nil
}

// programs, and the module whose version they have.
var programs = map[string]struct{ name, module string }{
	"kube":                {"Kubernetes", "k8s.io/kubernetes"},
	"helm-controller":     {"helm-controller", "github.com/fluxcd/helm-controller"},
	"source-controller":   {"source-controller", "github.com/fluxcd/source-controller"},
	"workflow-controller": {"Argo Workflows", "github.com/argoproj/argo-workflows/v3"},
	"nats-server":         {"NATS", "github.com/nats-io/nats-server/v2"},
	"chartmuseum":         {"ChartMuseum", "helm.sh/chartmuseum"},
}

var helmfilePrograms = map[string]struct{ name, module string }{
	"helmfile": {"Helmfile", "github.com/helmfile/helmfile"},
	"helm":     {"Helm", "helm.sh/helm/v3"},
}

// versions of what runs, as it was built.
func versions(_ context.Context, bin string, withHelmfile bool) (map[string]string, error) {
	out := map[string]string{"Go": strings.TrimPrefix(runtime.Version(), "go")}
	read := func(file, name, module string) error {
		info, err := buildinfo.ReadFile(filepath.Join(bin, file))
		if err != nil {
			return fmt.Errorf("reading the version of %s: %w", file, err)
		}
		for _, m := range append([]*debug.Module{&info.Main}, info.Deps...) {
			if m.Path == module {
				out[name] = m.Version
				return nil
			}
		}
		return fmt.Errorf("reading the version of %s: it is not made of %s", file, module)
	}
	for file, p := range programs {
		if err := read(file, p.name, p.module); err != nil {
			return nil, err
		}
	}
	if !withHelmfile {
		return out, nil
	}
	for file, p := range helmfilePrograms {
		if err := read(file, p.name, p.module); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// write the report, and show its page.
func write(o options, r figures.Report) error {
	page := r.Markdown()
	fmt.Print(page)
	if o.out == "" {
		return nil
	}
	data, err := encode(r)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(o.out, 0o755); err != nil {
		return fmt.Errorf("making the folder of the report: %w", err)
	}
	for name, data := range map[string][]byte{"rollout.json": data, "rollout.md": []byte(page), "rollout.svg": []byte(r.SVG())} {
		if err := os.WriteFile(filepath.Join(o.out, name), data, 0o644); err != nil {
			return fmt.Errorf("writing the report: %w", err)
		}
	}
	return nil
}

func encode(v any) ([]byte, error) {
	var out bytes.Buffer
	e := json.NewEncoder(&out)
	e.SetIndent("", " ")
	if err := e.Encode(v); err != nil {
		return nil, fmt.Errorf("encoding figures: %w", err)
	}
	return out.Bytes(), nil
}

// guard compares the ratios with those of a file, or writes them into one.
func guard(o options, r figures.Report) error {
	now := r.Guarded()
	if o.writeGuard != "" {
		data, err := encode(now)
		if err != nil {
			return err
		}
		if err := os.WriteFile(o.writeGuard, data, 0o644); err != nil {
			return fmt.Errorf("writing the ratios: %w", err)
		}
	}
	if o.guard == "" {
		return nil
	}
	data, err := os.ReadFile(o.guard)
	if err != nil {
		return fmt.Errorf("reading the ratios to compare with: %w", err)
	}
	before := map[string]float64{}
	if err := json.Unmarshal(data, &before); err != nil {
		return fmt.Errorf("reading the ratios in %s: %w", o.guard, err)
	}
	if worse := figures.Regressions(before, now); len(worse) > 0 {
		return fmt.Errorf("worse than %s by more than a third:\n  %s", o.guard, strings.Join(worse, "\n  "))
	}
	return nil
}
