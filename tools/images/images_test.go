package main

import (
	"bytes"
	"debug/elf"
	"io"
	"log"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/validate"

	"orkestra.dev/tools/images/catalog"
	"orkestra.dev/tools/images/pack"
)

// made runs the program as a user would, and returns the folder that it wrote to and what it said.
func made(t *testing.T, args ...string) (string, string) {
	t.Helper()
	out := t.TempDir()
	var said bytes.Buffer
	o, err := parse(append([]string{"--root", "../..", "--out", out, "--platforms", "linux/amd64,linux/arm64"}, args...),
		func(string) string { return "" }, &said)
	if err != nil {
		t.Fatal(err)
	}
	if err := o.run(t.Context()); err != nil {
		t.Fatal(err)
	}
	return out, said.String()
}

func index(t *testing.T, dir string) v1.ImageIndex {
	t.Helper()
	root, err := layout.ImageIndexFromPath(dir)
	if err != nil {
		t.Fatal(err)
	}
	manifest, err := root.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	index, err := root.ImageIndex(manifest.Manifests[0].Digest)
	if err != nil {
		t.Fatal(err)
	}
	if err := validate.Index(index); err != nil {
		t.Fatal(err)
	}
	return index
}

// Two builds, in two places, give the same image; for each platform there is a static program of that platform, an archive
// that loads under the image's name, and a bill of materials.
func TestBuild(t *testing.T) {
	a, _ := made(t, "demo-productpage")
	b, _ := made(t, "demo-productpage")
	first, err := index(t, filepath.Join(a, "demo-productpage")).Digest()
	if err != nil {
		t.Fatal(err)
	}
	second, err := index(t, filepath.Join(b, "demo-productpage")).Digest()
	if err != nil {
		t.Fatal(err)
	}
	if first != second {
		t.Errorf("two builds gave %s and %s", first, second)
	}
	tag, err := name.NewTag("docker.io/istio/examples-bookinfo-productpage-v1:1.20.1")
	if err != nil {
		t.Fatal(err)
	}
	for arch, machine := range map[string]elf.Machine{"amd64": elf.EM_X86_64, "arm64": elf.EM_AARCH64} {
		program := filepath.Join(a, ".build", "linux-"+arch, "tools", "images", "demo")
		f, err := elf.Open(program)
		if err != nil {
			t.Fatal(err)
		}
		if f.Machine != machine || f.Section(".interp") != nil {
			t.Errorf("%s is of %s with interpreter %v, want a static program of %s", program, f.Machine, f.Section(".interp"), machine)
		}
		if err := f.Close(); err != nil {
			t.Error(err)
		}
		image, err := tarball.ImageFromPath(filepath.Join(a, "demo-productpage-linux-"+arch+".tar"), &tag)
		if err != nil {
			t.Fatal(err)
		}
		config, err := image.ConfigFile()
		if err != nil {
			t.Fatal(err)
		}
		if config.Architecture != arch || config.Config.Labels["org.opencontainers.image.version"] != "dev" {
			t.Errorf("the archive for %s holds %s with labels %v", arch, config.Architecture, config.Config.Labels)
		}
		if bom, err := os.ReadFile(filepath.Join(a, "demo-productpage-linux-"+arch+".cdx.json")); err != nil || !bytes.Contains(bom, []byte("pkg:golang/stdlib@")) {
			t.Errorf("the bill of materials for %s: %v, %s", arch, err, bom)
		}
	}
}

// A registry gets the index under its tag and the bills of materials as what refers to its images. What goes by a name of
// others stays here.
func TestPush(t *testing.T) {
	server := httptest.NewServer(registry.New(registry.WithReferrersSupport(true), registry.Logger(log.New(io.Discard, "", 0))))
	defer server.Close()
	host := strings.TrimPrefix(server.URL, "http://")
	out, said := made(t, "--registry", host+"/orkestra", "--tag", "v1.2.3", "--push", "pause", "demo-gateway")
	if !strings.Contains(said, "docker.io/library/nginx:1.29-alpine is not pushed") {
		t.Errorf("nothing is said of the image of others: %s", said)
	}
	tag, err := name.NewTag(host + "/orkestra/pause:v1.2.3")
	if err != nil {
		t.Fatal(err)
	}
	pushed, err := remote.Index(tag)
	if err != nil {
		t.Fatal(err)
	}
	manifest, err := pushed.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	local, err := index(t, filepath.Join(out, "pause")).IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(local, manifest); diff != "" {
		t.Errorf("the index (-local +pushed):\n%s", diff)
	}
	for _, image := range manifest.Manifests {
		referrers, err := remote.Referrers(tag.Digest(image.Digest.String()))
		if err != nil {
			t.Fatal(err)
		}
		list, err := referrers.IndexManifest()
		if err != nil {
			t.Fatal(err)
		}
		if len(list.Manifests) != 1 || list.Manifests[0].ArtifactType != string(pack.MediaTypeBOM) {
			t.Errorf("%s is referred to by %v, want a bill of materials", image.Platform, list.Manifests)
		}
	}
	repositories, err := remote.Catalog(t.Context(), tag.Registry)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"orkestra/pause"}, repositories); diff != "" {
		t.Errorf("repositories (-want +got):\n%s", diff)
	}
}

// Every server's version is that of its go.mod.
func TestVersions(t *testing.T) {
	b := builder{root: "../.."}
	images, err := catalog.Select([]string{catalog.Servers})
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range images {
		version, err := b.version(i, "dev")
		if err != nil || !strings.HasPrefix(version, "v") || strings.Contains(version, "+") {
			t.Errorf("%s: version %q, %v", i.Name, version, err)
		}
	}
}

func TestBadArguments(t *testing.T) {
	for _, c := range []struct {
		args []string
		env  string
		want string
	}{
		{args: []string{"--platforms", "windows/amd64"}, want: "--platforms"},
		{args: []string{"--platforms", "linux"}, want: "--platforms"},
		{args: []string{"nothing"}, want: `"nothing"`},
		{env: "yesterday", want: "SOURCE_DATE_EPOCH"},
	} {
		_, err := parse(c.args, func(string) string { return c.env }, io.Discard)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v: error %v, want one with %s", c.args, err, c.want)
		}
	}
}
