package doctor

import (
	"embed"
	"fmt"
	"strings"

	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"
)

// rules are those of the Helm chart; a test keeps them the same.
//
//go:generate sh -c "cp ../../../deploy/charts/orkestra/rbac/*.yaml needs/ && rm needs/argo.yaml needs/*-controller.yaml needs/waits.yaml"
//go:embed needs/*.yaml
var rules embed.FS

// Accounts are the services, and workflow for the pods of workflows, that have a
// service account each.
var Accounts = []string{"intake", "stager", "compiler", "executor", "watcher", "workflow"}

// Need is one thing that a service has to be able to do.
type Need struct {
	Verb, Group, Resource, Subresource string
	// Namespace is empty for the whole cluster.
	Namespace string
}

func (n Need) String() string {
	what := n.Resource
	if n.Group != "" {
		what += "." + n.Group
	}
	if n.Subresource != "" {
		what += "/" + n.Subresource
	}
	if n.Namespace == "" {
		return n.Verb + " " + what
	}
	return n.Verb + " " + what + " in " + n.Namespace
}

// Needs of a service in an installation in a namespace.
func Needs(service, namespace string) ([]Need, error) {
	raw, err := rules.ReadFile("needs/" + service + ".yaml")
	if err != nil {
		return nil, fmt.Errorf("reading the needs of %s: %w", service, err)
	}
	var scopes struct {
		Cluster   []rbacv1.PolicyRule `json:"cluster"`
		Namespace []rbacv1.PolicyRule `json:"namespace"`
		Default   []rbacv1.PolicyRule `json:"default"`
	}
	if err := yaml.UnmarshalStrict(raw, &scopes); err != nil {
		return nil, fmt.Errorf("reading the needs of %s: %w", service, err)
	}
	out := needsOf(scopes.Cluster, "")
	out = append(out, needsOf(scopes.Namespace, namespace)...)
	return append(out, needsOf(scopes.Default, metav1.NamespaceDefault)...), nil
}

func needsOf(rules []rbacv1.PolicyRule, namespace string) []Need {
	var out []Need
	for _, r := range rules {
		for _, group := range r.APIGroups {
			for _, resource := range r.Resources {
				for _, verb := range r.Verbs {
					name, sub, _ := strings.Cut(resource, "/")
					out = append(out, Need{Verb: verb, Group: group, Resource: name, Subresource: sub, Namespace: namespace})
				}
			}
		}
	}
	return out
}
