package stage

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"helm.sh/helm/v3/pkg/chart"
	"helm.sh/helm/v3/pkg/chartutil"
)

// What import-values may ask of Helm: values that are looked at, counted again wherever they are imported
// to, and how deep they are nested then. A chart may have 150,000 values in all, nested 10,000 deep
// (package archive), and few charts import more than some dozens.
const (
	maxImported      = 1_000_000
	maxImportedDepth = 20_000
)

var errImports = errors.New("its import-values put values into themselves, or multiply them: Helm would not come to an end")

// resolve has Helm name, match and enable the dependencies of a chart as it does for these values. What they import is
// left out, since it enables nothing; a chart with imports for which Helm itself takes forever, or all memory that
// there is, is refused.
func resolve(c *chart.Chart, values map[string]any) error {
	all := imports{budget: maxImported, of: map[*chart.Dependency][]any{}}
	all.take(c)
	if err := chartutil.ProcessDependencies(c, values); err != nil {
		return fmt.Errorf("resolving the dependencies of %s: %w", c.Name(), err)
	}
	if len(all.of) == 0 {
		return nil
	}
	return all.follow(c)
}

// importing tells whether a chart, or one in it, imports values.
func importing(c *chart.Chart) bool {
	return slices.ContainsFunc(c.Metadata.Dependencies, func(d *chart.Dependency) bool { return d != nil && len(d.ImportValues) > 0 }) ||
		slices.ContainsFunc(c.Dependencies(), importing)
}

// imports are the import-values of charts, followed as Helm follows them (processImportValues in its
// pkg/chartutil/dependencies.go). Helm merges what is imported without copying it: values, and what they are in,
// imported to one place, are a map that has itself as a value, and to copy that overflows the stack.
type imports struct {
	of map[*chart.Dependency][]any
	// budget is how many values may still be looked at.
	budget int
}

// take takes the import-values off a chart and those in it.
func (m *imports) take(c *chart.Chart) {
	for _, d := range c.Metadata.Dependencies {
		if d != nil && len(d.ImportValues) > 0 {
			m.of[d], d.ImportValues = d.ImportValues, nil
		}
	}
	for _, sub := range c.Dependencies() {
		m.take(sub)
	}
}

// follow gives each chart the values that it has with its imports.
func (m *imports) follow(c *chart.Chart) error {
	for _, sub := range c.Dependencies() {
		if err := m.follow(sub); err != nil {
			return err
		}
	}
	if c.Metadata.Dependencies == nil {
		return nil
	}
	endless := func(err error) error { return fmt.Errorf("the values of chart %s: %w", c.Name(), err) }
	coalesced, err := chartutil.CoalesceValues(c, nil)
	if err != nil {
		return fmt.Errorf("preparing the values of %s: %w", c.Name(), err)
	}
	imported := map[string]any{}
	for _, d := range c.Metadata.Dependencies {
		for _, one := range m.of[d] {
			var child string
			parent := "."
			switch one := one.(type) {
			case string:
				child = "exports." + one
			case map[string]any:
				child, parent = fmt.Sprint(one["child"]), fmt.Sprint(one["parent"])
			default:
				continue
			}
			table, err := coalesced.Table(d.Name + "." + child)
			if err != nil {
				continue // as Helm does
			}
			if err := m.merge(imported, below(parent, table), 0); err != nil {
				return endless(err)
			}
		}
	}
	for _, values := range []map[string]any{imported, coalesced} {
		if err := m.count(values, 0); err != nil {
			return endless(err)
		}
	}
	c.Values = tables(coalesced)
	if err := m.merge(c.Values, imported, 0); err != nil {
		return endless(err)
	}
	if err := m.count(c.Values, 0); err != nil {
		return endless(err)
	}
	return nil
}

// below is a table at a path.
func below(path string, table map[string]any) map[string]any {
	if path == "." {
		return table
	}
	names := strings.Split(path, ".")
	for i := len(names) - 1; i >= 0; i-- {
		table = map[string]any{names[i]: table}
	}
	return table
}

// merge adds to a table what it does not have of another, by reference. What is null Helm has or has not, as the case may
// be; here it is not there, so that nothing is missed.
func (m *imports) merge(into, from map[string]any, depth int) error {
	for name, value := range from {
		if err := m.spend(depth); err != nil {
			return err
		}
		have := into[name]
		if have == nil {
			into[name] = value
			continue
		}
		inner, ok := have.(map[string]any)
		more, both := value.(map[string]any)
		if !ok || !both {
			continue
		}
		if err := m.merge(inner, more, depth+1); err != nil {
			return err
		}
	}
	return nil
}

// count spends what it takes to copy values.
func (m *imports) count(value any, depth int) error {
	if err := m.spend(depth); err != nil {
		return err
	}
	switch value := value.(type) {
	case map[string]any:
		for _, inner := range value {
			if err := m.count(inner, depth+1); err != nil {
				return err
			}
		}
	case []any:
		for _, inner := range value {
			if err := m.count(inner, depth+1); err != nil {
				return err
			}
		}
	}
	return nil
}

func (m *imports) spend(depth int) error {
	if m.budget--; m.budget < 0 || depth > maxImportedDepth {
		return errImports
	}
	return nil
}

// tables copies the tables of values.
func tables(values map[string]any) map[string]any {
	out := make(map[string]any, len(values))
	for name, value := range values {
		if inner, ok := value.(map[string]any); ok {
			value = tables(inner)
		}
		out[name] = value
	}
	return out
}
