package stack

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// progressInterval is how often a build that takes long says that it is still there.
const progressInterval = 15 * time.Second

// server is one of the executables that are not ours. Each is built from a module of its own below servers/, outside
// go.work, so that its dependencies never lift ours.
type server struct {
	module, pkg, binary string
	// stamps are -X flags of the linker: the version that the program tells.
	stamps []string
	// cost is what a first build takes, for whoever waits.
	cost string
	// manifests are files of modules that the server's module requires: its CRDs, say.
	manifests []manifest
}

type manifest struct{ module, glob string }

const (
	kubeVersion        = "v1.34.4"
	argoVersion        = "v3.7.18"
	chartmuseumVersion = "v0.13.1"
)

// servers, the longest build first: who sees that one end knows that the rest is short.
var servers = []server{
	{
		module: "kubernetes", pkg: ".", binary: "kube", cost: "about 13 CPU-minutes the first time",
		stamps: []string{
			"k8s.io/component-base/version.gitVersion=" + kubeVersion,
			"k8s.io/component-base/version.gitMajor=1",
			"k8s.io/component-base/version.gitMinor=34",
			"k8s.io/component-base/version.gitTreeState=clean",
			"k8s.io/component-base/version.buildDate=2026-01-01T00:00:00Z",
			"k8s.io/client-go/pkg/version.gitVersion=" + kubeVersion,
		},
	},
	{
		module: "flux-source", pkg: "github.com/fluxcd/source-controller", binary: "source-controller",
		cost:      "about 6 CPU-minutes the first time",
		manifests: []manifest{{"github.com/fluxcd/source-controller", "config/crd/bases/*.yaml"}},
	},
	{
		module: "flux-helm", pkg: "github.com/fluxcd/helm-controller", binary: "helm-controller",
		cost:      "about 4 CPU-minutes the first time",
		manifests: []manifest{{"github.com/fluxcd/helm-controller", "config/crd/bases/*.yaml"}},
	},
	{
		module: "argo", pkg: ".", binary: "workflow-controller", cost: "about 4 CPU-minutes the first time",
		stamps:    []string{"github.com/argoproj/argo-workflows/v3.version=" + argoVersion},
		manifests: []manifest{{"github.com/argoproj/argo-workflows/v3", "manifests/base/crds/minimal/argoproj.io_*.yaml"}},
	},
	{
		module: "chartmuseum", pkg: "helm.sh/chartmuseum/cmd/chartmuseum", binary: "chartmuseum",
		cost:   "about 3 CPU-minutes the first time",
		stamps: []string{"main.Version=" + chartmuseumVersion},
	},
	{
		module: "kwok", pkg: "sigs.k8s.io/kwok/cmd/kwok", binary: "kwok", cost: "about 2 CPU-minutes the first time",
		manifests: []manifest{
			{"sigs.k8s.io/kwok", "kustomize/stage/pod/fast/pod-*.yaml"},
			{"sigs.k8s.io/kwok", "kustomize/stage/node/fast/node-initialize.yaml"},
		},
	},
	{module: "nats", pkg: "github.com/nats-io/nats-server/v2", binary: "nats-server", cost: "seconds"},
}

// coreDNS and kubeRouter are built where there is a real node.
var (
	coreDNS    = server{module: "coredns", pkg: ".", binary: "coredns", cost: "about 2 CPU-minutes the first time"}
	kubeRouter = server{module: "kube-router", pkg: ".", binary: "kube-router", cost: "about 1 CPU-minute the first time"}
)

// programTags are those that our own programs are built with. The pages with which gRPC shows its requests are Go
// templates, which call methods by name: with them in a program, the linker can leave out no method of any type, a third
// of the program. Nobody would see these pages anyway.
const programTags = "grpcnotrace"

// alone is the environment of builds of servers: without the workspace, and without a need for a C compiler.
var alone = []string{"GOWORK=off", "CGO_ENABLED=0"}

