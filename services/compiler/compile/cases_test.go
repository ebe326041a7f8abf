package compile_test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	helmv2 "github.com/fluxcd/helm-controller/api/v2"
	"github.com/google/go-cmp/cmp"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"

	"orkestra.dev/api/v1alpha1"
	"orkestra.dev/pkg/events"
	"orkestra.dev/pkg/plan"
	"orkestra.dev/services/compiler/compile"
)

func group(apps ...v1alpha1.Application) *v1alpha1.ApplicationGroup {
	g := &v1alpha1.ApplicationGroup{}
	g.Name = "group"
	g.Spec.Applications = apps
	return g
}

func with(app v1alpha1.Application, change func(*v1alpha1.ApplicationSpec)) v1alpha1.Application {
	change(&app.Spec)
	return app
}

func subcharts(app v1alpha1.Application, names ...v1alpha1.DAG) v1alpha1.Application {
	return with(app, func(s *v1alpha1.ApplicationSpec) { s.Subcharts = names })
}

func dag(name string, dependencies ...string) v1alpha1.DAG {
	return v1alpha1.DAG{Name: name, Dependencies: dependencies}
}

func step(kind v1alpha1.ExecutorType, name string, dependencies ...string) v1alpha1.Executor {
	return v1alpha1.Executor{DAG: dag(name, dependencies...), Type: kind}
}

func raw(document string) *apiextensionsv1.JSON {
	return &apiextensionsv1.JSON{Raw: []byte(document)}
}

