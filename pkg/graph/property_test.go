package graph_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"orkestra.dev/pkg/graph"
)

// rounds is how many graphs each property is tried on: a second's worth.
const rounds = 2000

// forAll gives the property a source of chance per round, and prints its seed
// when the property does not hold.
func forAll(t *testing.T, property func(t *testing.T, r *rand.Rand)) {
	t.Helper()
	seed := rand.Uint64()
	for round := range uint64(rounds) {
		property(t, rand.New(rand.NewPCG(seed, round)))
		if t.Failed() {
			t.Fatalf("seed %d, round %d", seed, round)
		}
	}
}

// anyNodes draws nodes whose dependencies go anywhere: most of the graphs have
// cycles.
func anyNodes(r *rand.Rand) []graph.Node {
	nodes := make([]graph.Node, 1+r.IntN(12))
	for i := range nodes {
		nodes[i].Name = fmt.Sprintf("n%02d", i)
		for range r.IntN(3) {
			nodes[i].Dependencies = append(nodes[i].Dependencies, fmt.Sprintf("n%02d", r.IntN(len(nodes))))
		}
	}
	return nodes
}

// orderedNodes draws nodes that only depend on earlier ones, under names that do
// not give the order away.
func orderedNodes(r *rand.Rand) []graph.Node {
	names := r.Perm(1 + r.IntN(30))
	nodes := make([]graph.Node, len(names))
	for i, n := range names {
		nodes[i].Name = fmt.Sprintf("n%02d", n)
		for range r.IntN(4) {
			if i > 0 {
				nodes[i].Dependencies = append(nodes[i].Dependencies, nodes[r.IntN(i)].Name)
			}
		}
	}
	return nodes
}

func shuffled(r *rand.Rand, nodes []graph.Node) []graph.Node {
	out := slices.Clone(nodes)
	r.Shuffle(len(out), func(i, j int) { out[i], out[j] = out[j], out[i] })
	for i := range out {
		d := slices.Clone(out[i].Dependencies)
		r.Shuffle(len(d), func(i, j int) { d[i], d[j] = d[j], d[i] })
		out[i].Dependencies = d
	}
	return out
}

// position of each name; a name that is there twice fails the test.
func position(t *testing.T, names []string) map[string]int {
	t.Helper()
	at := map[string]int{}
	for i, name := range names {
		if _, ok := at[name]; ok {
			t.Errorf("%s is there twice", name)
		}
		at[name] = i
	}
	return at
}

func TestOrderRespectsEveryEdge(t *testing.T) {
	forAll(t, func(t *testing.T, r *rand.Rand) {
		nodes := orderedNodes(r)
		g := mustNew(t, nodes)
		at := position(t, g.Order())
		down := position(t, g.Reverse().Order())
		level := map[string]int{}
		for i, names := range g.Levels() {
			for _, name := range names {
				level[name] = i
			}
		}
		if len(at) != len(nodes) || len(down) != len(nodes) || len(level) != len(nodes) {
			t.Errorf("%d nodes, %d in order, %d in reverse, %d in levels", len(nodes), len(at), len(down), len(level))
		}
		for _, n := range nodes {
			latest := -1
			for _, d := range n.Dependencies {
				latest = max(latest, level[d])
				if at[d] >= at[n.Name] || down[d] <= down[n.Name] {
					t.Errorf("%s depends on %s: up at %d and %d, down at %d and %d",
						n.Name, d, at[n.Name], at[d], down[n.Name], down[d])
				}
			}
			if level[n.Name] != latest+1 {
				t.Errorf("%s is in level %d, its latest dependency in %d", n.Name, level[n.Name], latest)
			}
		}
	})
}

func TestReverseTwiceIsTheSame(t *testing.T) {
	forAll(t, func(t *testing.T, r *rand.Rand) {
		g := mustNew(t, orderedNodes(r))
		twice := g.Reverse().Reverse()
		if diff := cmp.Diff(g.Nodes(), twice.Nodes()); diff != "" {
			t.Errorf("nodes (-once +twice):\n%s", diff)
		}
		if diff := cmp.Diff(g.Levels(), twice.Levels()); diff != "" {
			t.Errorf("levels (-once +twice):\n%s", diff)
		}
		for _, n := range g.Nodes() {
			if diff := cmp.Diff(n.Dependencies, g.Reverse().Dependents(n.Name)); diff != "" {
				t.Errorf("dependencies of %s, dependents in reverse:\n%s", n.Name, diff)
			}
		}
	})
}

