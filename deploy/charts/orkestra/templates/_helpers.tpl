{{/* Names: everything is called after the release, "orkestra" where it is called so. */}}
{{- define "orkestra.name" -}}
{{- default .Release.Name .Values.nameOverride | trunc 40 | trimSuffix "-" -}}
{{- end }}

{{/* Labels of an object. Takes (list root component). */}}
{{- define "orkestra.labels" -}}
{{ include "orkestra.selector" . }}
app.kubernetes.io/managed-by: {{ (index . 0).Release.Service }}
app.kubernetes.io/version: {{ (index . 0).Chart.AppVersion | quote }}
helm.sh/chart: {{ printf "%s-%s" (index . 0).Chart.Name (index . 0).Chart.Version | replace "+" "_" }}
{{- end }}

{{- define "orkestra.selector" -}}
app.kubernetes.io/name: orkestra
app.kubernetes.io/instance: {{ (index . 0).Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end }}

{{/* Metadata of a namespaced object. Takes (list root name component). */}}
{{- define "orkestra.metadata" -}}
name: {{ index . 1 }}
namespace: {{ (index . 0).Release.Namespace }}
labels: {{- include "orkestra.labels" (list (index . 0) (index . 2)) | nindent 2 }}
{{- end }}

{{/* An image of ours. Takes (list root name). */}}
{{- define "orkestra.image" -}}
{{- $root := index . 0 -}}
{{ $root.Values.image.registry }}/{{ index . 1 }}:{{ $root.Values.image.tag | default $root.Chart.AppVersion }}
{{- end }}

{{/* An image of somebody else's program. Takes (list root name image). */}}
{{- define "orkestra.upstream" -}}
{{- $root := index . 0 -}}
{{- $image := index . 2 -}}
{{ $image.repository | default (printf "%s/%s" $root.Values.image.registry (index . 1)) }}:{{ $image.tag }}
{{- end }}

{{/* What the standard "restricted" of Pod Security asks of a pod, and more. Takes the user, which owns the volumes too. */}}
{{- define "orkestra.podSecurity" -}}
securityContext:
  runAsNonRoot: true
  runAsUser: 65532
  runAsGroup: 65532
  fsGroup: 65532
  fsGroupChangePolicy: OnRootMismatch
  seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "orkestra.containerSecurity" -}}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  runAsNonRoot: true
  capabilities: {drop: [ALL]}
  seccompProfile: {type: RuntimeDefault}
{{- end }}

