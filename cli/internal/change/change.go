// Package change says what is different between two specs of a group: as a unified diff
// of their YAML, and in words. Pure: two sides in, text out.
package change

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/aymanbagabas/go-udiff"
	"sigs.k8s.io/yaml"

	"orkestra.dev/api/v1alpha1"
)

// Side is one of two that are compared.
type Side struct {
	// Label says what it is, above the diff.
	Label string
	// Spec of the group; nil for nothing at all.
	Spec *v1alpha1.ApplicationGroupSpec
	// Resolved are the charts that the versions of the spec came to, by application;
	// nil where that is not known.
	Resolved map[string]Chart
}

// Chart is one that was resolved.
type Chart struct {
	Chart   string
	Version string
	// Subcharts are the versions of those that are releases of their own.
	Subcharts map[string]string
}

// Kind of a change.
type Kind string

// The kinds. Changed is anything that is none of the others.
const (
	Added      Kind = "added"
	Removed    Kind = "removed"
	Upgraded   Kind = "upgraded"
	Downgraded Kind = "downgraded"
	Changed    Kind = "changed"
)

// Change of an application, of a subchart where one is named, or of the group where
// neither is.
type Change struct {
	Kind        Kind   `json:"kind"`
	Application string `json:"application,omitempty"`
	Subchart    string `json:"subchart,omitempty"`
	// Chart of the application.
	Chart string `json:"chart,omitempty"`
	// From and To are the versions, where they changed.
	From *Version `json:"from,omitempty"`
	To   *Version `json:"to,omitempty"`
	// Fields that are different besides, dotted.
	Fields []string `json:"fields,omitempty"`
}

// Version of a chart.
type Version struct {
	// Asked is what the spec says: a version or a range. A subchart has none.
	Asked string `json:"asked,omitempty"`
	// Resolved is what that came to; empty where it is not known.
	Resolved string `json:"resolved,omitempty"`
}

func (v Version) String() string {
	switch {
	case v.Resolved == "", v.Resolved == v.Asked:
		return v.Asked
	case v.Asked == "":
		return v.Resolved
	default:
		return v.Resolved + " (of " + v.Asked + ")"
	}
}

// String is the change in a line.
func (c Change) String() string {
	what := "group"
	switch {
	case c.Subchart != "":
		what = "subchart " + c.Application + "/" + c.Subchart
	case c.Application != "":
		what = "application " + c.Application
	}
	var details []string
	switch {
	case c.From != nil && c.To != nil:
		details = append(details, versioned(c.Chart, c.From.String()+" -> "+c.To.String()))
	case c.From != nil:
		details = append(details, versioned(c.Chart, c.From.String()))
	case c.To != nil:
		details = append(details, versioned(c.Chart, c.To.String()))
	}
	details = append(details, c.Fields...)
	line := fmt.Sprintf("%-10s  %s", c.Kind, what)
	if text := strings.Join(slices.DeleteFunc(details, func(s string) bool { return s == "" }), ", "); text != "" {
		line += ": " + text
	}
	return line
}

func versioned(chart, version string) string { return strings.TrimSpace(chart + " " + version) }

// Diff of two sides.
type Diff struct {
	From string `json:"from"`
	To   string `json:"to"`
	// Changes in words: those of the group, then those of the applications by name,
	// each before those of its subcharts.
	Changes []Change `json:"changes"`
	// Unified diff of the specs as YAML; empty where they are the same.
	Unified string `json:"diff"`
}

// Same says that there is no difference.
func (d Diff) Same() bool { return len(d.Changes) == 0 && d.Unified == "" }

// Compare two sides. What means nothing makes no difference: the order of lists of
// things with names, and a default that only one side spells out.
func Compare(from, to Side) (Diff, error) {
	out := Diff{From: from.Label, To: to.Label, Changes: []Change{}}
	a, err := text(from.Spec)
	if err != nil {
		return out, err
	}
	b, err := text(to.Spec)
	if err != nil {
		return out, err
	}
	out.Unified = renumber(udiff.Unified(from.Label, to.Label, a, b))
	if out.Changes, err = changes(from, to); err != nil {
		return out, err
	}
	return out, nil
}

// hunk is the head of a part of a unified diff. No other line begins with an @.
var hunk = regexp.MustCompile(`(?m)^@@ -(\d+)(?:,(\d+))? \+(\d+)(?:,(\d+))? @@$`)

// renumber the lines of the second side: the library does not count the lines that two
// changes of one hunk have in common, and so is wrong about all hunks that follow.
func renumber(unified string) string {
	ahead, first := 0, true
	return hunk.ReplaceAllStringFunc(unified, func(head string) string {
		m := hunk.FindStringSubmatch(head)
		from, to := number(m[1]), number(m[3])
		was, is := number(cmp.Or(m[2], "1")), number(cmp.Or(m[4], "1"))
		if !first {
			to = from + ahead
		}
		first = false
		ahead += is - was
		return fmt.Sprintf("@@ -%s +%s @@", span(from, was), span(to, is))
	})
}

// number of digits only.
func number(digits string) int {
	n := 0
	for _, d := range digits {
		n = n*10 + int(d-'0')
	}
	return n
}

func span(line, count int) string {
	if count == 1 {
		return strconv.Itoa(line)
	}
	return fmt.Sprintf("%d,%d", line, count)
}

// Same says whether two specs ask for the same.
func Same(a, b *v1alpha1.ApplicationGroupSpec) (bool, error) {
	x, err := text(a)
	if err != nil {
		return false, err
	}
	y, err := text(b)
	return x == y, err
}

// text is a spec as YAML; empty for none.
func text(spec *v1alpha1.ApplicationGroupSpec) (string, error) {
	if spec == nil {
		return "", nil
	}
	out, err := yaml.Marshal(map[string]any{"spec": normal(spec)})
	if err != nil {
		return "", fmt.Errorf("writing a spec as YAML: %w", err)
	}
	return string(out), nil
}

// normal is a spec in which what means nothing is the same in all.
func normal(spec *v1alpha1.ApplicationGroupSpec) *v1alpha1.ApplicationGroupSpec {
	group := &v1alpha1.ApplicationGroup{Spec: *spec.DeepCopy()}
	group.SetDefaults()
	apps := group.Spec.Applications
	slices.SortStableFunc(apps, func(a, b v1alpha1.Application) int { return cmp.Compare(a.Name, b.Name) })
	for i := range apps {
		apps[i].Dependencies = set(apps[i].Dependencies)
		subcharts := apps[i].Spec.Subcharts
		slices.SortStableFunc(subcharts, func(a, b v1alpha1.DAG) int { return cmp.Compare(a.Name, b.Name) })
		for j := range subcharts {
			subcharts[j].Dependencies = set(subcharts[j].Dependencies)
		}
		steps := apps[i].Spec.Workflow
		slices.SortStableFunc(steps, func(a, b v1alpha1.Executor) int { return cmp.Compare(a.Name, b.Name) })
		for j := range steps {
			steps[j].Dependencies = set(steps[j].Dependencies)
		}
	}
	return &group.Spec
}

func set(names []string) []string {
	slices.Sort(names)
	return slices.Compact(names)
}
