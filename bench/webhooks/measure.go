package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"

	"orkestra.dev/pkg/events"
)

// measureIntake with a number of replicas: each scenario, one after the other.
func (w *world) measureIntake(ctx context.Context, replicas int) (out []run, err error) {
	contender := map[int]string{1: "one", 2: "two"}[replicas]
	made, err := w.makeGroups(ctx, contender)
	if err != nil {
		return nil, err
	}
	before, err := w.tip(ctx)
	if err != nil {
		return nil, err
	}
	processes, err := w.startIntake(ctx, replicas)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, stopAll(processes)) }()
	paths, err := w.paths(ctx)
	if err != nil {
		return nil, err
	}
	// Making the groups is a rollout of each.
	if _, _, err := w.await(ctx, before, made); err != nil {
		return nil, err
	}
	write, err := newWriter(w.root, paths)
	if err != nil {
		return nil, err
	}
	count := w.rate * w.seconds
	steady, err1 := write.steady(contender, w.steadyRate, w.steadyRate*w.steadySeconds)
	mix, err2 := write.mix(contender, w.rate, count, w.groups)
	burst, err3 := write.burst(contender, w.rate, count)
	flood, err4 := write.flood(contender, w.rate, count)
	if err := errors.Join(err1, err2, err3, err4); err != nil {
		return nil, fmt.Errorf("writing deliveries: %w", err)
	}
	name := fmt.Sprintf("intake, %d replica", replicas)
	if replicas > 1 {
		name += "s"
	}
	for _, s := range []scenario{steady, mix, flood, burst} {
		one, err := w.measure(ctx, name, processes, s)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", s.name, err)
		}
		out = append(out, one)
	}
	return out, nil
}

// measureBare is the peer: the requests of the steady scenario, and of the mix.
func (w *world) measureBare(ctx context.Context, size int) (out []run, err error) {
	address, err := freeAddress()
	if err != nil {
		return nil, err
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(self, "-bare", address, "-size", strconv.Itoa(size))
	cmd.Env = append(os.Environ(), "NATS_URL="+w.env["NATS_URL"], "NATS_CA="+w.env["NATS_CA"], "NATS_NKEY="+w.stack.NATSKey("intake"))
	cmd.Stdout, cmd.Stderr = w.log, w.log
	p, err := start(ctx, cmd, "http://"+address, "http://"+address)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, p.stop()) }()
	write, err := newWriter(w.root, map[string]string{receiverGitHub: "/", receiverCI: "/"})
	if err != nil {
		return nil, err
	}
	steady, err1 := write.steady("bare", w.steadyRate, w.steadyRate*w.steadySeconds)
	mix, err2 := write.mix("bare", w.rate, w.rate*w.seconds, 0)
	if err := errors.Join(err1, err2); err != nil {
		return nil, fmt.Errorf("writing deliveries: %w", err)
	}
	for _, s := range []scenario{steady, mix} {
		one, err := w.measure(ctx, "bare handler", []*process{p}, s)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", s.name, err)
		}
		out = append(out, one)
	}
	return out, nil
}

// measure one scenario: send, wait until it is done, and compare with the stream.
func (w *world) measure(ctx context.Context, contender string, processes []*process, s scenario) (run, error) {
	fmt.Fprintf(os.Stderr, "%s: %s\n", contender, s.name)
	before, err := w.tip(ctx)
	if err != nil {
		return run{}, err
	}
	busy, err := loadAverage()
	if err != nil {
		return run{}, err
	}
	ended, err := watch(processes)
	if err != nil {
		return run{}, err
	}
	profiled := w.profile(ctx, contender+" "+s.name, len(s.deliveries)/s.rate, processes[0])
	var targets []string
	for _, p := range processes {
		targets = append(targets, p.url)
	}
	answers, err := load(ctx, targets, s.deliveries, s.rate)
	if err := errors.Join(err, <-profiled); err != nil {
		return run{}, err
	}
	r := run{Contender: contender, Scenario: s.name, Rate: s.rate, Replicas: len(processes), Load: busy}
	var all []stored
	if processes[0].pprof == "" { // nobody does what the bare handler stores
		all, err = w.read(ctx, before)
	} else {
		all, r.doneAfter, err = w.await(ctx, before, s.leading(answers))
	}
	if err != nil {
		return r, err
	}
	if r.Memory, err = ended(); err != nil {
		return r, err
	}
	return r.sum(s, answers, all), nil
}

// profile a program's CPU for as many seconds as deliveries come, where that is asked for.
func (w *world) profile(ctx context.Context, name string, seconds int, p *process) <-chan error {
	done := make(chan error, 1)
	if w.pprof == "" || p.pprof == "" {
		close(done)
		return done
	}
	go func() {
		done <- func() error {
			req, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("%s?seconds=%d", p.pprof, seconds), nil)
			if err != nil {
				return err
			}
			resp, err := http.DefaultClient.Do(req)
			if err != nil {
				return fmt.Errorf("profiling: %w", err)
			}
			data, err := io.ReadAll(resp.Body)
			if err := errors.Join(err, resp.Body.Close()); err != nil {
				return fmt.Errorf("profiling: %w", err)
			}
			return os.WriteFile(filepath.Join(w.pprof, name+".pprof"), data, 0o600)
		}()
	}()
	return done
}

// loadAverage of the machine over the last minute: how busy it was already.
func loadAverage() (load float64, err error) {
	data, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return 0, fmt.Errorf("reading the load of the machine: %w", err)
	}
	if _, err := fmt.Sscan(string(data), &load); err != nil {
		return 0, fmt.Errorf("reading the load of the machine: %w", err)
	}
	return load, nil
}

// isWebhook says whether an event is a delivery.
func (s stored) isWebhook() bool { return s.what == string(events.TypeWebhookReceived) }