{{/* Where pods go. Takes (list root component); replicas go to different nodes where there are some. */}}
{{- define "orkestra.scheduling" -}}
{{- $root := index . 0 -}}
{{- with $root.Values.imagePullSecrets }}
imagePullSecrets: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $root.Values.scheduling }}
{{- with .priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with .nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}
topologySpreadConstraints:
  - maxSkew: 1
    topologyKey: kubernetes.io/hostname
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels: {{- include "orkestra.selector" . | nindent 8 }}
{{- end }}

{{/* The services that run in this mode, as a JSON object: component to what it is. */}}
{{- define "orkestra.services" -}}
{{- if eq .Values.mode "single" -}}
{"single": ["intake", "stager", "compiler", "executor", "watcher"]}
{{- else -}}
{"intake": ["intake"], "stager": ["stager"], "compiler": ["compiler"], "executor": ["executor"], "watcher": ["watcher"]}
{{- end -}}
{{- end }}

{{/* Whether NATS is a server of its own that the chart brings. */}}
{{- define "orkestra.natsBundled" -}}
{{- if and .Values.nats.bundled (ne .Values.mode "single") }}true{{ end -}}
{{- end }}

{{/* Who speaks to NATS over the network. */}}
{{- define "orkestra.natsUsers" -}}
{{- $users := list -}}
{{- if ne .Values.mode "single" }}{{ $users = list "intake" "stager" "compiler" "executor" "watcher" "topology" "operator" "reader" }}{{ end -}}
{{- if .Values.auditor.enabled }}{{ $users = append $users "auditor" }}{{ end -}}
{{- toJson $users -}}
{{- end }}

{{/* The Secret with the credentials of a user of NATS. Takes (list root user). */}}
{{- define "orkestra.natsSecret" -}}
{{- $root := index . 0 -}}
{{- if include "orkestra.natsBundled" $root -}}
{{ include "orkestra.name" $root }}-nats-{{ index . 1 }}
{{- else -}}
{{ dig (index . 1) "name" "" $root.Values.nats.external.secrets }}
{{- end -}}
{{- end }}

{{/* The Secret with the username and password of ChartMuseum; nothing where it asks for none. Takes root. */}}
{{- define "orkestra.museumSecret" -}}
{{- if .Values.chartmuseum.auth.secret }}{{ .Values.chartmuseum.auth.secret }}
{{- else if .Values.chartmuseum.bundled }}{{ include "orkestra.name" . }}-chartmuseum
{{- end }}
{{- end }}

{{/* Flags by which a user reaches NATS. Takes (list root user). */}}
{{- define "orkestra.natsArgs" -}}
{{- $root := index . 0 -}}
{{- $user := index . 1 -}}
{{- if include "orkestra.natsBundled" $root }}
- --nats-url=tls://{{ include "orkestra.name" $root }}-nats.{{ $root.Release.Namespace }}.svc:4222
- --nats-ca=/etc/orkestra/nats/ca.crt
- --nats-cert=/etc/orkestra/nats/tls.crt
- --nats-key=/etc/orkestra/nats/tls.key
{{- else }}
- --nats-url={{ $root.Values.nats.external.url }}
{{- range $flag, $file := dig $user "files" (dict) $root.Values.nats.external.secrets }}
- --nats-{{ $flag }}=/etc/orkestra/nats/{{ $file }}
{{- end }}
{{- end }}
{{- end }}

{{/* The flags that all services have. Takes root. */}}
{{- define "orkestra.commonArgs" -}}
- --cluster-name={{ .Values.clusterName }}
- --log-level={{ .Values.log.level }}
- --log-format={{ .Values.log.format }}
- --health-addr=:8081
- --metrics-addr=:8080
{{- end }}

{{/* The flags that only some service has. Takes (list root service). */}}
{{- define "orkestra.serviceArgs" -}}
{{- $root := index . 0 -}}
{{- $service := index . 1 -}}
{{- if eq $service "intake" }}
{{- if $root.Values.admission.enabled }}
- --webhook-addr=:9443
- --webhook-cert-dir=/etc/orkestra/webhook
{{- end }}
{{- if $root.Values.receivers.enabled }}
- --receiver-addr=:9292
{{- if $root.Values.receivers.tlsSecret }}
- --receiver-tls-cert=/etc/orkestra/receiver/tls.crt
- --receiver-tls-key=/etc/orkestra/receiver/tls.key
{{- end }}
{{- end }}
{{- else if eq $service "stager" }}
{{- if $root.Values.chartmuseum.bundled }}
- --chartmuseum-url=http://{{ include "orkestra.name" $root }}-chartmuseum.{{ $root.Release.Namespace }}.svc:8080
{{- else }}
- --chartmuseum-url={{ $root.Values.chartmuseum.external.url }}
{{- end }}
- --artifact-addr=:9790
- --artifact-url=http://{{ include "orkestra.name" $root }}-stager.{{ $root.Release.Namespace }}.svc
{{- with include "orkestra.museumSecret" $root }}
- --staging-credentials=/etc/orkestra/chartmuseum
- --staging-secret={{ . }}
{{- end }}
{{- else if eq $service "compiler" }}
- --executor-image={{ include "orkestra.image" (list $root "orkestra-executor") }}
- --executor-service-account={{ include "orkestra.name" $root }}-workflow
{{- end }}
{{- end }}

{{/* Probes of a service of ours. */}}
{{- define "orkestra.probes" -}}
startupProbe:
  httpGet: {path: /healthz, port: health}
  periodSeconds: 2
  failureThreshold: 60
livenessProbe:
  httpGet: {path: /healthz, port: health}
  periodSeconds: 10
readinessProbe:
  httpGet: {path: /readyz, port: health}
  periodSeconds: 5
{{- end }}

{{/* Who makes the streams: a process of its own (await), or each service (ensure). */}}
{{- define "orkestra.natsTopology" -}}
{{- if include "orkestra.natsBundled" . }}await{{ else }}{{ .Values.nats.external.topology }}{{ end -}}
{{- end }}

{{/* A claim for a disk. Takes (list name persistence). */}}
{{- define "orkestra.claim" -}}
{{- $p := index . 1 -}}
metadata:
  name: {{ index . 0 }}
spec:
  accessModes: [ReadWriteOnce]
  {{- with $p.storageClass }}
  storageClassName: {{ . }}
  {{- end }}
  resources: {requests: {storage: {{ $p.size }}}}
{{- end }}