// Build builds the servers into binDir, and lays their manifests beside it. What is up to date is skipped, by a stamp of
// all that a build depends on.
func Build(ctx context.Context, root, binDir string, log io.Writer) error {
	unlock, err := lock(ctx, filepath.Join(binDir, ".lock"), log)
	if err != nil {
		return err
	}
	err = buildServers(ctx, root, binDir, servers, log)
	return errors.Join(err, unlock())
}

func buildServers(ctx context.Context, root, binDir string, servers []server, log io.Writer) error {
	toolchain, err := goTool(ctx, root, alone, "env", "GOVERSION", "GOOS", "GOARCH")
	if err != nil {
		return fmt.Errorf("asking Go for its version: %w", err)
	}
	for _, s := range servers {
		want, err := s.stamp(filepath.Join(root, "servers", s.module), toolchain)
		if err != nil {
			return err
		}
		if s.isBuilt(binDir, want) {
			continue
		}
		if err := s.build(ctx, root, binDir, log); err != nil {
			return err
		}
		if err := os.MkdirAll(filepath.Dir(stampFile(binDir, s.binary)), 0o700); err != nil {
			return fmt.Errorf("stamping %s: %w", s.binary, err)
		}
		if err := writeFile(stampFile(binDir, s.binary), []byte(want), 0o600); err != nil {
			return err
		}
	}
	return link("kube", filepath.Join(binDir, "kubectl"))
}

func stampFile(binDir, binary string) string { return filepath.Join(binDir, ".stamps", binary) }

// isBuilt tells whether all that a build with this stamp made is still there.
func (s server) isBuilt(binDir, stamp string) bool {
	is, err := os.ReadFile(stampFile(binDir, s.binary))
	return err == nil && string(is) == stamp && exists(filepath.Join(binDir, s.binary)) &&
		(len(s.manifests) == 0 || exists(filepath.Join(shareOf(binDir), s.module)))
}

