package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"strings"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/rest"

	"orkestra.dev/bench/proc"
	"orkestra.dev/bench/rollout/figures"
	"orkestra.dev/local/stack"
	"orkestra.dev/pkg/events"
)

// meter measures what a phase costs.
type meter struct {
	stack *stack.Stack
	bus   *events.Bus
	api   rest.Interface
}

func newMeter(s *stack.Stack, bus *events.Bus, config *rest.Config) (*meter, error) {
	d, err := discovery.NewDiscoveryClientForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("making a client: %w", err)
	}
	return &meter{stack: s, bus: bus, api: d.RESTClient()}, nil
}

// reading of all counters.
type reading struct {
	pids     map[string]int
	cpu      map[string]float64
	writes   map[string]int
	messages uint64
}

// read counters, and count the peaks of memory anew.
func (m *meter) read(ctx context.Context) (reading, error) {
	r := reading{pids: map[string]int{}, cpu: map[string]float64{}}
	processes, err := m.stack.Processes()
	if err != nil {
		return r, err
	}
	for _, p := range processes {
		status := p.Status(ctx)
		if status.Err != nil {
			return r, fmt.Errorf("%s is not healthy: %w", p.Name(), status.Err)
		}
		r.pids[p.Name()] = status.PID
	}
	state, err := m.bus.EventStream(ctx)
	if err != nil {
		return r, err
	}
	r.messages = state.Last
	if r.writes, err = m.writes(ctx); err != nil {
		return r, err
	}
	for name, pid := range r.pids {
		if r.cpu[name], err = proc.CPUSeconds(pid); err != nil {
			return r, fmt.Errorf("%s: %w", name, err)
		}
		if err := proc.ResetPeak(pid); err != nil {
			return r, fmt.Errorf("%s: %w", name, err)
		}
	}
	return r, nil
}

// charge writes into a run what was used since before.
func (m *meter) charge(ctx context.Context, run *figures.Run, before reading) error {
	run.CPUSeconds, run.PeakMiB, run.Writes = map[string]float64{}, map[string]float64{}, map[string]int{}
	for name, pid := range before.pids {
		cpu, err := proc.CPUSeconds(pid)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		run.CPUSeconds[name] = cpu - before.cpu[name]
		if run.PeakMiB[name], err = proc.PeakMiB(pid); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	writes, err := m.writes(ctx)
	if err != nil {
		return err
	}
	for name, n := range writes {
		if n -= before.writes[name]; n > 0 {
			run.Writes[name] = n
		}
	}
	state, err := m.bus.EventStream(ctx)
	if err != nil {
		return err
	}
	run.Messages = int(state.Last - before.messages)
	return nil
}

const requests = "apiserver_request_total"

// writes to the API server so far, by verb and resource.
func (m *meter) writes(ctx context.Context) (map[string]int, error) {
	text, err := m.api.Get().AbsPath("/metrics").DoRaw(ctx)
	if err != nil {
		return nil, fmt.Errorf("reading the API server's metrics: %w", err)
	}
	return countWrites(text)
}

func countWrites(text []byte) (map[string]int, error) {
	var lines bytes.Buffer
	scanner := bufio.NewScanner(bytes.NewReader(text))
	scanner.Buffer(nil, 1<<20)
	for scanner.Scan() { // the rest is megabytes of histograms
		if strings.HasPrefix(scanner.Text(), requests+"{") {
			lines.Write(append(scanner.Bytes(), '\n'))
		}
	}
	if err := scanner.Err(); err != nil {
		return nil, fmt.Errorf("reading the API server's metrics: %w", err)
	}
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(&lines)
	if err != nil {
		return nil, fmt.Errorf("reading the API server's metrics: %w", err)
	}
	out := map[string]int{}
	for _, metric := range families[requests].GetMetric() {
		labels := map[string]string{}
		for _, l := range metric.GetLabel() {
			labels[l.GetName()] = l.GetValue()
		}
		switch labels["verb"] {
		case "POST", "PUT", "PATCH", "APPLY", "DELETE", "DELETECOLLECTION":
		default:
			continue
		}
		// Leases are renewed all the time, whatever is rolled out; reviews write nothing.
		if r := labels["resource"]; r == "leases" || strings.HasSuffix(r, "reviews") {
			continue
		}
		name := strings.ToLower(labels["verb"]) + " " + labels["resource"]
		if sub := labels["subresource"]; sub != "" {
			name += "/" + sub
		}
		out[name] += int(metric.GetUntyped().GetValue() + metric.GetCounter().GetValue())
	}
	return out, nil
}
