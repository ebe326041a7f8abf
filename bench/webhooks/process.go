package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"syscall"
	"time"

	"orkestra.dev/bench/proc"
)

const (
	// startTime is how long a program may take until it answers.
	startTime = time.Minute
	// sampleTime is between two looks at a program's memory.
	sampleTime = 100 * time.Millisecond
)

// process is a program that is measured.
type process struct {
	cmd  *exec.Cmd
	url  string
	done chan error
	// pprof is where it can be profiled; empty where it cannot.
	pprof string
}

// start a program, and wait until health answers with 200.
func start(ctx context.Context, cmd *exec.Cmd, url, health string) (*process, error) {
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting %s: %w", cmd.Path, err)
	}
	p := &process{cmd: cmd, url: url, done: make(chan error, 1)}
	go func() { p.done <- cmd.Wait() }()
	ctx, cancel := context.WithTimeout(ctx, startTime)
	defer cancel()
	for {
		status, err := get(ctx, health)
		if err == nil && status < http.StatusInternalServerError {
			return p, nil
		}
		select {
		case ended := <-p.done:
			return nil, fmt.Errorf("%s has ended: %w", cmd.Path, ended)
		case <-ctx.Done():
			return nil, errors.Join(fmt.Errorf("%s does not answer: status %d: %w", cmd.Path, status, err), p.stop())
		case <-time.After(sampleTime):
		}
	}
}

func get(ctx context.Context, url string) (status int, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return 0, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err
	}
	return resp.StatusCode, resp.Body.Close()
}

func (p *process) stop() error {
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	return <-p.done
}

// memory of programs together, in MiB, and the processor time that they took.
type memory struct {
	Before float64   `json:"beforeMiB"`
	Peak   float64   `json:"peakMiB"`
	After  float64   `json:"afterMiB"`
	CPU    float64   `json:"cpuSeconds"`
	Each   []float64 `json:"eachSecondMiB"`
}

// cost of programs now: resident memory of the largest, and the processor time of all.
func cost(processes []*process) (mib, cpu float64, err error) {
	for _, p := range processes {
		one, _, err := proc.MiB(p.cmd.Process.Pid)
		if err != nil {
			return 0, 0, err
		}
		used, err := proc.CPUSeconds(p.cmd.Process.Pid)
		if err != nil {
			return 0, 0, err
		}
		mib, cpu = max(mib, one), cpu+used
	}
	return mib, cpu, nil
}

// watch the memory of programs until stop is called, which gives what was seen.
func watch(processes []*process) (stop func() (memory, error), err error) {
	var m memory
	var used float64
	if m.Before, used, err = cost(processes); err != nil {
		return nil, err
	}
	for _, p := range processes {
		if err := proc.ResetPeak(p.cmd.Process.Pid); err != nil {
			return nil, err
		}
	}
	ended, sampled := make(chan struct{}), make(chan error, 1)
	go func() {
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		for {
			select {
			case <-ended:
				sampled <- nil
				return
			case <-tick.C:
				mib, _, err := cost(processes)
				if err != nil {
					sampled <- err
					return
				}
				m.Each = append(m.Each, mib)
			}
		}
	}()
	return func() (memory, error) {
		close(ended)
		err := <-sampled
		for _, p := range processes {
			peak, failed := proc.PeakMiB(p.cmd.Process.Pid)
			err = errors.Join(err, failed)
			m.Peak = max(m.Peak, peak)
		}
		mib, cpu, failed := cost(processes)
		m.After, m.CPU = mib, cpu-used
		return m, errors.Join(err, failed)
	}, nil
}

// freeAddress is one on loopback that was free a moment ago.
func freeAddress() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", fmt.Errorf("finding a port: %w", err)
	}
	return l.Addr().String(), l.Close()
}