// stamp says what a build of the server depends on: its module's files, how it is built, and the toolchain.
func (s server) stamp(dir string, toolchain []byte) (string, error) {
	h := sha256.New()
	fmt.Fprintf(h, "%q\n%q\n", s.arguments("-"), toolchain)
	for _, m := range s.manifests {
		fmt.Fprintf(h, "%q\n", m)
	}
	sources, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil {
		return "", fmt.Errorf("listing the sources of %s: %w", s.module, err)
	}
	slices.Sort(sources)
	for _, f := range append([]string{filepath.Join(dir, "go.mod"), filepath.Join(dir, "go.sum")}, sources...) {
		b, err := os.ReadFile(f)
		if err != nil {
			return "", fmt.Errorf("reading a source of %s: %w", s.module, err)
		}
		fmt.Fprintf(h, "%s %d\n%s\n", filepath.Base(f), len(b), b)
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

func (s server) arguments(out string) []string {
	ldflags := "-s -w"
	for _, x := range s.stamps {
		ldflags += " -X " + x
	}
	// As the images of the servers are built: builds with and without -trimpath share nothing of the build cache.
	return []string{"build", "-trimpath", "-buildvcs=false", "-ldflags", ldflags, "-o", out, s.pkg}
}

func (s server) build(ctx context.Context, root, binDir string, log io.Writer) error {
	what := fmt.Sprintf("building %s (%s)", s.module, s.cost)
	done := progress(log, what)
	dir := filepath.Join(root, "servers", s.module)
	_, err := goTool(ctx, dir, alone, s.arguments(filepath.Join(binDir, s.binary))...)
	if err == nil {
		err = s.layOut(ctx, dir, shareOf(binDir))
	}
	done(err)
	if err != nil {
		return fmt.Errorf("building %s: %w", s.module, err)
	}
	return nil
}

// layOut copies the server's manifests out of the module cache, which may be cleaned.
func (s server) layOut(ctx context.Context, dir, share string) error {
	if len(s.manifests) == 0 {
		return nil
	}
	to := filepath.Join(share, s.module)
	if err := os.RemoveAll(to); err != nil {
		return fmt.Errorf("removing old manifests: %w", err)
	}
	if err := os.MkdirAll(to, 0o700); err != nil {
		return fmt.Errorf("making a folder for manifests: %w", err)
	}
	for _, m := range s.manifests {
		out, err := goTool(ctx, dir, alone, "list", "-m", "-json", m.module)
		if err != nil {
			return fmt.Errorf("finding the module %s: %w", m.module, err)
		}
		var module struct{ Dir string }
		if err := json.Unmarshal(out, &module); err != nil {
			return fmt.Errorf("finding the module %s: %w", m.module, err)
		}
		files, err := filepath.Glob(filepath.Join(module.Dir, m.glob))
		if err != nil || len(files) == 0 {
			return errors.Join(fmt.Errorf("finding %s in the module %s: there is none", m.glob, m.module), err)
		}
		for _, f := range files {
			b, err := os.ReadFile(f)
			if err != nil {
				return fmt.Errorf("copying a manifest: %w", err)
			}
			if err := writeFile(filepath.Join(to, filepath.Base(f)), b, 0o600); err != nil {
				return err
			}
		}
	}
	return nil
}

// BuildServices builds our own services and the command lines, orkestra and orkestra-local, into binDir.
func BuildServices(ctx context.Context, root, binDir string, log io.Writer) error {
	unlock, err := lock(ctx, filepath.Join(binDir, ".lock"), log)
	if err != nil {
		return err
	}
	return errors.Join(buildOurs(ctx, root, binDir, log), unlock())
}

func buildOurs(ctx context.Context, root, binDir string, log io.Writer) error {
	// One call builds all of them, and names them by their packages; links give them their names. Go leaves alone what
	// is up to date there.
	const folder = ".orkestra"
	// As their images are built too.
	args := []string{"build", "-trimpath", "-buildvcs=false", "-tags", programTags, "-o", filepath.Join(binDir, folder) + string(filepath.Separator)}
	for _, s := range programs() {
		args = append(args, fmt.Sprintf("./services/%s/cmd/%s", s, s))
	}
	args = append(args, "./cli/cmd/orkestra", "./local/cmd/orkestra-local")
	done := progress(log, "building Orkestra's services and command lines")
	_, err := goTool(ctx, root, []string{"CGO_ENABLED=0"}, args...)
	done(err)
	if err != nil {
		return fmt.Errorf("building the services: %w", err)
	}
	for _, s := range programs() {
		if err := link(filepath.Join(folder, s), serviceBinary(binDir, s)); err != nil {
			return err
		}
	}
	for _, command := range []string{"orkestra", "orkestra-local"} {
		if err := link(filepath.Join(folder, command), filepath.Join(binDir, command)); err != nil {
			return err
		}
	}
	return nil
}

func serviceBinary(binDir, service string) string { return filepath.Join(binDir, "orkestra-"+service) }

// goTool runs the go command in a module or workspace, and returns what it printed. Its complaints become the error.
func goTool(ctx context.Context, dir string, env []string, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), env...)
	var complaints bytes.Buffer
	cmd.Stderr = &complaints
	// An interrupted go command takes its compilers along; a killed one would not.
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 10 * time.Second
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("go %s: %w\n%s", args[0], cmp.Or(ctx.Err(), err), strings.TrimSpace(complaints.String()))
	}
	return out, nil
}

// progress says what begins, now and then that it goes on, and in the end how long it took.
func progress(log io.Writer, what string) (done func(error)) {
	begin, end, ended := time.Now(), make(chan struct{}), make(chan struct{})
	elapsed := func() time.Duration { return time.Since(begin).Round(time.Second) }
	say(log, "%s ...", what)
	go func() {
		defer close(ended)
		ticker := time.NewTicker(progressInterval)
		defer ticker.Stop()
		for {
			select {
			case <-end:
				return
			case <-ticker.C:
				say(log, "%s ... %s", what, elapsed())
			}
		}
	}()
	return func(err error) {
		close(end)
		<-ended
		if err == nil {
			say(log, "%s: done after %s", what, elapsed())
		}
	}
}

// link makes path a symbolic link to target, replacing what was there.
func link(target, path string) error {
	if is, err := os.Readlink(path); err == nil && is == target {
		return nil
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("linking %s: %w", path, err)
	}
	if err := os.Symlink(target, path); err != nil {
		return fmt.Errorf("linking %s: %w", path, err)
	}
	return nil
}
