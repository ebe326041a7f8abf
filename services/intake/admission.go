package intake

import (
	"context"

	apiequality "k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	"orkestra.dev/api/v1alpha1"
	"orkestra.dev/services/intake/admit"
)

// validator refuses at the door what the schema cannot see: a cycle, a dependency
// that is not there, two releases of one name, an expression that does not compile.
type validator struct{}

// ValidateCreate refuses a group that contradicts itself.
func (validator) ValidateCreate(_ context.Context, group *v1alpha1.ApplicationGroup) (admission.Warnings, error) {
	return nil, refuse(group)
}

// ValidateUpdate refuses the same in a spec that changes. One that does not is let
// through: a spec that got in while admission was out of reach must not keep the
// finalizer from going on and off.
func (validator) ValidateUpdate(_ context.Context, old, group *v1alpha1.ApplicationGroup) (admission.Warnings, error) {
	if !group.DeletionTimestamp.IsZero() || apiequality.Semantic.DeepEqual(old.Spec, group.Spec) {
		return nil, nil
	}
	return nil, refuse(group)
}

// ValidateDelete lets every group go.
func (validator) ValidateDelete(context.Context, *v1alpha1.ApplicationGroup) (admission.Warnings, error) {
	return nil, nil
}

func refuse(group *v1alpha1.ApplicationGroup) error {
	errs := admit.Validate(group)
	if len(errs) == 0 {
		return nil
	}
	return apierrors.NewInvalid(v1alpha1.GroupVersion.WithKind(v1alpha1.Kind).GroupKind(), group.Name, errs)
}
