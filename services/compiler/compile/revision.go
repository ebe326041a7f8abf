package compile

import (
	"encoding/json"
	"fmt"

	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"orkestra.dev/api/v1alpha1"
	"orkestra.dev/pkg/events"
)

// Revision is what a rollout brought a group to: enough to bring it there again, with
// the very same charts and values.
type Revision struct {
	// Rollout that brought it.
	Rollout events.Rollout `json:"rollout"`
	// Spec of the group.
	Spec v1alpha1.ApplicationGroupSpec `json:"spec"`
	// Staged charts, by version and digest.
	Staged []events.StagedApplication `json:"staged"`
}

// Object is the revision as it is kept, named after the rollout's workflow. It holds
// values, as the group does, and belongs to the group.
func (r Revision) Object(options Options) (*appsv1.ControllerRevision, error) {
	data, err := json.Marshal(r)
	if err != nil {
		return nil, fmt.Errorf("encoding revision %s: %w", r.Rollout.ID(), err)
	}
	owner := OwnerReference(r.Rollout)
	return &appsv1.ControllerRevision{
		TypeMeta: metav1.TypeMeta{APIVersion: appsv1.SchemeGroupVersion.String(), Kind: "ControllerRevision"},
		ObjectMeta: metav1.ObjectMeta{
			Name:            WorkflowName(r.Rollout, events.WorkflowForward, 0),
			Namespace:       options.withDefaults().Namespace,
			Labels:          owned(r.Rollout.Group, nil),
			Annotations:     map[string]string{v1alpha1.AnnotationGroupUID: r.Rollout.UID},
			OwnerReferences: []metav1.OwnerReference{owner},
		},
		Revision: r.Rollout.Generation,
		Data:     runtime.RawExtension{Raw: data},
	}, nil
}

// RevisionOf reads a revision back.
func RevisionOf(o *appsv1.ControllerRevision) (Revision, error) {
	var r Revision
	if err := json.Unmarshal(o.Data.Raw, &r); err != nil {
		return r, fmt.Errorf("decoding revision %s: %w", o.Name, err)
	}
	return r, nil
}
