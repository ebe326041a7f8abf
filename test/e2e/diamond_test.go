package e2e

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/discovery"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"orkestra.dev/api/v1alpha1"
	"orkestra.dev/test/repository"
)

// notOurs are kinds of objects that Kubernetes, or helm-controller, writes by itself.
var notOurs = []string{
	"Event", "Endpoints", "EndpointSlice", "Lease", "PodMetrics", "ControllerRevision", "Pod", "ReplicaSet",
}

// objectsIn are all objects of a namespace, as JSON without what Kubernetes owns of them:
// their identity, their times, and who wrote what. Helm's own records are left out:
// a rollback is one more of them. HelmReleases are compared by their spec.
func objectsIn(t *testing.T, namespace string) map[string]string {
	t.Helper()
	found, err := discovery.NewDiscoveryClientForConfig(env.config)
	if err != nil {
		t.Fatal(err)
	}
	lists, err := found.ServerPreferredNamespacedResources()
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	for _, list := range lists {
		gv, err := schema.ParseGroupVersion(list.GroupVersion)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range list.APIResources {
			if !slices.Contains(r.Verbs, "list") || slices.Contains(notOurs, r.Kind) {
				continue
			}
			objects := &unstructured.UnstructuredList{}
			objects.SetGroupVersionKind(gv.WithKind(r.Kind + "List"))
			if err := env.client.List(t.Context(), objects, client.InNamespace(namespace)); err != nil {
				t.Fatalf("listing %s: %v", r.Kind, err)
			}
			for _, o := range objects.Items {
				if r.Kind == "Secret" && strings.HasPrefix(o.GetName(), "sh.helm.release.v1.") {
					continue
				}
				out[r.Kind+" "+o.GetName()] = plain(t, o)
			}
		}
	}
	return out
}

// plain is an object without what Kubernetes owns.
func plain(t *testing.T, o unstructured.Unstructured) string {
	t.Helper()
	metadata := map[string]any{"labels": o.GetLabels(), "annotations": o.GetAnnotations()}
	content := map[string]any{}
	for k, v := range o.Object {
		if k != "metadata" && k != "status" {
			content[k] = v
		}
	}
	if o.GetKind() == "HelmRelease" {
		metadata = nil // it says which workflow wrote it last
	}
	content["metadata"] = metadata
	b, err := json.MarshalIndent(content, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// diamond is top, then left and right, then bottom, of one chart.
func diamond(name, url string) *v1alpha1.ApplicationGroup {
	g := chain(name, url, 4)
	for i, a := range []v1alpha1.DAG{
		{Name: "top"}, {Name: "left", Dependencies: []string{"top"}},
		{Name: "right", Dependencies: []string{"top"}}, {Name: "bottom", Dependencies: []string{"left", "right"}},
	} {
		g.Spec.Applications[i].DAG = a
	}
	return g
}

// A failure at each level of a diamond leaves exactly the objects of the last good
// revision, byte for byte, though every application was being upgraded.
func TestDiamondRollsBackToTheByte(t *testing.T) {
	s := serve(t)
	add(t, s, "small", "1.0.0", configMapChart())
	newer := configMapChart()
	newer["values.yaml"] = "message: newer\n"
	newer["templates/more.yaml"] = "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: {{ .Release.Name }}-more\n"
	add(t, s, "small", "2.0.0", newer)
	broken := repository.Files{}
	for path, data := range newer {
		broken[path] = data
	}
	broken["templates/broken.yaml"] = brokenChart()["templates/broken.yaml"]
	add(t, s, "small", "3.0.0", broken)

	const name = "diamond"
	create(t, diamond(name, s.URL))
	awaitReady(t, name, time.Minute, metav1.ConditionTrue, v1alpha1.ReasonSucceeded)
	good := objectsIn(t, name)
	if len(good) < 8 {
		t.Fatalf("only %d objects to compare: %v", len(good), names(good))
	}
	for level, at := range []int{0, 1, 3} {
		t.Run(diamond(name, "").Spec.Applications[at].Name, func(t *testing.T) {
			update(t, name, func(g *v1alpha1.ApplicationGroup) {
				for i := range g.Spec.Applications {
					g.Spec.Applications[i].Spec.Chart.Version = "2.0.0"
				}
				g.Spec.Applications[at].Spec.Chart.Version = "3.0.0"
				g.Spec.Applications[3].Spec.Release.Values = values(t, map[string]any{"message": level})
			})
			awaitReady(t, name, time.Minute, metav1.ConditionFalse, v1alpha1.ReasonWorkflowFailed)
			awaitCondition(t, name, v1alpha1.ConditionRollbackWorkflowSucceeded, metav1.ConditionTrue)
			if diff := cmp.Diff(good, objectsIn(t, name)); diff != "" {
				t.Errorf("objects in the namespace (-last good +after the rollback):\n%s", diff)
			}
		})
	}
	var secrets corev1.SecretList
	if err := env.client.List(t.Context(), &secrets, client.InNamespace(name)); err != nil {
		t.Fatal(err)
	}
	for _, secret := range secrets.Items {
		if secret.Type != "helm.sh/release.v1" {
			t.Errorf("Secret %s of type %s was left", secret.Name, secret.Type)
		}
	}
}
