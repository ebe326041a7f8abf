package auditor

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"

	"orkestra.dev/services/auditor/record"
)

// goneError says that the trail in the folder begins after the record wanted.
type goneError struct{ wanted, first uint64 }

func (e *goneError) Error() string {
	return fmt.Sprintf("record %d is no longer there, the first one is %d", e.wanted, e.first)
}

// line is a record with the bytes that it is written in, end of line included.
type line struct {
	record.Record
	bytes []byte
}

// cursor reads the records of a trail from one on. Whoever reads waits until a
// record is on the disk before asking for it.
type cursor struct {
	dir   string
	next  uint64
	file  *os.File
	lines *bufio.Reader
}

// read gives the next record. After an error it looks for the record anew.
func (c *cursor) read() (r line, err error) {
	defer func() {
		if err != nil {
			c.close()
		}
	}()
	if c.file == nil {
		if err := c.open(); err != nil {
			return r, err
		}
	}
	for {
		text, err := c.lines.ReadBytes('\n')
		if err != nil && len(text) == 0 { // the next segment has it
			c.close()
			if err := c.open(); err != nil {
				return r, err
			}
			text, err = c.lines.ReadBytes('\n')
		}
		if err != nil {
			return r, fmt.Errorf("reading record %d: %w", c.next, err)
		}
		if r.Record, err = record.Parse(text); err != nil {
			return r, fmt.Errorf("reading record %d from %s: %w", c.next, filepath.Base(c.file.Name()), err)
		}
		if r.N > c.next {
			return r, fmt.Errorf("reading record %d from %s: it is missing", c.next, filepath.Base(c.file.Name()))
		}
		if r.N == c.next {
			c.next++
			r.bytes = text
			return r, nil
		}
	}
}

// open finds the segment that holds the next record.
func (c *cursor) open() error {
	names, err := record.Segments(os.DirFS(c.dir))
	if err != nil {
		return fmt.Errorf("listing the segments: %w", err)
	}
	segment := ""
	for _, name := range names {
		first, _ := record.SegmentFirst(name)
		if first > c.next {
			if segment == "" {
				return &goneError{wanted: c.next, first: first}
			}
			break
		}
		segment = name
	}
	if segment == "" {
		return fmt.Errorf("reading record %d: there is no segment", c.next)
	}
	f, err := os.Open(filepath.Join(c.dir, segment))
	if err != nil {
		return fmt.Errorf("opening a segment: %w", err)
	}
	c.file, c.lines = f, bufio.NewReader(f)
	return nil
}

// seek makes record n the next.
func (c *cursor) seek(n uint64) {
	if n != c.next {
		c.close()
		c.next = n
	}
}

func (c *cursor) close() {
	if c.file != nil {
		_ = c.file.Close() // it was only read
		c.file = nil
	}
}
