package intake

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"gomodules.xyz/jsonpatch/v2"
	admissionv1 "k8s.io/api/admission/v1"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	"orkestra.dev/api/v1alpha1"
	"orkestra.dev/services/intake/admit"
)

// stampPath is where the API server asks what to add to a group that a user writes.
const stampPath = "/mutate-orkestra-azure-microsoft-com-v1alpha1-applicationgroup"

// stamp writes into a group who changes it, and into a new one the finalizer: that saves a write of a group that may be
// large, before anything can be made for it. It never refuses: not to know who asked is no reason not to roll out, and a
// group that has no finalizer is given it when it is seen.
type stamp struct{}

// Handle an admission request.
func (stamp) Handle(_ context.Context, req admission.Request) admission.Response {
	if req.SubResource != "" || req.Operation != admissionv1.Create && req.Operation != admissionv1.Update {
		return admission.Allowed("")
	}
	object, old, err := objects(req)
	if err != nil {
		return admission.Errored(http.StatusBadRequest, err)
	}
	patches := changedBy(object, admit.Stamp(old, object, req.UserInfo.Username))
	if req.Operation == admissionv1.Create {
		patches = append(patches, finalized(object)...)
	}
	if len(patches) == 0 {
		return admission.Allowed("")
	}
	return admission.Patched("", patches...)
}

// changedBy gives AnnotationChangedBy that value, and takes it off where that is empty.
func changedBy(object *admit.Written, value string) []jsonpatch.Operation {
	have, there := object.Metadata.Annotations[v1alpha1.AnnotationChangedBy]
	const at = "/metadata/annotations"
	switch one := at + "/" + strings.ReplaceAll(v1alpha1.AnnotationChangedBy, "/", "~1"); {
	case have == value:
		return nil
	case value == "":
		return []jsonpatch.Operation{jsonpatch.NewOperation("remove", one, nil)}
	case object.Metadata.Annotations == nil:
		return []jsonpatch.Operation{jsonpatch.NewOperation("add", at, map[string]any{v1alpha1.AnnotationChangedBy: value})}
	case there:
		return []jsonpatch.Operation{jsonpatch.NewOperation("replace", one, value)}
	default:
		return []jsonpatch.Operation{jsonpatch.NewOperation("add", one, value)}
	}
}

// finalized gives a group our finalizer, unless it has it.
func finalized(object *admit.Written) []jsonpatch.Operation {
	const at = "/metadata/finalizers"
	switch have := object.Metadata.Finalizers; {
	case slices.Contains(have, v1alpha1.Finalizer):
		return nil
	case have == nil:
		return []jsonpatch.Operation{jsonpatch.NewOperation("add", at, []string{v1alpha1.Finalizer})}
	default:
		return []jsonpatch.Operation{jsonpatch.NewOperation("add", at+"/-", v1alpha1.Finalizer)}
	}
}

// objects of a request. Old is nil where the object is new.
func objects(req admission.Request) (object, old *admit.Written, err error) {
	object = &admit.Written{}
	if err := json.Unmarshal(req.Object.Raw, object); err != nil {
		return nil, nil, fmt.Errorf("decoding the group: %w", err)
	}
	if req.Operation == admissionv1.Update {
		old = &admit.Written{}
		if err := json.Unmarshal(req.OldObject.Raw, old); err != nil {
			return nil, nil, fmt.Errorf("decoding the group as it was: %w", err)
		}
	}
	return object, old, nil
}
