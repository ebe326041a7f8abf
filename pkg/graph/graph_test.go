package graph_test

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"orkestra.dev/pkg/graph"
)

func node(name string, dependencies ...string) graph.Node {
	return graph.Node{Name: name, Dependencies: dependencies}
}

// bookinfo is the graph that the original project draws for its example.
func bookinfo() []graph.Node {
	return []graph.Node{
		node("bookinfo", "details", "productpage", "ratings", "reviews"),
		node("productpage", "reviews"),
		node("reviews", "details", "ratings"),
		node("ratings"),
		node("details"),
	}
}

func mustNew(t *testing.T, nodes []graph.Node) *graph.Graph {
	t.Helper()
	g, err := graph.New(nodes)
	if err != nil {
		t.Fatalf("New: %v", err)
	}
	return g
}

func TestLevels(t *testing.T) {
	cases := map[string]struct {
		reason string
		nodes  []graph.Node
		want   [][]string
	}{
		"Empty": {
			reason: "no nodes are a graph, with nothing in it",
			want:   [][]string{},
		},
		"NoDependencies": {
			reason: "what waits for nothing is all in the first level, sorted",
			nodes:  []graph.Node{node("c"), node("a"), node("b")},
			want:   [][]string{{"a", "b", "c"}},
		},
		"Bookinfo": {
			reason: "the example of the original comes up in its order",
			nodes:  bookinfo(),
			want:   [][]string{{"details", "ratings"}, {"reviews"}, {"productpage"}, {"bookinfo"}},
		},
		"LongestPathDecides": {
			reason: "a node waits for the slowest of its dependencies",
			nodes:  []graph.Node{node("d", "a", "c"), node("c", "b"), node("b", "a"), node("a")},
			want:   [][]string{{"a"}, {"b"}, {"c"}, {"d"}},
		},
		"SaidTwice": {
			reason: "a dependency that is given twice counts once",
			nodes:  []graph.Node{node("b", "a", "a"), node("a")},
			want:   [][]string{{"a"}, {"b"}},
		},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			g := mustNew(t, tc.nodes)
			if diff := cmp.Diff(tc.want, g.Levels()); diff != "" {
				t.Errorf("%s: levels (-want +got):\n%s", tc.reason, diff)
			}
			var order []string
			for _, level := range tc.want {
				order = append(order, level...)
			}
			if diff := cmp.Diff(order, append([]string(nil), g.Order()...)); diff != "" {
				t.Errorf("%s: order (-want +got):\n%s", tc.reason, diff)
			}
		})
	}
}

func TestReverse(t *testing.T) {
	got := mustNew(t, bookinfo()).Reverse().Nodes()
	want := []graph.Node{
		node("bookinfo"),
		node("details", "bookinfo", "reviews"),
		node("productpage", "bookinfo"),
		node("ratings", "bookinfo", "reviews"),
		node("reviews", "bookinfo", "productpage"),
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the reverse of bookinfo is the original's (-want +got):\n%s", diff)
	}
}

