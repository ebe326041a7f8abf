package stack

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"
)

// actor is the variable that makes this test binary play a server of the stack: it says what kind.
const actor = "ORKESTRA_TEST_ACTOR"

func TestMain(m *testing.M) {
	kind, address, _ := strings.Cut(os.Getenv(actor), " ")
	if kind == "" {
		os.Exit(m.Run())
	}
	os.Exit(act(kind, address))
}

func act(kind, address string) int {
	fmt.Println("acting", kind)
	switch kind {
	case "fails":
		fmt.Println("no such flag: --frobnicate")
		return 2
	case "crashes-once":
		if _, err := os.Stat("crashed"); err != nil {
			fmt.Println(os.WriteFile("crashed", nil, 0o600), "\nfatal error: concurrent map read and map write\n\ngoroutine 185 [running]:")
			return 2
		}
	case "deaf":
		signal.Ignore(syscall.SIGTERM)
	case headless:
		go func() {
			for s, err := statOf(os.Getpid()); err == nil && s.state != 'Z'; s, err = statOf(os.Getpid()) {
				time.Sleep(time.Millisecond)
			}
			serveHealth(address)
		}()
		_, _, err := syscall.Syscall(syscall.SYS_EXIT, 0, 0, 0) // of this thread, which is the first
		fmt.Println("still here:", err)
	}
	serveHealth(address)
	return 1
}

func serveHealth(address string) {
	http.HandleFunc("/healthz", func(http.ResponseWriter, *http.Request) {})
	fmt.Println(http.ListenAndServe(address, nil))
}

// headless is one whose first thread ends, and whose others go on.
const headless = "headless"

func init() {
	if strings.HasPrefix(os.Getenv(actor), headless) {
		runtime.LockOSThread() // main has the first thread
	}
}

// A process runs for as long as one of its threads does: it has its ports, and another cannot listen there.
func TestRunsWithoutItsFirstThread(t *testing.T) {
	s := scene(t)
	want := dummy(t, "nats", headless)
	pid := bring(t, s, want)
	stat, err := statOf(pid)
	if err != nil || stat.state != 'Z' {
		t.Fatalf("its first thread has not ended: %+v, %v", stat, err)
	}
	if again := bring(t, s, want); again != pid {
		t.Errorf("what runs is left: %d became %d", pid, again)
	}
	p, err := s.Process("nats")
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Kill(t.Context()); err != nil {
		t.Fatal(err)
	}
	if !listens(want.Ports[0]) {
		t.Error("Kill returns when its port is free")
	}
}

// scene is a stack without any of the real servers.
func scene(t *testing.T) *Stack {
	t.Helper()
	s, err := Open(Options{Root: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.layout.makeDirs(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Down(context.Background(), true); err != nil {
			t.Error(err)
		}
	})
	return s
}

func dummy(t *testing.T, name, kind string) spec {
	t.Helper()
	ports, err := loadPorts(filepath.Join(t.TempDir(), "ports.json"))
	if err != nil {
		t.Fatal(err)
	}
	port, err := ports.get(name, "http")
	if err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return spec{Name: name, Command: []string{self}, Env: []string{actor + "=" + kind + " " + loopback(port)},
		Ports: []int{port}, Health: "http://" + loopback(port) + "/healthz"}
}

// bring is what Up does for one process. It returns its PID.
func bring(t *testing.T, s *Stack, want spec) int {
	t.Helper()
	if err := s.ensure(t.Context(), want); err != nil {
		t.Fatal(err)
	}
	return healthy(t, s, want.Name)
}

func healthy(t *testing.T, s *Stack, name string) int {
	t.Helper()
	p, err := s.Process(name)
	if err != nil {
		t.Fatal(err)
	}
	status := p.Status(t.Context())
	if status.Err != nil || status.PID == 0 {
		t.Fatalf("%s is not healthy: %+v", name, status)
	}
	return status.PID
}

func TestEnsure(t *testing.T) {
	s := scene(t)
	want := dummy(t, "nats", "serves")
	first := bring(t, s, want)
	if again := bring(t, s, want); again != first {
		t.Errorf("what runs and is healthy is left: %d became %d", first, again)
	}

	p, err := s.Process("nats")
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Kill(t.Context()); err != nil {
		t.Fatal(err)
	}
	if running, err := p.Running(); running || err != nil {
		t.Errorf("Kill returns when the process is gone: running %v, %v", running, err)
	}
	if status := p.Status(t.Context()); !errors.Is(status.Err, errNotRunning) {
		t.Errorf("a killed process does not run: %+v", status)
	}
	mended := bring(t, s, want)
	if mended == first {
		t.Error("what died is started again")
	}

	want.Binary = "built anew"
	rebuilt := bring(t, s, want)
	if rebuilt == mended {
		t.Error("what is to run differently is restarted")
	}

	if err := p.Stop(t.Context()); err != nil {
		t.Error(err)
	}
	if err := p.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	healthy(t, s, "nats")
	if err := p.Start(t.Context()); err != nil {
		t.Errorf("starting what runs is no error: %v", err)
	}
}

func TestFailureShowsTheLog(t *testing.T) {
	s := scene(t)
	want := dummy(t, "etcd", "fails")
	err := s.ensure(t.Context(), want)
	if err == nil {
		t.Fatal("a process that ends before it is healthy is an error")
	}
	for _, part := range []string{"etcd", "no such flag: --frobnicate", "exit status 2", s.layout.logFile("etcd")} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("the error tells %q: %v", part, err)
		}
	}
}

