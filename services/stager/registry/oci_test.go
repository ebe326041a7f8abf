package registry_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	digest "github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	helmregistry "helm.sh/helm/v3/pkg/registry"

	"orkestra.dev/api/v1alpha1"
	"orkestra.dev/services/stager/archive"
	"orkestra.dev/services/stager/refusal"
	"orkestra.dev/services/stager/registry"
)

func TestOCIVersions(t *testing.T) {
	d := newDepot(t, false, nil)
	for _, v := range []string{"1.2.0", "1.10.0", "2.0.0-rc.1", "1.9.0+build.1"} {
		d.chart(t, "web", v)
	}
	d.chart(t, "web", "3.0.0", "v3.0.0", "latest")
	d.chart(t, "odd", "0.1.0", "v0.1.0")
	for name, c := range map[string]struct {
		promise           string
		chart, want, have string
	}{
		"Newest":     {"no version is the newest that is no pre-release; a tag with a v is none to Helm", "web", "", "1.10.0"},
		"Star":       {"neither is *", "web", "*", "1.10.0"},
		"Range":      {"a range is resolved as semver", "web", "~1.2", "1.2.0"},
		"Exact":      {"an exact version", "web", "1.2.0", "1.2.0"},
		"Prerelease": {"a pre-release where it is asked for", "web", ">1.10.0-0", "2.0.0-rc.1"},
		"ExactPre":   {"an exact pre-release", "web", "2.0.0-rc.1", "2.0.0-rc.1"},
		"Plus":       {"a plus is an underscore in a tag", "web", "1.9.0+build.1", "1.9.0+build.1"},
		"PlusRange":  {"and back in the list of them", "web", "~1.9", "1.9.0+build.1"},
		"V":          {"a tag with a v is found as it is written", "web", "v3.0.0", "3.0.0"},
		"NoV":        {"and without, where Helm would find nothing", "odd", "0.1.0", "0.1.0"},
		"Short":      {"what is short is a range where it is no tag", "web", "1.2", "1.2.0"},
	} {
		t.Run(name, func(t *testing.T) {
			r, err := local().Resolve(t.Context(), registry.Ref{URL: d.url() + "/", Name: c.chart, Version: c.want})
			if err != nil {
				t.Fatalf("%s: %v", c.promise, err)
			}
			if r.Name != c.chart || r.Version != c.have {
				t.Errorf("%s: got %s %s, want %s", c.promise, r.Name, r.Version, c.have)
			}
		})
	}
}

func TestRangesAreThoseOfHelm(t *testing.T) {
	tags := []string{"1.0.0", "1.2.0", "1.2.3+a", "2.0.0-alpha.1", "2.0.0", "2.1.0-rc.1", "0.9.0"}
	d := newDepot(t, false, nil)
	for _, v := range tags {
		d.chart(t, "web", v)
	}
	newest := []string{"2.1.0-rc.1", "2.0.0", "2.0.0-alpha.1", "1.2.3+a", "1.2.0", "1.0.0", "0.9.0"} // as Client.Tags gives them
	reg := local()
	for _, constraint := range []string{"", "*", ">0", "^1", "~1.2.0", "1.x", "<2.0.0", ">=2.0.0-0", "^2.1.0-0", "2.0.0 - 2.2.0", "!=2.0.0", "1.0.0 || 0.9.0", ">3", "nonsense"} {
		want, _ := helmregistry.GetTagMatchingVersionOrConstraint(newest, constraint)
		got := ""
		if r, err := reg.Resolve(t.Context(), registry.Ref{URL: d.url(), Name: "web", Version: constraint}); err == nil {
			got = r.Version
		} else if refusal.Reason(err) != v1alpha1.ReasonChartNotFound {
			t.Errorf("%q: %v", constraint, err)
		}
		if got != want {
			t.Errorf("%q: got %q, Helm takes %q", constraint, got, want)
		}
	}
}

