// Package draw writes the graph of a group down: as text for people, as Mermaid and
// DOT for pictures, as JSON for programs. The same graph gives the same bytes.
package draw

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"

	"orkestra.dev/pkg/events"
	"orkestra.dev/pkg/graph"
	"orkestra.dev/services/compiler/compile"
)

// Formats by name.
var Formats = map[string]func(io.Writer, *compile.GroupGraph) error{
	"text": Text, "json": JSON, "mermaid": Mermaid, "dot": DOT,
}

// JSON is the graph as it is, indented.
func JSON(w io.Writer, g *compile.GroupGraph) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	if err := e.Encode(g); err != nil {
		return fmt.Errorf("writing the graph of group %s: %w", g.Group, err)
	}
	return nil
}

// Text is a list: what comes first is first, and what waits says for what.
func Text(w io.Writer, g *compile.GroupGraph) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s (%s)\n", g.Group, g.Type)
	apps, err := order(g.Applications, func(a compile.ApplicationGraph) (string, []string) { return a.Name, a.Dependencies })
	if err != nil {
		return err
	}
	for _, app := range apps {
		fmt.Fprintf(&b, "  %s%s\n", app.Name, after(app.Dependencies))
		names := map[string]string{}
		width := 0
		for _, r := range app.Releases {
			names[r.Task] = r.Name
			width = max(width, len(r.Name))
		}
		releases, err := order(app.Releases, func(r compile.ReleaseGraph) (string, []string) { return r.Task, r.Dependencies })
		if err != nil {
			return err
		}
		for _, r := range releases {
			before := make([]string, len(r.Dependencies))
			for i, d := range r.Dependencies {
				before[i] = names[d]
			}
			slices.Sort(before)
			fmt.Fprintf(&b, "    %s\n", strings.TrimRight(fmt.Sprintf("%-*s%s", width, r.Name, after(before)), " "))
			if len(r.Executors) < 2 {
				continue
			}
			steps, err := order(r.Executors, func(e compile.ExecutorGraph) (string, []string) { return e.Name, e.Dependencies })
			if err != nil {
				return err
			}
			for _, e := range steps {
				fmt.Fprintf(&b, "      %s [%s]%s\n", e.Name, e.Type, after(e.Dependencies))
			}
		}
	}
	_, err = io.WriteString(w, b.String())
	return err
}

func after(names []string) string {
	if len(names) == 0 {
		return ""
	}
	return "  after " + strings.Join(names, ", ")
}

// order puts things into an order in which each comes after what it waits for.
func order[T any](things []T, of func(T) (string, []string)) ([]T, error) {
	nodes := make([]graph.Node, len(things))
	byName := make(map[string]T, len(things))
	for i, t := range things {
		name, before := of(t)
		nodes[i] = graph.Node{Name: name, Dependencies: before}
		byName[name] = t
	}
	g, err := graph.New(nodes)
	if err != nil {
		return nil, fmt.Errorf("ordering the graph: %w", err)
	}
	out := make([]T, 0, len(things))
	for _, level := range g.Levels() {
		for _, name := range level {
			out = append(out, byName[name])
		}
	}
	return out, nil
}

// arrow is an edge between two releases: it goes from what comes first to what waits
// for it.
type arrow struct{ from, to string }

// ids gives each application and each release a name that any language for pictures
// takes.
type ids struct {
	applications map[string]string
	releases     map[string]map[string]string // application, task
}

func identify(g *compile.GroupGraph) ids {
	out := ids{applications: map[string]string{}, releases: map[string]map[string]string{}}
	for i, app := range g.Applications {
		out.applications[app.Name] = fmt.Sprintf("a%d", i)
		out.releases[app.Name] = map[string]string{}
		for j, r := range app.Releases {
			out.releases[app.Name][r.Task] = fmt.Sprintf("a%dr%d", i, j)
		}
	}
	return out
}

func (n ids) within(app compile.ApplicationGraph) []arrow {
	var out []arrow
	for _, r := range app.Releases {
		for _, d := range r.Dependencies {
			out = append(out, arrow{n.releases[app.Name][d], n.releases[app.Name][r.Task]})
		}
	}
	return out
}

// label of a release: its name, and its steps where it has several.
func label(r compile.ReleaseGraph, newline string) string {
	if len(r.Executors) < 2 {
		return r.Name
	}
	lines := []string{r.Name}
	for _, e := range r.Executors {
		lines = append(lines, e.Name+after(e.Dependencies))
	}
	return strings.Join(lines, newline)
}

func title(g *compile.GroupGraph) string {
	if g.Type == events.WorkflowForward {
		return g.Group
	}
	return g.Group + " (" + string(g.Type) + ")"
}

// Mermaid is a flowchart with a box for each application.
func Mermaid(w io.Writer, g *compile.GroupGraph) error {
	quote := func(s string) string { return `"` + strings.ReplaceAll(s, `"`, "#quot;") + `"` }
	n := identify(g)
	var b strings.Builder
	fmt.Fprintf(&b, "---\ntitle: %s\n---\nflowchart LR\n", quote(title(g)))
	for _, app := range g.Applications {
		fmt.Fprintf(&b, "  subgraph %s [%s]\n", n.applications[app.Name], quote(app.Name))
		for _, r := range app.Releases {
			fmt.Fprintf(&b, "    %s[%s]\n", n.releases[app.Name][r.Task], quote(label(r, "<br/>")))
		}
		for _, e := range n.within(app) {
			fmt.Fprintf(&b, "    %s --> %s\n", e.from, e.to)
		}
		b.WriteString("  end\n")
	}
	for _, app := range g.Applications {
		for _, d := range app.Dependencies {
			fmt.Fprintf(&b, "  %s ==> %s\n", n.applications[d], n.applications[app.Name])
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// DOT is a digraph for Graphviz, with a cluster for each application.
func DOT(w io.Writer, g *compile.GroupGraph) error {
	quote := func(s string) string {
		return `"` + strings.NewReplacer(`"`, `\"`, "\n", `\n`).Replace(s) + `"`
	}
	n := identify(g)
	var b strings.Builder
	fmt.Fprintf(&b, "digraph %s {\n  compound=true;\n  rankdir=LR;\n  node [shape=box];\n", quote(title(g)))
	for _, app := range g.Applications {
		fmt.Fprintf(&b, "  subgraph cluster_%s {\n    label=%s;\n", n.applications[app.Name], quote(app.Name))
		for _, r := range app.Releases {
			fmt.Fprintf(&b, "    %s [label=%s];\n", n.releases[app.Name][r.Task], quote(label(r, "\n")))
		}
		for _, e := range n.within(app) {
			fmt.Fprintf(&b, "    %s -> %s;\n", e.from, e.to)
		}
		b.WriteString("  }\n")
	}
	// Graphviz has no edges between clusters, only between nodes of them, clipped.
	for _, app := range g.Applications {
		for _, d := range app.Dependencies {
			fmt.Fprintf(&b, "  %s -> %s [ltail=cluster_%s, lhead=cluster_%s, style=bold];\n",
				n.applications[d]+"r0", n.applications[app.Name]+"r0", n.applications[d], n.applications[app.Name])
		}
	}
	b.WriteString("}\n")
	_, err := io.WriteString(w, b.String())
	return err
}
