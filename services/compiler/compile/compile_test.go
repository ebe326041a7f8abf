package compile_test

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	wfv1 "github.com/argoproj/argo-workflows/v3/pkg/apis/workflow/v1alpha1"
	"github.com/argoproj/argo-workflows/v3/workflow/templateresolution"
	"github.com/argoproj/argo-workflows/v3/workflow/validate"
	helmv2 "github.com/fluxcd/helm-controller/api/v2"
	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/yaml"

	"orkestra.dev/api/v1alpha1"
	"orkestra.dev/pkg/events"
	"orkestra.dev/services/compiler/compile"
)

var update = flag.Bool("update", false, "write the golden files")

// edges is a workflow as Argo walks it: for each DAG, by its path, what each task
// waits for. The path of the entry is "".
type edges map[string]map[string][]string

// walk follows a workflow from its entry as Argo does, whose name for a task's node is
// its boundary's name, a dot and the task's name (dagContext.taskNodeName). It gives
// the edges, and the paths of the leaves: suspended ones and pods.
func walk(t *testing.T, wf *wfv1.Workflow) (edges, []string) {
	t.Helper()
	templates := map[string]wfv1.Template{}
	for _, tmpl := range wf.Spec.Templates {
		if _, ok := templates[tmpl.Name]; ok {
			t.Fatalf("two templates are named %s", tmpl.Name)
		}
		templates[tmpl.Name] = tmpl
	}
	out := edges{}
	leaves := []string{}
	var visit func(path, template string)
	visit = func(path, template string) {
		tmpl, ok := templates[template]
		switch {
		case !ok:
			t.Fatalf("template %s is not there", template)
		case tmpl.Suspend != nil, tmpl.Container != nil:
			leaves = append(leaves, path)
		case tmpl.DAG != nil:
			out[path] = map[string][]string{}
			for _, task := range tmpl.DAG.Tasks {
				out[path][task.Name] = append([]string{}, task.Dependencies...)
				visit(strings.TrimPrefix(path+"."+task.Name, "."), task.Template)
			}
		default:
			t.Fatalf("template %s is neither a DAG nor a leaf", template)
		}
	}
	visit("", wf.Spec.Entrypoint)
	slices.Sort(leaves)
	return out, leaves
}

// tasks of a plan.
func tasks(p *compile.Plan) []string {
	out := []string{}
	for _, n := range p.Nodes {
		out = append(out, n.Task)
	}
	return out
}

// namesAgree: a node of the plan has the name that Argo gives to the leaf.
func namesAgree(t *testing.T, leaves []string, p *compile.Plan) {
	t.Helper()
	if diff := cmp.Diff(leaves, tasks(p)); diff != "" {
		t.Errorf("a node of the plan has the name of its node in Argo (-argo +plan):\n%s", diff)
	}
}

// inventory is the releases of a plan as if they had been installed.
func inventory(p *compile.Plan) []helmv2.HelmRelease {
	var out []helmv2.HelmRelease
	seen := map[string]bool{}
	for _, n := range p.Nodes {
		if key := n.Release.Namespace + "/" + n.Release.Name; !seen[key] {
			seen[key] = true
			out = append(out, *n.Release)
		}
	}
	return out
}

func loadGroup(t *testing.T, name string) *v1alpha1.ApplicationGroup {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	group := &v1alpha1.ApplicationGroup{}
	if err := yaml.UnmarshalStrict(data, group); err != nil {
		t.Fatal(err)
	}
	return group
}

func rollout(group string) events.Rollout {
	return events.Rollout{Group: group, UID: "6c1f5c4e-7b1e-4a54-8a4d-0e5f1d2c3b4a", Generation: 3}
}

// stage is what a stager would say of a group whose charts have exactly those
// subcharts, beside those that the spec names.
func stage(group *v1alpha1.ApplicationGroup, extra map[string][]string) []events.StagedApplication {
	var out []events.StagedApplication
	for _, app := range group.Spec.Applications {
		chart := app.Spec.Chart.Name
		s := events.StagedApplication{Name: app.Name, Chart: chart, Version: app.Spec.Chart.Version, Digest: "sha256:00"}
		names := slices.Clone(extra[app.Name])
		for _, sub := range app.Spec.Subcharts {
			names = append(names, sub.Name)
		}
		slices.Sort(names)
		for _, n := range names {
			s.Pieces = append(s.Pieces, events.StagedPiece{
				Subchart: n, SubchartVersion: "0.1.0", Chart: chart + "-" + n, Version: s.Version,
				Digest: "sha256:01", HelmChart: group.Name + "-" + chart + "-" + n + "-01234567",
			})
		}
		s.Pieces = append(s.Pieces, events.StagedPiece{
			Chart: chart, Version: s.Version, Digest: "sha256:02", HelmChart: group.Name + "-" + chart + "-01234567",
		})
		out = append(out, s)
	}
	return out
}

