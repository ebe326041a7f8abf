{{/* Admission by intake. Takes root, and the authority's certificate in base64; without it cert-manager puts its own in. */}}
{{- define "orkestra.webhooks" -}}
{{- $root := .root }}
{{- $ca := .ca }}
{{- $name := include "orkestra.name" $root }}
{{- range $kind, $what := dict "Validating" "validate" "Mutating" "mutate" }}
---
apiVersion: admissionregistration.k8s.io/v1
kind: {{ $kind }}WebhookConfiguration
metadata:
  name: {{ $name }}
  labels: {{- include "orkestra.labels" (list $root "intake") | nindent 4 }}
  {{- if not $ca }}
  annotations: {cert-manager.io/inject-ca-from: {{ $root.Release.Namespace }}/{{ $name }}-webhook}
  {{- end }}
webhooks:
  - name: {{ if eq $what "mutate" }}changed-by.{{ end }}applicationgroups.orkestra.azure.microsoft.com
    clientConfig:
      service:
        namespace: {{ $root.Release.Namespace }}
        name: {{ $name }}-intake
        path: /{{ $what }}-orkestra-azure-microsoft-com-v1alpha1-applicationgroup
        port: 443
      {{- with $ca }}
      caBundle: {{ . }}
      {{- end }}
    rules:
      - apiGroups: [orkestra.azure.microsoft.com]
        apiVersions: [v1alpha1]
        operations: [CREATE, UPDATE]
        resources: [applicationgroups]
        scope: Cluster
    # A group that nobody could look at is still refused by intake when it sees it. What notes who changed a group never
    # stands in the way.
    failurePolicy: {{ ternary $root.Values.admission.failurePolicy "Ignore" (eq $what "validate") }}
    {{- if eq $what "mutate" }}
    reinvocationPolicy: IfNeeded
    {{- else }}
    # Whatever leaves the spec as it is, a finalizer say, is not sent here: a group may be megabytes. The API server counts the
    # generation before it asks.
    matchConditions:
      - name: another-spec
        expression: request.operation != 'UPDATE' || object.metadata.generation != oldObject.metadata.generation
    {{- end }}
    sideEffects: None
    timeoutSeconds: {{ $root.Values.admission.timeoutSeconds }}
    admissionReviewVersions: [v1]
{{- end }}
{{- end }}
