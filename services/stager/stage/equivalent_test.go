package stage_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"orkestra.dev/services/stager/stage"
)

var release = stage.Release{Name: "rel", Namespace: "ns"}

func TestPiecesAreTheChart(t *testing.T) {
	for name, s := range corpus {
		t.Run(name, func(t *testing.T) {
			report, err := stage.Equivalent(open(t, s.chart), values(t, s.values), s.subcharts, release)
			if err != nil {
				t.Fatalf("%s: %v", s.promise, err)
			}
			if !report.OK() || report.Union != report.Whole {
				t.Errorf("%s:\n%s", s.promise, report)
			}
			if report.Whole != s.objects {
				t.Errorf("the chart renders %d objects, the test expects %d:\n%s", report.Whole, s.objects, report)
			}
		})
	}
}

func TestEquivalentSees(t *testing.T) {
	const head = `
-- Chart.yaml --
{apiVersion: v2, name: shop, version: 1.0.0}
-- charts/db/Chart.yaml --
{apiVersion: v2, name: db, version: 1.0.0}
-- charts/db/templates/cm.yaml --
`
	object := func(name, data string) string {
		return "{apiVersion: v1, kind: ConfigMap, metadata: {name: " + name + "}, data: {d: " + data + "}}\n"
	}
	for name, c := range map[string]struct {
		promise, chart string
		want           stage.Report
	}{
		"ThePathOfATemplate": {
			"what prints the path of its template is different, since its outermost chart has another name",
			head + object("db", "{{ .Template.Name }}"),
			stage.Report{Whole: 1, Union: 1, Different: []string{"ConfigMap db from charts/db/templates/cm.yaml"}},
		},
		"WhatAnotherPartSets": {
			"what a template sets for those of another part is missing",
			head + "{{ $_ := set .Values \"on\" true }}\n-- templates/cm.yaml --\n{{ if .Values.db.on }}\n" + object("top", "x") + "{{ end }}\n",
			stage.Report{Whole: 1, Missing: []string{"ConfigMap top from templates/cm.yaml"}},
		},
		"RandomContents": {
			"what is different each time is not held against the split",
			head + object("db", "{{ randAlphaNum 8 }}"),
			stage.Report{Whole: 1, Union: 1, Unstable: []string{"ConfigMap db from charts/db/templates/cm.yaml"}},
		},
		"RandomNames": {
			"nor is what has another name each time",
			head + object("db-{{ randAlphaNum 8 | lower }}", "x"),
			stage.Report{Whole: 1, Union: 1, Unstable: []string{"ConfigMap <random> from charts/db/templates/cm.yaml"}},
		},
		"Hooks": {
			"hooks are told, and counted apart",
			head + "{apiVersion: batch/v1, kind: Job, metadata: {name: j, annotations: {helm.sh/hook: pre-install}}}\n",
			stage.Report{Hooks: []string{"Job.batch j (pre-install) in shop-db"}},
		},
		"TwiceInOneChart": {
			"an object that a chart renders twice is rendered twice",
			head + object("db", "1") + "---\n" + object("db", "2"),
			stage.Report{Whole: 2, Union: 2},
		},
	} {
		t.Run(name, func(t *testing.T) {
			report, err := stage.Equivalent(open(t, c.chart), nil, []string{"db"}, release)
			if err != nil {
				t.Fatalf("%s: %v", c.promise, err)
			}
			report.Pieces = nil
			if diff := cmp.Diff(&c.want, report); diff != "" {
				t.Errorf("%s (-want +got):\n%s", c.promise, diff)
			}
		})
	}
}

func TestRender(t *testing.T) {
	c := open(t, corpus["CRDsAndFiles"].chart)
	split, err := c.Split(nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	objects, err := stage.Render(split.Pieces[0].Archive, nil, release)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, o := range objects {
		got = append(got, strings.TrimSpace(o.ID()+" "+o.Hook)+" <- "+o.Path)
	}
	if diff := cmp.Diff([]string{
		"ConfigMap db <- charts/db/templates/cm.yaml",
		"ConfigMap top <- templates/cm.yaml",
		"Job.batch migrate pre-install,pre-upgrade <- charts/db/templates/hook.yaml",
		"Pod test test <- templates/tests/test.yaml",
	}, got); diff != "" {
		t.Errorf("objects and hooks, without CRDs and NOTES (-want +got):\n%s", diff)
	}
	if want := "apiVersion: v1\ndata:\n  d: |\n    Data.\nkind: ConfigMap\nmetadata:\n  name: db\n"; objects[0].Manifest != want {
		t.Errorf("manifest (-want +got):\n%s", cmp.Diff(want, objects[0].Manifest))
	}
}
