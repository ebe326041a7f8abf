package chart

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"helm.sh/helm/v3/pkg/action"
	"helm.sh/helm/v3/pkg/release"
	"helm.sh/helm/v3/pkg/storage/driver"
	corev1 "k8s.io/api/core/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
	ctrllog "sigs.k8s.io/controller-runtime/pkg/log"

	"orkestra.dev/api/v1alpha1"
	"orkestra.dev/local/stack"
	"orkestra.dev/test/chart/installations"
)

const namespace = "orkestra"

// cluster is a Kubernetes of the tests' own, on which pods are played: whatever the chart makes is real but for those.
type cluster struct {
	config *rest.Config
	client client.Client
	// path of the kubeconfig, and folder of the servers' executables.
	path, bin string
}

func start(t *testing.T) *cluster {
	t.Helper()
	ctrllog.SetLogger(logr.Discard()) // what fails here fails a test
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 40*time.Minute)
	defer cancel()
	o := stack.Options{Root: root, Dir: filepath.Join(root, ".local", "chart"), Log: os.Stdout}
	s, err := stack.Open(o)
	if err == nil {
		err = s.Down(ctx, true) // of an earlier run
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := s.Down(ctx, true); err != nil {
			t.Error(err)
		}
	})
	if s, err = stack.Up(ctx, o); err != nil {
		t.Fatal(err)
	}
	c := &cluster{path: s.Kubeconfig, bin: s.Bin}
	if c.config, err = s.RESTConfig(); err != nil {
		t.Fatal(err)
	}
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{clientgoscheme.AddToScheme, apiextensionsv1.AddToScheme, v1alpha1.AddToScheme} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	if c.client, err = client.New(c.config, client.Options{Scheme: scheme}); err != nil {
		t.Fatal(err)
	}
	return c
}

// helm is Helm as its command line uses it.
func (c *cluster) helm(t *testing.T) *action.Configuration {
	t.Helper()
	flags := genericclioptions.NewConfigFlags(false)
	flags.KubeConfig, flags.Namespace = &c.path, new(namespace)
	cfg := new(action.Configuration)
	if err := cfg.Init(flags, namespace, "secret", func(string, ...any) {}); err != nil {
		t.Fatal(err)
	}
	return cfg
}

// TestOnACluster takes the chart to a real API server.
func TestOnACluster(t *testing.T) {
	c := start(t)
	t.Run("every object is accepted", c.accepts)
	t.Run("installed, upgraded and uninstalled", c.life)
	t.Run("tenancy", c.tenancy)
	t.Run("NATS", c.bus)
}

// accepts has the API server look at every object of every installation, strictly, without keeping any.
func (c *cluster) accepts(t *testing.T) {
	c.defaultServiceAccount(t)
	for name, i := range installations.All() {
		t.Run(name, func(t *testing.T) {
			n := 0
			for _, u := range mustRender(t, i) {
				if foreign(i, u) {
					continue
				}
				if u.GetKind() == "Pod" {
					// Its service account is not there, as nothing is kept.
					if err := unstructured.SetNestedField(u.Object, "default", "spec", "serviceAccountName"); err != nil {
						t.Fatal(err)
					}
				}
				manifest, err := u.MarshalJSON()
				if err != nil {
					t.Fatal(err)
				}
				err = c.client.Patch(t.Context(), u, client.RawPatch(types.ApplyPatchType, manifest), client.DryRunAll, client.ForceOwnership,
					client.FieldOwner("test"), client.FieldValidation(metav1.FieldValidationStrict))
				if err != nil {
					t.Errorf("%s %s: %v", u.GetKind(), u.GetName(), err)
				}
				n++
			}
			if n < 40 {
				t.Errorf("only %d objects were looked at", n)
			}
		})
	}
}

// defaultServiceAccount waits for the service account that Kubernetes makes in every namespace, a moment after it: the
// API server admits no pod before.
func (c *cluster) defaultServiceAccount(t *testing.T) {
	t.Helper()
	key := client.ObjectKey{Namespace: namespace, Name: "default"}
	err := wait.PollUntilContextTimeout(t.Context(), 50*time.Millisecond, time.Minute, true, func(ctx context.Context) (bool, error) {
		err := c.client.Get(ctx, key, &corev1.ServiceAccount{})
		return err == nil, client.IgnoreNotFound(err)
	})
	if err != nil {
		t.Fatalf("service account %s: %v", key, err)
	}
}

// foreign objects are of kinds that this cluster does not serve.
func foreign(i installations.Installation, u *unstructured.Unstructured) bool {
	switch u.GroupVersionKind().Group {
	case "cert-manager.io", "keda.sh", "monitoring.coreos.com":
		return slices.Contains(i.APIs, u.GetAPIVersion()+"/"+u.GetKind())
	}
	return false
}

