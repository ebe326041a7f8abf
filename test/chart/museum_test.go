package chart

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"helm.sh/helm/v3/pkg/chartutil"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
)

// secretsOf are the Secrets that a pod takes files or variables from, each by where it has them.
func secretsOf(spec corev1.PodSpec) map[string]string {
	out := map[string]string{}
	for _, v := range spec.Volumes {
		if v.Secret != nil {
			out[v.Name] = v.Secret.SecretName
		}
	}
	for _, e := range spec.Containers[0].Env {
		if e.ValueFrom != nil && e.ValueFrom.SecretKeyRef != nil {
			out[e.Name] = e.ValueFrom.SecretKeyRef.Name + " " + e.ValueFrom.SecretKeyRef.Key
		}
	}
	return out
}

// object finds one by its kind and name.
func object(t *testing.T, all []*unstructured.Unstructured, kind, name string, into any) {
	t.Helper()
	i := slices.IndexFunc(all, func(u *unstructured.Unstructured) bool { return u.GetKind() == kind && u.GetName() == name })
	if i < 0 {
		t.Fatalf("there is no %s %s", kind, name)
	}
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(all[i].Object, into); err != nil {
		t.Fatal(err)
	}
}

// ChartMuseum and the stager go by one Secret, and nobody else does.
func TestMuseumPassword(t *testing.T) {
	const external = "chartmuseum: {bundled: false, external: {url: \"https://charts.example.com\"}"
	for name, tt := range map[string]struct {
		values  string
		secret  string
		bundled bool
	}{
		"Bundled":  {values: "{}", secret: "orkestra-chartmuseum", bundled: true},
		"OneOwn":   {values: "chartmuseum: {auth: {secret: museum}}", secret: "museum", bundled: true},
		"Open":     {values: "chartmuseum: {auth: {anonymousGet: true}}", secret: "orkestra-chartmuseum", bundled: true},
		"External": {values: external + ", auth: {secret: museum}}", secret: "museum"},
		"Nobody":   {values: external + "}"},
	} {
		for mode, component := range map[string]string{"services": "stager", "single": "single"} {
			t.Run(name+" "+mode, func(t *testing.T) {
				values, err := chartutil.ReadValues([]byte(tt.values))
				if err != nil {
					t.Fatal(err)
				}
				values["mode"] = mode
				all, err := render(t, values)
				if err != nil {
					t.Fatal(err)
				}
				var stager appsv1.Deployment
				object(t, all, "Deployment", "orkestra-"+component, &stager)
				var flags []string
				for _, a := range stager.Spec.Template.Spec.Containers[0].Args {
					if strings.HasPrefix(a, "--staging-") {
						flags = append(flags, a)
					}
				}
				var want []string
				if tt.secret != "" {
					want = []string{"--staging-credentials=/etc/orkestra/chartmuseum", "--staging-secret=" + tt.secret}
				}
				if diff := cmp.Diff(want, flags); diff != "" {
					t.Errorf("flags (-want +got):\n%s", diff)
				}
				if got := secretsOf(stager.Spec.Template.Spec)["chartmuseum"]; got != tt.secret {
					t.Errorf("the stager has Secret %q mounted, want %q", got, tt.secret)
				}
				museumPod(t, all, tt.bundled, tt.secret, name == "Open")
			})
		}
	}
}

