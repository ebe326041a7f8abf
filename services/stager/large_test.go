package stager

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"orkestra.dev/services/stager/internal/charttest"
)

// publishedTime of a processor is what they may take, of which twelve pieces to pack are
// most.
const publishedTime = 5 * time.Second

func TestPublishedCharts(t *testing.T) {
	for name, a := range published() {
		t.Run(name, func(t *testing.T) { a.mount(t, publishedTime) })
	}
}

// published are charts as large as the largest that people publish, which are no attack:
// a monitoring stack of 16 MB with twelve charts in it, 60 dashboards and ten CRDs.
func published() map[string]attack {
	return map[string]attack{
		"Monitoring": {"a monitoring stack, whose dashboards are templates with their braces escaped", monitoring(func(board string) string {
			return strings.NewReplacer("{{", "{{`{{`}}", "}}", "{{`}}`}}").Replace(board)
		}), ""},
		"Quoted": {"the same where each dashboard is one long text in quotes", monitoring(func(board string) string {
			return "{{ `" + board + "` }}"
		}), ""},
	}
}

// monitoring is the archive of such a stack, with its dashboards as templates.
func monitoring(escape func(string) string) func(*testing.T) []byte {
	return func(t *testing.T) []byte {
		t.Helper()
		files := []any{
			"shop/values.yaml", defaults(6000),
			"shop/charts/crds/Chart.yaml", "{apiVersion: v2, name: crds, version: 1.0.0}",
		}
		files = append(files, many(10, func(i int) (string, string) {
			return fmt.Sprintf("shop/charts/crds/crds/crd-%d.yaml", i), crd(i, 500<<10)
		})...)
		files = append(files, many(20, func(i int) (string, string) {
			sub := fmt.Sprintf("shop/charts/exporter-%d/", i/2)
			if i%2 == 0 {
				return sub + "Chart.yaml", fmt.Sprintf("{apiVersion: v2, name: exporter-%d, version: 1.0.0}", i/2)
			}
			return sub + "values.yaml", defaults(1500)
		})...)
		files = append(files, many(60, func(i int) (string, string) {
			head := fmt.Sprintf("apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: {{ .Release.Name }}-board-%d\ndata:\n  board.json: |-\n    ", i)
			return fmt.Sprintf("shop/templates/dashboards/board-%d.yaml", i), "{{- if .Values.k1 }}\n" + head + escape(dashboard(i, 100<<10)) + "\n{{- end }}\n"
		})...)
		files = append(files, many(15, func(i int) (string, string) {
			return fmt.Sprintf("shop/files/boards/board-%d.json", i), dashboard(100+i, 100<<10)
		})...)
		return charttest.Raw(t, shop(files...)...)
	}
}

// defaults of that many lines, of which every fourth is a comment.
func defaults(lines int) string {
	var b strings.Builder
	for i := 0; b.Len() == 0 || i < lines; i += 4 {
		fmt.Fprintf(&b, "k%d:\n  # how many of them: see the manual\n  replicas: %d\n  labels: {app: web, tier: t%d}\n", i+1, i%7, i)
	}
	return b.String()
}

// crd of about that size, described field by field.
func crd(n, size int) string {
	var b strings.Builder
	fmt.Fprintf(&b, "apiVersion: apiextensions.k8s.io/v1\nkind: CustomResourceDefinition\nmetadata: {name: things%d.example.com}\nspec:\n  schema:\n    properties:\n", n)
	for i := 0; b.Len() < size; i++ {
		fmt.Fprintf(&b, "      field%d:\n        description: |-\n          Field %d says what %x is for, and defaults to %d.\n        type: string\n        enum:\n        - one\n        - two\n", i, i, i*7919, i%13)
	}
	return b.String()
}

// dashboard of about that size, in JSON, with braces for the legends.
func dashboard(n, size int) string {
	var b strings.Builder
	fmt.Fprintf(&b, `{"uid":"%x","panels":[`, n*104729)
	for i := 0; b.Len() < size; i++ {
		fmt.Fprintf(&b, `{"id":%d,"type":"graph","targets":[{"expr":"sum(rate(requests_%x_total[5m])) by (pod)","legendFormat":"{{pod}} of {{namespace}}"}]},`, i, i*n*31)
	}
	return b.String() + "{}]}"
}
