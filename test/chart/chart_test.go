// Package chart tests the Helm chart as far as that goes without a cluster: what it renders for the installations that
// docs/install.md describes, and what it refuses. What the API server makes of it is tested in e2e.
package chart

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"helm.sh/helm/v3/pkg/chart"
	"helm.sh/helm/v3/pkg/chart/loader"
	"helm.sh/helm/v3/pkg/chartutil"
	"helm.sh/helm/v3/pkg/engine"
	"helm.sh/helm/v3/pkg/lint"
	"helm.sh/helm/v3/pkg/lint/support"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/yaml"

	"orkestra.dev/test/chart/installations"
)

const folder = "../../deploy/charts/orkestra"

func load(t *testing.T) *chart.Chart {
	t.Helper()
	c, err := loader.Load(folder)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// render is the objects of an installation, in a cluster that serves those APIs as well.
func render(t *testing.T, values map[string]any, apis ...string) ([]*unstructured.Unstructured, error) {
	t.Helper()
	caps := chartutil.DefaultCapabilities.Copy()
	caps.KubeVersion = chartutil.KubeVersion{Version: "v1.34.0", Major: "1", Minor: "34"}
	caps.APIVersions = append(slices.Clone(caps.APIVersions), apis...)
	c := load(t)
	v, err := chartutil.ToRenderValues(c, values, chartutil.ReleaseOptions{Name: "orkestra", Namespace: "orkestra", IsInstall: true}, caps)
	if err != nil {
		return nil, err
	}
	files, err := engine.Render(c, v)
	if err != nil {
		return nil, err
	}
	var out []*unstructured.Unstructured
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if strings.HasSuffix(name, ".txt") {
			continue
		}
		out = append(out, parse(t, name, files[name])...)
	}
	return out, nil
}

// parse reads the objects of a manifest.
func parse(t *testing.T, name, manifest string) []*unstructured.Unstructured {
	t.Helper()
	var out []*unstructured.Unstructured
	for _, document := range regexp.MustCompile(`(?m)^---$`).Split(manifest, -1) {
		u := &unstructured.Unstructured{}
		if err := yaml.Unmarshal([]byte(document), &u.Object); err != nil {
			t.Fatalf("%s: %v\n%s", name, err, document)
		}
		if len(u.Object) > 0 {
			out = append(out, u)
		}
	}
	return out
}

// mustRender renders an installation that is one of those that there are.
func mustRender(t *testing.T, i installations.Installation) []*unstructured.Unstructured {
	t.Helper()
	objects, err := render(t, i.Values, i.APIs...)
	if err != nil {
		t.Fatal(err)
	}
	return objects
}

func TestLint(t *testing.T) {
	for name, i := range installations.All() {
		t.Run(name, func(t *testing.T) {
			for _, m := range lint.All(folder, i.Values, "orkestra", false).Messages {
				// It knows no API of the cluster, and the chart says then what is missing.
				if m.Severity >= support.WarningSev && !strings.Contains(m.Err.Error(), "does not serve") && !strings.Contains(m.Err.Error(), "icon is recommended") {
					t.Errorf("%s: %v", m.Path, m.Err)
				}
			}
		})
	}
}

// podsOf is the pod, or the template of pods, of an object, if it has one.
func podOf(t *testing.T, u *unstructured.Unstructured) *corev1.PodSpec {
	t.Helper()
	path := []string{"spec", "template", "spec"}
	if u.GetKind() == "Pod" {
		path = []string{"spec"}
	}
	content, found, err := unstructured.NestedMap(u.Object, path...)
	if err != nil || !found {
		return nil
	}
	spec := &corev1.PodSpec{}
	if err := runtime.DefaultUnstructuredConverter.FromUnstructuredWithValidation(content, spec, true); err != nil {
		t.Fatalf("%s %s: %v", u.GetKind(), u.GetName(), err)
	}
	return spec
}

// Every container keeps to the standard "restricted" of Pod Security, and to more: nothing is written to its image, and it
// says what it needs.
func TestPodsAreRestricted(t *testing.T) {
	for name, i := range installations.All() {
		t.Run(name, func(t *testing.T) {
			pods := 0
			for _, u := range mustRender(t, i) {
				spec := podOf(t, u)
				if spec == nil {
					continue
				}
				pods++
				if err := restricted(spec); err != nil {
					t.Errorf("%s %s: %v", u.GetKind(), u.GetName(), err)
				}
			}
			if pods == 0 {
				t.Error("there is no pod")
			}
		})
	}
}

