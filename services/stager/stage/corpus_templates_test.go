package stage_test

import "maps"

func init() { maps.Copy(corpus, templateCorpus) }

// templateCorpus is the part of the corpus that is about the text of templates, and
// about files that are none.
var templateCorpus = map[string]specimen{
	"DefinesAmongManifests": {
		promise:   "named templates and blocks in a file that also renders stay to be had, and win or lose against others of their name as before",
		subcharts: []string{"db"},
		pieces:    []string{"shop-db", "shop"},
		objects:   3,
		chart: `
-- Chart.yaml --
apiVersion: v2
name: shop
version: 1.0.0
-- templates/a.yaml --
{{- /* first */ -}}
{{ define "shop.name" -}} a {{- end -}}
` + cm + `{{ template "shop.name" . }}
{{ block "shop.tail" . }}data: {from: a}{{ end }}
{{- define "shop.brace" }}{ {{- "x: {}" -}} }{{ end }}
-- templates/b.yaml --
{{ define "shop.name" }}b{{ end }}
{{- define "shop.tail" }}data: {from: b}{{ end }}
` + cm + `b
data: {t: "{{ include "shop.tail" . }}", b: {{ include "shop.brace" . }}, q: {{ printf "%s" "}}{{" | quote }}, r: {{ ` + "`}}`" + ` | quote }}}
-- templates/only.yaml --
{{- define "shop.only" }}only{{ end }}
-- charts/db/Chart.yaml --
{apiVersion: v2, name: db, version: 1.0.0}
-- charts/db/templates/cm.yaml --
{{ define "shop.only" }}theirs{{ end }}
` + cm + `db
data: {n: "{{ template "shop.name" . }}", o: "{{ include "shop.only" . }}", t: "{{ include "shop.tail" . }}"}
`,
	},

	"CRDsAndFiles": {
		promise:   "crds, files, schemas, notes and tests are where they were",
		subcharts: []string{"db"},
		pieces:    []string{"shop-db", "shop"},
		objects:   2,
		values:    `{n: 1}`,
		chart: `
-- Chart.yaml --
apiVersion: v2
name: shop
version: 1.0.0
-- values.schema.json --
{"type": "object", "properties": {"n": {"type": "integer"}}}
-- crds/a.yaml --
{apiVersion: apiextensions.k8s.io/v1, kind: CustomResourceDefinition, metadata: {name: a}}
-- files/motd --
Hello.
-- templates/NOTES.txt --
Thank you for {{ .Values.nothing | default "nothing" }}
-- templates/cm.yaml --
` + cm + `top
data: {motd: {{ .Files.Get "files/motd" | quote }}}
-- templates/tests/test.yaml --
{apiVersion: v1, kind: Pod, metadata: {name: test, annotations: {helm.sh/hook: test}}}
-- charts/db/Chart.yaml --
{apiVersion: v2, name: db, version: 1.0.0}
-- charts/db/crds/b.yaml --
{apiVersion: apiextensions.k8s.io/v1, kind: CustomResourceDefinition, metadata: {name: b}}
-- charts/db/data.txt --
Data.
-- charts/db/templates/NOTES.txt --
Notes.
-- charts/db/templates/cm.yaml --
` + cm + `db
data: {d: {{ .Files.Get "data.txt" | quote }}}
-- charts/db/templates/hook.yaml --
{apiVersion: batch/v1, kind: Job, metadata: {name: migrate, annotations: {helm.sh/hook: "pre-install,pre-upgrade"}}}
`,
	},

	"RequirementsYAML": {
		promise:   "a chart of apiVersion v1 keeps its dependencies in requirements.yaml, with aliases and conditions",
		subcharts: []string{"cache"},
		pieces:    []string{"shop-cache", "shop-redis", "shop"},
		objects:   3,
		values:    `{two: {enabled: false}}`,
		chart: `
-- Chart.yaml --
name: shop
version: v1
-- requirements.yaml --
dependencies:
  - {name: redis, version: "*", repository: "", alias: cache}
  - {name: redis, version: "*", repository: ""}
  - {name: redis, version: "*", repository: "", alias: two, condition: two.enabled}
-- templates/cm.yaml --
` + cm + `top
data: {v: {{ .Chart.Version }}, r: {{ .Files.Get "requirements.yaml" | quote }}}
-- charts/redis/Chart.yaml --
name: redis
version: "1.10"
-- charts/redis/templates/cm.yaml --
` + cm + `{{ .Chart.Name }}
data: {v: "{{ .Chart.Version }}"}
`,
	},

	"ForeignFolderNames": {
		promise:   "folders may be named other than the charts in them",
		subcharts: []string{"db"},
		pieces:    []string{"shop-db", "shop"},
		objects:   2,
		chart: `
-- Chart.yaml --
apiVersion: v2
name: shop
version: 1.0.0
-- templates/cm.yaml --
` + cm + `top
-- charts/whatever/Chart.yaml --
{apiVersion: v2, name: db, version: 1.0.0}
-- charts/whatever/templates/cm.yaml --
` + cm + `{{ .Chart.Name }}
-- charts/_disabled/Chart.yaml --
{apiVersion: v2, name: never, version: 1.0.0}
-- charts/_disabled/templates/cm.yaml --
` + cm + `never
`,
	},

	"BracesAndVariables": {
		promise:   "text that looks like half an action, variables, comments and trim markers survive",
		subcharts: []string{"db"},
		pieces:    []string{"shop-db", "shop"},
		objects:   4,
		chart: `
-- Chart.yaml --
apiVersion: v2
name: shop
version: 1.0.0
-- templates/a.yaml --
{{- $x := "a" }}
{{- define "inner" }}I{{ end -}}
` + cm + `{{ $x }}
data:
  json: '{ {{- "\"k\": 1" -}} }'
  brace: '{{ "{" }}{{ "{{" }}'
  sum: {{ include "shop/templates/odd.yaml" . | sha256sum }}
  {{- /* a comment with }} and {{ in it */}}
  {{- with dict "y" "z" }}
  y: {{ .y }}{{ template "inner" }}
  {{- else }}
  never: true
  {{- end }}
  {{- range $i, $e := list 1 2 3 }}{{ if eq $e 2 }}{{ continue }}{{ end }}
  k{{ $i }}: "{{ $e }}"
  {{- end }}
-- templates/odd.yaml --
{{ if .Values.never }}never{{ end }}# {
-- templates/open.yaml --
{{ "" }}# ends with a brace: {` + `
-- charts/db/Chart.yaml --
{apiVersion: v2, name: db, version: 1.0.0}
-- charts/db/templates/cm.yaml --
` + cm + `db
data: {i: "{{ template "inner" }}", sum: {{ include "shop/templates/odd.yaml" . | sha256sum }}, char: "{{ 'a' }}"}
---
` + cm + `db2
---
# nothing
---
` + cm + `db3
`,
	},
}
