package figures

import (
	"fmt"
	"maps"
	"math"
	"slices"
)

// Tolerance of the guard: a ratio that is more than a third worse has regressed.
const Tolerance = 4.0 / 3

// Guarded are the ratios that are to stay as they are; lower is better for all of
// them. Their names say what over what, on which case. There is no absolute time among
// them, so that they hold on any machine.
func (r Report) Guarded() map[string]float64 {
	out := map[string]float64{}
	add := func(name string, value float64) {
		if !math.IsNaN(value) && !math.IsInf(value, 0) {
			out[name] = math.Round(value*1000) / 1000
		}
	}
	for _, c := range r.cases() {
		for _, peer := range r.contenders() {
			if peer == Orkestra {
				continue
			}
			add(c+" wall time over "+peer+"'s", r.median(c, Orkestra, Install, wall)/r.median(c, peer, Install, wall))
		}
		add(c+" wall time from the first release on over "+Sequencer+"'s",
			r.median(c, Orkestra, Install, span)/r.median(c, Sequencer, Install, span))
		add(c+" API writes over "+Sequencer+"'s", r.median(c, Orkestra, Install, writesPer)/r.median(c, Sequencer, Install, writesPer))
		add(c+" messages per release", r.median(c, Orkestra, Install, messages))
		add(c+" one release changed over "+Sequencer+"'s", r.median(c, Orkestra, Change, wall)/r.median(c, Sequencer, Change, wall))
	}
	return out
}

// Regressions are what is worse in now than in before by more than the tolerance, a
// line each. What one of the two does not have is said as well: a guard that compares
// nothing guards nothing.
func Regressions(before, now map[string]float64) []string {
	var out []string
	for _, name := range slices.Sorted(maps.Keys(before)) {
		is, ok := now[name]
		switch {
		case !ok:
			out = append(out, fmt.Sprintf("%s: was not measured", name))
		case is > before[name]*Tolerance:
			out = append(out, fmt.Sprintf("%s: %.2f, it was %.2f", name, is, before[name]))
		}
	}
	if len(before) == 0 {
		out = append(out, "there is nothing to compare with")
	}
	return out
}
