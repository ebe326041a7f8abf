package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"
)

// report of all runs.
type report struct {
	Made    time.Time `json:"made"`
	CPUs    int       `json:"cpus"`
	Rate    int       `json:"rate"`
	Seconds int       `json:"seconds"`
	// SteadyRate and SteadySeconds are those of the scenario steady.
	SteadyRate    int   `json:"steadyRate"`
	SteadySeconds int   `json:"steadySeconds"`
	Groups        int   `json:"groups"`
	Runs          []run `json:"runs"`
}

// run is one contender in one scenario.
type run struct {
	Contender string `json:"contender"`
	Scenario  string `json:"scenario"`
	// Rate of deliveries a second.
	Rate     int `json:"rate"`
	Replicas int `json:"replicas"`
	// Load average of the machine over the minute before.
	Load float64 `json:"load"`
	Rows []row   `json:"rows"`
	// Desired is the time from when a delivery was sent, and from when its event was
	// stored, to when the group.desired that it led to was stored.
	Desired      *spread `json:"desired,omitempty"`
	DesiredAfter *spread `json:"desiredAfterStored,omitempty"`
	// Stored are the events of deliveries; Lost, the answers with 202 that have none.
	Stored int `json:"stored"`
	Lost   int `json:"lost"`
	// Rollouts that were asked for.
	Rollouts int `json:"rollouts"`
	// DoneSeconds is for how long after the last answer there was something to do.
	DoneSeconds float64 `json:"doneSeconds"`
	// EventBytes is the median size of an event of a delivery.
	EventBytes int    `json:"eventBytes"`
	Memory     memory `json:"memory"`

	doneAfter time.Duration
}

// row is a kind of delivery.
type row struct {
	Name     string      `json:"name"`
	Sent     int         `json:"sent"`
	Statuses map[int]int `json:"statuses"`
	// Answer is the time from when a delivery was due to when it was answered.
	Answer spread `json:"answer"`
}

// spread of times, in milliseconds.
type spread struct {
	Count int     `json:"count"`
	P50   float64 `json:"p50Milliseconds"`
	P99   float64 `json:"p99Milliseconds"`
	Max   float64 `json:"maxMilliseconds"`
}

func spreadOf(times []time.Duration) spread {
	if len(times) == 0 {
		return spread{}
	}
	slices.Sort(times)
	at := func(q float64) float64 {
		i := int(math.Ceil(q*float64(len(times)))) - 1
		return float64(times[max(i, 0)].Microseconds()) / 1000
	}
	return spread{Count: len(times), P50: at(.5), P99: at(.99), Max: at(1)}
}

// sum up what was answered and what was stored.
func (r run) sum(s scenario, answers []answer, all []stored) run {
	times, rows := map[string][]time.Duration{}, map[string]*row{}
	sent, accepted := map[string]time.Time{}, 0
	for i, a := range answers {
		name := s.deliveries[i].row
		if rows[name] == nil {
			rows[name] = &row{Name: name, Statuses: map[int]int{}}
		}
		rows[name].Sent++
		rows[name].Statuses[a.status]++
		times[name] = append(times[name], a.done.Sub(a.due))
		if a.status == http.StatusAccepted {
			accepted++
			sent[a.id] = a.due
		}
	}
	for _, name := range slices.Sorted(maps.Keys(rows)) {
		rows[name].Answer = spreadOf(times[name])
		r.Rows = append(r.Rows, *rows[name])
	}
	r.DoneSeconds = r.doneAfter.Seconds()
	r.compare(sent, all)
	return r
}

// compare what was answered with what the stream has.
func (r *run) compare(sent map[string]time.Time, all []stored) {
	at := map[string]time.Time{}
	var sizes []int
	for _, e := range all {
		if e.isWebhook() || e.what == "" {
			at[e.id] = e.at
			sizes = append(sizes, e.bytes)
		}
	}
	r.Stored = len(at)
	if len(sizes) > 0 {
		slices.Sort(sizes)
		r.EventBytes = sizes[len(sizes)/2]
	}
	for id := range sent {
		if at[id].IsZero() {
			r.Lost++
		}
	}
	var since, after []time.Duration
	for _, e := range all {
		if e.isWebhook() || e.what == "" {
			continue
		}
		r.Rollouts++
		if began, ok := sent[e.cause]; ok {
			since, after = append(since, e.at.Sub(began)), append(after, e.at.Sub(at[e.cause]))
		}
	}
	if len(since) > 0 {
		desired, stored := spreadOf(since), spreadOf(after)
		r.Desired, r.DesiredAfter = &desired, &stored
	}
}

