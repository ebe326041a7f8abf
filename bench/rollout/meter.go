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
	requests requested
	messages uint64
}

// read counters, and count the peaks of memory anew.
func (m *meter) read(ctx context.Context) (reading, error) {
	r := reading{cpu: map[string]float64{}}
	var err error
	if r.pids, err = m.stack.PIDs(ctx); err != nil {
		return r, err
	}
	state, err := m.bus.EventStream(ctx)
	if err != nil {
		return r, err
	}
	r.messages = state.Last
	if r.requests, err = m.requests(ctx); err != nil {
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
	run.CPUSeconds, run.PeakMiB = map[string]float64{}, map[string]float64{}
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
	requests, err := m.requests(ctx)
	if err != nil {
		return err
	}
	run.Writes, run.Reads = since(requests.writes, before.requests.writes), since(requests.reads, before.requests.reads)
	state, err := m.bus.EventStream(ctx)
	if err != nil {
		return err
	}
	run.Messages = int(state.Last - before.messages)
	return nil
}

func since(now, before map[string]int) map[string]int {
	out := map[string]int{}
	for name, n := range now {
		if n -= before[name]; n > 0 {
			out[name] = n
		}
	}
	return out
}

// idle is the memory of all processes as they are.
func (m *meter) idle(ctx context.Context) (map[string]figures.Memory, error) {
	before, err := m.read(ctx)
	if err != nil {
		return nil, err
	}
	out := map[string]figures.Memory{}
	for name, pid := range before.pids {
		resident, own, err := proc.MiB(pid)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		out[name] = figures.Memory{Resident: resident, Own: own}
	}
	return out, nil
}

const requestTotal = "apiserver_request_total"

// requested are requests to the API server, by verb and resource.
type requested struct{ writes, reads map[string]int }

// requests to the API server so far.
func (m *meter) requests(ctx context.Context) (requested, error) {
	text, err := m.api.Get().AbsPath("/metrics").DoRaw(ctx)
	if err != nil {
		return requested{}, fmt.Errorf("reading the API server's metrics: %w", err)
	}
	return countRequests(text)
}

func countRequests(text []byte) (requested, error) {
	var lines bytes.Buffer
	scanner := bufio.NewScanner(bytes.NewReader(text))
	scanner.Buffer(nil, 1<<20)
	for scanner.Scan() { // the rest is megabytes of histograms
		if strings.HasPrefix(scanner.Text(), requestTotal+"{") {
			lines.Write(append(scanner.Bytes(), '\n'))
		}
	}
	if err := scanner.Err(); err != nil {
		return requested{}, fmt.Errorf("reading the API server's metrics: %w", err)
	}
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(&lines)
	if err != nil {
		return requested{}, fmt.Errorf("reading the API server's metrics: %w", err)
	}
	out := requested{writes: map[string]int{}, reads: map[string]int{}}
	for _, metric := range families[requestTotal].GetMetric() {
		labels := map[string]string{}
		for _, l := range metric.GetLabel() {
			labels[l.GetName()] = l.GetValue()
		}
		var counts map[string]int
		switch labels["verb"] {
		case "POST", "PUT", "PATCH", "APPLY", "DELETE", "DELETECOLLECTION":
			counts = out.writes
		case "GET", "LIST":
			counts = out.reads
		}
		// Leases are renewed all the time, whatever is rolled out; reviews write nothing.
		if r := labels["resource"]; counts == nil || r == "" || r == "leases" || strings.HasSuffix(r, "reviews") {
			continue
		}
		name := strings.ToLower(labels["verb"]) + " " + labels["resource"]
		if sub := labels["subresource"]; sub != "" {
			name += "/" + sub
		}
		counts[name] += int(metric.GetUntyped().GetValue() + metric.GetCounter().GetValue())
	}
	return out, nil
}
