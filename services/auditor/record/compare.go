package record

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
)

// Comparison holds what a stream still has against the records of it: first all records,
// then all messages, each in its order.
type Comparison struct {
	// Stream as it is now. Records of another life of it are passed over.
	Stream Stream
	// Same is how many messages are as they were recorded, and Later how many came
	// after the last record.
	Same, Later uint64

	last uint64
	sums map[uint64][sha256.Size]byte
}

// Record notes a record.
func (c *Comparison) Record(r Record) {
	if !r.Stream.Equal(c.Stream.Created) {
		return
	}
	switch r.Kind {
	case KindStream: // it went back, and all that it holds is recorded again
		c.sums, c.last = nil, r.Sequence
	case KindGap:
		c.last = r.Sequence
	case KindEvent:
		if c.sums == nil {
			c.sums = map[uint64][sha256.Size]byte{}
		}
		c.sums[r.Sequence], c.last = content(r.Subject, r.Event, r.Raw), r.Sequence
	}
}

// Message says what is wrong with the record of a message; nothing where it is as it
// should be, or comes after the last record.
func (c *Comparison) Message(m Message) (problem string) {
	if m.Sequence > c.last {
		c.Later++
		return ""
	}
	event, raw := m.Event, m.Raw
	if event != nil {
		raw = nil
		var compact bytes.Buffer
		if err := json.Compact(&compact, event); err == nil {
			event = compact.Bytes()
		}
	}
	switch recorded, ok := c.sums[m.Sequence]; {
	case !ok:
		return fmt.Sprintf("the stream has message %d, and no record has it", m.Sequence)
	case recorded != content(m.Subject, event, raw):
		return fmt.Sprintf("message %d is not what was recorded of it", m.Sequence)
	}
	c.Same++
	return ""
}

func content(subject string, event, raw []byte) [sha256.Size]byte {
	h := sha256.New()
	for _, part := range [][]byte{[]byte(subject), event, raw} {
		fmt.Fprintf(h, "%d:", len(part))
		h.Write(part)
	}
	return [sha256.Size]byte(h.Sum(nil))
}
