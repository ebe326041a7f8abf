package change_test

import (
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"sigs.k8s.io/yaml"

	"orkestra.dev/api/v1alpha1"
	"orkestra.dev/cli/internal/change"
)

func app(name, version string, more ...func(*v1alpha1.Application)) v1alpha1.Application {
	a := v1alpha1.Application{DAG: v1alpha1.DAG{Name: name}, Spec: v1alpha1.ApplicationSpec{
		Chart:   v1alpha1.ChartRef{URL: "https://charts.example.com", Name: name + "-chart", Version: version},
		Release: v1alpha1.Release{TargetNamespace: "ns"},
	}}
	for _, f := range more {
		f(&a)
	}
	return a
}

func after(names ...string) func(*v1alpha1.Application) {
	return func(a *v1alpha1.Application) { a.Dependencies = names }
}

func values(text string) func(*v1alpha1.Application) {
	return func(a *v1alpha1.Application) { a.Spec.Release.Values = &apiextensionsv1.JSON{Raw: []byte(text)} }
}

func parts(names ...string) func(*v1alpha1.Application) {
	return func(a *v1alpha1.Application) {
		for _, n := range names {
			a.Spec.Subcharts = append(a.Spec.Subcharts, v1alpha1.DAG{Name: n})
		}
	}
}

func spec(apps ...v1alpha1.Application) *v1alpha1.ApplicationGroupSpec {
	return &v1alpha1.ApplicationGroupSpec{Applications: apps}
}

func suspended(s *v1alpha1.ApplicationGroupSpec) *v1alpha1.ApplicationGroupSpec {
	s.Suspend = true
	return s
}

func resolved(version string, subcharts map[string]string) map[string]change.Chart {
	return map[string]change.Chart{"web": {Chart: "web-chart", Version: version, Subcharts: subcharts}}
}

func TestCompare(t *testing.T) {
	cases := map[string]struct {
		reason   string
		from, to change.Side
		words    []string
		// lines are those that are gone and those that came, without their indentation.
		lines []string
	}{
		"Order": {
			reason: "the order of lists of things with names, and a default spelled out, mean nothing",
			from:   change.Side{Spec: spec(app("web", "*", after("db", "mesh")), app("mesh", "1.0.0"), app("db", "1.0.0"))},
			to:     change.Side{Spec: spec(app("db", "1.0.0"), app("web", "", after("mesh", "db", "mesh")), app("mesh", "1.0.0"))},
		},
		"Values": {
			reason: "nor does how values are written, but what they say does",
			from:   change.Side{Spec: spec(app("web", "1.0.0", values(`{"b":1,"a":{"c":null}}`)))},
			to:     change.Side{Spec: spec(app("web", "1.0.0", values(`{ "a": {"c": null}, "b": 2 }`)))},
			words:  []string{"changed     application web: release.values"},
			lines:  []string{"-b: 1", "+b: 2"},
		},
		"Applications": {
			reason: "what comes and goes is named with its chart, in the version that is known",
			from:   change.Side{Spec: spec(app("db", "^1.0.0")), Resolved: map[string]change.Chart{"db": {Version: "1.2.3"}}},
			to:     change.Side{Spec: spec(app("cache", "^7.0.0"))},
			words:  []string{"added       application cache: cache-chart ^7.0.0", "removed     application db: db-chart 1.2.3 (of ^1.0.0)"},
			lines:  []string{"-- name: db", "+- name: cache", "-name: db-chart", "+name: cache-chart", "-version: ^1.0.0", "+version: ^7.0.0"},
		},
		"Upgrade": {
			reason: "an upgrade of the application and one of a subchart of it are two",
			from:   change.Side{Spec: spec(app("web", "1.0.0")), Resolved: resolved("1.0.0", map[string]string{"api": "0.1.0", "db": "2.0.0", "old": "1.0.0"})},
			to:     change.Side{Spec: spec(app("web", "1.1.0", after("mesh"))), Resolved: resolved("1.1.0", map[string]string{"api": "0.2.0", "db": "2.0.0", "new": "0.0.1"})},
			words: []string{
				"upgraded    application web: web-chart 1.0.0 -> 1.1.0, dependencies",
				"upgraded    subchart web/api: 0.1.0 -> 0.2.0", "added       subchart web/new: 0.0.1", "removed     subchart web/old: 1.0.0",
			},
			lines: []string{"-- name: web", "+- dependencies:", "+- mesh", "+name: web", "-version: 1.0.0", "+version: 1.1.0"},
		},
		"Range": {
			reason: "a range that came to something else is a difference, though the specs are the same",
			from:   change.Side{Spec: spec(app("web", "^1.0.0")), Resolved: resolved("1.2.0", nil)},
			to:     change.Side{Spec: spec(app("web", "^1.0.0")), Resolved: resolved("1.1.0", nil)},
			words:  []string{"downgraded  application web: web-chart 1.2.0 (of ^1.0.0) -> 1.1.0 (of ^1.0.0)"},
		},
		"Unresolved": {
			reason: "what is not known on one side is no difference",
			from:   change.Side{Spec: spec(app("web", "^1.0.0", parts("api"))), Resolved: resolved("1.2.0", map[string]string{"api": "1.0.0", "db": "1.0.0"})},
			to:     change.Side{Spec: spec(app("web", "^1.0.0", parts("api", "cache")))},
			words:  []string{"changed     application web: subcharts", "added       subchart web/cache"},
			lines:  []string{"+- name: cache"},
		},
		"Group": {
			reason: "the group's own fields come first",
			from:   change.Side{Spec: spec(app("web", "1.0.0"))},
			to:     change.Side{Spec: suspended(spec(app("web", "2.0.0-rc.1")))},
			words:  []string{"changed     group: suspend", "upgraded    application web: web-chart 1.0.0 -> 2.0.0-rc.1"},
			lines:  []string{"-version: 1.0.0", "+version: 2.0.0-rc.1", "+suspend: true"},
		},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			tc.from.Label, tc.to.Label = "old", "new"
			got, err := change.Compare(tc.from, tc.to)
			if err != nil {
				t.Fatal(err)
			}
			var words, lines []string
			for _, c := range got.Changes {
				words = append(words, c.String())
			}
			for line := range strings.Lines(got.Unified) {
				if (line[0] == '-' || line[0] == '+') && !strings.HasSuffix(line, " old\n") && !strings.HasSuffix(line, " new\n") {
					lines = append(lines, line[:1]+strings.TrimSpace(line[1:]))
				}
			}
			if diff := cmp.Diff(tc.words, words); diff != "" {
				t.Errorf("%s: in words (-want +got):\n%s", tc.reason, diff)
			}
			if diff := cmp.Diff(tc.lines, lines); diff != "" {
				t.Errorf("%s: in lines (-want +got):\n%s", tc.reason, diff)
			}
			if got.Same() != (len(tc.words) == 0) {
				t.Errorf("%s: same is %t", tc.reason, got.Same())
			}
		})
	}
}

