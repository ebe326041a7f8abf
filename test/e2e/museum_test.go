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

	sourcev1 "github.com/fluxcd/source-controller/api/v1"
	corev1 "k8s.io/api/core/v1"
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
	s := serve(t)
	add(t, s, "small", "1.0.0", configMapChart())
	create(t, chain(group, s.URL, 1))
	awaitReady(t, group, time.Minute, metav1.ConditionTrue, v1alpha1.ReasonSucceeded)
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

// A HelmRepository that has lost its Secret, or was made before there was one, is given it
// without a rollout of its group.
func TestSourcesFollowThePassword(t *testing.T) {
	const group = "followed"
	s := serve(t)
	add(t, s, "small", "1.0.0", configMapChart())
	create(t, chain(group, s.URL, 1))
	awaitReady(t, group, time.Minute, metav1.ConditionTrue, v1alpha1.ReasonSucceeded)
	repo := helmRepository(t, group)
	if repo.Spec.SecretRef == nil || repo.Spec.SecretRef.Name != stack.MuseumSecret {
		t.Fatalf("it names no Secret, or another: %+v", repo.Spec.SecretRef)
	}
	if err := env.client.Patch(t.Context(), repo, client.RawPatch(types.MergePatchType, []byte(`{"spec":{"secretRef":null}}`))); err != nil {
		t.Fatal(err)
	}
	for _, p := range processes(t, "stager") {
		if err := errors.Join(p.Stop(t.Context()), p.Start(t.Context())); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, 30*time.Second, "the HelmRepository to name the Secret again", func(context.Context) error {
		if repo := helmRepository(t, group); repo.Spec.SecretRef == nil || repo.Spec.SecretRef.Name != stack.MuseumSecret {
			return fmt.Errorf("%+v", repo.Spec.SecretRef)
		}
		return nil
	})
}

func helmRepository(t *testing.T, group string) *sourcev1.HelmRepository {
	t.Helper()
	var r sourcev1.HelmRepository
	if err := env.client.Get(t.Context(), client.ObjectKey{Namespace: stack.Namespace, Name: group}, &r); err != nil {
		t.Fatal(err)
	}
	return &r
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
