package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"orkestra.dev/api/v1alpha1"
	"orkestra.dev/local/stack"
	"orkestra.dev/local/timing"
)

const (
	// natsRoom is how much more NATS can store on its full disk, in bytes.
	natsRoom = 64 << 10
	// diskFull is what the operating system says of it.
	diskFull = "no space left on device"
	// askedAtMost is how often all services together may ask a bus that cannot store, in messages a second.
	askedAtMost = 100
)

// ourProcesses are all replicas of our services, and what runs beside them.
func ourProcesses(t *testing.T) []*stack.Process {
	t.Helper()
	var out []*stack.Process
	for _, service := range stack.Services {
		out = append(out, processes(t, service)...)
	}
	for _, name := range []string{"topology", "auditor"} {
		p, err := env.stack.Process(name)
		must(t, err)
		out = append(out, p)
	}
	return out
}

// goTogether begins to delete groups, so that their tests wait for all of them at once.
func goTogether(t *testing.T, groups []string) {
	t.Helper()
	for _, name := range groups {
		must(t, env.client.Delete(t.Context(), &v1alpha1.ApplicationGroup{ObjectMeta: metav1.ObjectMeta{Name: name}}))
	}
}

// Each of our processes is replaced, one after the other and twice, while six groups are rolled out and changed again
// and again: every rollout completes, nothing is said or done twice, and nobody waits for long.
func TestRollingReplacement(t *testing.T) {
	const n, rounds = 6, 2
	s := serve(t)
	add(t, s, "small", "1.0.0", configMapChart())
	generations := map[string]int{}
	for i := range 6 {
		name := fmt.Sprintf("replaced-%d", i)
		create(t, chain(name, s.URL, n))
		generations[name] = 1
	}
	begin := time.Now()
	var longest time.Duration
	for range rounds {
		for _, p := range ourProcesses(t) {
			stop := time.Now()
			must(t, p.Stop(t.Context()))
			longest = max(longest, time.Since(stop))
			must(t, p.Start(t.Context()))
			for name := range generations {
				g, err := get(t.Context(), name)
				must(t, err)
				if !ready(g) {
					continue
				}
				generations[name]++
				update(t, name, func(g *v1alpha1.ApplicationGroup) {
					for i := range g.Spec.Applications {
						g.Spec.Applications[i].Spec.Release.Values = values(t, map[string]any{"message": strconv.Itoa(generations[name])})
					}
				})
			}
		}
	}
	t.Logf("replaced twice within %s, the longest end took %s; rollouts: %v", time.Since(begin).Round(time.Second), longest.Round(time.Millisecond), generations)
	var edges []timing.Edge
	for name, generation := range generations {
		awaitReady(t, name, 2*time.Minute, metav1.ConditionTrue, v1alpha1.ReasonSucceeded)
		inOrder(t, name, n)
		once(t, name)
		for key, hr := range releases(t, name) {
			if v := hr.Status.History.Latest().Version; v != generation {
				t.Errorf("release %s is at revision %d after %d rollouts", key, v, generation)
			}
		}
		edges = append(edges, env.recorder.Edges(name)...)
	}
	goTogether(t, names(generations))
	slowest := timing.Percentile(edges, 100)
	t.Logf("edge overhead of %d edges meanwhile: median %s, p90 %s, max %s", len(edges), timing.Percentile(edges, 50).Round(time.Millisecond),
		timing.Percentile(edges, 90).Round(time.Millisecond), slowest.Round(time.Millisecond))
	if longest > handover || slowest > handover {
		t.Errorf("an end took up to %s and an edge up to %s, want less than %s: what is in hand is not handed over", longest, slowest, handover)
	}
}

// handover is how long a service that is asked to end, and whatever waits for what it had in hand, may take. It is less
// than an event takes to come back by itself.
const handover = 8 * time.Second

// fullDisk runs the stack's NATS again, with what it has stored, on a disk that somebody else has filled but for
// natsRoom: a file system of its own in a mount namespace of its own. Mend gives it back the disk that it had, with all
// that it has stored meanwhile, and starts it as it was.
func fullDisk(t *testing.T) (log *syncBuffer, mend func()) {
	t.Helper()
	p, err := env.stack.Process("nats")
	must(t, err)
	pid := strconv.Itoa(p.Status(t.Context()).PID)
	args, environ := nulSeparated(t, filepath.Join("/proc", pid, "cmdline")), nulSeparated(t, filepath.Join("/proc", pid, "environ"))
	at := slices.Index(args, "--store_dir")
	if at < 0 {
		t.Fatalf("NATS runs as %q, without --store_dir", args)
	}
	store := args[at+1]
	before, after := store+".before", store+".after"
	must(t, p.Kill(t.Context()))
	must(t, os.Rename(store, before))
	must(t, os.Mkdir(store, 0o700))
	// NATS limits itself to three quarters of what is free when it starts; that is not to be what it comes to.
	script := fmt.Sprintf(`mount -t tmpfs -o size=%d tmpfs "$0" && cp -a "$0".before/. "$0" && exec "$@"`, 4*diskUsage(t, before)+(16<<20))
	full := exec.Command("unshare", append([]string{"--user", "--map-root-user", "--mount", "sh", "-c", script, store}, args...)...)
	log = &syncBuffer{}
	full.Env, full.Stdout, full.Stderr = environ, log, log
	if err := full.Start(); err != nil {
		t.Fatalf("running NATS on a disk of its own: %v", err)
	}
	inside := filepath.Join("/proc", strconv.Itoa(full.Process.Pid), "root", store)
	filler := filepath.Join(inside, "filler")
	mend = sync.OnceFunc(func() {
		// Stopped it changes nothing, and what it has is what a crash would leave.
		err := errors.Join(full.Process.Signal(syscall.SIGSTOP), os.Remove(filler), os.CopyFS(after, os.DirFS(inside)), full.Process.Kill())
		if exit, ok := errors.AsType[*exec.ExitError](full.Wait()); !ok || exit.ExitCode() != -1 {
			t.Errorf("NATS on its full disk ended by itself: %v", exit)
		}
		err = errors.Join(err, os.Remove(store), os.Rename(after, store), os.RemoveAll(before), p.Start(context.Background()))
		if err != nil {
			t.Errorf("giving NATS its disk back: %v\n%s", err, log)
		}
	})
	t.Cleanup(mend)
	eventually(t, 30*time.Second, "NATS to be up on its own disk", func(ctx context.Context) error {
		_, err := heard(ctx)
		return err
	})
	must(t, fill(filler))
	return log, mend
}

