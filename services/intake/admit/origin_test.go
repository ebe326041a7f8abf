package admit_test

import (
	"encoding/json"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"orkestra.dev/api/v1alpha1"
	"orkestra.dev/pkg/events"
	"orkestra.dev/services/intake/admit"
)

// What an API server wrote into managedFields, without what is not of interest.
const (
	createdByKubectl = `{"manager":"kubectl-client-side-apply","operation":"Update","apiVersion":"orkestra.azure.microsoft.com/v1alpha1","time":"2026-05-04T03:00:00Z","fieldsType":"FieldsV1",
		"fieldsV1":{"f:metadata":{"f:annotations":{".":{},"f:kubectl.kubernetes.io/last-applied-configuration":{},"f:orkestra.azure.microsoft.com/changed-by":{}}},"f:spec":{".":{},"f:applications":{".":{},"k:{\"name\":\"web\"}":{".":{},"f:name":{},"f:spec":{".":{},"f:chart":{}}}}}}}`
	appliedByServer = `{"manager":"kubectl","operation":"Apply","apiVersion":"orkestra.azure.microsoft.com/v1alpha1","time":"2026-05-04T03:00:10Z","fieldsType":"FieldsV1",
		"fieldsV1":{"f:spec":{"f:applications":{"k:{\"name\":\"web\"}":{".":{},"f:name":{},"f:spec":{"f:chart":{"f:version":{}}}}}}}}`
	kustomize = `{"manager":"kustomize-controller","operation":"Apply","apiVersion":"orkestra.azure.microsoft.com/v1alpha1","time":"2026-05-04T03:00:20Z","fieldsType":"FieldsV1",
		"fieldsV1":{"f:metadata":{"f:labels":{"f:kustomize.toolkit.fluxcd.io/name":{}}},"f:spec":{"f:applications":{"k:{\"name\":\"web\"}":{".":{},"f:name":{}}}}}}`
	labelled = `{"manager":"kubectl-label","operation":"Update","apiVersion":"orkestra.azure.microsoft.com/v1alpha1","time":"2026-05-04T03:09:00Z","fieldsType":"FieldsV1",
		"fieldsV1":{"f:metadata":{"f:labels":{".":{},"f:team":{}}}}}`
	finalizer = `{"manager":"orkestra-intake-finalizer","operation":"Apply","apiVersion":"orkestra.azure.microsoft.com/v1alpha1","time":"2026-05-04T03:09:00Z","fieldsType":"FieldsV1",
		"fieldsV1":{"f:metadata":{"f:finalizers":{"v:\"orkestra.azure.microsoft.com/finalizer\"":{}}}}}`
	status = `{"manager":"orkestra-watcher","operation":"Apply","apiVersion":"orkestra.azure.microsoft.com/v1alpha1","time":"2026-05-04T03:09:00Z","fieldsType":"FieldsV1","subresource":"status",
		"fieldsV1":{"f:status":{"f:observedGeneration":{}},"f:spec":{}}}`
	askedByCLI = `{"manager":"orkestra-cli","operation":"Update","apiVersion":"orkestra.azure.microsoft.com/v1alpha1","time":"2026-05-04T03:01:00Z","fieldsType":"FieldsV1",
		"fieldsV1":{"f:metadata":{"f:annotations":{"f:orkestra.azure.microsoft.com/requestedAt":{}}}}}`
	// It asked at 03:00:05, and noted something else at 03:05.
	askedByIntake = `{"manager":"orkestra-intake","operation":"Update","apiVersion":"orkestra.azure.microsoft.com/v1alpha1","time":"2026-05-04T03:05:00Z","fieldsType":"FieldsV1",
		"fieldsV1":{"f:metadata":{"f:annotations":{"f:orkestra.azure.microsoft.com/references":{},"f:orkestra.azure.microsoft.com/requestedAt":{}}}}}`
	deployedByIntake = `{"manager":"orkestra-intake","operation":"Update","apiVersion":"orkestra.azure.microsoft.com/v1alpha1","time":"2026-05-04T03:00:20Z","fieldsType":"FieldsV1",
		"fieldsV1":{"f:metadata":{"f:annotations":{"f:orkestra.azure.microsoft.com/requested-by":{}}},"f:spec":{"f:applications":{"k:{\"name\":\"web\"}":{"f:spec":{"f:chart":{"f:version":{}}}}}}}}`
)

const hook = "webhook.received/r-uid/72d3162e"