func restricted(spec *corev1.PodSpec) error {
	p := spec.SecurityContext
	if p == nil || p.RunAsNonRoot == nil || !*p.RunAsNonRoot || p.SeccompProfile == nil || p.SeccompProfile.Type != corev1.SeccompProfileTypeRuntimeDefault {
		return fmt.Errorf("the pod may run as root, or any system call")
	}
	if spec.HostNetwork || spec.HostPID || spec.HostIPC {
		return fmt.Errorf("the pod shares the host's namespaces")
	}
	if spec.ServiceAccountName == "" || spec.ServiceAccountName == "default" {
		return fmt.Errorf("the pod has no service account of its own")
	}
	for _, v := range spec.Volumes {
		if v.HostPath != nil {
			return fmt.Errorf("volume %s is a folder of the host", v.Name)
		}
	}
	for _, c := range append(slices.Clone(spec.InitContainers), spec.Containers...) {
		s := c.SecurityContext
		switch {
		case s == nil || s.AllowPrivilegeEscalation == nil || *s.AllowPrivilegeEscalation:
			return fmt.Errorf("container %s may gain privileges", c.Name)
		case s.Capabilities == nil || !slices.Equal(s.Capabilities.Drop, []corev1.Capability{"ALL"}) || len(s.Capabilities.Add) > 0:
			return fmt.Errorf("container %s has capabilities", c.Name)
		case s.ReadOnlyRootFilesystem == nil || !*s.ReadOnlyRootFilesystem:
			return fmt.Errorf("container %s may write to its image", c.Name)
		case c.Resources.Limits.Memory().IsZero() || c.Resources.Requests.Cpu().IsZero():
			return fmt.Errorf("container %s does not say what it needs", c.Name)
		case strings.HasSuffix(c.Image, ":latest") || !regexp.MustCompile(`/[a-z-]+:v[0-9]`).MatchString(c.Image):
			return fmt.Errorf("container %s: image %s has no version", c.Name, c.Image)
		}
	}
	return nil
}

// rulesOf are the rules of all roles of a kind, by namespace and name.
func rulesOf(t *testing.T, objects []*unstructured.Unstructured) map[string][]rbacv1.PolicyRule {
	t.Helper()
	out := map[string][]rbacv1.PolicyRule{}
	for _, u := range objects {
		if u.GetKind() != "Role" && u.GetKind() != "ClusterRole" {
			continue
		}
		role := &rbacv1.ClusterRole{}
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(u.Object, role); err != nil {
			t.Fatal(err)
		}
		out[u.GetNamespace()+"/"+u.GetName()] = role.Rules
	}
	return out
}

func TestNoWildcards(t *testing.T) {
	for name, i := range installations.All() {
		t.Run(name, func(t *testing.T) {
			for role, rules := range rulesOf(t, mustRender(t, i)) {
				for _, r := range rules {
					all := slices.Concat(r.Verbs, r.Resources, r.APIGroups, r.NonResourceURLs)
					if slices.ContainsFunc(all, func(s string) bool { return strings.Contains(s, "*") }) {
						t.Errorf("%s: %v", role, r)
					}
				}
			}
		})
	}
}

// The roles are those of the files that the local stack, and so every e2e test, runs with.
func TestRolesAreThoseThatAreTested(t *testing.T) {
	got := rulesOf(t, mustRender(t, installations.Installation{}))
	for _, service := range []string{"intake", "stager", "compiler", "executor", "watcher", "workflow"} {
		b, err := os.ReadFile(filepath.Join(folder, "rbac", service+".yaml"))
		if err != nil {
			t.Fatal(err)
		}
		var want map[string][]rbacv1.PolicyRule
		if err := yaml.UnmarshalStrict(b, &want); err != nil {
			t.Fatal(err)
		}
		for scope, namespace := range map[string]string{"cluster": "", "namespace": "orkestra", "default": "default"} {
			if diff := cmp.Diff(want[scope], got[namespace+"/orkestra-"+service]); diff != "" {
				t.Errorf("%s, %s (-want +got):\n%s", service, scope, diff)
			}
		}
	}
}

