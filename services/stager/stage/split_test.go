package stage_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/yaml"

	"orkestra.dev/api/v1alpha1"
	"orkestra.dev/pkg/events"
	"orkestra.dev/services/stager/archive"
	"orkestra.dev/services/stager/internal/charttest"
	"orkestra.dev/services/stager/refusal"
	"orkestra.dev/services/stager/stage"
)

func open(t testing.TB, text string) *stage.Chart {
	t.Helper()
	c, err := stage.Open(charttest.Archive(t, "root", text))
	if err != nil {
		t.Fatalf("opening the chart: %v", err)
	}
	return c
}

func decoded(t testing.TB, text string) map[string]any {
	t.Helper()
	v := map[string]any{}
	if err := yaml.Unmarshal([]byte(text), &v); err != nil {
		t.Fatalf("reading values: %v", err)
	}
	return v
}

func files(t testing.TB, data []byte) map[string]string {
	t.Helper()
	list, err := archive.Read(data, archive.DefaultLimits)
	if err != nil {
		t.Fatalf("reading an archive: %v", err)
	}
	m := map[string]string{}
	for _, f := range list {
		m[f.Name] = string(f.Data)
	}
	return m
}

func TestPieces(t *testing.T) {
	each(t, func(t *testing.T, s specimen, r rendering) {
		if r.Fails != "" {
			return
		}
		split, err := s.open(t).Split(r.Values, s.Subcharts)
		if err != nil {
			t.Fatalf("splitting: %v", err)
		}
		for _, p := range split.Pieces {
			if p.Version != split.Version || p.Digest != archive.Digest(p.Archive) {
				t.Errorf("piece %s has version %s and digest %s", p.Chart, p.Version, p.Digest)
			}
		}
	})
}

func TestAPieceIsAFunctionOfTheArchive(t *testing.T) {
	each(t, func(t *testing.T, s specimen, r rendering) {
		// Other values, another order, read anew: the pieces that both have are the same.
		if r.Fails != "" {
			return
		}
		one, err := s.open(t).Split(r.Values, s.Subcharts)
		if err != nil {
			t.Fatal(err)
		}
		by := map[string]stage.Piece{}
		for _, p := range s.split(t).Pieces {
			by[p.Subchart] = p
		}
		for _, p := range one.Pieces {
			if q, ok := by[p.Subchart]; ok && !cmp.Equal(p, q) {
				t.Errorf("piece %s is not the same", p.Chart)
			}
		}
	})
}

func TestWhatIsNotMutedIsUntouched(t *testing.T) {
	all := corpus(t)
	for _, name := range sorted(all) {
		s := all[name]
		t.Run(name, func(t *testing.T) {
			// Where folders are made for aliases, there is nothing to compare with.
			if materialised := slices.Contains([]string{"alias-twice", "checksums-of-all-kinds", "requirements-yaml", "two-folders-of-one-name"}, name); !materialised {
				untouched(t, s)
			}
		})
	}
}

func untouched(t *testing.T, s specimen) {
	t.Helper()
	whole := files(t, s.chart)
	for _, p := range s.split(t).Pieces {
		got := files(t, p.Archive)
		for path, was := range whole {
			ours := p.Subchart != "" && (path == "Chart.yaml" || strings.HasSuffix(path, "values.schema.json"))
			muted := strings.Contains(path, "templates/") || strings.HasSuffix(path, ".tgz")
			if is, ok := got[path]; !ours && !muted && (!ok || is != was) {
				t.Errorf("piece %s: %s is not what it was", p.Chart, path)
			}
			own := "charts/" + p.Subchart + "/"
			if is := got[path]; p.Subchart != "" && strings.HasPrefix(path, own) && is != was {
				t.Errorf("piece %s: its own file %s is not what it was", p.Chart, path)
			}
		}
	}
}

