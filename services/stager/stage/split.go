package stage

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"helm.sh/helm/v3/pkg/chart"
	"sigs.k8s.io/yaml"

	"orkestra.dev/api/v1alpha1"
	"orkestra.dev/services/stager/archive"
	"orkestra.dev/services/stager/refusal"
)

// Split takes the chart apart. Which subcharts are pieces is for Helm to say,
// with the values that the release will have: what they disable is none, and
// neither is a library. Names in subcharts only ask for an order, so an enabled
// subchart that is not named is a piece too; a name that the chart does not have
// is refused (UnknownSubchart), one that the values disable is a warning. Where
// subcharts is empty the chart stays whole.
//
// A piece is the same bytes whatever the values.
func (c *Chart) Split(values map[string]any, subcharts []string) (*Split, error) {
	if strings.EqualFold(c.meta.Type, "library") {
		return nil, invalid(fmt.Errorf("chart %s is a library: it has nothing to install", c.Name()))
	}
	s := &Split{Chart: c.Name(), Version: c.Version(), Digest: c.digest}
	var enabled []Subchart
	var err error
	if len(subcharts) > 0 || c.imports { // else Helm has nothing to resolve that could be endless
		if enabled, err = c.enabled(values); err != nil {
			return nil, err
		}
	}
	if len(subcharts) == 0 {
		s.Pieces = []Piece{{Chart: c.Name(), Version: c.Version(), Digest: c.digest, Archive: c.data}}
		return s, nil
	}
	if s.Warnings, err = c.check(subcharts, enabled); err != nil {
		return nil, err
	}
	if err := c.affordable(enabled); err != nil {
		return nil, invalid(err)
	}
	for _, sub := range append(enabled, Subchart{}) {
		p, err := c.piece(sub)
		if err != nil {
			return nil, invalid(fmt.Errorf("splitting chart %s: %w", c.Name(), err))
		}
		s.Pieces = append(s.Pieces, p)
	}
	return s, nil
}

// enabled are the subcharts that Helm would render with the values, sorted by name.
func (c *Chart) enabled(values map[string]any) ([]Subchart, error) {
	l, err := c.root.load()
	if err != nil {
		return nil, invalid(err)
	}
	unshare(l.chart)
	if err := resolve(l.chart, values); err != nil {
		return nil, invalid(err)
	}
	subs := slices.DeleteFunc(l.firstLevel(), func(s Subchart) bool { return s.Library })
	return slices.CompactFunc(subs, func(a, b Subchart) bool { return a.Name == b.Name }), nil
}

// check compares what was asked for with what there is.
func (c *Chart) check(subcharts []string, enabled []Subchart) (warnings []string, err error) {
	var unknown []string
	for _, name := range slices.Sorted(slices.Values(subcharts)) {
		is := func(s Subchart) bool { return s.Name == name }
		i := slices.IndexFunc(c.subs, is)
		switch {
		case i < 0:
			unknown = append(unknown, name+c.hint(name))
		case c.subs[i].Library:
			warnings = append(warnings, fmt.Sprintf("subchart %s is a library: it is part of the others and not released on its own", name))
		case !slices.ContainsFunc(enabled, is):
			warnings = append(warnings, fmt.Sprintf("subchart %s is disabled by the values: it is not released", name))
		}
	}
	if len(unknown) == 0 {
		return warnings, nil
	}
	var has []string
	for _, s := range c.subs {
		if !s.Library {
			has = append(has, s.Name)
		}
	}
	have := "none"
	if len(has) > 0 {
		have = strings.Join(slices.Compact(has), ", ")
	}
	return nil, refusal.Becausef(v1alpha1.ReasonUnknownSubchart, "chart %s %s has no subchart %s; those that it has: %s",
		c.Name(), c.Version(), strings.Join(unknown, ", "), have)
}

// hint tells why a name that one could think of is not a subchart's.
func (c *Chart) hint(name string) string {
	for _, d := range c.declared {
		if d.Alias == name || d.Alias == "" && d.Name == name {
			return " (it is declared, but not in the archive: the chart was packaged without its dependencies)"
		}
	}
	var aliases []string
	for _, d := range c.declared {
		if d.Name == name && d.Alias != "" {
			aliases = append(aliases, d.Alias)
		}
	}
	if len(aliases) > 0 {
		return " (it is there as " + strings.Join(aliases, ", ") + ")"
	}
	return ""
}