func TestOrigin(t *testing.T) {
	const asked = "2026-05-04T03:00:05.5Z"
	deleted := metav1.NewTime(time.Date(2026, 5, 4, 3, 0, 30, 0, time.UTC))
	for name, tc := range map[string]struct {
		reason      string
		fields      []string
		annotations map[string]string
		deleted     *metav1.Time
		noWebhook   bool
		want        events.Origin
	}{
		"ClientSide": {
			reason: "labels, finalizers and status ask for nothing, however new",
			fields: []string{createdByKubectl, labelled, finalizer, status}, want: events.Origin{Manager: "kubectl-client-side-apply"},
		},
		"ServerSide": {reason: "the newest of two that write the spec", fields: []string{appliedByServer, createdByKubectl}, want: events.Origin{Manager: "kubectl"}},
		"GitOps":     {reason: "the newest of three", fields: []string{createdByKubectl, kustomize, appliedByServer}, want: events.Origin{Manager: "kustomize-controller"}},
		"Asked": {
			reason: "who asks for the same spec again is newer than who wrote it", fields: []string{askedByCLI, createdByKubectl},
			annotations: map[string]string{v1alpha1.AnnotationRequestedAt: "2026-05-04T03:01:00.25Z"}, want: events.Origin{Manager: "orkestra-cli"},
		},
		"AskedBefore": {
			reason: "what intake noted later does not make its old request newer than the spec", fields: []string{askedByIntake, appliedByServer},
			annotations: map[string]string{v1alpha1.AnnotationRequestedAt: asked}, want: events.Origin{Manager: "kubectl"},
		},
		"AskedInWords": {
			reason: "a request need not be a time", fields: []string{askedByCLI, createdByKubectl},
			annotations: map[string]string{v1alpha1.AnnotationRequestedAt: "please"}, want: events.Origin{Manager: "orkestra-cli"},
		},
		"Deploy": {
			reason: "a delivery that wrote the spec, in the second of another", fields: []string{kustomize, deployedByIntake},
			annotations: map[string]string{v1alpha1.AnnotationRequestedBy: `{"event":"` + hook + `","generation":3}`},
			want:        events.Origin{Manager: admit.FieldManager, Event: hook},
		},
		"Push": {
			reason: "a delivery that asked again", fields: []string{createdByKubectl, askedByIntake},
			annotations: map[string]string{v1alpha1.AnnotationRequestedAt: asked, v1alpha1.AnnotationRequestedBy: `{"event":"` + hook + `","requestedAt":"` + asked + `"}`},
			want:        events.Origin{Manager: admit.FieldManager, Event: hook},
		},
		"OtherGeneration": {
			reason: "what led to another generation did not lead to this one", fields: []string{deployedByIntake},
			annotations: map[string]string{v1alpha1.AnnotationRequestedBy: `{"event":"` + hook + `","generation":2}`},
			want:        events.Origin{Manager: admit.FieldManager},
		},
		"Forged": {
			reason: "a delivery is intake's to name", fields: []string{createdByKubectl},
			annotations: map[string]string{v1alpha1.AnnotationRequestedBy: `{"event":"` + hook + `","generation":3}`},
			want:        events.Origin{Manager: "kubectl-client-side-apply"},
		},
		"User": {
			reason: "the user as admission saw it", fields: []string{createdByKubectl},
			annotations: map[string]string{v1alpha1.AnnotationChangedBy: `{"generation":3,"user":"ann@example.com"}`},
			want:        events.Origin{Manager: "kubectl-client-side-apply", User: "ann@example.com"},
		},
		"UserWithoutWebhook": {
			reason: "without the webhook anybody may have written it", fields: []string{createdByKubectl}, noWebhook: true,
			annotations: map[string]string{v1alpha1.AnnotationChangedBy: `{"generation":3,"user":"ann@example.com"}`},
			want:        events.Origin{Manager: "kubectl-client-side-apply"},
		},
		"UserOfAnotherChange": {
			reason: "the webhook was away when this generation was written", fields: []string{createdByKubectl},
			annotations: map[string]string{v1alpha1.AnnotationChangedBy: `{"generation":2,"user":"ann@example.com"}`},
			want:        events.Origin{Manager: "kubectl-client-side-apply"},
		},
		"UserInWords": {
			reason: "what is no stamp names nobody", fields: []string{createdByKubectl},
			annotations: map[string]string{v1alpha1.AnnotationChangedBy: "ann"}, want: events.Origin{Manager: "kubectl-client-side-apply"},
		},
		"Deletion": {
			reason: "who wrote it did not delete it", fields: []string{createdByKubectl}, deleted: &deleted,
			annotations: map[string]string{v1alpha1.AnnotationChangedBy: `{"generation":3,"user":"ann@example.com"}`},
		},
		"DeletionAskedAgain": {
			reason: "who asks again for a deletion is known", fields: []string{createdByKubectl, askedByCLI}, deleted: &deleted,
			annotations: map[string]string{v1alpha1.AnnotationRequestedAt: "2026-05-04T03:01:00.25Z"}, want: events.Origin{Manager: "orkestra-cli"},
		},
		"Nothing": {reason: "an object without managedFields", annotations: map[string]string{v1alpha1.AnnotationRequestedAt: asked}},
	} {
		t.Run(name, func(t *testing.T) {
			g := &v1alpha1.ApplicationGroup{ObjectMeta: metav1.ObjectMeta{Name: "shop", UID: "u", Generation: 3, Annotations: tc.annotations, DeletionTimestamp: tc.deleted}}
			for _, text := range tc.fields {
				var e metav1.ManagedFieldsEntry
				if err := json.Unmarshal([]byte(text), &e); err != nil {
					t.Fatal(err)
				}
				g.ManagedFields = append(g.ManagedFields, e)
			}
			r := events.Rollout{Group: g.Name, UID: string(g.UID), Generation: g.Generation, RequestedAt: g.Annotations[v1alpha1.AnnotationRequestedAt]}
			for range 2 { // the order of the entries says nothing
				if diff := cmp.Diff(tc.want, admit.Origin(g, r, !tc.noWebhook)); diff != "" {
					t.Errorf("%s (-want +got):\n%s", tc.reason, diff)
				}
				slices.Reverse(g.ManagedFields)
			}
		})
	}
}

