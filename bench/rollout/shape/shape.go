// Package shape makes the graphs of releases that the benchmark rolls out.
package shape

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Shape is a way in which releases wait for each other.
type Shape string

// The shapes.
const (
	// Chain: each waits for the one before it.
	Chain Shape = "chain"
	// Fan: all wait for the first.
	Fan Shape = "fan"
	// Ladder: levels of ten, each release waits for two of the level above.
	Ladder Shape = "ladder"
	// Bookinfo: the six releases of bookinfo behind its gateway, in five levels, as
	// often as the size has room for them.
	Bookinfo Shape = "bookinfo"
	// Umbrella: one chart, split into its subcharts and itself; the last waits for
	// all others.
	Umbrella Shape = "umbrella"
)

// rung is how many releases a level of a ladder has.
const rung = 10

// UmbrellaName is the release of an umbrella's own chart; it begins the names of the
// others.
const UmbrellaName = "umbrella"

// Release is one of a graph.
type Release struct {
	Name string
	// Parents that must be ready before it is begun.
	Parents []string
	// Subchart that it installs, of an umbrella; empty elsewhere.
	Subchart string
}

// Graph of releases, parents before children.
type Graph struct {
	Shape    Shape
	Releases []Release
}

// Name of the case, as Parse reads it.
func (g Graph) Name() string { return fmt.Sprintf("%s:%d", g.Shape, len(g.Releases)) }

// Parse reads cases such as "chain:10,fan:100": a shape and how many releases it has.
// The number of a bookinfo is a multiple of six.
func Parse(cases string) ([]Graph, error) {
	var out []Graph
	for c := range strings.SplitSeq(cases, ",") {
		name, size, _ := strings.Cut(strings.TrimSpace(c), ":")
		n, err := strconv.Atoi(size)
		if err != nil || n < 2 {
			return nil, fmt.Errorf("case %q: want <shape>:<number of releases, at least 2>", c)
		}
		g, err := New(Shape(name), n)
		if err != nil {
			return nil, fmt.Errorf("case %q: %w", c, err)
		}
		out = append(out, g)
	}
	return out, nil
}

// New makes a graph of n releases.
func New(s Shape, n int) (Graph, error) {
	g := Graph{Shape: s, Releases: make([]Release, n)}
	for i := range g.Releases {
		g.Releases[i].Name = fmt.Sprintf("r%04d", i)
	}
	switch s {
	case Chain:
		for i := 1; i < n; i++ {
			g.wait(i, i-1)
		}
	case Fan:
		for i := 1; i < n; i++ {
			g.wait(i, 0)
		}
	case Ladder:
		for i := rung; i < n; i++ {
			above := i - i%rung - rung
			g.wait(i, above+i%rung, above+(i+1)%rung)
		}
	case Bookinfo:
		if n%6 != 0 {
			return Graph{}, fmt.Errorf("a bookinfo has six releases, and %d is no multiple of that", n)
		}
		for i := 0; i < n; i += 6 {
			g.bookinfo(i)
		}
	case Umbrella:
		g.umbrella()
	default:
		return Graph{}, fmt.Errorf("there is no shape %q: chain, fan, ladder, bookinfo or umbrella", s)
	}
	return g, nil
}

// wait has a release wait for others.
func (g Graph) wait(child int, parents ...int) {
	for _, p := range parents {
		g.Releases[child].Parents = append(g.Releases[child].Parents, g.Releases[p].Name)
	}
}

// bookinfo makes six releases from the i-th on: gateway, details, ratings, reviews,
// productpage, and the chart itself.
func (g Graph) bookinfo(i int) {
	g.wait(i+1, i)
	g.wait(i+2, i)
	g.wait(i+3, i+1, i+2)
	g.wait(i+4, i+3)
	g.wait(i+5, i+1, i+2, i+3, i+4)
}

func (g Graph) umbrella() {
	last := len(g.Releases) - 1
	for i := range last {
		g.Releases[i].Subchart = fmt.Sprintf("sub%02d", i)
		g.Releases[i].Name = UmbrellaName + "-" + g.Releases[i].Subchart
	}
	g.Releases[last].Name = UmbrellaName
	for i := range last {
		g.wait(last, i)
	}
}

// Depth is the number of levels.
func (g Graph) Depth() int {
	level := map[string]int{}
	depth := 0
	for _, r := range g.Releases {
		for _, p := range r.Parents {
			level[r.Name] = max(level[r.Name], level[p])
		}
		level[r.Name]++
		depth = max(depth, level[r.Name])
	}
	return depth
}

// Begun are the releases that may be begun when those of ready are ready, and that
// were not begun before.
func (g Graph) Begun(ready, begun map[string]bool) []Release {
	var out []Release
	for _, r := range g.Releases {
		waits := slices.ContainsFunc(r.Parents, func(p string) bool { return !ready[p] })
		if !begun[r.Name] && !waits {
			out = append(out, r)
		}
	}
	return out
}
