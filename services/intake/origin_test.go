package intake

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	admissionv1 "k8s.io/api/admission/v1"
	authenticationv1 "k8s.io/api/authentication/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"
)

// stamped is what becomes of a group that a user writes: the operations of the patch.
func stamped(t *testing.T, op admissionv1.Operation, old, object string) (admission.Response, string) {
	t.Helper()
	got := stamp{}.Handle(t.Context(), admission.Request{AdmissionRequest: admissionv1.AdmissionRequest{
		Operation: op, Object: runtime.RawExtension{Raw: []byte(object)}, OldObject: runtime.RawExtension{Raw: []byte(old)},
		UserInfo: authenticationv1.UserInfo{Username: "ann"},
	}})
	text, err := json.Marshal(got.Patches)
	if err != nil {
		t.Fatal(err)
	}
	return got, string(text)
}

func TestStampWritesWhoChangesAGroup(t *testing.T) {
	const by = `"annotations":{"orkestra.azure.microsoft.com/changed-by":"{\"generation\":1,\"user\":\"ann\"}"}`
	const spec = `"spec":{"field of a later version":[1]}}`
	for name, tc := range map[string]struct {
		op                admissionv1.Operation
		old, object, want string
	}{
		"New":     {admissionv1.Create, "", `{"metadata":{"name":"shop"},` + spec, `"op":"add","path":"/metadata/annotations"`},
		"Forged":  {admissionv1.Create, "", `{"metadata":{"annotations":{"orkestra.azure.microsoft.com/changed-by":"me"}},` + spec, `"op":"replace","path":"/metadata/annotations/orkestra.azure.microsoft.com~1changed-by"`},
		"Dropped": {admissionv1.Update, `{"metadata":{"generation":1,` + by + `},` + spec, `{"metadata":{"generation":1},` + spec, `"op":"add"`},
		"Planted": {admissionv1.Update, `{"metadata":{"generation":1},` + spec, `{"metadata":{"generation":1,` + by + `},` + spec, `"op":"remove"`},
	} {
		got, patch := stamped(t, tc.op, tc.old, tc.object)
		writes := 1
		if tc.op == admissionv1.Create {
			writes = 2 // the finalizer
		}
		if !got.Allowed || len(got.Patches) != writes || !strings.Contains(patch, tc.want) {
			t.Errorf("%s: allowed %t, %s", name, got.Allowed, patch)
		}
	}
	for name, tc := range map[string]struct {
		op          admissionv1.Operation
		old, object string
	}{
		"Same":   {admissionv1.Update, `{"metadata":{"generation":1,` + by + `},` + spec, `{"metadata":{"generation":1,"labels":{"a":"b"},` + by + `},` + spec},
		"Delete": {admissionv1.Delete, `{"metadata":{},` + spec, ""},
		"Never":  {admissionv1.Update, `{"metadata":{"generation":1},` + spec, `{"metadata":{"generation":1},` + spec},
	} {
		if got, patch := stamped(t, tc.op, tc.old, tc.object); !got.Allowed || len(got.Patches) > 0 || len(got.Patch) > 0 {
			t.Errorf("%s: allowed %t, %s", name, got.Allowed, patch)
		}
	}
	if got, _ := stamped(t, admissionv1.Create, "", "{"); got.Allowed || got.Result.Code != http.StatusBadRequest {
		t.Errorf("what is no object: %+v", got.Result)
	}
}

func TestStampGivesANewGroupTheFinalizer(t *testing.T) {
	const spec = `"spec":{}}`
	for name, tc := range map[string]struct {
		op     admissionv1.Operation
		object string
		want   string // the value and the path; empty where nothing is written
	}{
		"New":    {admissionv1.Create, `{"metadata":{"name":"shop"},` + spec, `"path":"/metadata/finalizers","value":["orkestra.azure.microsoft.com/finalizer"]`},
		"Others": {admissionv1.Create, `{"metadata":{"finalizers":["example.com/theirs"]},` + spec, `"path":"/metadata/finalizers/-","value":"orkestra.azure.microsoft.com/finalizer"`},
		"Empty":  {admissionv1.Create, `{"metadata":{"finalizers":[]},` + spec, `"path":"/metadata/finalizers/-","value":"orkestra.azure.microsoft.com/finalizer"`},
		"Ours":   {admissionv1.Create, `{"metadata":{"finalizers":["orkestra.azure.microsoft.com/finalizer"]},` + spec, ""},
		// Who takes it off an old group means it: the reconciler knows whether it has to come back.
		"Old": {admissionv1.Update, `{"metadata":{"generation":1},` + spec, ""},
	} {
		_, patch := stamped(t, tc.op, `{"metadata":{"generation":1},`+spec, tc.object)
		if wrote := strings.Contains(patch, "/metadata/finalizers"); wrote != (tc.want != "") || !strings.Contains(patch, tc.want) {
			t.Errorf("%s: %s", name, patch)
		}
	}
}
