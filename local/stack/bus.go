package stack

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/nats-io/nkeys"
)

const (
	// busProcess is the first server of the bus.
	busProcess = "nats"
	// topologyProcess makes the streams; it is a command of each of our services' binaries.
	topologyProcess = "topology"
	// operator is who the variables of the file env let connect.
	operator = "operator"
	// keyVariable is how the configuration names the public half of an identity's NKey.
	keyVariable = "ORKESTRA_NKEY_"
)

// usersFile is what deploy/nats says about who may connect and what they may do. The stack's server runs with it.
func (l layout) usersFile() string { return filepath.Join(l.root, "deploy", "nats", "users.conf") }

// seed is the file with the NKey of an identity.
func (l layout) seed(identity string) string { return l.path("nats", identity+".nk") }

var keyVariables = regexp.MustCompile(`\$` + keyVariable + `([A-Z]+)`)

// identities are those that users.conf names.
func (l layout) identities() ([]string, error) {
	b, err := os.ReadFile(l.usersFile())
	if err != nil {
		return nil, fmt.Errorf("reading the users of NATS: %w", err)
	}
	var out []string
	for _, m := range keyVariables.FindAllStringSubmatch(string(b), -1) {
		out = append(out, strings.ToLower(m[1]))
	}
	slices.Sort(out)
	return slices.Compact(out), nil
}

// makeKeys makes the NKeys that are missing.
func (l layout) makeKeys() error {
	identities, err := l.identities()
	if err != nil {
		return err
	}
	for _, identity := range identities {
		if _, err := publicKey(l.seed(identity)); !errors.Is(err, fs.ErrNotExist) {
			if err != nil {
				return err
			}
			continue
		}
		pair, err := nkeys.CreateUser()
		if err != nil {
			return fmt.Errorf("making the NKey of %s: %w", identity, err)
		}
		seed, err := pair.Seed()
		if err != nil {
			return fmt.Errorf("making the NKey of %s: %w", identity, err)
		}
		if err := writeFile(l.seed(identity), append(seed, '\n'), 0o600); err != nil {
			return err
		}
	}
	return nil
}

// publicKey is the half of the NKey that the server knows.
func publicKey(file string) (string, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return "", fmt.Errorf("reading an NKey: %w", err)
	}
	pair, err := nkeys.ParseDecoratedUserNKey(b)
	if err != nil {
		return "", fmt.Errorf("reading the NKey %s: %w", file, err)
	}
	defer pair.Wipe()
	public, err := pair.PublicKey()
	if err != nil {
		return "", fmt.Errorf("reading the NKey %s: %w", file, err)
	}
	return public, nil
}

// NATSKey is the file with the NKey by which an identity of deploy/nats/users.conf connects, such as "stager" or "reader".
func (s *Stack) NATSKey(identity string) string { return s.layout.seed(identity) }

// nats are the servers of the bus. They run with the users of deploy/nats and with TLS; what else deploy/nats/nats.conf
// sets is for machines that matter.
func (p *planner) nats(servers int) []spec {
	if servers != 1 && servers != 3 && servers != 5 {
		p.err = errors.Join(p.err, fmt.Errorf("a bus of %d NATS servers: want 1, 3 or 5", servers))
	}
	var out []spec
	var urls, routes []string
	for n := range servers {
		name := replicaName(busProcess, n+1)
		urls = append(urls, "tls://"+loopback(p.port(name, "client")))
		if servers > 1 {
			routes = append(routes, "nats://"+loopback(p.port(name, "cluster")))
		}
	}
	path, id := p.binary(filepath.Join(p.bin, "nats-server"))
	env := p.natsKeys()
	for n := range servers {
		name := replicaName(busProcess, n+1)
		client, monitor := p.port(name, "client"), p.port(name, "monitor")
		s := spec{
			Name: name, Binary: id, Inputs: p.inputs, Rank: ranksStorage, Ports: []int{client, monitor},
			Health: "http://" + loopback(monitor) + "/healthz",
			Command: []string{path, "--addr", "127.0.0.1", "--port", strconv.Itoa(client), "--http_port", strconv.Itoa(monitor),
				"--jetstream", "--tls", "--tlscert", p.pki("nats.crt"), "--tlskey", p.pki("nats.key")},
			Env: env,
			Exports: map[string]string{
				"NATS_URL":                      strings.Join(urls, ","),
				"NATS_CA":                       p.pki("ca.crt"),
				"NATS_NKEY":                     p.seed(operator),
				variable(name) + "_MONITOR_URL": "http://" + loopback(monitor),
			},
		}
		if servers == 1 {
			s.Command = append(s.Command, "--config", p.usersFile(), "--store_dir", p.data(name))
		} else {
			s.Ports = append(s.Ports, p.port(name, "cluster"))
			s.Command = append(s.Command, "--config", p.clusterFile(), "--store_dir", p.data(filepath.Join("nats-cluster", name)),
				"--server_name", name, "--cluster_name", "orkestra", "--cluster", routes[n], "--routes", strings.Join(routes, ","))
		}
		out = append(out, s)
	}
	return out
}

// clusterFile is what the servers of a cluster are configured with: of the routes between them only the TLS, as the rest
// are flags.
func (l layout) clusterFile() string { return l.path("nats", "cluster.conf") }

// makeClusterFile writes it. An include is relative to the file that has it.
func (l layout) makeClusterFile() error {
	users, err := filepath.Rel(filepath.Dir(l.clusterFile()), l.usersFile())
	if err != nil {
		return fmt.Errorf("configuring a cluster of NATS servers: %w", err)
	}
	return writeFile(l.clusterFile(), fmt.Appendf(nil, `cluster {
  tls { cert_file: %q, key_file: %q, ca_file: %q, verify: true }
}
include %q
`, l.pki("nats.crt"), l.pki("nats.key"), l.pki("ca.crt"), users), 0o600)
}

// natsKeys are the variables that users.conf asks for.
func (p *planner) natsKeys() (env []string) {
	identities, err := p.identities()
	p.err = errors.Join(p.err, err)
	for _, identity := range identities {
		public, err := publicKey(p.seed(identity))
		p.err = errors.Join(p.err, err)
		env = append(env, keyVariable+strings.ToUpper(identity)+"="+public)
	}
	return env
}

// natsFlags are how one of our services connects.
func (p *planner) natsFlags(identity, natsURL string) []string {
	return []string{"--nats-url", natsURL, "--nats-ca", p.pki("ca.crt"), "--nats-nkey", p.seed(identity)}
}

// topology is the process that makes the streams: our services may not.
func (p *planner) topology(natsURL string, replicas int) spec {
	health, metrics := p.port(topologyProcess, "health"), p.port(topologyProcess, "metrics")
	path, id := p.binary(serviceBinary(p.bin, Services[0]))
	return spec{
		Name: topologyProcess, Binary: id, Inputs: p.inputs, Rank: ranksServices, Ports: []int{health, metrics},
		Health: "http://" + loopback(health) + "/readyz",
		Command: append([]string{path, topologyProcess, "--health-addr", loopback(health), "--metrics-addr", loopback(metrics),
			"--nats-replicas", strconv.Itoa(replicas)}, p.natsFlags(topologyProcess, natsURL)...),
	}
}