func TestTheOutermostChart(t *testing.T) {
	split := specimenOf(t, "crds-and-files").split(t)
	db, own := files(t, split.Pieces[0].Archive), files(t, split.Pieces[1].Archive)
	if want := "apiVersion: v2\nname: shop-db\nversion: 1.0.0\n"; db["Chart.yaml"] != want {
		t.Errorf("a subchart's piece is named for it, and that is all:\n%s", cmp.Diff(want, db["Chart.yaml"]))
	}
	if want := "apiVersion: v2\nname: shop\nversion: 1.0.0\n"; own["Chart.yaml"] != want {
		t.Errorf("the chart's own piece keeps its Chart.yaml:\n%s", cmp.Diff(want, own["Chart.yaml"]))
	}
	for path, want := range map[string][2]bool{ // in db's piece, in the chart's own
		"templates/NOTES.txt":           {false, true},
		"templates/cm.yaml":             {false, true},
		"charts/db/templates/NOTES.txt": {true, false},
		"charts/db/templates/cm.yaml":   {true, false},
		"charts/db/templates/hook.yaml": {true, false},
		"crds/a.yaml":                   {true, true},
		"charts/db/crds/b.yaml":         {true, true},
	} {
		_, inDB := db[path]
		_, inOwn := own[path]
		if got := [2]bool{inDB, inOwn}; got != want {
			t.Errorf("%s is rendered in (the subchart's piece, the chart's own): %v, want %v", path, got, want)
		}
	}
}

