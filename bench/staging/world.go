package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"orkestra.dev/api/v1alpha1"
	"orkestra.dev/bench/loopback"
	"orkestra.dev/bench/proc"
	"orkestra.dev/local/stack"
	"orkestra.dev/pkg/events"
	"orkestra.dev/pkg/service/groupstatus"
)

const (
	// patience with one staging, and with the start of a stager.
	patience  = 10 * time.Minute
	readyWait = time.Minute
	group     = "staging"
)

// world is what the stager is measured in.
type world struct {
	stack  *stack.Stack
	env    map[string]string
	client client.Client
	bus    *events.Bus
	shelf  *supply
	museum *counted
	stager *exec.Cmd
	log    *os.File
	done   chan error
}

// counted passes requests on, and counts those of one method.
type counted struct {
	counter
	url   string
	close func() error
}

func newWorld(ctx context.Context, s *stack.Stack, charts, size int) (*world, error) {
	env, err := s.Env()
	if err != nil {
		return nil, fmt.Errorf("reading where the stack is: %w", err)
	}
	config, err := s.RESTConfig()
	if err != nil {
		return nil, err
	}
	scheme := runtime.NewScheme()
	if err := v1alpha1.AddToScheme(scheme); err != nil {
		return nil, err
	}
	w := &world{stack: s, env: env}
	if w.client, err = client.New(config, client.Options{Scheme: scheme}); err != nil {
		return nil, err
	}
	if w.bus, err = events.Connect(ctx, events.Options{Source: "orkestra://bench/intake"}.FromEnvironment(func(name string) string { return env[name] })); err != nil {
		return nil, err
	}
	if err := makeTopology(ctx, s, env); err != nil {
		return nil, err
	}
	if w.shelf, err = newSupply(numbered(charts), size); err != nil {
		return nil, err
	}
	museum, err := url.Parse(env["CHARTMUSEUM_URL"])
	if err != nil {
		return nil, err
	}
	w.museum = &counted{}
	proxy := httputil.NewSingleHostReverseProxy(museum)
	w.museum.url, w.museum.close, err = loopback.Serve(http.HandlerFunc(func(out http.ResponseWriter, r *http.Request) {
		proxy.ServeHTTP(out, r)
		if r.Method == http.MethodPost {
			w.museum.count()
		}
	}))
	if err != nil {
		return nil, err
	}
	if w.log, err = os.Create(filepath.Join(s.Dir, "stager.log")); err != nil {
		return nil, fmt.Errorf("making the stager's log: %w", err)
	}
	return w, w.client.Create(ctx, w.shelf.group())
}

func (w *world) close() error {
	// With all services it would be rolled out.
	gone := w.client.Delete(context.Background(), w.shelf.group())
	return errors.Join(gone, w.stopStager(), w.bus.Close(), w.shelf.Close(), w.museum.close(), w.log.Close())
}

// makeTopology makes the streams: the stager may not.
func makeTopology(ctx context.Context, s *stack.Stack, env map[string]string) error {
	bus, err := events.Connect(ctx, events.Options{
		Source: "orkestra://bench/topology", NKeyFile: s.NATSKey(events.IdentityTopology), InboxPrefix: events.InboxOf(events.IdentityTopology),
	}.FromEnvironment(func(name string) string { return env[name] }))
	if err != nil {
		return err
	}
	return errors.Join(bus.EnsureTopology(ctx), bus.Close())
}

// startStager starts one that has nothing in memory, in place of the one that runs.
func (w *world) startStager(ctx context.Context) error {
	if err := w.stopStager(); err != nil {
		return err
	}
	health, err := freeAddress()
	if err != nil {
		return err
	}
	artifacts, err := freeAddress()
	if err != nil {
		return err
	}
	w.stager = exec.Command(filepath.Join(w.stack.Bin, "orkestra-stager"), "--kubeconfig", w.stack.Kubeconfig, "--nats-url", w.env["NATS_URL"],
		"--nats-ca", w.env["NATS_CA"], "--nats-nkey", w.stack.NATSKey("stager"), "--nats-topology", "await",
		"--health-addr", health, "--metrics-addr", "0", "--namespace", stack.Namespace, "--allow-private-registries",
		"--chartmuseum-url", w.museum.url, "--artifact-addr", artifacts, "--artifact-url", "http://"+artifacts,
		"--staging-credentials", w.env["CHARTMUSEUM_CREDENTIALS"], "--staging-secret", stack.MuseumSecret)
	w.stager.Stderr, w.stager.Stdout = w.log, w.log
	if err := w.stager.Start(); err != nil {
		return fmt.Errorf("starting the stager: %w", err)
	}
	w.done = make(chan error, 1)
	go func(c *exec.Cmd) { w.done <- c.Wait() }(w.stager)
	return w.await(ctx, "http://"+health+"/readyz")
}