func TestNeighbours(t *testing.T) {
	g := mustNew(t, bookinfo())
	if diff := cmp.Diff([]string{"details", "ratings"}, g.Dependencies("reviews")); diff != "" {
		t.Errorf("dependencies of reviews (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"bookinfo", "productpage"}, g.Dependents("reviews")); diff != "" {
		t.Errorf("dependents of reviews (-want +got):\n%s", diff)
	}
	if got := g.Dependencies("nobody"); got != nil {
		t.Errorf("dependencies of a name that is not there: %v", got)
	}
	if got := g.Dependents("nobody"); got != nil {
		t.Errorf("dependents of a name that is not there: %v", got)
	}
}

func TestImmutable(t *testing.T) {
	nodes := bookinfo()
	g := mustNew(t, nodes)
	want := g.Nodes()
	nodes[0].Dependencies[0] = "changed"
	g.Names()[0] = "changed"
	g.Order()[0] = "changed"
	g.Levels()[0][0] = "changed"
	g.Dependencies("reviews")[0] = "changed"
	g.Nodes()[0].Dependencies[0] = "changed"
	if diff := cmp.Diff(want, g.Nodes()); diff != "" {
		t.Errorf("a graph changed through what it was given or gave (-want +got):\n%s", diff)
	}
}

func TestNewRefuses(t *testing.T) {
	cases := map[string]struct {
		reason string
		nodes  []graph.Node
		want   []error
		says   string
	}{
		"Duplicate": {
			reason: "a name given three times is said once",
			nodes:  []graph.Node{node("a"), node("b"), node("a"), node("a")},
			want:   []error{&graph.DuplicateError{Name: "a"}},
			says:   `"a" is there more than once`,
		},
		"Unknown": {
			reason: "the node and the dependency that it does not have are named",
			nodes:  []graph.Node{node("a", "x", "x")},
			want:   []error{&graph.UnknownError{Node: "a", Dependency: "x"}},
			says:   `"a" depends on "x", which is not there`,
		},
		"Self": {
			reason: "a node that waits for itself is a cycle",
			nodes:  []graph.Node{node("a", "a")},
			want:   []error{&graph.CycleError{Path: []string{"a", "a"}}},
			says:   `cycle a -> a`,
		},
		"Cycle": {
			reason: "each node of the printed path depends on the next",
			nodes:  []graph.Node{node("a", "b"), node("b", "c"), node("c", "a"), node("d", "a")},
			want:   []error{&graph.CycleError{Path: []string{"a", "b", "c", "a"}}},
			says:   `cycle a -> b -> c -> a`,
		},
		"ShortestCycle": {
			reason: "of the cycles in one knot the shortest is printed: it is the easiest to read",
			nodes:  []graph.Node{node("a", "b", "d"), node("b", "c"), node("c", "a"), node("d", "a")},
			want:   []error{&graph.CycleError{Path: []string{"a", "d", "a"}}},
			says:   `cycle a -> d -> a`,
		},
		"All": {
			reason: "everything that is wrong is said at once, sorted: duplicates, unknown names, cycles",
			nodes: []graph.Node{
				node("z", "y"), node("y", "z"), node("n", "x"), node("m", "x"), node("m", "w"),
				node("b", "a"), node("a", "b"), node("c", "c"),
			},
			want: []error{
				&graph.DuplicateError{Name: "m"},
				&graph.UnknownError{Node: "m", Dependency: "w"},
				&graph.UnknownError{Node: "m", Dependency: "x"},
				&graph.UnknownError{Node: "n", Dependency: "x"},
				&graph.CycleError{Path: []string{"a", "b", "a"}},
				&graph.CycleError{Path: []string{"c", "c"}},
				&graph.CycleError{Path: []string{"y", "z", "y"}},
			},
			says: `"m" is there more than once
"m" depends on "w", which is not there
"m" depends on "x", which is not there
"n" depends on "x", which is not there
cycle a -> b -> a
cycle c -> c
cycle y -> z -> y`,
		},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			g, err := graph.New(tc.nodes)
			if g != nil || err == nil {
				t.Fatalf("%s: New made %v", tc.reason, g)
			}
			if diff := cmp.Diff(tc.want, split(err)); diff != "" {
				t.Errorf("%s: errors (-want +got):\n%s", tc.reason, diff)
			}
			if diff := cmp.Diff(tc.says, err.Error()); diff != "" {
				t.Errorf("%s: message (-want +got):\n%s", tc.reason, diff)
			}
		})
	}
}

// split takes apart what errors.Join put together.
func split(err error) []error {
	var joined interface{ Unwrap() []error }
	if errors.As(err, &joined) {
		return joined.Unwrap()
	}
	return []error{err}
}

func TestDiff(t *testing.T) {
	cases := map[string]struct {
		reason        string
		before, after map[string]string
		want          graph.Changes
	}{
		"Nothing": {reason: "two empty sets do not differ"},
		"First": {
			reason: "what was not there is added, sorted",
			after:  map[string]string{"b": "1", "a": "1"},
			want:   graph.Changes{Added: []string{"a", "b"}},
		},
		"Everything": {
			reason: "the digest decides whether a name that stayed has changed",
			before: map[string]string{"gone": "1", "same": "1", "new version": "1"},
			after:  map[string]string{"came": "1", "same": "1", "new version": "2"},
			want: graph.Changes{
				Added:     []string{"came"},
				Removed:   []string{"gone"},
				Changed:   []string{"new version"},
				Unchanged: []string{"same"},
			},
		},
		"EmptyDigest": {
			reason: "a name with an empty digest is there",
			before: map[string]string{"a": ""},
			after:  map[string]string{"a": ""},
			want:   graph.Changes{Unchanged: []string{"a"}},
		},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(tc.want, graph.Diff(tc.before, tc.after)); diff != "" {
				t.Errorf("%s (-want +got):\n%s", tc.reason, diff)
			}
		})
	}
}
