package stack

import (
	"os"
	"path/filepath"
	"slices"
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
