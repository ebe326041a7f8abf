package e2e

import (
	"bytes"
	"context"
	"io/fs"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	helmv2 "github.com/fluxcd/helm-controller/api/v2"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"orkestra.dev/api/v1alpha1"
	"orkestra.dev/pkg/events"
	"orkestra.dev/test/repository"
)

// What is secret in values, in Secrets, in the credentials of registries and of the bus
// is in no event, dead letter, workflow, condition, Kubernetes event, audit record or
// log, after a rollout, one whose charts cannot be had, a failed one with its way back,
// and a deletion.
func TestSecretsStaySecret(t *testing.T) {
	const name = "canary"
	canaries := map[string]string{
		"the values of the spec":    "c4n4ry-in-the-values",
		"a Secret with values":      "c4n4ry-in-a-secret",
		"a registry's password":     "c4n4ry-in-a-password",
		"a registry's bearer token": "c4n4ry-in-a-token",
		"ChartMuseum's password":    museumPassword(t),
		"a Receiver's token":        hookToken,
	}
	for _, i := range events.Identities() {
		seed, err := os.ReadFile(env.stack.NATSKey(i.Name))
		if err != nil {
			t.Fatal(err)
		}
		canaries["the NATS key of "+i.Name] = strings.TrimSpace(string(seed))
	}
	s := serve(t)
	add(t, s, "small", "1.0.0", configMapChart())
	add(t, s, "small", "2.0.0", brokenChart())
	namespace(t, name)
	for _, secret := range []*corev1.Secret{
		{ObjectMeta: metav1.ObjectMeta{Namespace: name, Name: "more"},
			StringData: map[string]string{"values.yaml": "more: " + canaries["a Secret with values"] + "\n"}},
		{ObjectMeta: metav1.ObjectMeta{Namespace: name, Name: "password"},
			StringData: map[string]string{"username": "u", "password": canaries["a registry's password"]}},
		{ObjectMeta: metav1.ObjectMeta{Namespace: name, Name: "token"},
			StringData: map[string]string{"token": canaries["a registry's bearer token"]}},
	} {
		if err := env.client.Create(t.Context(), secret); err != nil {
			t.Fatal(err)
		}
	}
	g := chain(name, s.URL, 2)
	for i := range g.Spec.Applications {
		g.Spec.Applications[i].Spec.Release.Values = values(t, map[string]any{"message": canaries["the values of the spec"]})
		g.Spec.Applications[i].Spec.Release.ValuesFrom = []helmv2.ValuesReference{{Kind: "Secret", Name: "more"}}
	}
	create(t, g)
	awaitReady(t, name, time.Minute, metav1.ConditionTrue, v1alpha1.ReasonSucceeded)
	withoutSecrets(t, "after a rollout", canaries)

	// The token of Harbor is in a header as it is.
	path := hook(t, name, selects(v1alpha1.ReceiverHarbor, name))
	header, body := fromHarbor(t, s.URL, "1.0.0")
	accepted(t, 0, path, header, body)
	p, err := post(t.Context(), 1, "/hook/"+strings.Repeat("0", 64), header, body)
	if err != nil || p.status != http.StatusNotFound {
		t.Fatalf("a delivery to nobody: %+v, %v", p, err)
	}
	withoutSecrets(t, "after deliveries with a token", canaries)

	refusing := refuses(t)
	for _, credentials := range []string{"password", "token"} {
		chart := func(g *v1alpha1.ApplicationGroup) *v1alpha1.ChartRef { return &g.Spec.Applications[0].Spec.Chart }
		update(t, name, func(g *v1alpha1.ApplicationGroup) {
			chart(g).URL, chart(g).AuthSecretRef = refusing, &corev1.ObjectReference{Namespace: name, Name: credentials}
		})
		awaitReady(t, name, time.Minute, metav1.ConditionFalse, v1alpha1.ReasonChartPullFailed)
	}
	withoutSecrets(t, "after charts could not be had", canaries)

	update(t, name, func(g *v1alpha1.ApplicationGroup) {
		g.Spec.Applications[0].Spec.Chart.URL, g.Spec.Applications[0].Spec.Chart.AuthSecretRef = s.URL, nil
		g.Spec.Applications[1].Spec.Chart.Version = "2.0.0"
	})
	awaitReady(t, name, 2*time.Minute, metav1.ConditionFalse, v1alpha1.ReasonWorkflowFailed)
	awaitCondition(t, name, v1alpha1.ConditionRollbackWorkflowSucceeded, metav1.ConditionTrue)
	withoutSecrets(t, "after a failure and the way back", canaries)

	remove(t, name)
	withoutSecrets(t, "after the deletion", canaries)
}

