// Package eventstest runs real NATS servers with JetStream inside a test.
//
//	nats := eventstest.Single(t)
//	bus := eventstest.Bus(t, nats.URL(), "stager")
package eventstest

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"orkestra.dev/pkg/events"
)

// startTimeout bounds the start of a server, and of a cluster until it has a leader.
const startTimeout = 30 * time.Second

// Accounts of each server: tests that share servers, and want streams of their
// own, take different ones, see Servers.Account. The streams of one account are
// invisible to the others.
const Accounts = 40

// Servers is one server, or a cluster of them.
type Servers struct {
	t     testing.TB
	nodes []*node
}

type node struct {
	config, addr string

	mu     sync.Mutex
	server *server.Server // nil before its start
}

func (n *node) running() *server.Server {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.server == nil || !n.server.Running() {
		return nil
	}
	return n.server
}

// Single starts one server. It is shut down when the test ends.
func Single(t testing.TB) *Servers {
	t.Helper()
	return start(t, 1)
}

// Cluster starts three servers that replicate.
func Cluster(t testing.TB) *Servers {
	t.Helper()
	return start(t, 3)
}

func start(t testing.TB, count int) *Servers {
	t.Helper()
	s := &Servers{t: t}
	ports := freePorts(t, 2*count)
	clients, routes := ports[:count], ports[count:]
	for i := range count {
		dir := t.TempDir()
		config := filepath.Join(dir, "nats.conf")
		if err := os.WriteFile(config, []byte(configuration(i, dir, clients, routes)), 0o600); err != nil {
			t.Fatal(err)
		}
		s.nodes = append(s.nodes, &node{config: config, addr: fmt.Sprintf("127.0.0.1:%d", clients[i])})
	}
	t.Cleanup(func() {
		for i := range s.nodes {
			s.Stop(i)
		}
	})
	for i := range s.nodes {
		s.launch(i)
	}
	for i := range s.nodes {
		s.await(i)
	}
	return s
}

func configuration(i int, dir string, clients, routes []int) string {
	var c strings.Builder
	fmt.Fprintf(&c, "server_name: n%d\nlisten: 127.0.0.1:%d\n", i, clients[i])
	fmt.Fprintf(&c, "jetstream { store_dir: %q, max_mem: 64MB, max_file: %s }\n", dir, room)
	if len(routes) > 1 {
		fmt.Fprintf(&c, "cluster { name: test, listen: 127.0.0.1:%d, pool_size: -1, no_advertise: true, routes: [\n", routes[i])
		for _, r := range routes {
			fmt.Fprintf(&c, "  nats://127.0.0.1:%d\n", r)
		}
		c.WriteString("] }\n")
	}
	c.WriteString("no_auth_user: u0\naccounts {\n")
	for a := range Accounts {
		fmt.Fprintf(&c, "  A%d { jetstream: enabled, users: [ { user: u%d, password: p } ] }\n", a, a)
	}
	c.WriteString("}\n")
	return c.String()
}

// freePorts are ports that were free a moment ago, below those that systems give to who asks for any (from 32768 on, by
// Linux): so nobody is given one before the server listens, or while it is stopped.
func freePorts(t testing.TB, count int) []int {
	t.Helper()
	const first, last = 10_000, 32_767
	var ports []int
	for range 100 * count {
		if len(ports) == count {
			break
		}
		port := first + rand.IntN(last-first+1)
		l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
		if err != nil {
			continue
		}
		defer func() { _ = l.Close() }()
		ports = append(ports, port)
	}
	if len(ports) < count {
		t.Fatalf("no %d free ports between %d and %d", count, first, last)
	}
	return ports
}

// Nodes is the number of servers.
func (s *Servers) Nodes() int { return len(s.nodes) }

// URL of all servers, for the first account.
func (s *Servers) URL() string { return s.Account(0) }

// Account is the URL of all servers for account n, 0 to Accounts-1.
func (s *Servers) Account(n int) string {
	var urls []string
	for i := range s.nodes {
		urls = append(urls, fmt.Sprintf("nats://u%d:p@%s", n, s.Addr(i)))
	}
	return strings.Join(urls, ",")
}

// Addr is the host and port of one server.
func (s *Servers) Addr(i int) string { return s.nodes[i].addr }

