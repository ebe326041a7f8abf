// Package figures is the core of the rollout benchmark: what was measured, as medians,
// ratios, tables and a plot. It takes values and gives values.
package figures

import (
	"cmp"
	"math"
	"slices"
)

// Phase of a run.
type Phase string

// The phases, in their order.
const (
	// Install: nothing is there.
	Install Phase = "install"
	// Change: one release of all is to have another value.
	Change Phase = "change"
	// Again: all is as it should be already.
	Again Phase = "again"
)

// The contenders.
const (
	Orkestra  = "orkestra"
	Sequencer = "sequencer"
	Helmfile  = "helmfile"
	// Pods is Orkestra with a pod of the workflow for each step.
	Pods = "orkestra-pods"
	// FluxShort is Flux's dependsOn with a short --requeue-dependency, Flux with its
	// default of 30 s.
	FluxShort = "flux-short"
	Flux      = "flux"
)

// Contenders in the order of the tables: the limit, us, the peers.
var Contenders = []string{Sequencer, Orkestra, Pods, Helmfile, FluxShort, Flux}

// Run is one phase of one contender on one case, as it was measured.
type Run struct {
	// Case is <shape>:<releases>.
	Case      string `json:"case"`
	Releases  int    `json:"releases"`
	Contender string `json:"contender"`
	// Repeat counts from 1.
	Repeat int   `json:"repeat"`
	Phase  Phase `json:"phase"`

	// WallSeconds from the first request of whoever applies until all releases that the
	// phase is about are seen ready; of a phase without any, until that is known.
	WallSeconds float64 `json:"wallSeconds"`
	// GroupSeconds until the group is seen Ready; 0 for who has no group.
	GroupSeconds float64 `json:"groupSeconds,omitempty"`
	// FirstSeconds until the first HelmRelease is seen, or Helm's first record where
	// there are no HelmReleases. 0 where the phase makes none.
	FirstSeconds float64 `json:"firstSeconds,omitempty"`
	// EdgeSeconds of each release that waits for others: its HelmRelease is seen,
	// minus the last parent is seen ready. Only where that is what is waited with.
	EdgeSeconds []float64 `json:"edgeSeconds,omitempty"`
	// GapSeconds of each release that waits for others: Helm's record of it is seen,
	// so Helm has begun, minus the last parent is seen ready. The same for all.
	GapSeconds []float64 `json:"gapSeconds,omitempty"`
	// HelmActions that were begun.
	HelmActions int `json:"helmActions"`

	// CPUSeconds and PeakMiB by process.
	CPUSeconds map[string]float64 `json:"cpuSeconds,omitempty"`
	PeakMiB    map[string]float64 `json:"peakMiB,omitempty"`
	// Writes to the API server, by verb and resource; those of leases are left out.
	Writes map[string]int `json:"writes,omitempty"`
	// Reads of it are GET and LIST; what watches show is not among them.
	Reads map[string]int `json:"reads,omitempty"`
	// Messages that were stored in the stream of events.
	Messages int `json:"messages,omitempty"`
	// WorkflowBytes is the size of the finished Workflow as JSON.
	WorkflowBytes int `json:"workflowBytes,omitempty"`
}

// Memory of a process in MiB: what is resident, and what of that is its own; the rest are
// pages of its executable and of other files.
type Memory struct {
	Resident float64 `json:"resident"`
	Own      float64 `json:"own"`
}

// Milestone is one of those that an edge passes.
type Milestone struct {
	// Case is <shape>:<releases>.
	Case string `json:"case"`
	Name string `json:"name"`
	// P50 and P99 seconds after the parent was seen ready, over Edges edges.
	P50   float64 `json:"p50"`
	P99   float64 `json:"p99"`
	Edges int     `json:"edges"`
}

// Machine that was measured on.
type Machine struct {
	CPUs      int     `json:"cpus"`
	Model     string  `json:"model"`
	MemoryGiB float64 `json:"memoryGiB"`
	Kernel    string  `json:"kernel"`
}

