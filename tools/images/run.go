package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"

	"orkestra.dev/tools/images/catalog"
	"orkestra.dev/tools/images/pack"
)

// run builds, writes and pushes one image after the other.
func (o *options) run(ctx context.Context) error {
	if err := os.MkdirAll(o.out, 0o755); err != nil {
		return fmt.Errorf("making the folder of images: %w", err)
	}
	for _, i := range o.images {
		begin := time.Now()
		built, err := o.image(ctx, i)
		if err != nil {
			return err
		}
		fmt.Fprintf(o.log, "%s %s %s\n", built.Reference, built.Digest, time.Since(begin).Round(100*time.Millisecond))
	}
	return nil
}

// image makes one image and returns what is written about it. What is there already, made of the same, is not made again.
func (o *options) image(ctx context.Context, i catalog.Image) (*record, error) {
	b := builder{root: o.root, scratch: filepath.Join(o.out, ".build")}
	version, err := b.version(i, o.tag)
	if err != nil {
		return nil, err
	}
	reference := i.Reference
	if reference == "" {
		reference = o.registry + "/" + i.Name + ":" + version
	}
	tag, err := name.NewTag(reference, name.StrictValidation)
	if err != nil {
		return nil, fmt.Errorf("naming the image %s: %w", i.Name, err)
	}
	want := &record{Name: i.Name, Reference: reference, Version: version}
	programs := make([]pack.Program, len(o.platforms))
	inputs := sha256.New()
	for n, platform := range o.platforms {
		path, err := b.build(ctx, i, platform, version)
		if err != nil {
			return nil, err
		}
		binary, err := os.ReadFile(path)
		if err != nil {
			return nil, fmt.Errorf("reading %s: %w", i.Binary, err)
		}
		programs[n] = pack.Program{
			Name: i.Binary, Binary: binary, Args: i.Args, Ports: i.Ports, Labels: o.labels(i, version), Created: o.created,
		}
		if err := json.NewEncoder(inputs).Encode([]any{platform, programs[n]}); err != nil {
			return nil, fmt.Errorf("identifying the image %s: %w", i.Name, err)
		}
		want.Archives = append(want.Archives, archive{Platform: platform.String(), File: fileName(i.Name, platform, "tar")})
	}
	want.Inputs = hex.EncodeToString(inputs.Sum(nil))
	if have := o.have(want); have != nil {
		return have, o.pushLayout(ctx, have)
	}
	variants, err := o.pack(i, version, programs)
	if err != nil {
		return nil, err
	}
	if err := o.write(want, tag, variants); err != nil {
		return nil, err
	}
	return want, o.pushLayout(ctx, want)
}

// pack makes the variants of an image, one for each platform.
func (o *options) pack(i catalog.Image, version string, programs []pack.Program) ([]pack.Variant, error) {
	out := make([]pack.Variant, len(programs))
	for n, p := range programs {
		image, err := pack.Image(p, o.platforms[n])
		if err != nil {
			return nil, err
		}
		bom, err := pack.BOM(i.Name, version, p.Binary)
		if err != nil {
			return nil, err
		}
		out[n] = pack.Variant{Platform: o.platforms[n], Image: image, BOM: bom}
	}
	return out, nil
}

// labels as the OCI names them.
func (o *options) labels(i catalog.Image, version string) map[string]string {
	out := map[string]string{
		"org.opencontainers.image.title":       i.Name,
		"org.opencontainers.image.description": i.Description,
		"org.opencontainers.image.version":     version,
		"org.opencontainers.image.vendor":      "Orkestra",
		"org.opencontainers.image.licenses":    "Apache-2.0",
		"org.opencontainers.image.created":     o.created.Format(time.RFC3339),
	}
	if o.commit != "" {
		out["org.opencontainers.image.revision"] = o.commit
	}
	return out
}

func fileName(image string, p v1.Platform, extension string) string {
	return image + "-" + p.OS + "-" + p.Architecture + "." + extension
}