// StreamLeader is the server that leads a stream of account n; -1 where none does.
func (s *Servers) StreamLeader(n int, stream string) int {
	for i, node := range s.nodes {
		srv := node.running()
		if srv != nil && (len(s.nodes) == 1 || srv.JetStreamIsStreamLeader(fmt.Sprintf("A%d", n), stream)) {
			return i
		}
	}
	return -1
}

// Stop shuts one server down; what it has stored stays.
func (s *Servers) Stop(i int) {
	if srv := s.nodes[i].running(); srv != nil {
		srv.Shutdown()
		srv.WaitForShutdown()
	}
}

// Start starts a stopped server, on the same port and with what it had stored.
func (s *Servers) Start(i int) {
	s.t.Helper()
	s.launch(i)
	s.await(i)
}

// Restart stops and starts one server.
func (s *Servers) Restart(i int) {
	s.t.Helper()
	s.Stop(i)
	s.Start(i)
}

// room is how much a server may store in files unless a test says otherwise.
const room = "4GB"

// Limit starts one server again with room for so many bytes of files, what it has
// stored already included: with less than that it refuses whatever is to be stored.
// 0 is the usual room, which is plenty.
func (s *Servers) Limit(i int, bytes int64) {
	s.t.Helper()
	s.Stop(i)
	config, err := os.ReadFile(s.nodes[i].config)
	if err != nil {
		s.t.Fatal(err)
	}
	want := room
	if bytes > 0 {
		want = strconv.FormatInt(bytes, 10)
	}
	config = maxFile.ReplaceAll(config, []byte("max_file: "+want+" }"))
	if err := os.WriteFile(s.nodes[i].config, config, 0o600); err != nil {
		s.t.Fatal(err)
	}
	s.Start(i)
}

var maxFile = regexp.MustCompile(`max_file: \w+ }`)

func (s *Servers) launch(i int) {
	s.t.Helper()
	options, err := server.ProcessConfigFile(s.nodes[i].config)
	if err != nil {
		s.t.Fatalf("configuring NATS: %v", err)
	}
	options.NoLog, options.NoSigs = true, true
	srv, err := server.NewServer(options)
	if err != nil {
		s.t.Fatalf("starting NATS: %v", err)
	}
	s.nodes[i].mu.Lock()
	s.nodes[i].server = srv
	s.nodes[i].mu.Unlock()
	go srv.Start()
}

func (s *Servers) await(i int) {
	s.t.Helper()
	srv := s.nodes[i].server
	if !srv.ReadyForConnections(startTimeout) {
		s.t.Fatalf("NATS server %d is not ready after %s", i, startTimeout)
	}
	if len(s.nodes) == 1 {
		return
	}
	Eventually(s.t, startTimeout, "the cluster has a leader that knows all servers", func() bool {
		for _, n := range s.nodes {
			if srv := n.running(); srv != nil && srv.JetStreamIsLeader() {
				return len(srv.JetStreamClusterPeers()) == len(s.nodes)
			}
		}
		return false
	})
}

// Eventually polls until the condition holds, and fails the test where it does
// not within the timeout.
func Eventually(t testing.TB, timeout time.Duration, what string, condition func() bool) {
	t.Helper()
	deadline := time.Now().Add(timeout)
	for !condition() {
		if time.Now().After(deadline) {
			t.Fatalf("not within %s: %s", timeout, what)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// Bus connects to servers as a service, with the topology in place. Events that
// fail come back after milliseconds, and those of a dead consumer after two
// seconds. Change what you need by edit; both may be called often.
func Bus(t testing.TB, url, service string, edit ...func(*events.Options)) *events.Bus {
	t.Helper()
	o := events.Options{
		URL:      url,
		Source:   "orkestra://test/" + service,
		Topology: events.DefaultTopology(),
		Backoff:  func(uint64) time.Duration { return 10 * time.Millisecond },
		Grace:    5 * time.Second,
	}
	for i := range o.Topology.Consumers {
		o.Topology.Consumers[i].AckWait = 2 * time.Second
	}
	for _, e := range edit {
		e(&o)
	}
	bus, err := events.Connect(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = bus.Close() })
	ctx, cancel := context.WithTimeout(t.Context(), startTimeout)
	defer cancel()
	if err := bus.EnsureTopology(ctx); err != nil {
		t.Fatal(err)
	}
	return bus
}
