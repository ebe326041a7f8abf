package registry

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"strings"

	"sigs.k8s.io/yaml"
)

// index is what we need of an index.yaml. Helm's own type lives in a package that
// brings its plugins (a WebAssembly runtime) and OCI with it, and keeps all metadata
// of every version of every chart, a hundred MiB for a large public repository. What
// it finds is what Helm finds.
type index struct {
	apiVersion string
	// charts by name; their versions newest first.
	charts map[string][]version
	// weight in memory and the most it may be, in bytes, about.
	weight, limit int64
}

// Bounds of reading, in bytes.
const (
	// maxWhole is how much of an index is read as one document, which takes some forty
	// times as much memory: larger ones have to be JSON, or to be laid out as Helm does.
	maxWhole = 2 << 20
	// maxPart bounds one version of one chart, or whatever else is read as a whole.
	maxPart = 1 << 20
)

var (
	errNotLaidOut = errors.New("it is not laid out as Helm lays it out")
	errTooHeavy   = errors.New("it has more charts and versions than are kept")
	errTooLarge   = errors.New("it is too large")
)

// file is an index.yaml, or a part of it, as Helm reads it.
type file struct {
	APIVersion string             `json:"apiVersion"`
	Entries    map[string][]entry `json:"entries"`
}

type entry struct {
	Name    string   `json:"name"`
	Version string   `json:"version"`
	URLs    []string `json:"urls"`
	Digest  string   `json:"digest"`
}

// readIndex reads YAML or JSON, also where it comes compressed: version by version, so
// that the memory that it takes is that of what is kept, whatever the size. An index
// that keeps more than limit is refused.
//
// Measured with GOGC=20: 20 MiB with 26,000 versions add 20 MiB to the heap at the peak
// as YAML and 14 MiB as JSON, and 5 MiB are kept. It takes 2 s and 0.5 s.
func readIndex(r io.Reader, maxBytes, limit int64) (*index, error) {
	in := &bounded{r: r, left: maxBytes}
	br := bufio.NewReader(in)
	if magic, err := br.Peek(2); err == nil && magic[0] == 0x1f && magic[1] == 0x8b {
		zr, err := gzip.NewReader(br)
		if err != nil {
			return nil, fmt.Errorf("it is not gzip: %w", err)
		}
		in = &bounded{r: zr, left: maxBytes}
		br = bufio.NewReader(in)
	}
	x, err := readParts(br, limit)
	switch {
	case in.err != nil:
		return nil, in.err // whatever came of it
	case errors.Is(err, errTooHeavy):
		return nil, err
	case err != nil:
		return nil, fmt.Errorf("it is not the index of a Helm repository: %w", err)
	case x.apiVersion == "":
		return nil, errors.New("it is not the index of a Helm repository: it has no apiVersion")
	}
	for name, versions := range x.charts {
		if x.charts[name] = newestFirst(versions); len(x.charts[name]) == 0 {
			delete(x.charts, name)
		}
	}
	return x, nil
}

// readParts reads part by part, and small ones whole where they cannot be read so.
func readParts(br *bufio.Reader, limit int64) (*index, error) {
	kept := &head{}
	r := io.TeeReader(br, kept)
	read := readYAML
	if first, err := br.Peek(1); err == nil && first[0] == '{' {
		read = readJSON
	}
	x := &index{charts: map[string][]version{}, limit: limit}
	err := read(r, x)
	if err == nil || errors.Is(err, errTooHeavy) {
		return x, err
	}
	if _, e := io.Copy(io.Discard, r); e != nil {
		return nil, e
	}
	if kept.over {
		return nil, fmt.Errorf("with more than %d bytes it has to be JSON or YAML as helm repo index writes it: %w", maxWhole, err)
	}
	x = &index{charts: map[string][]version{}, limit: limit}
	if err := x.add(kept.Bytes()); err != nil {
		return nil, err
	}
	return x, nil
}

// add a document, or a part that is a document too. What is JSON is read as that, as Helm
// does: YAML forbids some of it.
func (x *index) add(data []byte) error {
	var f file
	unmarshal := func(data []byte, v any) error { return yaml.Unmarshal(data, v) }
	if json.Valid(data) {
		unmarshal = json.Unmarshal
	}
	if err := unmarshal(data, &f); err != nil {
		return cleaned(err)
	}
	if f.APIVersion != "" {
		x.apiVersion = f.APIVersion
	}
	for name, entries := range f.Entries {
		if err := x.set(name, entries); err != nil {
			return err
		}
	}
	return nil
}

// cleaned is an error of the YAML library without the names of its own.
func cleaned(err error) error {
	return errors.New(strings.TrimPrefix(strings.TrimPrefix(err.Error(), "error converting YAML to JSON: "), "error unmarshaling JSON: "))
}

// clear is what null does to all charts before it, in JSON.
func (x *index) clear() {
	clear(x.charts)
	x.weight = 0
}

// set a chart; what was there under its name goes, as it does in YAML and in JSON.
func (x *index) set(name string, entries []entry) error {
	for _, v := range x.charts[name] {
		x.weight -= v.weight()
	}
	x.charts[name] = make([]version, 0, len(entries))
	for _, e := range entries {
		if err := x.append(name, e); err != nil {
			return err
		}
	}
	return nil
}

func (x *index) append(name string, e entry) error {
	v := version{Name: e.Name, Version: e.Version, Digest: e.Digest}
	if v.Name == "" || v.Name == name {
		v.Name = name // the same string in memory
	}
	if len(e.URLs) > 0 {
		v.URL = e.URLs[0]
	}
	if x.weight += v.weight(); x.weight > x.limit {
		return errTooHeavy
	}
	x.charts[name] = append(x.charts[name], v)
	return nil
}

// bounded ends with errTooLarge after a number of bytes, and remembers any error.
type bounded struct {
	r    io.Reader
	left int64
	err  error
}

func (b *bounded) Read(p []byte) (int, error) {
	if b.err != nil {
		return 0, b.err
	}
	n, err := b.r.Read(p)
	if b.left -= int64(n); b.left < 0 {
		b.err = errTooLarge
		return 0, b.err
	}
	if err != nil && err != io.EOF {
		b.err = err
	}
	return n, err
}

// head keeps what is written to it as long as that is little.
type head struct {
	bytes.Buffer
	over bool
}

func (h *head) Write(p []byte) (int, error) {
	if h.over = h.over || h.Len()+len(p) > maxWhole; h.over {
		h.Buffer = bytes.Buffer{}
		return len(p), nil
	}
	return h.Buffer.Write(p)
}

// reference is the URL of what an index refers to, in a repository: relative ones are
// below the repository's own, and take its query (a token, often) along.
func reference(base, ref string) (string, error) {
	r, err := url.Parse(ref)
	if err != nil {
		return "", errors.New("not a URL")
	}
	if r.IsAbs() {
		return ref, nil
	}
	b, err := url.Parse(base)
	if err != nil {
		return "", errors.New("not a URL")
	}
	b.RawPath = strings.TrimSuffix(b.RawPath, "/") + "/"
	b.Path = strings.TrimSuffix(b.Path, "/") + "/"
	u := b.ResolveReference(r)
	u.RawQuery = b.RawQuery
	return u.String(), nil
}