// fill writes a file until the disk that it is on has room for natsRoom and no more.
func fill(path string) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	size := int64(0)
	for chunk := make([]byte, 4096); err == nil; {
		var n int
		n, err = f.Write(chunk)
		size += int64(n)
	}
	if !errors.Is(err, syscall.ENOSPC) {
		return errors.Join(err, f.Close())
	}
	return errors.Join(f.Truncate(max(0, size-natsRoom)), f.Close())
}

// nulSeparated are the strings of a file of /proc.
func nulSeparated(t *testing.T, path string) []string {
	t.Helper()
	b, err := os.ReadFile(path)
	must(t, err)
	return strings.Split(strings.TrimRight(string(b), "\x00"), "\x00")
}

// diskUsage is what the files of a folder take on a disk of pages, in bytes.
func diskUsage(t *testing.T, dir string) (total int64) {
	t.Helper()
	const page = 4096
	must(t, filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err == nil {
			total += (info.Size() + page - 1) / page * page
		}
		return err
	}))
	return total
}

// syncBuffer is a bytes.Buffer that a process writes and a test reads.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// heard is how many messages NATS has had from its clients.
func heard(ctx context.Context) (int64, error) {
	var varz struct {
		InMsgs int64 `json:"in_msgs"`
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, env.vars["NATS_MONITOR_URL"]+"/varz", nil)
	if err != nil {
		return 0, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err
	}
	return varz.InMsgs, errors.Join(json.NewDecoder(resp.Body).Decode(&varz), resp.Body.Close())
}

// The disk under NATS is full in mid-rollout. Senders of webhooks are told to come again, the services say what they wait
// for and do not press, and when there is room again all that was asked for is done, once.
func TestNATSDiskFull(t *testing.T) {
	const n, hooked = 5, "diskless-hooked"
	charts, path := outdated(t, hooked)
	header, body := fromGitHub(t, charts.URL, "diskless", "1.1.0")
	s := serve(t)
	add(t, s, "small", "1.0.0", configMapChart())
	log, mend := fullDisk(t)
	defer mend() // before what was made is taken away
	var groups []string
	for i := range 4 {
		groups = append(groups, fmt.Sprintf("diskless-%d", i))
		create(t, chain(groups[i], s.URL, n))
	}
	eventually(t, time.Minute, "NATS to run out of its disk", func(context.Context) error {
		if !strings.Contains(log.String(), diskFull) {
			return errors.New(log.String())
		}
		return nil
	})
	p, err := post(t.Context(), 0, path, header, body)
	if err != nil || p.status != http.StatusServiceUnavailable || p.again == "" {
		t.Errorf("a webhook while nothing can be stored: want 503 with Retry-After, got %+v, %v", p, err)
	}
	const watched = 5 * time.Second
	first, err := heard(t.Context())
	must(t, err)
	over := time.NewTimer(watched)
	defer over.Stop()
	<-over.C
	last, err := heard(t.Context())
	must(t, err)
	rate := float64(last-first) / watched.Seconds()
	t.Logf("a NATS that cannot store is asked %.0f times a second", rate)
	if rate > askedAtMost {
		t.Errorf("a NATS that cannot store is asked %.0f times a second, want %d at most", rate, askedAtMost)
	}
	eventually(t, 20*time.Second, "a service to say what it waits for", func(context.Context) error {
		for _, p := range ourProcesses(t) {
			if log, err := os.ReadFile(p.LogFile()); err != nil || bytes.Contains(log, []byte("waiting for JetStream to store")) {
				return err
			}
		}
		return errors.New("none does")
	})
	mend()
	for _, name := range groups {
		awaitReady(t, name, 2*time.Minute, metav1.ConditionTrue, v1alpha1.ReasonSucceeded)
		ended(t, name)
		once(t, name)
		installedOnce(t, name, n)
		audited(t, name)
	}
	accepted(t, 0, path, header, body)
	awaitVersion(t, hooked, "1.1.0")
	goTogether(t, append(groups, hooked))
}
