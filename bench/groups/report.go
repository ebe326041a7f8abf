package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"orkestra.dev/local/stack"
)

// shown are our services, and what they work with.
var shown = slices.Concat(stack.Services, []string{"auditor", "nats", "workflow-controller", "helm-controller", "kube-apiserver"})

// report of one run.
type report struct {
	Groups, Applications, InFlight int
	Began                          time.Time
	Readings                       []reading
}

// reading of all memory when so many groups were ready, so many seconds after the start.
type reading struct {
	Groups  int
	Seconds float64
	// MiB that are resident, by program, and those of them that are its own, without the pages
	// of its executable; where it has two replicas, of the larger.
	Resident, Own map[string]float64
}

func (r reading) String() string {
	var out []string
	for _, name := range shown {
		if mib, ok := r.Resident[name]; ok {
			out = append(out, fmt.Sprintf("%s %.0f", name, mib))
		}
	}
	return strings.Join(out, ", ") + " MiB"
}

func (r *report) markdown() string {
	var b strings.Builder
	fmt.Fprintf(&b, "# Memory by number of groups\n\nMade by `go run ./bench/groups -groups %d -applications %d -in-flight %d` on %s. Every release is a real one, by\n"+
		"Helm, of a chart with one ConfigMap; groups stay once they are ready. The first row is at idle. The last one is after a rest.\n\n"+
		"MiB of the larger replica: resident, and in parentheses what of it is the process's own and not pages of its executable:\n\n", r.Groups, r.Applications, r.InFlight, r.Began.Format(time.DateOnly))
	var names []string
	for _, name := range shown {
		if _, ok := r.Readings[0].Resident[name]; ok {
			names = append(names, name)
		}
	}
	fmt.Fprintf(&b, "| groups | releases | after | %s |\n|%s\n", strings.Join(names, " | "), strings.Repeat("---|", len(names)+3))
	for _, reading := range r.Readings {
		fmt.Fprintf(&b, "| %d | %d | %.0f s |", reading.Groups, reading.Groups*r.Applications, reading.Seconds)
		for _, name := range names {
			fmt.Fprintf(&b, " %.0f (%.0f) |", reading.Resident[name], reading.Own[name])
		}
		b.WriteByte('\n')
	}
	return b.String()
}

// write the report, and show its page.
func write(o options, r *report) error {
	page := r.markdown()
	fmt.Print(page)
	if o.out == "" {
		return nil
	}
	data, err := json.MarshalIndent(r, "", " ")
	if err != nil {
		return fmt.Errorf("encoding the report: %w", err)
	}
	for name, data := range map[string][]byte{"groups.md": []byte(page), "groups.json": append(data, '\n')} {
		if err := os.WriteFile(filepath.Join(o.out, name), data, 0o644); err != nil {
			return fmt.Errorf("writing the report: %w", err)
		}
	}
	return nil
}
