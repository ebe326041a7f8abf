package compile_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	helmv2 "github.com/fluxcd/helm-controller/api/v2"
	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"orkestra.dev/api/v1alpha1"
	"orkestra.dev/services/compiler/compile"
)

// atRest compiles a group of which the newest workflow has succeeded.
func atRest(t *testing.T, g *v1alpha1.ApplicationGroup, live []helmv2.HelmRelease) *compile.Plan {
	t.Helper()
	in := input(g, live)
	in.AtRest = true
	p, err := compile.Forward(in)
	if err != nil {
		t.Fatal(err)
	}
	if p.Workflow != nil {
		argoAccepts(t, p.Workflow)
	}
	return p
}

func TestStandingIsLeftOut(t *testing.T) {
	value := func(s *v1alpha1.ApplicationSpec) { s.Release.Values = raw(`{"changed":true}`) }
	base := func() *v1alpha1.ApplicationGroup {
		return group(
			application("a"),
			subcharts(application("b", "a"), dag("x"), dag("y", "x"), dag("z", "y")),
			application("c", "b"),
			application("d", "a"),
		)
	}
	type world struct {
		group *v1alpha1.ApplicationGroup
		live  []helmv2.HelmRelease
	}
	cases := map[string]struct {
		reason string
		before *v1alpha1.ApplicationGroup // base where nil
		change func(*world)
		// nodes by task, with what the workflow has before each: of the entry, and of application b.
		entry, inB map[string][]string
		standing   int
	}{
		"Nothing": {reason: "a group that is as wanted has no workflow", change: func(*world) {}, standing: 7},
		"One": {reason: "who waits for what stands waits for nothing", change: func(w *world) { value(&w.group.Spec.Applications[2].Spec) },
			entry: map[string][]string{"c": {}}, standing: 6},
		"Across": {reason: "the order goes through what is left out", change: func(w *world) {
			value(&w.group.Spec.Applications[0].Spec)
			value(&w.group.Spec.Applications[2].Spec)
		}, entry: map[string][]string{"a": {}, "c": {"a"}}, standing: 5},
		"Drift": {reason: "a part of an application that was edited by hand is looked at, by the way of its application", change: func(w *world) {
			for i := range w.live {
				if w.live[i].Annotations[v1alpha1.AnnotationSubchart] == "x" || w.live[i].Annotations[v1alpha1.AnnotationSubchart] == "z" {
					w.live[i].Spec.Suspend = true
				}
			}
		}, entry: map[string][]string{"b": {}}, inB: map[string][]string{"b-x": {}, "b-z": {"b-x"}}, standing: 5},
		"NotReady": {reason: "what is not ready is not as wanted", change: func(w *world) {
			w.live[0].Status.Conditions[0].Status = metav1.ConditionFalse
		}, entry: map[string][]string{"a": {}}, standing: 6},
		"Gone": {reason: "what has left goes, after all else", change: func(w *world) {
			w.group.Spec.Applications = w.group.Spec.Applications[:3]
			value(&w.group.Spec.Applications[0].Spec)
		}, entry: map[string][]string{"a": {}, "remove-d": {"a"}}, standing: 5},
		"OnlyGone": {reason: "what has left goes, where all else stands", change: func(w *world) {
			w.group.Spec.Applications = w.group.Spec.Applications[:3]
		}, entry: map[string][]string{"remove-d": {}}, standing: 6},
		"Order": {reason: "another order is written on the release, for the reverse", change: func(w *world) {
			w.group.Spec.Applications[3].Dependencies = []string{"c"}
		}, entry: map[string][]string{"d": {}}, standing: 6},
		"Steps": {reason: "whether a Job is to run again is not seen from its release", before: group(gated(), application("after", "web")), change: func(*world) {},
			entry: map[string][]string{"web": {}}, standing: 1},
		"Expression": {reason: "nor whether an expression holds", before: group(with(application("web"), func(s *v1alpha1.ApplicationSpec) { s.Release.ReadyExpr = "true" })),
			change: func(*world) {}, entry: map[string][]string{"web": {}}},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			before := tc.before
			if before == nil {
				before = base()
			}
			w := world{group: before.DeepCopy()}
			whole := forward(t, before, stage(before, nil))
			w.live, _ = rolledOut(t, whole)
			tc.change(&w)
			p := atRest(t, w.group, w.live)
			if p.Standing != tc.standing {
				t.Errorf("%s: %d releases are left out, want %d", tc.reason, p.Standing, tc.standing)
			}
			if len(tc.entry) == 0 {
				if p.Workflow != nil || !p.Stands(input(w.group, w.live)) {
					t.Errorf("%s: got one of %d nodes", tc.reason, len(p.Nodes))
				}
				return
			}
			got, _ := walk(t, p.Workflow)
			if diff := cmp.Diff(tc.entry, got[""]); diff != "" {
				t.Errorf("%s: entry (-want +got):\n%s", tc.reason, diff)
			}
			if diff := cmp.Diff(tc.inB, got["b"]); tc.inB != nil && diff != "" {
				t.Errorf("%s: application b (-want +got):\n%s", tc.reason, diff)
			}
			wanted := map[string]*helmv2.HelmRelease{}
			for _, n := range forward(t, w.group, stage(w.group, nil)).Nodes {
				wanted[n.Task] = n.Release
			}
			for _, n := range p.Nodes {
				if want := wanted[n.Task]; want != nil && text(t, want) != text(t, n.Release) {
					t.Errorf("%s: %s would be written as %s, not as %s", tc.reason, n.Task, text(t, n.Release), text(t, want))
				}
			}
		})
	}
}

