package stage

import (
	"fmt"
	"slices"
	"strings"

	"orkestra.dev/pkg/values"
)

// Report says how the pieces of a chart, together, compare with the chart.
type Report struct {
	// Whole is the number of objects that the chart renders, hooks aside, and
	// Union the number that the pieces render.
	Whole, Union int
	// Pieces in the order of Split.
	Pieces []PieceReport
	// Difference of the pieces from the chart.
	Difference
	// Blind are objects, each with its piece, that come out otherwise when the piece is
	// rendered with the values that it is released with, which are those that it can
	// see (Piece.ValuePaths).
	Blind []string
	// Hooks run with their piece and not with the whole: by ID, each with the
	// piece that has it. They are no fault of the split, and a reason to think.
	Hooks []string
	// Cautions are about what the templates call that no rendering here can compare.
	Cautions []Caution
	// Warnings of Split.
	Warnings []string
}

// Difference of what is rendered from what was to be, by ID and template.
type Difference struct {
	// Missing was to be rendered and is not; Extra is rendered and was not to be, or
	// not so often; Different has not the same contents.
	Missing, Extra, Different []string
	// Unstable is rendered differently each time (random passwords, certificates,
	// dates), so that only its being there was compared.
	Unstable []string
}

// none tells whether there is none that stands.
func (d *Difference) none() bool { return len(d.Missing)+len(d.Extra)+len(d.Different) == 0 }

// PieceReport is one piece of a Report.
type PieceReport struct {
	// Subchart as in Piece.
	Subchart string
	// Chart is the staged name.
	Chart string
	// Objects and Hooks that the piece renders.
	Objects, Hooks int
}

// OK tells whether the pieces are the chart.
func (r *Report) OK() bool { return r.none() && len(r.Blind) == 0 }

// Equivalent splits a chart, renders the chart and its pieces with the same values
// and release, and compares; each piece also with the values that it can see. An error
// means that one of them does not render.
func Equivalent(c *Chart, all map[string]any, subcharts []string, r Release) (*Report, error) {
	s, err := c.Split(all, subcharts)
	if err != nil {
		return nil, err
	}
	whole, err := Render(c.data, all, r)
	if err != nil {
		return nil, err
	}
	again, err := Render(c.data, all, r)
	if err != nil {
		return nil, err
	}
	report := &Report{Warnings: s.Warnings, Cautions: c.cautions()}
	var union []Object
	for _, p := range s.Pieces {
		objects, err := Render(p.Archive, all, r)
		if err != nil {
			return nil, fmt.Errorf("in piece %s: %w", p.Chart, err)
		}
		if err := report.blind(p, objects, all, r); err != nil {
			return nil, err
		}
		report.add(p, objects, len(s.Pieces) > 1)
		union = append(union, objects...)
	}
	report.Difference = compare(whole, again, union)
	for _, o := range whole {
		if o.Hook == "" {
			report.Whole++
		}
	}
	slices.Sort(report.Hooks)
	slices.Sort(report.Blind)
	return report, nil
}

// add counts what a piece renders.
func (r *Report) add(p Piece, objects []Object, split bool) {
	pr := PieceReport{Subchart: p.Subchart, Chart: p.Chart}
	for _, o := range objects {
		if o.Hook == "" {
			pr.Objects++
			continue
		}
		pr.Hooks++
		if split {
			r.Hooks = append(r.Hooks, fmt.Sprintf("%s (%s) in %s", o.ID(), o.Hook, p.Chart))
		}
	}
	r.Pieces = append(r.Pieces, pr)
	r.Union += pr.Objects
}

