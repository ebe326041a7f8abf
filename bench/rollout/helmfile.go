package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"

	"sigs.k8s.io/yaml"

	"orkestra.dev/bench/rollout/figures"
)

// concurrency is how many releases helm-controller works on at once, and Helmfile too.
const concurrency = 10

// helmfile is the command line, which needs no controller.
type helmfile struct{}

// buildHelmfile builds Helmfile, and the helm that it calls, into the folder of the
// servers. Go leaves alone what is up to date there.
func buildHelmfile(ctx context.Context, root, bin string) error {
	for program, pkg := range map[string]string{"helm": "helm.sh/helm/v3/cmd/helm", "helmfile": "github.com/helmfile/helmfile"} {
		cmd := exec.CommandContext(ctx, "go", "build", "-buildvcs=false", "-ldflags", "-s -w", "-o", filepath.Join(bin, program), pkg)
		cmd.Dir = filepath.Join(root, "servers", "helmfile")
		cmd.Env = append(os.Environ(), "GOWORK=off", "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("building %s: %w\n%s", program, err, out)
		}
	}
	return nil
}

func (h helmfile) prepare(_ context.Context, r *rollout) error {
	if err := os.MkdirAll(h.folder(r), 0o700); err != nil {
		return fmt.Errorf("making a folder for Helmfile: %w", err)
	}
	return h.write(r, hello)
}

func (helmfile) folder(r *rollout) string { return filepath.Join(r.stack.Dir, "helmfile", r.namespace) }

// write the file; the release that is to change has the given value.
func (h helmfile) write(r *rollout, value string) error {
	path, err := layChart(h.folder(r))
	if err != nil {
		return err
	}
	type release struct {
		Name      string   `json:"name"`
		Namespace string   `json:"namespace"`
		Chart     string   `json:"chart"`
		Needs     []string `json:"needs,omitempty"`
		Values    []any    `json:"values"`
	}
	var releases []release
	for _, g := range r.graph.Releases {
		out := release{Name: g.Name, Namespace: r.namespace, Chart: path, Values: []any{map[string]string{"message": hello}}}
		if g.Name == r.changed().Name {
			out.Values = []any{map[string]string{"message": value}}
		}
		for _, p := range g.Parents {
			out.Needs = append(out.Needs, r.namespace+"/"+p)
		}
		releases = append(releases, out)
	}
	data, err := yaml.Marshal(map[string]any{
		"helmDefaults": map[string]any{"createNamespace": false},
		"releases":     releases,
	})
	if err != nil {
		return fmt.Errorf("writing the helmfile: %w", err)
	}
	if err := os.WriteFile(filepath.Join(h.folder(r), "helmfile.yaml"), data, 0o600); err != nil {
		return fmt.Errorf("writing the helmfile: %w", err)
	}
	return nil
}

func (h helmfile) sync(ctx context.Context, r *rollout) error {
	home := h.folder(r)
	cmd := exec.CommandContext(ctx, filepath.Join(r.stack.Bin, "helmfile"), "--quiet", "--helm-binary", filepath.Join(r.stack.Bin, "helm"),
		"--file", filepath.Join(home, "helmfile.yaml"), "sync", "--skip-deps", "--concurrency", strconv.Itoa(concurrency))
	cmd.Dir = home
	cmd.Env = append(os.Environ(), "KUBECONFIG="+r.stack.Kubeconfig, "HOME="+home, "HELMFILE_UPGRADE_NOTICE_DISABLED=true",
		// helm's own limit of requests; helm-controller has a like one.
		"HELM_CACHE_HOME="+filepath.Join(home, "cache"), "HELM_CONFIG_HOME="+filepath.Join(home, "config"), "HELM_DATA_HOME="+filepath.Join(home, "data"))
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	err := cmd.Run()
	if usage, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage); ok { // with those of every helm that it waited for
		r.programs[figures.Helmfile] = cmd.ProcessState.UserTime().Seconds() + cmd.ProcessState.SystemTime().Seconds()
		r.peaks[figures.Helmfile] = float64(usage.Maxrss) / 1024
	}
	if err != nil {
		return fmt.Errorf("running Helmfile: %w\n%s", err, said.Bytes())
	}
	return nil
}

func (h helmfile) install(ctx context.Context, r *rollout) error {
	if err := h.sync(ctx, r); err != nil {
		return err
	}
	return r.awaitReady(ctx, r.allNames()...)
}

func (h helmfile) change(ctx context.Context, r *rollout) error {
	if err := h.write(r, changed); err != nil {
		return err
	}
	if err := h.sync(ctx, r); err != nil {
		return err
	}
	return r.awaitReady(ctx, r.allNames()...) // it upgrades all of them
}

// again would be what change is: a sync upgrades every release, whatever has changed.
func (helmfile) again(context.Context, *rollout) (bool, error) { return false, nil }

func (h helmfile) clean(_ context.Context, r *rollout) error {
	if err := os.RemoveAll(h.folder(r)); err != nil {
		return fmt.Errorf("cleaning up after Helmfile: %w", err)
	}
	return nil
}
