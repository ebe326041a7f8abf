package stack

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

const (
	// startTimeout is how long a server may take until it is healthy, on a machine with better things to do.
	startTimeout = 90 * time.Second
	// probeInterval is how often a server that comes up is asked for its health.
	probeInterval = 50 * time.Millisecond
	// tailLines of its log are shown of a process that failed.
	tailLines = 20
)

// rank orders processes for the way down: the lower goes first, so that nobody loses what it depends on.
type rank int

const (
	ranksServices rank = iota
	ranksControllers
	ranksCluster
	ranksAPI
	ranksStorage
	rankCount
)

// grace is how long a process has between SIGTERM and SIGKILL. Our services give 20 s to the work they have in hand; of the
// others, Flux's controllers would wait half a minute where their API server is gone.
func (r rank) grace() time.Duration {
	if r == ranksServices {
		return 25 * time.Second
	}
	return 10 * time.Second
}

// spec is all that a process is: equal specs, equal processes. It is recorded, so that whoever opens the stack later can
// start the process again.
type spec struct {
	Name    string   `json:"name"`
	Command []string `json:"command"`
	// Env is in addition to what passes on from us, see passedOn.
	Env []string `json:"env,omitempty"`
	// Binary identifies the content of the executable, Inputs that of the files that the command names.
	Binary string `json:"binary"`
	Inputs string `json:"inputs,omitempty"`
	// Health is a URL that answers 200 when the process can be used.
	Health string `json:"health"`
	Ports  []int  `json:"ports"`
	Rank   rank   `json:"rank"`
	// Exports are the variables by which its users find it.
	Exports map[string]string `json:"exports,omitempty"`
}

func (s spec) fingerprint() (string, error) {
	b, err := json.Marshal(s)
	if err != nil {
		return "", fmt.Errorf("fingerprinting %s: %w", s.Name, err)
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:]), nil
}

// record is what is written about a process when it starts.
type record struct {
	Spec    spec      `json:"spec"`
	Started identity  `json:"started"`
	Since   time.Time `json:"since"`
	// LogOffset is where the log of this run begins.
	LogOffset int64 `json:"logOffset"`
}

// Process is one server or service of the stack. Its methods may be called by any process that opened the stack, not
// only by the one that brought it up.
type Process struct {
	name   string
	layout layout
	http   *http.Client
}

// Status is how a process is doing, now.
type Status struct {
	Name  string
	PID   int // 0: it does not run
	Ports []int
	// Since is when it was started.
	Since time.Time
	// Err says why it is not healthy, nil if it is.
	Err error
	Log string
}

var (
	errNotRunning = errors.New("not running")
	errEnded      = errors.New("it ended before it was healthy")
)

// Name is the name of the process, such as "kube-apiserver" or "executor-2".
func (p *Process) Name() string { return p.name }

// LogFile is the path of the log of all runs of the process.
func (p *Process) LogFile() string { return p.layout.logFile(p.name) }

// Status observes the process and asks it for its health.
func (p *Process) Status(ctx context.Context) Status {
	s := Status{Name: p.name, Log: p.LogFile()}
	r, err := p.read()
	if err != nil {
		s.Err = err
		return s
	}
	s.Ports, s.Since = r.Spec.Ports, r.Since
	running, err := r.Started.running()
	switch {
	case err != nil:
		s.Err = err
	case !running:
		s.Err = errNotRunning
	default:
		s.PID = r.Started.PID
		s.Err = p.probe(ctx, r.Spec.Health)
	}
	return s
}

// Running tells whether the process that was started last is alive, healthy or not.
func (p *Process) Running() (bool, error) {
	r, err := p.read()
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return r.Started.running()
}

// Start starts the process as it was started last, unless it runs, and waits until it is healthy.
func (p *Process) Start(ctx context.Context) error {
	r, err := p.read()
	if err != nil {
		return err
	}
	running, err := r.Started.running()
	if err != nil {
		return err
	}
	if !running {
		return p.start(ctx, r.Spec)
	}
	return p.awaitHealth(ctx, r, startTimeout)
}

// Kill sends SIGKILL, as a crash would, and waits until the process is gone.
func (p *Process) Kill(ctx context.Context) error {
	return p.end(ctx, syscall.SIGKILL)
}