func TestWhatHelmPushesIsFetched(t *testing.T) {
	d := newDepot(t, false, nil)
	data, err := archive.Write("web", []archive.File{{Name: "Chart.yaml", Data: []byte("apiVersion: v2\nname: web\nversion: 1.0.0+b\n")}})
	if err != nil {
		t.Fatal(err)
	}
	helm, err := helmregistry.NewClient(helmregistry.ClientOptPlainHTTP())
	if err != nil {
		t.Fatal(err)
	}
	pushed, err := helm.Push(data, strings.TrimPrefix(d.url(), "oci://")+"/web:1.0.0+b", helmregistry.PushOptProvData([]byte("signed")))
	if err != nil {
		t.Fatal(err)
	}
	reg := local()
	r, err := reg.Resolve(t.Context(), registry.Ref{URL: d.url(), Name: "web", Version: "*"})
	if err != nil {
		t.Fatal(err)
	}
	got, err := reg.Fetch(t.Context(), r)
	if err != nil || string(got) != string(data) {
		t.Errorf("fetching: %d bytes, %v", len(got), err)
	}
	if prov, err := reg.Provenance(t.Context(), r); err != nil || string(prov) != "signed" {
		t.Errorf("provenance: %q, %v", prov, err)
	}
	if diff := cmp.Diff([]string{"1.0.0+b", pushed.Manifest.Digest, archive.Digest(data)}, []string{r.Version, r.ManifestDigest, r.Digest}); diff != "" {
		t.Errorf("resolved (-want +got):\n%s", diff)
	}
}

func TestOCIPins(t *testing.T) {
	d := newDepot(t, false, nil)
	m, a := d.chart(t, "web", "1.0.0")
	other, _ := d.chart(t, "web", "1.1.0-rc.1")
	reg := local()
	resolve := func(version string, pin digest.Digest) (*registry.Resolved, error) {
		return reg.Resolve(t.Context(), registry.Ref{URL: d.url(), Name: "web", Version: version, Digest: pin.String()})
	}
	for name, c := range map[string]struct {
		version string
		pin     digest.Digest
		have    string
	}{
		"Manifest":           {"1.0.0", m.Digest, "1.0.0"},
		"ManifestInRange":    {"^1", m.Digest, "1.0.0"},
		"ManifestPrerelease": {"*", other.Digest, "1.1.0-rc.1"},
		"Archive":            {"1.0.0", a.Digest, "1.0.0"},
	} {
		d.requests()
		r, err := resolve(c.version, c.pin)
		if err != nil || r.Version != c.have {
			t.Errorf("%s: %+v, %v", name, r, err)
			continue
		}
		if n := d.requests("/tags/list"); n != 0 {
			t.Errorf("%s: %d lists of tags were asked for", name, n)
		}
		if data, err := reg.Fetch(t.Context(), r); err != nil || string(data) != archiveOf("web", c.have) {
			t.Errorf("%s: %q, %v", name, data, err)
		}
	}
	for name, c := range map[string]struct {
		version string
		pin     digest.Digest
	}{
		"Unknown":          {"1.0.0", digest.FromString("unknown")},
		"AnotherVersion":   {"1.0.0", other.Digest},
		"ArchiveOfAnother": {"1.1.0-rc.1", a.Digest},
	} {
		if _, err := resolve(c.version, c.pin); refusal.Reason(err) != v1alpha1.ReasonDigestMismatch {
			t.Errorf("%s: want DigestMismatch, got %v", name, err)
		}
	}
}

func TestAnIndexOfManifests(t *testing.T) {
	d := newDepot(t, false, nil)
	image := d.manifest(t, "web", "", ocispec.Manifest{Config: d.blob(t, "web", ocispec.MediaTypeImageConfig, []byte("{}"))})
	chart, _ := d.chart(t, "web", "1.0.0", "hidden")
	data, err := json.Marshal(ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex, Manifests: []ocispec.Descriptor{image, chart}})
	if err != nil {
		t.Fatal(err)
	}
	d.put(t, http.MethodPut, "/v2/charts/web/manifests/1.0.0", ocispec.MediaTypeImageIndex, data)
	reg := local()
	r, err := reg.Resolve(t.Context(), registry.Ref{URL: d.url(), Name: "web", Version: "1.0.0"})
	if err != nil || r.ManifestDigest != archive.Digest(data) {
		t.Fatalf("want the chart in the index, by the digest of the index: %+v, %v", r, err)
	}
	if got, err := reg.Fetch(t.Context(), r); err != nil || string(got) != archiveOf("web", "1.0.0") {
		t.Errorf("%q, %v", got, err)
	}
}