func TestForward(t *testing.T) {
	cases := map[string]struct {
		reason string
		group  *v1alpha1.ApplicationGroup
		extra  map[string][]string // subcharts that the spec does not name
		gone   []string            // subcharts that the values disable
		edges  edges
		tasks  []string
	}{
		"OneChart": {
			reason: "an application without subcharts is one release",
			group:  group(application("a")),
			edges:  edges{"": {"a": {}}, "a": {"a-a": {}}},
			tasks:  []string{"a.a-a"},
		},
		"TwoExecutors": {
			reason: "with two executors a task is a DAG that is named after the task",
			group: group(with(subcharts(application("a"), dag("x")), func(s *v1alpha1.ApplicationSpec) {
				s.Workflow = []v1alpha1.Executor{step("", "second", "first"), step(v1alpha1.ExecutorHelmRelease, "first")}
			})),
			edges: edges{
				"": {"a": {}}, "a": {"a-a": {"a-x"}, "a-x": {}},
				"a.a-a": {"first": {}, "second": {"first"}},
				"a.a-x": {"first": {}, "second": {"first"}},
			},
			tasks: []string{"a.a-a.first", "a.a-a.second", "a.a-x.first", "a.a-x.second"},
		},
		"NamesThatAreNoLabels": {
			reason: "names and dependencies become DNS labels, in tasks too",
			group: group(
				subcharts(application("My_App", "The.Mesh"), dag("Sub_1", "Sub.2"), dag("Sub.2")),
				application("The.Mesh")),
			edges: edges{
				"":         {"my-app": {"the-mesh"}, "the-mesh": {}},
				"the-mesh": {"the-mesh-the-mesh": {}},
				"my-app":   {"my-app-my-app": {"my-app-sub-1", "my-app-sub-2"}, "my-app-sub-1": {"my-app-sub-2"}, "my-app-sub-2": {}},
			},
			tasks: []string{"my-app.my-app-my-app", "my-app.my-app-sub-1", "my-app.my-app-sub-2", "the-mesh.the-mesh-the-mesh"},
		},
		"SubchartNamedAsItsApplication": {
			reason: "the subchart and the application's own chart stay two tasks",
			group:  group(subcharts(application("redis"), dag("redis"), dag("proxy", "redis"))),
			edges: edges{
				"": {"redis": {}},
				"redis": {
					"redis-redis-subchart": {}, "redis-proxy": {"redis-redis-subchart"},
					"redis-redis": {"redis-proxy", "redis-redis-subchart"},
				},
			},
			tasks: []string{"redis.redis-proxy", "redis.redis-redis", "redis.redis-redis-subchart"},
		},
		"SubchartThatTheSpecDoesNotName": {
			reason: "it is released, in no order among its siblings and before the parent",
			group:  group(subcharts(application("a"), dag("x"))),
			extra:  map[string][]string{"a": {"embedded"}},
			edges:  edges{"": {"a": {}}, "a": {"a-embedded": {}, "a-x": {}, "a-a": {"a-embedded", "a-x"}}},
			tasks:  []string{"a.a-a", "a.a-embedded", "a.a-x"},
		},
		"SubchartThatTheValuesDisable": {
			reason: "it is no release, and what waited for it waits for what it waited for",
			group:  group(subcharts(application("a"), dag("x", "y"), dag("y", "z"), dag("z"))),
			gone:   []string{"y"},
			edges:  edges{"": {"a": {}}, "a": {"a-x": {"a-z"}, "a-z": {}, "a-a": {"a-x", "a-z"}}},
			tasks:  []string{"a.a-a", "a.a-x", "a.a-z"},
		},
		"ParentBefore": {
			reason: "the parent may come before all of its subcharts",
			group: group(with(subcharts(application("a"), dag("x", "y"), dag("y")), func(s *v1alpha1.ApplicationSpec) {
				s.ParentPlacement = v1alpha1.ParentBefore
			})),
			extra: map[string][]string{"a": {"embedded"}},
			edges: edges{"": {"a": {}}, "a": {"a-a": {}, "a-embedded": {"a-a"}, "a-x": {"a-a", "a-y"}, "a-y": {"a-a"}}},
		},
		"ParentBeside": {
			reason: "or beside them",
			group: group(with(subcharts(application("a"), dag("x", "y"), dag("y")), func(s *v1alpha1.ApplicationSpec) {
				s.ParentPlacement = v1alpha1.ParentBeside
			})),
			edges: edges{"": {"a": {}}, "a": {"a-a": {}, "a-x": {"a-y"}, "a-y": {}}},
		},
		"NamesThatArgoCannotHave": {
			reason: "a task that begins with a digit or is a word of Argo's expressions gets a prefix, and takes nobody's name",
			group:  group(application("3scale"), application("n-3scale", "3scale", "in"), application("in")),
			edges: edges{
				"":           {"n-3scale": {"n-in", "n-n-3scale"}, "n-n-3scale": {}, "n-in": {}},
				"n-3scale":   {"n-3scale-n-3scale": {}},
				"n-n-3scale": {"n-3scale-3scale": {}},
				"n-in":       {"in-in": {}},
			},
			tasks: []string{"n-3scale.n-3scale-n-3scale", "n-in.in-in", "n-n-3scale.n-3scale-3scale"},
		},
		"TemplatesThatWouldShareAName": {
			reason: "an application may be named like the entry, the leaf or another's task",
			group: group(application("entry"), application("release-install"), application("a-a"),
				with(application("a"), func(s *v1alpha1.ApplicationSpec) {
					s.Release.TargetNamespace = "other"
					s.Workflow = []v1alpha1.Executor{step("", "one"), step("", "two")}
				})),
			edges: edges{
				"":                {"a": {}, "a-a": {}, "entry": {}, "release-install": {}},
				"a":               {"a-a": {}},
				"a.a-a":           {"one": {}, "two": {}},
				"a-a":             {"a-a-a-a": {}},
				"entry":           {"entry-entry": {}},
				"release-install": {"release-install-release-install": {}},
			},
			tasks: []string{"a-a.a-a-a-a", "a.a-a.one", "a.a-a.two", "entry.entry-entry", "release-install.release-install-release-install"},
		},
		"LongNames": {
			reason: "63 and 63 characters with a suffix are more than Argo takes, and are cut with a hash",
			group: group(subcharts(application(strings.Repeat("a", 63)),
				dag(strings.Repeat("a", 63)), dag(strings.Repeat("b", 63), strings.Repeat("a", 63)))),
			edges: edges{
				"": {strings.Repeat("a", 63): {}},
				strings.Repeat("a", 63): {
					strings.Repeat("a", 63) + "-" + strings.Repeat("a", 55) + "-e6a021e4": {},
					strings.Repeat("a", 63) + "-" + strings.Repeat("a", 63):               {strings.Repeat("a", 63) + "-" + strings.Repeat("a", 55) + "-e6a021e4", strings.Repeat("a", 63) + "-" + strings.Repeat("b", 63)},
					strings.Repeat("a", 63) + "-" + strings.Repeat("b", 63):               {strings.Repeat("a", 63) + "-" + strings.Repeat("a", 55) + "-e6a021e4"},
				},
			},
		},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			staged := stage(tc.group, tc.extra)
			for i := range staged {
				staged[i].Pieces = slices.DeleteFunc(staged[i].Pieces, func(p events.StagedPiece) bool { return slices.Contains(tc.gone, p.Subchart) })
			}
			p := forward(t, tc.group, staged)
			got, leaves := walk(t, p.Workflow)
			if diff := cmp.Diff(tc.edges, got); diff != "" {
				t.Errorf("%s (-want +got):\n%s", tc.reason, diff)
			}
			namesAgree(t, leaves, p)
			if diff := cmp.Diff(tc.tasks, leaves); tc.tasks != nil && diff != "" {
				t.Errorf("%s (-want +got):\n%s", tc.reason, diff)
			}

			// Whatever is installed can be undone, from the cluster alone.
			back := reverse(t, group(), inventory(p))
			_, leaves = walk(t, back.Workflow)
			if want := len(inventory(p)); len(leaves) != want {
				t.Errorf("reverse deletes %d of %d releases", len(leaves), want)
			}
			namesAgree(t, leaves, back)
		})
	}
}

