package stack

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"golang.org/x/sync/errgroup"
)

// Each of our services runs as a service account of its own, which may do what the chart's file of rules for it says
// (deploy/charts/orkestra/rbac) and nothing else, so that whatever runs on this stack proves that those rules suffice.

// Accounts are those of our services that ask anything of the API server.
var Accounts = []string{"intake", "stager", "compiler", "executor", "watcher"}

const (
	// tokenLife is how long a service runs at most between two times that the stack is brought up.
	tokenLife = 365 * 24 * time.Hour

	// workflowAccount is what the pods of workflows run as, waitsRole what steps of type wait may look at.
	workflowAccount = "workflow"
	waitsRole       = "orkestra-waits"
	labelWaits      = "orkestra.azure.microsoft.com/aggregate-to-waits"
)

var (
	serviceAccounts = corev1.SchemeGroupVersion.WithResource("serviceaccounts")
	accessReviews   = authorizationv1.SchemeGroupVersion.WithResource("subjectaccessreviews")
)

// rules are what one service account may do: in the whole cluster, in our namespace, and in the namespace default.
type rules struct {
	Cluster   []rbacv1.PolicyRule `json:"cluster"`
	Namespace []rbacv1.PolicyRule `json:"namespace"`
	Default   []rbacv1.PolicyRule `json:"default"`
}

// readRules reads one of the chart's files of rules. A field that is not known is an error.
func (l layout) readRules(account string) (rules, error) {
	path := filepath.Join(l.root, "deploy", "charts", "orkestra", "rbac", account+".yaml")
	b, err := os.ReadFile(path)
	if err != nil {
		return rules{}, fmt.Errorf("reading the rules of %s: %w", account, err)
	}
	var out rules
	if err := yaml.UnmarshalStrict(b, &out); err != nil {
		return rules{}, fmt.Errorf("reading the rules in %s: %w", path, err)
	}
	return out, nil
}

func accountName(service string) string { return "orkestra-" + service }

// serviceKubeconfig is the kubeconfig of all replicas of one of our services.
func (l layout) serviceKubeconfig(service string) string {
	return l.path("accounts", service+".kubeconfig")
}

func (l layout) tokenFile(service string) string { return l.path("accounts", service+".token") }

// provideAccounts makes the service accounts of our services, binds their rules, and writes a kubeconfig for each. It
// returns when the API server goes by the rules. It can be repeated: a service that runs takes up its new token.
func (s *Stack) provideAccounts(ctx context.Context, client dynamic.Interface) error {
	if err := s.provideWaits(ctx, client); err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	for _, account := range append([]string{workflowAccount}, Accounts...) {
		g.Go(func() error {
			if err := s.provideAccount(ctx, client, account); err != nil {
				return err
			}
			if account == workflowAccount {
				return nil // its pods get their tokens from Kubernetes
			}
			return s.writeServiceKubeconfig(ctx, client, account)
		})
	}
	return g.Wait()
}

// provideWaits makes the role that Kubernetes puts together of all that have the label, and the one of the chart.
func (s *Stack) provideWaits(ctx context.Context, client dynamic.Interface) error {
	r, err := s.layout.readRules("waits")
	if err != nil {
		return err
	}
	basic := clusterRole(waitsRole+"-basic", r.Cluster)
	basic.Labels = map[string]string{labelWaits: "true"}
	sum := clusterRole(waitsRole, nil)
	sum.AggregationRule = &rbacv1.AggregationRule{ClusterRoleSelectors: []metav1.LabelSelector{{MatchLabels: basic.Labels}}}
	u, err := toUnstructured(sum)
	if err != nil {
		return err
	}
	// They are the aggregating controller's.
	unstructured.RemoveNestedField(u.Object, "rules")
	return errors.Join(
		apply(ctx, client, basic),
		applyUnstructured(ctx, client, u),
		apply(ctx, client, clusterBinding(waitsRole, waitsRole, accountName("executor"))),
	)
}

// provideAccount makes a service account with its roles, and waits until they hold.
func (s *Stack) provideAccount(ctx context.Context, client dynamic.Interface, account string) error {
	r, err := s.layout.readRules(account)
	if err != nil {
		return err
	}
	name := accountName(account)
	objects := []runtime.Object{
		&corev1.ServiceAccount{
			TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "ServiceAccount"},
			ObjectMeta: metav1.ObjectMeta{Namespace: Namespace, Name: name},
		},
		clusterRole(name, r.Cluster), clusterBinding(name, name, name),
	}
	scopes := map[string][]rbacv1.PolicyRule{"": r.Cluster, Namespace: r.Namespace, metav1.NamespaceDefault: r.Default}
	for namespace, rules := range scopes {
		if namespace != "" {
			objects = append(objects, role(namespace, name, rules), binding(namespace, name))
		}
	}
	for _, o := range objects {
		if err := apply(ctx, client, o); err != nil {
			return err
		}
	}
	for namespace, rules := range scopes {
		if err := awaitAllowed(ctx, client, name, namespace, rules); err != nil {
			return err
		}
	}
	return nil
}

