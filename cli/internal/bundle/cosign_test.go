package bundle_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/sigstore/sigstore/pkg/cryptoutils"
	"github.com/sigstore/sigstore/pkg/signature"
	"github.com/sigstore/sigstore/pkg/signature/dsse"
	"github.com/sigstore/sigstore/pkg/signature/payload"
	helmregistry "helm.sh/helm/v3/pkg/registry"

	"orkestra.dev/api/v1alpha1"
	"orkestra.dev/cli/internal/bundle"
	"orkestra.dev/services/stager/registry"
	"orkestra.dev/services/stager/verify"
)

// signer has a key of its own, and the public one in PEM.
func signer(t *testing.T) (signature.SignerVerifier, []byte) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	s, err := signature.LoadSignerVerifier(key, crypto.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	public, err := cryptoutils.MarshalPublicKeyToPEM(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	return s, public
}

func imageName(t *testing.T, found *registry.Resolved) name.Digest {
	t.Helper()
	image, err := name.NewDigest(strings.TrimPrefix(found.URL, "oci://"))
	if err != nil {
		t.Fatal(err)
	}
	return image
}

// cosign signs what a registry has, in cosign's tag scheme, and gives the public key.
func cosign(t *testing.T, found *registry.Resolved) []byte {
	t.Helper()
	by, public := signer(t)
	image := imageName(t, found)
	message, err := json.Marshal(payload.Cosign{Image: image})
	if err != nil {
		t.Fatal(err)
	}
	sig, err := by.SignMessage(bytes.NewReader(message))
	if err != nil {
		t.Fatal(err)
	}
	signed, err := mutate.Append(empty.Image, mutate.Addendum{
		Layer:       static.NewLayer(message, "application/vnd.dev.cosign.simplesigning.v1+json"),
		Annotations: map[string]string{"dev.cosignproject.cosign/signature": base64.StdEncoding.EncodeToString(sig)},
	})
	if err != nil {
		t.Fatal(err)
	}
	signed = mutate.MediaType(signed, types.OCIManifestSchema1)
	if err := remote.Write(image.Tag(registry.SignatureTag(found.ManifestDigest)), signed); err != nil {
		t.Fatal(err)
	}
	return public
}

// cosignBundle signs it as cosign does since version 3: in a bundle that refers to it.
func cosignBundle(t *testing.T, found *registry.Resolved) []byte {
	t.Helper()
	by, public := signer(t)
	image := imageName(t, found)
	statement := fmt.Sprintf(`{"_type":"https://in-toto.io/Statement/v1","predicateType":"https://sigstore.dev/cosign/sign/v1","subject":[{"digest":{"sha256":%q}}]}`,
		strings.TrimPrefix(found.ManifestDigest, "sha256:"))
	envelope, err := dsse.WrapSigner(by, "application/vnd.in-toto+json").SignMessage(strings.NewReader(statement))
	if err != nil {
		t.Fatal(err)
	}
	const media = "application/vnd.dev.sigstore.bundle.v0.3+json"
	whole := fmt.Appendf(nil, `{"mediaType":%q,"dsseEnvelope":%s}`, media, envelope)
	signed, err := mutate.AppendLayers(empty.Image, static.NewLayer(whole, media))
	if err != nil {
		t.Fatal(err)
	}
	subject, err := remote.Get(image)
	if err != nil {
		t.Fatal(err)
	}
	refers, ok := mutate.Subject(mutate.ConfigMediaType(mutate.MediaType(signed, types.OCIManifestSchema1), media), subject.Descriptor).(v1.Image)
	if !ok {
		t.Fatal("what refers to an image is none")
	}
	digest, err := refers.Digest()
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.Write(image.Digest(digest.String()), refers); err != nil {
		t.Fatal(err)
	}
	return public
}

// published is a chart in an OCI registry as its author has pushed it.
func published(t *testing.T, version string) (string, *registry.Resolved) {
	t.Helper()
	url, _ := oci(t)
	client, err := helmregistry.NewClient(helmregistry.ClientOptPlainHTTP(), helmregistry.ClientOptWriter(io.Discard))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := client.Push(packed(t, "web", version, "a: 1"), strings.TrimPrefix(url, "oci://")+"/web:"+version, helmregistry.PushOptCreationTime("2024-02-29T12:00:00Z")); err != nil {
		t.Fatal(err)
	}
	return url, resolve(t, url, version)
}

func resolve(t *testing.T, url, version string) *registry.Resolved {
	t.Helper()
	found, err := newRegistry().Resolve(context.Background(), registry.Ref{URL: url, Name: "web", Version: version})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func cosigned(c v1alpha1.ChartRef) v1alpha1.ChartRef {
	c = proven(c)
	c.Verify.Provider = v1alpha1.VerifyCosign
	return c
}

// holds tells whether the chart that a group asks for is signed with a key, in the way
// in which the stager does.
func holds(t *testing.T, c v1alpha1.ChartRef, public []byte) error {
	t.Helper()
	reg := newRegistry()
	found, err := reg.Resolve(t.Context(), registry.Ref{URL: c.URL, Name: c.Name, Version: c.Version, Digest: c.Digest})
	if err != nil {
		t.Fatal(err)
	}
	data, err := reg.Fetch(t.Context(), found)
	if err != nil {
		t.Fatal(err)
	}
	signatures, err := reg.Signatures(t.Context(), found)
	if err != nil {
		return err
	}
	var proof verify.Proof
	for _, s := range signatures {
		proof.Signatures = append(proof.Signatures, verify.Signature(s))
	}
	chart := verify.Chart{Archive: data, Name: found.Name, Version: found.Version, ManifestDigest: found.ManifestDigest}
	return verify.Check(*c.Verify, map[string][]byte{"cosign.pub": public}, chart, proof, time.Now())
}

func TestSignaturesMove(t *testing.T) {
	url, found := published(t, "1.0.0+build")
	keys := map[string][]byte{"the tag scheme": cosign(t, found), "a bundle": cosignBundle(t, found)}
	r := request(group("g", cosigned(chart(url, "web", "1.0.0+build"))))
	r.Keys[0] = map[string][]byte{"cosign.pub": keys["a bundle"]}
	path, _ := save(t, r)
	again, _ := save(t, r)
	if digest(t, path) != digest(t, again) {
		t.Error("the same chart and signatures are not the same bundle")
	}
	to, _ := oci(t)
	groups, told, err := load(t, path, bundle.Target{URL: to})
	if err != nil {
		t.Fatal(err)
	}
	if joined := strings.Join(told, "\n"); !strings.Contains(joined, "with its signatures") {
		t.Errorf("the user is told %q", joined)
	}
	c := groups[0].Spec.Applications[0].Spec.Chart
	if c.Digest != found.ManifestDigest || c.URL != to {
		t.Errorf("the group asks for %s at %s, want manifest %s at %s", c.Digest, c.URL, found.ManifestDigest, to)
	}
	if moved := resolve(t, to, "1.0.0+build"); moved.ManifestDigest != found.ManifestDigest || moved.Digest != found.Digest {
		t.Errorf("manifest %s became %s", found.ManifestDigest, moved.ManifestDigest)
	}
	for form, public := range keys {
		if err := holds(t, c, public); err != nil {
			t.Errorf("the signature in %s: %v", form, err)
		}
	}
	_, other := signer(t)
	if err := holds(t, c, other); err == nil {
		t.Error("any key will do")
	}
	if _, told, err = load(t, path, bundle.Target{URL: to}); err != nil || !strings.Contains(strings.Join(told, "\n"), "is there, with its signatures") {
		t.Errorf("again: %v, %v", told, err)
	}

	cosign(t, resolve(t, to, "1.0.0+build")) // somebody has signed it there
	if _, _, err := load(t, path, bundle.Target{URL: to}); err == nil || !strings.Contains(err.Error(), "other signatures of it are there") {
		t.Errorf("other signatures are overwritten: %v", err)
	}
	plain, _ := oci(t)
	unsigned, _ := save(t, request(group("g", chart(url, "web", "1.0.0+build"))))
	if _, _, err := load(t, unsigned, bundle.Target{URL: plain}); err != nil {
		t.Fatal(err)
	}
	if _, _, err := load(t, path, bundle.Target{URL: plain}); err == nil || !strings.Contains(err.Error(), "nothing is overwritten") {
		t.Errorf("another manifest of the same chart is overwritten: %v", err)
	}
}

func TestSaveOfCosignVerifies(t *testing.T) {
	url, found := published(t, "1.0.0")
	r := request(group("g", cosigned(chart(url, "web", "1.x"))))
	file := filepath.Join(t.TempDir(), "b.tgz")
	var told said
	if _, err := bundle.Save(t.Context(), file, []bundle.Request{r}, newRegistry(), told.say); err == nil || !strings.Contains(err.Error(), "is not signed") {
		t.Errorf("a chart that is not signed is saved: %v", err)
	}
	cosign(t, found)
	_, other := signer(t)
	r.Keys[0] = map[string][]byte{"cosign.pub": other}
	if _, err := bundle.Save(t.Context(), file, []bundle.Request{r}, newRegistry(), told.say); err == nil || !strings.Contains(err.Error(), "signed with another key") {
		t.Errorf("a chart that somebody else signed is saved: %v", err)
	}
}

func TestSaveFromOCI(t *testing.T) {
	from, _ := stock(t)
	first, _ := save(t, request(group("g", chart(from.URL, "web", "1.0.0"))))
	var manifests []string
	for range 2 {
		url, _ := oci(t)
		if _, _, err := load(t, first, bundle.Target{URL: url}); err != nil {
			t.Fatal(err)
		}
		manifests = append(manifests, resolve(t, url, "1.x").ManifestDigest)
		first, _ = save(t, request(group("g", chart(url, "web", "1.x"))))
	}
	if manifests[0] != manifests[1] {
		t.Errorf("the same chart is the same manifest, whoever loads it: %v", manifests)
	}
}

func TestHostileImages(t *testing.T) {
	url, found := published(t, "1.0.0")
	cosign(t, found)
	good, _ := save(t, request(group("g", cosigned(chart(url, "web", "1.0.0")))))
	for name, c := range map[string]struct {
		change func(m *bundle.Image)
		want   string
	}{
		"Traversal":    {func(m *bundle.Image) { m.Blobs[0].Path = "../../etc/passwd" }, "has to be"},
		"OtherTag":     {func(m *bundle.Image) { m.Manifests[1].Tag = "2.0.0" }, "is not the tag of its signatures"},
		"MediaType":    {func(m *bundle.Image) { m.Manifests[0].MediaType = "text/html" }, "is not the media type"},
		"NoManifest":   {func(m *bundle.Image) { m.Manifests = m.Manifests[1:] }, "is not in it"},
		"Missing":      {func(m *bundle.Image) { m.Blobs = m.Blobs[1:] }, "has to be"},
		"BadDigest":    {func(m *bundle.Image) { m.Blobs[0].Digest = "md5:1" }, "is not a digest"},
		"HugeManifest": {func(m *bundle.Image) { m.Manifests[0].Size = 11 << 20 }, "are allowed"},
		"Many": {func(m *bundle.Image) {
			for i := range 8 {
				d := "sha256:" + strings.Repeat(fmt.Sprint(i), 64)
				m.Blobs = append(m.Blobs, bundle.File{Path: "blobs/sha256/" + d[7:], Digest: d, Size: 9 << 20})
			}
		}, "the manifests and signatures in it have more than"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := bundle.Open(rewrite(t, good, func(es []entry) []entry {
				var x bundle.Index
				if err := json.Unmarshal(es[0].data, &x); err != nil {
					t.Fatal(err)
				}
				c.change(x.Charts[0].Image)
				return withIndex(t, es, x)
			}))
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("want %q, got %v", c.want, err)
			}
		})
	}
	lying := rewrite(t, good, func(es []entry) []entry {
		other := packed(t, "web", "1.0.0", "a: evil")
		for i := range es {
			if strings.HasPrefix(es[i].header.Name, "charts/") {
				return reindexArchive(t, es, es[i].header.Name, other)
			}
		}
		return es
	})
	to, _ := oci(t)
	if _, _, err := load(t, lying, bundle.Target{URL: to}); err == nil {
		t.Error("a bundle whose archive is not the one that is signed is loaded")
	}
}
