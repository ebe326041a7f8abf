package compile

import (
	"cmp"
	"encoding/json"
	"fmt"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	utiljson "k8s.io/apimachinery/pkg/util/json"
	"k8s.io/apimachinery/pkg/util/resourceversion"

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
	// Values of the applications that take some from ConfigMaps and Secrets, as they
	// were. They are kept apart, because a ControllerRevision is no secret.
	Values map[string]map[string]any `json:"-"`
}

// RevisionName is the name of the revision that a rollout brings a group to.
func RevisionName(rollout events.Rollout) string {
	return WorkflowName(rollout, events.WorkflowForward, 0)
}

// NewRevision is what in brings its group to.
func NewRevision(in Input) Revision {
	r := Revision{Rollout: in.Rollout, Spec: in.Group.Spec, Staged: in.Staged}
	for _, app := range in.Group.Spec.Applications {
		if len(app.Spec.Release.ValuesFrom) == 0 {
			continue
		}
		if r.Values == nil {
			r.Values = map[string]map[string]any{}
		}
		r.Values[app.Name] = in.Values[app.Name]
	}
	return r
}

// SameAs says whether two revisions are the same state of a group, whichever rollouts
// brought it.
func (r Revision) SameAs(other Revision) (bool, error) {
	one, err := digest(r.Spec, r.Staged, r.Values)
	if err != nil {
		return false, err
	}
	two, err := digest(other.Spec, other.Staged, other.Values)
	return one == two, err
}

// Object is the revision as it is kept, named after the rollout's workflow. It holds
// the values that the group's spec holds, and belongs to the group.
func (r Revision) Object(options Options) (*appsv1.ControllerRevision, error) {
	data, err := inOrder(r)
	if err != nil {
		return nil, fmt.Errorf("encoding revision %s: %w", r.Rollout.ID(), err)
	}
	owner := OwnerReference(r.Rollout)
	return &appsv1.ControllerRevision{
		TypeMeta: metav1.TypeMeta{APIVersion: appsv1.SchemeGroupVersion.String(), Kind: "ControllerRevision"},
		ObjectMeta: metav1.ObjectMeta{
			Name:            RevisionName(r.Rollout),
			Namespace:       options.withDefaults().Namespace,
			Labels:          owned(r.Rollout.Group, nil),
			Annotations:     map[string]string{v1alpha1.AnnotationGroupUID: r.Rollout.UID},
			OwnerReferences: []metav1.OwnerReference{owner},
		},
		Revision: r.Rollout.Generation,
		Data:     runtime.RawExtension{Raw: data},
	}, nil
}

// inOrder is the JSON of v with all its keys sorted. The API server refuses the strategic
// patches by which the garbage collector takes owners off a ControllerRevision where its
// data, which must not change, comes out of them in another order.
func inOrder(v any) ([]byte, error) {
	data, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	var sorted any
	if err := utiljson.Unmarshal(data, &sorted); err != nil {
		return nil, err
	}
	return json.Marshal(sorted)
}

// RevisionOf reads a revision back.
func RevisionOf(o *appsv1.ControllerRevision) (Revision, error) {
	var r Revision
	if err := json.Unmarshal(o.Data.Raw, &r); err != nil {
		return r, fmt.Errorf("decoding revision %s: %w", o.Name, err)
	}
	return r, nil
}

// NewestFirst orders the revisions of a group. Of those of one generation the one that was made later is the newer. Kubernetes
// tells that in whole seconds, and two rollouts of a small group fit into one: there the one that was asked for later is the
// newer, and where that was no time the one that was written last, which is when it was found good.
func NewestFirst(a, b *appsv1.ControllerRevision) int {
	order := cmp.Or(cmp.Compare(b.Revision, a.Revision), b.CreationTimestamp.Compare(a.CreationTimestamp.Time))
	if order == 0 {
		order = requestedAt(b).Compare(requestedAt(a))
	}
	if order == 0 {
		// What is no version of the API server's is equal.
		order, _ = resourceversion.CompareResourceVersion(b.ResourceVersion, a.ResourceVersion)
	}
	return cmp.Or(order, cmp.Compare(a.Name, b.Name))
}

// requestedAt is when the rollout of a revision was asked for; zero where the spec was changed, which comes first of its
// generation, and where a user wrote something else.
func requestedAt(o *appsv1.ControllerRevision) time.Time {
	var kept struct {
		Rollout events.Rollout `json:"rollout"`
	}
	if json.Unmarshal(o.Data.Raw, &kept) != nil {
		return time.Time{}
	}
	at, err := time.Parse(time.RFC3339Nano, kept.Rollout.RequestedAt)
	if err != nil {
		return time.Time{}
	}
	return at
}

// Snapshot is the Secret that keeps the revision's values, owned by its object; nil
// where the revision has none.
func (r Revision) Snapshot(kept *appsv1.ControllerRevision) (*corev1.Secret, error) {
	if len(r.Values) == 0 {
		return nil, nil
	}
	data := map[string][]byte{}
	for app, values := range r.Values {
		var err error
		if data[app], err = json.Marshal(values); err != nil {
			return nil, fmt.Errorf("encoding the values of revision %s: %w", kept.Name, err)
		}
	}
	return &corev1.Secret{
		TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Secret"},
		ObjectMeta: metav1.ObjectMeta{
			Name:        SnapshotName(kept.Name),
			Namespace:   kept.Namespace,
			Labels:      owned(r.Rollout.Group, nil),
			Annotations: map[string]string{v1alpha1.AnnotationGroupUID: r.Rollout.UID},
			OwnerReferences: []metav1.OwnerReference{{
				APIVersion: appsv1.SchemeGroupVersion.String(), Kind: "ControllerRevision", Name: kept.Name, UID: kept.UID,
				Controller: new(true), BlockOwnerDeletion: new(false),
			}},
		},
		Immutable: new(true),
		Data:      data,
	}, nil
}

// SnapshotName is the name of the Secret with the values of the revision of that name.
func SnapshotName(revision string) string { return revision + "-values" }

// WithSnapshot is the revision with the values that the Secret has kept of it.
func (r Revision) WithSnapshot(kept *corev1.Secret) (Revision, error) {
	r.Values = map[string]map[string]any{}
	for app, data := range kept.Data {
		values := map[string]any{}
		if err := json.Unmarshal(data, &values); err != nil {
			// The error of the decoder would repeat a part of them.
			return r, fmt.Errorf("decoding Secret %s: what it holds for application %s is not a map of values", kept.Name, app)
		}
		r.Values[app] = values
	}
	return r, nil
}

// lost is the first application whose values the revision should have kept and has not.
func (r Revision) lost() string {
	for _, app := range r.Spec.Applications {
		if _, ok := r.Values[app.Name]; !ok && len(app.Spec.Release.ValuesFrom) > 0 {
			return app.Name
		}
	}
	return ""
}