// Each mode has what it should have, and nothing that belongs to another.
func TestInstallations(t *testing.T) {
	for name, i := range installations.All() {
		t.Run(name, func(t *testing.T) {
			have := map[string]bool{}
			for _, u := range mustRender(t, i) {
				have[u.GetKind()+" "+u.GetName()] = true
			}
			for _, want := range i.Has {
				if !have[want] {
					t.Errorf("there is no %s", want)
				}
			}
			for _, not := range i.HasNot {
				if have[not] {
					t.Errorf("there is a %s", not)
				}
			}
		})
	}
}

// A value that is wrong is refused before anything is made, with its name and the way out.
func TestWrongValuesAreRefused(t *testing.T) {
	for name, tt := range map[string]struct {
		values string
		apis   []string
		says   []string
	}{
		"unknown name":         {values: `replicaCount: 3`, says: []string{"replicaCount"}},
		"misspelt service":     {values: `services: {stagger: {replicas: 2}}`, says: []string{"stagger"}},
		"no such mode":         {values: `mode: tiny`, says: []string{"mode", "single"}},
		"two NATS servers":     {values: `nats: {replicas: 2}`, says: []string{"replicas"}},
		"latest":               {values: `image: {tag: latest}`, says: []string{"tag"}},
		"password in a URL":    {values: `nats: {bundled: false, external: {url: "nats://me:hunter2@nats:4222"}}`, says: []string{"url"}},
		"wildcard":             {values: `waits: {rules: [{apiGroups: [""], resources: ["*"], verbs: [get]}]}`, says: []string{"resources"}},
		"waits that write":     {values: `waits: {rules: [{apiGroups: [""], resources: [pods], verbs: [delete]}]}`, says: []string{"verbs"}},
		"no NATS":              {values: `nats: {bundled: false}`, says: []string{"nats.external.url"}},
		"no ChartMuseum":       {values: `chartmuseum: {bundled: false}`, says: []string{"chartmuseum.external.url"}},
		"password in a museum": {values: `chartmuseum: {bundled: false, external: {url: "https://me:hunter2@charts"}}`, says: []string{"url", "chartmuseum.auth.secret"}},
		"no reader any more":   {values: `chartmuseum: {auth: {secret: museum, readSecret: reader}}`, says: []string{"readSecret"}},
		"open, and not ours":   {values: `chartmuseum: {bundled: false, external: {url: "https://charts"}, auth: {anonymousGet: true}}`, says: []string{"chartmuseum.auth.anonymousGet"}},
		"KEDA beside a bus": {values: `{autoscaling: {kind: keda}, nats: {bundled: false, external: {url: "tls://nats:4222"}}}`,
			apis: []string{"keda.sh/v1alpha1/ScaledObject"}, says: []string{"nats.external.monitoring", "8222"}},
		"monitoring with a scheme": {values: `nats: {external: {monitoring: "http://nats:8222"}}`, says: []string{"monitoring"}},
		"no Argo":                  {values: `argo: {install: false}`, says: []string{"argo.install", "Argo Workflows 3.5"}},
		"old Argo":                 {values: `argo: {install: false}`, apis: []string{"argoproj.io/v1alpha1/Workflow"}, says: []string{"WorkflowTaskResult", "upgrade"}},
		"no Flux":                  {values: `flux: {install: false}`, says: []string{"flux.install", "Flux 2.3"}},
		"old Flux":                 {values: `flux: {install: false}`, apis: []string{"helm.toolkit.fluxcd.io/v2beta2/HelmRelease"}, says: []string{"helm.toolkit.fluxcd.io/v2", "Flux 2.3"}},
		"no CRDs":                  {values: `crds: {install: false}`, says: []string{"crds.install"}},
		"no cert-manager":          {values: `admission: {certificates: cert-manager}`, says: []string{"cert-manager"}},
		"no issuer":                {values: `admission: {certificates: cert-manager}`, apis: []string{"cert-manager.io/v1/Certificate"}, says: []string{"certManager.issuer.name"}},
		"no KEDA":                  {values: `autoscaling: {kind: keda}`, says: []string{"keda.sh/v1alpha1"}},
		"no Prometheus":            {values: `monitoring: {serviceMonitors: true}`, says: []string{"ServiceMonitor"}},
		"no alerts":                {values: `monitoring: {rules: true}`, says: []string{"PrometheusRule"}},
		"auditor without a bus":    {values: `{mode: single, auditor: {enabled: true}}`, says: []string{"auditor.enabled"}},
		"account without Flux": {values: `{flux: {install: false}, tenancy: {defaultServiceAccount: tenant}}`,
			apis: []string{"helm.toolkit.fluxcd.io/v2/HelmRelease", "source.toolkit.fluxcd.io/v1/HelmChart"}, says: []string{"tenancy.defaultServiceAccount"}},
	} {
		t.Run(name, func(t *testing.T) {
			values, err := chartutil.ReadValues([]byte(tt.values))
			if err != nil {
				t.Fatal(err)
			}
			_, err = render(t, values, tt.apis...)
			if err == nil {
				t.Fatal("it was taken")
			}
			for _, s := range tt.says {
				if !strings.Contains(err.Error(), s) {
					t.Errorf("want a refusal that says %q: %v", s, err)
				}
			}
			if strings.Contains(err.Error(), "hunter2") {
				t.Errorf("the refusal shows a password: %v", err)
			}
		})
	}
}