// helm-controller is told to fetch staged charts from a Service, which leads to who serves them.
func TestChartsAreServedByAService(t *testing.T) {
	for mode, component := range map[string]string{"services": "stager", "single": "single"} {
		all, err := render(t, map[string]any{"mode": mode})
		if err != nil {
			t.Fatal(err)
		}
		var service corev1.Service
		object(t, all, "Service", "orkestra-stager", &service)
		var stager appsv1.Deployment
		object(t, all, "Deployment", "orkestra-"+component, &stager)
		for name, value := range service.Spec.Selector {
			if stager.Spec.Template.Labels[name] != value {
				t.Errorf("%s: the Service is of %v, and the pods have %v", mode, service.Spec.Selector, stager.Spec.Template.Labels)
			}
		}
		c, port := stager.Spec.Template.Spec.Containers[0], service.Spec.Ports[0]
		at := slices.IndexFunc(c.Ports, func(p corev1.ContainerPort) bool { return p.Name == port.TargetPort.StrVal })
		if at < 0 || port.Port != 80 || !slices.Contains(c.Args, fmt.Sprintf("--artifact-addr=:%d", c.Ports[at].ContainerPort)) ||
			!slices.Contains(c.Args, "--artifact-url=http://orkestra-stager.orkestra.svc") {
			t.Errorf("%s: the Service leads to %v, and the arguments are %v", mode, c.Ports, c.Args)
		}
	}
}

// museumPod sees to it that the bundled one has its password from the Secret, and lets nobody read without.
func museumPod(t *testing.T, all []*unstructured.Unstructured, bundled bool, secret string, open bool) {
	t.Helper()
	made := slices.ContainsFunc(all, func(u *unstructured.Unstructured) bool {
		return u.GetKind() == "Secret" && u.GetName() == "orkestra-chartmuseum"
	})
	if want := bundled && secret == "orkestra-chartmuseum"; made != want {
		t.Errorf("the chart makes the Secret: %t, want %t", made, want)
	}
	if !bundled {
		return
	}
	var museum appsv1.StatefulSet
	object(t, all, "StatefulSet", "orkestra-chartmuseum", &museum)
	want := map[string]string{"BASIC_AUTH_USER": secret + " username", "BASIC_AUTH_PASS": secret + " password"}
	if diff := cmp.Diff(want, secretsOf(museum.Spec.Template.Spec)); diff != "" {
		t.Errorf("Secrets of ChartMuseum (-want +got):\n%s", diff)
	}
	if got := slices.Contains(museum.Spec.Template.Spec.Containers[0].Args, "--auth-anonymous-get"); got != open {
		t.Errorf("whoever comes may read: %t, want %t", got, open)
	}
	if !made {
		return
	}
	var s corev1.Secret
	object(t, all, "Secret", secret, &s)
	if got := slices.Sorted(maps.Keys(s.Data)); !slices.Equal(got, []string{"password", "username"}) || len(s.Data["password"]) < 40 {
		t.Errorf("the Secret has %v, the password %d letters", got, len(s.Data["password"]))
	}
}

// KEDA asks the NATS that the consumers are on.
func TestLagIsReadFromTheBus(t *testing.T) {
	for values, want := range map[string][2]string{
		`{}`: {"orkestra-nats-peers.orkestra.svc:8222", "ORKESTRA"},
		`nats: {bundled: false, external: {url: "tls://nats.bus:4222", monitoring: "nats.bus:8222"}}`:                {"nats.bus:8222", "ORKESTRA"},
		`nats: {bundled: false, external: {url: "tls://nats.bus:4222", monitoring: "nats.bus:8222", account: TEAM}}`: {"nats.bus:8222", "TEAM"},
	} {
		v, err := chartutil.ReadValues([]byte(values))
		if err != nil {
			t.Fatal(err)
		}
		v["autoscaling"] = map[string]any{"kind": "keda"}
		all, err := render(t, v, "keda.sh/v1alpha1/ScaledObject")
		if err != nil {
			t.Fatal(err)
		}
		for _, service := range []string{"intake", "stager", "compiler", "executor"} {
			var scaled struct {
				Spec struct {
					Triggers []struct {
						Metadata map[string]string `json:"metadata"`
					} `json:"triggers"`
				} `json:"spec"`
			}
			object(t, all, "ScaledObject", "orkestra-"+service, &scaled)
			meta := scaled.Spec.Triggers[0].Metadata
			if meta["natsServerMonitoringEndpoint"] != want[0] || meta["account"] != want[1] {
				t.Errorf("%s, %s: %v, want %v", values, service, meta, want)
			}
		}
	}
}
