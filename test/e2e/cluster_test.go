package e2e

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"orkestra.dev/api/v1alpha1"
	"orkestra.dev/local/stack"
	"orkestra.dev/pkg/events"
)

// natsServers of the cluster that the bus is in TestNATSCluster.
const natsServers = 3

// ownStack brings up a stack beside the one that the tests share, and has the test use it.
func ownStack(t *testing.T, o stack.Options) {
	t.Helper()
	shared := env
	o.Root = shared.root
	o.Dir = filepath.Join(shared.root, ".local", "e2e-"+strings.ToLower(t.Name()))
	old, err := stack.Open(o)
	must(t, err)
	must(t, old.Down(t.Context(), true))
	t.Cleanup(func() {
		env = shared
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := old.Down(ctx, true); err != nil {
			t.Errorf("taking down the stack of the test: %v", err)
		}
	})
	begin := time.Now()
	own := environment{}
	must(t, own.up(t.Context(), o))
	t.Logf("its own stack is up after %s", time.Since(begin).Round(100*time.Millisecond))
	env = own
}

// leader is the server that leads the stream of events, other than those that are known to be away.
func leader(t *testing.T, js jetstream.JetStream, away ...string) (name string) {
	t.Helper()
	eventually(t, 30*time.Second, "the stream to have a leader", func(ctx context.Context) error {
		// A request to the server that was killed is never answered.
		ctx, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		s, err := js.Stream(ctx, events.StreamEvents)
		if err != nil {
			return err
		}
		c := s.CachedInfo().Cluster
		if c == nil || c.Leader == "" || slices.Contains(away, c.Leader) {
			return fmt.Errorf("the cluster is %+v", c)
		}
		name = c.Leader
		return nil
	})
	return name
}

// killServers is kill -9 of servers of the bus; the function that it returns starts them again, side by side, as no
// single one is healthy without another.
func killServers(t *testing.T, names ...string) (start func()) {
	t.Helper()
	var killed []*stack.Process
	for _, name := range names {
		p, err := env.stack.Process(name)
		must(t, err)
		must(t, p.Kill(t.Context()))
		killed = append(killed, p)
	}
	return func() {
		t.Helper()
		errs := make(chan error, len(killed))
		for _, p := range killed {
			go func() { errs <- p.Start(t.Context()) }()
		}
		for range killed {
			must(t, <-errs)
		}
	}
}

// A bus of three servers: whichever of them leads the stream dies in mid-rollout, then its successor, then two at once,
// which leaves nobody to agree with. All groups become ready, Helm acts once for each release, and of what was said
// nothing is there twice and nothing is missing.
func TestNATSCluster(t *testing.T) {
	const n = 6
	ownStack(t, stack.Options{Services: true, Replicas: replicas, NATS: natsServers, LogLevel: "debug"})
	s := serve(t)
	add(t, s, "small", "1.0.0", configMapChart())
	js, err := jetstream.New(natsAs(t, events.IdentityReader, "_INBOX"))
	must(t, err)
	for _, name := range []string{events.StreamEvents, events.StreamDeadLetters, events.StreamWaits} {
		stream, err := js.Stream(t.Context(), name)
		must(t, err)
		if info := stream.CachedInfo(); info.Config.Replicas != natsServers || info.Cluster == nil || len(info.Cluster.Replicas) != natsServers-1 {
			t.Errorf("stream %s has %d replicas, on %+v", name, info.Config.Replicas, info.Cluster)
		}
	}

	groups := []string{"leaderless", "leaderless-again", "minority", "afterwards"}
	begin := time.Now()
	group := func(i int) {
		t.Helper()
		create(t, chain(groups[i], s.URL, n))
		awaitReleases(t, groups[i], 1)
	}
	group(0)
	first := leader(t, js)
	startFirst := killServers(t, first)
	second := leader(t, js, first)
	group(1)
	startFirst()
	startSecond := killServers(t, second)
	third := leader(t, js, second)
	group(2)
	startSecond()
	killServers(t, second, third)()
	group(3)
	t.Logf("%s, then %s, then %s and %s were killed and started again within %s", first, second, second, third, time.Since(begin).Round(100*time.Millisecond))
	for _, name := range groups {
		awaitReady(t, name, 2*time.Minute, metav1.ConditionTrue, v1alpha1.ReasonSucceeded)
		inOrder(t, name, n)
		ended(t, name)
		once(t, name)
		installedOnce(t, name, n)
	}
	withoutHoles(t, js)
	for _, name := range groups {
		audited(t, name)
	}
	answers(t, 0, []string{" 0 gaps", "are as they were recorded"}, "audit", "verify", auditDir(t), "--against-stream")
	goTogether(t, groups)
}

// ended waits until the end of a group's rollout is said.
func ended(t *testing.T, group string) {
	t.Helper()
	eventually(t, 20*time.Second, "the end of the rollout of group "+group+" to be said", func(context.Context) error {
		for _, f := range facts(t, group) {
			if _, over := f.Data.(events.RolloutSucceeded); over {
				return nil
			}
		}
		return errors.New("it is not said")
	})
}

// installedOnce fails where Helm has acted more than once for a release of the group.
func installedOnce(t *testing.T, group string, n int) {
	t.Helper()
	all := releases(t, group)
	if len(all) != n {
		t.Errorf("group %s has %d releases, want %d", group, len(all), n)
	}
	for name, hr := range all {
		if h := hr.Status.History; len(h) != 1 || h.Latest().Version != 1 {
			t.Errorf("release %s has a history of %d, the latest of revision %d: want one action", name, len(h), h.Latest().Version)
		}
	}
}

// withoutHoles fails where the stream of events has lost one: its sequences are those of the messages that it has.
func withoutHoles(t *testing.T, js jetstream.JetStream) {
	t.Helper()
	s, err := js.Stream(t.Context(), events.StreamEvents)
	must(t, err)
	if state := s.CachedInfo().State; state.FirstSeq != 1 || state.Msgs != state.LastSeq || state.NumDeleted != 0 {
		t.Errorf("the stream has %d events from %d to %d, and %d are deleted: want all from 1", state.Msgs, state.FirstSeq, state.LastSeq, state.NumDeleted)
	}
}
