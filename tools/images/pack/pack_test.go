package pack

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	cdx "github.com/CycloneDX/cyclonedx-go"
	"github.com/google/go-cmp/cmp"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/partial"
)

var (
	amd64 = v1.Platform{OS: "linux", Architecture: "amd64"}
	arm64 = v1.Platform{OS: "linux", Architecture: "arm64"}
)

func program() Program {
	return Program{
		Name: "server", Binary: []byte("the program"), Args: []string{"--listen", ":80"}, Ports: []int{80},
		Labels:  map[string]string{"org.opencontainers.image.title": "server"},
		Created: time.Unix(0, 0).UTC(),
	}
}

func image(t *testing.T, p Program, platform v1.Platform) v1.Image {
	t.Helper()
	i, err := Image(p, platform)
	if err != nil {
		t.Fatal(err)
	}
	return i
}

func digest(t *testing.T, i interface{ Digest() (v1.Hash, error) }) string {
	t.Helper()
	d, err := i.Digest()
	if err != nil {
		t.Fatal(err)
	}
	return d.String()
}

// An image runs as nobody that the machine knows, and says what it is.
func TestConfig(t *testing.T) {
	config, err := image(t, program(), arm64).ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	want := v1.Config{
		Entrypoint: []string{"/bin/server"}, Cmd: []string{"--listen", ":80"}, User: "65532:65532", WorkingDir: "/",
		Env:          []string{"PATH=/bin", "SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt"},
		Labels:       map[string]string{"org.opencontainers.image.title": "server"},
		ExposedPorts: map[string]struct{}{"80/tcp": {}},
	}
	if diff := cmp.Diff(want, config.Config); diff != "" {
		t.Errorf("configuration (-want +got):\n%s", diff)
	}
	if config.OS != "linux" || config.Architecture != "arm64" {
		t.Errorf("platform %s/%s, want linux/arm64", config.OS, config.Architecture)
	}
}

// What is in an image: the program, its accounts, certificates, and a place for scratch files that anybody may write to.
func TestFiles(t *testing.T) {
	got := map[string]int64{}
	content := map[string]string{}
	r := mutate.Extract(image(t, program(), amd64))
	defer r.Close()
	for archive := tar.NewReader(r); ; {
		h, err := archive.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(archive)
		if err != nil {
			t.Fatal(err)
		}
		got[strings.TrimSuffix(h.Name, "/")], content[h.Name] = h.Mode, string(b)
		if h.Uid != 0 || h.Gid != 0 || !h.ModTime.Equal(time.Unix(0, 0)) {
			t.Errorf("%s is of %d:%d at %s, want 0:0 at 1970", h.Name, h.Uid, h.Gid, h.ModTime)
		}
	}
	want := map[string]int64{
		"tmp": 0o1777, "etc": 0o755, "etc/passwd": 0o644, "etc/group": 0o644, "etc/ssl": 0o755, "etc/ssl/certs": 0o755,
		"etc/ssl/certs/ca-certificates.crt": 0o644, "bin": 0o755, "bin/server": 0o755,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
	if content["bin/server"] != "the program" {
		t.Errorf("the program is %q", content["bin/server"])
	}
	if n := strings.Count(content["etc/ssl/certs/ca-certificates.crt"], "BEGIN CERTIFICATE"); n < 50 {
		t.Errorf("%d certificate authorities, want those that Mozilla trusts", n)
	}
}

// The same input gives the same bytes, whatever the order of platforms; another input gives others.
func TestReproducible(t *testing.T) {
	index := func(p Program, platforms ...v1.Platform) string {
		var variants []Variant
		for _, platform := range platforms {
			variants = append(variants, Variant{Platform: platform, Image: image(t, p, platform)})
		}
		return digest(t, Index(variants, map[string]string{"a": "b"}))
	}
	if a, b := index(program(), amd64, arm64), index(program(), arm64, amd64); a != b {
		t.Errorf("two digests of the same: %s, %s", a, b)
	}
	other := program()
	other.Binary = []byte("another program")
	if a, b := index(program(), amd64), index(other, amd64); a == b {
		t.Errorf("two programs have the digest %s", a)
	}
}

// A bill of materials names what Go linked, and refers to its image.
func TestBOM(t *testing.T) {
	// Not the test itself: Go does not say what a test is built of.
	built := filepath.Join(t.TempDir(), "images")
	if out, err := exec.Command("go", "build", "-o", built, "..").CombinedOutput(); err != nil {
		t.Fatalf("building a program: %v\n%s", err, out)
	}
	binary, err := os.ReadFile(built)
	if err != nil {
		t.Fatal(err)
	}
	bom, err := BOM("server", "v1", binary)
	if err != nil {
		t.Fatal(err)
	}
	again, err := BOM("server", "v1", binary)
	if err != nil || !bytes.Equal(bom, again) {
		t.Errorf("the same program has two bills of materials (%v)", err)
	}
	var decoded cdx.BOM
	if err := cdx.NewBOMDecoder(bytes.NewReader(bom), cdx.BOMFileFormatJSON).Decode(&decoded); err != nil {
		t.Fatal(err)
	}
	found := map[string]bool{}
	for _, c := range *decoded.Components {
		found[c.Name] = strings.HasPrefix(c.PackageURL, "pkg:golang/"+c.Name+"@")
	}
	for _, name := range []string{"stdlib", "github.com/google/go-containerregistry", "github.com/CycloneDX/cyclonedx-go"} {
		if !found[name] {
			t.Errorf("no component %s with a version", name)
		}
	}
	of, err := partial.Descriptor(image(t, program(), amd64))
	if err != nil {
		t.Fatal(err)
	}
	attached, err := Attach(bom, *of)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := attached.RawManifest()
	if err != nil {
		t.Fatal(err)
	}
	var manifest v1.Manifest
	if err := json.Unmarshal(raw, &manifest); err != nil {
		t.Fatal(err)
	}
	if manifest.Subject == nil || manifest.Subject.Digest != of.Digest || manifest.Config.MediaType != MediaTypeBOM {
		t.Errorf("the artifact is %s, want one of type %s that refers to %s", raw, MediaTypeBOM, of.Digest)
	}
}

// What is not a Go program has no bill of materials, and that is an error.
func TestBOMOfSomethingElse(t *testing.T) {
	if _, err := BOM("server", "v1", []byte("#!/bin/sh\n")); err == nil || !strings.Contains(err.Error(), "server") {
		t.Errorf("error %v, want one that names the program", err)
	}
}