func TestStopTellsOfKilling(t *testing.T) {
	s := scene(t)
	bring(t, s, dummy(t, "intake", "deaf"))
	p, err := s.Process("intake")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := p.Stop(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("who is told to stop waiting stops waiting: %v", err)
	}
	healthy(t, s, "intake")
}

func TestRecycledNumberIsNotSignalled(t *testing.T) {
	s := scene(t)
	bystander := exec.Command("sleep", "60")
	bystander.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := bystander.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := bystander.Process.Kill(); err != nil {
			t.Error(err)
		}
		if err := bystander.Wait(); err == nil {
			t.Error("the bystander ended by itself")
		}
	}()
	is, err := identify(bystander.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	if running, err := is.running(); !running || err != nil {
		t.Errorf("a process is recognised: %v, %v", running, err)
	}
	earlier, otherBoot := is, is
	earlier.Ticks--
	otherBoot.Boot = "another"
	for name, id := range map[string]identity{"begun earlier": earlier, "of another boot": otherBoot} {
		if running, err := id.running(); running || err != nil {
			t.Errorf("a process %s is another one: %v, %v", name, running, err)
		}
		p, err := s.process("etcd")
		if err != nil {
			t.Fatal(err)
		}
		if err := p.write(record{Spec: spec{Name: "etcd"}, Started: id}); err != nil {
			t.Fatal(err)
		}
		if err := p.Kill(t.Context()); err != nil {
			t.Error(err)
		}
	}
	if running, err := is.running(); !running || err != nil {
		t.Errorf("the process that has the number now was left alone: running %v, %v", running, err)
	}
}

func TestDown(t *testing.T) {
	s := scene(t)
	var said bytes.Buffer
	s.log = &said
	for _, name := range []string{"etcd", "nats", "intake", "intake-2"} {
		bring(t, s, dummy(t, name, "serves"))
	}
	env, err := s.Env()
	if err != nil || env["KUBECONFIG"] != s.Kubeconfig {
		t.Errorf("the environment names the kubeconfig: %v, %v", env, err)
	}
	if err := s.Down(t.Context(), false); err != nil {
		t.Fatal(err)
	}
	if processes, err := s.Processes(); len(processes) > 0 || err != nil {
		t.Errorf("after down there are no processes: %d, %v", len(processes), err)
	}
	if !exists(s.layout.logFile("etcd")) {
		t.Error("down keeps state")
	}
	if _, err := s.Process("etcd"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a process that was taken down is not found: %v", err)
	}

	theirs := s.layout.path("bin", "kube")
	if err := os.MkdirAll(filepath.Dir(theirs), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(theirs, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	bring(t, s, dummy(t, "nats", "deaf"))
	if err := s.Down(t.Context(), true); err != nil {
		t.Fatal(err)
	}
	left, err := filepath.Glob(s.layout.path("*"))
	if err != nil || len(left) != 1 || filepath.Base(left[0]) != "bin" {
		t.Errorf("wiping leaves what was built and nothing else: %v, %v", left, err)
	}
	if err := s.Down(t.Context(), true); err != nil {
		t.Errorf("taking down what is not there is no error: %v", err)
	}
}

func TestRetire(t *testing.T) {
	s := scene(t)
	one, two, etcd, kwok := dummy(t, "intake", "serves"), dummy(t, "intake-2", "serves"), dummy(t, "etcd", "serves"), dummy(t, "kwok", "serves")
	bring(t, s, etcd)
	bring(t, s, kwok)
	first := bring(t, s, one)
	bring(t, s, two)
	gone := func(name string) {
		t.Helper()
		if _, err := s.Process(name); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s is not wanted any more: %v", name, err)
		}
	}

	if err := s.retire(t.Context(), plan{kubernetes: []spec{etcd}, services: []spec{one}}, true); err != nil {
		t.Fatal(err)
	}
	healthy(t, s, "etcd")
	gone("kwok")
	gone("intake-2")
	if err := s.retire(t.Context(), plan{}, false); err != nil {
		t.Fatal(err)
	}
	gone("etcd")
	if healthy(t, s, "intake") != first {
		t.Error("who does not ask for services leaves them alone")
	}
}

func TestLock(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	var said bytes.Buffer
	unlock, err := lock(t.Context(), path, &said)
	if err != nil {
		t.Fatal(err)
	}
	impatient, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if _, err := lock(impatient, path, &said); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a second one waits: %v", err)
	}
	if !strings.Contains(said.String(), filepath.Dir(path)) {
		t.Errorf("and says so: %q", said.String())
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	fresh, err := lock(t.Context(), path, &said)
	if err != nil {
		t.Errorf("a wiped lock is nobody's: %v", err)
	}
	if err := errors.Join(unlock(), fresh()); err != nil {
		t.Error(err)
	}
}