// refuses is a repository that takes no credentials.
func refuses(t *testing.T) string {
	t.Helper()
	s, err := repository.Start(repository.HTTPBasicAuth)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	add(t, s, "small", "1.0.0", configMapChart())
	return s.URL
}

// withoutSecrets looks for canaries everywhere that others than their owners may look at.
func withoutSecrets(t *testing.T, when string, canaries map[string]string) {
	t.Helper()
	searchFiles(t, when, canaries)
	for kind, list := range kinds(t) {
		search(t, when, kind, []byte(mustJSON(t, list)), canaries)
	}
}

// searchFiles looks for canaries in all that is stored and logged.
func searchFiles(t *testing.T, when string, canaries map[string]string) {
	t.Helper()
	// Every stream, dead letters and headers included, is what the server keeps in its files, and every audit
	// record what the auditor does.
	for place, least := range map[string]int{"data/nats": 1, "data/audit": 1, "log": len(ours())} {
		searched := 0
		err := filepath.WalkDir(filepath.Join(env.stack.Dir, place), func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || place == "log" && !slices.Contains(ours(), strings.TrimSuffix(d.Name(), ".log")) {
				return err
			}
			b, err := os.ReadFile(path)
			if os.IsNotExist(err) { // the server takes its files together
				return nil
			}
			if err != nil {
				return err
			}
			if bytes.Contains(b, []byte("canary")) || place == "log" { // the group's own name
				searched++
			}
			search(t, when, path, b, canaries)
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		if searched < least {
			t.Errorf("%s: %d files of %s speak of the group, want %d or more: nothing was searched", when, searched, place, least)
		}
	}
}

// ours are the processes whose logs we write, and those that others write of us.
func ours() []string {
	out := []string{"auditor", "topology", "nats", "chartmuseum", "workflow-controller", "source-controller"}
	for _, service := range []string{"intake", "stager", "compiler", "executor", "watcher"} {
		for n := 1; n <= replicas; n++ {
			out = append(out, replica(service, n))
		}
	}
	return out
}

// kinds are objects that more people see than Secrets. A group's spec is what its author
// wrote, and so are the values of a release; what we say of them is not.
func kinds(t *testing.T) map[string]any {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	var groups v1alpha1.ApplicationGroupList
	var happenings corev1.EventList
	for _, list := range []client.ObjectList{&groups, &happenings} {
		if err := env.client.List(ctx, list); err != nil {
			t.Fatal(err)
		}
	}
	statuses := map[string]v1alpha1.ApplicationGroupStatus{}
	for _, g := range groups.Items {
		statuses[g.Name] = g.Status
	}
	conditions := map[string][]metav1.Condition{}
	for key, hr := range releases(t, "canary") {
		conditions[key] = hr.Status.Conditions
	}
	return map[string]any{
		"the workflows": workflows(t, "canary"), "the groups' status": statuses,
		"Kubernetes events": happenings.Items, "the releases' conditions": conditions,
	}
}

func search(t *testing.T, when, where string, b []byte, canaries map[string]string) {
	t.Helper()
	for _, what := range slices.Sorted(maps.Keys(canaries)) {
		if bytes.Contains(b, []byte(canaries[what])) {
			t.Errorf("%s: %s shows %s", when, where, what)
		}
	}
}
