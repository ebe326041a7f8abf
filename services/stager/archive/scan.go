// Package archive reads and writes chart archives: it looks through one that a
// stranger made before anything else does, and writes one so that the same files
// are the same bytes.
package archive

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"

	"orkestra.dev/api/v1alpha1"
	"orkestra.dev/services/stager/refusal"
)

// Limits on an archive, over it and all archives in it together.
type Limits struct {
	// Bytes is the size of everything, unpacked.
	Bytes int64
	// FileBytes is the size of any one file.
	FileBytes int64
	// Files is the number of entries, directories included.
	Files int
	// Depth is how many archives may be in one another, the outermost counted.
	Depth int
	// Ratio is how many times its packed size an archive may have unpacked. What is
	// below one MiB is small enough to have any ratio: a long run of one character
	// in a small chart is odd, not dangerous.
	Ratio int64
}

// DefaultLimits are Helm's own for the sizes (100 MiB, 5 MiB a file), except that
// Helm does not count what is in nested archives: 19 KiB of chart became 1.7 GiB.
// Charts of CRDs, which are the most repetitive that people write, are near 25:1.
var DefaultLimits = Limits{
	Bytes:     100 << 20,
	FileBytes: 5 << 20,
	Files:     20_000,
	Depth:     8,
	Ratio:     200,
}

const (
	ratioFloor = 1 << 20
	// maxName is how long a path may be, in bytes. Every level of charts/ in it costs a
	// copy of what is below; four times this is what Linux lets anybody open.
	maxName = 1024
)

// Scan looks through a gzipped tar, and those in its charts/ folders, as a
// stream, and refuses (InvalidChart) what no chart needs: links, devices, paths
// that leave the archive, one file twice, and more of anything than limits allow.
// It keeps nothing in memory but one packed subchart per level.
func Scan(data []byte, limits Limits) error {
	s := scan{limits: limits, bytes: limits.Bytes, files: limits.Files}
	if err := s.archive(data, 1, ""); err != nil {
		return refusal.Because(v1alpha1.ReasonInvalidChart, err)
	}
	return nil
}

// scan is what is left of the limits.
type scan struct {
	limits Limits
	bytes  int64
	files  int
}

var errBudget = errors.New("budget spent")

func (s *scan) archive(data []byte, depth int, in string) error {
	where := "archive"
	if in != "" {
		where = "archive " + in
	}
	if depth > s.limits.Depth {
		return fmt.Errorf("%s: archives are nested more than %d deep", where, s.limits.Depth)
	}
	zr, err := gzip.NewReader(bytes.NewReader(data))
	if err != nil {
		return fmt.Errorf("%s is not a gzipped tar: %w", where, err)
	}
	// The counter is below tar, so that headers and padding count too.
	unpacked := &counter{scan: s, r: zr, packed: int64(len(data))}
	tr := tar.NewReader(unpacked)
	seen := map[string]bool{}
	for {
		h, err := tr.Next()
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case unpacked.why != "":
			return fmt.Errorf("%s %s", where, unpacked.why)
		case err != nil:
			return fmt.Errorf("reading %s: %w", where, err)
		}
		if s.files--; s.files < 0 {
			return fmt.Errorf("%s: more than %d files in all", where, s.limits.Files)
		}
		name, err := entry(h, seen)
		if err != nil {
			return fmt.Errorf("%s: %w", where, err)
		}
		if name == "" {
			continue
		}
		if h.Size > s.limits.FileBytes {
			return fmt.Errorf("%s: file %q has %d bytes, %d are allowed", where, h.Name, h.Size, s.limits.FileBytes)
		}
		if !nested(name) {
			continue // tar skips the contents, through the counter
		}
		packed, err := io.ReadAll(tr)
		if err != nil {
			if unpacked.why != "" {
				return fmt.Errorf("%s %s", where, unpacked.why)
			}
			return fmt.Errorf("reading %s of %s: %w", name, where, err)
		}
		if err := s.archive(packed, depth+1, path.Join(in, name)); err != nil {
			return err
		}
	}
}

// entry checks one entry; the name is empty for what is not a file.
func entry(h *tar.Header, seen map[string]bool) (string, error) {
	switch h.Typeflag {
	case tar.TypeReg, tar.TypeDir:
	case tar.TypeXGlobalHeader: // git archive writes one
		return "", nil
	default:
		return "", fmt.Errorf("entry %q is neither a file nor a directory (type %q)", h.Name, h.Typeflag)
	}
	name := strings.ReplaceAll(h.Name, `\`, "/") // as Helm reads archives from Windows
	if path.IsAbs(name) || strings.ContainsRune(name, 0) {
		return "", fmt.Errorf("entry %q is not a relative path", h.Name)
	}
	if len(name) > maxName {
		return "", fmt.Errorf("entry %q... has a path of %d bytes, %d are allowed", h.Name[:40], len(name), maxName)
	}
	for part := range strings.SplitSeq(name, "/") {
		if part == ".." {
			return "", fmt.Errorf("entry %q leaves the archive", h.Name)
		}
	}
	if h.Typeflag == tar.TypeDir {
		return "", nil
	}
	// Helm drops the first folder, whatever its name.
	_, name, _ = strings.Cut(name, "/")
	if name = path.Clean(name); name == "." {
		return "", fmt.Errorf("file %q is outside the chart's folder", h.Name)
	}
	if seen[name] {
		return "", fmt.Errorf("file %q is there twice", h.Name)
	}
	seen[name] = true
	return name, nil
}

// nested tells whether Helm would open the file as a packed subchart, of the chart
// or of one that is unpacked in it.
func nested(name string) bool {
	for {
		rest, ok := strings.CutPrefix(name, "charts/")
		if !ok || strings.HasPrefix(rest, "_") || strings.HasPrefix(rest, ".") {
			return false
		}
		chart, inner, deeper := strings.Cut(rest, "/")
		if !deeper {
			return path.Ext(chart) == ".tgz"
		}
		name = inner
	}
}

// counter spends the budget while it is read.
type counter struct {
	scan   *scan
	r      io.Reader
	packed int64
	read   int64
	why    string // the budget that is spent
}

func (c *counter) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.read += int64(n)
	c.scan.bytes -= int64(n)
	switch {
	case c.scan.bytes < 0:
		c.why = fmt.Sprintf("unpacks to more than %d bytes in all", c.scan.limits.Bytes)
	case c.read > ratioFloor && c.read > c.packed*c.scan.limits.Ratio:
		c.why = fmt.Sprintf("unpacks to more than %d times its size", c.scan.limits.Ratio)
	default:
		return n, err
	}
	return n, errBudget
}
