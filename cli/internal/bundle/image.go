package bundle

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	digest "github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/errdef"
	ociref "oras.land/oras-go/v2/registry"
	"oras.land/oras-go/v2/registry/remote"

	"orkestra.dev/services/stager/registry"
)

// Image is what an OCI registry had of a chart and its signatures, byte for byte: a
// signature is of a manifest, so that very manifest has to be where it is loaded.
type Image struct {
	// Digest of the manifest, or index, that the chart's version stands for.
	Digest string `json:"digest"`
	// Manifests in the order in which they are to be pushed.
	Manifests []ImageManifest `json:"manifests"`
	// Blobs that the manifests name, besides the chart's archive.
	Blobs []File `json:"blobs,omitempty"`
}

// ImageManifest is a manifest or an index.
type ImageManifest struct {
	File
	MediaType string `json:"mediaType"`
	// Tag under which signatures are found; else empty.
	Tag string `json:"tag,omitempty"`
}

// maxImages bounds all files of images, in bytes: a few KiB for each chart, which are
// kept in memory until its archive comes.
const maxImages = 64 << 20

// blobPath is that of an OCI layout.
func blobPath(digest string) string { return "blobs/sha256/" + strings.TrimPrefix(digest, "sha256:") }

// imageOf a chart whose archive has that digest.
func imageOf(manifest, archive string, o *registry.Original) *Image {
	m := &Image{Digest: manifest}
	for _, one := range o.Manifests {
		m.Manifests = append(m.Manifests, ImageManifest{File: fileOf(blobPath(one.Digest), one.Data), MediaType: one.MediaType, Tag: one.Tag})
	}
	for _, d := range slices.Sorted(maps.Keys(o.Blobs)) {
		if d != archive {
			m.Blobs = append(m.Blobs, fileOf(blobPath(d), o.Blobs[d]))
		}
	}
	return m
}

// files of the image; none where there is no image.
func (m *Image) files() []File {
	if m == nil {
		return nil
	}
	files := slices.Clone(m.Blobs)
	for _, one := range m.Manifests {
		files = append(files, one.File)
	}
	return files
}

// validate that nothing is pushed elsewhere than an image of ours is.
func (m *Image) validate() error {
	there := false
	for _, one := range m.Manifests {
		switch {
		case one.MediaType != ocispec.MediaTypeImageManifest && one.MediaType != ocispec.MediaTypeImageIndex:
			return fmt.Errorf("%.80q is not the media type of a manifest", one.MediaType)
		case one.Tag != "" && one.Tag != registry.SignatureTag(m.Digest):
			return fmt.Errorf("%.80q is not the tag of its signatures", one.Tag)
		}
		there = there || one.Digest == m.Digest
	}
	if !there {
		return fmt.Errorf("manifest %.80q is not in it", m.Digest)
	}
	for _, f := range m.files() {
		if err := f.check(func() string { return blobPath(f.Digest) }, maxArchive); err != nil {
			return err
		}
	}
	return nil
}

// proves tells whether the image has the provenance that a group asks for, if one does.
func (m *Image) proves(provenance *File) error {
	if provenance == nil || slices.ContainsFunc(m.Blobs, func(f File) bool { return f.Digest == provenance.Digest }) {
		return nil
	}
	return errors.New("one group asks for its provenance, which is not in the manifest whose signatures another asks for: save and load the groups one by one")
}

// imagePusher is a repository that takes images as they are.
type imagePusher interface {
	// Fits tells whether the image can be put there without overwriting anything.
	Fits(ctx context.Context, name string, m *Image) error
	// PushImage puts it there, with its files by digest. It may be there already.
	PushImage(ctx context.Context, name, version string, m *Image, files map[string][]byte) error
}

func (o *ociTarget) repository(name string) *remote.Repository {
	client := o.authorizer()
	return &remote.Repository{
		Client:    &client,
		Reference: ociref.Reference{Registry: o.at.Host, Repository: strings.Trim(o.at.Path+"/"+name, "/")},
		PlainHTTP: o.plain(o.at.Host),
	}
}

func (o *ociTarget) Fits(ctx context.Context, name string, m *Image) error {
	for _, one := range m.Manifests {
		if one.Tag == "" {
			continue
		}
		there, err := o.repository(name).Resolve(ctx, one.Tag)
		switch {
		case errors.Is(err, errdef.ErrNotFound):
		case err != nil:
			return fmt.Errorf("looking for its signatures: %w", err)
		case there.Digest.String() != one.Digest:
			return fmt.Errorf("other signatures of it are there, under tag %s: nothing is overwritten, so delete that tag, or load to another URL", one.Tag)
		}
	}
	return nil
}

func (o *ociTarget) PushImage(ctx context.Context, name, version string, m *Image, files map[string][]byte) error {
	repo := o.repository(name)
	manifests := map[string]bool{}
	for _, one := range m.Manifests {
		manifests[one.Digest] = true
	}
	for _, d := range slices.Sorted(maps.Keys(files)) {
		if manifests[d] {
			continue
		}
		blob := descriptor("application/octet-stream", d, files[d])
		if there, err := repo.Blobs().Exists(ctx, blob); err != nil || there {
			if err != nil {
				return err
			}
			continue
		}
		if err := repo.Blobs().Push(ctx, blob, bytes.NewReader(files[d])); err != nil {
			return err
		}
	}
	for _, one := range m.Manifests {
		tag := one.Tag
		if one.Digest == m.Digest {
			tag = strings.ReplaceAll(version, "+", "_")
		}
		data := files[one.Digest]
		if err := repo.Manifests().PushReference(ctx, descriptor(one.MediaType, one.Digest, data), bytes.NewReader(data), cmp.Or(tag, one.Digest)); err != nil {
			return err
		}
	}
	return nil
}

func descriptor(mediaType, of string, data []byte) ocispec.Descriptor {
	return ocispec.Descriptor{MediaType: mediaType, Digest: digest.Digest(of), Size: int64(len(data))}
}
