// Package refusal says why a chart is not staged, in the words of the condition
// Staged: one reason out of a closed list, and a message for whoever wrote the spec.
package refusal

import (
	"errors"
	"fmt"

	"orkestra.dev/api/v1alpha1"
)

// Error is a refusal.
type Error struct {
	// Reason is one of the reasons of Staged=False in api/v1alpha1.
	Reason string
	// Err says what is wrong and, where that is known, what to change.
	Err error
}

// Because is an Error.
func Because(reason string, err error) error { return &Error{Reason: reason, Err: err} }

// Becausef is Because with a message as of fmt.Errorf.
func Becausef(reason, format string, args ...any) error {
	return &Error{Reason: reason, Err: fmt.Errorf(format, args...)}
}

// Error is the message alone: the reason has a field of its own wherever it is shown.
func (e *Error) Error() string { return e.Err.Error() }

// Unwrap is what was wrapped.
func (e *Error) Unwrap() error { return e.Err }

// Reason of err; empty where err is no refusal.
func Reason(err error) string {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Reason
	}
	return ""
}

// Heals tells whether the same spec may be staged later although it is refused
// now, because the fault is in a server, or in an object that the spec refers to and
// that may be on its way, rather than in what was asked for.
func Heals(reason string) bool {
	switch reason {
	case v1alpha1.ReasonRepositoryUnreachable, v1alpha1.ReasonStagingUnavailable, v1alpha1.ReasonValuesNotFound:
		return true
	}
	return false
}
