package admit

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"maps"
	"strings"
	"time"

	apiequality "k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"orkestra.dev/api/v1alpha1"
	"orkestra.dev/pkg/events"
)

// FieldManager is the name under which intake writes.
const FieldManager = "orkestra-intake"

// note is what an annotation says of who or what asked, with the generation and the
// request that it says it of.
type note struct {
	Event       string `json:"event,omitempty"`
	Generation  int64  `json:"generation,omitempty"`
	RequestedAt string `json:"requestedAt,omitempty"`
	// User is the last member: deploy/policies looks at the end of the annotation.
	User string `json:"user,omitempty"`
}

// Origin is who asked for the rollout that a group asks for now, and what for. The user is told
// only where the admission webhook runs (admission), since without it anybody may
// have written that annotation. Two that look at the same object say the same.
//
// Whoever deletes a group leaves no trace in the object: of a deletion that nobody has
// asked for again since, the origin is empty.
func Origin(group *v1alpha1.ApplicationGroup, rollout events.Rollout, admission bool) events.Origin {
	by, asked := read(group, v1alpha1.AnnotationRequestedBy)
	// A deploy is of a generation, with whatever request was there; a request is of its value.
	asked = asked && by.Event != "" && (by.Generation == rollout.Generation ||
		by.Generation == 0 && by.RequestedAt == rollout.RequestedAt && by.RequestedAt != "")
	out := events.Origin{Manager: manager(group, asked)}
	if out.Manager == "" {
		return out
	}
	if asked && out.Manager == FieldManager {
		out.Event = by.Event
	}
	changed, ok := read(group, v1alpha1.AnnotationChangedBy)
	if admission && ok && changed.Generation == rollout.Generation && changed.RequestedAt == rollout.RequestedAt {
		out.User = changed.User
	}
	return out
}

func read(group *v1alpha1.ApplicationGroup, annotation string) (n note, ok bool) {
	err := json.Unmarshal([]byte(group.Annotations[annotation]), &n)
	return n, err == nil // what somebody else wrote there says nothing
}

// manager that wrote the spec or the request last. Of two in one second it is intake
// where that says so itself, and else the first by name.
func manager(group *v1alpha1.ApplicationGroup, asked bool) string {
	type writer struct {
		name string
		at   time.Time
	}
	var last writer
	for _, e := range group.ManagedFields {
		at, wrote := wrote(e, group.Annotations[v1alpha1.AnnotationRequestedAt])
		if !wrote || group.DeletionTimestamp != nil && !at.After(group.DeletionTimestamp.Time) {
			continue
		}
		order := cmp.Or(at.Compare(last.at), -cmp.Compare(rank(e.Manager, asked), rank(last.name, asked)), -cmp.Compare(e.Manager, last.name))
		if last.name == "" || order > 0 {
			last = writer{e.Manager, at}
		}
	}
	return last.name
}

func rank(manager string, asked bool) int {
	if asked && manager == FieldManager {
		return 0
	}
	return 1
}

// wrote says whether and when an entry's manager has written the spec or the request.
// The time of an entry is that of anything its manager has written: that of a request is
// never later than what the request itself says, where that is a time.
func wrote(e metav1.ManagedFieldsEntry, requestedAt string) (time.Time, bool) {
	if e.Subresource != "" || e.FieldsV1 == nil || e.Time == nil {
		return time.Time{}, false
	}
	var fields struct {
		Spec     json.RawMessage `json:"f:spec"`
		Metadata struct {
			Annotations map[string]json.RawMessage `json:"f:annotations"`
		} `json:"f:metadata"`
	}
	if err := json.Unmarshal(e.FieldsV1.GetRawBytes(), &fields); err != nil {
		return time.Time{}, false
	}
	if fields.Spec != nil {
		return e.Time.Time, true
	}
	if _, ok := fields.Metadata.Annotations["f:"+v1alpha1.AnnotationRequestedAt]; !ok {
		return time.Time{}, false
	}
	at := e.Time.Time
	if asked, err := time.Parse(time.RFC3339Nano, requestedAt); err == nil && asked.Before(at) {
		at = asked.Truncate(time.Second)
	}
	return at, true
}

// Written is what of a group tells who changed it, and who waits for its end.
type Written struct {
	Metadata struct {
		Generation  int64             `json:"generation"`
		Annotations map[string]string `json:"annotations"`
		Finalizers  []string          `json:"finalizers"`
	}
	// Counted is each field of which the API server counts the changes, as it is encoded: the spec, and whatever a later
	// version has beside it. A group may be megabytes, most of which nobody looks at here.
	Counted map[string]json.RawMessage
}

// UnmarshalJSON reads a group of any version.
func (w *Written) UnmarshalJSON(data []byte) error {
	if err := json.Unmarshal(data, &w.Counted); err != nil {
		return err
	}
	metadata, ok := w.Counted["metadata"]
	if !ok {
		return errors.New("it has no metadata")
	}
	for _, other := range []string{"metadata", "status", "apiVersion", "kind"} {
		delete(w.Counted, other)
	}
	return json.Unmarshal(metadata, &w.Metadata)
}

// Stamp is the value that AnnotationChangedBy is to have on an object that a user
// writes; empty where it is to have none. Old is nil for an object that is new. Objects
// are as the API server reads them, before it counts the generation.
func Stamp(old, object *Written, user string) string {
	n := note{User: user, Generation: 1, RequestedAt: object.Metadata.Annotations[v1alpha1.AnnotationRequestedAt]}
	if old != nil {
		same := maps.EqualFunc(old.Counted, object.Counted, sameValue)
		if same && n.RequestedAt == old.Metadata.Annotations[v1alpha1.AnnotationRequestedAt] {
			return old.Metadata.Annotations[v1alpha1.AnnotationChangedBy]
		}
		n.Generation = old.Metadata.Generation
		if !same {
			n.Generation++
		}
	}
	text, err := json.Marshal(n)
	// The policy compares the name as it is: one that JSON writes otherwise is not told.
	if err != nil || user == "" || !strings.HasSuffix(string(text), `"user":"`+user+`"}`) {
		return ""
	}
	return string(text)
}

// sameValue compares two values as the API server does before it counts a generation.
func sameValue(a, b json.RawMessage) bool {
	if bytes.Equal(a, b) { // one encoder wrote both
		return true
	}
	var x, y any
	return json.Unmarshal(a, &x) == nil && json.Unmarshal(b, &y) == nil && apiequality.Semantic.DeepEqual(x, y)
}
