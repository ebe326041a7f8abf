package verify

import (
	"bytes"
	"crypto"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/sigstore/sigstore/pkg/cryptoutils"
	"github.com/sigstore/sigstore/pkg/signature"
	"github.com/sigstore/sigstore/pkg/signature/dsse"
	"github.com/sigstore/sigstore/pkg/signature/payload"
)

const (
	bundleMediaType = "application/vnd.dev.sigstore.bundle"
	// What cosign puts into a bundle: a statement of in-toto, of its own predicate. An
	// attestation of another predicate, a list of packages or of vulnerabilities say,
	// is signed with the same key and is no word for the chart.
	statementPayload = "application/vnd.in-toto+json"
	statementType    = "https://in-toto.io/Statement/"
	signPredicate    = "https://sigstore.dev/cosign/sign/v1"
)

// cosigned finds a signature of the manifest that one of the keys has made. What it
// finds on the way is said where none holds.
func cosigned(chart Chart, signatures []Signature, entries []entry) error {
	keys, err := publicKeys(entries)
	if err != nil {
		return err
	}
	switch {
	case chart.ManifestDigest == "":
		return errors.New("signatures of cosign are in OCI registries only; use provider Provenance, or an oci:// URL")
	case len(signatures) == 0:
		return fmt.Errorf("there is no signature beside it; sign it with cosign sign --key at its manifest %s", chart.ManifestDigest)
	case len(signatures) > maxSignatures:
		return fmt.Errorf("there are %d signatures beside it, %d are allowed", len(signatures), maxSignatures)
	}
	var why []string
	for _, s := range signatures {
		err := s.holds(chart.ManifestDigest, keys)
		if err == nil {
			return nil
		}
		if !slices.Contains(why, err.Error()) {
			why = append(why, err.Error())
		}
	}
	const enough = 3
	if len(why) > enough {
		why = append(why[:enough], "and so on")
	}
	return fmt.Errorf("none of the signatures beside it holds (%d): %s", len(signatures), strings.Join(why, "; "))
}

var (
	errOtherKey  = errors.New("signed with another key, without one (keyless), or changed since; put the signer's public key into the Secret if it is to be trusted")
	errMalformed = errors.New("not a signature of cosign")
)

// holds tells whether the signature is of that manifest, by one of the keys.
func (s Signature) holds(manifest string, keys []signature.Verifier) error {
	size := len(s.Payload) + len(s.Base64) + len(s.Bundle)
	if size > maxSignature {
		return fmt.Errorf("%d bytes large, %d are allowed", size, maxSignature)
	}
	for _, key := range keys {
		var signed []string
		var err error
		if len(s.Bundle) > 0 {
			signed, err = s.bundle(key)
		} else {
			signed, err = s.simple(key)
		}
		if errors.Is(err, errOtherKey) {
			continue
		}
		if err != nil {
			return err
		}
		if slices.Contains(signed, manifest) {
			return nil
		}
		return fmt.Errorf("it is of another manifest than %s", manifest)
	}
	return errOtherKey
}

// simple is cosign's first form: the payload names the manifest.
func (s Signature) simple(key signature.Verifier) ([]string, error) {
	sig, err := base64.StdEncoding.DecodeString(s.Base64)
	if err != nil {
		return nil, errMalformed
	}
	if err := key.VerifySignature(bytes.NewReader(sig), bytes.NewReader(s.Payload)); err != nil {
		return nil, errOtherKey
	}
	var p payload.SimpleContainerImage
	if err := json.Unmarshal(s.Payload, &p); err != nil || p.Critical.Type != payload.CosignSignatureType {
		return nil, errMalformed
	}
	return []string{p.Critical.Image.DockerManifestDigest}, nil
}

// bundle is cosign's form since version 3: an envelope with a statement of in-toto,
// whose subjects are the manifest.
func (s Signature) bundle(key signature.Verifier) ([]string, error) {
	var b struct {
		MediaType    string          `json:"mediaType"`
		DSSEEnvelope json.RawMessage `json:"dsseEnvelope"`
	}
	if err := json.Unmarshal(s.Bundle, &b); err != nil || !strings.HasPrefix(b.MediaType, bundleMediaType) || len(b.DSSEEnvelope) == 0 {
		return nil, errMalformed
	}
	var signed []byte
	envelope := dsse.WrapVerifier(key, dsse.WithExpectedPayloadType(statementPayload), dsse.WithDecodedPayload(&signed))
	if err := envelope.VerifySignature(bytes.NewReader(b.DSSEEnvelope), nil); err != nil {
		return nil, errOtherKey
	}
	var statement struct {
		Type          string `json:"_type"`
		PredicateType string `json:"predicateType"`
		Subject       []struct {
			Digest map[string]string `json:"digest"`
		} `json:"subject"`
	}
	if err := json.Unmarshal(signed, &statement); err != nil || !strings.HasPrefix(statement.Type, statementType) {
		return nil, errMalformed
	}
	if statement.PredicateType != signPredicate {
		return nil, fmt.Errorf("an attestation (%q), and no signature", statement.PredicateType)
	}
	var out []string
	for _, subject := range statement.Subject {
		out = append(out, "sha256:"+subject.Digest["sha256"])
	}
	return out, nil
}

// publicKeys of all entries; an entry may hold several. A key stands there once for each
// hash that cosign has signed with: SHA-256, and since version 3 that of the curve's size.
func publicKeys(entries []entry) ([]signature.Verifier, error) {
	var out []signature.Verifier
	for _, e := range entries {
		rest := e.data
		for found := 0; ; found++ {
			var block *pem.Block
			if block, rest = pem.Decode(rest); block == nil {
				if found == 0 {
					return nil, fmt.Errorf("entry %s is not a public key in PEM; cosign public-key writes one", e.name)
				}
				break
			}
			verifiers, err := verifiersOf(block)
			if err != nil {
				return nil, fmt.Errorf("entry %s %w", e.name, err)
			}
			if out = append(out, verifiers...); len(out) > 2*maxKeys {
				return nil, fmt.Errorf("there are more than %d keys", maxKeys)
			}
		}
	}
	return out, nil
}

func verifiersOf(block *pem.Block) ([]signature.Verifier, error) {
	if strings.Contains(block.Type, "PRIVATE KEY") {
		return nil, errors.New("holds a private key: put the public one there, and keep that one where charts are signed")
	}
	key, err := cryptoutils.UnmarshalPEMToPublicKey(pem.EncodeToMemory(block))
	if err != nil {
		return nil, errors.New("is not a public key in PEM; cosign public-key writes one")
	}
	plain, err := signature.LoadVerifier(key, crypto.SHA256)
	if err != nil {
		return nil, fmt.Errorf("holds a key of a kind that cosign does not sign with: %w", err)
	}
	sized, err := signature.LoadDefaultVerifier(key)
	if err != nil {
		return nil, fmt.Errorf("holds a key of a kind that cosign does not sign with: %w", err)
	}
	return []signature.Verifier{plain, sized}, nil
}
