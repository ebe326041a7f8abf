package pack

import (
	"cmp"
	"slices"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// Variant is an image for one platform, and what is in it.
type Variant struct {
	Platform v1.Platform
	Image    v1.Image
	// BOM is the bill of materials, as BOM makes it.
	BOM []byte
}

// Index of the variants of an image, from which whoever pulls it takes the one for its platform. Their order does not
// matter.
func Index(variants []Variant, annotations map[string]string) v1.ImageIndex {
	sorted := slices.SortedFunc(slices.Values(variants), func(a, b Variant) int {
		return cmp.Compare(a.Platform.String(), b.Platform.String())
	})
	index := mutate.IndexMediaType(empty.Index, types.OCIImageIndex)
	for _, v := range sorted {
		index = mutate.AppendManifests(index, mutate.IndexAddendum{
			Add: v.Image, Descriptor: v1.Descriptor{Platform: &v.Platform},
		})
	}
	if annotated, ok := mutate.Annotations(index, annotations).(v1.ImageIndex); ok {
		return annotated
	}
	return index
}
