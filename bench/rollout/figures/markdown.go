package figures

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
)

const absent = "–"

// seconds with three digits or so.
func seconds(s float64) string {
	switch {
	case math.IsNaN(s) || math.IsInf(s, 0):
		return absent
	case s >= 100:
		return fmt.Sprintf("%.0f s", s)
	case s >= 10:
		return fmt.Sprintf("%.1f s", s)
	}
	return fmt.Sprintf("%.2f s", s)
}

func milliseconds(s float64) string {
	if math.IsNaN(s) {
		return absent
	}
	return fmt.Sprintf("%.0f ms", s*1000)
}

func number(format string, n float64) string {
	if math.IsNaN(n) || math.IsInf(n, 0) {
		return absent
	}
	return fmt.Sprintf(format, n)
}

// table writes rows of cells under a head; one without rows is left out, with its
// title and its text.
func table(b *strings.Builder, title, text string, head []string, rows [][]string) {
	if len(rows) == 0 {
		return
	}
	fmt.Fprintf(b, "\n## %s\n\n%s\n\n| %s |\n|%s\n", title, text, strings.Join(head, " | "), strings.Repeat("---|", len(head)))
	for _, row := range rows {
		fmt.Fprintf(b, "| %s |\n", strings.Join(row, " | "))
	}
}

// Markdown is the page of the report.
func (r Report) Markdown() string {
	b := &strings.Builder{}
	fmt.Fprintf(b, `# Rollouts

Made by %s on %s, in %.0f minutes, on %d processors (%s) with %.0f GiB, Linux %s. Medians of
%d runs that were interleaved; the raw figures are in [rollout.json](rollout.json).

All contenders install the same chart (one ConfigMap, no pods to wait for) on the same
API server. **sequencer** is the limit: a loop in the benchmark that watches HelmReleases
and creates each the moment its parents are ready, with the charts fetched before.
**orkestra** starts with nothing: it resolves, stages and announces the charts first.
**helmfile** is the command line, with ten at once, on a chart that lies on the disk; a
release of it is ready when Helm's record of it says that it is deployed.
**flux** and **flux-short** are HelmReleases with dependsOn. But for Helmfile all use the same
helm-controller.

%s: %s.

![wall time](rollout.svg)
`, "`"+r.Command+"`", r.Date, r.Seconds/60, r.Machine.CPUs, r.Machine.Model, r.Machine.MemoryGiB, r.Machine.Kernel,
		r.repeats(), "Versions", versions(r.Versions))
	for _, s := range r.Settings {
		fmt.Fprintf(b, "\n* %s", s)
	}
	if len(r.Settings) > 0 {
		b.WriteString("\n")
	}
	r.wallTable(b)
	r.edgeTable(b)
	r.phaseTable(b)
	r.costTable(b)
	r.processTable(b)
	r.requestTables(b)
	r.milestoneTable(b)
	return b.String()
}

func (r Report) repeats() (most int) {
	for _, run := range r.Runs {
		most = max(most, run.Repeat)
	}
	return most
}

func versions(v map[string]string) string {
	var out []string
	for _, name := range slices.Sorted(maps.Keys(v)) {
		out = append(out, name+" "+v[name])
	}
	return strings.Join(out, ", ")
}

// peers of Orkestra that were run.
func (r Report) peers() []string {
	return slices.DeleteFunc(r.contenders(), func(c string) bool { return c == Orkestra || c == Sequencer })
}