// Report of a benchmark.
type Report struct {
	Command  string            `json:"command"`
	Date     string            `json:"date"`
	Machine  Machine           `json:"machine"`
	Versions map[string]string `json:"versions"`
	// Settings that differ from the programs' defaults, in words.
	Settings []string `json:"settings"`
	// Seconds that the whole took.
	Seconds float64 `json:"seconds"`
	// IdleMiB is what each process holds before the first rollout.
	IdleMiB   map[string]Memory `json:"idleMiB,omitempty"`
	Runs      []Run             `json:"runs"`
	Milestone []Milestone       `json:"milestones,omitempty"`
}

// Percentile of values, p in 0..100 by nearest rank; NaN without values.
func Percentile(values []float64, p float64) float64 {
	if len(values) == 0 {
		return math.NaN()
	}
	v := slices.Sorted(slices.Values(values))
	i := int(math.Ceil(p/100*float64(len(v)))) - 1
	return v[max(0, min(i, len(v)-1))]
}

// Median of values, the mean of the two in the middle where their number is even; NaN
// without values.
func Median(values []float64) float64 {
	if len(values) == 0 {
		return math.NaN()
	}
	v := slices.Sorted(slices.Values(values))
	return (v[(len(v)-1)/2] + v[len(v)/2]) / 2
}

// pick is the runs of one case, contender and phase.
func (r Report) pick(c, contender string, phase Phase) []Run {
	var out []Run
	for _, run := range r.Runs {
		if run.Case == c && run.Contender == contender && run.Phase == phase {
			out = append(out, run)
		}
	}
	return out
}

// median of a figure over the repeats; NaN where it was not measured.
func (r Report) median(c, contender string, phase Phase, figure func(Run) float64) float64 {
	var values []float64
	for _, run := range r.pick(c, contender, phase) {
		values = append(values, figure(run))
	}
	return Median(values)
}

// pooled is a figure of every edge of all repeats.
func (r Report) pooled(c, contender string, figure func(Run) []float64) []float64 {
	var out []float64
	for _, run := range r.pick(c, contender, Install) {
		out = append(out, figure(run)...)
	}
	return out
}

// cases in the order in which they were run first.
func (r Report) cases() []string {
	var out []string
	for _, run := range r.Runs {
		if !slices.Contains(out, run.Case) {
			out = append(out, run.Case)
		}
	}
	return out
}

// contenders that were run, in the order of the tables.
func (r Report) contenders() []string {
	return slices.DeleteFunc(slices.Clone(Contenders), func(c string) bool {
		return !slices.ContainsFunc(r.Runs, func(run Run) bool { return run.Contender == c })
	})
}

// processes that were measured, those that cost most first.
func (r Report) processes() []string {
	total := map[string]float64{}
	for _, run := range r.Runs {
		for name, seconds := range run.CPUSeconds {
			total[name] += seconds
		}
	}
	return byWeight(total)
}

func byWeight(total map[string]float64) []string {
	var out []string
	for name := range total {
		out = append(out, name)
	}
	slices.SortFunc(out, func(a, b string) int {
		return cmp.Or(cmp.Compare(total[b], total[a]), cmp.Compare(a, b))
	})
	return out
}

func wall(r Run) float64      { return r.WallSeconds }
func group(r Run) float64     { return r.GroupSeconds }
func first(r Run) float64     { return r.FirstSeconds }
func span(r Run) float64      { return r.WallSeconds - r.FirstSeconds }
func actions(r Run) float64   { return float64(r.HelmActions) }
func workflow(r Run) float64  { return float64(r.WorkflowBytes) / float64(r.Releases) }
func messages(r Run) float64  { return float64(r.Messages) / float64(r.Releases) }
func edges(r Run) []float64   { return r.EdgeSeconds }
func gaps(r Run) []float64    { return r.GapSeconds }
func cpuPerRun(r Run) float64 { return sum(r.CPUSeconds) / float64(r.Releases) }
func writesPer(r Run) float64 { return float64(sum(r.Writes)) / float64(r.Releases) }
func readsPer(r Run) float64  { return float64(sum(r.Reads)) / float64(r.Releases) }
func sum[N int | float64](m map[string]N) (total N) {
	for _, n := range m {
		total += n
	}
	return total
}
