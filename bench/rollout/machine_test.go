package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"orkestra.dev/bench/rollout/figures"
)

func TestMachine(t *testing.T) {
	t.Parallel()
	m, err := machine()
	if err != nil || m.CPUs < 1 || m.MemoryGiB <= 0 || m.Kernel == "" {
		t.Errorf("machine = %+v, %v", m, err)
	}
}

// What one run writes another compares itself with.
func TestGuard(t *testing.T) {
	t.Parallel()
	report := func(ours float64) figures.Report {
		run := func(contender string, wall float64) figures.Run {
			return figures.Run{Case: "chain:4", Releases: 4, Contender: contender, Phase: figures.Install, WallSeconds: wall}
		}
		return figures.Report{Runs: []figures.Run{run(figures.Orkestra, ours), run(figures.Sequencer, 1)}}
	}
	file := filepath.Join(t.TempDir(), "guard.json")
	if err := guard(options{guard: file}, report(2)); err == nil {
		t.Error("a guard without a file guards nothing, and does not say so")
	}
	if err := guard(options{writeGuard: file}, report(2)); err != nil {
		t.Fatal(err)
	}
	if err := guard(options{guard: file}, report(2.6)); err != nil {
		t.Errorf("30 %% worse: %v", err)
	}
	if err := guard(options{guard: file}, report(2.7)); err == nil || !strings.Contains(err.Error(), "chain:4 wall time over sequencer's: 2.70, it was 2.00") {
		t.Errorf("35 %% worse: %v", err)
	}
}

func TestWrite(t *testing.T) {
	t.Parallel()
	folder := filepath.Join(t.TempDir(), "benchmarks")
	if err := write(options{out: folder}, figures.Report{Command: "go run ./bench/rollout"}); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"rollout.md", "rollout.json", "rollout.svg"} {
		if data, err := os.ReadFile(filepath.Join(folder, name)); err != nil || len(data) == 0 {
			t.Errorf("%s: %d bytes, %v", name, len(data), err)
		}
	}
}

// The chart is laid down as a folder for Helmfile, and packed for all others.
func TestCharts(t *testing.T) {
	t.Parallel()
	path, err := layChart(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if data, err := os.ReadFile(filepath.Join(path, "templates", "configmap.yaml")); err != nil || !strings.Contains(string(data), "kind: ConfigMap") {
		t.Errorf("the chart has no template: %q, %v", data, err)
	}
	g := graph(t, "umbrella", 3)
	files := map[string]string{}
	for _, f := range umbrellaFiles(g) {
		files[f.Name] = string(f.Data)
	}
	if !strings.Contains(files["Chart.yaml"], "- {name: sub01, version: 1.0.0}") || files["charts/sub01/Chart.yaml"] == "" || files["charts/sub02/Chart.yaml"] != "" {
		t.Errorf("the umbrella of three has %v", files)
	}
}