func (r Report) wallTable(b *strings.Builder) {
	head := append([]string{"case"}, r.contenders()...)
	for _, peer := range r.peers() {
		head = append(head, peer+" ÷ orkestra")
	}
	var rows [][]string
	for _, c := range r.cases() {
		row := []string{c}
		limit := r.median(c, Sequencer, Install, wall)
		ours := r.median(c, Orkestra, Install, wall)
		for _, contender := range r.contenders() {
			cell, took := absent, r.median(c, contender, Install, wall)
			if !math.IsNaN(took) {
				cell = seconds(took)
			}
			if contender != Sequencer && !math.IsNaN(took/limit) {
				cell += fmt.Sprintf(" (%.2f)", took/limit)
			}
			row = append(row, cell)
		}
		for _, peer := range r.peers() {
			row = append(row, factor(r.median(c, peer, Install, wall)/ours))
		}
		rows = append(rows, row)
	}
	table(b, "Wall time", "From the first request until all releases are ready; in parentheses the ratio to the sequencer's. "+
		"The last columns are how many times as long a peer takes as Orkestra.", head, rows)
}

func factor(f float64) string {
	if f >= 10 {
		return number("%.0f×", f)
	}
	return number("%.2f×", f)
}

func (r Report) edgeTable(b *strings.Builder) {
	var created, begun [][]string
	for _, c := range r.cases() {
		for _, contender := range r.contenders() {
			for _, t := range []struct {
				rows   *[][]string
				values []float64
			}{{&created, r.pooled(c, contender, edges)}, {&begun, r.pooled(c, contender, gaps)}} {
				if len(t.values) > 0 {
					*t.rows = append(*t.rows, []string{c, contender, milliseconds(Percentile(t.values, 50)),
						milliseconds(Percentile(t.values, 99)), milliseconds(Percentile(t.values, 100))})
				}
			}
		}
	}
	head := []string{"case", "contender", "p50", "p99", "max"}
	table(b, "Edge overhead", "A HelmRelease is seen, minus the last of its parents was seen ready, by one watch for all.", head, created)
	table(b, "From ready to Helm", "Helm's record of a release is seen, minus the last of its parents was seen ready: the same "+
		"for all, whether HelmReleases are made one by one, wait for each other, or do not exist. Where ten at once are busy, "+
		"what waits its turn is in it.", head, begun)
}

func (r Report) phaseTable(b *strings.Builder) {
	var rows [][]string
	for _, c := range r.cases() {
		for _, contender := range r.contenders() {
			if len(r.pick(c, contender, Install)) == 0 {
				continue
			}
			row := []string{c, contender, seconds(r.median(c, contender, Install, first)), seconds(r.median(c, contender, Install, span))}
			ready := r.median(c, contender, Install, group)
			if ready == 0 {
				ready = math.NaN()
			}
			row = append(row, seconds(ready))
			for _, phase := range []Phase{Change, Again} {
				cell := seconds(r.median(c, contender, phase, wall))
				if n := r.median(c, contender, phase, actions); !math.IsNaN(n) {
					cell += fmt.Sprintf(", %.0f", n)
				}
				row = append(row, cell)
			}
			rows = append(rows, row)
		}
	}
	table(b, "First, second, third", "Time to the first HelmRelease (Helmfile: to Helm's first record), from there to all ready, until "+
		"the group is Ready; then one release with another value, and once more with nothing changed, each with the number of "+
		"Helm actions.", []string{"case", "contender", "first release", "from there on", "group Ready", "one changed", "nothing changed"}, rows)
}

func (r Report) costTable(b *strings.Builder) {
	var rows [][]string
	for _, c := range r.cases() {
		for _, contender := range r.contenders() {
			if len(r.pick(c, contender, Install)) == 0 {
				continue
			}
			row := []string{c, contender,
				number("%.3f s", r.median(c, contender, Install, cpuPerRun)), number("%.1f", r.median(c, contender, Install, writesPer)),
				number("%.1f", r.median(c, contender, Install, readsPer))}
			if contender == Orkestra {
				row = append(row, number("%.1f", r.median(c, contender, Install, messages)), number("%.0f", r.median(c, contender, Install, workflow)))
			} else {
				row = append(row, absent, absent)
			}
			rows = append(rows, row)
		}
	}
	table(b, "Cost per release", "CPU time of all processes of the stack (and of Helmfile), writes to and reads from the API server by anyone, "+
		"messages in the stream of events, and bytes of the finished Workflow, all divided by the number of releases.",
		[]string{"case", "contender", "CPU", "API writes", "API reads", "messages", "bytes of the workflow"}, rows)
}

