package gather

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sync/errgroup"
	admissionv1 "k8s.io/api/admissionregistration/v1"
	appsv1 "k8s.io/api/apps/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"orkestra.dev/api/v1alpha1"
	"orkestra.dev/cli/internal/doctor"
)

// together is how many questions about permissions are asked at a time.
const together = 16

// access asks the API server what each service may do of what it needs.
func (c *cluster) access(ctx context.Context) ([]doctor.Access, error) {
	accounts, err := c.accounts(ctx)
	if err != nil {
		return nil, err
	}
	out := make([]doctor.Access, len(doctor.Accounts))
	for i, service := range doctor.Accounts {
		out[i] = doctor.Access{Service: service, Account: cmp.Or(accounts[service], accounts["single"], "orkestra-"+service)}
		if service == "workflow" {
			out[i].Account = cmp.Or(accounts[service], "orkestra-"+service)
		}
		if err := c.rights(ctx, &out[i]); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// accounts that the Deployments of the chart run as, by component.
func (c *cluster) accounts(ctx context.Context) (map[string]string, error) {
	var list appsv1.DeploymentList
	if err := c.List(ctx, &list, client.InNamespace(c.options.Namespace), client.MatchingLabels{labelName: "orkestra"}); err != nil {
		return nil, err
	}
	out := map[string]string{}
	for i := range list.Items {
		d := &list.Items[i]
		out[d.Labels[labelComponent]] = d.Spec.Template.Spec.ServiceAccountName
	}
	return out, nil
}

func (c *cluster) rights(ctx context.Context, a *doctor.Access) error {
	err := c.Get(ctx, client.ObjectKey{Namespace: c.options.Namespace, Name: a.Account}, &corev1.ServiceAccount{})
	if apierrors.IsNotFound(err) {
		a.Missing = true
		return nil
	}
	if err != nil {
		return err
	}
	needs, err := doctor.Needs(a.Service, c.options.Namespace)
	if err != nil {
		return err
	}
	allowed := make([]bool, len(needs))
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(together)
	for i, n := range needs {
		g.Go(func() error {
			review := authorizationv1.SubjectAccessReview{Spec: authorizationv1.SubjectAccessReviewSpec{
				User:   "system:serviceaccount:" + c.options.Namespace + ":" + a.Account,
				Groups: []string{"system:serviceaccounts", "system:serviceaccounts:" + c.options.Namespace, "system:authenticated"},
				ResourceAttributes: &authorizationv1.ResourceAttributes{
					Namespace: n.Namespace, Verb: n.Verb, Group: n.Group, Resource: n.Resource, Subresource: n.Subresource,
				},
			}}
			if err := c.Create(ctx, &review); err != nil {
				return fmt.Errorf("asking what %s may do: %w", a.Account, err)
			}
			allowed[i] = review.Status.Allowed
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	for i, n := range needs {
		if !allowed[i] {
			a.Denied = append(a.Denied, n)
		}
	}
	return nil
}

// admission has the API server take a group that contradicts itself, as a dry run: nothing
// is stored, whatever it says.
func (c *cluster) admission(ctx context.Context) (doctor.Admission, error) {
	var out doctor.Admission
	var validating admissionv1.ValidatingWebhookConfigurationList
	var mutating admissionv1.MutatingWebhookConfigurationList
	if err := errors.Join(c.List(ctx, &validating), c.List(ctx, &mutating)); err != nil {
		return out, err
	}
	for i := range validating.Items {
		for _, w := range validating.Items[i].Webhooks {
			if aboutGroups(w.Rules) {
				out.Webhooks = append(out.Webhooks, doctor.Webhook{Name: w.Name, CABundle: w.ClientConfig.CABundle})
			}
		}
	}
	for i := range mutating.Items {
		for _, w := range mutating.Items[i].Webhooks {
			if aboutGroups(w.Rules) {
				out.Webhooks = append(out.Webhooks, doctor.Webhook{Name: w.Name, CABundle: w.ClientConfig.CABundle, Mutating: true})
			}
		}
	}
	err := c.Create(ctx, contradiction(), client.DryRunAll)
	if ctx.Err() != nil {
		return out, ctx.Err()
	}
	if err != nil {
		var status apierrors.APIStatus
		if !errors.As(err, &status) {
			return out, err
		}
		out.Refusal = err.Error()
	}
	return out, nil
}

func aboutGroups(rules []admissionv1.RuleWithOperations) bool {
	return slices.ContainsFunc(rules, func(r admissionv1.RuleWithOperations) bool {
		return slices.Contains(r.APIGroups, v1alpha1.GroupVersion.Group) && slices.Contains(r.Resources, "applicationgroups")
	})
}

// contradiction is a group of which each application waits for the other; see doctor.Cycle.
// What a policy of tenants may ask for, it has.
func contradiction() *v1alpha1.ApplicationGroup {
	application := func(name, after string) v1alpha1.Application {
		return v1alpha1.Application{
			DAG: v1alpha1.DAG{Name: name, Dependencies: []string{after}},
			Spec: v1alpha1.ApplicationSpec{
				Chart:   v1alpha1.ChartRef{URL: "https://charts.example.com", Name: "none", Version: "1.0.0"},
				Release: v1alpha1.Release{TargetNamespace: "default", ServiceAccountName: "default"},
			},
		}
	}
	return &v1alpha1.ApplicationGroup{
		ObjectMeta: metav1.ObjectMeta{GenerateName: "orkestra-doctor-"},
		Spec:       v1alpha1.ApplicationGroupSpec{Applications: []v1alpha1.Application{application("a", "b"), application("b", "a")}},
	}
}

func (c *cluster) policies(ctx context.Context) ([]doctor.Policy, error) {
	var bindings admissionv1.ValidatingAdmissionPolicyBindingList
	if err := c.List(ctx, &bindings); err != nil {
		return nil, err
	}
	var out []doctor.Policy
	for _, name := range doctor.Policies() {
		var policy admissionv1.ValidatingAdmissionPolicy
		err := c.Get(ctx, client.ObjectKey{Name: name}, &policy)
		if apierrors.IsNotFound(err) {
			continue
		}
		if err != nil {
			return nil, err
		}
		p := doctor.Policy{Name: name}
		for i := range bindings.Items {
			b := &bindings.Items[i].Spec
			p.Denies = p.Denies || b.PolicyName == name && slices.Contains(b.ValidationActions, admissionv1.Deny)
		}
		if policy.Status.TypeChecking != nil {
			for _, w := range policy.Status.TypeChecking.ExpressionWarnings {
				p.Warnings = append(p.Warnings, w.Warning)
			}
		}
		out = append(out, p)
	}
	return out, nil
}
