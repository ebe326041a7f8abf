package record

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

// Kind of a record.
type Kind string

const (
	// KindEvent is a message of the stream.
	KindEvent Kind = "event"
	// KindGap says that the messages From to To were lost before they were read.
	KindGap Kind = "gap"
	// KindStream says that from here on another stream is read, or the same one
	// again, and why.
	KindStream Kind = "stream"
)

// Entry is what a record says.
type Entry struct {
	Kind Kind `json:"kind"`
	// Time at which the stream stored the message; of other kinds, at which the
	// auditor saw it.
	Time time.Time `json:"time"`
	// Stream is when the stream was made: another time is another stream.
	Stream time.Time `json:"stream"`
	// Sequence of the message in the stream; of other kinds, the one after which
	// reading goes on.
	Sequence uint64 `json:"sequence"`
	// From and To are the first and the last sequence that a gap is about.
	From uint64 `json:"from,omitempty"`
	To   uint64 `json:"to,omitempty"`
	// Reason of a record of kind stream.
	Reason string `json:"reason,omitempty"`
	// Subject that the message was sent on.
	Subject string `json:"subject,omitempty"`
	// Event is the CloudEvent as it is stored, without insignificant space.
	Event json.RawMessage `json:"event,omitempty"`
	// Raw is the body of a message that is no CloudEvent, in base64.
	Raw []byte `json:"raw,omitempty"`
}

// Record is a line of the trail.
type Record struct {
	// N counts the records, from 1.
	N uint64 `json:"n"`
	Entry
	// Prev is the hash of the record before, and NoHash in the first.
	Prev string `json:"prev"`
	// Hash is the SHA-256, in hexadecimal, of the line's bytes without the member
	// "hash", which is the last one, and without the end of line.
	Hash string `json:"hash,omitempty"`
}

// hashLength is that of a SHA-256 in hexadecimal.
const hashLength = 2 * sha256.Size

// NoHash is what the first record has before it.
const NoHash = "0000000000000000000000000000000000000000000000000000000000000000"

const (
	hashHead = `,"hash":"`
	hashTail = `"}`
)

// Head is the end of a chain; the zero value is the chain without records.
type Head struct {
	N    uint64
	Hash string
}

func (h Head) hash() string {
	if h.N == 0 {
		return NoHash
	}
	return h.Hash
}

// Append writes the record that follows the head: a line with its end. The bytes
// are a function of the head and the entry. The error says that the entry's event
// is not JSON.
func (h Head) Append(e Entry) (line []byte, next Head, err error) {
	if e.Event != nil {
		var compact bytes.Buffer
		if err := json.Compact(&compact, e.Event); err != nil {
			return nil, h, fmt.Errorf("compacting the event of sequence %d: %w", e.Sequence, err)
		}
		e.Event = compact.Bytes()
	}
	e.Time, e.Stream = e.Time.UTC(), e.Stream.UTC()
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false) // the event's bytes stay as they are
	if err := enc.Encode(Record{N: h.N + 1, Entry: e, Prev: h.hash()}); err != nil {
		return nil, h, fmt.Errorf("encoding record %d: %w", h.N+1, err)
	}
	body := bytes.TrimSuffix(b.Bytes(), []byte("\n"))
	sum := sum(body)
	line = append(body[:len(body)-1:len(body)-1], hashHead+sum+hashTail+"\n"...)
	return line, Head{N: h.N + 1, Hash: sum}, nil
}

func sum(body []byte) string {
	s := sha256.Sum256(body)
	return hex.EncodeToString(s[:])
}

// Parse reads a line, with or without its end. The error says what is wrong with
// it by itself, an alteration first of all.
func Parse(line []byte) (Record, error) {
	line = bytes.TrimSuffix(line, []byte("\n"))
	at := len(line) - len(hashHead) - hashLength - len(hashTail)
	if at < 1 || string(line[at:at+len(hashHead)]) != hashHead || string(line[len(line)-len(hashTail):]) != hashTail {
		return Record{}, errors.New("the line is not a record: it does not end in a hash")
	}
	said := string(line[at+len(hashHead) : len(line)-len(hashTail)])
	body := append(bytes.Clone(line[:at]), '}')
	if got := sum(body); got != said {
		return Record{}, fmt.Errorf("the record was altered: its hash is %s, it says %s", got, said)
	}
	var r Record
	if err := json.Unmarshal(line, &r); err != nil {
		return Record{}, fmt.Errorf("the line is not a record: %w", err)
	}
	return r, nil
}

// Head after the record.
func (r Record) Head() Head { return Head{N: r.N, Hash: r.Hash} }
