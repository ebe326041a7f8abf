package groupstatus

import (
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"orkestra.dev/api/v1alpha1"
)

// says tells whether the group holds all of desired already, and whether what the
// manager owned beyond it is given up already. What other managers say of the same
// conditions and applications plays no part.
func says(group *v1alpha1.ApplicationGroup, desired v1alpha1.ApplicationGroupStatus, fieldManager string) (bool, error) {
	have, err := tree(group.Status)
	if err != nil {
		return false, fmt.Errorf("reading the status of group %s: %w", group.Name, err)
	}
	want, err := tree(desired)
	if err != nil {
		return false, fmt.Errorf("encoding the status of group %s: %w", group.Name, err)
	}
	return holds(have, want) && !ownsMore(group, want, fieldManager), nil
}

// tree is a status as server-side apply looks at it: objects are maps, and so is the
// list that has a key.
func tree(status v1alpha1.ApplicationGroupStatus) (map[string]any, error) {
	raw, err := json.Marshal(status)
	if err != nil {
		return nil, err
	}
	var out map[string]any
	if err := json.Unmarshal(raw, &out); err != nil {
		return nil, err
	}
	if conditions, ok := out["conditions"].([]any); ok {
		out["conditions"] = byType(conditions)
	}
	return out, nil
}

// byType makes a map of conditions, under the keys by which managed fields name them.
func byType(conditions []any) map[string]any {
	out := make(map[string]any, len(conditions))
	for _, condition := range conditions {
		if fields, ok := condition.(map[string]any); ok { // they are structs
			// Two strings can always be encoded.
			raw, _ := json.Marshal(map[string]any{"type": fields["type"]})
			out["k:"+string(raw)] = fields
		}
	}
	return out
}

// holds tells whether all of want is in have.
func holds(have, want any) bool {
	wanted, ok := want.(map[string]any)
	if !ok {
		return reflect.DeepEqual(have, want)
	}
	held, ok := have.(map[string]any)
	if !ok {
		return false
	}
	for name, value := range wanted {
		if there, ok := held[name]; !ok || !holds(there, value) {
			return false
		}
	}
	return true
}

// ownsMore tells whether the manager owns something that it would give up now.
// Where the managed fields are not to be had (an informer may strip them) or not
// understood, the answer is yes: one write too many is harmless.
func ownsMore(group *v1alpha1.ApplicationGroup, want map[string]any, fieldManager string) bool {
	i := slices.IndexFunc(group.ManagedFields, func(m metav1.ManagedFieldsEntry) bool {
		return m.Manager == fieldManager && m.Operation == metav1.ManagedFieldsOperationApply &&
			m.Subresource == "status" && m.FieldsV1 != nil
	})
	if i < 0 {
		return true
	}
	var owned map[string]any
	if err := json.Unmarshal(group.ManagedFields[i].FieldsV1.GetRawBytes(), &owned); err != nil {
		return true
	}
	return beyond(owned, map[string]any{"status": want})
}

// beyond tells whether owned, the form of managed fields, has more than want.
func beyond(owned map[string]any, want any) bool {
	fields, _ := want.(map[string]any) // a leaf has none
	for key, below := range owned {
		if key == "." {
			continue
		}
		value, ok := fields[strings.TrimPrefix(key, "f:")]
		if !ok {
			return true
		}
		if deeper, ok := below.(map[string]any); ok && beyond(deeper, value) {
			return true
		}
	}
	return false
}
