package figures

import (
	"math"
	"strings"
	"testing"
)

func run(contender string, phase Phase, wall float64) Run {
	return Run{Case: "chain:4", Releases: 4, Contender: contender, Repeat: 1, Phase: phase, WallSeconds: wall, FirstSeconds: 0.5}
}

func TestStatistics(t *testing.T) {
	t.Parallel()
	values := []float64{5, 1, 4, 2, 3, 6}
	for p, want := range map[float64]float64{0: 1, 50: 3, 99: 6, 100: 6} {
		if got := Percentile(values, p); got != want {
			t.Errorf("Percentile(%v) = %v, want %v", p, got, want)
		}
	}
	if got := Median(values); got != 3.5 {
		t.Errorf("Median of six = %v, want 3.5", got)
	}
	if got := Median(values[:5]); got != 3 {
		t.Errorf("Median of five = %v, want 3", got)
	}
	if values[0] != 5 {
		t.Error("the values were sorted in place")
	}
	if !math.IsNaN(Median(nil)) || !math.IsNaN(Percentile(nil, 50)) {
		t.Error("nothing has a median")
	}
}

func TestMarkdown(t *testing.T) {
	t.Parallel()
	r := Report{Command: "go run ./bench/rollout", Machine: Machine{CPUs: 2}, Versions: map[string]string{"Argo": "v3"}}
	for _, wall := range []float64{2, 4, 30} { // the median is 4
		r.Runs = append(r.Runs, run(Orkestra, Install, wall))
	}
	sequencer := run(Sequencer, Install, 2)
	sequencer.EdgeSeconds = []float64{0.002, 0.004}
	r.Runs = append(r.Runs, sequencer, run(Flux, Install, 100), run(Orkestra, Change, 1), run(Sequencer, Change, 0.5))
	text := r.Markdown()
	for _, want := range []string{
		"| chain:4 | 2.00 s | 4.00 s (2.00) | 100 s (50.00) | 25× |", // Flux takes 25 times as long as we do
		"| chain:4 | sequencer | 2 ms | 4 ms | 4 ms |",
		"`go run ./bench/rollout`", "Argo v3",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is not in\n%s", want, text)
		}
	}
	if strings.Contains(text, "NaN") || strings.Contains(text, "| helmfile") {
		t.Errorf("what was not measured is shown:\n%s", text)
	}
}

func TestSVG(t *testing.T) {
	t.Parallel()
	r := Report{Runs: []Run{run(Orkestra, Install, 4), run(Sequencer, Install, 2), run(Flux, Install, 100)}}
	svg := r.SVG()
	if n := strings.Count(svg, `class="bar"`); n != 3 {
		t.Errorf("%d bars, want 3:\n%s", n, svg)
	}
	for _, want := range []string{"<svg ", "</svg>", "chain:4", "orkestra", ">100 s<"} {
		if !strings.Contains(svg, want) {
			t.Errorf("%q is not in\n%s", want, svg)
		}
	}
	if strings.Contains((Report{}).SVG(), "NaN") {
		t.Error("a plot of nothing has NaN in it")
	}
}

func TestGuard(t *testing.T) {
	t.Parallel()
	r := Report{Runs: []Run{run(Orkestra, Install, 4), run(Sequencer, Install, 2)}}
	guarded := r.Guarded()
	const name = "chain:4 wall time over sequencer's"
	if guarded[name] != 2 {
		t.Errorf("%s = %v, want 2; all: %v", name, guarded[name], guarded)
	}
	for reason, c := range map[string]struct {
		before, now map[string]float64
		want        int
	}{
		"as it was":                {guarded, guarded, 0},
		"a third worse is let be":  {map[string]float64{"x": 3}, map[string]float64{"x": 4}, 0},
		"more than that is not":    {map[string]float64{"x": 3}, map[string]float64{"x": 4.01}, 1},
		"better is fine":           {map[string]float64{"x": 3}, map[string]float64{"x": 1}, 0},
		"not measured is not fine": {map[string]float64{"x": 3, "y": 1}, map[string]float64{"x": 3}, 1},
		"nothing guards nothing":   {nil, map[string]float64{"x": 3}, 1},
	} {
		if got := Regressions(c.before, c.now); len(got) != c.want {
			t.Errorf("%s: %v", reason, got)
		}
	}
}