// What the chart carries of other folders is what is there: hack/chart copies it.
func TestCopiesAreCurrent(t *testing.T) {
	for to, from := range map[string]string{"crds": "crds/*.yaml", "policies": "policies/*.yaml", "nats": "nats/users.conf"} {
		want := contents(t, filepath.Join("../../deploy", from))
		got := contents(t, filepath.Join(folder, "files", to, "*"))
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("files/%s is old, run hack/chart (-want +got):\n%s", to, diff)
		}
	}
}

func contents(t *testing.T, glob string) map[string]string {
	t.Helper()
	files, err := filepath.Glob(glob)
	if err != nil || len(files) == 0 {
		t.Fatalf("%s: there is none: %v", glob, err)
	}
	out := map[string]string{}
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		out[filepath.Base(f)] = string(b)
	}
	return out
}

// The versions of what is bundled are those that the tests run with.
func TestVersionsAreThoseThatAreTested(t *testing.T) {
	values := load(t).Values
	for path, module := range map[string][2]string{
		"nats.image.tag":                  {"nats", "github.com/nats-io/nats-server/v2"},
		"chartmuseum.image.tag":           {"chartmuseum", "helm.sh/chartmuseum"},
		"argo.image.tag":                  {"argo", "github.com/argoproj/argo-workflows/v3"},
		"argo.executorImage.tag":          {"argo", "github.com/argoproj/argo-workflows/v3"},
		"flux.sourceController.image.tag": {"flux-source", "github.com/fluxcd/source-controller"},
		"flux.helmController.image.tag":   {"flux-helm", "github.com/fluxcd/helm-controller"},
	} {
		got, err := chartutil.Values(values).PathValue(path)
		if err != nil {
			t.Fatal(err)
		}
		mod, err := os.ReadFile(filepath.Join("../../servers", module[0], "go.mod"))
		if err != nil {
			t.Fatal(err)
		}
		if !regexp.MustCompile(`(?m)^\s*(require )?` + regexp.QuoteMeta(module[1]) + ` ` + regexp.QuoteMeta(fmt.Sprint(got)) + `\b`).Match(mod) {
			t.Errorf("%s is %v, and servers/%s has another version of %s", path, got, module[0], module[1])
		}
	}
}

// Every value is described in docs/configure.md, with its default.
func TestValuesAreDocumented(t *testing.T) {
	b, err := os.ReadFile("../../docs/configure.md")
	if err != nil {
		t.Fatal(err)
	}
	documented := map[string]string{}
	for _, row := range regexp.MustCompile("(?m)^\\| `([^`]+)` \\| `([^`]*)` \\|").FindAllStringSubmatch(string(b), -1) {
		documented[row[1]] = row[2]
	}
	want := map[string]string{}
	flatten(load(t).Values, "", want)
	if diff := cmp.Diff(want, documented); diff != "" {
		t.Errorf("docs/configure.md has another table of values (-values.yaml +docs):\n%s", diff)
	}
}

// flatten gives each value its path; of the five services, which are alike, and of resources, one line each.
func flatten(values map[string]any, path string, into map[string]string) {
	for name, v := range values {
		at := strings.TrimPrefix(path+"."+name, ".")
		m, isMap := v.(map[string]any)
		if isMap && len(m) > 0 && name != "resources" {
			flatten(m, at, into)
			continue
		}
		b, err := yaml.Marshal(v)
		if err != nil {
			panic(err)
		}
		j, err := yaml.YAMLToJSON(b)
		if err != nil {
			panic(err)
		}
		into[at] = strings.Trim(string(j), `"`)
	}
}