// blind compares what a piece renders with what it renders of the values that it can
// see.
func (r *Report) blind(p Piece, objects []Object, all map[string]any, release Release) error {
	if len(p.ValuePaths) == 0 {
		return nil
	}
	seen, err := Render(p.Archive, values.Prune(all, p.ValuePaths), release)
	if err != nil {
		return fmt.Errorf("in piece %s, with the values that it can see (%s): %w", p.Chart, strings.Join(p.ValuePaths, ", "), err)
	}
	if same(objects, seen) {
		return nil
	}
	again, err := Render(p.Archive, all, release)
	if err != nil {
		return fmt.Errorf("in piece %s: %w", p.Chart, err)
	}
	d := compare(objects, again, seen)
	for _, key := range slices.Concat(d.Missing, d.Extra, d.Different) {
		r.Blind = append(r.Blind, key+" in "+p.Chart)
	}
	return nil
}

// index of objects by ID and template: where a chart renders one ID twice, from
// two files or in one, both have to be there.
func index(objects []Object) map[string][]Object {
	m := map[string][]Object{}
	for _, o := range objects {
		key := o.ID() + " from " + o.Path
		m[key] = append(m[key], o)
	}
	return m
}

// compare what the chart renders, and renders when it is rendered again, with the
// union of what its pieces render.
func compare(whole, again, union []Object) Difference {
	var r Difference
	whole, union = steady(whole, again, union)
	is, was, got := index(whole), index(again), index(union)
	for key, objects := range is {
		switch {
		case len(got[key]) < len(objects):
			r.Missing = append(r.Missing, key)
		case len(got[key]) > len(objects):
			r.Extra = append(r.Extra, key)
		case same(got[key], objects):
		case !same(was[key], objects):
			r.Unstable = append(r.Unstable, key)
		default:
			r.Different = append(r.Different, key)
		}
	}
	for key := range got {
		if _, ok := is[key]; !ok {
			r.Extra = append(r.Extra, key)
		}
	}
	for _, list := range [][]string{r.Missing, r.Extra, r.Different, r.Unstable} {
		slices.Sort(list)
	}
	return r
}

func same(a, b []Object) bool {
	return slices.EqualFunc(a, b, func(a, b Object) bool { return a.Manifest == b.Manifest })
}

// steady gives one name to what the chart names anew each time it is rendered, so
// that it is compared by its kind and its template.
func steady(whole, again, union []Object) (_, _ []Object) {
	const random = "<random>"
	was := index(again)
	like := func(o Object) string { return o.APIVersion + o.Kind + o.Namespace + o.Path }
	renamed := map[string]bool{} // kinds and templates
	var is = map[string]bool{}   // names that stand
	rename := func(o Object, steady bool) Object {
		if !steady {
			o.Name = random
		}
		return o
	}
	var w, u []Object
	for _, o := range whole {
		_, ok := was[o.ID()+" from "+o.Path]
		if !ok {
			renamed[like(o)] = true
		} else {
			is[o.ID()] = true
		}
		w = append(w, rename(o, ok))
	}
	for _, o := range union {
		u = append(u, rename(o, is[o.ID()] || !renamed[like(o)]))
	}
	return w, u
}

// String is the report for people.
func (r *Report) String() string {
	var b strings.Builder
	verdict := "is"
	if !r.OK() {
		verdict = "is NOT"
	}
	fmt.Fprintf(&b, "the split %s equivalent: %d objects whole, %d in %d pieces\n", verdict, r.Whole, r.Union, len(r.Pieces))
	for _, p := range r.Pieces {
		fmt.Fprintf(&b, "  %-40s %4d objects", p.Chart, p.Objects)
		if p.Hooks > 0 {
			fmt.Fprintf(&b, ", %d hooks", p.Hooks)
		}
		b.WriteString("\n")
	}
	for _, list := range []struct {
		title string
		items []string
	}{
		{"missing", r.Missing}, {"extra", r.Extra}, {"different", r.Different},
		{"different with the values that the piece can see", r.Blind},
		{"different each time", r.Unstable}, {"runs with its piece", r.Hooks}, {"warning", r.Warnings},
	} {
		for _, item := range list.items {
			fmt.Fprintf(&b, "  %s: %s\n", list.title, item)
		}
	}
	for _, c := range r.Cautions {
		fmt.Fprintf(&b, "  not compared: %s\n", c)
	}
	return b.String()
}
