package stage

import (
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	gotemplate "text/template"
	"text/template/parse"

	"golang.org/x/tools/txtar"

	"orkestra.dev/services/stager/archive"
)

// parsedAll is what Helm's engine would have after it has parsed the templates of a
// chart at a path: by name, as text. Which of two defines of one name holds is for the
// order of the files and text/template to say.
func parsedAll(t *testing.T, at string, files []archive.File) (templates map[string]string, ok bool) {
	t.Helper()
	files = slices.Clone(files)
	slices.SortFunc(files, func(a, b archive.File) int {
		if n := strings.Count(b.Name, "/") - strings.Count(a.Name, "/"); n != 0 {
			return n
		}
		return strings.Compare(b.Name, a.Name)
	})
	set := gotemplate.New("")
	for _, f := range files {
		parsed, err := trees(string(f.Data))
		if err != nil {
			return nil, false
		}
		for name, tree := range parsed {
			if name == main {
				name = path.Join(at, f.Name)
			}
			if _, err := set.AddParseTree(name, tree); err != nil {
				t.Fatalf("adding template %q: %v", name, err)
			}
		}
	}
	templates = map[string]string{}
	for _, tmpl := range set.Templates() {
		if tmpl.Tree != nil {
			templates[tmpl.Name()] = tmpl.Root.String()
		}
	}
	return templates, true
}

// FuzzMute: of whatever parses, muting leaves what parses, renders nothing, and has
// each template that there was under its name, the files under their paths.
func FuzzMute(f *testing.F) {
	names, err := filepath.Glob("testdata/corpus/*.txtar")
	if err != nil || len(names) == 0 {
		f.Fatalf("no seeds: %v", err)
	}
	for _, name := range names {
		a, err := txtar.ParseFile(name)
		if err != nil {
			f.Fatal(err)
		}
		last := ""
		for _, file := range a.Files {
			if strings.Contains(file.Name, "templates/") {
				f.Add(string(file.Data), last)
				last = string(file.Data)
			}
		}
	}
	const first, second = "c/charts/x", "c/charts/y"
	f.Fuzz(func(t *testing.T, a, b string) {
		if nesting(a) > maxNesting || nesting(b) > maxNesting {
			return // Open refuses them
		}
		files := []archive.File{{Name: "templates/a.yaml", Data: []byte(a)}, {Name: "templates/b.yaml", Data: []byte(b)}}
		chart := &folder{files: slices.Clone(files)}
		changed, err := chart.mute([]string{first, second}, newTaker())
		was, ok := parsedAll(t, first, files)
		if !ok || strings.Contains(a+b, "c/charts/") {
			return
		}
		if err != nil {
			t.Fatalf("what parses is refused: %v", err)
		}
		is, ok := parsedAll(t, first, chart.files)
		if !ok {
			t.Fatalf("what is left does not parse:\n%s", chart.files)
		}
		for name, text := range was {
			if before, brace := strings.CutSuffix(text, "{"); brace && is[name] != text {
				text = before + `{{"{"}}`
			}
			if is[name] != text {
				t.Errorf("template %q was %q and is %q", name, text, is[name])
			}
		}
		for _, file := range chart.files {
			set, err := trees(string(file.Data))
			if err != nil || !partial(file.Name) && !parse.IsEmptyTree(set[main].Root) {
				t.Errorf("%s still renders: %q (%v)", file.Name, file.Data, err)
			}
			_, there := is[path.Join(second, "templates", strings.TrimLeft(path.Base(file.Name), "_"))]
			if changed && partial(file.Name) && !there {
				t.Errorf("%s is not found under the chart's other path", file.Name)
			}
		}
	})
}
