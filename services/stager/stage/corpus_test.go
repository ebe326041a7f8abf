package stage_test

// specimen is a chart that has something about it that a split could get wrong.
type specimen struct {
	promise   string // what the split keeps
	chart     string // as charttest.Archive reads it
	values    string // YAML
	subcharts []string
	pieces    []string // staged names
	objects   int
}

// cm is a ConfigMap of the name with one line of data, for templates.
const cm = `apiVersion: v1
kind: ConfigMap
metadata:
  name: `

var corpus = map[string]specimen{
	"Plain": {
		promise:   "each subchart's objects are in its piece and the chart's own in the last",
		subcharts: []string{"db", "web"},
		pieces:    []string{"shop-db", "shop-web", "shop"},
		objects:   3,
		chart: `
-- Chart.yaml --
apiVersion: v2
name: shop
version: 1.0.0
-- values.yaml --
color: red
-- templates/cm.yaml --
` + cm + `{{ .Release.Name }}-{{ .Chart.Name }}
data: {color: {{ .Values.color }}, db: {{ .Release.Name }}-db}
-- charts/db/Chart.yaml --
apiVersion: v2
name: db
version: 0.1.0
-- charts/db/values.yaml --
size: 1
-- charts/db/templates/cm.yaml --
` + cm + `{{ .Release.Name }}-{{ .Chart.Name }}
data: {size: "{{ .Values.size }}", v: {{ .Chart.Version }}}
-- charts/web/Chart.yaml --
apiVersion: v2
name: web
version: 0.2.0
-- charts/web/templates/cm.yaml --
` + cm + `{{ .Release.Name }}-{{ .Chart.Name }}
`,
	},

	"ParentOverrides": {
		promise:   "values that the parent's values.yaml sets for a subchart, and globals, hold in its piece",
		subcharts: []string{"db"},
		pieces:    []string{"shop-db", "shop"},
		objects:   2,
		values:    `{db: {user: mine}, global: {tier: gold}}`,
		chart: `
-- Chart.yaml --
apiVersion: v2
name: shop
version: 1.0.0
-- values.yaml --
db: {size: 7}
global: {region: eu, tier: none}
-- templates/cm.yaml --
` + cm + `top
data: {size: "{{ .Values.db.size }}", region: {{ .Values.global.region }}}
-- charts/db/Chart.yaml --
apiVersion: v2
name: db
version: 0.1.0
-- charts/db/values.yaml --
size: 1
user: nobody
-- charts/db/templates/cm.yaml --
` + cm + `db
data: {size: "{{ .Values.size }}", user: {{ .Values.user }}, region: {{ .Values.global.region }}, tier: {{ .Values.global.tier }}}
`,
	},

	"ConditionsAndTags": {
		promise:   "what a condition or a tag disables is no piece, and is not rendered by any",
		subcharts: []string{"one"},
		pieces:    []string{"shop-always", "shop-byTag", "shop-one", "shop"},
		objects:   4,
		values:    `{tags: {front: true, back: false}, two: {enabled: false}}`,
		chart: `
-- Chart.yaml --
apiVersion: v2
name: shop
version: 1.0.0
dependencies:
  - {name: one, version: "*", repository: "", condition: one.enabled}
  - {name: two, version: "*", repository: "", condition: "two.enabled,global.two"}
  - {name: byTag, version: "*", repository: "", tags: [front]}
  - {name: noTag, version: "*", repository: "", tags: [back]}
  - {name: always, version: "*", repository: ""}
-- templates/cm.yaml --
` + cm + `top
-- charts/one/Chart.yaml --
{apiVersion: v2, name: one, version: 0.1.0}
-- charts/one/templates/cm.yaml --
` + cm + `on
-- charts/two/Chart.yaml --
{apiVersion: v2, name: two, version: 0.1.0}
-- charts/two/templates/cm.yaml --
` + cm + `off
-- charts/byTag/Chart.yaml --
{apiVersion: v2, name: byTag, version: 0.1.0}
-- charts/byTag/templates/cm.yaml --
` + cm + `by-tag
-- charts/noTag/Chart.yaml --
{apiVersion: v2, name: noTag, version: 0.1.0}
-- charts/noTag/templates/cm.yaml --
` + cm + `no-tag
-- charts/always/Chart.yaml --
{apiVersion: v2, name: always, version: 0.1.0}
-- charts/always/templates/cm.yaml --
` + cm + `always
`,
	},

	"AliasTwice": {
		promise:   "one chart under two aliases is two pieces, each with its own values and condition",
		subcharts: []string{"cache", "queue"},
		pieces:    []string{"shop-cache", "shop-queue", "shop-redis", "shop"},
		objects:   7,
		values:    `{queue: {size: 9}}`,
		chart: `
-- Chart.yaml --
apiVersion: v2
name: shop
version: 1.0.0
dependencies:
  - {name: redis, version: 0.1.x, repository: "", alias: cache}
  - {name: redis, version: 0.1.x, repository: "", alias: queue, condition: queue.enabled, tags: [q]}
  - {name: redis, version: 0.1.x, repository: "", alias: unused, condition: unused.enabled}
  - {name: redis, version: 0.1.x, repository: ""}
-- values.yaml --
cache: {size: 3}
unused: {enabled: false}
-- templates/cm.yaml --
` + cm + `top
data: {deps: "{{ range .Chart.Dependencies }}{{ .Name }} {{ end }}"}
-- charts/redis/Chart.yaml --
apiVersion: v2
name: redis
version: 0.1.4
description: A chart with a nested one
dependencies:
  - {name: agent, version: "*", repository: ""}
-- charts/redis/values.yaml --
size: 1
-- charts/redis/templates/cm.yaml --
` + cm + `{{ .Release.Name }}-{{ .Chart.Name }}
  annotations: {sum: "{{ include (print $.Template.BasePath "/secret.yaml") . | sha256sum }}"}
data: {size: "{{ .Values.size }}", d: "{{ .Chart.Description }}"}
-- charts/redis/templates/secret.yaml --
{{- if eq .Chart.Name "never" }}
` + cm + `never
{{- end }}
# {{ .Values.size }}
-- charts/redis/charts/agent/Chart.yaml --
{apiVersion: v2, name: agent, version: 1.0.0}
-- charts/redis/charts/agent/templates/cm.yaml --
` + cm + `{{ .Template.Name | dir | dir | dir | dir | base }}-agent
`,
	},

	"TwoVersionsOfOneChart": {
		promise:   "two versions under one name, told apart by alias, are two pieces",
		subcharts: []string{"old", "new"},
		pieces:    []string{"shop-new", "shop-old", "shop"},
		objects:   2,
		chart: `
-- Chart.yaml --
apiVersion: v2
name: shop
version: 1.0.0
dependencies:
  - {name: db, version: 1.x, repository: "", alias: old}
  - {name: db, version: 2.x, repository: "", alias: new}
-- charts/db-1/Chart.yaml --
{apiVersion: v2, name: db, version: 1.5.0}
-- charts/db-1/templates/cm.yaml --
` + cm + `{{ .Chart.Name }}
data: {v: {{ .Chart.Version }}}
-- charts/db-2/Chart.yaml --
{apiVersion: v2, name: db, version: 2.5.0}
-- charts/db-2/templates/cm.yaml --
` + cm + `{{ .Chart.Name }}
data: {v: {{ .Chart.Version }}}
`,
	},

	"Library": {
		promise:   "a library chart stays in every piece and is none, and what it holds is rendered once",
		subcharts: []string{"web"},
		pieces:    []string{"shop-web", "shop"},
		objects:   3,
		chart: `
-- Chart.yaml --
apiVersion: v2
name: shop
version: 1.0.0
dependencies:
  - {name: lib, version: "*", repository: ""}
  - {name: web, version: "*", repository: ""}
-- templates/cm.yaml --
{{ include "lib.cm" (dict "name" "top") }}
-- charts/lib/Chart.yaml --
{apiVersion: v2, name: lib, version: 1.0.0, type: library}
-- charts/lib/templates/_cm.tpl --
{{ define "lib.cm" -}}
` + cm + `{{ .name }}
{{- end }}
-- charts/lib/templates/ignored.yaml --
` + cm + `never
-- charts/lib/charts/odd/Chart.yaml --
{apiVersion: v2, name: odd, version: 1.0.0}
-- charts/lib/charts/odd/templates/cm.yaml --
` + cm + `inside-a-library
-- charts/web/Chart.yaml --
{apiVersion: v2, name: web, version: 1.0.0}
-- charts/web/templates/cm.yaml --
{{ include "lib.cm" (dict "name" "web") }}
`,
	},

	"NestedAndPacked": {
		promise:   "packed subcharts, and subcharts of subcharts with aliases of their own, stay with their piece",
		subcharts: []string{"mid"},
		pieces:    []string{"shop-leaf", "shop-mid", "shop"},
		objects:   7, // Helm 4 makes 9: see doc.go
		values:    `{mid: {right: {color: blue}}}`,
		chart: `
-- Chart.yaml --
apiVersion: v2
name: shop
version: 1.0.0
dependencies:
  - {name: mid, version: "*", repository: ""}
  - {name: leaf, version: "*", repository: ""}
-- templates/cm.yaml --
` + cm + `top
  annotations:
    sub: "{{ include "shop/charts/mid/charts/left/templates/cm.yaml" .Subcharts.mid.Subcharts.left | sha256sum }}"
    sub2: "{{ include "shop/charts/mid/charts/right/templates/cm.yaml" .Subcharts.mid.Subcharts.right | sha256sum }}"
-- charts/leaf-1.0.0.tgz --
	-- Chart.yaml --
	{apiVersion: v2, name: leaf, version: 1.0.0}
	-- templates/cm.yaml --
	{apiVersion: v1, kind: ConfigMap, metadata: {name: leaf}}
	-- README.md --
	Read me.
-- charts/mid/Chart.yaml --
apiVersion: v2
name: mid
version: 1.0.0
dependencies:
  - {name: twin, version: "*", repository: "", alias: left}
  - {name: twin, version: "*", repository: "", alias: right}
-- charts/mid/templates/cm.yaml --
` + cm + `mid
-- charts/mid/charts/twin-1.0.0.tgz --
	-- Chart.yaml --
	{apiVersion: v2, name: twin, version: 1.0.0}
	-- values.yaml --
	color: red
	-- templates/cm.yaml --
	{apiVersion: v1, kind: ConfigMap, metadata: {name: "{{ .Chart.Name }}"}, data: {c: {{ .Values.color }}}}
	-- charts/deep/Chart.yaml --
	{apiVersion: v2, name: deep, version: 1.0.0}
	-- charts/deep/templates/cm.yaml --
	{apiVersion: v1, kind: ConfigMap, metadata: {name: "deep-{{ .Template.Name | sha1sum | trunc 0 }}{{ .Release.Name }}", namespace: {{ .Release.Namespace }}}}
	---
	{apiVersion: v1, kind: ConfigMap, metadata: {name: deep-two}}
`,
	},

	"ImportValues": {
		promise:   "values that a parent imports from a subchart are there in the parent's piece and in the others",
		subcharts: []string{"db"},
		pieces:    []string{"shop-db", "shop"},
		objects:   2,
		values:    `{db: {exports: {net: {port: 7}}}}`,
		chart: `
-- Chart.yaml --
apiVersion: v2
name: shop
version: 1.0.0
dependencies:
  - name: db
    version: "*"
    repository: ""
    import-values: [net, {child: deep.er, parent: mine}]
-- templates/cm.yaml --
` + cm + `top
data: {port: "{{ .Values.port }}", x: "{{ .Values.mine.x }}"}
-- charts/db/Chart.yaml --
{apiVersion: v2, name: db, version: 1.0.0}
-- charts/db/values.yaml --
exports: {net: {port: 5}}
deep: {er: {x: "yes"}}
-- charts/db/templates/cm.yaml --
` + cm + `db
data: {port: "{{ .Values.exports.net.port }}"}
`,
	},

	"IncludeByPath": {
		promise:   "a template of another part that is included by its path says what it said",
		subcharts: []string{"db"},
		pieces:    []string{"shop-db", "shop"},
		objects:   4,
		chart: `
-- Chart.yaml --
apiVersion: v2
name: shop
version: 1.0.0
-- templates/configmap.yaml --
` + cm + `top
data: {a: b}
-- templates/deploy.yaml --
` + cm + `deploy
  annotations:
    own: "{{ include (print $.Template.BasePath "/configmap.yaml") . | sha256sum }}"
    theirs: "{{ include "shop/charts/db/templates/configmap.yaml" .Subcharts.db | sha256sum }}"
    throughTheirs: "{{ include "shop/charts/db/templates/deploy.yaml" .Subcharts.db | sha256sum }}"
-- charts/db/Chart.yaml --
{apiVersion: v2, name: db, version: 1.0.0}
-- charts/db/templates/configmap.yaml --
` + cm + `db
data: {name: {{ .Chart.Name }}}
-- charts/db/templates/deploy.yaml --
` + cm + `db-deploy
  annotations:
    own: "{{ include (print $.Template.BasePath "/configmap.yaml") . | sha256sum }}"
    theirs: "{{ include "shop/templates/configmap.yaml" . | sha256sum }}"
    string: "{{ include "shop/templates/configmap.yaml" "no map" | sha256sum }}"
`,
	},
}
