package compile_test

import (
	"errors"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"orkestra.dev/api/v1alpha1"
	"orkestra.dev/services/compiler/compile"
)

func TestForwardRefuses(t *testing.T) {
	cases := map[string]struct {
		reason string
		group  *v1alpha1.ApplicationGroup
		extra  map[string][]string
		want   []string // in the message
		kind   string   // reason of the condition; InvalidSpec where empty
	}{
		"Volumes": {
			reason: "a custom executor mounts the volumes that its params name, and no part of the node",
			group: group(with(application("a"), func(s *v1alpha1.ApplicationSpec) {
				custom := v1alpha1.Executor{DAG: dag("two", "one"), Type: v1alpha1.ExecutorCustom, Params: raw(`{"volumes":[{"name":"root","hostPath":{"path":"/"}}]}`)}
				custom.Image = &corev1.Container{Image: "i", VolumeMounts: []corev1.VolumeMount{{Name: "certs", MountPath: "/certs"}}}
				s.Workflow = []v1alpha1.Executor{step("", "one"), custom}
			})),
			want: []string{"spec.applications[0].spec.workflow[1].params.volumes[0]", "must be one of configMap", "mounts volume certs"},
		},
		"Params": {
			reason: "params that are not those of the executor are refused with their field",
			group: group(with(application("a"), func(s *v1alpha1.ApplicationSpec) {
				s.Workflow = []v1alpha1.Executor{{DAG: dag("one"), Type: v1alpha1.ExecutorCustom, Image: &corev1.Container{Image: "i"}, Params: raw(`{"volumes":3}`)}}
			})),
			want: []string{"spec.applications[0].spec.workflow[0].params", "custom executor"},
		},
		"Keptn": {
			reason: "a keptn executor needs its ConfigMap",
			group: group(application("z"), with(application("a"), func(s *v1alpha1.ApplicationSpec) {
				s.Workflow = []v1alpha1.Executor{step(v1alpha1.ExecutorKeptn, "one")}
			})),
			want: []string{"spec.applications[1].spec.workflow[0].params.configMapRef"},
		},
		"Job": {
			reason: "a Job's pod is not restarted for ever",
			group: group(with(application("a"), func(s *v1alpha1.ApplicationSpec) {
				s.Workflow = []v1alpha1.Executor{step("", "one"), {DAG: dag("two"), Type: v1alpha1.ExecutorJob,
					Job: raw(`{"template":{"spec":{"restartPolicy":"Always","containers":[{"name":"c","image":"i"}]}}}`)}}
			})),
			want: []string{"spec.applications[0].spec.workflow[1].job.template.spec.restartPolicy", "OnFailure"},
		},
		"Cycle": {
			reason: "a cycle of applications is spelled out",
			group:  group(application("a", "b"), application("b", "a")),
			want:   []string{"spec.applications:", "a -> b -> a"},
		},
		"CycleOfSubcharts": {
			reason: "a cycle of subcharts is spelled out",
			group:  group(subcharts(application("a"), dag("x", "y"), dag("y", "x"))),
			want:   []string{"spec.applications[0].spec.subcharts", "x -> y -> x"},
		},
		"CycleOfExecutors": {
			reason: "a cycle of executors is spelled out",
			group: group(with(application("a"), func(s *v1alpha1.ApplicationSpec) {
				s.Workflow = []v1alpha1.Executor{step("", "x", "x")}
			})),
			want: []string{"spec.applications[0].spec.workflow", "x -> x"},
		},
		"Unknown": {
			reason: "a dependency that is not there is named",
			group:  group(application("a", "nobody")),
			want:   []string{"spec.applications", "nobody"},
		},
		"SameName": {
			reason: "names that are one as part of an object's name are refused",
			group:  group(application("Foo_a"), application("foo-a")),
			want:   []string{"spec.applications", "foo-a", "Foo_a"},
		},
		"SameRelease": {
			reason: "a subchart that the spec does not name may be the HelmRelease of another application",
			group:  group(subcharts(application("a"), dag("x")), application("a-b")),
			extra:  map[string][]string{"a": {"b"}},
			want:   []string{"spec.applications[1].name", "target/a-b", "subchart b of application a"},
		},
		"TooLarge": {
			reason: "a workflow that Argo cannot run is refused before it is submitted",
			group:  large(100, 110),
			want:   []string{"bytes", "several groups"},
			kind:   v1alpha1.ReasonWorkflowTemplateGenerationFailed,
		},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			_, err := compile.Forward(compile.Input{Group: tc.group, Staged: stage(tc.group, tc.extra), Rollout: rollout("group")})
			var refused *compile.Error
			if !errors.As(err, &refused) {
				t.Fatalf("%s: got %v", tc.reason, err)
			}
			want := tc.kind
			if want == "" {
				want = v1alpha1.ReasonInvalidSpec
			}
			if refused.Reason != want {
				t.Errorf("reason %s, want %s", refused.Reason, want)
			}
			for _, part := range tc.want {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("%s: %q is not in %q", tc.reason, part, err)
				}
			}
		})
	}
	t.Run("NotStaged", func(t *testing.T) {
		g := group(application("a"), application("b"))
		_, err := compile.Forward(compile.Input{Group: g, Staged: stage(g, nil)[:1], Rollout: rollout("group")})
		if err == nil || !strings.Contains(err.Error(), "application b") {
			t.Errorf("a group is not rolled out in part: got %v", err)
		}
	})
}
