package stack

import (
	"errors"
	"strings"
)

// AuditLog is the file in which the API server writes a line of JSON (audit.k8s.io/v1, Event) for each request of one of
// our services, where Options.Audit says so: who, what, and whether that was allowed; not the content.
func (s *Stack) AuditLog() string { return s.layout.path("log", "audit.log") }

// audit is the flags of the API server for that, and writes the policy that they name.
func (p *planner) audit() []string {
	users := make([]string, len(Accounts))
	for i, service := range Accounts {
		users[i] = "'system:serviceaccount:" + Namespace + ":" + accountName(service) + "'"
	}
	policy := `apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
  - level: Metadata
    users: [` + strings.Join(users, ", ") + `]
    omitManagedFields: true
  - level: None
`
	path := p.path("audit-policy.yaml")
	p.err = errors.Join(p.err, writeFile(path, []byte(policy), 0o600))
	return []string{"--audit-policy-file", path, "--audit-log-path", p.path("log", "audit.log"), "--audit-log-mode", "batch",
		"--audit-log-batch-max-wait", "1s"}
}