func forward(t testing.TB, group *v1alpha1.ApplicationGroup, staged []events.StagedApplication) *compile.Plan {
	t.Helper()
	p, err := compile.Forward(compile.Input{Group: group, Staged: staged, Rollout: rollout(group.Name)})
	if err != nil {
		t.Fatal(err)
	}
	argoAccepts(t, p.Workflow)
	return p
}

// argoAccepts shows a workflow to Argo's own validator, whole.
func argoAccepts(t testing.TB, wf *wfv1.Workflow) {
	t.Helper()
	none := &templateresolution.NullClusterWorkflowTemplateGetter{}
	if err := validate.ValidateWorkflow(nil, none, wf.DeepCopy(), nil, validate.ValidateOpts{Submit: true}); err != nil {
		t.Errorf("Argo refuses workflow %s: %v", wf.Name, err)
	}
}

func reverse(t *testing.T, group *v1alpha1.ApplicationGroup, live []helmv2.HelmRelease) *compile.Plan {
	t.Helper()
	p, err := compile.Reverse(compile.ReverseInput{Group: group, Inventory: live, Rollout: rollout(group.Name)})
	if err != nil {
		t.Fatal(err)
	}
	argoAccepts(t, p.Workflow)
	return p
}

// golden compares with a file, which -update writes.
func golden(t *testing.T, name string, value any) {
	t.Helper()
	got, err := yaml.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("%s is not what is compiled (-want +got), see -update:\n%s", path, diff)
	}
}

// The edges of the original's example, which its users know.
var bookinfoEdges = edges{
	"":           {"ambassador": {}, "bookinfo": {"ambassador"}},
	"ambassador": {"ambassador-ambassador": {}},
	"bookinfo": {
		"bookinfo-details":     {},
		"bookinfo-ratings":     {},
		"bookinfo-reviews":     {"bookinfo-details", "bookinfo-ratings"},
		"bookinfo-productpage": {"bookinfo-reviews"},
		"bookinfo-bookinfo":    {"bookinfo-details", "bookinfo-productpage", "bookinfo-ratings", "bookinfo-reviews"},
	},
}

var bookinfoReverseEdges = edges{
	"":           {"ambassador": {"bookinfo"}, "bookinfo": {}},
	"ambassador": {"ambassador-ambassador": {}},
	"bookinfo": {
		"bookinfo-bookinfo":    {},
		"bookinfo-productpage": {"bookinfo-bookinfo"},
		"bookinfo-reviews":     {"bookinfo-bookinfo", "bookinfo-productpage"},
		"bookinfo-ratings":     {"bookinfo-bookinfo", "bookinfo-reviews"},
		"bookinfo-details":     {"bookinfo-bookinfo", "bookinfo-reviews"},
	},
}

func TestBookinfo(t *testing.T) {
	group := loadGroup(t, "bookinfo.yaml")
	p := forward(t, group, stage(group, nil))
	got, leaves := walk(t, p.Workflow)
	if diff := cmp.Diff(bookinfoEdges, got); diff != "" {
		t.Errorf("the edges are those of the original (-want +got):\n%s", diff)
	}
	namesAgree(t, leaves, p)
	golden(t, "bookinfo-forward.yaml", p.Workflow)
	golden(t, "bookinfo-forward-nodes.yaml", p.Nodes)
	golden(t, "bookinfo-graph.yaml", p.Graph)

	back := reverse(t, group, inventory(p))
	got, leaves = walk(t, back.Workflow)
	if diff := cmp.Diff(bookinfoReverseEdges, got); diff != "" {
		t.Errorf("reverse turns the edges round (-want +got):\n%s", diff)
	}
	namesAgree(t, leaves, back)
	golden(t, "bookinfo-reverse.yaml", back.Workflow)
	golden(t, "bookinfo-reverse-nodes.yaml", back.Nodes)
}