func TestAChartThatIsNotSplitIsLeftAlone(t *testing.T) {
	data := specimenOf(t, "plain").chart
	c, err := stage.Open(data)
	if err != nil {
		t.Fatal(err)
	}
	split, err := c.Split(nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	want := []stage.Piece{{Chart: "shop", Version: "1.0.0", Digest: archive.Digest(data), Archive: data}}
	if diff := cmp.Diff(want, split.Pieces); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestNamesThatAreNoPieces(t *testing.T) {
	const chart = `
-- Chart.yaml --
apiVersion: v2
name: shop
version: 1.0.0
dependencies:
  - {name: redis, version: "*", repository: "", alias: cache}
  - {name: redis, version: "*", repository: "", alias: queue}
  - {name: db, version: "*", repository: "", condition: db.enabled}
  - {name: lib, version: "*", repository: ""}
  - {name: elsewhere, version: "*", repository: "https://charts.example.org"}
-- charts/redis/Chart.yaml --
{apiVersion: v2, name: redis, version: 1.0.0}
-- charts/db/Chart.yaml --
{apiVersion: v2, name: db, version: 1.0.0}
-- charts/lib/Chart.yaml --
{apiVersion: v2, name: lib, version: 1.0.0, type: library}
`
	for name, c := range map[string]struct {
		promise, subchart, values string
		refused, warned           string
	}{
		"Known":     {"a name that is there is fine", "cache", "", "", ""},
		"Unknown":   {"one that is not is refused, with those that are", "cash", "", "chart shop 1.0.0 has no subchart cash; those that it has: cache, db, queue", ""},
		"Aliased":   {"the name of a chart that only has aliases is refused, with the aliases", "redis", "", "redis (it is there as cache, queue)", ""},
		"NotPacked": {"one that is declared and not in the archive is refused as that", "elsewhere", "", "packaged without its dependencies", ""},
		"Disabled":  {"one that the values disable is a warning", "db", "db: {enabled: false}", "", "subchart db is disabled by the values: it is not released"},
		"Library":   {"a library is a warning", "lib", "", "", "subchart lib is a library"},
	} {
		t.Run(name, func(t *testing.T) {
			split, err := open(t, chart).Split(decoded(t, c.values), []string{c.subchart})
			if c.refused != "" {
				if refusal.Reason(err) != v1alpha1.ReasonUnknownSubchart || !strings.Contains(err.Error(), c.refused) {
					t.Errorf("%s: got %v", c.promise, err)
				}
				return
			}
			if err != nil {
				t.Fatalf("%s: %v", c.promise, err)
			}
			if got := strings.Join(split.Warnings, "; "); !strings.HasPrefix(got, c.warned) || c.warned == "" && got != "" {
				t.Errorf("%s: warnings %q", c.promise, got)
			}
		})
	}
}

func TestChartsThatAreRefused(t *testing.T) {
	for name, c := range map[string]struct{ promise, chart, say string }{
		"NoChart": {"an archive without Chart.yaml is none", "-- values.yaml --\na: b\n", "Chart.yaml file is missing"},
		"Library": {"a library has nothing to release", "-- Chart.yaml --\n{apiVersion: v2, name: lib, version: 1.0.0, type: library}\n", "chart lib is a library"},
		"DeepTemplate": {"a template that would overflow a parser's stack is not parsed", `
-- Chart.yaml --
{apiVersion: v2, name: shop, version: 1.0.0}
-- charts/db/Chart.yaml --
{apiVersion: v2, name: db, version: 1.0.0}
-- charts/db/templates/_a.tpl --
` + strings.Repeat("{{if 1}}", 100_000) + "\n", "template charts/db/templates/_a.tpl nests its actions more than 1000 deep"},
		"BrokenTemplate": {"a template that does not parse is named, with the line", `
-- Chart.yaml --
{apiVersion: v2, name: shop, version: 1.0.0}
-- charts/db/Chart.yaml --
{apiVersion: v2, name: db, version: 1.0.0}
-- charts/db/templates/cm.yaml --
fine: true
broken: {{ if }}
`, "template shop/charts/db/templates/cm.yaml: line 2: missing value for if"},
	} {
		t.Run(name, func(t *testing.T) {
			chart, err := stage.Open(charttest.Archive(t, "root", c.chart))
			if err == nil {
				_, err = chart.Split(nil, []string{"db"})
			}
			if refusal.Reason(err) != v1alpha1.ReasonInvalidChart || !strings.Contains(err.Error(), c.say) {
				t.Errorf("%s: got %v, want it to say %q", c.promise, err, c.say)
			}
		})
	}
}

func TestManySubcharts(t *testing.T) {
	var chart strings.Builder
	chart.WriteString("-- Chart.yaml --\n{apiVersion: v2, name: shop, version: 1.0.0}\n")
	for i := range 1500 {
		fmt.Fprintf(&chart, "-- charts/c%d/Chart.yaml --\n{apiVersion: v2, name: c%d, version: 1.0.0}\n", i, i)
	}
	_, err := open(t, chart.String()).Split(nil, []string{"c1"})
	if refusal.Reason(err) != v1alpha1.ReasonInvalidChart || !strings.Contains(err.Error(), "1500 subcharts") {
		t.Errorf("what would be split into more than fits is refused before it is: %v", err)
	}
}

func TestTagged(t *testing.T) {
	for version, want := range map[string]string{
		"1.2.3":      "1.2.3+orkestra.",
		"v1":         "v1+orkestra.",
		"1.0.0+abc":  "1.0.0+abc.orkestra.",
		"1.0.0-rc.1": "1.0.0-rc.1+orkestra.",
	} {
		split, err := open(t, "-- Chart.yaml --\napiVersion: v2\nname: shop\nversion: "+version+"\n-- a.txt --\nA\n").Split(nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		p := split.Pieces[0]
		tagged, err := p.Tagged()
		if err != nil {
			t.Fatal(err)
		}
		if want += strings.TrimPrefix(p.Digest, "sha256:")[:8]; tagged.Version != want {
			t.Errorf("the version is tagged with the digest: %s, want %s", tagged.Version, want)
		}
		got := files(t, tagged.Archive)
		if diff := cmp.Diff(map[string]string{
			"Chart.yaml": "apiVersion: v2\nname: shop\nversion: " + want + "\n",
			"a.txt":      "A\n",
		}, got); diff != "" {
			t.Errorf("nothing else changes (-want +got):\n%s", diff)
		}
		if c, err := stage.Open(tagged.Archive); err != nil || c.Version() != want || c.Digest() != tagged.Digest {
			t.Errorf("it is a chart: %v", err)
		}
	}
}

func TestGroupToFact(t *testing.T) {
	app := func(name string, subcharts ...string) v1alpha1.Application {
		a := v1alpha1.Application{DAG: v1alpha1.DAG{Name: name}}
		a.Spec.Release.Values = &apiextensionsv1.JSON{Raw: []byte(`{"web":{"enabled":true}}`)}
		for _, s := range subcharts {
			a.Spec.Subcharts = append(a.Spec.Subcharts, v1alpha1.DAG{Name: s})
		}
		return a
	}
	group := &v1alpha1.ApplicationGroup{ObjectMeta: metav1.ObjectMeta{Name: "my.group", UID: types.UID("u")}}
	group.Spec.Applications = []v1alpha1.Application{app("Split_App", "db"), app("whole")}
	data := specimenOf(t, "plain").chart
	apps, err := stage.SplitGroup(group, [][]byte{data, data}, nil)
	if err != nil {
		t.Fatal(err)
	}
	got := stage.Staged(group, apps)
	digest := archive.Digest(data)
	var digests []string
	for _, a := range got.Applications {
		for i := range a.Pieces {
			p := &a.Pieces[i]
			digests = append(digests, p.Digest)
			p.Digest, p.HelmChart = "", strings.TrimRight(p.HelmChart, "0123456789abcdef")
		}
	}
	want := events.ChartsStaged{Applications: []events.StagedApplication{
		{Name: "Split_App", Chart: "shop", Version: "1.0.0", Digest: digest, Pieces: []events.StagedPiece{
			{Subchart: "db", SubchartVersion: "0.1.0", Chart: "shop-db", Version: "1.0.0", HelmChart: "my-group-shop-db-", ValuePaths: []string{"db", "global", "tags"}},
			{Subchart: "web", SubchartVersion: "0.2.0", Chart: "shop-web", Version: "1.0.0", HelmChart: "my-group-shop-web-", ValuePaths: []string{"global", "tags", "web"}},
			{Chart: "shop", Version: "1.0.0", HelmChart: "my-group-shop-"},
		}},
		{Name: "whole", Chart: "shop", Version: "1.0.0", Digest: digest, Pieces: []events.StagedPiece{
			{Chart: "shop", Version: "1.0.0", HelmChart: "my-group-shop-"},
		}},
	}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if digests[3] != digest {
		t.Errorf("what is not split has the digest that it had: %s", digests[3])
	}
	if _, err := stage.SplitGroup(group, [][]byte{data, []byte("x")}, nil); err == nil || !strings.Contains(err.Error(), "application whole") {
		t.Errorf("an error names the application: %v", err)
	}
}

func TestHelmChartNames(t *testing.T) {
	group := func(name, uid string) *v1alpha1.ApplicationGroup {
		return &v1alpha1.ApplicationGroup{ObjectMeta: metav1.ObjectMeta{Name: name, UID: types.UID(uid)}}
	}
	long := strings.Repeat("long-", 12)
	seen := map[string]bool{}
	for _, name := range []string{
		stage.HelmChartName(group("a", "1"), stage.Piece{Chart: "b-c"}),
		stage.HelmChartName(group("a-b", "1"), stage.Piece{Chart: "c"}),
		stage.HelmChartName(group("a", "2"), stage.Piece{Chart: "b-c"}),
		stage.HelmChartName(group("a", "1"), stage.Piece{Chart: "b-c", Version: "1.0.0"}),
		stage.HelmChartName(group("a", "1"), stage.Piece{Chart: "b-c", Digest: "sha256:1"}),
		stage.HelmChartName(group(long, "1"), stage.Piece{Chart: long}),
		stage.HelmChartName(group(long, "1"), stage.Piece{Chart: long + "x"}),
	} {
		if seen[name] || len(name) > 63 || v1alpha1.DNSName(name) != name {
			t.Errorf("%q is not a DNS label that stands for one thing", name)
		}
		seen[name] = true
	}
}

func TestValues(t *testing.T) {
	for raw, ok := range map[string]bool{"": true, "null": true, "{}": true, `{"a":1}`: true, "[]": false, `"x"`: false} {
		v, err := stage.Values(&apiextensionsv1.JSON{Raw: []byte(raw)})
		if ok != (err == nil) || ok && v == nil || !ok && refusal.Reason(err) != v1alpha1.ReasonInvalidChart {
			t.Errorf("values %s: %v, %v", raw, v, err)
		}
	}
}
