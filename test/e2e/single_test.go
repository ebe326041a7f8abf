package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"orkestra.dev/api/v1alpha1"
	"orkestra.dev/local/stack"
	"orkestra.dev/pkg/events"
)

// idleMiB is what all of Orkestra may take in memory when there is nothing to do.
const idleMiB = 150

// single is Orkestra in one process, with a bus of its own.
type single struct {
	dir, health, nats string
	args              []string
	log               string
	cmd               *exec.Cmd
	ended             chan error
}

// newSingle starts it in the place of the stack's services, which come back after the test.
func newSingle(t *testing.T) *single {
	t.Helper()
	for _, service := range stack.Services {
		for _, p := range processes(t, service) {
			if err := p.Stop(t.Context()); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				if err := p.Start(context.Background()); err != nil {
					t.Error(err)
				}
			})
		}
	}
	dir := t.TempDir()
	s := &single{dir: dir, health: freeAddress(t), nats: freeAddress(t), log: filepath.Join(dir, "log")}
	s.args = []string{
		"serve", "--all", "--data-dir", filepath.Join(dir, "data"), "--chartmuseum-url", env.vars["CHARTMUSEUM_URL"],
		"--staging-credentials", env.vars["CHARTMUSEUM_CREDENTIALS"], "--staging-secret", stack.MuseumSecret,
		"--artifact-addr", strings.TrimPrefix(env.vars["ORKESTRA_ARTIFACT_URL"], "http://"), "--artifact-url", env.vars["ORKESTRA_ARTIFACT_URL"],
		"--allow-private-registries", "--health-addr", s.health, "--metrics-addr", freeAddress(t), "--nats-addr", s.nats,
	}
	t.Cleanup(func() {
		s.kill(t)
		if log, err := os.ReadFile(s.log); t.Failed() {
			t.Logf("%v\n%s", err, log)
		}
	})
	s.start(t)
	return s
}

// freeAddress was free a moment ago.
func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// start starts the process on what an earlier one left, waits until it is ready, and has
// the tests read its bus instead of the stack's.
func (s *single) start(t *testing.T) {
	t.Helper()
	log, err := os.OpenFile(s.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	s.cmd = exec.Command(filepath.Join(env.root, ".local", "bin", "orkestra"), s.args...)
	s.cmd.Env = append(os.Environ(), "KUBECONFIG="+env.vars["KUBECONFIG"])
	s.cmd.Stderr = log
	begin := time.Now()
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	s.ended = make(chan error, 1)
	go func() { s.ended <- s.cmd.Wait() }()
	eventually(t, time.Minute, "orkestra serve --all to be ready", func(ctx context.Context) error {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+s.health+"/readyz", nil)
		if err != nil {
			return err
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			return errors.New(resp.Status)
		}
		return nil
	})
	t.Logf("ready after %s, %d MiB", time.Since(begin).Round(10*time.Millisecond), s.resident(t))

	own, err := events.Connect(t.Context(), events.Options{
		Source: "orkestra://e2e/test", URL: "nats://" + s.nats, NKeyFile: filepath.Join(s.dir, "data", "nkeys", events.IdentityReader+".nk"),
	})
	if err != nil {
		t.Fatal(err)
	}
	of := env.bus
	env.bus = own
	t.Cleanup(func() {
		env.bus = of
		if err := own.Close(); err != nil {
			t.Error(err)
		}
	})
}

// kill ends the process as a crash would.
func (s *single) kill(t *testing.T) {
	t.Helper()
	if err := s.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		t.Fatal(err)
	}
	s.ended <- <-s.ended
}

// resident is the memory of the process, in MiB.
func (s *single) resident(t *testing.T) int {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(status)) {
		if after, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kib, err := strconv.Atoi(strings.Fields(after)[0])
			if err != nil {
				t.Fatal(err)
			}
			return kib / 1024
		}
	}
	t.Fatalf("no VmRSS in\n%s", status)
	return 0
}

// One process is all of Orkestra: it rolls out, updates and deletes, comes back from a crash
// in mid-rollout, is small when it has nothing to do, and ends in good order.
func TestSingle(t *testing.T) {
	charts := serve(t)
	add(t, charts, "small", "1.0.0", configMapChart())
	s := newSingle(t)
	idle := func() {
		t.Helper()
		eventually(t, time.Minute, fmt.Sprintf("less than %d MiB", idleMiB), func(context.Context) error {
			if is := s.resident(t); is >= idleMiB {
				return fmt.Errorf("it takes %d MiB", is)
			}
			return nil
		})
		t.Logf("%d MiB with nothing to do", s.resident(t))
	}
	idle()

	g := chain("single", charts.URL, 3)
	create(t, g)
	awaitReady(t, g.Name, time.Minute, metav1.ConditionTrue, v1alpha1.ReasonSucceeded)
	inOrder(t, g.Name, 3)
	update(t, g.Name, func(g *v1alpha1.ApplicationGroup) {
		g.Spec.Applications[1].Spec.Release.Values = values(t, map[string]any{"message": "after"})
	})
	awaitReady(t, g.Name, time.Minute, metav1.ConditionTrue, v1alpha1.ReasonSucceeded)
	once(t, g.Name)
	remove(t, g.Name)
	nothingLeft(t, g.Name)

	g = chain("single-killed", charts.URL, 6)
	create(t, g)
	awaitReleases(t, g.Name, 2)
	s.kill(t)
	s.start(t)
	awaitReady(t, g.Name, 2*time.Minute, metav1.ConditionTrue, v1alpha1.ReasonSucceeded)
	inOrder(t, g.Name, 6)
	once(t, g.Name)
	remove(t, g.Name)
	nothingLeft(t, g.Name)
	idle()

	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-s.ended:
		s.ended <- err
		if err != nil {
			t.Errorf("asked to end: %v", err)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("it does not end within 10s of SIGTERM")
	}
	log, err := os.ReadFile(s.log)
	if err != nil {
		t.Fatal(err)
	}
	lines := bytes.Split(bytes.TrimSpace(log), []byte("\n"))
	if last := lines[len(lines)-1]; !bytes.Contains(last, []byte("stopped")) {
		t.Errorf("it does not say that it stopped; its last line is %s", last)
	}
	answers(t, 0, []string{"records", "0 gaps"}, "audit", "verify", filepath.Join(s.dir, "data", "audit"))
}