func TestRelease(t *testing.T) {
	app := subcharts(application("web"), dag("db"))
	app.Spec.Chart.Name = "webshop"
	app.Spec.Release.Values = &apiextensionsv1.JSON{Raw: []byte(`{"db":{"size":3}}`)}
	app.Spec.Release.Install = &helmv2.Install{Replace: true}
	g := group(app)
	p := forward(t, g, stage(g, nil))
	byTask := map[string]*helmv2.HelmRelease{}
	for _, n := range p.Nodes {
		byTask[n.Task] = n.Release
	}
	parent, piece := byTask["web.web-web"], byTask["web.web-db"]

	promises := map[string]bool{
		"the application's own release is named as the application":                  parent.Name == "web" && parent.Namespace == "target",
		"a piece is named <application>-<subchart>":                                  piece.Name == "web-db" && piece.Namespace == "target",
		"pieces and parent share the release name":                                   parent.Spec.ReleaseName == "web" && piece.Spec.ReleaseName == "web",
		"the records of the parent are in the target namespace":                      parent.Spec.StorageNamespace == "",
		"the records of a piece are in a namespace for the group and subchart":       piece.Spec.StorageNamespace == "orkestra-group-db",
		"a name that is not the chart's asks for the chart that was staged":          parent.Spec.ChartRef.Name == "group-webshop-01234567" && piece.Spec.ChartRef.Name == "group-webshop-db-01234567",
		"every piece gets all values":                                                string(parent.Spec.Values.Raw) == `{"db":{"size":3}}` && string(piece.Spec.Values.Raw) == `{"db":{"size":3}}`,
		"Flux's structs go through":                                                  piece.Spec.Install.Replace && parent.Spec.Install.Replace,
		"an interval that nobody set is 5m":                                          parent.Spec.Interval.Duration == 5*time.Minute,
		"helm-controller's finalizer is there from the start":                        slices.Equal(parent.Finalizers, []string{helmv2.HelmReleaseFinalizer}),
		"a piece says what it was split from":                                        piece.Annotations[v1alpha1.AnnotationParentChart] == "webshop" && parent.Annotations[v1alpha1.AnnotationParentChart] == "",
		"a chart that is not split keeps its records where Helm users look for them": byTask["web.web-web"].Spec.StorageNamespace == "",
	}
	for promise, kept := range promises {
		if !kept {
			t.Errorf("%s: it is not so", promise)
		}
	}
	piece.Spec.Values.Raw[0] = 'x'
	if app.Spec.Release.Values.Raw[0] == 'x' || parent.Spec.Values.Raw[0] == 'x' {
		t.Error("a plan shares no memory with the group that it was made of")
	}
}

