package e2e

import (
	"fmt"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"orkestra.dev/api/v1alpha1"
)

// apiServerAway is how long there is no API server: long enough for requests that are repeated to give up.
const apiServerAway = 15 * time.Second

// The API server is killed while groups are rolled out, and away for a while: no service of ours ends, every rollout
// completes, and nothing is done twice.
func TestAPIServerKilledInMidRollout(t *testing.T) {
	const n = 5
	s := serve(t)
	add(t, s, "small", "1.0.0", configMapChart())
	p, err := env.stack.Process("kube-apiserver")
	must(t, err)
	before := pids(t)
	var groups []string
	for i := range 3 {
		groups = append(groups, fmt.Sprintf("headless-%d", i))
		create(t, chain(groups[i], s.URL, n))
		awaitReleases(t, groups[i], i+1)
	}
	must(t, p.Kill(t.Context()))
	away := time.NewTimer(apiServerAway)
	defer away.Stop()
	<-away.C
	starting.from = time.Now()
	must(t, p.Start(t.Context()))
	starting.to = time.Now()
	for _, name := range groups {
		awaitReady(t, name, 3*time.Minute, metav1.ConditionTrue, v1alpha1.ReasonSucceeded)
		once(t, name)
	}
	for name, pid := range pids(t) {
		if pid != before[name] {
			t.Errorf("%s ended, and was started anew", name)
		}
	}
	goTogether(t, groups)
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
