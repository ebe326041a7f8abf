// Package pack makes images out of programs, without a container engine and without a base image. The same program and
// the same settings give the same bytes, on any machine: no clock, no environment and no network is asked.
package pack

import (
	"archive/tar"
	"bytes"
	"encoding/pem"
	"fmt"
	"io"
	"path"
	"strconv"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"golang.org/x/crypto/x509roots/fallback/bundle"
)

// User that programs run as: the nonroot user of distroless images. A number, so that a cluster can check runAsNonRoot.
const User = "65532:65532"

const accounts = "root:x:0:0:root:/:/sbin/nologin\nnonroot:x:65532:65532:nonroot:/tmp:/sbin/nologin\n"
const groups = "root:x:0:\nnonroot:x:65532:\n"

// Program is what goes into an image.
type Program struct {
	// Name in /bin, and Binary its bytes: an executable that is linked statically.
	Name   string
	Binary []byte
	// Args that it is started with by default, and Ports that it then listens on.
	Args  []string
	Ports []int
	// Labels of the image: those of the OCI's annotations, say.
	Labels map[string]string
	// Created is when the image says it was made.
	Created time.Time
}

// Image of the program for one platform: one layer, with the program, the accounts that it may run as, certificate
// authorities, and /tmp.
func Image(p Program, platform v1.Platform) (v1.Image, error) {
	files, err := layer(p)
	if err != nil {
		return nil, err
	}
	l, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(files)), nil },
		tarball.WithMediaType(types.OCILayer))
	if err != nil {
		return nil, fmt.Errorf("making the layer of %s: %w", p.Name, err)
	}
	base := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	image, err := mutate.Append(base, mutate.Addendum{Layer: l, History: v1.History{
		Created: v1.Time{Time: p.Created}, CreatedBy: "orkestra.dev/tools/images",
	}})
	if err != nil {
		return nil, fmt.Errorf("adding the layer of %s: %w", p.Name, err)
	}
	config, err := image.ConfigFile()
	if err != nil {
		return nil, fmt.Errorf("reading the configuration of %s: %w", p.Name, err)
	}
	config = config.DeepCopy()
	config.OS, config.Architecture, config.Variant = platform.OS, platform.Architecture, platform.Variant
	config.Created = v1.Time{Time: p.Created}
	config.Config = v1.Config{
		Entrypoint: []string{"/bin/" + p.Name},
		Cmd:        p.Args,
		Env:        []string{"PATH=/bin", "SSL_CERT_FILE=" + authorities},
		User:       User,
		WorkingDir: "/",
		Labels:     p.Labels,
	}
	for _, port := range p.Ports {
		if config.Config.ExposedPorts == nil {
			config.Config.ExposedPorts = map[string]struct{}{}
		}
		config.Config.ExposedPorts[strconv.Itoa(port)+"/tcp"] = struct{}{}
	}
	image, err = mutate.ConfigFile(image, config)
	if err != nil {
		return nil, fmt.Errorf("configuring %s: %w", p.Name, err)
	}
	return image, nil
}

// authorities is where Go, OpenSSL and others look for them on Debian.
const authorities = "/etc/ssl/certs/ca-certificates.crt"

// layer is the tar archive of the only layer.
func layer(p Program) ([]byte, error) {
	t := tree{made: map[string]bool{}, created: p.Created}
	t.writer = tar.NewWriter(&t.out)
	t.folder("/tmp", 0o1777)
	t.file("/etc/passwd", []byte(accounts), 0o644)
	t.file("/etc/group", []byte(groups), 0o644)
	t.file(authorities, certificates(), 0o644)
	t.file("/bin/"+p.Name, p.Binary, 0o755)
	if t.err == nil {
		t.err = t.writer.Close()
	}
	if t.err != nil {
		return nil, fmt.Errorf("writing the layer of %s: %w", p.Name, t.err)
	}
	return t.out.Bytes(), nil
}

// certificates are the authorities that Mozilla trusts. Those that it trusts with a condition, which a file cannot say,
// are left out.
func certificates() []byte {
	var out bytes.Buffer
	for root := range bundle.Roots() {
		if root.Constraint == nil {
			out.Write(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: root.Certificate}))
		}
	}
	return out.Bytes()
}

// tree writes files and the folders that they are in. The first error sticks.
type tree struct {
	out     bytes.Buffer
	writer  *tar.Writer
	made    map[string]bool
	created time.Time
	err     error
}

func (t *tree) folder(name string, mode int64) {
	if name == "/" || t.made[name] || t.err != nil {
		return
	}
	t.made[name] = true
	t.folder(path.Dir(name), 0o755)
	t.header(&tar.Header{Typeflag: tar.TypeDir, Name: strings.TrimPrefix(name, "/") + "/", Mode: mode})
}

func (t *tree) file(name string, content []byte, mode int64) {
	t.folder(path.Dir(name), 0o755)
	t.header(&tar.Header{Typeflag: tar.TypeReg, Name: strings.TrimPrefix(name, "/"), Mode: mode, Size: int64(len(content))})
	if t.err == nil {
		_, t.err = t.writer.Write(content)
	}
}

func (t *tree) header(h *tar.Header) {
	h.ModTime, h.Format = t.created, tar.FormatUSTAR
	if t.err == nil {
		t.err = t.writer.WriteHeader(h)
	}
}
