package verify_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/sigstore/sigstore/pkg/cryptoutils"
	"github.com/sigstore/sigstore/pkg/signature"
	"github.com/sigstore/sigstore/pkg/signature/dsse"
	"github.com/sigstore/sigstore/pkg/signature/payload"

	"orkestra.dev/api/v1alpha1"
	"orkestra.dev/services/stager/verify"
)

const (
	manifest = "sha256:1111111111111111111111111111111111111111111111111111111111111111"
	another  = "sha256:2222222222222222222222222222222222222222222222222222222222222222"

	statements = "application/vnd.in-toto+json"
	signs      = "https://sigstore.dev/cosign/sign/v1"
)

// cosigner is a key of sigstore's own.
type cosigner struct {
	signature.SignerVerifier
	pem []byte
}

func newCosigner(t *testing.T, key crypto.PrivateKey, err error) cosigner {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	s, err := signature.LoadSignerVerifier(key, crypto.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	return cosigner{s, pemOf(t, s)}
}

func pemOf(t *testing.T, s signature.PublicKeyProvider) []byte {
	t.Helper()
	key, err := s.PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cryptoutils.MarshalPublicKeyToPEM(key)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// signs a manifest as cosign did up to version 2.
func (c cosigner) simple(t *testing.T, digest string) verify.Signature {
	t.Helper()
	image, err := name.NewDigest("registry.example.com/charts/redis@" + digest)
	if err != nil {
		t.Fatal(err)
	}
	message, err := json.Marshal(payload.Cosign{Image: image})
	if err != nil {
		t.Fatal(err)
	}
	return c.raw(t, message)
}

func (c cosigner) raw(t *testing.T, message []byte) verify.Signature {
	t.Helper()
	sig, err := c.SignMessage(bytes.NewReader(message))
	if err != nil {
		t.Fatal(err)
	}
	return verify.Signature{
		MediaType: "application/vnd.dev.cosign.simplesigning.v1+json",
		Payload:   message, Base64: base64.StdEncoding.EncodeToString(sig),
	}
}

// bundle signs a manifest as cosign does since version 3.
func (c cosigner) bundle(t *testing.T, digest, predicate, payloadType string) verify.Signature {
	t.Helper()
	message := fmt.Sprintf(`{"_type":"https://in-toto.io/Statement/v1","subject":[{"digest":{"sha256":%q}}],"predicateType":%q,"predicate":{}}`,
		strings.TrimPrefix(digest, "sha256:"), predicate)
	envelope, err := dsse.WrapSigner(c, payloadType).SignMessage(strings.NewReader(message))
	if err != nil {
		t.Fatal(err)
	}
	const mediaType = "application/vnd.dev.sigstore.bundle.v0.3+json"
	return verify.Signature{MediaType: mediaType, Bundle: fmt.Appendf(nil,
		`{"mediaType":%q,"verificationMaterial":{"publicKey":{"hint":"aGludA=="},"tlogEntries":[]},"dsseEnvelope":%s}`, mediaType, envelope)}
}

func TestCosign(t *testing.T) {
	newKey := func(curve elliptic.Curve) cosigner {
		key, err := ecdsa.GenerateKey(curve, rand.Reader)
		return newCosigner(t, key, err)
	}
	alice, mallory := newKey(elliptic.P256()), newKey(elliptic.P256())
	_, edKey, err := ed25519.GenerateKey(rand.Reader)
	ed := newCosigner(t, edKey, err)
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	ofRSA := newCosigner(t, rsaKey, err)
	large, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	p384 := newCosigner(t, large, err)
	sized, err := signature.LoadDefaultSignerVerifier(large)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(large)
	if err != nil {
		t.Fatal(err)
	}

	keys := func(pems ...[]byte) map[string][]byte {
		out := map[string][]byte{}
		for i, p := range pems {
			out[fmt.Sprintf("key%d.pub", i)] = p
		}
		return out
	}
	ofAlice := keys(alice.pem)
	one := func(s ...verify.Signature) []verify.Signature { return s }
	good, goodBundle := alice.simple(t, manifest), alice.bundle(t, manifest, signs, statements)
	changed := good
	changed.Payload = bytes.Replace(good.Payload, []byte(manifest), []byte(another), 1)
	forged := goodBundle
	forged.Bundle = bytes.Replace(goodBundle.Bundle, []byte(`"payload":"`), []byte(`"payload":"e30=`), 1)
	huge := good
	huge.Payload = make([]byte, 1<<20)
	notBase64 := good
	notBase64.Base64 = "%"
	many := make([]verify.Signature, 101)
	for i := range many {
		many[i] = mallory.simple(t, manifest)
	}

	cases := map[string]struct {
		reason     string
		keys       map[string][]byte
		signatures []verify.Signature
		manifest   string
		want       string // in the message; empty where it holds
	}{
		"Simple":         {reason: "cosign's first form holds", keys: ofAlice, signatures: one(good)},
		"Bundle":         {reason: "cosign's new form holds", keys: ofAlice, signatures: one(goodBundle)},
		"Ed25519":        {reason: "a key may be of Ed25519", keys: keys(ed.pem), signatures: one(ed.simple(t, manifest))},
		"Ed25519Bundle":  {reason: "a key may be of Ed25519", keys: keys(ed.pem), signatures: one(ed.bundle(t, manifest, signs, statements))},
		"RSA":            {reason: "a key may be of RSA", keys: keys(ofRSA.pem), signatures: one(ofRSA.simple(t, manifest))},
		"P384":           {reason: "cosign 2 hashes with SHA-256 whatever the curve", keys: keys(p384.pem), signatures: one(p384.simple(t, manifest))},
		"P384Sized":      {reason: "cosign 3 hashes with SHA-384 for P-384", keys: keys(p384.pem), signatures: one(cosigner{sized, nil}.bundle(t, manifest, signs, statements))},
		"OneOfTwo":       {reason: "one that holds is enough", keys: ofAlice, signatures: one(mallory.simple(t, manifest), huge, notBase64, good)},
		"OneOfTwoForms":  {reason: "one that holds is enough", keys: ofAlice, signatures: one(forged, goodBundle)},
		"EveryEntry":     {reason: "every entry of the Secret is read", keys: keys(ed.pem, ofRSA.pem, alice.pem), signatures: one(good)},
		"OneEntry":       {reason: "an entry may hold several keys", keys: keys(append(bytes.Clone(ed.pem), alice.pem...)), signatures: one(goodBundle)},
		"OtherKey":       {reason: "who is not trusted proves nothing", keys: ofAlice, signatures: one(mallory.simple(t, manifest)), want: "another key"},
		"OtherKeyBundle": {reason: "who is not trusted proves nothing", keys: ofAlice, signatures: one(mallory.bundle(t, manifest, signs, statements)), want: "another key"},
		"OtherManifest":  {reason: "the signature of one chart is none of another", keys: ofAlice, signatures: one(alice.simple(t, another)), want: "of another manifest"},
		"OtherSubject":   {reason: "the signature of one chart is none of another", keys: ofAlice, signatures: one(alice.bundle(t, another, signs, statements)), want: "of another manifest"},
		"NoDigest":       {reason: "a subject without a digest is no manifest", keys: ofAlice, signatures: one(alice.bundle(t, "", signs, statements)), manifest: "sha256:0", want: "of another manifest"},
		"Changed":        {reason: "a changed payload is not what was signed", keys: ofAlice, signatures: one(changed), manifest: another, want: "changed since"},
		"ChangedBundle":  {reason: "a changed statement is not what was signed", keys: ofAlice, signatures: one(forged), want: "changed since"},
		"Attestation":    {reason: "a list of packages is no word for the chart", keys: ofAlice, signatures: one(alice.bundle(t, manifest, "https://spdx.dev/Document", statements)), want: "an attestation"},
		"OtherEnvelope":  {reason: "an envelope of something else is no statement", keys: ofAlice, signatures: one(alice.bundle(t, manifest, signs, "text/plain")), want: "none of the signatures"},
		"OtherPayload":   {reason: "a signed text is no word for the chart", keys: ofAlice, signatures: one(alice.raw(t, []byte(`{"critical":{"image":{"docker-manifest-digest":"`+manifest+`"},"type":"other"}}`))), want: "not a signature of cosign"},
		"NotJSON":        {reason: "what does not parse is no word for the chart", keys: ofAlice, signatures: one(alice.raw(t, []byte("hello"))), want: "not a signature of cosign"},
		"NotABundle":     {reason: "what does not parse is no bundle", keys: ofAlice, signatures: one(verify.Signature{Bundle: []byte("{}")}), want: "not a signature of cosign"},
		"Empty":          {reason: "nothing is no signature", keys: ofAlice, signatures: one(verify.Signature{}), want: "another key"},
		"Unsigned":       {reason: "no proof is no proof", keys: ofAlice, want: "no signature beside it"},
		"NotOCI":         {reason: "there is no manifest to sign", keys: ofAlice, signatures: one(good), manifest: "none", want: "OCI registries only"},
		"NoEntry":        {reason: "a Secret without keys trusts nobody", signatures: one(good), want: "has no entries"},
		"NotAKey":        {reason: "an entry that is no key is a mistake", keys: keys(alice.pem, []byte("look here")), signatures: one(good), want: "entry key1.pub is not a public key"},
		"PrivateKey":     {reason: "a private key does not belong there", keys: keys(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})), signatures: one(good), want: "holds a private key"},
		"Certificate":    {reason: "a certificate is no key", keys: keys(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: private})), signatures: one(good), want: "is not a public key"},
		"Huge":           {reason: "a signature is bounded", keys: ofAlice, signatures: one(huge), want: "are allowed"},
		"TooMany":        {reason: "how many there are is bounded", keys: ofAlice, signatures: many, want: "there are 101 signatures"},
		"TooManyKeys":    {reason: "how many keys there are is bounded", keys: keys(bytes.Repeat(alice.pem, 101)), signatures: one(good), want: "more than 100 keys"},
		"AllReasons":     {reason: "the message stays short", keys: ofAlice, signatures: one(huge, notBase64, alice.simple(t, another), mallory.simple(t, manifest)), want: "and so on"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			chart := verify.Chart{Name: "redis", Version: "1.2.3", ManifestDigest: manifest}
			switch c.manifest {
			case "":
			case "none":
				chart.ManifestDigest = ""
			default:
				chart.ManifestDigest = c.manifest
			}
			v := v1alpha1.ChartVerification{Provider: v1alpha1.VerifyCosign}
			v.SecretRef.Name = "keys"
			check(t, c.reason, verify.Check(v, c.keys, chart, verify.Proof{Signatures: c.signatures}, time.Time{}), c.want)
		})
	}
}

func TestProvider(t *testing.T) {
	v := v1alpha1.ChartVerification{Provider: "notation"}
	v.SecretRef.Name = "keys"
	err := verify.Check(v, map[string][]byte{"a": []byte("b")}, verify.Chart{Name: "redis", Version: "1.2.3"}, verify.Proof{}, time.Now())
	check(t, "a provider that is not known proves nothing", err, `chart.verify.provider is "notation"`)
}