func TestStamp(t *testing.T) {
	object := func(text string) *admit.Written {
		if text == "" {
			return nil
		}
		out := &admit.Written{}
		if err := json.Unmarshal([]byte(text), out); err != nil {
			t.Fatal(err)
		}
		return out
	}
	by := func(value string) string {
		text, err := json.Marshal(map[string]any{v1alpha1.AnnotationChangedBy: value})
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	const ann, bob = `{"generation":3,"user":"ann"}`, `{"generation":4,"user":"bob"}`
	old := `{"metadata":{"generation":3,"annotations":` + by(ann) + `},"spec":{"suspend":false},"status":{"a":1}}`
	for name, tc := range map[string]struct{ reason, old, object, user, want string }{
		"New":       {"a new object is of generation 1, whatever it says", "", `{"metadata":{"generation":7,"annotations":` + by("forged") + `},"spec":{}}`, "bob", `{"generation":1,"user":"bob"}`},
		"Spec":      {"a new spec is a new generation", old, `{"metadata":{"generation":3},"spec":{"suspend":true}}`, "bob", bob},
		"Same":      {"who changes nothing is not named", old, `{"metadata":{"generation":3,"labels":{"a":"b"},"annotations":` + by(ann) + `},"spec":{"suspend":false},"status":{}}`, "bob", ann},
		"Forged":    {"what was written stays as it was", old, `{"metadata":{"generation":3,"annotations":` + by(bob) + `},"spec":{"suspend":false}}`, "eve", ann},
		"Dropped":   {"and comes back", old, `{"metadata":{"generation":3},"spec":{"suspend":false}}`, "eve", ann},
		"Reordered": {"the same in another order is the same", old, `{"spec":{ "suspend":false },"metadata":{"generation":3,"annotations":` + by(ann) + `}}`, "bob", ann},
		"Beside":    {"what a later version has beside the spec counts like the spec", old, `{"metadata":{"generation":3},"spec":{"suspend":false},"more":1}`, "bob", bob},
		"Asked": {"a request is of the generation that is there", old,
			`{"metadata":{"generation":3,"annotations":{"orkestra.azure.microsoft.com/requestedAt":"now"}},"spec":{"suspend":false}}`, "bob", `{"generation":3,"requestedAt":"now","user":"bob"}`},
		"Nobody": {"a name that JSON writes otherwise could not be checked", old, `{"metadata":{"generation":3},"spec":{}}`, `e"ve`, ""},
	} {
		t.Run(name, func(t *testing.T) {
			if got := admit.Stamp(object(tc.old), object(tc.object), tc.user); got != tc.want {
				t.Errorf("%s: got %s, want %s", tc.reason, got, tc.want)
			}
		})
	}
}
