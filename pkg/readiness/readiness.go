// Package readiness is the CEL expressions with which a group says when a release
// is ready and what a step waits for. They speak of one object, self.
package readiness

import (
	"errors"
	"fmt"
	"strings"
	"sync"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/ext"
)

const (
	// variable is the object that an expression is about.
	variable = "self"

	// costLimit of one evaluation, in CEL's units: what Kubernetes allows to one
	// expression of a CRD or a policy, a tenth of a second.
	costLimit = 1_000_000
)

// Expression is a compiled expression.
type Expression struct {
	source  string
	program cel.Program
}

// environment is made once: it is most of the work of compiling.
var environment = sync.OnceValues(func() (*cel.Env, error) {
	return cel.NewEnv(
		cel.Variable(variable, cel.DynType),
		cel.HomogeneousAggregateLiterals(),
		cel.EagerlyValidateDeclarations(true),
		cel.DefaultUTCTimeZone(true),
		cel.CrossTypeNumericComparisons(true),
		cel.OptionalTypes(),
		ext.Strings(),
		ext.Lists(),
		ext.Sets(),
		ext.Encoders(),
	)
})

// Compile reads an expression. It has the standard library of CEL, optional types,
// and the extensions for strings, lists, sets and encodings; its only variable is
// self, of any type. The error says where the expression is wrong.
func Compile(expr string) (*Expression, error) {
	env, err := environment()
	if err != nil {
		return nil, fmt.Errorf("making the CEL environment: %w", err)
	}
	if strings.TrimSpace(expr) == "" {
		return nil, errors.New("the expression is empty")
	}
	ast, issues := env.Compile(expr)
	if err := issues.Err(); err != nil {
		return nil, err
	}
	if t := ast.OutputType(); !t.IsExactType(cel.BoolType) && !t.IsExactType(cel.DynType) {
		return nil, fmt.Errorf("the expression gives %s: it must be true or false", t)
	}
	program, err := env.Program(ast, cel.EvalOptions(cel.OptOptimize), cel.CostLimit(costLimit))
	if err != nil {
		return nil, fmt.Errorf("preparing the expression: %w", err)
	}
	return &Expression{source: expr, program: program}, nil
}

// String is the expression as it was written.
func (e *Expression) String() string { return e.source }

// Holds evaluates the expression for an object, as a JSON decoder or
// runtime.DefaultUnstructuredConverter gives it. An error mostly says that the
// object has no such field yet. It quotes nothing of the object.
func (e *Expression) Holds(object map[string]any) (bool, error) {
	out, _, err := e.program.Eval(map[string]any{variable: object})
	if err != nil {
		return false, errors.New(withoutValues(err.Error()))
	}
	holds, ok := out.(types.Bool)
	if !ok {
		return false, fmt.Errorf("the expression gives %s: it must be true or false", out.Type().TypeName())
	}
	return bool(holds), nil
}

// withoutValues keeps those of CEL's messages that are about the expression.
// Others, such as those of conversions, quote what they work on, which may be secret.
func withoutValues(message string) string {
	for _, known := range []string{"no such key", "no such overload", "index out of bounds", "optional.none() dereference"} {
		if strings.HasPrefix(message, known) {
			return message
		}
	}
	if strings.Contains(message, "cost limit exceeded") {
		return "the expression costs too much: make it look at less"
	}
	return "the expression cannot be evaluated for the object as it is"
}
