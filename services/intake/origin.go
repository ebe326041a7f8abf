package intake

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"

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
	metadata, _ := object["metadata"].(map[string]any)
	if metadata == nil {
		return admission.Errored(http.StatusBadRequest, fmt.Errorf("group %s has no metadata", req.Name))
	}
	annotations, _ := metadata["annotations"].(map[string]any)
	value := admit.Stamp(old, object, req.UserInfo.Username)
	switch have, there := annotations[v1alpha1.AnnotationChangedBy]; {
	case value == "" && !there, there && have == value:
		return admission.Allowed("")
	case value == "":
		delete(annotations, v1alpha1.AnnotationChangedBy)
	case annotations == nil:
		metadata["annotations"] = map[string]any{v1alpha1.AnnotationChangedBy: value}
	default:
		annotations[v1alpha1.AnnotationChangedBy] = value
	}
	current, err := json.Marshal(object)
	if err != nil {
		return admission.Errored(http.StatusInternalServerError, fmt.Errorf("encoding the group: %w", err))
	}
	return admission.PatchResponseFromRaw(req.Object.Raw, current)
}

// objects of a request, whole: a field that this version does not know stays. Old is
// nil where the object is new.
func objects(req admission.Request) (object, old map[string]any, err error) {
	if err := json.Unmarshal(req.Object.Raw, &object); err != nil {
		return nil, nil, fmt.Errorf("decoding the group: %w", err)
	}
	if req.Operation == admissionv1.Update {
		if err := json.Unmarshal(req.OldObject.Raw, &old); err != nil {
			return nil, nil, fmt.Errorf("decoding the group as it was: %w", err)
		}
	}
	return object, old, nil
}
