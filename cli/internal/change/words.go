package change

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/Masterminds/semver/v3"

	"orkestra.dev/api/v1alpha1"
)

func changes(from, to Side) ([]Change, error) {
	out := []Change{}
	if from.Spec != nil && to.Spec != nil {
		a, b := *normal(from.Spec), *normal(to.Spec)
		a.Applications, b.Applications = nil, nil
		fields, err := different(a, b, 1)
		if err != nil {
			return nil, err
		}
		if len(fields) > 0 {
			out = append(out, Change{Kind: Changed, Fields: fields})
		}
	}
	was, is := byName(from.Spec), byName(to.Spec)
	for _, name := range union(was, is) {
		pair, err := applications(name, was[name], is[name], from.Resolved, to.Resolved)
		if err != nil {
			return nil, err
		}
		out = append(out, pair...)
	}
	return out, nil
}

func byName(spec *v1alpha1.ApplicationGroupSpec) map[string]*v1alpha1.Application {
	out := map[string]*v1alpha1.Application{}
	if spec == nil {
		return out
	}
	apps := normal(spec).Applications
	for i := range apps {
		out[apps[i].Name] = &apps[i]
	}
	return out
}

// union of the keys, sorted.
func union[T any](a, b map[string]T) []string {
	all := map[string]T{}
	maps.Copy(all, a)
	maps.Copy(all, b)
	return slices.Sorted(maps.Keys(all))
}

// applications compares one application on two sides: a is nil where it was added, b
// where it is removed.
func applications(name string, a, b *v1alpha1.Application, was, is map[string]Chart) ([]Change, error) {
	version := func(app *v1alpha1.Application, resolved map[string]Chart) *Version {
		return &Version{Asked: app.Spec.Chart.Version, Resolved: resolved[name].Version}
	}
	switch {
	case a == nil:
		return []Change{{Kind: Added, Application: name, Chart: b.Spec.Chart.Name, To: version(b, is)}}, nil
	case b == nil:
		return []Change{{Kind: Removed, Application: name, Chart: a.Spec.Chart.Name, From: version(a, was)}}, nil
	}
	var out []Change
	c := Change{Kind: Changed, Application: name, Chart: b.Spec.Chart.Name, From: version(a, was), To: version(b, is)}
	if c.From.Asked == c.To.Asked && (c.From.Resolved == c.To.Resolved || c.From.Resolved == "" || c.To.Resolved == "") {
		c.From, c.To = nil, nil
	} else {
		c.Kind = direction(*c.From, *c.To)
	}
	x, y := *a, *b
	x.Spec.Chart.Version, y.Spec.Chart.Version = "", ""
	var err error
	if c.Fields, err = different(x, y, 3); err != nil {
		return nil, err
	}
	for i := range c.Fields {
		c.Fields[i] = strings.TrimPrefix(c.Fields[i], "spec.")
	}
	if c.From != nil || len(c.Fields) > 0 {
		out = append(out, c)
	}
	return append(out, subcharts(name, a, b, was, is)...), nil
}

// subcharts compares those of an application that are releases of their own. Which
// those are is known where the charts of both sides are; else it is what the specs name.
func subcharts(name string, a, b *v1alpha1.Application, was, is map[string]Chart) []Change {
	x, y := was[name].Subcharts, is[name].Subcharts
	if was == nil || is == nil {
		x, y = named(a), named(b)
	}
	var out []Change
	for _, s := range union(x, y) {
		from, there := x[s]
		to, stays := y[s]
		c := Change{Application: name, Subchart: s, From: &Version{Resolved: from}, To: &Version{Resolved: to}}
		switch {
		case !there:
			c.Kind, c.From = Added, nil
		case !stays:
			c.Kind, c.To = Removed, nil
		case from == to:
			continue
		default:
			c.Kind = direction(*c.From, *c.To)
		}
		out = append(out, c)
	}
	return out
}

func named(app *v1alpha1.Application) map[string]string {
	out := map[string]string{}
	for _, s := range app.Spec.Subcharts {
		out[s.Name] = ""
	}
	return out
}

// direction of a change of version: that of what the versions came to, and where that
// is not known of the versions that were asked for, if they are no ranges.
func direction(from, to Version) Kind {
	a, err := semver.NewVersion(cmp.Or(from.Resolved, from.Asked))
	if err != nil {
		return Changed
	}
	b, err := semver.NewVersion(cmp.Or(to.Resolved, to.Asked))
	switch {
	case err != nil, a.Equal(b):
		return Changed
	case a.LessThan(b):
		return Upgraded
	default:
		return Downgraded
	}
}

// different fields of two values of one type, dotted, down to so many levels.
func different(a, b any, levels int) ([]string, error) {
	x, err := fieldsOf(a)
	if err != nil {
		return nil, err
	}
	y, err := fieldsOf(b)
	if err != nil {
		return nil, err
	}
	return between(x, y, "", levels), nil
}

func fieldsOf(v any) (map[string]any, error) {
	raw, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("comparing specs: %w", err)
	}
	var out map[string]any
	if err := json.Unmarshal(raw, &out); err != nil {
		return nil, fmt.Errorf("comparing specs: %w", err)
	}
	return out, nil
}

func between(a, b map[string]any, prefix string, levels int) []string {
	var out []string
	for _, k := range union(a, b) {
		if reflect.DeepEqual(a[k], b[k]) {
			continue
		}
		x, isMap := a[k].(map[string]any)
		y, both := b[k].(map[string]any)
		if isMap && both && levels > 1 {
			out = append(out, between(x, y, prefix+k+".", levels-1)...)
			continue
		}
		out = append(out, prefix+k)
	}
	return out
}
