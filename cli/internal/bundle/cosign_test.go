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
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/sigstore/sigstore/pkg/cryptoutils"
	"github.com/sigstore/sigstore/pkg/signature"
	"github.com/sigstore/sigstore/pkg/signature/payload"

	"orkestra.dev/api/v1alpha1"
	"orkestra.dev/cli/internal/bundle"
	"orkestra.dev/services/stager/registry"
)

// cosign signs what a registry has, in cosign's tag scheme, and gives the public key.
func cosign(t *testing.T, found *registry.Resolved) []byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := signature.LoadSignerVerifier(key, crypto.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	image, err := name.NewDigest(strings.TrimPrefix(found.URL, "oci://"))
	if err != nil {
		t.Fatal(err)
	}
	message, err := json.Marshal(payload.Cosign{Image: image})
	if err != nil {
		t.Fatal(err)
	}
	sig, err := signer.SignMessage(bytes.NewReader(message))
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
	tag := image.Tag(strings.Replace(found.ManifestDigest, ":", "-", 1) + ".sig")
	if err := remote.Write(tag, signed); err != nil {
		t.Fatal(err)
	}
	out, err := cryptoutils.MarshalPublicKeyToPEM(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestSaveFromOCI(t *testing.T) {
	from, _ := stock(t)
	first, _ := save(t, request(group("g", chart(from.URL, "web", "1.0.0"))))
	url, _ := oci(t)
	if _, _, err := load(t, first, bundle.Target{URL: url}); err != nil {
		t.Fatal(err)
	}
	found, err := newRegistry().Resolve(context.Background(), registry.Ref{URL: url, Name: "web", Version: "1.x"})
	if err != nil {
		t.Fatal(err)
	}
	c := proven(chart(url, "web", "1.x"))
	c.Verify.Provider = v1alpha1.VerifyCosign
	r := request(group("g", c))
	r.Keys[0] = map[string][]byte{"cosign.pub": cosign(t, found)}
	path, told := save(t, r)
	if joined := strings.Join(told, "\n"); !strings.Contains(joined, "fetched web 1.0.0") || !strings.Contains(joined, "signatures of cosign are not saved") {
		t.Errorf("a signed chart is saved, and its signature is not: %s", joined)
	}
	again, _ := oci(t)
	if _, _, err := load(t, path, bundle.Target{URL: again}); err != nil {
		t.Error(err)
	}
	moved, err := newRegistry().Resolve(context.Background(), registry.Ref{URL: again, Name: "web", Version: "1.0.0"})
	if err != nil || moved.ManifestDigest != found.ManifestDigest {
		t.Errorf("the same chart is the same manifest, whoever loads it: %v", err)
	}

	r.Keys[0] = map[string][]byte{"cosign.pub": cosign(t, &registry.Resolved{URL: found.URL, ManifestDigest: "sha256:" + strings.Repeat("0", 64)})}
	_, err = bundle.Save(context.Background(), filepath.Join(t.TempDir(), "b.tgz"), []bundle.Request{r}, newRegistry(), told.say)
	if err == nil || !strings.Contains(err.Error(), "signed with another key") {
		t.Errorf("a chart that somebody else signed is not saved: %v", err)
	}
}
