package compile

import (
	"fmt"

	"k8s.io/apimachinery/pkg/util/validation/field"

	"orkestra.dev/api/v1alpha1"
)

// Error says why no workflow can be made of a group. It is an outcome that the
// group's owner can act on, not a fault: nothing changes until the spec does.
type Error struct {
	// Reason is a reason of the condition Compiled.
	Reason string
	// Fields are the fields of the group at fault, with what is wrong with each.
	// It is empty where the group as a whole is at fault.
	Fields field.ErrorList
	// Err is the fault where Fields is empty.
	Err error
}

// Error names the fields, or the fault.
func (e *Error) Error() string {
	if len(e.Fields) > 0 {
		return e.Fields.ToAggregate().Error()
	}
	return e.Err.Error()
}

// Unwrap gives the fault, or the faults of the fields.
func (e *Error) Unwrap() error {
	if len(e.Fields) > 0 {
		return e.Fields.ToAggregate()
	}
	return e.Err
}

// invalid says that the spec contradicts itself or asks for what cannot be done.
func invalid(fields ...*field.Error) *Error {
	return &Error{Reason: v1alpha1.ReasonInvalidSpec, Fields: fields}
}

// ungenerable says that the spec is fine and a workflow still cannot be made of it.
func ungenerable(format string, args ...any) *Error {
	return &Error{Reason: v1alpha1.ReasonWorkflowTemplateGenerationFailed, Err: fmt.Errorf(format, args...)}
}
