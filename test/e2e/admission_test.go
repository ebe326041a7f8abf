package e2e

import (
	"context"
	"strings"
	"testing"
	"time"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"orkestra.dev/api/v1alpha1"
)

const head = `
apiVersion: orkestra.azure.microsoft.com/v1alpha1
kind: ApplicationGroup
metadata: {name: nonsense}
spec:
  applications:
`

// What contradicts itself is refused by kubectl apply, with a message that names
// the field.
func TestNonsenseIsRefused(t *testing.T) {
	const chart = "chart: {url: 'http://127.0.0.1:1', name: small, version: 1.0.0}"
	const release = "release: {targetNamespace: nonsense}"
	for name, tc := range map[string]struct {
		spec string
		want []string
	}{
		"Cycle": {
			spec: `
  - {name: a, dependencies: [b], spec: {` + chart + `, ` + release + `}}
  - {name: b, dependencies: [a], spec: {` + chart + `, ` + release + `}}`,
			want: []string{"spec.applications", "a -> b -> a"},
		},
		"CycleOfSubcharts": {
			spec: `
  - {name: a, spec: {` + chart + `, ` + release + `, subcharts: [{name: p, dependencies: [q]}, {name: q, dependencies: [p]}]}}`,
			want: []string{"spec.applications[0].spec.subcharts", "p -> q -> p"},
		},
		"UnknownDependency": {
			spec: `
  - {name: a, dependencies: [nobody], spec: {` + chart + `, ` + release + `}}`,
			want: []string{"spec.applications[0].dependencies", "nobody"},
		},
		"TwoOfOneName": {
			spec: `
  - {name: a, spec: {` + chart + `, ` + release + `}}
  - {name: a, spec: {` + chart + `, ` + release + `}}`,
			want: []string{"spec.applications[1]", "Duplicate"},
		},
		"NoTargetNamespace": {
			spec: `
  - {name: a, spec: {` + chart + `, release: {}}}`,
			want: []string{"spec.applications[0].spec.release.targetNamespace"},
		},
		"NameTooLong": {
			spec: `
  - {name: ` + strings.Repeat("a", 64) + `, spec: {` + chart + `, ` + release + `}}`,
			want: []string{"spec.applications[0].name"},
		},
		"NoApplications": {spec: `    []`, want: []string{"spec.applications"}},
	} {
		t.Run(name, func(t *testing.T) {
			u := &unstructured.Unstructured{}
			if err := yaml.Unmarshal([]byte(head+tc.spec), &u.Object); err != nil {
				t.Fatal(err)
			}
			err := env.client.Create(t.Context(), u, client.DryRunAll)
			if !apierrors.IsInvalid(err) && !apierrors.IsForbidden(err) {
				t.Fatalf("want a refusal, got %v", err)
			}
			for _, want := range tc.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("the refusal does not say %q: %v", want, err)
				}
			}
		})
	}
}

// Where admission was out of reach the condition says the same.
func TestNonsenseThatGotInIsRefused(t *testing.T) {
	var hooks admissionregistrationv1.ValidatingWebhookConfigurationList
	if err := env.client.List(t.Context(), &hooks); err != nil {
		t.Fatal(err)
	}
	if len(hooks.Items) != 1 {
		t.Fatalf("%d webhook configurations, want ours", len(hooks.Items))
	}
	hook := hooks.Items[0]
	if err := env.client.Delete(t.Context(), &hook); err != nil {
		t.Fatal(err)
	}
	g := chain("cyclic", "http://127.0.0.1:1", 2)
	g.Spec.Applications[0].Dependencies = []string{"a1"}
	// The API server hears of the deletion a moment later.
	eventually(t, 10*time.Second, "the group to get in", func(ctx context.Context) error { return env.client.Create(ctx, g.DeepCopy()) })
	t.Cleanup(func() { remove(t, g.Name) })
	hook.ResourceVersion, hook.UID = "", ""
	if err := env.client.Create(t.Context(), &hook); err != nil {
		t.Fatal(err)
	}

	refused := awaitReady(t, g.Name, 10*time.Second, metav1.ConditionFalse, v1alpha1.ReasonInvalidSpec)
	if m := message(refused, v1alpha1.ConditionReady); !strings.Contains(m, "a0 -> a1 -> a0") {
		t.Errorf("the condition does not spell the cycle out: %s", m)
	}
	if n := len(workflows(t, g.Name)); n != 0 {
		t.Errorf("%d workflows of a refused group", n)
	}
}
