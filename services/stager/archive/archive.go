package archive

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"

	"helm.sh/helm/v3/pkg/chart/loader"

	"orkestra.dev/api/v1alpha1"
	"orkestra.dev/services/stager/refusal"
)

// File is a file of a chart; Name is its path in the chart.
type File struct {
	Name string
	Data []byte
}

// Read unpacks a chart archive as Helm does, after Scan has passed it. Files are
// sorted by name; packed subcharts stay packed.
func Read(data []byte, limits Limits) ([]File, error) {
	if err := Scan(data, limits); err != nil {
		return nil, err
	}
	return Unpack(data)
}

// Unpack is Read for what Scan has passed already: an archive in an archive.
func Unpack(data []byte) ([]File, error) {
	buffered, err := loader.LoadArchiveFiles(bytes.NewReader(data))
	if err != nil {
		return nil, refusal.Becausef(v1alpha1.ReasonInvalidChart, "unpacking the archive: %w", err)
	}
	files := make([]File, 0, len(buffered))
	for _, f := range buffered {
		files = append(files, File{Name: f.Name, Data: f.Data})
	}
	slices.SortFunc(files, func(a, b File) int { return strings.Compare(a.Name, b.Name) })
	return files, nil
}

// Write packs files into a folder named root. The same files are the same bytes,
// with the same release of Go: sorted, without times, owners or a name in the gzip
// header.
func Write(root string, files []File) ([]byte, error) {
	files = slices.Clone(files)
	slices.SortFunc(files, func(a, b File) int { return strings.Compare(a.Name, b.Name) })
	var b bytes.Buffer
	zw := gzip.NewWriter(&b)
	tw := tar.NewWriter(zw)
	for _, f := range files {
		h := &tar.Header{Typeflag: tar.TypeReg, Name: root + "/" + f.Name, Mode: 0o644, Size: int64(len(f.Data))}
		if err := tw.WriteHeader(h); err != nil {
			return nil, fmt.Errorf("packing %s: %w", h.Name, err)
		}
		if _, err := tw.Write(f.Data); err != nil {
			return nil, fmt.Errorf("packing %s: %w", h.Name, err)
		}
	}
	if err := tw.Close(); err != nil {
		return nil, fmt.Errorf("packing %s: %w", root, err)
	}
	if err := zw.Close(); err != nil {
		return nil, fmt.Errorf("packing %s: %w", root, err)
	}
	return b.Bytes(), nil
}

// Digest is sha256:<hex> of an archive.
func Digest(data []byte) string {
	sum := sha256.Sum256(data)
	return "sha256:" + hex.EncodeToString(sum[:])
}