func TestReverse(t *testing.T) {
	full := group(subcharts(application("a"), dag("x", "y"), dag("y")), application("b", "a"))
	installed := inventory(forward(t, full, stage(full, map[string][]string{"a": {"unnamed"}})))
	bare := func(names ...string) []helmv2.HelmRelease {
		var out []helmv2.HelmRelease
		for _, hr := range installed {
			if slices.Contains(names, hr.Name) {
				hr = *hr.DeepCopy()
				for _, k := range []string{v1alpha1.AnnotationDependencies, v1alpha1.AnnotationApplicationDependencies} {
					delete(hr.Annotations, k)
				}
				out = append(out, hr)
			}
		}
		return out
	}
	cases := map[string]struct {
		reason string
		group  *v1alpha1.ApplicationGroup
		live   []helmv2.HelmRelease
		want   edges
	}{
		"LeftTheSpec": {
			reason: "applications and subcharts that the spec no longer names are deleted too, in order",
			group:  group(),
			live:   installed,
			want: edges{
				"":  {"a": {"b"}, "b": {}},
				"a": {"a-a": {}, "a-unnamed": {"a-a"}, "a-x": {"a-a"}, "a-y": {"a-a", "a-x"}},
				"b": {"b-b": {}},
			},
		},
		"WithoutAnnotations": {
			reason: "a release that does not say its order has the spec's",
			group:  full,
			live:   bare("a", "a-x", "a-y", "b"),
			want: edges{
				"":  {"a": {"b"}, "b": {}},
				"a": {"a-a": {}, "a-x": {"a-a"}, "a-y": {"a-a", "a-x"}},
				"b": {"b-b": {}},
			},
		},
		"HalfInstalled": {
			reason: "only what exists is deleted",
			group:  full,
			live:   slices.DeleteFunc(slices.Clone(installed), func(hr helmv2.HelmRelease) bool { return hr.Name != "a-y" && hr.Name != "a-unnamed" }),
			want:   edges{"": {"a": {}}, "a": {"a-unnamed": {}, "a-y": {}}},
		},
		"Contradiction": {
			reason: "releases of two generations that contradict each other do not keep the group from going",
			group:  group(),
			live: func() []helmv2.HelmRelease {
				live := bare("a-x", "a-y", "b", "a")
				for i := range live {
					live[i].Annotations[v1alpha1.AnnotationDependencies] = map[string]string{"a-x": "a-y", "a-y": "a-x,gone"}[live[i].Name]
					live[i].Annotations[v1alpha1.AnnotationApplicationDependencies] = map[string]string{"a": "b", "a-x": "b", "b": "a"}[live[i].Name]
				}
				return live
			}(),
			want: edges{
				"":  {"a": {}, "b": {"a"}},
				"a": {"a-a": {}, "a-x": {}, "a-y": {"a-x"}},
				"b": {"b-b": {}},
			},
		},
		"MovedNamespace": {
			reason: "a release that was moved to another namespace is deleted in both",
			group:  full,
			live: func() []helmv2.HelmRelease {
				live := slices.DeleteFunc(slices.Clone(installed), func(hr helmv2.HelmRelease) bool { return hr.Name != "a-x" && hr.Name != "a-y" })
				moved := *live[1].DeepCopy()
				moved.Namespace = "was-here"
				return append(live, moved)
			}(),
			want: edges{"": {"a": {}}, "a": {"a-x": {}, "a-y": {"a-x"}, "a-y-2": {"a-x"}}},
		},
		"Anonymous": {
			reason: "a release with nothing but the owner on it is deleted",
			group:  full,
			live: []helmv2.HelmRelease{func() helmv2.HelmRelease {
				hr := helmv2.HelmRelease{}
				hr.Name, hr.Namespace = "Some.thing", "n"
				return hr
			}()},
			want: edges{"": {"some-thing": {}}, "some-thing": {"some-thing": {}}},
		},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			p := reverse(t, tc.group, tc.live)
			got, leaves := walk(t, p.Workflow)
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("%s (-want +got):\n%s", tc.reason, diff)
			}
			namesAgree(t, leaves, p)
			for _, n := range p.Nodes {
				if n.Action != plan.Delete || n.Release.Spec.Values != nil {
					t.Errorf("node %s: action %s with values %v", n.Task, n.Action, n.Release.Spec.Values)
				}
			}
		})
	}
	t.Run("Nothing", func(t *testing.T) {
		p, err := compile.Reverse(compile.ReverseInput{Group: full, Rollout: rollout("group")})
		if p != nil || err != nil {
			t.Errorf("with nothing installed there is nothing to undo: %v, %v", p, err)
		}
	})
}

