package stage_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"orkestra.dev/services/stager/stage"
)

var release = stage.Release{Name: "rel", Namespace: "ns"}

func TestPiecesAreTheChart(t *testing.T) {
	each(t, func(t *testing.T, s specimen, r rendering) {
		report, err := stage.Equivalent(s.open(t), r.Values, s.Subcharts, release)
		if r.Fails != "" {
			if err == nil || !strings.Contains(err.Error(), r.Fails) {
				t.Errorf("%s: got %v, want Helm to say %q", s.About, err, r.Fails)
			}
			return
		}
		if err != nil {
			t.Fatalf("%s: %v", s.About, err)
		}
		if !report.OK() || report.Union != report.Whole {
			t.Errorf("%s:\n%s", s.About, report)
		}
		if report.Whole != r.Objects || len(report.Hooks) != r.Hooks {
			t.Errorf("the chart renders %d objects and %d hooks, the test expects %d and %d:\n%s", report.Whole, len(report.Hooks), r.Objects, r.Hooks, report)
		}
		var pieces []string
		for _, p := range report.Pieces {
			pieces = append(pieces, p.Chart)
		}
		if diff := cmp.Diff(r.Pieces, pieces); diff != "" {
			t.Errorf("%s: pieces (-want +got):\n%s", s.About, diff)
		}
	})
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
			stage.Report{Whole: 1, Union: 1, Difference: stage.Difference{Different: []string{"ConfigMap db from charts/db/templates/cm.yaml"}}},
		},
		"WhatAnotherPartSets": {
			"what a template sets for those of another part is missing",
			head + "{{ $_ := set .Values \"on\" true }}\n-- templates/cm.yaml --\n{{ if .Values.db.on }}\n" + object("top", "x") + "{{ end }}\n",
			stage.Report{Whole: 1, Difference: stage.Difference{Missing: []string{"ConfigMap top from templates/cm.yaml"}}},
		},
		"RandomContents": {
			"what is different each time is not held against the split",
			head + object("db", "{{ randAlphaNum 8 }}"),
			stage.Report{Whole: 1, Union: 1, Difference: stage.Difference{Unstable: []string{"ConfigMap db from charts/db/templates/cm.yaml"}}},
		},
		"RandomNames": {
			"nor is what has another name each time",
			head + object("db-{{ randAlphaNum 8 | lower }}", "x"),
			stage.Report{Whole: 1, Union: 1, Difference: stage.Difference{Unstable: []string{"ConfigMap <random> from charts/db/templates/cm.yaml"}}},
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
			report.Pieces, report.Cautions = nil, nil
			if diff := cmp.Diff(&c.want, report); diff != "" {
				t.Errorf("%s (-want +got):\n%s", c.promise, diff)
			}
		})
	}
}

func TestRender(t *testing.T) {
	objects, err := stage.Render(specimenOf(t, "crds-and-files").chart, nil, release)
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

func TestCautions(t *testing.T) {
	c := open(t, `
-- Chart.yaml --
{apiVersion: v2, name: shop, version: 1.0.0}
-- templates/a.yaml --
{{- if and .Release.IsInstall (eq 1 $.Release.Revision) }}{{ with (dict "root" .) }}{{ .root.Release.IsUpgrade }}{{ end }}{{ end }}
{{- $_ := set .Values "k" 1 }}{{ $_ = set (dict) "k" 2 }}{{ $_ = mergeOverwrite $.Values.deep dict }}
{{ "lookup" }}{{ .Release.Name }}{{ .Values.now }}
-- templates/_secret.tpl --
{{ define "p" }}{{ range until 2 }}{{ else }}{{ ((lookup "v1" "Secret" "" "s").data).p | default (randAlphaNum 8) | b64enc }}{{ end }}{{ end }}
{{ define "t" }}{{ template "p" (now | date "2006") }}{{ end }}
-- templates/broken.yaml --
{{ if lookup }}
-- lookup.txt --
{{ lookup }}
-- charts/db/Chart.yaml --
{apiVersion: v2, name: db, version: 1.0.0}
-- charts/db/templates/cert.yaml --
{{ $ca := genCA "ca" 1 }}{{ if .x }}{{ else if uuidv4 }}{{ end }}{{ template "p" }}{{ block "b" (lookup "v1" "Pod" "" "") }}{{ end }}
`)
	got := map[string][]string{}
	for _, caution := range stage.Cautions(c) {
		got[caution.Call] = caution.Templates
		if caution.Why == "" || !strings.Contains(caution.String(), caution.Templates[0]) {
			t.Errorf("%s is not explained: %s", caution.Call, caution)
		}
	}
	cert, secret, a := []string{"charts/db/templates/cert.yaml"}, []string{"templates/_secret.tpl"}, []string{"templates/a.yaml"}
	if diff := cmp.Diff(map[string][]string{
		"genCA": cert, "uuidv4": cert, "lookup": append(cert, secret...), "randAlphaNum": secret, "now": secret,
		".Release.IsInstall": a, ".Release.IsUpgrade": a, ".Release.Revision": a,
		"set .Values": a, "mergeOverwrite $.Values.deep": a,
	}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestTextThatIsNoObject(t *testing.T) {
	s := specimenOf(t, "plain")
	c := open(t, "-- Chart.yaml --\n{apiVersion: v2, name: shop, version: 1.0.0}\n-- charts/db/Chart.yaml --\n{apiVersion: v2, name: db, version: 1.0.0}\n-- charts/db/templates/a.txt --\nHello {{ .Release.Name }}\n")
	report, err := stage.Equivalent(c, nil, s.Subcharts[:1], release)
	if err != nil || !report.OK() || report.Whole != 1 {
		t.Errorf("what is no object is compared as text: %v\n%s", err, report)
	}
}
