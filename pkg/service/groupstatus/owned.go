package groupstatus

import (
	"encoding/json"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"orkestra.dev/api/v1alpha1"
)

// ownsMore tells whether the manager owns a condition or an application that it
// would give up now. Where the managed fields are not to be had (an informer may
// strip them) or not understood, the answer is yes: one write too many is harmless.
func ownsMore(group *v1alpha1.ApplicationGroup, desired v1alpha1.ApplicationGroupStatus, fieldManager string) bool {
	keep := map[string]bool{}
	for _, c := range desired.Conditions {
		keep[key("type", c.Type)] = true
	}
	for _, a := range desired.Applications {
		keep[key("name", a.Name)] = true
	}
	for _, m := range group.ManagedFields {
		if m.Manager != fieldManager || m.Operation != metav1.ManagedFieldsOperationApply || m.Subresource != "status" || m.FieldsV1 == nil {
			continue
		}
		var owned struct {
			Status struct {
				Conditions   map[string]json.RawMessage `json:"f:conditions"`
				Applications map[string]json.RawMessage `json:"f:applications"`
			} `json:"f:status"`
		}
		if err := json.Unmarshal(m.FieldsV1.GetRawBytes(), &owned); err != nil {
			return true
		}
		for _, list := range []map[string]json.RawMessage{owned.Status.Conditions, owned.Status.Applications} {
			for k := range list {
				if !keep[k] {
					return true
				}
			}
		}
		return false
	}
	return true
}

// key is how managed fields name an element of a list map.
func key(field, value string) string {
	b, err := json.Marshal(map[string]string{field: value})
	if err != nil {
		return ""
	}
	return "k:" + string(b)
}
