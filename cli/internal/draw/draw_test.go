package draw_test

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"orkestra.dev/api/v1alpha1"
	"orkestra.dev/cli/internal/draw"
	"orkestra.dev/services/compiler/compile"
)

// shop has a chart that is split, and one that goes through two executors.
func shop(t *testing.T) *compile.GroupGraph {
	t.Helper()
	app := func(name string, dependencies ...string) v1alpha1.Application {
		return v1alpha1.Application{DAG: v1alpha1.DAG{Name: name, Dependencies: dependencies}, Spec: v1alpha1.ApplicationSpec{
			Chart:   v1alpha1.ChartRef{URL: "https://charts.example.com", Name: name},
			Release: v1alpha1.Release{TargetNamespace: "ns"},
		}}
	}
	web, mesh := app("web", "mesh"), app("mesh")
	web.Spec.Subcharts = []v1alpha1.DAG{{Name: "api", Dependencies: []string{"db"}}, {Name: "db"}}
	mesh.Spec.Workflow = []v1alpha1.Executor{{DAG: v1alpha1.DAG{Name: "install"}}, {DAG: v1alpha1.DAG{Name: "check", Dependencies: []string{"install"}}}}
	g := &v1alpha1.ApplicationGroup{Spec: v1alpha1.ApplicationGroupSpec{Applications: []v1alpha1.Application{web, mesh}}}
	g.Name = "shop"
	graph, err := compile.Graph(g, nil)
	if err != nil {
		t.Fatal(err)
	}
	return graph
}

func TestFormats(t *testing.T) {
	graph := shop(t)
	cases := map[string]struct {
		graph *compile.GroupGraph
		want  string
	}{
		"text": {graph, `shop (forward)
  mesh
    mesh
      install [helmrelease]
      check [helmrelease]  after install
  web  after mesh
    web-db
    web-api  after web-db
    web      after web-api, web-db
`},
		"text reverse": {graph.Reverse(), `shop (reverse)
  web
    web
    web-api  after web
    web-db   after web, web-api
  mesh  after web
    mesh
      check [helmrelease]
      install [helmrelease]  after check
`},
		"mermaid": {graph, `---
title: "shop"
---
flowchart LR
  subgraph a0 ["mesh"]
    a0r0["mesh<br/>check  after install<br/>install"]
  end
  subgraph a1 ["web"]
    a1r0["web"]
    a1r1["web-api"]
    a1r2["web-db"]
    a1r1 --> a1r0
    a1r2 --> a1r0
    a1r2 --> a1r1
  end
  a0 ==> a1
`},
		"dot reverse": {graph.Reverse(), `digraph "shop (reverse)" {
  compound=true;
  rankdir=LR;
  node [shape=box];
  subgraph cluster_a0 {
    label="mesh";
    a0r0 [label="mesh\ncheck\ninstall  after check"];
  }
  subgraph cluster_a1 {
    label="web";
    a1r0 [label="web"];
    a1r1 [label="web-api"];
    a1r2 [label="web-db"];
    a1r0 -> a1r1;
    a1r1 -> a1r2;
    a1r0 -> a1r2;
  }
  a1r0 -> a0r0 [ltail=cluster_a1, lhead=cluster_a0, style=bold];
}
`},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			format, _, _ := strings.Cut(name, " ")
			var b bytes.Buffer
			if err := draw.Formats[format](&b, tc.graph); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.want, b.String()); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
	t.Run("json", func(t *testing.T) {
		var b bytes.Buffer
		if err := draw.JSON(&b, graph); err != nil {
			t.Fatal(err)
		}
		var back compile.GroupGraph
		if err := json.Unmarshal(b.Bytes(), &back); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(graph, &back); diff != "" {
			t.Errorf("the JSON is the graph (-want +got):\n%s", diff)
		}
	})
}