func TestCompareWithNothing(t *testing.T) {
	got, err := change.Compare(change.Side{Label: "nothing"}, change.Side{Label: "shop", Spec: spec(app("web", "1.0.0"))})
	if err != nil {
		t.Fatal(err)
	}
	if got.Same() || len(got.Changes) != 1 || got.Changes[0].Kind != change.Added || !strings.Contains(got.Unified, "\n@@ -0,0 +1,") {
		t.Errorf("all of it is new: %+v", got)
	}
}

// Each part of a diff says on which lines of either side it is.
func TestCompareNumbersLines(t *testing.T) {
	long := func(first, middle, last string) string {
		text := "a0: " + first + "\n"
		for i := range 4 {
			text += "b" + strconv.Itoa(i) + ": same\n"
		}
		text += "c0: " + middle + "\n"
		for i := range 30 {
			text += "d" + strconv.Itoa(10+i) + ": same\n"
		}
		return text + "e0: " + last + "\n"
	}
	side := func(label, text string) change.Side {
		raw, err := yaml.YAMLToJSON([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		return change.Side{Label: label, Spec: spec(app("web", "1.0.0", values(string(raw))))}
	}
	from, to := side("old", long("1", "1", "1")), side("new", long("2", "{x: 1, y: 2}", "2"))
	got, err := change.Compare(from, to)
	if err != nil {
		t.Fatal(err)
	}
	everything := func(s change.Side) []string {
		all, err := change.Compare(change.Side{}, s)
		if err != nil {
			t.Fatal(err)
		}
		var out []string
		for _, line := range strings.Split(all.Unified, "\n")[3:] {
			out = append(out, strings.TrimPrefix(line, "+"))
		}
		return out
	}
	sides := map[byte][]string{'-': everything(from), '+': everything(to)}
	at := map[byte]int{}
	hunks := 0
	for _, line := range strings.Split(strings.TrimSuffix(got.Unified, "\n"), "\n")[2:] {
		if m := regexp.MustCompile(`^@@ -(\d+),\d+ \+(\d+),\d+ @@$`).FindStringSubmatch(line); m != nil {
			hunks++
			for i, mark := range []byte{'-', '+'} {
				if at[mark], err = strconv.Atoi(m[i+1]); err != nil {
					t.Fatal(err)
				}
			}
			continue
		}
		for mark, lines := range sides {
			if line[0] != mark && line[0] != ' ' {
				continue
			}
			if want := lines[at[mark]-1]; want != line[1:] {
				t.Errorf("line %d of side %c is %q, and not %q", at[mark], mark, want, line[1:])
			}
			at[mark]++
		}
	}
	if hunks != 2 {
		t.Errorf("want 2 parts, so that the second has something before it:\n%s", got.Unified)
	}
}
