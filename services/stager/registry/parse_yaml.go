package registry

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"regexp"
	"slices"

	"sigs.k8s.io/yaml"
)

// readYAML reads an index that is laid out as Helm does: a block of entries, in it a
// block for each chart, in it a list of versions. It is cut at the indentation, and
// each part is given to the YAML library, so that what is in a version may be anything
// that YAML allows; so is every line between them, which may be what YAML forbids. What
// the cut cannot be sure of is errNotLaidOut.
func readYAML(r io.Reader, x *index) error {
	y := &yamlReader{index: x, keyIndent: -1, itemIndent: -1}
	lines := bufio.NewReaderSize(r, maxPart/4)
	for {
		line, err := lines.ReadSlice('\n')
		if err != nil && err != io.EOF {
			return err // also of a line that is too long
		}
		if len(line) > 0 {
			if err := y.line(line); err != nil {
				return err
			}
		}
		if err == io.EOF {
			return y.flush()
		}
	}
}

// yamlReader is at a line. What is being collected in part is a version of a chart, or
// a chart, or a field of the index, or comments before any of these.
type yamlReader struct {
	index   *index
	part    []byte
	collect func([]byte) error // what becomes of part; nil before there is any
	begun   bool               // the document, with a line that is no comment
	inField bool               // of the index: the first of them has begun

	inEntries             bool
	chart                 string // whose versions follow; empty outside of a list
	inChart               bool
	keyIndent, itemIndent int // of the charts and of their versions; -1 where not known yet
	seen                  map[string]bool
}

// breaks end a line in YAML 1.1 too, which the cut takes for a part of it.
const breaks = "\r\u0085\u2028\u2029"

var (
	entriesKey = regexp.MustCompile(`^entries:([ \t]+#.*|[ \t]*)$`)
	// alsoEntries may be read as the same key, in other letters or quotes.
	alsoEntries = regexp.MustCompile(`^(?i:entries|["'&!*])`)
	blockKey    = regexp.MustCompile(`^("[^"\\]*"|'[^']*'|[^\s"'#&*!|>%@\x60?:,\[\]{}-][^\s"'#:]*):([ \t]+#.*|[ \t]*)$`)
)

func (y *yamlReader) line(line []byte) error {
	content := bytes.TrimRight(line, "\r\n")
	indent := len(content) - len(bytes.TrimLeft(content, " "))
	content = content[indent:]
	switch {
	case bytes.ContainsAny(content, breaks), len(content) > 0 && content[0] == '\t':
		return errNotLaidOut
	case len(content) == 0, content[0] == '#':
		return y.more(line)
	case indent == 0:
		return y.top(line, content)
	case y.inEntries:
		return y.entry(line, content, indent)
	case !y.inField:
		return errNotLaidOut
	}
	return y.more(line)
}

// top is a line that begins a field of the index, or goes on with a list in one.
func (y *yamlReader) top(line, content []byte) error {
	switch {
	case !y.begun && bytes.Equal(bytes.TrimRight(content, " "), []byte("---")):
		y.begun = true
		return nil
	case bytes.HasPrefix(content, []byte("---")), bytes.HasPrefix(content, []byte("...")), bytes.ContainsRune([]byte("%?{["), rune(content[0])):
		return errNotLaidOut
	case isItem(content):
		if y.inEntries || !y.inField {
			return errNotLaidOut
		}
		return y.more(line)
	}
	y.begun, y.inField = true, true
	y.inEntries = entriesKey.Match(content)
	switch {
	case !y.inEntries && alsoEntries.Match(content), y.inEntries && y.seen != nil:
		return errNotLaidOut
	case y.inEntries:
		y.seen = map[string]bool{}
	}
	return y.begin(line, y.index.add)
}

// entry is a line in the block of entries.
func (y *yamlReader) entry(line, content []byte, indent int) error {
	if y.keyIndent < 0 {
		y.keyIndent = indent
	}
	item := y.inChart && isItem(content)
	switch {
	case item && (indent == y.itemIndent || y.itemIndent < 0 && indent >= y.keyIndent):
		y.itemIndent = indent
		return y.begin(line, y.version)
	case indent == y.keyIndent && !isItem(content):
		return y.key(line, content)
	case y.inChart && y.itemIndent >= 0 && indent > y.itemIndent, !y.inChart && indent >= y.keyIndent && y.collect != nil:
		return y.more(line)
	}
	return errNotLaidOut
}

// key is a line that begins a chart.
func (y *yamlReader) key(line, content []byte) error {
	if err := y.flush(); err != nil {
		return err
	}
	y.inChart, y.itemIndent = blockKey.Match(content), -1
	if !y.inChart {
		return y.begin(line, y.whole)
	}
	name, err := y.name(content)
	if err != nil {
		return err
	}
	y.chart = name
	return y.index.set(name, nil)
}

// name of the one chart in a mapping.
func (y *yamlReader) name(mapping []byte) (string, error) {
	var m map[string]any
	if err := yaml.Unmarshal(mapping, &m); err != nil {
		return "", cleaned(err)
	}
	if len(m) != 1 {
		return "", errNotLaidOut
	}
	for name := range m {
		if y.seen[name] {
			return "", errNotLaidOut
		}
		y.seen[name] = true
		return name, nil
	}
	return "", nil
}

// whole is a chart with its versions, in whatever style.
func (y *yamlReader) whole(part []byte) error {
	name, err := y.name(part)
	if err != nil {
		return err
	}
	var charts map[string][]entry
	if err := yaml.Unmarshal(part, &charts); err != nil {
		return cleaned(err)
	}
	return y.index.set(name, charts[name])
}

// version is an item of a chart's list.
func (y *yamlReader) version(part []byte) error {
	var list []entry
	if err := yaml.Unmarshal(part, &list); err != nil {
		return cleaned(err)
	}
	if len(list) != 1 {
		return errNotLaidOut
	}
	return y.index.append(y.chart, list[0])
}

func (y *yamlReader) begin(line []byte, collect func([]byte) error) error {
	if err := y.flush(); err != nil {
		return err
	}
	y.collect = collect
	return y.more(line)
}

func (y *yamlReader) more(line []byte) error {
	if y.collect == nil {
		y.collect = y.index.add // of a comment, or of an empty line: nothing
	}
	if len(y.part)+len(line) > maxPart {
		return errors.New("a part of it is too large")
	}
	y.part = append(y.part, line...)
	return nil
}

func (y *yamlReader) flush() error {
	if y.collect == nil {
		return nil
	}
	err := y.collect(y.part)
	y.part, y.collect = y.part[:0], nil
	return err
}

// isItem tells whether a line begins an item of a list.
func isItem(content []byte) bool {
	return content[0] == '-' && (len(content) == 1 || slices.Contains([]byte(" \t"), content[1]))
}
