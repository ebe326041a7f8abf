package stage_test

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"helm.sh/helm/v3/pkg/chart/loader"
	"helm.sh/helm/v3/pkg/chartutil"

	"orkestra.dev/api/v1alpha1"
	"orkestra.dev/pkg/values"
	"orkestra.dev/services/stager/internal/charttest"
	"orkestra.dev/services/stager/refusal"
	"orkestra.dev/services/stager/stage"
)

func TestValuePaths(t *testing.T) {
	for name, want := range map[string]map[string][]string{
		"plain": {"db": {"db", "global", "tags"}, "web": {"global", "tags", "web"}, "": nil},
		"condition-lists": {
			"one": {" never.trimmed", "features.one", "global", "one", "tags", "two.enabled"},
			"two": {" never.trimmed", "features.one", "global", "one.enabled", "tags", "two"},
		},
		"nested-conditions": {
			"left":  {"global", "left", "tags"},
			"right": {"global", "left.global.deep", "left.names.enabled", "left.names.global.deep", "right", "tags"},
		},
		"odd-names":                {"0-x": {"0-x", "Cache_1.enabled", "global", "my.db.in.ner.enabled", "tags"}, "my.db": {"Cache_1.enabled", "global", "my.db", "tags"}},
		"no-map-where-one-belongs": {"redis": {"global", "inner", "redis", "tags"}},
		"null-where-a-map-belongs": {"db": {"db", "global", "redis", "tags", "web.inner"}},
		"three-deep":               {"a": {"a", "global", "tags"}},
	} {
		s := specimenOf(t, name)
		got := map[string][]string{}
		for _, p := range s.split(t).Pieces {
			if _, ok := want[p.Subchart]; ok {
				got[p.Subchart] = p.ValuePaths
			}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: %s (-want +got):\n%s", name, s.About, diff)
		}
	}
}

func TestValuePathsAreBounded(t *testing.T) {
	var chart strings.Builder
	chart.WriteString("-- Chart.yaml --\napiVersion: v2\nname: shop\nversion: 1.0.0\ndependencies:\n")
	for i := range 60 {
		fmt.Fprintf(&chart, "  - {name: c%d, version: '*', condition: c%d.what.is.called.enabled}\n", i, i)
	}
	for i := range 60 {
		fmt.Fprintf(&chart, "-- charts/c%d/Chart.yaml --\n{apiVersion: v2, name: c%d, version: 1.0.0}\n", i, i)
	}
	split, err := open(t, chart.String()).Split(nil, []string{"c1"})
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range split.Pieces {
		if p.ValuePaths != nil {
			t.Errorf("what is too much to say is not said: piece %s has %d paths", p.Chart, len(p.ValuePaths))
		}
	}
}

func TestAliasesOfAliases(t *testing.T) {
	var chart strings.Builder
	at := ""
	for range 10 {
		fmt.Fprintf(&chart, "-- %sChart.yaml --\napiVersion: v2\nname: c\nversion: 1.0.0\ndependencies: [{name: c, version: '*', alias: a}, {name: c, version: '*', alias: b}]\n", at)
		at += "charts/c/"
	}
	fmt.Fprintf(&chart, "-- %sChart.yaml --\n{apiVersion: v2, name: c, version: 1.0.0}\n", at)
	_, err := stage.Open(charttest.Archive(t, "root", chart.String()))
	if refusal.Reason(err) != v1alpha1.ReasonInvalidChart || !strings.Contains(err.Error(), "more than 10000 subcharts") {
		t.Errorf("a chart whose aliases double on each level is refused before Helm copies it: %v", err)
	}
}

// valid is what Helm does with the schemas of a chart before it renders it.
func valid(t *testing.T, data []byte, values map[string]any) error {
	t.Helper()
	c, err := loader.LoadArchive(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	if err := chartutil.ProcessDependencies(c, values); err != nil {
		t.Fatal(err)
	}
	_, err = chartutil.ToRenderValues(c, values, chartutil.ReleaseOptions{}, nil)
	return err
}

func TestSchemasHoldForWhatAPieceCanSee(t *testing.T) {
	each(t, func(t *testing.T, s specimen, r rendering) {
		if r.Fails != "" {
			return
		}
		if err := valid(t, s.chart, r.Values); err != nil {
			t.Fatalf("the whole chart refuses its values: %v", err)
		}
		split, err := s.open(t).Split(r.Values, s.Subcharts)
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range split.Pieces {
			if err := valid(t, p.Archive, values.Prune(r.Values, p.ValuePaths)); err != nil {
				t.Errorf("%s: piece %s refuses what it can see of them: %v", s.About, p.Chart, err)
			}
		}
	})
	t.Run("Refused", func(t *testing.T) {
		s := specimenOf(t, "schemas")
		wrong := map[string]any{"must": 1, "lib": map[string]any{"must": 1}, "side": map[string]any{"must": 1}, "db": map[string]any{"size": "big"}}
		var refused []string
		for _, p := range s.split(t).Pieces {
			if err := valid(t, p.Archive, values.Prune(wrong, p.ValuePaths)); err != nil && strings.Contains(err.Error(), "size") {
				refused = append(refused, p.Chart)
			}
		}
		if diff := cmp.Diff([]string{"shop-db", "shop"}, refused); diff != "" {
			t.Errorf("values that the schema of a subchart refuses are refused by its piece, and by the chart's own (-want +got):\n%s", diff)
		}
	})
}

func TestBlindIsSeen(t *testing.T) {
	s := specimenOf(t, "plain")
	c := s.open(t)
	if err := stage.Blind(c, "web"); err != nil {
		t.Fatal(err)
	}
	report, err := stage.Equivalent(c, map[string]any{"db": map[string]any{"size": 9}}, s.Subcharts, release)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"ConfigMap rel-db from charts/db/templates/cm.yaml in shop-db"}
	if diff := cmp.Diff(want, report.Blind); diff != "" || report.OK() {
		t.Errorf("a piece that renders otherwise with what it is released with is told (-want +got):\n%s", diff)
	}
}
