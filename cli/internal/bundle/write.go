package bundle

import (
	"archive/tar"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// write a bundle: the index, and then its files, of which open gives the contents. The
// same files are the same bytes, with the same release of Go.
func write(w io.Writer, x *Index, open func(File) ([]byte, error)) error {
	if err := x.validate(); err != nil {
		return err
	}
	files, err := x.files()
	if err != nil {
		return err
	}
	index, err := json.MarshalIndent(x, "", "  ")
	if err != nil {
		return err
	}
	if len(index) > maxIndex {
		return fmt.Errorf("%s would have %d bytes, %d are allowed: save fewer groups", indexName, len(index), maxIndex)
	}
	// Charts are packed already.
	zw, err := gzip.NewWriterLevel(w, gzip.BestSpeed)
	if err != nil {
		return err
	}
	tw := tar.NewWriter(zw)
	add := func(path string, data []byte) error {
		if err := tw.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: path, Mode: 0o644, Size: int64(len(data))}); err != nil {
			return err
		}
		_, err := tw.Write(data)
		return err
	}
	if err := add(indexName, append(index, '\n')); err != nil {
		return err
	}
	for _, f := range files {
		data, err := open(f)
		if err != nil {
			return err
		}
		if err := add(f.Path, data); err != nil {
			return err
		}
	}
	return errors.Join(tw.Close(), zw.Close())
}

// writeFile writes a bundle to a path, where it is whole or as it was.
func writeFile(path string, x *Index, open func(File) ([]byte, error)) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), ".orkestra-bundle-*")
	if err != nil {
		return fmt.Errorf("writing bundle %s: %w", path, err)
	}
	defer func() {
		if err != nil {
			err = fmt.Errorf("writing bundle %s: %w", path, errors.Join(err, os.Remove(f.Name())))
		}
	}()
	if err := errors.Join(write(f, x, open), f.Chmod(0o644), f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}
