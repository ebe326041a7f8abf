package stage_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
	"sigs.k8s.io/yaml"

	"orkestra.dev/services/stager/archive"
	"orkestra.dev/services/stager/stage"
)

// TestGeneratedCharts: whatever the chart and the values, if Helm renders it the pieces
// are the chart, also with the values that they can see. A failure prints the seed
// (-rapid.seed) and the smallest chart that fails.
func TestGeneratedCharts(t *testing.T) {
	charts, rendered := 0, 0
	rapid.Check(t, func(t *rapid.T) {
		g := grown(t, "shop", 0)
		user := table(t, 0, g.keys())
		data, err := archive.Write("root", g.files)
		if err != nil {
			t.Fatal(err)
		}
		charts++
		if _, err := stage.Render(data, user, release); err != nil {
			return // it is no chart, or these are no values for it
		}
		rendered++
		c, err := stage.Open(data)
		if err != nil {
			t.Fatalf("Helm renders what cannot be opened: %v\n%s", err, g.print(user))
		}
		var names []string
		for _, s := range c.Subcharts() {
			if !s.Library {
				names = append(names, s.Name)
			}
		}
		report, err := stage.Equivalent(c, user, names, release)
		if err != nil {
			t.Fatalf("%v\n%s", err, g.print(user))
		}
		if !report.OK() || report.Whole != report.Union {
			t.Fatalf("%s\n%s", report, g.print(user))
		}
	})
	if rendered < charts/3 {
		t.Errorf("of %d charts only %d render: the others say nothing", charts, rendered)
	}
}

// grownChart is a chart that was made up.
type grownChart struct {
	name     string
	files    []archive.File
	children []*grownChart
	aliases  []string // under which its parent has it
}

// keys that mean something to the chart or to one in it.
func (g *grownChart) keys() []string {
	keys := []string{"global", "tags", "on", "n", "data", "got", "enabled", "exports"}
	for _, c := range g.children {
		keys = append(keys, c.aliases...)
		for _, cc := range c.children {
			keys = append(keys, cc.aliases...)
		}
	}
	return keys
}

func (g *grownChart) print(user map[string]any) string {
	var b strings.Builder
	for _, f := range g.files {
		fmt.Fprintf(&b, "-- %s --\n%s\n", f.Name, f.Data)
	}
	values, err := json.Marshal(user)
	return fmt.Sprintf("%s-- the values --\n%s %v\n", b.String(), values, err)
}

func (g *grownChart) write(name string, data []byte) {
	g.files = append(g.files, archive.File{Name: name, Data: data})
}

// grown makes up a chart with those in it, three deep.
func grown(t *rapid.T, name string, depth int) *grownChart {
	g := &grownChart{name: name}
	meta := map[string]any{"apiVersion": "v2", "name": name, "version": "1.0.0"}
	if depth > 0 && rapid.IntRange(0, 6).Draw(t, "library") == 0 {
		meta["type"] = "library"
	}
	var declared []any
	if depth < 3 {
		for _, child := range []string{"a", "b", "c.d"}[:rapid.IntRange(0, 3-depth).Draw(t, "children")] {
			c := grown(t, child, depth+1)
			g.children = append(g.children, c)
			declared = append(declared, dependencies(t, c)...)
			for _, f := range c.files {
				g.write("charts/"+child+"/"+f.Name, f.Data)
			}
		}
	}
	if len(declared) > 0 {
		meta["dependencies"] = declared
	}
	for file, content := range map[string]map[string]any{"Chart.yaml": meta, "values.yaml": table(t, 0, g.keys())} {
		data, err := yaml.Marshal(content)
		if err != nil {
			t.Fatal(err)
		}
		g.write(file, data)
	}
	g.write("templates/_who.tpl", []byte(`{{ define "who" }}`+name+"{{ end }}"))
	for i, text := range rapid.SliceOfNDistinct(rapid.SampledFrom(manifests), 1, 3, rapid.ID[string]).Draw(t, "templates") {
		text = fmt.Sprintf("{{- $i := %d }}\n%s", i, text)
		g.write(fmt.Sprintf("templates/%s%d.yaml", rapid.SampledFrom([]string{"", "", "_", "x/"}).Draw(t, "folder"), i), []byte(text))
	}
	slices.SortFunc(g.files, func(a, b archive.File) int { return strings.Compare(a.Name, b.Name) })
	return g
}

