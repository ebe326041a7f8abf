// Package verify says whether a chart proves who made it: by Helm's provenance, or by
// a signature of cosign. It is given the proof and the keys to trust, and fetches nothing.
package verify

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"orkestra.dev/api/v1alpha1"
	"orkestra.dev/services/stager/refusal"
)

// Chart is what is to be proved.
type Chart struct {
	// Archive as it was fetched. Over OCI whoever fetched it has made sure that it is
	// the layer of the manifest.
	Archive []byte
	// Name and Version that were asked for and found; the version is exact.
	Name, Version string
	// ManifestDigest is that of the OCI manifest, sha256:<hex>; empty over http and https.
	ManifestDigest string
}

func (c Chart) String() string { return "chart " + c.Name + " " + c.Version }

// Proof is what was found beside a chart. Nobody has looked at it yet.
type Proof struct {
	// Provenance is Helm's clear-signed .prov file.
	Provenance []byte
	// Signatures in an OCI registry.
	Signatures []Signature
}

// Signature is one of cosign: Payload and Base64, or Bundle.
type Signature struct {
	// MediaType of Payload or of Bundle.
	MediaType string
	// Payload that was signed, in the form of simple signing.
	Payload []byte
	// Base64 is the signature of Payload.
	Base64 string
	// Bundle of sigstore, in JSON.
	Bundle []byte
}

// Bounds on a proof. What people sign with is far below them.
const (
	maxKeys       = 100
	maxKeyBytes   = 1 << 20 // of a whole Secret
	maxProvenance = 1 << 20
	maxSignatures = 100
	maxSignature  = 1 << 20 // of one, with its payload
)

// Check the proof that v asks for against keys, the data of the Secret that v names. It
// is nil where the proof holds, and else a refusal (VerificationFailed) that says what to
// do and holds nothing of a key. An OpenPGP key and its signature must not have expired
// at now.
//
// Whoever trusts several keys trusts each, and of several signatures one that holds is
// enough: anybody may put another beside it.
func Check(v v1alpha1.ChartVerification, keys map[string][]byte, chart Chart, proof Proof, now time.Time) error {
	secret := fmt.Sprintf("Secret %s/%s of chart.verify", cmp.Or(v.SecretRef.Namespace, v1alpha1.DefaultAuthSecretNamespace), v.SecretRef.Name)
	entries, err := entriesOf(keys)
	if err == nil {
		switch v.Provider {
		case v1alpha1.VerifyProvenance:
			err = provenanceOf(chart, proof.Provenance, entries, now)
		case v1alpha1.VerifyCosign:
			err = cosigned(chart, proof.Signatures, entries)
		default:
			err = fmt.Errorf("chart.verify.provider is %q: it has to be %s or %s", v.Provider, v1alpha1.VerifyProvenance, v1alpha1.VerifyCosign)
		}
	}
	if err == nil {
		return nil
	}
	return refusal.Becausef(v1alpha1.ReasonVerificationFailed, "%s is not proved with the keys in %s: %w", chart, secret, err)
}

// entry of the Secret with the keys.
type entry struct {
	name string
	data []byte
}

// entriesOf the Secret, sorted; there has to be one.
func entriesOf(keys map[string][]byte) ([]entry, error) {
	var out []entry
	size := 0
	for _, name := range slices.Sorted(maps.Keys(keys)) {
		if size += len(keys[name]); size > maxKeyBytes {
			return nil, fmt.Errorf("the Secret has more than %d bytes", maxKeyBytes)
		}
		if data := bytes.TrimSpace(keys[name]); len(data) > 0 {
			out = append(out, entry{name, keys[name]})
		}
	}
	if len(out) == 0 {
		return nil, errors.New("the Secret has no entries: put the public keys to trust there")
	}
	return out, nil
}
