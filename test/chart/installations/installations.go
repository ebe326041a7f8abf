// Package installations has the ways in which the chart is installed that the tests go through.
package installations

// Installation is one of them.
type Installation struct {
	// Values of the chart; what is not there has its default.
	Values map[string]any
	// APIs that the cluster serves before, as <group>/<version>/<kind>.
	APIs []string
	// Has and HasNot are objects that there are and are not, as "<kind> <name>".
	Has, HasNot []string
}

type values = map[string]any

// All are the installations by what is special about them.
func All() map[string]Installation {
	return map[string]Installation{
		"as it comes": {
			Has: []string{
				"Deployment orkestra-intake", "Deployment orkestra-watcher", "Deployment orkestra-topology", "StatefulSet orkestra-nats",
				"StatefulSet orkestra-chartmuseum", "Deployment workflow-controller", "Deployment helm-controller", "Deployment source-controller", "Service orkestra-stager",
				"ValidatingWebhookConfiguration orkestra", "MutatingWebhookConfiguration orkestra", "Secret orkestra-webhook", "Secret orkestra-chartmuseum",
				"CustomResourceDefinition applicationgroups.orkestra.azure.microsoft.com", "CustomResourceDefinition workflows.argoproj.io",
				"CustomResourceDefinition helmreleases.helm.toolkit.fluxcd.io", "ValidatingAdmissionPolicy orkestra-helmrelease-fence",
				"PodDisruptionBudget orkestra-executor", "NetworkPolicy orkestra-nats", "NetworkPolicy workflow-controller",
			},
			HasNot: []string{"StatefulSet orkestra-auditor", "ValidatingAdmissionPolicy orkestra-tenancy", "Deployment orkestra-single"},
		},
		"one process": {
			Values: values{"mode": "single"},
			Has:    []string{"Deployment orkestra-single", "PersistentVolumeClaim orkestra-data", "ClusterRole orkestra-intake", "ClusterRole orkestra-watcher"},
			HasNot: []string{"Deployment orkestra-intake", "StatefulSet orkestra-nats", "Deployment orkestra-topology", "Secret orkestra-nats-intake"},
		},
		"beside what is there": {
			Values: values{
				"argo": values{"install": false}, "flux": values{"install": false},
				"chartmuseum": values{"bundled": false, "external": values{"url": "https://charts.example.com"}},
				"nats": values{"bundled": false, "external": values{
					"url": "tls://nats.example.com:4222", "topology": "await",
					"secrets": values{"intake": values{"name": "nats-intake", "files": values{"creds": "user.creds", "ca": "ca.crt"}}},
				}},
			},
			APIs: []string{
				"argoproj.io/v1alpha1/Workflow", "argoproj.io/v1alpha1/WorkflowTaskResult",
				"helm.toolkit.fluxcd.io/v2/HelmRelease", "source.toolkit.fluxcd.io/v1/HelmChart",
			},
			Has: []string{"Deployment orkestra-intake", "CustomResourceDefinition applicationgroups.orkestra.azure.microsoft.com"},
			HasNot: []string{
				"StatefulSet orkestra-nats", "StatefulSet orkestra-chartmuseum", "Deployment workflow-controller", "Deployment helm-controller",
				"CustomResourceDefinition workflows.argoproj.io", "CustomResourceDefinition helmreleases.helm.toolkit.fluxcd.io", "Secret orkestra-nats-intake",
				"Secret orkestra-chartmuseum",
			},
		},
		"with everything": {
			Values: values{
				"auditor": values{"enabled": true}, "receivers": values{"enabled": true, "tlsSecret": "receiver-tls"}, "imagePullSecrets": []any{values{"name": "registry"}},
				"admission": values{"certificates": "cert-manager", "failurePolicy": "Fail"}, "monitoring": values{"serviceMonitors": true, "labels": values{"team": "platform"}},
				"nats":        values{"replicas": 3, "certificates": "cert-manager"},
				"certManager": values{"issuer": values{"name": "internal", "kind": "ClusterIssuer"}},
				"autoscaling": values{"kind": "keda"}, "flux": values{"sourceController": values{"persistence": values{"enabled": true}}},
				"scheduling":      values{"priorityClassName": "system-cluster-critical", "nodeSelector": values{"pool": "platform"}, "tolerations": []any{values{"key": "platform", "operator": "Exists"}}},
				"waits":           values{"rules": []any{values{"apiGroups": []any{"cert-manager.io"}, "resources": []any{"certificates"}, "verbs": []any{"get"}}}},
				"networkPolicies": values{"monitoringNamespaces": values{"matchLabels": values{"monitoring": "true"}}, "dnsPorts": []any{53, 5353}, "egress": []any{values{"ports": []any{values{"port": 4318}}}}},
			},
			APIs: []string{"cert-manager.io/v1/Certificate", "keda.sh/v1alpha1/ScaledObject", "monitoring.coreos.com/v1/ServiceMonitor"},
			Has: []string{
				"StatefulSet orkestra-auditor", "Certificate orkestra-webhook", "Certificate orkestra-nats-auditor", "ScaledObject orkestra-stager",
				"HorizontalPodAutoscaler orkestra-watcher", "ServiceMonitor orkestra-intake", "PersistentVolumeClaim source-controller",
			},
			HasNot: []string{"Secret orkestra-webhook", "Secret orkestra-nats-intake", "ScaledObject orkestra-watcher"},
		},
		"for tenants": {
			Values: values{
				"tenancy": values{"crossNamespaceReferences": "Refuse", "requireServiceAccount": true, "defaultServiceAccount": "tenant"},
				"flux":    values{"clusterAdmin": false}, "autoscaling": values{"kind": "hpa"},
			},
			Has:    []string{"ValidatingAdmissionPolicy orkestra-tenancy", "ValidatingAdmissionPolicyBinding orkestra-tenancy", "HorizontalPodAutoscaler orkestra-stager"},
			HasNot: []string{"ClusterRoleBinding orkestra-helm-controller-admin"},
		},
		"bare": {
			Values: values{
				"admission": values{"enabled": false}, "policies": values{"install": false}, "networkPolicies": values{"enabled": false},
				"nameOverride": "ork", "image": values{"registry": "registry.example.com:5000/ork", "tag": "v9.9.9"},
			},
			Has:    []string{"Deployment ork-intake", "ServiceAccount ork-workflow"},
			HasNot: []string{"ValidatingWebhookConfiguration ork", "NetworkPolicy ork-intake", "ValidatingAdmissionPolicy orkestra-helmrelease-fence"},
		},
	}
}
