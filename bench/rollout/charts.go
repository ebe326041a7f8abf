package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"orkestra.dev/bench/rollout/shape"
	"orkestra.dev/bench/shelf"
	"orkestra.dev/services/stager/archive"
)

const (
	// chart is what every release installs: one ConfigMap.
	chart        = "small"
	chartVersion = shelf.Version
	// Values of a release, before and after its change.
	hello   = "hello"
	changed = "changed"
)

// umbrellaFiles are those of a chart with a subchart for each of a graph's releases
// but the last.
func umbrellaFiles(g shape.Graph) []archive.File {
	var dependencies strings.Builder
	dependencies.WriteString("dependencies:\n")
	var subcharts []archive.File
	for _, r := range g.Releases {
		if r.Subchart == "" {
			continue
		}
		fmt.Fprintf(&dependencies, "- {name: %s, version: %s}\n", r.Subchart, chartVersion)
		for _, f := range shelf.Chart(r.Subchart, "") {
			subcharts = append(subcharts, archive.File{Name: "charts/" + r.Subchart + "/" + f.Name, Data: f.Data})
		}
	}
	return append(shelf.Chart(umbrellaChart(g), dependencies.String()), subcharts...)
}

func umbrellaChart(g shape.Graph) string { return fmt.Sprintf("umbrella%d", len(g.Releases)) }

// newShelf is the repository that all charts come from.
func newShelf(graphs []shape.Graph) (*shelf.Shelf, error) {
	charts := map[string][]archive.File{chart: shelf.Chart(chart, "")}
	for _, g := range graphs {
		if g.Shape == shape.Umbrella {
			charts[umbrellaChart(g)] = umbrellaFiles(g)
		}
	}
	return shelf.New(charts, func(string) {})
}

// layChart writes the chart as a folder, and returns its path.
func layChart(folder string) (string, error) {
	path := filepath.Join(folder, chart)
	for _, f := range shelf.Chart(chart, "") {
		to := filepath.Join(path, f.Name)
		if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
			return "", fmt.Errorf("writing the chart: %w", err)
		}
		if err := os.WriteFile(to, f.Data, 0o644); err != nil {
			return "", fmt.Errorf("writing the chart: %w", err)
		}
	}
	return path, nil
}
