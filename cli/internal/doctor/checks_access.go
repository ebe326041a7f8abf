package doctor

import (
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"slices"
	"strings"
	"time"
)

func permissions(v *visit) {
	if v.Access.Err != nil {
		v.unseen("What the services may do", v.Access.Err)
		return
	}
	var missing []string
	for _, a := range v.Access.Value {
		switch {
		case a.Missing:
			missing = append(missing, a.Account)
		case len(a.Denied) > 0:
			denied := make([]string, len(a.Denied))
			for i, n := range a.Denied {
				denied[i] = n.String()
			}
			v.find(Problem, "permission-missing", fmt.Sprintf("%s (service account %s) may not: %s.", a.Service, a.Account, some(denied)),
				"What it needs that for fails, time and again.", "give the role back: helm upgrade Orkestra's chart, whose folder rbac says what each needs")
		}
	}
	v.say("of %d service accounts", len(v.Access.Value)-len(missing))
	if len(missing) > 0 {
		v.find(Unknown, "account-missing", fmt.Sprintf("Namespace %s has no service account %s.", v.Namespace, some(missing)),
			"What these services may do is not known: they run as somebody else, or not at all.", "run it with --namespace where Orkestra is, or helm upgrade its chart")
	}
}

// Cycle is how the applications of the group that has to be refused depend on each other.
const Cycle = "a -> b -> a"

// soon is how long before the end of a certificate somebody should know.
const soon = 14 * 24 * time.Hour

func admission(v *visit) {
	if v.Admission.Err != nil {
		v.unseen("Admission", v.Admission.Err)
		return
	}
	a := v.Admission.Value
	const why = "Groups that contradict themselves get in, and fail later; with failurePolicy Fail nobody can write a group at all."
	reach := fmt.Sprintf("kubectl get validatingwebhookconfigurations, and see that intake runs with --webhook-addr and that %s is its address and CA", "clientConfig")
	validating := slices.ContainsFunc(a.Webhooks, func(w Webhook) bool { return !w.Mutating })
	switch {
	case strings.Contains(a.Refusal, Cycle):
		v.say("refuses a group with a cycle")
	case !validating:
		v.find(Problem, "webhook-missing", "No validating webhook is asked about groups, and one with a cycle was taken (as a dry run).", why, "helm upgrade Orkestra's chart with admission.enabled=true")
	case a.Refusal == "":
		v.find(Problem, "webhook-unreachable", "The API server could not ask the admission webhook: it took a group with a cycle (as a dry run).", why, reach)
	case strings.Contains(a.Refusal, "failed calling webhook"):
		v.find(Problem, "webhook-unreachable", "The API server cannot ask the admission webhook: "+a.Refusal, why, reach)
	default:
		v.find(Unknown, "webhook-not-asked", "A group with a cycle was refused for another reason, before the webhook was asked: "+a.Refusal, "Whether the webhook answers is not known.", "run it as somebody who may create groups")
	}
	if len(a.Webhooks) > 0 && !slices.ContainsFunc(a.Webhooks, func(w Webhook) bool { return w.Mutating }) {
		v.find(Warning, "webhook-not-stamping", "No mutating webhook notes who changed a group.", "The audit trail does not say who asked for a rollout.", "helm upgrade Orkestra's chart with admission.enabled=true")
	}
	for _, w := range a.Webhooks {
		v.authority(w)
	}
}

// authority that a webhook's certificate is checked with.
func (v *visit) authority(w Webhook) {
	const renew = "renew it: helm upgrade Orkestra's chart, or see cert-manager's Certificate"
	for rest := w.CABundle; len(rest) > 0; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		c, err := x509.ParseCertificate(block.Bytes)
		switch {
		case err != nil:
			v.find(Problem, "webhook-certificate", fmt.Sprintf("The caBundle of webhook %s cannot be read: %v", w.Name, err), "The API server trusts no answer of intake.", renew)
		case v.Now.After(c.NotAfter):
			v.find(Problem, "webhook-certificate", fmt.Sprintf("The authority of webhook %s has expired on %s.", w.Name, c.NotAfter.UTC().Format(time.DateOnly)), "The API server trusts no answer of intake.", renew)
		case v.Now.Add(soon).After(c.NotAfter):
			v.find(Warning, "webhook-certificate", fmt.Sprintf("The authority of webhook %s expires on %s.", w.Name, c.NotAfter.UTC().Format(time.DateOnly)), "After that the API server trusts no answer of intake.", renew)
		}
	}
}

// fences are the policies that there have to be, and why.
var fences = []struct{ name, why string }{
	{"orkestra-helmrelease-fence", "A release of an older generation may be written over that of a newer one."},
	{"orkestra-changed-by", "Whoever writes a group may say that somebody else did."},
}

// Policies are the names of those that there have to be.
func Policies() []string {
	out := make([]string, len(fences))
	for i, f := range fences {
		out[i] = f.name
	}
	return out
}

func policies(v *visit) {
	if v.Policies.Err != nil {
		v.unseen("The admission policies", v.Policies.Err)
		return
	}
	v.say("%d of %d are there", len(v.Policies.Value), len(fences))
	const do = "kubectl apply -f deploy/policies, or helm upgrade Orkestra's chart with policies.install=true"
	for _, want := range fences {
		i := slices.IndexFunc(v.Policies.Value, func(p Policy) bool { return p.Name == want.name })
		switch {
		case i < 0:
			v.find(Problem, "policy-missing", fmt.Sprintf("There is no ValidatingAdmissionPolicy %s.", want.name), want.why, do)
		case !v.Policies.Value[i].Denies:
			v.find(Problem, "policy-unbound", fmt.Sprintf("No binding of the ValidatingAdmissionPolicy %s denies.", want.name), want.why, do)
		case len(v.Policies.Value[i].Warnings) > 0:
			v.find(Warning, "policy-warning", fmt.Sprintf("The API server says of the ValidatingAdmissionPolicy %s: %s", want.name, v.Policies.Value[i].Warnings[0]), want.why, do)
		}
	}
}
