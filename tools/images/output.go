package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"

	"orkestra.dev/tools/images/pack"
)

// record is what is written about an image that was made, in <out>/<name>.json.
type record struct {
	Name string `json:"name"`
	// Reference in full, as a pod names it, and Version: its tag, or that of what is in it.
	Reference string `json:"reference"`
	Version   string `json:"version"`
	// Digest of the index of all platforms.
	Digest string `json:"digest"`
	// Archives, one for each platform.
	Archives []archive `json:"archives"`
	// Inputs identifies all that the image was made of.
	Inputs string `json:"inputs"`
}

// archive of an image for one platform, in the folder of the record.
type archive struct {
	Platform string `json:"platform"`
	File     string `json:"file"`
}

func (o *options) recordFile(image string) string { return filepath.Join(o.out, image+".json") }
func (o *options) layoutDir(image string) string  { return filepath.Join(o.out, image) }

// have is what is there already of the image, nil where it is not what is wanted.
func (o *options) have(want *record) *record {
	content, err := os.ReadFile(o.recordFile(want.Name))
	if err != nil {
		return nil
	}
	var have record
	if json.Unmarshal(content, &have) != nil || have.Inputs != want.Inputs || have.Reference != want.Reference {
		return nil
	}
	return &have
}

// write puts the layout, the archives and the bills of materials in place, and the record last: where it is, the others are.
func (o *options) write(r *record, tag name.Tag, variants []pack.Variant) error {
	if err := errors.Join(os.RemoveAll(o.recordFile(r.Name)), os.RemoveAll(o.layoutDir(r.Name))); err != nil {
		return fmt.Errorf("removing an older image: %w", err)
	}
	index := pack.Index(variants, map[string]string{"org.opencontainers.image.version": r.Version})
	digest, err := index.Digest()
	if err != nil {
		return fmt.Errorf("digesting the index of %s: %w", r.Name, err)
	}
	r.Digest = digest.String()
	path, err := layout.Write(o.layoutDir(r.Name), empty.Index)
	if err != nil {
		return fmt.Errorf("making the layout of %s: %w", r.Name, err)
	}
	err = path.AppendIndex(index, layout.WithAnnotations(map[string]string{"org.opencontainers.image.ref.name": r.Version}))
	if err != nil {
		return fmt.Errorf("writing the layout of %s: %w", r.Name, err)
	}
	for n, v := range variants {
		if err := o.writeVariant(path, r, tag, v, r.Archives[n].File); err != nil {
			return fmt.Errorf("writing %s for %s: %w", r.Name, v.Platform, err)
		}
	}
	content, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return fmt.Errorf("writing the record of %s: %w", r.Name, err)
	}
	return replace(o.recordFile(r.Name), func(tmp string) error { return os.WriteFile(tmp, append(content, '\n'), 0o644) })
}

func (o *options) writeVariant(path layout.Path, r *record, tag name.Tag, v pack.Variant, file string) error {
	descriptor, err := partial.Descriptor(v.Image)
	if err != nil {
		return err
	}
	artifact, err := pack.Attach(v.BOM, *descriptor)
	if err != nil {
		return err
	}
	if err := path.AppendImage(artifact); err != nil {
		return err
	}
	err = replace(filepath.Join(o.out, fileName(r.Name, v.Platform, "cdx.json")), func(tmp string) error {
		return os.WriteFile(tmp, v.BOM, 0o644)
	})
	if err != nil {
		return err
	}
	return replace(filepath.Join(o.out, file), func(tmp string) error { return tarball.WriteToFile(tmp, tag, v.Image) })
}

// replace writes a file beside its place, and moves it there when it is whole.
func replace(path string, write func(tmp string) error) error {
	tmp := path + ".tmp"
	if err := write(tmp); err != nil {
		return errors.Join(err, os.RemoveAll(tmp))
	}
	return os.Rename(tmp, path)
}

// pushLayout pushes what the layout holds, where that is asked for. Images that go by the names of others never are.
func (o *options) pushLayout(ctx context.Context, r *record) error {
	if !o.push {
		return nil
	}
	tag, err := name.NewTag(r.Reference, name.StrictValidation)
	if err != nil {
		return fmt.Errorf("naming the image %s: %w", r.Name, err)
	}
	home, err := name.NewRepository(o.registry+"/"+r.Name, name.StrictValidation)
	if err != nil {
		return fmt.Errorf("naming the image %s: %w", r.Name, err)
	}
	if tag.Repository != home {
		fmt.Fprintf(o.log, "%s is not pushed: the name is not ours\n", r.Reference)
		return nil
	}
	path, err := layout.FromPath(o.layoutDir(r.Name))
	if err != nil {
		return fmt.Errorf("reading the layout of %s: %w", r.Name, err)
	}
	root, err := path.ImageIndex()
	if err != nil {
		return fmt.Errorf("reading the layout of %s: %w", r.Name, err)
	}
	manifest, err := root.IndexManifest()
	if err != nil {
		return fmt.Errorf("reading the layout of %s: %w", r.Name, err)
	}
	for _, d := range manifest.Manifests {
		if err := pushOne(ctx, root, d, tag); err != nil {
			return fmt.Errorf("pushing %s: %w", r.Reference, err)
		}
	}
	return nil
}

// pushOne pushes the index under the tag, and what refers to the images in it under its digest.
func pushOne(ctx context.Context, root v1.ImageIndex, d v1.Descriptor, tag name.Tag) error {
	options := []remote.Option{remote.WithContext(ctx), remote.WithAuthFromKeychain(authn.DefaultKeychain)}
	if d.MediaType.IsIndex() {
		index, err := root.ImageIndex(d.Digest)
		if err != nil {
			return err
		}
		return remote.WriteIndex(tag, index, options...)
	}
	image, err := root.Image(d.Digest)
	if err != nil {
		return err
	}
	return remote.Write(tag.Digest(d.Digest.String()), image, options...)
}
