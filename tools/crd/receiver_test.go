package main

import (
	"context"
	"strings"
	"testing"

	crdvalidation "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/validation"
)

const receiverFile = "../../deploy/crds/orkestra.azure.microsoft.com_receivers.yaml"

func TestTheCRDOfReceiversIsValid(t *testing.T) {
	if errs := crdvalidation.ValidateCustomResourceDefinition(context.Background(), load(t, receiverFile)); len(errs) > 0 {
		t.Errorf("an API server would refuse the CRD: %v", errs.ToAggregate())
	}
}

func TestReceivers(t *testing.T) {
	server := newAPIServer(t, receiverFile)
	const head = "apiVersion: orkestra.azure.microsoft.com/v1alpha1\nkind: Receiver\nmetadata: {name: ci, namespace: orkestra}\nspec:\n"
	for name, tt := range map[string]struct{ spec, want string }{
		"The least":           {"  {type: github, secretRef: {name: t}, groups: {selector: {}}}", ""},
		"All of it":           {"  {type: generic-hmac, events: [deploy], secretRef: {name: t}, groups: {names: [a], selector: {matchLabels: {a: b}}}, registries: [{prefix: 'ghcr.io/a', as: 'mirror:5000/a'}], deploy: {fields: [version, values], applications: [a]}, dryRun: true, suspend: true, rateLimit: {requests: 5}}", ""},
		"No groups":           {"  {type: github, secretRef: {name: t}, groups: {}}", "{} selects all"},
		"No Secret":           {"  {type: github, groups: {selector: {}}}", "secretRef"},
		"Another type":        {"  {type: pigeon, secretRef: {name: t}, groups: {selector: {}}}", "spec.type"},
		"Deploys of GitHub":   {"  {type: github, secretRef: {name: t}, groups: {selector: {}}, deploy: {fields: [version]}}", "generic-hmac or cloudevents only"},
		"Another field":       {"  {type: generic-hmac, secretRef: {name: t}, groups: {selector: {}}, deploy: {fields: [targetNamespace]}}", "fields"},
		"A registry's scheme": {"  {type: oci, secretRef: {name: t}, groups: {selector: {}}, registries: [{prefix: 'https://ghcr.io'}]}", "prefix"},
		"A limit of nothing":  {"  {type: oci, secretRef: {name: t}, groups: {selector: {}}, rateLimit: {requests: 0}}", "requests"},
		"In no time":          {"  {type: oci, secretRef: {name: t}, groups: {selector: {}}, rateLimit: {requests: 1, period: 0s}}", "a duration such as"},
		"A field of nobody's": {"  {type: oci, secretRef: {name: t}, groups: {selector: {}}, token: x}", "unknown field"},
	} {
		t.Run(name, func(t *testing.T) {
			_, told := server.admit([]byte(head + tt.spec))
			all := strings.Join(told, "\n")
			if (tt.want == "") != (all == "") || !strings.Contains(all, tt.want) {
				t.Errorf("told %q, want %q", all, tt.want)
			}
		})
	}
}
