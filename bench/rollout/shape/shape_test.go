package shape

import (
	"slices"
	"testing"
)

func TestShapes(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		depth, edges, roots int
	}{
		"chain:10":    {depth: 10, edges: 9, roots: 1},
		"fan:10":      {depth: 2, edges: 9, roots: 1},
		"ladder:40":   {depth: 4, edges: 60, roots: 10},
		"ladder:25":   {depth: 3, edges: 30, roots: 10},
		"bookinfo:6":  {depth: 5, edges: 9, roots: 1},
		"bookinfo:12": {depth: 5, edges: 18, roots: 2},
		"umbrella:31": {depth: 2, edges: 30, roots: 30},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			graphs, err := Parse(name)
			if err != nil {
				t.Fatal(err)
			}
			g := graphs[0]
			edges, roots := 0, 0
			seen := map[string]bool{}
			for _, r := range g.Releases {
				edges += len(r.Parents)
				if len(r.Parents) == 0 {
					roots++
				}
				if seen[r.Name] || slices.ContainsFunc(r.Parents, func(p string) bool { return !seen[p] }) {
					t.Errorf("%s is there twice, or before a parent", r.Name)
				}
				seen[r.Name] = true
			}
			if g.Name() != name || g.Depth() != c.depth || edges != c.edges || roots != c.roots {
				t.Errorf("%s has %d levels, %d edges, %d roots; want %+v", g.Name(), g.Depth(), edges, roots, c)
			}
		})
	}
}

func TestParseRefuses(t *testing.T) {
	t.Parallel()
	for _, cases := range []string{"", "chain", "chain:", "chain:1", "tree:10", "bookinfo:10", "chain:10,,fan:10"} {
		if got, err := Parse(cases); err == nil {
			t.Errorf("Parse(%q) = %v, want an error", cases, got)
		}
	}
}

// Whoever follows Begun begins each release once, and never before its parents.
func TestBegun(t *testing.T) {
	t.Parallel()
	g, err := New(Ladder, 40)
	if err != nil {
		t.Fatal(err)
	}
	ready, begun := map[string]bool{}, map[string]bool{}
	rounds := 0
	for ; len(ready) < len(g.Releases); rounds++ {
		next := g.Begun(ready, begun)
		if len(next) != rung {
			t.Fatalf("round %d begins %d releases, want %d", rounds, len(next), rung)
		}
		for _, r := range next {
			begun[r.Name] = true
		}
		for _, r := range next {
			ready[r.Name] = true
		}
	}
	if rounds != g.Depth() {
		t.Errorf("%d rounds for %d levels", rounds, g.Depth())
	}
}
