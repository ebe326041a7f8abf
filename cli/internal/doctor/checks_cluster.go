package doctor

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/Masterminds/semver/v3"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"

	"orkestra.dev/api/v1alpha1"
)

const (
	// oldest Kubernetes that has ValidatingAdmissionPolicy as v1.
	oldest = "1.30.0"
	// skew that is more than an answer takes.
	skew = 5 * time.Second
)

func server(v *visit) {
	if v.Server.Err != nil {
		v.unseen("The API server", v.Server.Err)
		return
	}
	v.say("Kubernetes %s", v.Server.Value.Version)
	have, err := semver.NewVersion(v.Server.Value.Version)
	if err != nil {
		v.unseen("The version of Kubernetes", err)
	} else if core, err := have.SetPrerelease(""); err == nil && core.LessThan(semver.MustParse(oldest)) {
		v.find(Problem, "kubernetes-old", fmt.Sprintf("Kubernetes is %s, older than %s.", v.Server.Value.Version, oldest),
			"It has no admission policies, which keep an older generation of a group from being written over a newer one.", "upgrade the cluster")
	}
	if ahead := v.Server.Value.Ahead; ahead.Abs() > skew {
		v.find(Warning, "clock-skew", fmt.Sprintf("The API server's clock is %s %s this machine's.", ahead.Abs(), map[bool]string{true: "ahead of", false: "behind"}[ahead > 0]),
			"Ages are told wrongly, and certificates and tokens may be refused.", "set both clocks by NTP")
	}
}

// served are the CRDs that there have to be, with the version that is asked for.
var served = []struct {
	name, version string
	// from says where it comes from.
	from string
	// holds is the type that is written, where it is ours.
	holds reflect.Type
}{
	{"applicationgroups." + v1alpha1.GroupVersion.Group, "v1alpha1", ours, reflect.TypeFor[v1alpha1.ApplicationGroup]()},
	{"receivers." + v1alpha1.GroupVersion.Group, "v1alpha1", ours, reflect.TypeFor[v1alpha1.Receiver]()},
	{"workflows.argoproj.io", "v1alpha1", argoFrom, nil},
	{"workflowtaskresults.argoproj.io", "v1alpha1", argoFrom, nil},
	{"helmreleases.helm.toolkit.fluxcd.io", "v2", fluxFrom, nil},
	{"helmcharts.source.toolkit.fluxcd.io", "v1", fluxFrom, nil},
	{"helmrepositories.source.toolkit.fluxcd.io", "v1", fluxFrom, nil},
}

const (
	ours     = "kubectl apply --server-side -f deploy/crds, or upgrade the Helm chart of Orkestra"
	argoFrom = "install Argo Workflows 3.5 or newer, or the Helm chart of Orkestra with argo.install=true"
	fluxFrom = "install Flux 2.3 or newer, or the Helm chart of Orkestra with flux.install=true"
)

// CRDs are the names of those that there have to be.
func CRDs() []string {
	out := make([]string, len(served))
	for i, s := range served {
		out[i] = s.name
	}
	return out
}

// mostNamed is how many of a kind a finding names.
const mostNamed = 5

func crds(v *visit) {
	if v.CRDs.Err != nil {
		v.unseen("The CRDs", v.CRDs.Err)
		return
	}
	v.say("%d of %d are there", len(v.CRDs.Value), len(served))
	for _, want := range served {
		i := slices.IndexFunc(v.CRDs.Value, func(c apiextensionsv1.CustomResourceDefinition) bool { return c.Name == want.name })
		if i < 0 {
			v.find(Problem, "crd-missing", fmt.Sprintf("There is no CRD %s.", want.name), "No group can be rolled out without it.", want.from)
			continue
		}
		crd := v.CRDs.Value[i]
		at := slices.IndexFunc(crd.Spec.Versions, func(s apiextensionsv1.CustomResourceDefinitionVersion) bool {
			return s.Name == want.version && s.Served
		})
		switch {
		case !slices.ContainsFunc(crd.Status.Conditions, func(c apiextensionsv1.CustomResourceDefinitionCondition) bool {
			return c.Type == apiextensionsv1.Established && c.Status == apiextensionsv1.ConditionTrue
		}):
			v.find(Problem, "crd-not-established", fmt.Sprintf("The CRD %s is not established.", want.name), "The API server does not serve it.",
				"see why with kubectl describe crd "+want.name)
		case at < 0:
			v.find(Problem, "crd-version", fmt.Sprintf("The CRD %s does not serve version %s.", want.name, want.version), "That is the version that Orkestra reads and writes.", want.from)
		case want.holds != nil && crd.Spec.Versions[at].Schema != nil:
			if missing := lacking(want.holds, crd.Spec.Versions[at].Schema.OpenAPIV3Schema, ""); len(missing) > 0 {
				v.find(Problem, "crd-old", fmt.Sprintf("The CRD %s is of another release: it lacks %s.", want.name, some(missing)),
					"The API server drops these fields from what is written, without a word.", want.from)
			}
		}
	}
}

// some of many names.
func some(names []string) string {
	if len(names) > mostNamed {
		return fmt.Sprintf("%s and %d more", strings.Join(names[:mostNamed], ", "), len(names)-mostNamed)
	}
	return strings.Join(names, ", ")
}

// pipeline are the services that an event passes through, in order.
var pipeline = []string{"intake", "stager", "compiler", "executor", "watcher"}

func services(v *visit) {
	if v.Workloads.Err != nil {
		v.unseen("The Deployments", v.Workloads.Err)
	}
	components := map[string]bool{}
	for _, w := range v.Workloads.Value {
		if !w.Ours {
			continue
		}
		components[w.Component] = true
		v.ready(w)
	}
	if len(components) > 0 && !components["single"] {
		for _, name := range pipeline {
			if !components[name] {
				v.find(Problem, "service-missing", fmt.Sprintf("There is no Deployment of %s in namespace %s.", name, v.Namespace),
					"Rollouts stop where its part begins.", "helm upgrade Orkestra's chart, with the values it was installed with")
			}
		}
	}
	for _, p := range v.Probes {
		if p.Err != nil && p.Name != Shelf {
			v.find(Problem, "service-not-ready", fmt.Sprintf("%s is not ready: %v", p.Name, p.Err), "What it does is not done while it is away.",
				"look at its log; "+p.URL+" says what it waits for")
		}
	}
	switch {
	case len(components)+len(v.Probes) > 0:
		v.say("%d workloads, %d probes", len(components), len(v.Probes))
	default:
		v.say("no Deployments in namespace %s; see consumers", v.Namespace)
	}
}

func (v *visit) ready(w Workload) {
	where := fmt.Sprintf("kubectl -n %s describe %s %s", w.Namespace, strings.ToLower(w.Kind), w.Name)
	switch {
	case w.Desired == 0:
		v.find(Problem, "workload-scaled-down", fmt.Sprintf("%s %s/%s is scaled to 0.", w.Kind, w.Namespace, w.Name), "What it does is not done.",
			fmt.Sprintf("kubectl -n %s scale %s %s --replicas 1", w.Namespace, strings.ToLower(w.Kind), w.Name))
	case w.Ready == 0:
		v.find(Problem, "workload-not-ready", fmt.Sprintf("%s %s/%s has no pod that is ready, of %d.", w.Kind, w.Namespace, w.Name, w.Desired), "What it does is not done.", where)
	case w.Ready < w.Desired:
		v.find(Warning, "workload-short", fmt.Sprintf("%s %s/%s has %d ready pods of %d.", w.Kind, w.Namespace, w.Name, w.Ready, w.Desired),
			"It works, with less to spare.", where)
	}
}