func TestAnIndexThatPointsIntoARegistry(t *testing.T) {
	d := newDepot(t, false, nil)
	_, a := d.chart(t, "web", "1.0.0")
	d.chart(t, "web", "1.0.0+changed")
	s := newShelf(t, fmt.Sprintf(`{apiVersion: v1, entries: {web: [
		{name: web, version: 1.0.0, digest: %s, urls: ["%s/web:1.0.0"]},
		{name: web, version: 1.0.0+changed, digest: %s, urls: ["%s/web:1.0.0_changed"]},
		{name: web, version: 0.9.0, urls: ["%s/web:1.0.0"]}]}}`, a.Digest.Encoded(), d.url(), strings.Repeat("0", 64), d.url(), d.url()), nil)
	creds := credentials(t, "username", "u", "password", "canary")
	got := registry.FetchAll(t.Context(), local(), []registry.Ref{
		{URL: s.URL, Name: "web", Version: "1.0.0", Credentials: creds},
		{URL: s.URL, Name: "web", Version: "1.0.0+changed", Credentials: creds},
		{URL: s.URL, Name: "web", Version: "0.9.0", Credentials: creds},
	}, 1)
	if string(got[0].Archive) != archiveOf("web", "1.0.0") {
		t.Errorf("the archive: %q, %v", got[0].Archive, got[0].Err)
	}
	wantRefused(t, got[1].Err, v1alpha1.ReasonDigestMismatch, "the index of its repository")
	wantRefused(t, got[2].Err, v1alpha1.ReasonInvalidChart, "the index of the repository calls it web 0.9.0")
	if diff := cmp.Diff(map[string]bool{"": true}, d.auth); diff != "" {
		t.Errorf("the credentials are for the index only (-want +got):\n%s", diff)
	}
}

func TestOnceForTen(t *testing.T) {
	d := newDepot(t, false, nil)
	d.chart(t, "web", "1.0.0")
	body := strings.Repeat("x", 100_000)
	s := newShelf(t, `{apiVersion: v1, entries: {web: [{name: web, version: 1.0.0, digest: `+archive.Digest([]byte(body))[7:]+`, urls: [web.tgz]}]}}`,
		map[string]string{"/web.tgz": body})
	reg := local()
	ten := func(ref registry.Ref) {
		t.Helper()
		refs := slices.Repeat([]registry.Ref{ref}, 10)
		for range 2 {
			for _, f := range registry.FetchAll(t.Context(), reg, refs, 10) {
				if f.Err != nil {
					t.Error(f.Err)
				}
			}
		}
	}
	ten(registry.Ref{URL: s.URL, Name: "web"})
	if diff := cmp.Diff([]string{"/index.yaml", "/web.tgz"}, s.requests()); diff != "" {
		t.Errorf("an index and an archive are downloaded once for twenty (-want +got):\n%s", diff)
	}
	ten(registry.Ref{URL: d.url(), Name: "web", Version: "1.0.0"})
	if n := d.requests("/blobs/"); n != 2 {
		t.Errorf("%d blobs were downloaded for twenty, want the configuration and the archive", n)
	}
	// Who has other credentials does not get what these have read.
	ten(registry.Ref{URL: s.URL, Name: "web", Credentials: credentials(t, "username", "u", "password", "p")})
	if diff := cmp.Diff([]string{"/index.yaml", "/web.tgz"}, s.requests()); diff != "" {
		t.Errorf("another's credentials (-want +got):\n%s", diff)
	}
}

