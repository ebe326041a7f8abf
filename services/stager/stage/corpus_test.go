package stage_test

import (
	"bytes"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/tools/txtar"
	"sigs.k8s.io/yaml"

	"orkestra.dev/services/stager/archive"
	"orkestra.dev/services/stager/internal/charttest"
	"orkestra.dev/services/stager/stage"
)

// specimen is a chart that has something about it that a split could get wrong: a file
// of testdata/corpus. Its head is YAML of these fields, and behind it are the files of
// the chart. Whoever finds another such chart adds a file.
type specimen struct {
	// About says what the split keeps.
	About string `json:"about"`
	// Subcharts are those that the spec names.
	Subcharts []string `json:"subcharts"`
	// CRLF has the templates' lines end as in files from Windows.
	CRLF bool `json:"crlf"`
	// Renders are what comes out under one set of values each.
	Renders []rendering `json:"renders"`

	chart []byte // the archive
}

type rendering struct {
	Values map[string]any `json:"values"`
	// Pieces are the staged names, and Objects how many they render, hooks aside.
	Pieces  []string `json:"pieces"`
	Objects int      `json:"objects"`
	Hooks   int      `json:"hooks"`
	// Fails is part of what Helm says where it does not render the chart.
	Fails string `json:"fails"`
}

// corpus is all of it, by the name of the file.
func corpus(t testing.TB) map[string]specimen {
	t.Helper()
	names, err := filepath.Glob("testdata/corpus/*.txtar")
	if err != nil || len(names) < 30 {
		t.Fatalf("there are %d charts: %v", len(names), err)
	}
	out := map[string]specimen{}
	for _, name := range names {
		name = strings.TrimSuffix(filepath.Base(name), ".txtar")
		out[name] = specimenOf(t, name)
	}
	return out
}

func specimenOf(t testing.TB, name string) specimen {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata/corpus", name+".txtar"))
	if err != nil {
		t.Fatal(err)
	}
	var s specimen
	head := txtar.Parse(data).Comment
	if err := yaml.UnmarshalStrict(head, &s); err != nil {
		t.Fatalf("%s: reading its head: %v", name, err)
	}
	files := charttest.Files(t, string(data))
	for i, f := range files {
		if s.CRLF && strings.Contains(f.Name, "templates/") {
			files[i].Data = bytes.ReplaceAll(f.Data, []byte("\n"), []byte("\r\n"))
		}
	}
	if s.chart, err = archive.Write("root", files); err != nil {
		t.Fatalf("packing %s: %v", name, err)
	}
	return s
}

func (s specimen) open(t testing.TB) *stage.Chart {
	t.Helper()
	c, err := stage.Open(s.chart)
	if err != nil {
		t.Fatalf("opening the chart: %v", err)
	}
	return c
}

// split the chart with the values of the first rendering that does not fail.
func (s specimen) split(t testing.TB) *stage.Split {
	t.Helper()
	i := slices.IndexFunc(s.Renders, func(r rendering) bool { return r.Fails == "" })
	split, err := s.open(t).Split(s.Renders[i].Values, s.Subcharts)
	if err != nil {
		t.Fatalf("splitting: %v", err)
	}
	return split
}

// each calls for every chart of the corpus and every set of values.
func each(t *testing.T, do func(*testing.T, specimen, rendering)) {
	t.Helper()
	all := corpus(t)
	for _, name := range sorted(all) {
		s := all[name]
		if s.About == "" || len(s.Subcharts) == 0 || len(s.Renders) == 0 {
			t.Errorf("%s: the head says what it is about, which subcharts are named and what is rendered", name)
		}
		for i, r := range s.Renders {
			t.Run(path.Join(name, string(rune('a'+i))), func(t *testing.T) { do(t, s, r) })
		}
	}
}

func sorted(all map[string]specimen) []string {
	var names []string
	for name := range all {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}
