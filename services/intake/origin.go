package intake

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"

	"gomodules.xyz/jsonpatch/v2"
	admissionv1 "k8s.io/api/admission/v1"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	"orkestra.dev/api/v1alpha1"
	"orkestra.dev/services/intake/admit"
)

// stampPath is where the API server asks who changed a group.
const stampPath = "/mutate-orkestra-azure-microsoft-com-v1alpha1-applicationgroup"

// stamp writes into a group who changes it. It never refuses: not to know who asked is
// no reason not to roll out.
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
	have, there := object.Metadata.Annotations[v1alpha1.AnnotationChangedBy]
	value := admit.Stamp(old, object, req.UserInfo.Username)
	const at = "/metadata/annotations"
	switch one := at + "/" + strings.ReplaceAll(v1alpha1.AnnotationChangedBy, "/", "~1"); {
	case have == value:
		return admission.Allowed("")
	case value == "":
		return admission.Patched("", jsonpatch.NewOperation("remove", one, nil))
	case object.Metadata.Annotations == nil:
		return admission.Patched("", jsonpatch.NewOperation("add", at, map[string]any{v1alpha1.AnnotationChangedBy: value}))
	case there:
		return admission.Patched("", jsonpatch.NewOperation("replace", one, value))
	default:
		return admission.Patched("", jsonpatch.NewOperation("add", one, value))
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