// piece is built once.
func (c *Chart) piece(sub Subchart) (Piece, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if p, ok := c.pieces[sub.Name]; ok {
		return p, nil
	}
	name := c.Name()
	if sub.Name != "" {
		name += "-" + sub.Name
	}
	root, err := c.muted(sub.Name, name)
	if err != nil {
		return Piece{}, err
	}
	files, err := root.all()
	if err != nil {
		return Piece{}, err
	}
	data, err := archive.Write(name, files)
	if err != nil {
		return Piece{}, err
	}
	p := Piece{
		Subchart: sub.Name, SubchartVersion: sub.Version,
		Chart: name, Version: c.Version(),
		Digest: archive.Digest(data), Archive: data,
		ValuePaths: c.valuePaths(sub.Name),
	}
	c.pieces[sub.Name] = p
	return p, nil
}

// muted is the chart in which only the part of the piece speaks. The chart's own
// piece, where sub is empty, keeps every Chart.yaml and every schema; that of a
// subchart is called name, and has the schemas of its own part only, because it is
// released with the values of that part only (Piece.ValuePaths).
func (c *Chart) muted(sub, name string) (*folder, error) {
	f, err := c.form(sub)
	if err != nil {
		return nil, err
	}
	root, places := f.copy(c.Name(), name)
	if sub != "" {
		if err := root.editChart(func(m *chart.Metadata) { m.Name = name }); err != nil {
			return nil, err
		}
	}
	paths := templates(places)
	changed := map[*folder]bool{}
	for f, p := range places {
		if sub != "" && !slices.Contains(p.names, sub) {
			changed[f] = f.drop(schema)
		}
		if p.library || p.speaks(sub) {
			continue
		}
		muted, err := f.mute(p.paths, c.take)
		if err != nil {
			return nil, err
		}
		changed[f] = changed[f] || muted
	}
	root.unpack(changed)
	if sub != "" {
		root.forward(c.Name(), name, paths)
	}
	return root, nil
}

// ambiguous tells whether the subchart shares its folder with another name (it
// has two aliases), or its name with another folder (there are two versions), so
// that muting the one would mute the other.
func (c *Chart) ambiguous(sub string) bool {
	i := slices.IndexFunc(c.subs, func(s Subchart) bool { return s.Name == sub })
	resolved := map[*folder]bool{}
	for _, s := range c.subs {
		if s.folder == c.subs[i].folder && s.Name != sub {
			return true
		}
		resolved[s.folder] = true
	}
	return len(resolved) < len(c.root.charts)
}

// materialise gives each first-level dependency a folder of its own that is named
// like the dependency, as is the chart in it. Nothing renders differently: Helm
// itself renames a chart that has an alias. Conditions, tags and import-values
// keep their places.
func (f *folder) materialise() error {
	l, err := f.load()
	if err != nil {
		return err
	}
	subs, err := l.subcharts()
	if err != nil {
		return err
	}
	f.charts = nil
	for i, s := range subs {
		if i > 0 && subs[i-1].Name == s.Name {
			return fmt.Errorf("two subcharts are called %s", s.Name)
		}
		c := s.folder.clone()
		c.dir, c.packed = s.Name, nil
		if err := c.editChart(func(m *chart.Metadata) { m.Name = s.Name }); err != nil {
			return fmt.Errorf("in subchart %s: %w", s.Name, err)
		}
		f.charts = append(f.charts, c)
	}
	slices.SortFunc(f.charts, func(a, b *folder) int { return strings.Compare(a.dir, b.dir) })
	resolve := func(m *chart.Metadata) {
		for _, d := range m.Dependencies {
			if d.Alias != "" {
				d.Name, d.Alias = d.Alias, ""
			}
		}
	}
	if f.file(requirements) != nil {
		if err := f.edit(requirements, resolve); err != nil {
			return err
		}
	}
	return f.editChart(resolve)
}

const (
	chartYAML    = "Chart.yaml"
	requirements = "requirements.yaml" // where charts of apiVersion v1 have their dependencies
	schema       = "values.schema.json"
)

// editChart changes what Chart.yaml says; where that is nothing, not a byte of it.
func (f *folder) editChart(change func(*chart.Metadata)) error { return f.edit(chartYAML, change) }

