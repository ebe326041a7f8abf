package verify_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp"
	pgparmor "github.com/ProtonMail/go-crypto/openpgp/armor"
	"github.com/ProtonMail/go-crypto/openpgp/clearsign"
	"github.com/ProtonMail/go-crypto/openpgp/packet"
	"helm.sh/helm/v3/pkg/provenance"

	"orkestra.dev/api/v1alpha1"
	"orkestra.dev/services/stager/archive"
	"orkestra.dev/services/stager/refusal"
	"orkestra.dev/services/stager/verify"
)

func packed(t *testing.T, name, version, template string) []byte {
	t.Helper()
	data, err := archive.Write(name, []archive.File{
		{Name: "Chart.yaml", Data: []byte("apiVersion: v2\nname: " + name + "\nversion: " + version + "\n")},
		{Name: "templates/a.yaml", Data: []byte(template)},
	})
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// signer makes an OpenPGP key that is good for lifetime, or for ever where that is 0.
func signer(t *testing.T, name string, lifetime time.Duration) *openpgp.Entity {
	t.Helper()
	e, err := openpgp.NewEntity(name, "", name+"@example.com", &packet.Config{
		Algorithm:       packet.PubKeyAlgoEdDSA,
		KeyLifetimeSecs: uint32(lifetime.Seconds()),
	})
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func public(t *testing.T, keys ...*openpgp.Entity) []byte {
	t.Helper()
	var b bytes.Buffer
	for _, k := range keys {
		if err := k.Serialize(&b); err != nil {
			t.Fatal(err)
		}
	}
	return b.Bytes()
}

func armored(t *testing.T, keys ...*openpgp.Entity) []byte {
	t.Helper()
	var b bytes.Buffer
	w, err := pgparmor.Encode(&b, openpgp.PublicKeyType, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(public(t, keys...)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return append(b.Bytes(), '\n')
}

// signed is the .prov of an archive in a file of that name, by Helm itself.
func signed(t *testing.T, key *openpgp.Entity, file string, data []byte) []byte {
	t.Helper()
	path := filepath.Join(t.TempDir(), file)
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	prov, err := (&provenance.Signatory{Entity: key}).ClearSign(path)
	if err != nil {
		t.Fatal(err)
	}
	return []byte(prov)
}

// helmAgrees has Helm verify the same thing from files. It is told the keys that the
// Secret has, and no time: only what is decided at the present is compared.
func helmAgrees(t *testing.T, ring openpgp.EntityList, chart verify.Chart, prov []byte, want bool) {
	t.Helper()
	dir := t.TempDir()
	file := filepath.Join(dir, chart.Name+"-"+chart.Version+".tgz")
	for path, data := range map[string][]byte{file: chart.Archive, file + ".prov": prov} {
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	_, err := (&provenance.Signatory{KeyRing: ring}).Verify(file, file+".prov")
	if (err == nil) != want {
		t.Errorf("Helm says %v, we say that it holds: %t", err, want)
	}
}

func clear(t *testing.T, key *openpgp.Entity, message string) []byte {
	t.Helper()
	var b bytes.Buffer
	w, err := clearsign.Encode(&b, key.PrivateKey, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write([]byte(message)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestProvenance(t *testing.T) {
	now := time.Now()
	alice, mallory, brief := signer(t, "alice", 0), signer(t, "mallory", 0), signer(t, "brief", time.Hour)
	archived := packed(t, "redis", "1.2.3", "a: 1")
	old := packed(t, "redis", "1.2.2", "a: 0")
	redis := verify.Chart{Archive: archived, Name: "redis", Version: "1.2.3"}
	good := signed(t, alice, "redis-1.2.3.tgz", archived)
	keys := func(data ...[]byte) map[string][]byte {
		out := map[string][]byte{}
		for i, d := range data {
			out["key"+string(rune('a'+i))] = d
		}
		return out
	}
	ofAlice := keys(public(t, alice))

	cases := map[string]struct {
		reason string
		chart  verify.Chart
		keys   map[string][]byte
		ring   openpgp.EntityList // the same for Helm; nil where Helm is not asked
		prov   []byte
		at     time.Time
		want   string // in the message; empty where it holds
	}{
		"Good":        {reason: "what Helm has signed holds", keys: ofAlice, ring: openpgp.EntityList{alice}, prov: good},
		"Armored":     {reason: "a keyring may be armored", keys: keys(armored(t, alice)), prov: good},
		"TwoArmored":  {reason: "armored keyrings may be one after the other", keys: keys(append(armored(t, mallory), armored(t, alice)...)), prov: good},
		"EveryEntry":  {reason: "every entry of the Secret is read", keys: keys(public(t, mallory), armored(t, brief), public(t, alice)), prov: good},
		"OneRing":     {reason: "a keyring may hold several keys", keys: keys(public(t, mallory, alice)), prov: good},
		"OtherKey":    {reason: "who is not trusted proves nothing", keys: ofAlice, ring: openpgp.EntityList{alice}, prov: signed(t, mallory, "redis-1.2.3.tgz", archived), want: "another key"},
		"OtherChart":  {reason: "the proof of one chart is none of another", keys: ofAlice, ring: openpgp.EntityList{alice}, prov: signed(t, alice, "other-1.2.3.tgz", packed(t, "other", "1.2.3", "a: 1")), want: "does not speak of redis-1.2.3.tgz"},
		"OldAsNew":    {reason: "an old version is not offered as a new one", chart: verify.Chart{Archive: old, Name: "redis", Version: "1.2.3"}, keys: ofAlice, ring: openpgp.EntityList{alice}, prov: signed(t, alice, "redis-1.2.2.tgz", old), want: "does not speak of redis-1.2.3.tgz"},
		"Changed":     {reason: "a changed archive is not what was signed", chart: verify.Chart{Archive: packed(t, "redis", "1.2.3", "a: 2"), Name: "redis", Version: "1.2.3"}, keys: ofAlice, ring: openpgp.EntityList{alice}, prov: good, want: "one of them was changed"},
		"ProvChanged": {reason: "a changed provenance is not what was signed", keys: ofAlice, ring: openpgp.EntityList{alice}, prov: bytes.Replace(good, []byte("name: redis"), []byte("name: fedis"), 1), want: "does not hold"},
		"Unsigned":    {reason: "no proof is no proof", keys: ofAlice, want: "no provenance beside it"},
		"NoMessage":   {reason: "what is not signed is no proof", keys: ofAlice, ring: openpgp.EntityList{alice}, prov: []byte("name: redis\n...\nfiles: {}\n"), want: "no clear-signed message"},
		"NotHelms":    {reason: "a signature of something else is no proof", keys: ofAlice, ring: openpgp.EntityList{alice}, prov: clear(t, alice, "I owe you 5"), want: "no sums"},
		"NoSums":      {reason: "sums that do not parse are none", keys: ofAlice, ring: openpgp.EntityList{alice}, prov: clear(t, alice, "name: redis\n...\n[\n"), want: "do not parse"},
		"NoEntry":     {reason: "a Secret without keys trusts nobody", keys: map[string][]byte{}, prov: good, want: "has no entries"},
		"BlankEntry":  {reason: "a Secret without keys trusts nobody", keys: keys([]byte(" \n")), prov: good, want: "has no entries"},
		"NotAKeyring": {reason: "an entry that is no keyring is a mistake", keys: map[string][]byte{"a": public(t, alice), "readme": []byte("look here")}, prov: good, want: "entry readme is not an OpenPGP keyring"},
		"KeyInTerm":   {reason: "a key is good until its end", keys: keys(public(t, brief)), prov: signed(t, brief, "redis-1.2.3.tgz", archived), at: now.Add(59 * time.Minute)},
		"KeyExpired":  {reason: "a key is good no longer", keys: keys(public(t, brief)), prov: signed(t, brief, "redis-1.2.3.tgz", archived), at: now.Add(2 * time.Hour), want: "has expired"},
		"LargeProof":  {reason: "a proof is bounded", keys: ofAlice, prov: append(bytes.Clone(good), make([]byte, 1<<20)...), want: "are allowed"},
		"LargeSecret": {reason: "a Secret is bounded", keys: keys(make([]byte, 1<<20+1)), prov: good, want: "more than"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			if c.chart.Name == "" {
				c.chart = redis
			}
			if c.at.IsZero() {
				c.at = now
			}
			v := v1alpha1.ChartVerification{Provider: v1alpha1.VerifyProvenance}
			v.SecretRef.Name = "keys"
			err := verify.Check(v, c.keys, c.chart, verify.Proof{Provenance: c.prov}, c.at)
			check(t, c.reason, err, c.want)
			if c.ring != nil {
				helmAgrees(t, c.ring, c.chart, c.prov, c.want == "")
			}
		})
	}
}

// check that err is nil, or a refusal which says want, in one line, where to look.
func check(t *testing.T, reason string, err error, want string) {
	t.Helper()
	if want == "" {
		if err != nil {
			t.Errorf("%s: got %v", reason, err)
		}
		return
	}
	if refusal.Reason(err) != v1alpha1.ReasonVerificationFailed {
		t.Fatalf("%s: want a refusal, got %v", reason, err)
	}
	for _, part := range []string{want, "chart redis 1.2.3", "Secret default/keys"} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("%s: want %q in %q", reason, part, err)
		}
	}
	if strings.ContainsAny(err.Error(), "\n\x00") || len(err.Error()) > 1000 {
		t.Errorf("%s: the message is no line: %q", reason, err)
	}
}
