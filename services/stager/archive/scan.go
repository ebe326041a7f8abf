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
	// Depth is how many charts may be in one another, packed or not, the outermost
	// counted.
	Depth int
	// Ratio is how many times its packed size an archive may have unpacked. What is
	// below one MiB is small enough to have any ratio: a long run of one character
	// in a small chart is odd, not dangerous.
	Ratio int64
	// YAMLBytes and YAMLNodes are the size of all that Helm decodes as it loads a chart
	// (Chart.yaml, values.yaml, and what is locked or required), with every alias
	// replaced by what it stands for.
	YAMLBytes, YAMLNodes int64
	// Links are the dependencies that all charts declare, and each condition, tag and
	// import of theirs.
	Links int64
	// ActionBytes is how much of all templates is actions, from {{ to }}, without what is
	// in quotes.
	ActionBytes int64
}

// DefaultLimits keep what a chart costs below 256 MiB and two seconds, whoever made
// it. Helm's own are 100 MiB and 5 MiB a file, and it does not count what is in nested
// archives: 19 KiB of chart became 1.7 GiB. What is larger than these limits Helm could
// not install either: its record of a release, which holds the chart, is packed into
// a Secret of at most 1 MiB. Charts of CRDs, the most repetitive that people write, are
// near 25:1. The sums of YAML and of actions are ten times those of the largest
// umbrellas that people publish; 1 MiB of nothing but empty lists would take 100 MiB
// and half a second each time Helm loads it, and templates are the same.
var DefaultLimits = Limits{
	Bytes:       32 << 20,
	FileBytes:   5 << 20,
	Files:       10_000,
	Depth:       12,
	Ratio:       200,
	YAMLBytes:   4 << 20,
	YAMLNodes:   150_000,
	Links:       2_000,
	ActionBytes: 2 << 20,
}

const ratioFloor = 1 << 20

// Scan looks through a gzipped tar, and those in its charts/ folders, as a
// stream, and refuses (InvalidChart) what no chart needs: links, devices, holes, paths
// that leave the archive, one file twice, a second archive behind the first, YAML that
// is large when its aliases are followed, a schema that reads files, and more of
// anything than limits allow. It keeps nothing in memory but one file, or one packed
// subchart, per level.
func Scan(data []byte, limits Limits) error {
	s := scan{limits: limits, bytes: limits.Bytes, files: limits.Files, contents: contents{
		limits: limits, yamlBytes: limits.YAMLBytes, yamlNodes: limits.YAMLNodes, links: limits.Links, actionBytes: limits.ActionBytes,
	}}
	if err := s.archive(data, 1, ""); err != nil {
		return refusal.Because(v1alpha1.ReasonInvalidChart, err)
	}
	return nil
}

// scan is what is left of the limits.
type scan struct {
	contents
	limits Limits
	bytes  int64
	files  int
}

var errBudget = errors.New("budget spent")

// archive looks through one, which is the chart at depth.
func (s *scan) archive(data []byte, depth int, in string) error {
	where := "archive"
	if in != "" {
		where = "archive " + in
	}
	packed := bytes.NewReader(data)
	zr, err := gzip.NewReader(packed)
	if err != nil {
		return fmt.Errorf("%s is not a gzipped tar: %w", where, err)
	}
	zr.Multistream(false)
	// The counter is below tar, so that headers and padding count too.
	unpacked := &counter{scan: s, r: zr, packed: int64(len(data))}
	err = s.entries(tar.NewReader(unpacked), depth, in)
	if err == nil {
		err = ends(unpacked, packed)
	}
	var inner *innerError
	switch {
	case errors.As(err, &inner):
		return inner.error
	case unpacked.why != "":
		return fmt.Errorf("%s %s", where, unpacked.why)
	case err != nil:
		return fmt.Errorf("%s: %w", where, err)
	}
	return nil
}

// innerError is about an archive in the archive, and says so.
type innerError struct{ error }

func (s *scan) entries(tr *tar.Reader, depth int, in string) error {
	seen := paths{}
	for {
		h, err := tr.Next()
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return fmt.Errorf("reading it: %w", err)
		}
		if s.files--; s.files < 0 {
			return fmt.Errorf("more than %d files in all", s.limits.Files)
		}
		name, err := seen.entry(h)
		if err != nil {
			return err
		}
		if name == "" {
			continue
		}
		if h.Size > s.limits.FileBytes {
			return fmt.Errorf("file %q has %d bytes, %d are allowed", h.Name, h.Size, s.limits.FileBytes)
		}
		f := placed(name)
		if f.packed {
			f.charts++
		}
		if depth+f.charts > s.limits.Depth {
			return fmt.Errorf("file %q: charts are nested more than %d deep", h.Name, s.limits.Depth)
		}
		if !f.packed && !f.read() {
			continue // tar skips the contents, through the counter
		}
		data := make([]byte, h.Size)
		if _, err := io.ReadFull(tr, data); err != nil {
			return fmt.Errorf("reading %s: %w", name, err)
		}
		if f.packed {
			err = s.archive(data, depth+f.charts, path.Join(in, name))
			if err != nil {
				return &innerError{err}
			}
			continue
		}
		if err := s.look(f, data); err != nil {
			return fmt.Errorf("file %s: %w", name, err)
		}
	}
}

// ends sees to it that nothing follows the last entry but padding: what is there some
// readers would find and others not.
func ends(unpacked io.Reader, packed *bytes.Reader) error {
	block := make([]byte, 4<<10)
	for {
		n, err := unpacked.Read(block)
		if len(bytes.Trim(block[:n], "\x00")) > 0 {
			return errors.New("there is something behind the end of the tar")
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return fmt.Errorf("reading it: %w", err)
		}
	}
	if packed.Len() > 0 {
		return fmt.Errorf("%d bytes follow the gzipped tar", packed.Len())
	}
	return nil
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