// Stop sends SIGTERM and waits until the process is gone. One that is still there after 25 seconds, 10 of what is not a
// service of ours, is killed, and that is an error.
func (p *Process) Stop(ctx context.Context) error {
	r, err := p.read()
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	grace := r.Spec.Rank.grace()
	patience, cancel := context.WithTimeout(ctx, grace)
	defer cancel()
	err = p.end(patience, syscall.SIGTERM)
	if err == nil || patience.Err() == nil {
		return err
	}
	if ctx.Err() != nil {
		return fmt.Errorf("stopping %s: %w", p.name, ctx.Err())
	}
	return errors.Join(fmt.Errorf("stopping %s: it was killed, as it did not end within %s of SIGTERM", p.name, grace), p.Kill(ctx))
}

// end signals the group of the process, so that children of it do not stay behind, and waits for it to be gone.
func (p *Process) end(ctx context.Context, signal syscall.Signal) error {
	r, err := p.read()
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	// A recorded number may be another process by now: never signal without having looked.
	running, err := r.Started.running()
	if err != nil || !running {
		return err
	}
	if err := syscall.Kill(-r.Started.PID, signal); err != nil && !errors.Is(err, syscall.ESRCH) {
		return fmt.Errorf("sending %s to %s: %w", signal, p.name, err)
	}
	for {
		running, err := r.Started.running()
		if err != nil || !running {
			return err
		}
		if err := pause(ctx, 10*time.Millisecond); err != nil {
			return fmt.Errorf("waiting for %s to end: %w", p.name, err)
		}
	}
}

// ensure brings about that the process runs as the spec says and is healthy: one that does already is left alone.
func (p *Process) ensure(ctx context.Context, want spec, log io.Writer) error {
	begin := time.Now()
	r, err := p.read()
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err == nil {
		left, err := p.leave(ctx, r, want, log)
		if err != nil || left {
			return err
		}
	}
	if err := p.start(ctx, want); err != nil {
		return err
	}
	say(log, "%-24s ready after %s", p.name, time.Since(begin).Round(10*time.Millisecond))
	return nil
}

// leave decides about a recorded process: true if it may be left as it is; if not, it does not run any more.
func (p *Process) leave(ctx context.Context, r record, want spec, log io.Writer) (bool, error) {
	running, err := r.Started.running()
	if err != nil || !running {
		return false, err
	}
	is, err := r.Spec.fingerprint()
	if err != nil {
		return false, err
	}
	wanted, err := want.fingerprint()
	if err != nil {
		return false, err
	}
	why := "as it is to run differently now"
	if is == wanted {
		// It may be coming up, or be waiting for another that is.
		if err = p.awaitHealth(ctx, r, 15*time.Second); err == nil {
			say(log, "%-24s runs already", p.name)
			return true, nil
		}
		why = "as it is not healthy"
	}
	if ctx.Err() != nil {
		return false, ctx.Err()
	}
	say(log, "%-24s is restarted, %s", p.name, why)
	if err := p.Stop(ctx); err != nil {
		say(log, "%v", err)
	}
	return false, ctx.Err()
}

// start starts a process of its own session, so that a Ctrl-C meant for us does not reach it, records it, and waits until
// it is healthy.
func (p *Process) start(ctx context.Context, s spec) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	out, err := os.OpenFile(p.LogFile(), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("opening the log of %s: %w", p.name, err)
	}
	// The child has a descriptor of its own.
	defer out.Close()
	info, err := out.Stat()
	if err != nil {
		return fmt.Errorf("opening the log of %s: %w", p.name, err)
	}
	cmd := exec.Command(s.Command[0], s.Command[1:]...)
	cmd.Dir = p.layout.path("home")
	cmd.Env = append(passedOn(os.Environ()), s.Env...)
	cmd.Env = append(cmd.Env, "HOME="+p.layout.path("home"), "TMPDIR="+p.layout.path("tmp"))
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("starting %s: %w", p.name, err)
	}
	r := record{Spec: s, Since: time.Now(), LogOffset: info.Size()}
	if r.Started, err = identify(cmd.Process.Pid); err == nil {
		err = p.write(r)
	}
	// Whoever starts a process has to collect it, or it stays a zombie for as long as we live. Only now, as the number of
	// one that ended at once would be free already.
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	if err != nil {
		return errors.Join(fmt.Errorf("recording %s: %w", p.name, err), cmd.Process.Kill())
	}
	err = p.awaitHealth(ctx, r, startTimeout)
	if errors.Is(err, errEnded) {
		if how := <-ended; how != nil {
			return fmt.Errorf("%w\n    %w", err, how)
		}
	}
	return err
}

