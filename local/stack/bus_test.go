package stack

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nkeys"
)

// Whoever deploy/nats/users.conf names has a key of its own that stays, which only its owner can read, and the server
// knows the public half of it and no more.
func TestKeysOfTheBus(t *testing.T) {
	root, err := filepath.Abs(filepath.Join("..", ".."))
	if err != nil {
		t.Fatal(err)
	}
	l, err := Options{Root: root, Dir: t.TempDir()}.layout()
	if err != nil {
		t.Fatal(err)
	}
	if err := l.makeDirs(); err != nil {
		t.Fatal(err)
	}
	identities, err := l.identities()
	if err != nil {
		t.Fatal(err)
	}
	for _, service := range append(slices.Clone(Services), topologyProcess, operator) {
		if !slices.Contains(identities, service) {
			t.Errorf("%s may not connect: %v", service, identities)
		}
	}
	keys := func() []string {
		p := &planner{layout: l}
		if err := l.makeKeys(); err != nil {
			t.Fatal(err)
		}
		env := p.natsKeys()
		if p.err != nil {
			t.Fatal(p.err)
		}
		return env
	}
	first := keys()
	if len(first) != len(identities) {
		t.Errorf("%d keys for %d identities", len(first), len(identities))
	}
	seen := map[string]bool{}
	for _, kv := range first {
		_, key, _ := strings.Cut(kv, "=")
		if !nkeys.IsValidPublicUserKey(key) || seen[key] {
			t.Errorf("%s is no public key of its own", kv)
		}
		seen[key] = true
	}
	if diff := cmp.Diff(first, keys()); diff != "" {
		t.Errorf("the keys are others at the next up:\n%s", diff)
	}
	for _, identity := range identities {
		info, err := os.Stat(l.seed(identity))
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm() != 0o600 {
			t.Errorf("the key of %s is open to others: %s", identity, info.Mode())
		}
	}
	if err := os.WriteFile(l.seed(operator), []byte("no key"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := l.makeKeys(); err == nil {
		t.Error("a key that cannot be read is replaced, and whoever had it is locked out")
	}
}

// The servers of a cluster know each other, and whoever connects knows all of them. One server has no routes, and no
// cluster has an even number.
func TestServersOfTheBus(t *testing.T) {
	root, err := filepath.Abs(filepath.Join("..", ".."))
	if err != nil {
		t.Fatal(err)
	}
	l, err := Options{Root: root, Dir: t.TempDir()}.layout()
	if err != nil {
		t.Fatal(err)
	}
	l.bin = t.TempDir()
	if err := os.WriteFile(filepath.Join(l.bin, "nats-server"), nil, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(l.makeDirs(), l.makeKeys(), l.makeClusterFile()); err != nil {
		t.Fatal(err)
	}
	ports, err := loadPorts(l.portsFile())
	if err != nil {
		t.Fatal(err)
	}
	for servers, works := range map[int]bool{1: true, 2: false, 3: true, 4: false, 5: true} {
		p := &planner{layout: l, ports: ports}
		specs := p.nats(servers)
		if (p.err == nil) != works {
			t.Errorf("%d servers: %v", servers, p.err)
		}
		stores := map[string]bool{}
		for _, s := range specs {
			command := strings.Join(s.Command, " ")
			for _, other := range specs {
				if client := loopback(other.Ports[0]); !strings.Contains(s.Exports["NATS_URL"], client) {
					t.Errorf("of %d servers, %s does not say that there is one at %s: %s", servers, s.Name, client, s.Exports["NATS_URL"])
				}
				if servers > 1 && !strings.Contains(command, loopback(other.Ports[2])) {
					t.Errorf("of %d servers, %s has no route to %s: %s", servers, s.Name, other.Name, command)
				}
			}
			if servers == 1 && strings.Contains(command, "--cluster") {
				t.Errorf("one server is a cluster: %s", command)
			}
			stores[s.Command[slices.Index(s.Command, "--store_dir")+1]] = true
		}
		if len(stores) != servers {
			t.Errorf("%d servers store in %v", servers, stores)
		}
	}
	config, err := os.ReadFile(l.clusterFile())
	if err != nil {
		t.Fatal(err)
	}
	_, users, _ := strings.Cut(string(config), "include ")
	users, err = strconv.Unquote(strings.TrimSpace(users))
	if err != nil || filepath.Join(filepath.Dir(l.clusterFile()), users) != l.usersFile() {
		t.Errorf("the users of a cluster are those of %s: %v", users, err)
	}
}
