package pack

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"debug/buildinfo"
	"encoding/hex"
	"fmt"
	"runtime/debug"
	"slices"
	"strings"

	cdx "github.com/CycloneDX/cyclonedx-go"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// MediaTypeBOM is that of a bill of materials.
const MediaTypeBOM types.MediaType = "application/vnd.cyclonedx+json"

// BOM is the bill of materials of a Go program, in CycloneDX's JSON: the modules that Go has linked into it, as the
// program itself says, with the versions that replaced others.
func BOM(name, version string, binary []byte) ([]byte, error) {
	info, err := buildinfo.Read(bytes.NewReader(binary))
	if err != nil {
		return nil, fmt.Errorf("reading what %s was built of: %w", name, err)
	}
	sum := sha256.Sum256(binary)
	bom := cdx.NewBOM()
	bom.Metadata = &cdx.Metadata{Component: &cdx.Component{
		BOMRef: name, Type: cdx.ComponentTypeApplication, Name: name, Version: version,
		Hashes: &[]cdx.Hash{{Algorithm: cdx.HashAlgoSHA256, Value: hex.EncodeToString(sum[:])}},
		Properties: &[]cdx.Property{
			{Name: "cdx:gomod:build:go", Value: info.GoVersion},
			{Name: "cdx:gomod:build:package", Value: info.Path},
		},
	}}
	// As scanners call the standard library.
	components := []cdx.Component{library("stdlib", strings.TrimPrefix(info.GoVersion, "go"), "")}
	for _, m := range info.Deps {
		components = append(components, dependency(m))
	}
	slices.SortFunc(components, func(a, b cdx.Component) int { return cmp.Compare(a.BOMRef, b.BOMRef) })
	bom.Components = &components
	refs := make([]string, len(components))
	for i, c := range components {
		refs[i] = c.BOMRef
	}
	bom.Dependencies = &[]cdx.Dependency{{Ref: name, Dependencies: &refs}}
	var out bytes.Buffer
	if err := cdx.NewBOMEncoder(&out, cdx.BOMFileFormatJSON).SetPretty(true).Encode(bom); err != nil {
		return nil, fmt.Errorf("writing the bill of materials of %s: %w", name, err)
	}
	return out.Bytes(), nil
}

// dependency is a module as it was linked. One that a folder of ours replaces keeps its own name.
func dependency(m *debug.Module) cdx.Component {
	if r := m.Replace; r != nil && r.Version != "" {
		m = r
	}
	return library(m.Path, m.Version, m.Sum)
}

func library(path, version, sum string) cdx.Component {
	purl := "pkg:golang/" + path
	// A module of this checkout has no version of its own.
	if version != "" && version != "(devel)" {
		purl += "@" + version
	}
	c := cdx.Component{BOMRef: purl, Type: cdx.ComponentTypeLibrary, Name: path, Version: version, PackageURL: purl}
	if sum != "" {
		c.Properties = &[]cdx.Property{{Name: "cdx:gomod:module:sum", Value: sum}}
	}
	return c
}

// Attach makes of a bill of materials an artifact that refers to its image, as registries list referrers.
func Attach(bom []byte, subject v1.Descriptor) (v1.Image, error) {
	base := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), MediaTypeBOM)
	artifact, err := mutate.AppendLayers(base, static.NewLayer(bom, MediaTypeBOM))
	if err != nil {
		return nil, fmt.Errorf("packing a bill of materials: %w", err)
	}
	// The platform is of the image, not of what refers to it.
	subject.Platform = nil
	attached, ok := mutate.Subject(artifact, subject).(v1.Image)
	if !ok {
		return nil, fmt.Errorf("referring to %s: the artifact is no image any more", subject.Digest)
	}
	return attached, nil
}
