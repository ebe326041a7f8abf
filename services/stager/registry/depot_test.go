package registry_test

import (
	"bytes"
	"crypto/tls"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	ociserver "github.com/google/go-containerregistry/pkg/registry"
	digest "github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"orkestra.dev/services/stager/registry"
)

const (
	mediaConfig     = "application/vnd.cncf.helm.config.v1+json"
	mediaChart      = "application/vnd.cncf.helm.chart.content.v1.tar+gzip"
	mediaProvenance = "application/vnd.cncf.helm.chart.provenance.v1.prov"
)

// depot is an OCI registry that writes down what it is asked. Wrap may stand before it.
type depot struct {
	*httptest.Server
	oci  http.Handler
	wrap func(w http.ResponseWriter, r *http.Request) (done bool)

	mu    sync.Mutex
	asked []string
	auth  map[string]bool // Authorization headers seen
}

func newDepot(t *testing.T, secure bool, wrap func(http.ResponseWriter, *http.Request) bool) *depot {
	d := &depot{
		oci:  ociserver.New(ociserver.Logger(log.New(io.Discard, "", 0)), ociserver.WithReferrersSupport(true)),
		wrap: wrap, auth: map[string]bool{},
	}
	d.Server = httptest.NewUnstartedServer(d)
	d.Config.ErrorLog = log.New(io.Discard, "", 0)
	if secure {
		d.TLS = &tls.Config{ClientAuth: tls.RequestClientCert}
		d.StartTLS()
	} else {
		d.Start()
	}
	t.Cleanup(d.Close)
	return d
}

func (d *depot) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	d.mu.Lock()
	d.asked = append(d.asked, r.URL.Path)
	d.auth[r.Header.Get("Authorization")] = true
	d.mu.Unlock()
	if d.wrap == nil || !d.wrap(w, r) {
		d.oci.ServeHTTP(w, r)
	}
}

// requests since the last call whose path has one of the parts, or all.
func (d *depot) requests(parts ...string) (n int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, path := range d.asked {
		hit := len(parts) == 0
		for _, p := range parts {
			hit = hit || strings.Contains(path, p)
		}
		if hit {
			n++
		}
	}
	d.asked = nil
	return n
}

func (d *depot) url() string { return "oci://" + d.Listener.Addr().String() + "/charts" }

func (d *depot) ca() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: d.Certificate().Raw})
}

// put straight into the registry, past what stands before it.
func (d *depot) put(t *testing.T, method, path, mediaType string, body []byte) {
	t.Helper()
	r := httptest.NewRequest(method, path, bytes.NewReader(body))
	r.Header.Set("Content-Type", mediaType)
	w := httptest.NewRecorder()
	if d.oci.ServeHTTP(w, r); w.Code != http.StatusCreated {
		t.Fatalf("%s %s: %d %s", method, path, w.Code, w.Body)
	}
}

func (d *depot) blob(t *testing.T, name, mediaType string, data []byte) ocispec.Descriptor {
	t.Helper()
	desc := ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(data), Size: int64(len(data))}
	d.put(t, http.MethodPost, "/v2/charts/"+name+"/blobs/uploads/?digest="+desc.Digest.String(), "application/octet-stream", data)
	return desc
}

// manifest under a tag; empty for under its digest only.
func (d *depot) manifest(t *testing.T, name, tag string, m ocispec.Manifest) ocispec.Descriptor {
	t.Helper()
	m.Versioned, m.MediaType = specs.Versioned{SchemaVersion: 2}, ocispec.MediaTypeImageManifest
	data, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	desc := ocispec.Descriptor{MediaType: m.MediaType, Digest: digest.FromBytes(data), Size: int64(len(data))}
	if tag == "" {
		tag = desc.Digest.String()
	}
	d.put(t, http.MethodPut, "/v2/charts/"+name+"/manifests/"+tag, m.MediaType, data)
	return desc
}

// chart with what is no archive, but unmistakable.
func (d *depot) chart(t *testing.T, name, version string, tags ...string) (manifest, archive ocispec.Descriptor) {
	t.Helper()
	archive = d.blob(t, name, mediaChart, []byte(archiveOf(name, version)))
	config := d.blob(t, name, mediaConfig, fmt.Appendf(nil, `{"name":%q,"version":%q}`, name, version))
	prov := d.blob(t, name, mediaProvenance, []byte("provenance of "+name+" "+version))
	if len(tags) == 0 {
		tags = []string{strings.ReplaceAll(version, "+", "_")}
	}
	for _, tag := range tags {
		manifest = d.manifest(t, name, tag, ocispec.Manifest{Config: config, Layers: []ocispec.Descriptor{prov, archive}})
	}
	return manifest, archive
}

func archiveOf(name, version string) string { return "archive of " + name + " " + version }

func credentials(t *testing.T, pairs ...string) *registry.Credentials {
	t.Helper()
	data := map[string][]byte{}
	for i := 0; i < len(pairs); i += 2 {
		data[pairs[i]] = []byte(pairs[i+1])
	}
	c, err := registry.CredentialsOf(data)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func local() registry.Registry { return registry.New(registry.Options{AllowPrivate: true}) }
