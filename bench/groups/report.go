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

// ours are our services, and shown they and what they work with.
var (
	ours  = slices.Concat(stack.Services, []string{"auditor"})
	shown = slices.Concat(ours, []string{"topology", "nats", "workflow-controller", helmController, "kube-apiserver"})
)

// report of one run.
type report struct {
	// Groups that there are in the end, and how many were asked for within which time.
	Groups, Asked          int
	Within, Rest           time.Duration
	Every                  int
	Applications, InFlight int
	// Helm: all releases were helm-controller's, and not only those of the first group.
	Helm     bool
	Began    time.Time
	Readings []reading
}

// reading of all memory when so many groups were ready, so many seconds after the start.
type reading struct {
	What    string
	Groups  int
	Seconds float64
	// MiB that are resident, by program, those of them that are its own, without the pages
	// of its executable, and the most that ever was resident.
	Resident, Own, Peak map[string]float64
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
	fmt.Fprintf(&b, "# Memory by number of groups\n\nMade by `go run ./bench/groups -groups %d -within %s -every %d -rest %s -applications %d -in-flight %d -helm=%t` on %s.\n",
		r.Asked, r.Within, r.Every, r.Rest, r.Applications, r.InFlight, r.Helm, r.Began.Format(time.DateOnly))
	if r.Helm {
		b.WriteString("Every release is a real one, by Helm, of a chart with one ConfigMap; ")
	} else {
		b.WriteString("The releases of the first group are real ones, by Helm, of a chart with one ConfigMap. Then helm-controller is stopped,\n" +
			"since it would take a quarter of a second for each of the others: the benchmark writes the ConfigMap, and the status that\n" +
			"helm-controller has written of the first. All else is real: groups are admitted, staged, compiled, walked by Argo and watched, and\n")
	}
	b.WriteString("groups stay once they are ready. The first row is at idle. After the last group services rest, and are then started anew, so that they\n" +
		"read all that there is.\n\nMiB: resident, in parentheses what of it is the process's own and not pages of its executable, and the peak since its start.\n" +
		"[operations.md](../operations.md#memory) says what the pages of an executable are.\n\n")
	fmt.Fprintf(&b, "| | groups | releases | after | %s |\n|%s\n", strings.Join(shown, " | "), strings.Repeat("---|", len(shown)+4))
	for _, reading := range r.Readings {
		fmt.Fprintf(&b, "| %s | %d | %d | %.0f s |", reading.What, reading.Groups, reading.Groups*r.Applications, reading.Seconds)
		for _, name := range shown {
			if _, runs := reading.Resident[name]; !runs {
				b.WriteString(" |")
				continue
			}
			fmt.Fprintf(&b, " %.0f (%.0f) ≤ %.0f |", reading.Resident[name], reading.Own[name], reading.Peak[name])
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