// awaitAllowed waits until the API server knows a role: it takes over all of its rules at once.
func awaitAllowed(ctx context.Context, client dynamic.Interface, name, namespace string, rules []rbacv1.PolicyRule) error {
	if len(rules) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	rule := rules[0]
	for {
		u, err := toUnstructured(&authorizationv1.SubjectAccessReview{
			TypeMeta: metav1.TypeMeta{APIVersion: "authorization.k8s.io/v1", Kind: "SubjectAccessReview"},
			Spec: authorizationv1.SubjectAccessReviewSpec{
				User: "system:serviceaccount:" + Namespace + ":" + name,
				ResourceAttributes: &authorizationv1.ResourceAttributes{
					Namespace: namespace, Verb: rule.Verbs[0], Group: rule.APIGroups[0], Resource: rule.Resources[0]},
			},
		})
		if err != nil {
			return err
		}
		answer, err := client.Resource(accessReviews).Create(ctx, u, metav1.CreateOptions{})
		if err != nil {
			return fmt.Errorf("asking what %s may do: %w", name, err)
		}
		allowed, _, err := unstructured.NestedBool(answer.Object, "status", "allowed")
		if err != nil || allowed {
			return err
		}
		if err := pause(ctx, probeInterval); err != nil {
			return fmt.Errorf("waiting until %s may %s %s: %w", name, rule.Verbs[0], rule.Resources[0], err)
		}
	}
}

// writeServiceKubeconfig writes the kubeconfig of a service, and the token in a file beside it, which clients read again.
func (s *Stack) writeServiceKubeconfig(ctx context.Context, client dynamic.Interface, service string) error {
	request, err := toUnstructured(&authenticationv1.TokenRequest{
		TypeMeta:   metav1.TypeMeta{APIVersion: "authentication.k8s.io/v1", Kind: "TokenRequest"},
		ObjectMeta: metav1.ObjectMeta{Namespace: Namespace, Name: accountName(service)},
		Spec:       authenticationv1.TokenRequestSpec{ExpirationSeconds: new(int64(tokenLife.Seconds()))},
	})
	if err != nil {
		return err
	}
	answer, err := client.Resource(serviceAccounts).Namespace(Namespace).Create(ctx, request, metav1.CreateOptions{}, "token")
	if err != nil {
		return fmt.Errorf("asking for a token of %s: %w", accountName(service), err)
	}
	token, found, err := unstructured.NestedString(answer.Object, "status", "token")
	if err != nil || !found {
		return errors.Join(fmt.Errorf("asking for a token of %s: there is none in the answer", accountName(service)), err)
	}
	if err := writeFile(s.layout.tokenFile(service), []byte(token), 0o600); err != nil {
		return err
	}
	config, err := clientcmd.LoadFromFile(s.Kubeconfig)
	if err != nil {
		return fmt.Errorf("reading the kubeconfig: %w", err)
	}
	if err := clientcmdapi.MinifyConfig(config); err != nil {
		return fmt.Errorf("reading the kubeconfig: %w", err)
	}
	user := config.Contexts[config.CurrentContext].AuthInfo
	config.AuthInfos = map[string]*clientcmdapi.AuthInfo{user: {TokenFile: s.layout.tokenFile(service)}}
	b, err := clientcmd.Write(*config)
	if err != nil {
		return fmt.Errorf("writing the kubeconfig of %s: %w", service, err)
	}
	return writeFile(s.layout.serviceKubeconfig(service), b, 0o600)
}

func clusterRole(name string, rules []rbacv1.PolicyRule) *rbacv1.ClusterRole {
	return &rbacv1.ClusterRole{
		TypeMeta:   metav1.TypeMeta{APIVersion: rbacv1.SchemeGroupVersion.String(), Kind: "ClusterRole"},
		ObjectMeta: metav1.ObjectMeta{Name: name}, Rules: rules,
	}
}

func clusterBinding(name, role, account string) *rbacv1.ClusterRoleBinding {
	return &rbacv1.ClusterRoleBinding{
		TypeMeta:   metav1.TypeMeta{APIVersion: rbacv1.SchemeGroupVersion.String(), Kind: "ClusterRoleBinding"},
		ObjectMeta: metav1.ObjectMeta{Name: name},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: role},
		Subjects:   subject(account),
	}
}

func role(namespace, name string, rules []rbacv1.PolicyRule) *rbacv1.Role {
	return &rbacv1.Role{
		TypeMeta:   metav1.TypeMeta{APIVersion: rbacv1.SchemeGroupVersion.String(), Kind: "Role"},
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}, Rules: rules,
	}
}

func binding(namespace, name string) *rbacv1.RoleBinding {
	return &rbacv1.RoleBinding{
		TypeMeta:   metav1.TypeMeta{APIVersion: rbacv1.SchemeGroupVersion.String(), Kind: "RoleBinding"},
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: name},
		Subjects:   subject(name),
	}
}

func subject(account string) []rbacv1.Subject {
	return []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Namespace: Namespace, Name: account}}
}
