package stack

import (
	"cmp"
	"slices"
	"strings"
)

// auditor keeps the audit trail of the stack; it is no part of what rolls out.
const auditor = "auditor"

// planServices says how our own services run: flags that all have, and the few that one has for itself.
func (p *planner) planServices(o Options, natsURL, chartmuseumURL string) (services []spec, webhookURL string) {
	for _, service := range Services {
		binary, id := p.binary(serviceBinary(p.bin, service))
		for replica := range max(1, o.Replicas) {
			name := replicaName(service, replica+1)
			health, metrics := p.port(name, "health"), p.port(name, "metrics")
			s := spec{
				Name: name, Binary: id, Inputs: p.inputs, Rank: ranksServices, Ports: []int{health, metrics},
				Health: "http://" + loopback(health) + "/readyz",
				Command: []string{binary, "--kubeconfig", p.serviceKubeconfig(service),
					"--health-addr", loopback(health), "--metrics-addr", loopback(metrics),
					"--namespace", Namespace, "--log-level", cmp.Or(o.LogLevel, "info")},
				Exports: map[string]string{
					"ORKESTRA_" + variable(name) + "_HEALTH_URL":  "http://" + loopback(health) + "/healthz",
					"ORKESTRA_" + variable(name) + "_METRICS_URL": "http://" + loopback(metrics) + "/metrics",
				},
			}
			s.Command = append(s.Command, p.natsFlags(service, natsURL)...)
			s.Command = append(s.Command, "--nats-topology", "await")
			switch service {
			case "intake":
				webhook := p.port(name, "webhook")
				url := "https://" + loopback(webhook)
				s.Ports = append(s.Ports, webhook)
				s.Command = append(s.Command, "--webhook-addr", loopback(webhook), "--webhook-cert-dir", p.pki("webhook"))
				s.Exports["ORKESTRA_"+variable(name)+"_WEBHOOK_URL"] = url
				receivers := p.port(name, "receivers")
				s.Ports = append(s.Ports, receivers)
				s.Command = append(s.Command, "--receiver-addr", loopback(receivers))
				s.Exports["ORKESTRA_"+variable(name)+"_RECEIVER_URL"] = "http://" + loopback(receivers)
				// With several replicas admission asks the first: a cluster has a Service for that, loopback has not.
				webhookURL = cmp.Or(webhookURL, url)
			case "compiler":
				s.Command = append(s.Command, "--executor-service-account", accountName(workflowAccount))
				if p.node != nil {
					s.Command = append(s.Command, "--executor-image", p.node.images["orkestra-executor"].Reference)
				}
			case "stager":
				s.Command = append(s.Command, p.museumFlags(chartmuseumURL)...)
				// All replicas listen there, as behind a Service: the port is not any one's own.
				artifacts := loopback(p.port(service, "artifacts"))
				s.Command = append(s.Command, "--artifact-addr", artifacts, "--artifact-url", "http://"+artifacts)
				s.Exports["ORKESTRA_ARTIFACT_URL"] = "http://" + artifacts
			}
			s.Command = append(s.Command, o.ServiceArgs[service]...)
			services = append(services, s)
		}
	}
	return append(services, p.planAuditor(o, natsURL)), webhookURL
}

// planAuditor says how the auditor runs: one, since a folder is one auditor's, and without a cluster.
func (p *planner) planAuditor(o Options, natsURL string) spec {
	binary, id := p.binary(serviceBinary(p.bin, auditor))
	health, metrics := p.port(auditor, "health"), p.port(auditor, "metrics")
	s := spec{
		Name: auditor, Binary: id, Inputs: p.inputs, Rank: ranksServices, Ports: []int{health, metrics},
		Health: "http://" + loopback(health) + "/readyz",
		Command: append([]string{binary, "--dir", p.path("data", "audit"),
			"--health-addr", loopback(health), "--metrics-addr", loopback(metrics),
			"--log-level", cmp.Or(o.LogLevel, "info")}, p.natsFlags(auditor, natsURL)...),
		Exports: map[string]string{
			"ORKESTRA_AUDIT_DIR":           p.path("data", "audit"),
			"ORKESTRA_AUDITOR_METRICS_URL": "http://" + loopback(metrics) + "/metrics",
		},
	}
	s.Command = append(s.Command, o.ServiceArgs[auditor]...)
	return s
}

// programs are all of our own processes.
func programs() []string { return append(slices.Clone(Services), auditor) }

// isService tells whether a process is a replica of one of our services.
func isService(process string) bool {
	return process == topologyProcess ||
		slices.ContainsFunc(programs(), func(s string) bool { return process == s || strings.HasPrefix(process, s+"-") })
}

// variable is a name as it is written in an environment variable.
func variable(name string) string {
	return strings.ToUpper(strings.ReplaceAll(name, "-", "_"))
}