func TestWorkflowName(t *testing.T) {
	r := rollout("bookinfo")
	again, other := r, r
	again.RequestedAt = "2026-01-01T00:00:00Z"
	other.UID = "another"
	long := r
	long.Group = strings.Repeat("a.very.long.name.", 12) + "x"
	seen := map[string]string{}
	for what, name := range map[string]string{
		"forward":          compile.WorkflowName(r, events.WorkflowForward, 0),
		"reverse":          compile.WorkflowName(r, events.WorkflowReverse, 0),
		"second reverse":   compile.WorkflowName(r, events.WorkflowReverse, 1),
		"requested again":  compile.WorkflowName(again, events.WorkflowForward, 0),
		"group made again": compile.WorkflowName(other, events.WorkflowForward, 0),
		"long":             compile.WorkflowName(long, events.WorkflowRollback, 12),
	} {
		if len(name) > v1alpha1.MaxLabel || strings.Contains(name, ".") {
			t.Errorf("%s: %s is no label", what, name)
		}
		if before, ok := seen[name]; ok {
			t.Errorf("%s and %s have the same name %s", what, before, name)
		}
		seen[name] = what
	}
}

// A thousand releases fit into one workflow, which Argo's validator accepts, and
// nothing takes long. The bound on time is generous: it is there to catch what grows
// with the square.
func TestThousandReleases(t *testing.T) {
	for name, size := range map[string][2]int{
		"AHundredApplicationsOfTen": {100, 10},
		"OneApplicationOfMany":      {1, 400}, // Argo's validator takes the square of it
	} {
		t.Run(name, func(t *testing.T) {
			g := large(size[0], size[1])
			begin := time.Now()
			p := forward(t, g, stage(g, nil))
			took := time.Since(begin)
			if len(p.Nodes) != size[0]*size[1] {
				t.Fatalf("%d nodes", len(p.Nodes))
			}
			data, err := json.Marshal(p.Workflow)
			if err != nil {
				t.Fatal(err)
			}
			secrets, err := p.Secrets()
			if err != nil {
				t.Fatal(err)
			}
			begin = time.Now()
			back := reverse(t, g, inventory(p))
			t.Logf("forward: %d bytes in %v, %d secrets; reverse of %d releases in %v", len(data), took, len(secrets), len(back.Nodes), time.Since(begin))
			if took > 30*time.Second {
				t.Errorf("compiling took %v", took)
			}
		})
	}
}