// Whatever is left out, of what is left each waits for what it waited for, by itself or by
// what is left out, and no edge is there that another way says already but those of the spec.
func TestOrderOfWhatIsLeft(t *testing.T) {
	for seed := range uint64(100) {
		rng := rand.New(rand.NewPCG(seed, 7))
		var apps []v1alpha1.Application
		for i := range 2 + rng.IntN(12) {
			var before []string
			for j := range i {
				if rng.IntN(3) == 0 {
					before = append(before, apps[j].Name)
				}
			}
			apps = append(apps, application(fmt.Sprintf("r%d", i), before...))
		}
		g := group(apps...)
		live, _ := rolledOut(t, forward(t, g, stage(g, nil)))
		changed, all := map[string]bool{}, map[string][]string{}
		for i := range g.Spec.Applications {
			app := &g.Spec.Applications[i]
			if rng.IntN(2) == 0 {
				app.Spec.Release.Values = raw(`{"changed":true}`)
				changed[app.Name] = true
			}
			all[app.Name] = app.Dependencies
		}
		p := atRest(t, g, live)
		if len(changed) == 0 {
			continue
		}
		edges, _ := walk(t, p.Workflow)
		got := edges[""]
		if have := slices.Sorted(maps.Keys(got)); !slices.Equal(have, slices.Sorted(maps.Keys(changed))) {
			t.Fatalf("seed %d: nodes for %v, want those of %v", seed, have, changed)
		}
		for name := range changed {
			want := slices.DeleteFunc(behind(all, name), func(d string) bool { return !changed[d] })
			if have := behind(got, name); !slices.Equal(have, want) {
				t.Errorf("seed %d: %s waits for %v, want %v", seed, name, have, want)
			}
			for _, d := range got[name] {
				others := map[string][]string{name: slices.DeleteFunc(slices.Clone(got[name]), func(o string) bool { return o == d })}
				for n, before := range got {
					if n != name {
						others[n] = before
					}
				}
				if !slices.Contains(all[name], d) && slices.Contains(behind(others, name), d) {
					t.Errorf("seed %d: that %s waits for %s is said without need", seed, name, d)
				}
			}
		}
	}
}

// behind is all that a node waits for, sorted.
func behind(edges map[string][]string, name string) []string {
	seen := map[string]bool{}
	var visit func(string)
	visit = func(n string) {
		for _, d := range edges[n] {
			if !seen[d] {
				seen[d] = true
				visit(d)
			}
		}
	}
	visit(name)
	return slices.Sorted(maps.Keys(seen))
}
