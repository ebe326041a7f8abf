package readiness

import (
	"k8s.io/apimachinery/pkg/util/validation/field"

	"orkestra.dev/api/v1alpha1"
)

// Validate says which expressions of a group do not compile. Each error names its
// field; the same group gives the same errors in the same order.
func Validate(group *v1alpha1.ApplicationGroup) field.ErrorList {
	var errs field.ErrorList
	check := func(path *field.Path, expr string) {
		if expr == "" {
			return
		}
		if _, err := Compile(expr); err != nil {
			errs = append(errs, field.Invalid(path, expr, "is not a CEL expression over self: "+err.Error()))
		}
	}
	for i, a := range group.Spec.Applications {
		spec := field.NewPath("spec", "applications").Index(i).Child("spec")
		check(spec.Child("release", "readyExpr"), a.Spec.Release.ReadyExpr)
		for j, e := range a.Spec.Workflow {
			if e.Wait != nil {
				check(spec.Child("workflow").Index(j).Child("wait", "expr"), e.Wait.Expr)
			}
		}
	}
	return errs
}
