package e2e

import (
	"strings"
	"testing"
	"time"

	helmv2 "github.com/fluxcd/helm-controller/api/v2"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"orkestra.dev/api/v1alpha1"
	"orkestra.dev/test/repository"
)

// tellingCharts render where nothing is secret, and tell the secret where they fail: by a template's own words, by
// their schema, and by an object that the API server quotes when it refuses it.
func tellingCharts() map[string]repository.Files {
	telling := func(files repository.Files) repository.Files {
		out := configMapChart()
		for name, text := range files {
			out[name] = text
		}
		return out
	}
	return map[string]repository.Files{
		"a template": telling(repository.Files{"templates/fail.yaml": `{{ with .Values.password }}{{ fail (printf "%s is no password" .) }}{{ end }}`}),
		"a schema":   telling(repository.Files{"values.schema.json": `{"properties": {"password": {"pattern": "^short$"}}}`}),
		"the API server": telling(repository.Files{"templates/refused.yaml": "{{ with .Values.password }}\n" +
			"apiVersion: v1\nkind: Service\nmetadata:\n  name: refused\nspec:\n  type: {{ . }}\n  ports: [{port: 80}]\n{{ end }}\n"}),
	}
}

// A chart that tells a value out of a Secret when it fails tells it to who may read the HelmRelease, and to nobody else:
// it is in no event, audit record, workflow, condition of the group, Kubernetes event of ours, or log.
func TestHelmsWordsStayInTheRelease(t *testing.T) {
	const canary = "c4n4ry-told-by-helm"
	for who, chart := range tellingCharts() {
		t.Run(who, func(t *testing.T) {
			name := "canary-told-by-" + strings.ToLower(who[strings.LastIndex(who, " ")+1:])
			s := serve(t)
			add(t, s, "small", "1.0.0", chart)
			namespace(t, name)
			secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: name, Name: "values"}, StringData: map[string]string{"values.yaml": "password: " + canary + "\n"}}
			must(t, env.client.Create(t.Context(), secret))
			g := chain(name, s.URL, 1)
			g.Spec.Remediation = &v1alpha1.Remediation{Strategy: v1alpha1.RemediationNone}
			g.Spec.Applications[0].Spec.Release.ValuesFrom = []helmv2.ValuesReference{{Kind: "Secret", Name: "values"}}
			create(t, g)
			g = awaitReady(t, name, 2*time.Minute, metav1.ConditionFalse, v1alpha1.ReasonWorkflowFailed)

			told := mustJSON(t, releases(t, name)[name+"/a0"].Status.Conditions)
			if !strings.Contains(told, canary) {
				t.Fatalf("Helm does not tell the secret, so nothing is tested: %s", told)
			}
			for _, want := range []string{"Helm install failed for release " + name + "/a0", "kubectl -n " + name + " describe helmrelease a0"} {
				if got := message(g, v1alpha1.ConditionReady); !strings.Contains(got, want) {
					t.Errorf("the group does not say %q: %s", want, got)
				}
			}
			audited(t, name)
			canaries := map[string]string{"what " + who + " told": canary}
			searchFiles(t, "after a failure", canaries)
			var happenings corev1.EventList
			must(t, env.client.List(t.Context(), &happenings))
			for _, e := range happenings.Items {
				if e.Source.Component != "helm-controller" && e.ReportingController != "helm-controller" {
					search(t, "after a failure", "a Kubernetes event", []byte(mustJSON(t, e)), canaries)
				}
			}
			search(t, "after a failure", "the workflow", []byte(mustJSON(t, workflows(t, name))), canaries)
			search(t, "after a failure", "the group's status", []byte(mustJSON(t, g.Status)), canaries)
		})
	}
}
