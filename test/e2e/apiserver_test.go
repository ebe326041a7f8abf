package e2e

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"orkestra.dev/api/v1alpha1"
)

const (
	// apiServerAway is how long there is no API server: long enough for requests that are repeated to give up.
	apiServerAway = 15 * time.Second
	// caughtUp is how long everybody may take until they have found it again: informers wait for up to a minute between
	// two tries, and helm-controller and the others for 24 s after the sixth failure, 48 s after the seventh.
	caughtUp = 4 * time.Minute
)

// The API server is killed while groups are rolled out, and away for a while: no service of ours ends, every rollout
// completes, nothing is done twice, and all that was said is in the audit.
func TestAPIServerKilledInMidRollout(t *testing.T) {
	const n = 5
	s := serve(t)
	add(t, s, "small", "1.0.0", configMapChart())
	p, err := env.stack.Process("kube-apiserver")
	must(t, err)
	before := pids(t)
	var groups []string
	for i := range 3 {
		g := patient(fmt.Sprintf("headless-%d", i), s.URL, n)
		groups = append(groups, g.Name)
		create(t, g)
		awaitReleases(t, g.Name, i+1)
	}
	must(t, p.Kill(t.Context()))
	away := time.NewTimer(apiServerAway)
	defer away.Stop()
	<-away.C
	begin := time.Now()
	must(t, p.Start(t.Context()))
	back := time.Now()
	starting = append(starting, interval{begin, back})
	for _, name := range groups {
		awaitReady(t, name, caughtUp, metav1.ConditionTrue, v1alpha1.ReasonSucceeded)
		t.Logf("group %s is ready %s after the API server was", name, time.Since(back).Round(100*time.Millisecond))
		inOrder(t, name, n)
		ended(t, name)
		once(t, name)
		audited(t, name)
	}
	for name, pid := range pids(t) {
		if pid != before[name] {
			t.Errorf("%s ended, and was started anew", name)
		}
	}
	goTogether(t, groups)
	// Kubernetes' own controllers have to find it again too, before the tests that come next, and helm-controller has to hear
	// of new charts: until then a release waits for a source that is there, and fails when its time is up.
	controllersAreBack(t)
	again := patient("headless-again", s.URL, 1)
	create(t, again)
	awaitReady(t, again.Name, caughtUp, metav1.ConditionTrue, v1alpha1.ReasonSucceeded)
	t.Logf("all controllers have caught up %s after the API server was ready", time.Since(back).Round(100*time.Millisecond))
}

// patient is a chain whose releases have time: it goes on while nobody can write what became of them.
func patient(name, url string, n int) *v1alpha1.ApplicationGroup {
	g := chain(name, url, n)
	for i := range g.Spec.Applications {
		g.Spec.Applications[i].Spec.Release.Timeout = &metav1.Duration{Duration: caughtUp}
	}
	return g
}

// controllersAreBack waits until a namespace comes to have what Kubernetes gives to it, and goes when it is deleted.
func controllersAreBack(t *testing.T) {
	t.Helper()
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: "headless-"}}
	must(t, env.client.Create(t.Context(), ns))
	eventually(t, caughtUp, "Kubernetes to make the namespace's service account", func(ctx context.Context) error {
		return env.client.Get(ctx, client.ObjectKey{Namespace: ns.Name, Name: "default"}, &corev1.ServiceAccount{})
	})
	must(t, env.client.Delete(t.Context(), ns))
	eventually(t, caughtUp, "Kubernetes to delete a namespace", func(ctx context.Context) error {
		err := env.client.Get(ctx, client.ObjectKeyFromObject(ns), ns)
		if apierrors.IsNotFound(err) {
			return nil
		}
		return errors.Join(err, fmt.Errorf("it is %s", ns.Status.Phase))
	})
}

// pids of all our processes.
func pids(t *testing.T) map[string]int {
	t.Helper()
	out := map[string]int{}
	for _, p := range ourProcesses(t) {
		out[p.Name()] = p.Status(t.Context()).PID
	}
	return out
}
