// Package graph orders named things by their dependencies: it says whether an
// order exists, which one, and where there is none, why.
//
// All that it returns is sorted, so that the same nodes give the same output in
// whatever order they are given. It needs the standard library and nothing else.
package graph

import (
	"errors"
	"slices"
)

// Node is a name, and the names that come before it.
type Node struct {
	Name string
	// Dependencies are names of other nodes. Saying one twice is saying it once.
	Dependencies []string
}

// Graph is a directed graph without cycles. It does not change once it is made,
// and what its methods return belongs to the caller.
type Graph struct {
	names []string       // sorted; a node is an index into it
	index map[string]int // the inverse of names
	// before and after hold, for each node, the sorted nodes that it depends on,
	// and those that depend on it.
	before, after [][]int
	levels        [][]int
}

// New makes a graph of the nodes, in time linear in nodes and dependencies but
// for the sorting. Where it cannot, the error joins everything that is wrong: a
// *DuplicateError for each name given twice, an *UnknownError for each dependency
// that is not a node, a *CycleError for each node that depends on itself and for
// each set of nodes that wait for each other.
func New(nodes []Node) (*Graph, error) {
	g := &Graph{index: make(map[string]int, len(nodes))}
	for _, n := range nodes {
		g.names = append(g.names, n.Name)
	}
	slices.Sort(g.names)
	var problems []error
	for i, name := range g.names {
		if i > 0 && g.names[i-1] == name && (i == 1 || g.names[i-2] != name) {
			problems = append(problems, &DuplicateError{Name: name})
		}
	}
	g.names = slices.Compact(g.names)
	for i, name := range g.names {
		g.index[name] = i
	}

	// The dependencies of a duplicate are those of all its nodes, so that what is
	// wrong with any of them is said the first time.
	g.before = make([][]int, len(g.names))
	var unknown []*UnknownError
	for _, n := range nodes {
		i := g.index[n.Name]
		for _, dependency := range n.Dependencies {
			if j, ok := g.index[dependency]; ok {
				g.before[i] = append(g.before[i], j)
			} else {
				unknown = append(unknown, &UnknownError{Node: n.Name, Dependency: dependency})
			}
		}
	}
	slices.SortFunc(unknown, (*UnknownError).compare)
	unknown = slices.CompactFunc(unknown, func(a, b *UnknownError) bool { return *a == *b })
	for _, u := range unknown {
		problems = append(problems, u)
	}
	for i := range g.before {
		slices.Sort(g.before[i])
		g.before[i] = slices.Compact(g.before[i])
	}

	for _, cycle := range cycles(g.before) {
		problems = append(problems, &CycleError{Path: g.named(cycle)})
	}
	if len(problems) > 0 {
		return nil, errors.Join(problems...)
	}
	g.after = inverse(g.before)
	g.levels = levels(g.before, g.after)
	return g, nil
}

// Len is the number of nodes.
func (g *Graph) Len() int { return len(g.names) }

// Names are the names of the nodes, sorted.
func (g *Graph) Names() []string { return slices.Clone(g.names) }

// Nodes are the nodes, sorted by name; their dependencies are sorted, and each is
// there once.
func (g *Graph) Nodes() []Node {
	out := make([]Node, 0, len(g.names))
	for i, name := range g.names {
		out = append(out, Node{Name: name, Dependencies: g.named(g.before[i])})
	}
	return out
}

// Dependencies are the nodes that the named one waits for, sorted. There are none
// for a name that is not in the graph.
func (g *Graph) Dependencies(name string) []string {
	if i, ok := g.index[name]; ok {
		return g.named(g.before[i])
	}
	return nil
}

// Dependents are the nodes that wait for the named one, sorted. There are none
// for a name that is not in the graph.
func (g *Graph) Dependents(name string) []string {
	if i, ok := g.index[name]; ok {
		return g.named(g.after[i])
	}
	return nil
}

// Levels puts each node as early as its dependencies allow: those of level n
// have a dependency in level n-1, and none in their own or a later one. Each level
// is sorted by name.
func (g *Graph) Levels() [][]string {
	out := make([][]string, 0, len(g.levels))
	for _, level := range g.levels {
		out = append(out, g.named(level))
	}
	return out
}

// Order is all nodes, each after its dependencies: the levels, one after the other.
func (g *Graph) Order() []string {
	out := make([]string, 0, len(g.names))
	for _, level := range g.levels {
		out = append(out, g.named(level)...)
	}
	return out
}

// Reverse is the graph with every dependency turned round: what came up last goes
// down first.
func (g *Graph) Reverse() *Graph {
	return &Graph{
		names:  g.names,
		index:  g.index,
		before: g.after,
		after:  g.before,
		levels: levels(g.after, g.before),
	}
}

// named is nil for no nodes, so that a graph compares equal to one that is
// written down.
func (g *Graph) named(nodes []int) []string {
	if len(nodes) == 0 {
		return nil
	}
	out := make([]string, 0, len(nodes))
	for _, i := range nodes {
		out = append(out, g.names[i])
	}
	return out
}

// inverse turns every edge round. Its lists come out sorted.
func inverse(edges [][]int) [][]int {
	out := make([][]int, len(edges))
	for from, list := range edges {
		for _, to := range list {
			out[to] = append(out[to], from)
		}
	}
	return out
}

// levels takes away, again and again, the nodes that wait for nothing that is
// left (Kahn's algorithm).
func levels(before, after [][]int) [][]int {
	waits := make([]int, len(before))
	var level []int
	for i := range before {
		if waits[i] = len(before[i]); waits[i] == 0 {
			level = append(level, i)
		}
	}
	var out [][]int
	for len(level) > 0 {
		out = append(out, level)
		var next []int
		for _, done := range level {
			for _, i := range after[done] {
				if waits[i]--; waits[i] == 0 {
					next = append(next, i)
				}
			}
		}
		slices.Sort(next)
		level = next
	}
	return out
}