// life installs the chart, upgrades it twice and uninstalls it.
func (c *cluster) life(t *testing.T) {
	c.disks(t)
	c.restrict(t)
	cfg := c.helm(t)
	install := action.NewInstall(cfg)
	install.ReleaseName, install.Namespace = "orkestra", namespace
	// The stack's own CRDs and policies are there, as they are where somebody has applied them by hand.
	install.TakeOwnership = true
	install.Wait, install.Timeout = true, 3*time.Minute
	rel, err := install.RunWithContext(t.Context(), load(t), map[string]any{})
	if err != nil {
		t.Fatalf("installing: %v", err)
	}
	if rel.Info.Status != release.StatusDeployed {
		t.Fatalf("installing: %s", rel.Info.Status)
	}
	made := c.all(t, rel)
	certificates := c.certificates(t)
	c.permissions(t)

	for _, change := range []map[string]any{
		{"log": map[string]any{"level": "debug"}},
		{"log": map[string]any{"level": "debug"}, "auditor": map[string]any{"enabled": true}, "services": map[string]any{"stager": map[string]any{"replicas": 3}}},
	} {
		upgrade := action.NewUpgrade(cfg)
		upgrade.Namespace, upgrade.Wait, upgrade.Timeout = namespace, true, 3*time.Minute
		if rel, err = upgrade.RunWithContext(t.Context(), "orkestra", load(t), change); err != nil {
			t.Fatalf("upgrading: %v", err)
		}
		for name, is := range c.certificates(t) {
			if was, ok := certificates[name]; ok && was != is {
				t.Errorf("an upgrade has made %s anew", name)
			}
		}
	}
	made = append(made, c.all(t, rel)...)

	cluster := action.NewUpgrade(cfg)
	cluster.Namespace = namespace
	_, err = cluster.RunWithContext(t.Context(), "orkestra", load(t), map[string]any{"nats": map[string]any{"replicas": 3}})
	if err == nil || !strings.Contains(err.Error(), "delete StatefulSet orkestra-nats") {
		t.Errorf("one NATS server does not become a cluster by an upgrade, and is told how: %v", err)
	}

	group := &v1alpha1.ApplicationGroup{ObjectMeta: metav1.ObjectMeta{Name: "stays"}}
	group.Spec.Applications = []v1alpha1.Application{{DAG: v1alpha1.DAG{Name: "app"}, Spec: v1alpha1.ApplicationSpec{
		Chart:   v1alpha1.ChartRef{URL: "https://charts.example.com", Name: "app", Version: "1.0.0"},
		Release: v1alpha1.Release{TargetNamespace: "app"},
	}}}
	if err := c.client.Create(t.Context(), group); err != nil {
		t.Fatal(err)
	}
	uninstall := action.NewUninstall(cfg)
	uninstall.Wait, uninstall.Timeout = true, 2*time.Minute
	if _, err := uninstall.Run("orkestra"); err != nil {
		t.Fatalf("uninstalling: %v", err)
	}
	for _, u := range made {
		stays := u.GetAnnotations()["helm.sh/resource-policy"] == "keep"
		err := c.client.Get(t.Context(), client.ObjectKeyFromObject(u), u)
		switch {
		case stays && err != nil:
			t.Errorf("%s %s went with the release: %v", u.GetKind(), u.GetName(), err)
		case !stays && !apierrors.IsNotFound(err):
			t.Errorf("%s %s stayed: %v", u.GetKind(), u.GetName(), err)
		}
	}
	if err := c.client.Get(t.Context(), client.ObjectKeyFromObject(group), group); err != nil {
		t.Errorf("the group went with the release: %v", err)
	}
	if _, err := cfg.Releases.Last("orkestra"); !errors.Is(err, driver.ErrReleaseNotFound) {
		t.Errorf("Helm still knows the release: %v", err)
	}
}

// restrict has the API server refuse every pod that does not keep to the standard "restricted" of Pod Security.
func (c *cluster) restrict(t *testing.T) {
	t.Helper()
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}}
	patch := client.RawPatch(types.MergePatchType, []byte(`{"metadata":{"labels":{"pod-security.kubernetes.io/enforce":"restricted"}}}`))
	if err := c.client.Patch(t.Context(), ns, patch); err != nil {
		t.Fatal(err)
	}
}

// disks are there for every claim that the chart may make.
func (c *cluster) disks(t *testing.T) {
	t.Helper()
	for i := range 6 {
		err := c.client.Create(t.Context(), &corev1.PersistentVolume{
			ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("disk-%d", i)},
			Spec: corev1.PersistentVolumeSpec{
				Capacity:               corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("20Gi")},
				AccessModes:            []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce},
				PersistentVolumeSource: corev1.PersistentVolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: "/nowhere"}},
			},
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