func TestOrderOfInputMeansNothing(t *testing.T) {
	forAll(t, func(t *testing.T, r *rand.Rand) {
		nodes := anyNodes(r)
		if r.IntN(3) == 0 {
			nodes[0].Dependencies = append(nodes[0].Dependencies, "nobody")
		}
		if r.IntN(3) == 0 {
			nodes = append(nodes, nodes[r.IntN(len(nodes))])
		}
		a, errA := graph.New(nodes)
		b, errB := graph.New(shuffled(r, nodes))
		if diff := cmp.Diff(fmt.Sprint(errA), fmt.Sprint(errB)); diff != "" {
			t.Errorf("errors of one set of nodes in two orders:\n%s", diff)
		}
		if a == nil || b == nil {
			return
		}
		if diff := cmp.Diff(a.Nodes(), b.Nodes()); diff != "" {
			t.Errorf("nodes:\n%s", diff)
		}
		if diff := cmp.Diff(a.Order(), b.Order()); diff != "" {
			t.Errorf("order:\n%s", diff)
		}
	})
}

// reaches walks the dependencies by depth: another way than the code's own.
func reaches(edges map[string][]string, from, to string, seen map[string]bool) bool {
	for _, next := range edges[from] {
		if next == to {
			return true
		}
		if !seen[next] {
			seen[next] = true
			if reaches(edges, next, to, seen) {
				return true
			}
		}
	}
	return false
}

func TestPrintedCycleIsOne(t *testing.T) {
	forAll(t, func(t *testing.T, r *rand.Rand) {
		nodes := anyNodes(r)
		edges := map[string][]string{}
		for _, n := range nodes {
			edges[n.Name] = n.Dependencies
		}
		cyclic := false
		for _, n := range nodes {
			cyclic = cyclic || reaches(edges, n.Name, n.Name, map[string]bool{})
		}
		_, err := graph.New(nodes)
		if cyclic != (err != nil) {
			t.Fatalf("there is a cycle: %t; New says: %v", cyclic, err)
		}
		if err == nil {
			return
		}
		for _, err := range split(err) {
			var cycle *graph.CycleError
			if !errors.As(err, &cycle) {
				t.Fatalf("unexpected error %v", err)
			}
			path := cycle.Path
			if len(path) < 2 || path[0] != path[len(path)-1] {
				t.Fatalf("%v does not end where it begins", cycle)
			}
			position(t, path[1:])
			for i, name := range path[1:] {
				if !slices.Contains(edges[path[i]], name) {
					t.Errorf("%v: %s does not depend on %s", cycle, path[i], name)
				}
			}
		}
		// Whoever mends what is printed, round by round, is done in the end.
		for range len(nodes) * len(nodes) {
			if err == nil {
				break
			}
			for _, e := range split(err) {
				var cycle *graph.CycleError
				errors.As(e, &cycle)
				i := slices.IndexFunc(nodes, func(n graph.Node) bool { return n.Name == cycle.Path[0] })
				nodes[i].Dependencies = slices.DeleteFunc(slices.Clone(nodes[i].Dependencies),
					func(d string) bool { return d == cycle.Path[1] })
			}
			_, err = graph.New(nodes)
		}
		if err != nil {
			t.Errorf("still there: %v", err)
		}
	})
}

// The bound is twenty times what it takes on one slow core, so that only another
// order of growth, or a stack that runs out, fails it.
func TestTenThousandNodes(t *testing.T) {
	const n, bound = 10_000, 2 * time.Second
	name := func(i int) string { return fmt.Sprintf("n%05d", i) }
	chain := make([]graph.Node, n)
	dense := make([]graph.Node, n)
	loop := make([]graph.Node, n)
	for i := range n {
		chain[i].Name, dense[i].Name, loop[i].Name = name(i), name(i), name(i)
		if i > 0 {
			chain[i].Dependencies = []string{name(i - 1)}
		}
		for d := max(0, i-20); d < i; d++ {
			dense[i].Dependencies = append(dense[i].Dependencies, name(d))
		}
		loop[i].Dependencies = []string{name((i + 1) % n)}
	}
	cases := map[string]struct {
		nodes []graph.Node
		valid bool
	}{
		"Chain": {chain, true},
		"Dense": {dense, true},
		"Loop":  {loop, false},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			start := time.Now()
			g, err := graph.New(tc.nodes)
			if tc.valid != (err == nil) {
				t.Fatalf("New: %v", err)
			}
			if g != nil && (len(g.Levels()) != n || len(g.Reverse().Order()) != n) {
				t.Errorf("%d levels, want %d", len(g.Levels()), n)
			}
			if took := time.Since(start); took > bound {
				t.Errorf("took %s, may take %s", took, bound)
			}
		})
	}
}

func BenchmarkNew(b *testing.B) {
	r := rand.New(rand.NewPCG(1, 2))
	nodes := make([]graph.Node, 10_000)
	for i := range nodes {
		nodes[i].Name = fmt.Sprintf("n%05d", i)
		for range 5 {
			if i > 0 {
				nodes[i].Dependencies = append(nodes[i].Dependencies, fmt.Sprintf("n%05d", r.IntN(i)))
			}
		}
	}
	for b.Loop() {
		if _, err := graph.New(nodes); err != nil {
			b.Fatal(err)
		}
	}
}