// largest is the case with the most releases that Orkestra has run.
func (r Report) largest() (c string) {
	most := 0
	for _, run := range r.Runs {
		if run.Contender == Orkestra && run.Releases > most {
			c, most = run.Case, run.Releases
		}
	}
	return c
}

func (r Report) processTable(b *strings.Builder) {
	c := r.largest()
	head := []string{"process", "idle", "its own"}
	var contenders []string
	for _, contender := range r.contenders() {
		if len(r.pick(c, contender, Install)) > 0 {
			contenders = append(contenders, contender)
			head = append(head, contender+" CPU", contender+" peak")
		}
	}
	var rows [][]string
	for _, process := range r.processes() {
		row := []string{process, absent, absent}
		if idle, ok := r.IdleMiB[process]; ok {
			row = []string{process, number("%.0f MiB", idle.Resident), number("%.0f MiB", idle.Own)}
		}
		for _, contender := range contenders {
			row = append(row,
				seconds(r.median(c, contender, Install, func(run Run) float64 { return valueOf(run.CPUSeconds, process) })),
				number("%.0f MiB", r.median(c, contender, Install, func(run Run) float64 { return valueOf(run.PeakMiB, process) })))
		}
		rows = append(rows, row)
	}
	table(b, "Processes", "Resident memory before the first rollout, and what of it is no page of a file; CPU time, and resident memory at its peak, while "+c+" is installed.", head, rows)
}

func valueOf(m map[string]float64, name string) float64 {
	if v, ok := m[name]; ok {
		return v
	}
	return math.NaN()
}

func (r Report) requestTables(b *strings.Builder) {
	c := r.largest()
	r.requestTable(b, "Writes", "To the API server, by verb and resource, while "+c+" is installed; those of leases are left out.",
		func(run Run) map[string]int { return run.Writes })
	r.requestTable(b, "Reads", "From the API server, by verb and resource, while "+c+" is installed; watches are not among them.",
		func(run Run) map[string]int { return run.Reads })
}

func (r Report) requestTable(b *strings.Builder, title, text string, requests func(Run) map[string]int) {
	c := r.largest()
	total := map[string]float64{}
	head := []string{"request"}
	var contenders []string
	for _, contender := range r.contenders() {
		runs := r.pick(c, contender, Install)
		if len(runs) == 0 {
			continue
		}
		contenders = append(contenders, contender)
		head = append(head, contender)
		for _, run := range runs {
			for name, n := range requests(run) {
				total[name] += float64(n)
			}
		}
	}
	var rows [][]string
	for _, name := range byWeight(total) {
		row := []string{name}
		for _, contender := range contenders {
			row = append(row, number("%.0f", r.median(c, contender, Install, func(run Run) float64 { return float64(requests(run)[name]) })))
		}
		rows = append(rows, row)
	}
	table(b, title, text, head, rows)
}

func (r Report) milestoneTable(b *strings.Builder) {
	var rows [][]string
	for _, m := range r.Milestone {
		rows = append(rows, []string{m.Case, m.Name, milliseconds(m.P50), milliseconds(m.P99), fmt.Sprint(m.Edges)})
	}
	table(b, "Where an edge's time goes", "What happens between the last parent of a release that is ready and the release: how long "+
		"after the benchmark's watch showed that parent Ready. The times are of the benchmark's watches (of HelmReleases, Workflows "+
		"and Helm's records), of the stream, when it stored an event, and of the executor, when it decided. They are all of one "+
		"machine's clock, but a watch may be a millisecond late: a small negative time is that.",
		[]string{"case", "", "p50", "p99", "edges"}, rows)
}
