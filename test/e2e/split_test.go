package e2e

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"orkestra.dev/api/v1alpha1"
	"orkestra.dev/test/repository"
)

// umbrella is a chart that has what a split gets wrong easily: one chart under two
// aliases, a library, a subchart without a condition and one without values.yaml, one
// that is switched off, values of the parent over those of a subchart, globals, a
// parent that names what its subchart makes, and a checksum of another template.
func umbrella() repository.Files {
	configMap := func(data string) string {
		return "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: {{ .Release.Name }}-{{ .Chart.Name }}\n  labels:\n    chart: {{ .Chart.Name }}-{{ .Chart.Version }}\ndata:\n" + data
	}
	return repository.Files{
		"Chart.yaml": `apiVersion: v2
name: umbrella
version: 1.0.0
dependencies:
  - {name: store, version: 0.1.0, alias: cache}
  - {name: store, version: 0.1.0, alias: queue, condition: queue.enabled}
  - {name: web, version: 2.0.0}
  - {name: plain, version: 0.0.1}
  - {name: extra, version: 1.0.0, condition: extra.enabled}
  - {name: common, version: 1.0.0}
`,
		"values.yaml":             "global: {team: blue}\ncache: {size: 3}\nqueue: {enabled: true}\nextra: {enabled: false}\nweb: {color: red}\n",
		"templates/_helpers.tpl":  `{{- define "umbrella.greeting" -}}hello from {{ .Chart.Name }}{{- end -}}`,
		"templates/first.yaml":    configMap("  cache: {{ .Release.Name }}-cache\n  sum: {{ include (print $.Template.BasePath \"/second.yaml\") . | sha256sum }}\n  greeting: {{ include \"umbrella.greeting\" . }}\n"),
		"templates/second.yaml":   "{{- define \"umbrella.inline\" }}inline{{ end }}\napiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: second\ndata:\n  value: {{ include \"umbrella.inline\" . }}\n  lib: {{ include \"common.name\" . }}\n",
		"charts/store/Chart.yaml": "apiVersion: v2\nname: store\nversion: 0.1.0\n", "charts/store/values.yaml": "size: 1\n",
		"charts/store/templates/c.yaml": configMap("  size: {{ .Values.size | quote }}\n  team: {{ .Values.global.team }}\n"),
		"charts/web/Chart.yaml":         "apiVersion: v2\nname: web\nversion: 2.0.0\n", "charts/web/values.yaml": "color: green\n",
		"charts/web/templates/c.yaml":    configMap("  color: {{ .Values.color }}\n  greeting: {{ include \"umbrella.greeting\" . }}\n  lib: {{ include \"common.name\" . }}\n"),
		"charts/plain/Chart.yaml":        "apiVersion: v2\nname: plain\nversion: 0.0.1\n",
		"charts/plain/templates/c.yaml":  configMap("  json: '{ {{- .Values.global.team | quote -}} }'\n"),
		"charts/extra/Chart.yaml":        "apiVersion: v2\nname: extra\nversion: 1.0.0\n",
		"charts/extra/templates/c.yaml":  configMap("  never: here\n"),
		"charts/common/Chart.yaml":       "apiVersion: v2\nname: common\nversion: 1.0.0\ntype: library\n",
		"charts/common/templates/_n.tpl": `{{- define "common.name" -}}{{ .Chart.Name }}-of-{{ .Release.Name }}{{- end -}}`,
	}
}

// The same application, whole in one namespace and split in another, makes the same
// objects in both: its name is not its chart's, and its chart has all that is awkward.
func TestSplitMakesTheSameObjects(t *testing.T) {
	s := serve(t)
	add(t, s, "umbrella", "1.0.0", umbrella())
	group := func(name string, subcharts ...v1alpha1.DAG) *v1alpha1.ApplicationGroup {
		g := chain(name, s.URL, 1)
		g.Spec.Applications[0].Name = "shop"
		g.Spec.Applications[0].Spec.Chart.Name = "umbrella"
		g.Spec.Applications[0].Spec.Release.Values = values(t, map[string]any{"web": map[string]any{"color": "blue"}})
		g.Spec.Applications[0].Spec.Subcharts = subcharts
		return g
	}
	create(t, group("whole-shop"))
	create(t, group("split-shop",
		v1alpha1.DAG{Name: "cache"}, v1alpha1.DAG{Name: "queue", Dependencies: []string{"cache"}},
		v1alpha1.DAG{Name: "web", Dependencies: []string{"queue"}}))
	awaitReady(t, "whole-shop", time.Minute, metav1.ConditionTrue, v1alpha1.ReasonSucceeded)
	awaitReady(t, "split-shop", time.Minute, metav1.ConditionTrue, v1alpha1.ReasonSucceeded)

	// plain is not named and is a release all the same; extra is switched off, common a
	// library, and neither is.
	want := []string{"split-shop/shop", "split-shop/shop-cache", "split-shop/shop-plain", "split-shop/shop-queue", "split-shop/shop-web"}
	if diff := cmp.Diff(want, names(releases(t, "split-shop"))); diff != "" {
		t.Errorf("releases (-want +got):\n%s", diff)
	}
	whole, split := configMaps(t, "whole-shop"), configMaps(t, "split-shop")
	if diff := cmp.Diff(whole, split); diff != "" {
		t.Errorf("objects (-whole +split):\n%s", diff)
	}
	if len(whole) != 6 {
		t.Errorf("the chart made %d objects, want 6: %v", len(whole), names(whole))
	}
	inOrder(t, "split-shop", 5)

	// What is split stays split: Helm would delete what moves to another release.
	update(t, "split-shop", func(g *v1alpha1.ApplicationGroup) { g.Spec.Applications[0].Spec.Subcharts = nil })
	refused := awaitReady(t, "split-shop", 30*time.Second, metav1.ConditionFalse, v1alpha1.ReasonWorkflowTemplateGenerationFailed)
	if m := message(refused, v1alpha1.ConditionReady); !strings.Contains(m, "spec.applications[0].spec.subcharts") {
		t.Errorf("the refusal does not name the field: %s", m)
	}
	if diff := cmp.Diff(whole, configMaps(t, "split-shop")); diff != "" {
		t.Errorf("objects after the refusal (-want +got):\n%s", diff)
	}

	remove(t, "split-shop")
	nothingLeft(t, "split-shop")
	if left := configMaps(t, "split-shop"); len(left) != 0 {
		t.Errorf("left behind: %v", names(left))
	}
}

// configMaps that Helm made in a namespace: what does not depend on when or where.
func configMaps(t *testing.T, namespace string) map[string]any {
	t.Helper()
	var list corev1.ConfigMapList
	if err := env.client.List(t.Context(), &list, client.InNamespace(namespace), client.MatchingLabels{"app.kubernetes.io/managed-by": "Helm"}); err != nil {
		t.Fatal(err)
	}
	out := map[string]any{}
	for _, c := range list.Items {
		out[c.Name] = map[string]any{"data": c.Data, "chart": c.Labels["chart"]}
	}
	return out
}