// freeAddress on loopback.
func freeAddress() (string, error) {
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err == nil {
		err = free.Close()
	}
	if err != nil {
		return "", fmt.Errorf("finding a port: %w", err)
	}
	return free.Addr().String(), nil
}

func (w *world) await(ctx context.Context, url string) error {
	ctx, cancel := context.WithTimeout(ctx, readyWait)
	defer cancel()
	again := time.NewTicker(50 * time.Millisecond)
	defer again.Stop()
	for {
		if resp, err := http.Get(url); err == nil {
			if err := resp.Body.Close(); err != nil {
				return err
			}
			if resp.StatusCode == http.StatusOK {
				return nil
			}
		}
		select {
		case err := <-w.done:
			w.done <- err
			return fmt.Errorf("the stager has ended, see %s: %w", w.log.Name(), err)
		case <-ctx.Done():
			return fmt.Errorf("the stager is not ready, see %s: %w", w.log.Name(), ctx.Err())
		case <-again.C:
		}
	}
}

func (w *world) stopStager() error {
	if w.stager == nil {
		return nil
	}
	err := w.stager.Process.Signal(syscall.SIGTERM)
	ended := <-w.done
	w.stager = nil
	if errors.Is(err, os.ErrProcessDone) {
		err = nil
	}
	return errors.Join(err, ended)
}

// stage asks for a rollout, and measures until it is said that its charts are staged.
func (w *world) stage(ctx context.Context, name string) (phase, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	patch := fmt.Appendf(nil, `{"metadata":{"annotations":{%q:%q}}}`, v1alpha1.AnnotationRequestedAt, name)
	g := &v1alpha1.ApplicationGroup{}
	g.Name = group
	if err := w.client.Patch(ctx, g, client.RawPatch(mergePatch, patch)); err != nil {
		return phase{}, fmt.Errorf("asking for a rollout: %w", err)
	}
	// From here on the process's peak is counted anew.
	pid := w.stager.Process.Pid
	if err := proc.ResetPeak(pid); err != nil {
		return phase{}, err
	}
	w.shelf.reset()
	w.museum.reset()
	rollout := groupstatus.RolloutOf(g)
	began := time.Now()
	if err := w.bus.Say(ctx, events.New(rollout, events.GroupDesired{})); err != nil {
		return phase{}, fmt.Errorf("asking for a rollout: %w", err)
	}
	if err := w.staged(ctx, rollout); err != nil {
		return phase{}, err
	}
	m := phase{Name: name, Seconds: time.Since(began).Seconds()}
	var fetched, pushed time.Duration
	m.Downloads, fetched = w.shelf.read(began)
	m.Pushes, pushed = w.museum.read(began)
	m.FetchedSeconds, m.PushedSeconds = fetched.Seconds(), pushed.Seconds()
	var err error
	m.PeakMiB, err = proc.PeakMiB(pid)
	return m, err
}

var errStaged = errors.New("staged")

func (w *world) staged(ctx context.Context, rollout events.Rollout) error {
	types := []events.Type{events.TypeChartsStaged, events.TypeChartsFailed}
	err := w.bus.Follow(ctx, events.FollowOptions{Group: group, Types: types, Follow: true}, func(f events.Fact, _ []byte) error {
		if f.Rollout != rollout {
			return nil
		}
		if failed, ok := f.Data.(events.ChartsFailed); ok {
			return fmt.Errorf("not staged: %s", failed.Message)
		}
		return errStaged
	})
	switch {
	case errors.Is(err, errStaged):
		return nil
	case err == nil:
		return fmt.Errorf("waiting for the charts: %w", context.Cause(ctx))
	}
	return err
}
