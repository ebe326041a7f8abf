package registry_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	digest "github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"orkestra.dev/api/v1alpha1"
	"orkestra.dev/services/stager/archive"
	"orkestra.dev/services/stager/refusal"
	"orkestra.dev/services/stager/registry"
)

func original(t *testing.T, reg registry.Registry, url string) (*registry.Resolved, *registry.Original, error) {
	t.Helper()
	r, err := reg.Resolve(t.Context(), registry.Ref{URL: url, Name: "web", Version: "1.0.0"})
	if err != nil {
		t.Fatal(err)
	}
	o, err := reg.Original(t.Context(), r)
	return r, o, err
}

func TestOriginalIsByteForByte(t *testing.T) {
	d := newDepot(t, false, nil)
	chart, layer := d.chart(t, "web", "1.0.0", "hidden")
	list, err := json.Marshal(ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex, Manifests: []ocispec.Descriptor{chart}})
	if err != nil {
		t.Fatal(err)
	}
	d.put(t, http.MethodPut, "/v2/charts/web/manifests/1.0.0", ocispec.MediaTypeImageIndex, list)
	index := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageIndex, Digest: digest.FromBytes(list), Size: int64(len(list))}

	payload := d.blob(t, "web", "application/vnd.dev.cosign.simplesigning.v1+json", []byte("payload"))
	tag := registry.SignatureTag(index.Digest.String())
	signature := d.manifest(t, "web", tag, ocispec.Manifest{Config: d.blob(t, "web", ocispec.MediaTypeImageConfig, []byte("{}")), Layers: []ocispec.Descriptor{payload}})
	const media = "application/vnd.dev.sigstore.bundle.v0.3+json"
	refers := func(layer ocispec.Descriptor) ocispec.Descriptor {
		return d.manifest(t, "web", "", ocispec.Manifest{Config: ocispec.DescriptorEmptyJSON, Layers: []ocispec.Descriptor{layer}, Subject: &index})
	}
	bundle := d.blob(t, "web", media, []byte("bundle"))
	signed := refers(bundle)
	refers(d.blob(t, "web", "application/spdx+json", []byte("a list of packages")))

	_, got, err := original(t, local(), d.url())
	if err != nil {
		t.Fatal(err)
	}
	type manifest struct{ Digest, MediaType, Tag string }
	var manifests []manifest
	for _, m := range got.Manifests {
		if m.Digest != archive.Digest(m.Data) {
			t.Errorf("manifest %s has digest %s", m.Digest, archive.Digest(m.Data))
		}
		manifests = append(manifests, manifest{m.Digest, m.MediaType, m.Tag})
	}
	if diff := cmp.Diff([]manifest{
		{chart.Digest.String(), ocispec.MediaTypeImageManifest, ""},
		{index.Digest.String(), ocispec.MediaTypeImageIndex, ""},
		{signature.Digest.String(), ocispec.MediaTypeImageManifest, tag},
		{signed.Digest.String(), ocispec.MediaTypeImageManifest, ""},
	}, manifests); diff != "" {
		t.Errorf("manifests, without that of another artifact (-want +got):\n%s", diff)
	}
	for _, b := range []ocispec.Descriptor{layer, payload, bundle, ocispec.DescriptorEmptyJSON} {
		if data := got.Blobs[b.Digest.String()]; archive.Digest(data) != b.Digest.String() {
			t.Errorf("blob %s is %q", b.Digest, data)
		}
	}
}

func TestOriginalIsBounded(t *testing.T) {
	d := newDepot(t, false, nil)
	reg := registry.New(registry.Options{AllowPrivate: true, MaxArchive: 1 << 20})
	m, _ := d.chart(t, "web", "1.0.0")
	var layers []ocispec.Descriptor
	for i := range 64 {
		l := d.blob(t, "web", "application/octet-stream", []byte(strings.Repeat(string(rune('0'+i)), 1<<20)))
		layers = append(layers, l)
	}
	sign := func(layers []ocispec.Descriptor) error {
		config := d.blob(t, "web", ocispec.MediaTypeImageConfig, []byte("{}"))
		d.manifest(t, "web", registry.SignatureTag(m.Digest.String()), ocispec.Manifest{Config: config, Layers: layers})
		_, _, err := original(t, reg, d.url())
		return err
	}
	for name, c := range map[string]struct {
		layers []ocispec.Descriptor
		reason string
	}{
		"large":           {layers, v1alpha1.ReasonRepositoryRefused},
		"many layers":     {append(layers, layers[0]), v1alpha1.ReasonInvalidChart},
		"a layer missing": {[]ocispec.Descriptor{{MediaType: "a/b", Digest: "sha256:" + noSuch, Size: 1}}, v1alpha1.ReasonChartNotFound},
		"no digest":       {[]ocispec.Descriptor{{MediaType: "a/b", Digest: "../../etc", Size: 1}}, v1alpha1.ReasonInvalidChart},
		"small":           {layers[:1], ""},
	} {
		if err := sign(c.layers); refusal.Reason(err) != c.reason {
			t.Errorf("%s: want %q, got %v", name, c.reason, err)
		}
	}
	s := newShelf(t, index, nil)
	r, err := reg.Resolve(t.Context(), registry.Ref{URL: s.URL, Name: "web", Version: "1.2.0"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := reg.Original(t.Context(), r); refusal.Reason(err) != v1alpha1.ReasonVerificationFailed {
		t.Errorf("over http: %v", err)
	}
}

const noSuch = "0000000000000000000000000000000000000000000000000000000000000000"
