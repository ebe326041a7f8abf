package e2e

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"orkestra.dev/api/v1alpha1"
	"orkestra.dev/local/stack"
	"orkestra.dev/pkg/events"
)

// replica is the name of a service's process n, from 1.
func replica(service string, n int) string {
	if n == 1 {
		return service
	}
	return fmt.Sprintf("%s-%d", service, n)
}

// every replica of a service, as processes.
func processes(t *testing.T, service string) []*stack.Process {
	t.Helper()
	var out []*stack.Process
	for n := 1; n <= replicas; n++ {
		p, err := env.stack.Process(replica(service, n))
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, p)
	}
	return out
}

// kill -9 of both replicas of any one service in mid-rollout, and their return:
// the rollout completes, and nothing happens twice.
func TestKilledInMidRollout(t *testing.T) {
	s := serve(t)
	add(t, s, "small", "1.0.0", configMapChart())
	const n = 6
	for i, service := range stack.Services {
		t.Run(service, func(t *testing.T) {
			g := chain("killed-"+service, s.URL, n)
			// What comes first in the pipeline is killed as soon as the group is there, the
			// others when releases are under way.
			created := i / 2
			create(t, g)
			awaitReleases(t, g.Name, created)
			for _, p := range processes(t, service) {
				if err := p.Kill(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			for _, p := range processes(t, service) {
				if err := p.Start(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			awaitReady(t, g.Name, 2*time.Minute, metav1.ConditionTrue, v1alpha1.ReasonSucceeded)
			inOrder(t, g.Name, n)
			once(t, g.Name)
		})
	}
}

// once fails where two replicas, or a second try, have doubled something: more than
// one workflow of a rollout and type, more than one event of a source and id.
func once(t *testing.T, group string) {
	t.Helper()
	seen := map[string]int{}
	for _, wf := range workflows(t, group) {
		seen[wf.Annotations[v1alpha1.AnnotationRollout]+" "+wf.Labels[v1alpha1.LabelWorkflowType]]++
	}
	for rollout, n := range seen {
		if n > 1 {
			t.Errorf("%d workflows of rollout %s", n, rollout)
		}
	}
	ids := map[string]uint64{}
	for _, f := range facts(t, group) {
		key := f.Source + " " + f.ID
		if before, ok := ids[key]; ok {
			t.Errorf("event %s is in the stream twice: %d and %d", key, before, f.Sequence)
		}
		ids[key] = f.Sequence
	}
	if len(ids) == 0 {
		t.Errorf("no event of group %s in the stream", group)
	}
}

// Two replicas of every service: one workflow, no event twice, and the story is whole.
func TestTwoReplicasSayItOnce(t *testing.T) {
	s := serve(t)
	add(t, s, "small", "1.0.0", configMapChart())
	g := chain("once", s.URL, 5)
	create(t, g)
	awaitReady(t, g.Name, time.Minute, metav1.ConditionTrue, v1alpha1.ReasonSucceeded)
	eventually(t, 10*time.Second, "the whole story to be told", func(context.Context) error {
		count := map[events.Type]int{}
		for _, f := range facts(t, g.Name) {
			count[f.Type()]++
		}
		for typ, want := range map[events.Type]int{
			events.TypeGroupDesired: 1, events.TypeChartsStaged: 1, events.TypeWorkflowSubmitted: 1,
			events.TypeNodeStarted: 5, events.TypeReleaseReady: 5, events.TypeNodeSucceeded: 5, events.TypeRolloutSucceeded: 1,
		} {
			if count[typ] != want {
				return fmt.Errorf("%s was said %d times, want %d", typ, count[typ], want)
			}
		}
		return nil
	})
	once(t, g.Name)
}

// killBus kills NATS, does what is to be done while it is away, and starts it again.
func killBus(t *testing.T, meanwhile func() error) {
	t.Helper()
	p, err := env.stack.Process("nats")
	if err == nil {
		err = p.Kill(t.Context())
	}
	if err == nil {
		err = meanwhile()
	}
	if err == nil {
		err = p.Start(t.Context())
	}
	if err != nil {
		t.Fatal(err)
	}
}

// busAway is how long there is no bus: longer than services have for what they say, and than an event stays in hand.
const busAway = time.Minute

// The bus is killed in mid-rollout, and another group is made while it is away for a minute. Both rollouts complete,
// and the audit has all that was said of them.
func TestBusKilledInMidRollout(t *testing.T) {
	const n = 6
	s := serve(t)
	add(t, s, "small", "1.0.0", configMapChart())
	create(t, chain("busless", s.URL, n))
	awaitReleases(t, "busless", 2)
	killBus(t, func() error {
		create(t, chain("busless-new", s.URL, n))
		away := time.NewTimer(busAway)
		defer away.Stop()
		<-away.C
		return nil
	})
	for _, name := range []string{"busless", "busless-new"} {
		awaitReady(t, name, 2*time.Minute, metav1.ConditionTrue, v1alpha1.ReasonSucceeded)
		inOrder(t, name, n)
		ended(t, name)
		once(t, name)
		audited(t, name)
	}
	goTogether(t, []string{"busless", "busless-new"})
}

// The bus loses all that it ever knew, in mid-rollout: history is gone, the rollout
// and the group's next change are not.
func TestBusLostInMidRollout(t *testing.T) {
	s := serve(t)
	add(t, s, "small", "1.0.0", configMapChart())
	g := chain("forgotten", s.URL, 5)
	create(t, g)
	awaitReleases(t, g.Name, 2)
	killBus(t, func() error { return os.RemoveAll(filepath.Join(env.stack.Dir, "data", "nats")) })
	awaitReady(t, g.Name, 2*time.Minute, metav1.ConditionTrue, v1alpha1.ReasonSucceeded)
	inOrder(t, g.Name, 5)
	update(t, g.Name, func(g *v1alpha1.ApplicationGroup) {
		g.Spec.Applications[4].Spec.Release.Values = values(t, map[string]any{"message": "after"})
	})
	awaitReady(t, g.Name, time.Minute, metav1.ConditionTrue, v1alpha1.ReasonSucceeded)
}

// Every replica answers its probes and shows its metrics.
func TestProbesAndMetrics(t *testing.T) {
	for _, service := range stack.Services {
		for n := 1; n <= replicas; n++ {
			name := strings.ToUpper(strings.ReplaceAll(replica(service, n), "-", "_"))
			health := env.vars["ORKESTRA_"+name+"_HEALTH_URL"]
			for url, want := range map[string]string{
				health: "ok",
				strings.TrimSuffix(health, "healthz") + "readyz": "ok",
				env.vars["ORKESTRA_"+name+"_METRICS_URL"]:        "orkestra_",
			} {
				resp, err := http.Get(url)
				if err != nil {
					t.Errorf("%s: %v", name, err)
					continue
				}
				body, err := io.ReadAll(resp.Body)
				resp.Body.Close()
				if err != nil || resp.StatusCode != http.StatusOK || !strings.Contains(string(body), want) {
					t.Errorf("%s: %s answers %s, %v: want 200 with %q", name, url, resp.Status, err, want)
				}
			}
		}
	}
}

// SIGTERM ends a service in good order and in time.
func TestStopsInGoodOrder(t *testing.T) {
	for _, service := range stack.Services {
		p, err := env.stack.Process(replica(service, 2))
		if err != nil {
			t.Fatal(err)
		}
		begin := time.Now()
		if err := p.Stop(t.Context()); err != nil {
			t.Errorf("%s: %v", service, err)
		}
		if took := time.Since(begin); took > 10*time.Second {
			t.Errorf("%s took %s to stop with nothing to do", service, took)
		}
		log, err := os.ReadFile(p.LogFile())
		if err != nil {
			t.Fatal(err)
		}
		lines := strings.Split(strings.TrimSpace(string(log)), "\n")
		if last := lines[len(lines)-1]; !strings.Contains(last, "stopped") {
			t.Errorf("%s does not say that it stopped; its last line is %s", service, last)
		}
		if err := p.Start(t.Context()); err != nil {
			t.Error(err)
		}
	}
}

// A configuration with which a service cannot work is refused at the start, by name.
func TestBadConfigurationIsRefused(t *testing.T) {
	for service, args := range map[string][]string{
		"intake":   {"--webhook-cert-dir", "/nowhere", "--webhook-addr", ":0"},
		"stager":   {"--chartmuseum-url", "not a url"},
		"compiler": {"--parallelism", "0"},
		"executor": {"--nats-url", "http://127.0.0.1:4222"},
		"watcher":  {"--log-level", "loud"},
	} {
		bin := filepath.Join(env.root, ".local", "bin", "orkestra-"+service)
		for _, args := range [][]string{args, {"--no-such-flag"}} {
			out, err := exec.CommandContext(t.Context(), bin, append(args, "--kubeconfig", env.vars["KUBECONFIG"])...).CombinedOutput()
			if exit, ok := errors.AsType[*exec.ExitError](err); !ok || exit.ExitCode() != 2 {
				t.Errorf("%s %v: want exit 2, got %v: %s", service, args, err, out)
			}
			if !strings.Contains(string(out), args[0]) {
				t.Errorf("%s %v: the refusal does not name the flag: %s", service, args, out)
			}
		}
		out, err := exec.CommandContext(t.Context(), bin, "--help").CombinedOutput()
		if err != nil || !strings.Contains(string(out), "ORKESTRA_NATS_URL") || !strings.Contains(string(out), "--health-addr") {
			t.Errorf("%s --help: %v: %s", service, err, out)
		}
	}
}
