package readiness_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"orkestra.dev/api/v1alpha1"
	"orkestra.dev/pkg/readiness"
)

const object = `{
	"metadata": {"generation": 3, "labels": {"app": "web"}},
	"spec": {"replicas": 3, "password": "hunter2"},
	"status": {"readyReplicas": 3, "ratio": 0.5, "conditions": [{"type": "Ready", "status": "True"}, {"type": "Stalled", "status": "False"}]}
}`

func decode(t *testing.T, data string) map[string]any {
	t.Helper()
	var out map[string]any
	if err := json.Unmarshal([]byte(data), &out); err != nil {
		t.Fatal(err)
	}
	return out
}

func TestHolds(t *testing.T) {
	self := decode(t, object)
	integers := map[string]any{"status": map[string]any{"readyReplicas": int64(3), "ratio": 0.5}}
	for name, tc := range map[string]struct {
		reason string
		expr   string
		self   map[string]any
		want   bool
	}{
		"Fields":     {"two fields are compared", "self.status.readyReplicas == self.spec.replicas", self, true},
		"Not":        {"what is not so does not hold", "self.status.readyReplicas > 3", self, false},
		"Condition":  {"a condition is looked for", `self.status.conditions.exists(c, c.type == "Ready" && c.status == "True")`, self, true},
		"Integer":    {"an integer is compared with what an API client gives", "self.status.readyReplicas >= 2", integers, true},
		"Mixed":      {"an integer is compared with a number", "self.status.ratio < 1", integers, true},
		"Has":        {"a field that is not there can be asked for", "has(self.status.url)", self, false},
		"Optional":   {"a field that is not there can have a default", `self.?status.?phase.orValue("Running") == "Running"`, self, true},
		"Extensions": {"the extensions for strings are there", `self.metadata.labels.app.upperAscii() == "WEB"`, self, true},
	} {
		t.Run(name, func(t *testing.T) {
			e, err := readiness.Compile(tc.expr)
			if err != nil {
				t.Fatal(err)
			}
			got, err := e.Holds(tc.self)
			if err != nil || got != tc.want {
				t.Errorf("%s: got %t, %v", tc.reason, got, err)
			}
		})
	}
}

func TestHoldsNot(t *testing.T) {
	self := decode(t, object)
	for name, tc := range map[string]struct {
		reason string
		expr   string
		want   string
	}{
		"NoSuchField": {"a field that is not there is named", "self.status.phase == 'Running'", "no such key: phase"},
		"NotABool":    {"what is neither true nor false does not hold", "self.spec.replicas", "the expression gives double: it must be true or false"},
		"Secret":      {"no value of the object gets into a message", "int(self.spec.password) > 0", "the expression cannot be evaluated for the object as it is"},
		"Cost": {"an expression cannot keep an executor busy",
			"[1,2,3,4,5,6,7,8,9].all(a, [1,2,3,4,5,6,7,8,9].all(b, [1,2,3,4,5,6,7,8,9].all(c, [1,2,3,4,5,6,7,8,9].all(d, [1,2,3,4,5,6,7,8,9].all(e, [1,2,3,4,5,6,7,8,9].all(f, a+b+c+d+e+f < self.spec.replicas + 100))))))",
			"the expression costs too much: make it look at less"},
	} {
		t.Run(name, func(t *testing.T) {
			e, err := readiness.Compile(tc.expr)
			if err != nil {
				t.Fatal(err)
			}
			holds, err := e.Holds(self)
			if holds || err == nil || err.Error() != tc.want {
				t.Errorf("%s: got %t, %v, want the error %q", tc.reason, holds, err, tc.want)
			}
		})
	}
}

func TestCompileRefuses(t *testing.T) {
	for name, tc := range map[string]struct{ reason, expr, want string }{
		"Empty":    {"nothing is not an expression", " ", "empty"},
		"Syntax":   {"the place of a mistake is shown", "self.status. == 1", "Syntax error"},
		"Variable": {"another variable is named", "object.status.ready", "undeclared reference to 'object'"},
		"Number":   {"a number is not an answer", "1 + 1", "gives int: it must be true or false"},
		"String":   {"a text is not an answer", "'yes'", "gives string: it must be true or false"},
		"Function": {"an unknown function is named", "self.soon()", "undeclared reference to 'soon'"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := readiness.Compile(tc.expr)
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("%s: got %v, want %q in it", tc.reason, err, tc.want)
			}
		})
	}
}

func TestValidate(t *testing.T) {
	group := &v1alpha1.ApplicationGroup{Spec: v1alpha1.ApplicationGroupSpec{Applications: []v1alpha1.Application{
		{Spec: v1alpha1.ApplicationSpec{Release: v1alpha1.Release{ReadyExpr: "self.status.ok"}}},
		{Spec: v1alpha1.ApplicationSpec{
			Release: v1alpha1.Release{ReadyExpr: "self.status.ok ="},
			Workflow: []v1alpha1.Executor{
				{Type: v1alpha1.ExecutorHelmRelease},
				{Type: v1alpha1.ExecutorWait, Wait: &v1alpha1.WaitFor{}},
				{Type: v1alpha1.ExecutorWait, Wait: &v1alpha1.WaitFor{Expr: "status.ok"}},
			},
		}},
	}}}
	var got []string
	for _, err := range readiness.Validate(group) {
		if err.Type != field.ErrorTypeInvalid {
			t.Errorf("an expression that does not compile is invalid: %v", err)
		}
		got = append(got, err.Field)
	}
	want := []string{"spec.applications[1].spec.release.readyExpr", "spec.applications[1].spec.workflow[2].wait.expr"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("each expression that does not compile is named by its field, and no other (-want +got):\n%s", diff)
	}
}
