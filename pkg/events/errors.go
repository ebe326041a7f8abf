package events

import (
	"cmp"
	"errors"
	"fmt"
	"time"
)

// Reasons with which this package itself gives up on an event. Services use
// their own CamelCase words with Terminal.
const (
	// ReasonNotACloudEvent: the message is no CloudEvent, or not a valid one.
	ReasonNotACloudEvent = "NotACloudEvent"
	// ReasonUnknownType: the type is not in this version of the contract.
	ReasonUnknownType = "UnknownType"
	// ReasonBadPayload: the data does not decode, or names no rollout.
	ReasonBadPayload = "BadPayload"
	// ReasonSubjectMismatch: the event speaks of another group or thing than the
	// subject on which it came, where other permissions may hold.
	ReasonSubjectMismatch = "SubjectMismatch"
	// ReasonTooManyAttempts: handling failed, or killed its handler, too often.
	ReasonTooManyAttempts = "TooManyAttempts"
	// ReasonWaitedTooLong: the handler asked for another try for longer than
	// Options.MaxWait.
	ReasonWaitedTooLong = "WaitedTooLong"
	// ReasonEventTooLarge: a fact to be said does not fit into a message.
	ReasonEventTooLarge = "EventTooLarge"
)

// ErrNotFound says that there is no dead letter under that number.
var ErrNotFound = errors.New("not found")

type terminalError struct {
	reason string
	err    error
}

func (e *terminalError) Error() string {
	if e.err == nil {
		return e.reason
	}
	return e.reason + ": " + e.err.Error()
}
func (e *terminalError) Unwrap() error { return e.err }

// Terminal says that trying again cannot help: the event goes to the dead
// letters with reason, a CamelCase word out of a small set ("Failed" where it is
// empty). The err may be nil.
func Terminal(reason string, err error) error {
	return &terminalError{cmp.Or(reason, "Failed"), err}
}

// IsTerminal reports whether err, or what it wraps, is Terminal.
func IsTerminal(err error) bool { return TerminalReason(err) != "" }

// TerminalReason is the reason given to Terminal, empty where err is not Terminal.
func TerminalReason(err error) string {
	if e, ok := errors.AsType[*terminalError](err); ok {
		return e.reason
	}
	return ""
}

type retryError struct {
	delay time.Duration
	err   error
}

func (e *retryError) Error() string {
	if e.err == nil {
		return fmt.Sprintf("to be tried again in %s", e.delay)
	}
	return e.err.Error()
}
func (e *retryError) Unwrap() error { return e.err }

// RetryAfter says that the event cannot be handled yet, and that the world is
// to blame: try again after d, or after the usual backoff where d is not
// positive. Such a visit is not counted as a failed attempt; instead the event
// may wait for as long as Options.MaxWait, measured from when it was said. The
// err may be nil.
func RetryAfter(d time.Duration, err error) error { return &retryError{d, err} }

// RetryDelay is the delay given to RetryAfter; ok is false where err is not RetryAfter.
func RetryDelay(err error) (d time.Duration, ok bool) {
	if e, ok := errors.AsType[*retryError](err); ok {
		return e.delay, true
	}
	return 0, false
}

type supersededError struct{ by string }

func (e *supersededError) Error() string { return "superseded by " + e.by }

// Superseded says that the world has moved on: there is nothing left to do for
// the event, and that is no failure. By names what came after it: an event's
// id, or a generation.
func Superseded(by string) error { return &supersededError{by} }

// IsSuperseded reports whether err, or what it wraps, is Superseded.
func IsSuperseded(err error) bool {
	_, ok := errors.AsType[*supersededError](err)
	return ok
}

// panicError is a handler's panic.
type panicError struct {
	value any
	stack []byte
}

func (e *panicError) Error() string { return fmt.Sprintf("panic: %v", e.value) }