func TestProofs(t *testing.T) {
	d := newDepot(t, false, nil)
	m, _ := d.chart(t, "web", "1.0.0")
	d.chart(t, "bare", "1.0.0")
	payload := d.blob(t, "web", "application/vnd.dev.cosign.simplesigning.v1+json", []byte(`{"critical":{}}`))
	payload.Annotations = map[string]string{"dev.cosignproject.cosign/signature": "c2lnbmF0dXJl"}
	empty := d.blob(t, "web", ocispec.MediaTypeImageConfig, []byte("{}"))
	d.manifest(t, "web", strings.Replace(m.Digest.String(), ":", "-", 1)+".sig", ocispec.Manifest{Config: empty, Layers: []ocispec.Descriptor{payload}})
	const media = "application/vnd.dev.sigstore.bundle.v0.3+json"
	bundle := d.blob(t, "web", media, []byte(`{"mediaType":"bundle"}`))
	d.manifest(t, "web", "", ocispec.Manifest{ArtifactType: media, Config: ocispec.DescriptorEmptyJSON, Layers: []ocispec.Descriptor{bundle}, Subject: &m})

	reg := local()
	resolve := func(name string) *registry.Resolved {
		r, err := reg.Resolve(t.Context(), registry.Ref{URL: d.url(), Name: name, Version: "1.0.0"})
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	got, err := reg.Signatures(t.Context(), resolve("web"))
	if err != nil {
		t.Fatal(err)
	}
	want := []registry.Signature{
		{MediaType: payload.MediaType, Payload: []byte(`{"critical":{}}`), Base64: "c2lnbmF0dXJl"},
		{MediaType: media, Bundle: []byte(`{"mediaType":"bundle"}`)},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("signatures (-want +got):\n%s", diff)
	}
	if _, err := reg.Signatures(t.Context(), resolve("bare")); refusal.Reason(err) != v1alpha1.ReasonVerificationFailed {
		t.Errorf("without a signature: %v", err)
	}
	if prov, err := reg.Provenance(t.Context(), resolve("web")); err != nil || string(prov) != "provenance of web 1.0.0" {
		t.Errorf("provenance: %q, %v", prov, err)
	}

	s := newShelf(t, index, map[string]string{"/web-1.2.0.tgz.prov": "signed"})
	for version, want := range map[string]string{"1.2.0": "", "1.10.0": v1alpha1.ReasonVerificationFailed} {
		r, err := reg.Resolve(t.Context(), registry.Ref{URL: s.URL, Name: "web", Version: version})
		if err != nil {
			t.Fatal(err)
		}
		prov, err := reg.Provenance(t.Context(), r)
		if refusal.Reason(err) != want || want == "" && string(prov) != "signed" {
			t.Errorf("provenance of %s over http: %q, %v", version, prov, err)
		}
		if _, err := reg.Signatures(t.Context(), r); refusal.Reason(err) != v1alpha1.ReasonVerificationFailed {
			t.Errorf("signatures over http: %v", err)
		}
	}
}

func TestSignaturesByTheFallbackTag(t *testing.T) {
	d := newDepot(t, false, func(w http.ResponseWriter, r *http.Request) bool {
		if strings.Contains(r.URL.Path, "/referrers/") {
			http.NotFound(w, r)
			return true
		}
		return false
	})
	m, _ := d.chart(t, "web", "1.0.0")
	const media = "application/vnd.dev.sigstore.bundle.v0.3+json"
	refers := d.manifest(t, "web", "", ocispec.Manifest{ArtifactType: media, Config: d.blob(t, "web", ocispec.MediaTypeEmptyJSON, []byte("{}")),
		Layers: []ocispec.Descriptor{d.blob(t, "web", media, []byte("bundle"))}})
	refers.ArtifactType = media
	data, err := json.Marshal(ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex, Manifests: []ocispec.Descriptor{refers}})
	if err != nil {
		t.Fatal(err)
	}
	d.put(t, http.MethodPut, "/v2/charts/web/manifests/"+strings.Replace(m.Digest.String(), ":", "-", 1), ocispec.MediaTypeImageIndex, data)
	reg := local()
	r, err := reg.Resolve(t.Context(), registry.Ref{URL: d.url(), Name: "web", Version: "1.0.0"})
	if err != nil {
		t.Fatal(err)
	}
	got, err := reg.Signatures(t.Context(), r)
	if diff := cmp.Diff([]registry.Signature{{MediaType: media, Bundle: []byte("bundle")}}, got); err != nil || diff != "" {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
}