// awaitHealth waits until the process is healthy. It gives up at once when the process ends.
func (p *Process) awaitHealth(ctx context.Context, r record, timeout time.Duration) error {
	deadline, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	for {
		err := p.probe(deadline, r.Spec.Health)
		// Looked at after the probe: what answered may be another program on the port that ours could not have.
		running, runErr := r.Started.running()
		switch {
		case runErr != nil:
			return runErr
		case !running:
			return p.failed(r, errEnded)
		case err == nil:
			return nil
		}
		if pause(deadline, probeInterval) == nil {
			continue
		}
		if ctx.Err() != nil {
			return fmt.Errorf("waiting for %s to be healthy: %w", p.name, ctx.Err())
		}
		return p.failed(r, fmt.Errorf("it was not healthy within %s: %w", timeout, err))
	}
}

func (p *Process) probe(ctx context.Context, url string) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return fmt.Errorf("asking %s for its health: %w", p.name, err)
	}
	resp, err := p.http.Do(req)
	if err != nil {
		return fmt.Errorf("asking %s for its health: %w", p.name, err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 512))
	if err != nil {
		return fmt.Errorf("asking %s for its health: %w", p.name, err)
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("asking %s for its health: %s: %s", p.name, resp.Status, bytes.TrimSpace(body))
	}
	return nil
}

// failed is the error that shows what the process said last.
func (p *Process) failed(r record, what error) error {
	lines, err := tail(p.LogFile(), r.LogOffset, tailLines)
	if err != nil {
		return fmt.Errorf("starting %s: %w; %w", p.name, what, err)
	}
	said := "it said nothing"
	if len(lines) > 0 {
		said = "its last lines:\n    " + strings.Join(lines, "\n    ")
	}
	return fmt.Errorf("starting %s: %w; the log is %s, %s", p.name, what, p.LogFile(), said)
}

func (p *Process) read() (record, error) {
	b, err := os.ReadFile(p.layout.record(p.name))
	if err != nil {
		return record{}, fmt.Errorf("reading the record of %s: %w", p.name, err)
	}
	var r record
	if err := json.Unmarshal(b, &r); err != nil {
		return record{}, fmt.Errorf("reading the record of %s: %w", p.name, err)
	}
	return r, nil
}

func (p *Process) write(r record) error {
	b, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return fmt.Errorf("writing the record of %s: %w", p.name, err)
	}
	return writeFile(p.layout.record(p.name), append(b, '\n'), 0o600)
}

func (p *Process) forget() error {
	if err := os.Remove(p.layout.record(p.name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("forgetting %s: %w", p.name, err)
	}
	return nil
}

// recorded are the names of the processes that the stack in dir knows of.
func recorded(l layout) ([]string, error) {
	files, err := filepath.Glob(l.record("*"))
	if err != nil {
		return nil, fmt.Errorf("listing the processes: %w", err)
	}
	names := make([]string, 0, len(files))
	for _, f := range files {
		names = append(names, strings.TrimSuffix(filepath.Base(f), ".json"))
	}
	return names, nil
}

// passedOn are the variables that a server may inherit: what it needs to reach the world and what tunes or measures a Go
// program, but not what it would take for its own settings (ChartMuseum, for one, reads PORT, STORAGE and DEPTH).
func passedOn(environ []string) []string {
	var out []string
	for _, kv := range environ {
		name, _, _ := strings.Cut(kv, "=")
		switch strings.ToUpper(name) {
		case "PATH", "USER", "LANG", "TZ", "SSL_CERT_FILE", "SSL_CERT_DIR", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY",
			"GODEBUG", "GOMAXPROCS", "GOMEMLIMIT", "GOGC", "GOTRACEBACK", "GOCOVERDIR":
			out = append(out, kv)
		default:
			if strings.HasPrefix(name, "OTEL_") {
				out = append(out, kv)
			}
		}
	}
	return out
}

// pause waits, or returns early with the context's error.
func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}