// manifests print what they can see. Each has names of its own, so that what is
// missing from one part is not made up for by another.
var manifests = []string{
	`{{ $who := include "who" . }}
{apiVersion: v1, kind: ConfigMap, metadata: {name: "{{ .Chart.Name }}-{{ $i }}"}, data: {v: {{ .Values | toJson | quote }}, who: {{ $who | quote }}}}`,
	`{{ define "who" }}of-{{ .Chart.Name }}{{ end }}{{ if .Values.enabled }}
{apiVersion: v1, kind: ConfigMap, metadata: {name: "{{ .Chart.Name }}-if-{{ $i }}"}, data: {parts: "{{ range $k, $_ := .Subcharts }}{{ $k }} {{ end }}"}}
{{ end }}`,
	`{{ range $k, $v := .Subcharts }}
---
{apiVersion: v1, kind: ConfigMap, metadata: {name: "{{ $.Chart.Name }}-{{ $k }}-{{ $i }}"}, data: {v: {{ $v.Values | toJson | quote }}, who: {{ include "who" $v | quote }}}}
{{ end }}`,
	`{apiVersion: v1, kind: ConfigMap, metadata: {name: "{{ .Chart.Name }}-sum-{{ $i }}"}, data: {g: {{ .Values.global | toJson | quote }}, d: "{{ range .Chart.Dependencies }}{{ .Name }} {{ end }}", sum: "{{ include (print .Template.BasePath "/_who.tpl") . | sha256sum }}"}}`,
}

// dependencies declares a chart under one or two names, or not at all.
func dependencies(t *rapid.T, c *grownChart) []any {
	names := []string{c.name}
	switch rapid.SampledFrom([]string{"undeclared", "plain", "alias", "twice"}).Draw(t, "declared") {
	case "undeclared":
		c.aliases = names
		return nil
	case "alias":
		names = []string{"x" + strings.ReplaceAll(c.name, ".", "_")}
	case "twice":
		names = append(names, "y"+strings.ReplaceAll(c.name, ".", "_"))
	}
	c.aliases = names
	var out []any
	for _, name := range names {
		d := map[string]any{"name": c.name, "version": "*", "repository": ""}
		if name != c.name {
			d["alias"] = name
		}
		conditions := rapid.SliceOfN(rapid.SampledFrom([]string{name + ".enabled", "global.on", "on", "got.on", "a.enabled", "global.data.on"}), 0, 2).Draw(t, "conditions")
		d["condition"] = strings.Join(conditions, ",")
		d["tags"] = rapid.SliceOfN(rapid.SampledFrom([]string{"on", "n"}), 0, 1).Draw(t, "tags")
		imports := []any{"e"}
		for _, parent := range []string{".", "got", "global", "a.got", "b", "xa.data"} {
			imports = append(imports, map[string]any{"child": rapid.SampledFrom([]string{"data", "got", "a.data", "exports.e"}).Draw(t, "child"), "parent": parent})
		}
		d["import-values"] = rapid.SliceOfN(rapid.SampledFrom(imports), 0, 2).Draw(t, "imports")
		out = append(out, d)
	}
	return out
}

// table is a map of values. Where Helm wants a map there mostly is one.
func table(t *rapid.T, depth int, keys []string) map[string]any {
	out := map[string]any{}
	for _, key := range rapid.SliceOfNDistinct(rapid.SampledFrom(keys), 0, 5, rapid.ID[string]).Draw(t, "keys") {
		maps.Copy(out, map[string]any{key: value(t, depth, key, keys)})
	}
	return out
}

func value(t *rapid.T, depth int, key string, keys []string) any {
	inner := append([]string{"e", "on", "enabled", "data"}, keys...)
	switch {
	case key == "on", key == "enabled", key == "n" && depth > 0:
		return rapid.SampledFrom([]any{true, false, false, nil, "text"}).Draw(t, "switch")
	case depth < 3 && rapid.IntRange(0, 11).Draw(t, "table") > 0:
		return table(t, depth+1, inner)
	default:
		return rapid.SampledFrom([]any{nil, 1, "text", []any{1}, map[string]any{}}).Draw(t, "value")
	}
}