// From the spec alone the graph is the one that the charts bear out.
func TestGraphOfTheSpec(t *testing.T) {
	group := loadGroup(t, "bookinfo.yaml")
	spec, err := compile.Graph(group, nil)
	if err != nil {
		t.Fatal(err)
	}
	staged, err := compile.Graph(group, stage(group, nil))
	if err != nil {
		t.Fatal(err)
	}
	for i := range staged.Applications {
		for j, r := range staged.Applications[i].Releases {
			if want := spec.Applications[i].Releases[j]; r.Subchart != "" {
				if r.Chart != "bookinfo-"+want.Chart {
					t.Errorf("staged chart %s, subchart %s", r.Chart, want.Chart)
				}
				staged.Applications[i].Releases[j].Chart = want.Chart
			}
		}
	}
	if diff := cmp.Diff(spec, staged); diff != "" {
		t.Errorf("but for the names of the charts they are the same (-spec +staged):\n%s", diff)
	}
	if diff := cmp.Diff(spec, spec.Reverse().Reverse()); diff != "" {
		t.Errorf("reversed twice it is itself:\n%s", diff)
	}
	data, err := json.Marshal(spec.Reverse())
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(data), "null") {
		t.Errorf("lists are never null: %s", data)
	}
}

// What is compiled does not depend on the order of a list or of a map.
func TestSameInputInAnyOrder(t *testing.T) {
	group := large(12, 7)
	staged := stage(group, map[string][]string{"app-003": {"extra-b", "extra-a"}})
	want := encode(t, forward(t, group, staged))
	live := inventory(forward(t, group, staged))
	wantReverse := encode(t, reverse(t, group, live))
	for seed := range uint64(20) {
		r := rand.New(rand.NewPCG(seed, 0))
		g := group.DeepCopy()
		s := slices.Clone(staged)
		shuffle(r, g.Spec.Applications)
		shuffle(r, s)
		shuffle(r, live)
		for i := range g.Spec.Applications {
			shuffle(r, g.Spec.Applications[i].Dependencies)
			shuffle(r, g.Spec.Applications[i].Spec.Subcharts)
		}
		for i := range s {
			s[i].Pieces = slices.Clone(s[i].Pieces)
			shuffle(r, s[i].Pieces)
		}
		if got := encode(t, forward(t, g, s)); got != want {
			t.Fatalf("seed %d: another order gives another forward workflow:\n%s", seed, cmp.Diff(want, got))
		}
		if got := encode(t, reverse(t, g, live)); got != wantReverse {
			t.Fatalf("seed %d: another order gives another reverse workflow:\n%s", seed, cmp.Diff(wantReverse, got))
		}
	}
}

func shuffle[T any](r *rand.Rand, s []T) {
	r.Shuffle(len(s), func(i, j int) { s[i], s[j] = s[j], s[i] })
}

func encode(t *testing.T, p *compile.Plan) string {
	t.Helper()
	secrets, err := p.Secrets()
	if err != nil {
		t.Fatal(err)
	}
	data, err := json.Marshal(map[string]any{"workflow": p.Workflow, "nodes": p.Nodes, "graph": p.Graph, "secrets": secrets})
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// large is a group of applications with parts each, in levels of ten applications.
func large(applications, parts int) *v1alpha1.ApplicationGroup {
	group := &v1alpha1.ApplicationGroup{}
	group.Name = "large"
	for i := range applications {
		app := application(fmt.Sprintf("app-%03d", i))
		for j := range 10 {
			if d := (i/10-1)*10 + j; i >= 10 && d < applications {
				app.Dependencies = append(app.Dependencies, fmt.Sprintf("app-%03d", d))
			}
		}
		for j := range parts - 1 {
			sub := v1alpha1.DAG{Name: fmt.Sprintf("part-%03d", j)}
			if j > 0 {
				sub.Dependencies = []string{fmt.Sprintf("part-%03d", j-1)}
			}
			app.Spec.Subcharts = append(app.Spec.Subcharts, sub)
		}
		group.Spec.Applications = append(group.Spec.Applications, app)
	}
	return group
}

func application(name string, dependencies ...string) v1alpha1.Application {
	return v1alpha1.Application{
		DAG: v1alpha1.DAG{Name: name, Dependencies: dependencies},
		Spec: v1alpha1.ApplicationSpec{
			Chart:   v1alpha1.ChartRef{URL: "https://charts.example.com", Name: "chart-of-" + strings.ToLower(name), Version: "1.0.0"},
			Release: v1alpha1.Release{TargetNamespace: "target"},
		},
	}
}

// Subcharts that the spec does not name may have names that are one in a workflow.
func TestStagedCollision(t *testing.T) {
	g := group(subcharts(application("a"), dag("x")))
	_, err := compile.Graph(g, stage(g, map[string][]string{"a": {"cache_db", "cache-db"}}))
	var refused *compile.Error
	if !errors.As(err, &refused) || refused.Reason != v1alpha1.ReasonInvalidSpec || !strings.Contains(err.Error(), "cache_db") || !strings.Contains(err.Error(), "a-cache-db") {
		t.Errorf("the subcharts and their task are named: %v", err)
	}
}
