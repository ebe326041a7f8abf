package compile_test

import (
	"testing"

	"orkestra.dev/services/compiler/compile"
)

// BenchmarkForward is one changed of a thousand releases that stand: what a user waits for
// between charts.staged and the workflow.
func BenchmarkForward(b *testing.B) {
	g := large(1000, 1)
	live, _ := rolledOut(b, forward(b, g, stage(g, nil)))
	g.Spec.Applications[500].Spec.Release.Values = raw(`{"changed":true}`)
	in := input(g, live)
	in.AtRest = true
	for b.Loop() {
		p, err := compile.Forward(in)
		if err != nil {
			b.Fatal(err)
		}
		if p.Releases() != 1 {
			b.Fatalf("%d releases, want 1", p.Releases())
		}
	}
}
