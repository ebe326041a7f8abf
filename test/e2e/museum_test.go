package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/fluxcd/pkg/apis/meta"
	sourcev1 "github.com/fluxcd/source-controller/api/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"orkestra.dev/api/v1alpha1"
	"orkestra.dev/examples"
	"orkestra.dev/local/stack"
	"orkestra.dev/test/repository"
)

// toMuseum asks ChartMuseum with a password, and with none where that is empty.
func toMuseum(ctx context.Context, method, path, password string, body []byte) (status int, answer []byte, err error) {
	username, _, err := env.stack.MuseumLogin()
	if err != nil {
		return 0, nil, err
	}
	req, err := http.NewRequestWithContext(ctx, method, env.vars["CHARTMUSEUM_URL"]+path, bytes.NewReader(body))
	if err != nil {
		return 0, nil, err
	}
	if password != "" {
		req.SetBasicAuth(username, password)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer resp.Body.Close()
	answer, err = io.ReadAll(resp.Body)
	return resp.StatusCode, answer, err
}

// museumPassword is the one that ChartMuseum takes.
func museumPassword(t *testing.T) string {
	t.Helper()
	_, password, err := env.stack.MuseumLogin()
	if err != nil {
		t.Fatal(err)
	}
	return password
}

// museum is what ChartMuseum has for a group, by name of the chart.
func museum(ctx context.Context, group string) (map[string]any, error) {
	_, password, err := env.stack.MuseumLogin()
	if err != nil {
		return nil, err
	}
	status, answer, err := toMuseum(ctx, http.MethodGet, "/api/"+group+"/charts", password, nil)
	if err != nil || status == http.StatusNotFound {
		return nil, err
	}
	out := map[string]any{}
	if err := json.Unmarshal(answer, &out); err != nil {
		return nil, fmt.Errorf("reading ChartMuseum's answer (%d): %w", status, err)
	}
	return out, nil
}

// bookinfo is the example group, with its charts in ChartMuseum.
func bookinfo(t *testing.T) *v1alpha1.ApplicationGroup {
	t.Helper()
	username, password, err := env.stack.MuseumLogin()
	if err != nil {
		t.Fatal(err)
	}
	url, err := examples.Museum{URL: env.vars["CHARTMUSEUM_URL"], Username: username, Password: password}.Push(t.Context(), "examples")
	if err != nil {
		t.Fatal(err)
	}
	return parse(t, string(examples.Bookinfo(url, stack.Namespace+"/"+stack.MuseumSecret)))
}

// ChartMuseum lets nobody read or write who has not its password, and answers a probe.
func TestChartMuseumAsksWhoItIs(t *testing.T) {
	const group = "guarded"
	rollOutOne(t, group)
	archive, err := repository.Pack("foreign", "1.0.0", configMapChart())
	if err != nil {
		t.Fatal(err)
	}
	requests := []struct {
		method, path string
		body         []byte
	}{
		{http.MethodGet, "/" + group + "/index.yaml", nil},
		{http.MethodGet, "/" + group + "/charts/small-1.0.0.tgz", nil},
		{http.MethodGet, "/api/" + group + "/charts", nil},
		{http.MethodPost, "/api/" + group + "/charts", archive},
		{http.MethodDelete, "/api/" + group + "/charts/small/1.0.0", nil},
	}
	for _, password := range []string{"", "guessed"} {
		for _, r := range requests {
			if status, _, err := toMuseum(t.Context(), r.method, r.path, password, r.body); err != nil || status != http.StatusUnauthorized {
				t.Errorf("%s %s with the password %q: %d, %v, want 401", r.method, r.path, password, status, err)
			}
		}
	}
	if status, _, err := toMuseum(t.Context(), http.MethodGet, "/health", "", nil); err != nil || status != http.StatusOK {
		t.Errorf("a probe needs no password: %d, %v", status, err)
	}
	// What they ask for is there.
	for _, r := range requests[:2] {
		if status, _, err := toMuseum(t.Context(), r.method, r.path, museumPassword(t), nil); err != nil || status != http.StatusOK {
			t.Errorf("%s %s with the password: %d, %v, want 200", r.method, r.path, status, err)
		}
	}
}

// A group that names the Secret of the staging repository for a host of its own does not
// get to see it.
func TestStagingPasswordGoesNowhereElse(t *testing.T) {
	const name = "fishing"
	s, err := repository.Start(repository.HTTPBasicAuth)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	add(t, s, "small", "1.0.0", configMapChart())
	g := chain(name, s.URL, 1)
	g.Spec.Applications[0].Spec.Chart.AuthSecretRef = &corev1.ObjectReference{Namespace: stack.Namespace, Name: stack.MuseumSecret}
	create(t, g)
	g = awaitReady(t, name, time.Minute, metav1.ConditionFalse, v1alpha1.ReasonChartPullFailed)
	if said := mustJSON(t, g.Status); !strings.Contains(said, "is that of the staging repository") {
		t.Errorf("the group says why: %s", said)
	}
}

// rollOutOne is a group of one release.
func rollOutOne(t *testing.T, group string) {
	t.Helper()
	s := serve(t)
	add(t, s, "small", "1.0.0", configMapChart())
	create(t, chain(group, s.URL, 1))
	awaitReady(t, group, time.Minute, metav1.ConditionTrue, v1alpha1.ReasonSucceeded)
}

// helmChart is the only one of a group.
func helmChart(t *testing.T, group string) *sourcev1.HelmChart {
	t.Helper()
	var list sourcev1.HelmChartList
	if err := env.client.List(t.Context(), &list, client.InNamespace(stack.Namespace), client.MatchingLabels{v1alpha1.LabelOwner: group}); err != nil {
		t.Fatal(err)
	}
	if len(list.Items) != 1 {
		t.Fatalf("%d HelmCharts, want one", len(list.Items))
	}
	return &list.Items[0]
}

// fetch asks the stager for an archive, as helm-controller does, who has no password.
func fetch(t *testing.T, url string) (status int, answer []byte) {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if answer, err = io.ReadAll(resp.Body); err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, answer
}

// A staged chart is served to who knows its digest, and only to those.
func TestStagedChartsAreServed(t *testing.T) {
	const group = "served"
	rollOutOne(t, group)
	chart := helmChart(t, group)
	url := chart.Status.Artifact.URL
	_, want, err := toMuseum(t.Context(), http.MethodGet, "/"+group+"/charts/small-1.0.0.tgz", museumPassword(t), nil)
	if err != nil {
		t.Fatal(err)
	}
	if status, got := fetch(t, url); status != http.StatusOK || !bytes.Equal(got, want) {
		t.Errorf("%d, and %d bytes of %d", status, len(got), len(want))
	}
	sum := strings.TrimPrefix(chart.Status.Artifact.Digest, "sha256:")
	if status, got := fetch(t, strings.Replace(url, sum, strings.Repeat("0", len(sum)), 1)); status != http.StatusNotFound || bytes.Equal(got, want) {
		t.Errorf("who guesses gets it: %d", status)
	}

	// Both replicas are started anew, and have nothing in memory: ChartMuseum has it.
	for _, p := range processes(t, "stager") {
		if err := errors.Join(p.Stop(t.Context()), p.Start(t.Context())); err != nil {
			t.Fatal(err)
		}
	}
	if status, got := fetch(t, url); status != http.StatusOK || !bytes.Equal(got, want) {
		t.Errorf("after a restart: %d, and %d bytes of %d", status, len(got), len(want))
	}
}

// Somebody resumes a HelmChart: source-controller cannot fetch it, and takes away what it offers. The stager mends that, and the
// release is ready all the time, or again.
func TestResumedChartIsMended(t *testing.T) {
	const group = "resumed"
	rollOutOne(t, group)
	before := helmChart(t, group)
	must(t, env.client.Patch(t.Context(), helmChart(t, group), client.RawPatch(types.MergePatchType, []byte(`{"spec":{"suspend":false}}`))))
	eventually(t, time.Minute, "source-controller to take it up", func(context.Context) error {
		if c := helmChart(t, group); c.Status.Artifact != nil {
			return errors.New("it still offers " + c.Status.Artifact.URL)
		}
		return nil
	})
	eventually(t, 3*time.Minute, "the stager to mend it", func(context.Context) error {
		if c := helmChart(t, group); !c.Spec.Suspend || c.Status.Artifact == nil || c.Status.Artifact.URL != before.Status.Artifact.URL {
			return fmt.Errorf("%+v", c.Status)
		}
		return nil
	})
	awaitReady(t, group, time.Minute, metav1.ConditionTrue, v1alpha1.ReasonSucceeded)
}

// What an earlier Orkestra left to source-controller, with the HelmRepository that it needs, is served by the stager after its
// next start, and the HelmRepository goes.
func TestSourcesOfAnEarlierRelease(t *testing.T) {
	const group = "earlier"
	rollOutOne(t, group)
	stagers := processes(t, "stager")
	for _, p := range stagers {
		must(t, p.Stop(t.Context()))
	}
	chart := helmChart(t, group)
	url := chart.Status.Artifact.URL
	repo := &sourcev1.HelmRepository{
		ObjectMeta: metav1.ObjectMeta{Namespace: stack.Namespace, Name: group, Labels: chart.Labels, OwnerReferences: chart.OwnerReferences},
		Spec: sourcev1.HelmRepositorySpec{
			URL: env.vars["CHARTMUSEUM_URL"] + "/" + group, Interval: metav1.Duration{Duration: time.Hour}, SecretRef: &meta.LocalObjectReference{Name: stack.MuseumSecret},
		},
	}
	must(t, env.client.Create(t.Context(), repo))
	must(t, env.client.Patch(t.Context(), chart, client.RawPatch(types.MergePatchType,
		fmt.Appendf(nil, `{"metadata":{"annotations":{%q:null}},"spec":{"suspend":null}}`, v1alpha1.AnnotationDigest))))
	eventually(t, time.Minute, "source-controller to fetch it", func(context.Context) error {
		if c := helmChart(t, group); c.Status.Artifact == nil || c.Status.Artifact.URL == url {
			return fmt.Errorf("%+v", c.Status)
		}
		return nil
	})
	for _, p := range stagers {
		must(t, p.Start(t.Context()))
	}
	eventually(t, time.Minute, "the stager to serve it", func(ctx context.Context) error {
		if c := helmChart(t, group); !c.Spec.Suspend || c.Status.Artifact == nil || c.Status.Artifact.URL != url {
			return fmt.Errorf("%+v", c.Status)
		}
		if err := env.client.Get(ctx, client.ObjectKeyFromObject(repo), repo); !apierrors.IsNotFound(err) {
			return fmt.Errorf("the HelmRepository is there: %w", err)
		}
		return nil
	})
	awaitReady(t, group, time.Minute, metav1.ConditionTrue, v1alpha1.ReasonSucceeded)
}

// The password is changed while all runs: the stager reads the new one, and goes on.
func TestPasswordIsChanged(t *testing.T) {
	s := serve(t)
	add(t, s, "small", "1.0.0", configMapChart())
	file := filepath.Join(env.vars["CHARTMUSEUM_CREDENTIALS"], "password")
	right := museumPassword(t)
	write := func(password string) {
		if err := os.WriteFile(file, []byte(password), 0o600); err != nil {
			t.Error(err)
		}
	}
	t.Cleanup(func() { write(right) })
	write("no-longer-taken")
	create(t, chain("rotated", s.URL, 1))
	unavailable(t, "rotated", v1alpha1.ReasonStagingUnavailable)
	write(right)
	awaitReady(t, "rotated", time.Minute, metav1.ConditionTrue, v1alpha1.ReasonSucceeded)
}
