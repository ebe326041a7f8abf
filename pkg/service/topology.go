package service

import (
	"context"
	"time"

	"github.com/spf13/cobra"

	"orkestra.dev/pkg/events"
)

// Who makes the streams and consumers, see --nats-topology.
const (
	// topologyEnsure: every service does, which takes the permission to change them.
	topologyEnsure = "ensure"
	// topologyAwait: a process of its own does, and the services need no such permission.
	topologyAwait = "await"
)

// topologyInterval is how often the streams are looked at, and so how long they are
// gone at most where the servers have lost them.
const topologyInterval = 2 * time.Second

// topologyCommand is a service of its own in the binary of each: an image more would
// hold nothing else.
func topologyCommand() *cobra.Command {
	cmd := Topology().Command()
	cmd.Use = "topology"
	return cmd
}

// Topology is what makes the streams and the consumers, as a service.
func Topology() Service {
	return Service{
		Name:  events.IdentityTopology,
		Short: "Makes the JetStream streams and consumers, and keeps them",
		Long: `Topology makes the JetStream streams and consumers that all services use, and makes them
again where the servers have lost them. It runs beside services with --nats-topology await,
which then need no permission to change a stream. It needs no Kubernetes, it is in the binary
of every service, and any number of it may run.`,
		NoCluster:     true,
		keepsTopology: true,
		Setup:         func(context.Context, *Env) error { return nil },
	}
}

// addTopology adds what has to happen before anything is said or heard.
func (e *Env) addTopology(s Service, o options) error {
	switch {
	case s.NoTopology:
		close(e.topology)
		return nil
	case s.keepsTopology:
		return e.Run(func(ctx context.Context) error {
			e.Bus.KeepTopology(ctx, topologyInterval, func() { close(e.topology) })
			return nil
		})
	case o.natsTopology == topologyAwait:
		return e.Run(func(ctx context.Context) error { return e.untilTopology(ctx, e.Bus.AwaitTopology) })
	default:
		return e.Run(func(ctx context.Context) error { return e.untilTopology(ctx, e.Bus.EnsureTopology) })
	}
}

// untilTopology repeats there, which says that the streams and consumers are there:
// a service that comes up before NATS waits for it and says so on /readyz.
func (e *Env) untilTopology(ctx context.Context, there func(context.Context) error) error {
	delay := 100 * time.Millisecond
	for {
		err := there(ctx)
		if err == nil {
			close(e.topology)
			return nil
		}
		if ctx.Err() == nil {
			e.Log.Warn("waiting for the bus", "error", err, "again", delay)
		}
		select {
		case <-ctx.Done():
			return nil // asked to stop before the bus was there
		case <-time.After(delay):
		}
		delay = min(2*delay, 5*time.Second)
	}
}
