package stage

import (
	"fmt"
	"slices"
	"strings"

	"helm.sh/helm/v3/pkg/chart"
	"helm.sh/helm/v3/pkg/chartutil"

	"orkestra.dev/pkg/values"
)

const (
	// maxVisits bounds in how many places charts are, under all names that they may
	// have: with two aliases on each level their number doubles, and Helm makes a copy
	// for each. People nest three deep.
	maxVisits = 10_000
	// maxSight bounds the value paths of all pieces of a chart together, in bytes: they
	// go into an event, each piece has those of all, and a message has 1 MiB.
	maxSight = 64 << 10
)

// sight is what all pieces of a chart can see of its values: what decides which parts
// of the chart are enabled. A part that is not takes its named templates along, and
// the values that others import from it.
type sight struct {
	paths  map[string]bool
	visits int
}

// sees finds out what the pieces of a chart that Helm has loaded, and not yet resolved,
// can see.
func sees(c *chart.Chart) ([]string, error) {
	s := &sight{paths: map[string]bool{chartutil.GlobalKey: true, "tags": true}}
	s.visit([]at{{chart: c}})
	if s.visits > maxVisits {
		return nil, fmt.Errorf("chart %s has more than %d subcharts, each counted under all its aliases", c.Name(), maxVisits)
	}
	return outermost(s.paths), nil
}

// at is a chart, under the name that its parent has for it.
type at struct {
	name  string
	chart *chart.Chart
}

// visit looks at the innermost chart of a chain.
func (s *sight) visit(chain []at) {
	if s.visits++; s.visits > maxVisits {
		return
	}
	inner := chain[len(chain)-1].chart
	var place []string
	for _, a := range chain[1:] {
		place = append(place, strings.Split(a.name, ".")...)
	}
	for _, d := range inner.Metadata.Dependencies {
		for condition := range strings.SplitSeq(strings.TrimSpace(d.Condition), ",") {
			if condition != "" {
				s.condition(place, strings.Split(condition, "."))
			}
		}
	}
	for _, sub := range inner.Dependencies() {
		for _, name := range names(inner, sub) {
			chain := append(slices.Clip(chain), at{name, sub})
			s.replaced(chain)
			s.visit(chain)
		}
	}
}

// condition is looked up below the place of the chart that has it. A global is also
// that of each chart around.
func (s *sight) condition(place, keys []string) {
	s.add(place, keys)
	if keys[0] == chartutil.GlobalKey {
		for i := range place {
			s.add(place[:i], keys)
		}
	}
}

func (s *sight) add(place, keys []string) {
	s.paths[values.Path(slices.Concat(place, keys)...)] = true
}

// replaced sees to it that the values which the innermost chart of a chain needs are
// there where the default of another chart is in their place: Helm goes on with a
// map there only, so then there has to be one in the user's values. Helm looks for
// them in their place, and, as it resolves the dependencies of a subchart with the
// values of its parent, at the top too.
func (s *sight) replaced(chain []at) {
	name := chain[len(chain)-1].name
	for i, a := range chain[:len(chain)-1] {
		var place []string
		for _, b := range chain[1:] {
			place = append(place, b.name)
		}
		if !mapAt(a.chart.Values, place[i:]) {
			s.add(place, nil)
		}
		if !mapAt(a.chart.Values, []string{name}) {
			s.add([]string{name}, nil)
		}
	}
}

// mapAt tells whether there is a map at the end of a path, or nothing.
func mapAt(in map[string]any, path []string) bool {
	for _, key := range path {
		value, ok := in[key]
		if !ok {
			return true
		}
		if in, ok = value.(map[string]any); !ok {
			return false
		}
	}
	return true
}

// names that a chart may have for one that it depends on.
func names(parent, sub *chart.Chart) []string {
	out := []string{sub.Name()}
	for _, d := range parent.Metadata.Dependencies {
		if d.Name == sub.Name() && d.Alias != "" && !slices.Contains(out, d.Alias) {
			out = append(out, d.Alias)
		}
	}
	return out
}

// outermost are the paths that are not below another, sorted.
func outermost(paths map[string]bool) []string {
	var out []string
	for p := range paths {
		covered := false
		for i := range p {
			covered = covered || p[i] == '.' && paths[p[:i]]
		}
		if !covered {
			out = append(out, p)
		}
	}
	slices.Sort(out)
	return out
}

// valuePaths of a subchart's piece. Where the subchart's name has a dot in it, Helm
// renders with what is at the path that the name looks like. Where it is too much to
// say, there are none.
func (c *Chart) valuePaths(sub string) []string {
	if sub == "" {
		return nil
	}
	paths := map[string]bool{values.Path(strings.Split(sub, ".")...): true}
	size := 0
	for _, p := range c.sight {
		paths[p] = true
		size += len(p)
	}
	if size*len(c.subs) > maxSight {
		return nil
	}
	return outermost(paths)
}
