package installation

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"orkestra.dev/local/stack"
	"orkestra.dev/pkg/events"
	"orkestra.dev/test/e2enode/realnode"
)

// natsServers of the installation that goes on without any one of its pods.
const natsServers = 3

// redundant values: two replicas of each service, which is the default, and three servers of NATS. They are on one node here,
// so what is lost are processes and pods, and no machine with its disk.
func (i *installation) redundant(logLevel string) values {
	v := i.values("services", logLevel)
	v["nats"] = values{"replicas": natsServers}
	v["receivers"] = values{"tlsSecret": webhookCertificate}
	return v
}

// installedRedundant begins with nothing that an earlier installation has left, and with a release before ChartMuseum had a
// password.
func (i *installation) installedRedundant(t *testing.T) {
	i.forget(t)
	begin := time.Now()
	i.installChart(t, i.chartWithoutPassword(t), i.redundant("info"))
	t.Logf("installed after %s", time.Since(begin).Round(time.Second))
	i.allReady(t, 18)
	i.replicated(t)
}

// forget what earlier installations have left, as docs/install.md has it.
func (i *installation) forget(t *testing.T) {
	t.Helper()
	ours := client.MatchingLabels{"app.kubernetes.io/instance": name}
	for _, o := range []client.Object{&corev1.PersistentVolumeClaim{}, &corev1.Secret{}} {
		if err := i.Client.DeleteAllOf(t.Context(), o, client.InNamespace(namespace), ours); err != nil {
			t.Fatal(err)
		}
	}
	realnode.Poll(t, "claims to go", func(context.Context) error {
		if left := i.claims(t); len(left) > 0 {
			return fmt.Errorf("there are %q", left)
		}
		return nil
	})
}

// losses: in mid-rollout the server of NATS that leads the stream is killed, then a pod of each service is lost, then the pod of
// NATS that leads by then.
func (i *installation) losses(t *testing.T) {
	before := i.services(t)
	r := i.underWay(t, "loss")

	first := i.leader(t)
	kill(t, first)
	realnode.Poll(t, "the kubelet to start the server again", func(ctx context.Context) error {
		if err := i.Client.Get(ctx, client.ObjectKeyFromObject(&first), &first); err != nil {
			return err
		}
		if s := first.Status.ContainerStatuses; len(s) != 1 || s[0].RestartCount == 0 {
			return fmt.Errorf("containers %+v", s)
		}
		return nil
	})
	r.goOn(t)

	lost := map[string]bool{}
	for _, p := range before {
		if !lost[component(p)] {
			i.lose(t, p)
		}
		lost[component(p)] = true
	}
	if len(lost) != len(stack.Services) {
		t.Errorf("pods of %v were lost, want one of each service", lost)
	}
	r.goOn(t)

	i.replicated(t) // with one server away, the next that goes would stop everything
	i.lose(t, i.leader(t))
	r.goOn(t)
	r.goOn(t)
	r.arrived(t)
	r.remove(t)
	i.replicated(t)
	for service := range lost {
		realnode.Poll(t, "two replicas of "+service, func(context.Context) error {
			n := 0
			for _, p := range i.services(t) {
				if component(p) == service && ready(p) {
					n++
				}
			}
			if n != 2 {
				return fmt.Errorf("%d are ready: %q", n, i.pods(t))
			}
			return nil
		})
	}
}

// kill what runs in a pod: it is not asked to end.
func kill(t *testing.T, p corev1.Pod) {
	t.Helper()
	if err := syscall.Kill(realnode.Process(t, p), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
}

// lose a pod: what runs in it is killed, and the kubelet does not start it again.
func (i *installation) lose(t *testing.T, p corev1.Pod) {
	t.Helper()
	kill(t, p)
	if err := i.Client.Delete(t.Context(), &p, client.GracePeriodSeconds(0), client.Preconditions{UID: &p.UID}); err != nil {
		t.Fatal(err)
	}
}

// leader of the stream of events: the pod of NATS that says it is.
func (i *installation) leader(t *testing.T) (out corev1.Pod) {
	t.Helper()
	realnode.Poll(t, "the stream of events to have a leader", func(ctx context.Context) error {
		led, err := i.streams(ctx, t)
		if err != nil {
			return err
		}
		for _, s := range led {
			if s.Name == events.StreamEvents {
				return i.Client.Get(ctx, client.ObjectKey{Namespace: namespace, Name: s.Cluster.Leader}, &out)
			}
		}
		return fmt.Errorf("it has none: %+v", led)
	})
	t.Logf("%s leads %s", out.Name, events.StreamEvents)
	return out
}

// replicated waits until all servers have all of every stream.
func (i *installation) replicated(t *testing.T) {
	t.Helper()
	realnode.Poll(t, "all servers of NATS to have all streams", func(ctx context.Context) error {
		led, err := i.streams(ctx, t)
		if err != nil {
			return err
		}
		want := map[string]bool{events.StreamEvents: true, events.StreamDeadLetters: true, events.StreamWaits: true}
		for _, s := range led {
			current := 1
			for _, r := range s.Cluster.Replicas {
				if r.Current && !r.Offline {
					current++
				}
			}
			if current == natsServers {
				delete(want, s.Name)
			}
		}
		if len(want) > 0 {
			return fmt.Errorf("not %v: %+v", want, led)
		}
		return nil
	})
}

// ledStream is a stream as the server shows it that leads it.
type ledStream struct {
	Name    string `json:"name"`
	Cluster struct {
		Leader   string `json:"leader"`
		Replicas []struct {
			Name    string `json:"name"`
			Current bool   `json:"current"`
			Offline bool   `json:"offline"`
		} `json:"replicas"`
	} `json:"cluster"`
}

// streams that have a leader, as the monitoring ports of the servers have them that are ready. The policies let the node in.
func (i *installation) streams(ctx context.Context, t *testing.T) (out []ledStream, err error) {
	t.Helper()
	for _, p := range i.podsOf(t) {
		if component(p) != "nats" || !ready(p) {
			continue
		}
		of, err := jsz(ctx, p.Status.PodIP)
		if err != nil {
			return nil, err
		}
		for _, s := range of {
			if s.Cluster.Leader == p.Name {
				out = append(out, s)
			}
		}
	}
	return out, nil
}

// jsz asks a server of NATS for its streams.
func jsz(ctx context.Context, ip string) (out []ledStream, err error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+net.JoinHostPort(ip, "8222")+"/jsz?streams=true", nil)
	if err != nil {
		return nil, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	var answer struct {
		Accounts []struct {
			Streams []ledStream `json:"stream_detail"`
		} `json:"account_details"`
	}
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil {
		return nil, fmt.Errorf("reading what the server at %s says of its streams: %s: %w", ip, resp.Status, err)
	}
	for _, a := range answer.Accounts {
		out = append(out, a.Streams...)
	}
	return out, nil
}