// write writes webhooks.md and webhooks.json, and shows the former.
func (r report) write(folder string) error {
	r.CPUs = runtime.NumCPU()
	data, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return fmt.Errorf("encoding the report: %w", err)
	}
	page := r.markdown()
	if err := os.WriteFile(filepath.Join(folder, "webhooks.json"), append(data, '\n'), 0o644); err != nil {
		return fmt.Errorf("writing the figures: %w", err)
	}
	if err := os.WriteFile(filepath.Join(folder, "webhooks.md"), []byte(page), 0o644); err != nil {
		return fmt.Errorf("writing the page: %w", err)
	}
	fmt.Print(page)
	return nil
}

func (r report) markdown() string {
	var b strings.Builder
	fmt.Fprintf(&b, `# Webhooks

Made on %s, on one machine with %d processors. *Steady* is what a busy platform has: %d deliveries a second for %d
seconds, each of them news to a group of its own. The others are %d a second for %d seconds, which keeps
this machine busy. Each delivery is signed and has an id of its own, half of them are GitHub's package payload,
half a push as a CI job tells of it, over connections that are kept. What is answered late delays
nothing that comes after it, and an answer counts from when its delivery was due. The API server and NATS are the real ones (file store, TLS
and NKeys, the sync interval that NATS has by default); of our services only intake runs. The
generator and all servers share the processors; the load is the machine's average over the minute
before, so what is above the number of processors was somebody else's. `+"`make bench`"+` writes this page,
and it fails where a delivery was answered with 202 and the stream does not have it.

The bare handler is what there is to compare with: it reads the same requests, verifies nothing, and
stores as many bytes in the same stream before it answers.

| contender | sent | a second | load | answers | p50 | p99 | slowest | p99 to the bare handler's |
|---|---|---|---|---|---|---|---|---|
`, r.Made.Format(time.DateOnly), r.CPUs, r.SteadyRate, r.SteadySeconds, r.Rate, r.Seconds)
	peers := map[int]float64{} // by rate; the bare handler is the last
	for _, run := range r.Runs {
		peers[run.Rate] = run.Rows[0].Answer.P99
	}
	for _, run := range r.Runs {
		for _, row := range run.Rows {
			fmt.Fprintf(&b, "| %s | %d, %s | %d | %.1f | %s | %s | %s | %s | %.1f |\n", run.Contender, row.Sent, row.Name, run.Rate, run.Load,
				statuses(row.Statuses), milliseconds(row.Answer.P50), milliseconds(row.Answer.P99), milliseconds(row.Answer.Max), row.Answer.P99/peers[run.Rate])
		}
	}
	fmt.Fprintf(&b, `
Of the mix, %d deliveries are news to a group each, and the others are about charts that nobody uses. One
group: every delivery is news to the same group, which is asked for again and again, but not for
each. Flood: one Receiver is sent nineteen times what another is, which is far past its limit.

| contender | sent | events stored | 202 without one | rollouts | sent to `+"`group.desired`"+` p50 | p99 | stored to `+"`group.desired`"+` p50 | p99 | all done after |
|---|---|---|---|---|---|---|---|---|---|
`, r.Groups)
	for _, run := range r.Runs {
		desired, after := run.Desired.cells(), run.DesiredAfter.cells()
		fmt.Fprintf(&b, "| %s | %s | %d | %d | %d | %s | %s | %s | %s | %.1f s |\n", run.Contender, run.Scenario, run.Stored, run.Lost, run.Rollouts,
			desired[0], desired[1], after[0], after[1], run.DoneSeconds)
	}
	b.WriteString(`
Resident memory of the largest replica, and processor time of all replicas:

| contender | sent | before | peak | after | processor time |
|---|---|---|---|---|---|
`)
	for _, run := range r.Runs {
		m := run.Memory
		fmt.Fprintf(&b, "| %s | %s | %.0f MiB | %.0f MiB | %.0f MiB | %.1f s |\n", run.Contender, run.Scenario, m.Before, m.Peak, m.After, m.CPU)
	}
	return b.String()
}

// cells are the median and the 99th percentile; nothing where there is none.
func (s *spread) cells() [2]string {
	if s == nil {
		return [2]string{"", ""}
	}
	return [2]string{milliseconds(s.P50), milliseconds(s.P99)}
}

func milliseconds(ms float64) string {
	if ms < 10 {
		return fmt.Sprintf("%.1f ms", ms)
	}
	return fmt.Sprintf("%.0f ms", ms)
}

func statuses(all map[int]int) string {
	var out []string
	for _, status := range slices.Sorted(maps.Keys(all)) {
		what := strconv.Itoa(status)
		if status == 0 {
			what = "no answer"
		}
		out = append(out, fmt.Sprintf("%d × %s", all[status], what))
	}
	return strings.Join(out, ", ")
}
