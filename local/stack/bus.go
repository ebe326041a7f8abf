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

// nats runs with the users of deploy/nats and with TLS; what else deploy/nats/nats.conf sets is for machines that matter.
func (p *planner) nats() spec {
	client, monitor := p.port("nats", "client"), p.port("nats", "monitor")
	path, id := p.binary(filepath.Join(p.bin, "nats-server"))
	return spec{
		Name: "nats", Binary: id, Inputs: p.inputs, Rank: ranksStorage, Ports: []int{client, monitor},
		Health: "http://" + loopback(monitor) + "/healthz",
		Command: []string{path, "--config", p.usersFile(), "--addr", "127.0.0.1", "--port", strconv.Itoa(client),
			"--http_port", strconv.Itoa(monitor), "--jetstream", "--store_dir", p.data("nats"),
			"--tls", "--tlscert", p.pki("nats.crt"), "--tlskey", p.pki("nats.key")},
		Env: p.natsKeys(),
		Exports: map[string]string{
			"NATS_URL":         "tls://" + loopback(client),
			"NATS_CA":          p.pki("ca.crt"),
			"NATS_NKEY":        p.seed(operator),
			"NATS_MONITOR_URL": "http://" + loopback(monitor),
		},
	}
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
func (p *planner) topology(natsURL string) spec {
	health, metrics := p.port(topologyProcess, "health"), p.port(topologyProcess, "metrics")
	path, id := p.binary(serviceBinary(p.bin, Services[0]))
	return spec{
		Name: topologyProcess, Binary: id, Inputs: p.inputs, Rank: ranksServices, Ports: []int{health, metrics},
		Health: "http://" + loopback(health) + "/readyz",
		Command: append([]string{path, topologyProcess, "--health-addr", loopback(health), "--metrics-addr", loopback(metrics)},
			p.natsFlags(topologyProcess, natsURL)...),
	}
}