func (f *folder) edit(name string, change func(*chart.Metadata)) error {
	file := f.file(name)
	if file == nil {
		return errors.New(name + " is missing")
	}
	var m chart.Metadata
	if err := yaml.Unmarshal(file.Data, &m); err != nil {
		return fmt.Errorf("decoding %s: %w", name, err)
	}
	before, err := yaml.Marshal(m)
	if err != nil {
		return fmt.Errorf("encoding %s: %w", name, err)
	}
	change(&m)
	after, err := yaml.Marshal(m)
	if err != nil {
		return fmt.Errorf("encoding %s: %w", name, err)
	}
	if string(before) != string(after) {
		file.Data = after
	}
	return nil
}

// place is where Helm puts a chart's templates.
type place struct {
	// outermost: it is not a dependency.
	outermost bool
	// names of the first-level dependency that the chart is, or is in.
	names []string
	// inLibrary: that dependency is a library.
	inLibrary bool
	// library: the chart itself is one.
	library bool
	// paths are what the engine calls the chart, <chart>/charts/<subchart>/...; more
	// than one where it, or one that it is in, has several aliases.
	paths []string
}

// speaks tells whether a template at this place belongs to the piece. What an
// application chart inside a library renders belongs to the chart's own piece.
func (p *place) speaks(sub string) bool {
	if p.outermost || p.inLibrary {
		return sub == ""
	}
	return sub != "" && slices.Contains(p.names, sub)
}

// places asks Helm where each chart's templates would be, with everything enabled.
func (f *folder) places() (map[*folder]*place, error) {
	l, err := f.load()
	if err != nil {
		return nil, err
	}
	places := map[*folder]*place{}
	var enter func(c, sub *chart.Chart)
	enter = func(c, sub *chart.Chart) {
		places[l.from(c)] = &place{
			library: library(c), outermost: sub == nil, inLibrary: sub != nil && library(sub),
		}
		for _, d := range c.Dependencies() {
			first := sub
			if first == nil {
				first = d
			}
			enter(d, first)
		}
	}
	enter(l.chart, nil)
	if err := l.enableAll(); err != nil {
		return nil, err
	}
	var resolve func(c *chart.Chart, name string)
	resolve = func(c *chart.Chart, name string) {
		p := places[l.from(c)]
		p.paths = append(p.paths, c.ChartFullPath())
		if name != "" && !slices.Contains(p.names, name) {
			p.names = append(p.names, name)
		}
		for _, d := range c.Dependencies() {
			first := name
			if first == "" {
				first = d.Name()
			}
			resolve(d, first)
		}
	}
	resolve(l.chart, "")
	// A chart that Helm does not choose here it may choose elsewhere, where two match
	// one dependency and the order is random: then it is in the place of the other.
	f.walk(func(parent *folder) {
		for _, d := range parent.charts {
			if p := places[d]; len(p.paths) == 0 {
				for _, at := range places[parent].paths {
					p.paths = append(p.paths, path.Join(at, "charts", d.dir))
				}
				p.names = places[parent].names
			}
		}
	})
	for _, p := range places {
		slices.Sort(p.paths)
		p.paths = slices.Compact(p.paths)
	}
	return places, nil
}

// unpack gives up the packed form of what has changed inside.
func (f *folder) unpack(changed map[*folder]bool) bool {
	is := changed[f]
	for _, sub := range f.charts {
		if sub.unpack(changed) {
			is = true
		}
	}
	if is {
		f.packed = nil
	}
	return is
}

// Tagged is the piece under a version of its own, with build metadata from its
// digest: for where the staging repository holds other bytes under its name and
// version. Nothing but the version in the outermost Chart.yaml changes.
func (p Piece) Tagged() (Piece, error) {
	files, err := archive.Unpack(p.Archive)
	if err != nil {
		return Piece{}, err
	}
	tag := "orkestra." + strings.TrimPrefix(p.Digest, "sha256:")[:8]
	version := p.Version + "+" + tag
	if strings.Contains(p.Version, "+") {
		version = p.Version + "." + tag
	}
	f := &folder{files: files}
	if err := f.editChart(func(m *chart.Metadata) { m.Version = version }); err != nil {
		return Piece{}, invalid(fmt.Errorf("giving chart %s the version %s: %w", p.Chart, version, err))
	}
	data, err := archive.Write(p.Chart, f.files)
	if err != nil {
		return Piece{}, err
	}
	p.Version, p.Archive, p.Digest = version, data, archive.Digest(data)
	return p, nil
}