// all are the objects of a release, each of which has to be there.
func (c *cluster) all(t *testing.T, rel *release.Release) []*unstructured.Unstructured {
	t.Helper()
	objects := parse(t, "the manifest of the release", rel.Manifest)
	for _, u := range objects {
		if err := c.client.Get(t.Context(), client.ObjectKeyFromObject(u), u.DeepCopy()); err != nil {
			t.Errorf("%s %s is not there: %v", u.GetKind(), u.GetName(), err)
		}
	}
	return objects
}

// certificates of the chart's own making, and ChartMuseum's password, by the name of their Secret.
func (c *cluster) certificates(t *testing.T) map[string]string {
	t.Helper()
	var secrets corev1.SecretList
	if err := c.client.List(t.Context(), &secrets, client.InNamespace(namespace)); err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	for _, s := range secrets.Items {
		if s.Type == corev1.SecretTypeTLS {
			out[s.Name] = string(s.Data[corev1.TLSCertKey])
		}
		if s.Name == "orkestra-chartmuseum" {
			out[s.Name] = string(s.Data["password"])
		}
	}
	if len(out) < 9 || out["orkestra-chartmuseum"] == "" {
		t.Errorf("want a certificate for each who speaks to NATS, and for the webhook, and a password: %v", slices.Sorted(maps.Keys(out)))
	}
	return out
}

// tenancy: references into other namespaces are refused where that is asked for, with a message that names the field.
func (c *cluster) tenancy(t *testing.T) {
	for _, u := range mustRender(t, installations.All()["for tenants"]) {
		if u.GetName() != "orkestra-tenancy" {
			continue
		}
		if err := c.client.Apply(t.Context(), client.ApplyConfigurationFromUnstructured(u), client.FieldOwner("test")); err != nil {
			t.Fatal(err)
		}
	}
	for name, tt := range map[string]struct {
		change func(*v1alpha1.ApplicationSpec, *v1alpha1.Executor)
		says   string
	}{
		"as it should be":      {change: func(*v1alpha1.ApplicationSpec, *v1alpha1.Executor) {}},
		"no service account":   {says: "serviceAccountName", change: func(a *v1alpha1.ApplicationSpec, _ *v1alpha1.Executor) { a.Release.ServiceAccountName = "" }},
		"another's password":   {says: "authSecretRef", change: func(a *v1alpha1.ApplicationSpec, _ *v1alpha1.Executor) { a.Chart.AuthSecretRef.Namespace = "other" }},
		"the default password": {says: "authSecretRef", change: func(a *v1alpha1.ApplicationSpec, _ *v1alpha1.Executor) { a.Chart.AuthSecretRef.Namespace = "" }},
		"another's keys": {says: "verify.secretRef", change: func(a *v1alpha1.ApplicationSpec, _ *v1alpha1.Executor) {
			a.Chart.Verify = &v1alpha1.ChartVerification{Provider: v1alpha1.VerifyCosign, SecretRef: corev1.SecretReference{Name: "keys", Namespace: "other"}}
		}},
		"another's object": {says: "wait.namespace", change: func(_ *v1alpha1.ApplicationSpec, e *v1alpha1.Executor) { e.Wait.Namespace = "other" }},
	} {
		t.Run(name, func(t *testing.T) {
			g := &v1alpha1.ApplicationGroup{ObjectMeta: metav1.ObjectMeta{GenerateName: "tenant-"}}
			gate := v1alpha1.Executor{DAG: v1alpha1.DAG{Name: "gate"}, Type: v1alpha1.ExecutorWait,
				Wait: &v1alpha1.WaitFor{APIVersion: "v1", Kind: "ConfigMap", Name: "gate", Expr: "true"}}
			app := v1alpha1.ApplicationSpec{
				Chart: v1alpha1.ChartRef{URL: "https://charts.example.com", Name: "app", Version: "1.0.0",
					AuthSecretRef: &corev1.ObjectReference{Name: "registry", Namespace: "app"}},
				Release: v1alpha1.Release{TargetNamespace: "app", ServiceAccountName: "tenant"},
			}
			tt.change(&app, &gate)
			app.Workflow = []v1alpha1.Executor{gate}
			g.Spec.Applications = []v1alpha1.Application{{DAG: v1alpha1.DAG{Name: "app"}, Spec: app}}
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			// A policy takes a moment to hold.
			tick := time.NewTicker(100 * time.Millisecond)
			defer tick.Stop()
			for {
				err := c.client.Create(t.Context(), g.DeepCopy(), client.DryRunAll)
				if tt.says == "" && err == nil || err != nil && tt.says != "" && strings.Contains(err.Error(), tt.says) {
					return
				}
				select {
				case <-ctx.Done():
					t.Fatalf("want a refusal that says %q: %v", tt.says, err)
				case <-tick.C:
				}
			}
		})
	}
}
