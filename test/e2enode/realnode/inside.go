package realnode

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
)

// dialTimeout is how long a connection may take that nobody refuses.
const dialTimeout = 3 * time.Second

// Process is one that runs in a container of the pod, and not the one that only holds its namespaces.
func Process(t *testing.T, pod corev1.Pod) int {
	t.Helper()
	files, err := filepath.Glob("/proc/[0-9]*/cgroup")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		groups, err := os.ReadFile(f)
		if err != nil || !bytes.Contains(groups, []byte("/pod"+string(pod.UID)+"/")) {
			continue // it is gone by now, or another's
		}
		name, err := os.ReadFile(filepath.Join(filepath.Dir(f), "comm"))
		if err != nil || string(bytes.TrimSpace(name)) == "pause" {
			continue
		}
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(f)))
		if err != nil {
			t.Fatal(err)
		}
		return pid
	}
	t.Fatalf("no process runs in pod %s", pod.Name)
	return 0
}

// Dial connects to an address from inside of a pod: by its network, with its address. The error says why that could not be.
func Dial(t *testing.T, from corev1.Pod, address string) error {
	t.Helper()
	namespace, err := os.Open(fmt.Sprintf("/proc/%d/ns/net", Process(t, from)))
	if err != nil {
		t.Fatal(err)
	}
	defer namespace.Close()
	ctx, cancel := context.WithTimeout(t.Context(), dialTimeout)
	defer cancel()
	answer := make(chan error, 1)
	go func() {
		// The thread is of another network from here on: it is not given back, and ends with the goroutine.
		runtime.LockOSThread()
		if err := unix.Setns(int(namespace.Fd()), unix.CLONE_NEWNET); err != nil {
			answer <- fmt.Errorf("entering the network of pod %s: %w", from.Name, err)
			return
		}
		conn, err := new(net.Dialer).DialContext(ctx, "tcp", address)
		if err == nil {
			err = conn.Close()
		}
		answer <- err
	}()
	return <-answer
}

// IsRefused tells whether a connection was refused, or its packets dropped.
func IsRefused(err error) bool {
	return errors.Is(err, unix.ECONNREFUSED) || errors.Is(err, unix.EHOSTUNREACH) || errors.Is(err, os.ErrDeadlineExceeded) ||
		errors.Is(err, context.DeadlineExceeded)
}
