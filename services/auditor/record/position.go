package record

import (
	"errors"
	"fmt"
	"time"
)

// Position is how far a stream was read; the zero value is not at all.
type Position struct {
	// Stream is when the stream was made.
	Stream   time.Time
	Sequence uint64
	// At is when the message of Sequence was stored; zero where it was not read.
	At time.Time
}

// ErrWentBack says that the stream holds another message at the position than
// the one that was read: what came after it was written anew.
var ErrWentBack = errors.New("the stream has another message where it was read")

// Position after the entry.
func (e Entry) Position() Position {
	p := Position{Stream: e.Stream, Sequence: e.Sequence}
	if e.Kind == KindEvent {
		p.At = e.Time
	}
	return p
}

// Stream is a stream as it is found: when it was made, and the sequences in it.
// First is Last+1, or zero, where it is empty.
type Stream struct {
	Created     time.Time
	First, Last uint64
}

// Message is a message of a stream.
type Message struct {
	Sequence uint64
	// Time of storage.
	Time       time.Time
	Subject    string
	Event, Raw []byte
}

// Resume gives the entries that come before the first message when reading goes
// on from p on a stream: that another stream is read, and what was lost.
func (p Position) Resume(s Stream, now time.Time) []Entry {
	switch {
	case p == Position{}:
		return restart(s, 0, "the first look at the stream", now)
	case !p.Stream.Equal(s.Created):
		return restart(s, 0, fmt.Sprintf("the stream was made anew; %s was read of the one before, up to sequence %d",
			p.Stream.UTC().Format(time.RFC3339Nano), p.Sequence), now)
	case s.Last < p.Sequence:
		return p.Again(s, now)
	}
	return lost(nil, s.Created, p.Sequence, s.First, now)
}

// Again gives the entries for a stream that went back: all that it still holds is
// read again.
func (p Position) Again(s Stream, now time.Time) []Entry {
	before := uint64(0)
	if s.First > 0 {
		before = s.First - 1
	}
	return restart(s, before, fmt.Sprintf("the stream went back: sequence %d was read, and it ends at %d with other messages or fewer",
		p.Sequence, s.Last), now)
}

func restart(s Stream, after uint64, reason string, now time.Time) []Entry {
	begin := Entry{Kind: KindStream, Time: now, Stream: s.Created, Sequence: after, Reason: reason}
	return lost([]Entry{begin}, s.Created, after, s.First, now)
}

// lost adds the gap between what was read and the first message that is there.
func lost(entries []Entry, stream time.Time, read, first uint64, now time.Time) []Entry {
	if first <= read+1 {
		return entries
	}
	return append(entries, Entry{Kind: KindGap, Time: now, Stream: stream, Sequence: first - 1, From: read + 1, To: first - 1})
}

// Next gives the entries for a message: none where it was read before, and a gap
// first where others before it are missing. The error is ErrWentBack.
func (p Position) Next(m Message, now time.Time) ([]Entry, error) {
	if m.Sequence <= p.Sequence {
		if m.Sequence == p.Sequence && !p.At.IsZero() && !p.At.Equal(m.Time) {
			return nil, ErrWentBack
		}
		return nil, nil
	}
	e := Entry{Kind: KindEvent, Time: m.Time, Stream: p.Stream, Sequence: m.Sequence, Subject: m.Subject, Event: m.Event}
	if m.Event == nil {
		e.Raw = m.Raw
	}
	return append(lost(nil, p.Stream, p.Sequence, m.Sequence, now), e), nil
}
