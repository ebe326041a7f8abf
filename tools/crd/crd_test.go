package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	crdvalidation "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/validation"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/cel"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/defaulting"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/listtype"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/pruning"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/validation"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	celconfig "k8s.io/apiserver/pkg/apis/cel"
	"sigs.k8s.io/yaml"

	"orkestra.dev/api/v1alpha1"
)

const crdFile = "../../deploy/crds/orkestra.azure.microsoft.com_applicationgroups.yaml"

// apiServer does to an object what an API server does to a custom resource on its
// way in, with the API server's own code.
type apiServer struct {
	structural *schema.Structural
	schema     validation.SchemaCreateValidator
	rules      *cel.Validator
}

func load(t *testing.T, crdFile string) *apiextensions.CustomResourceDefinition {
	t.Helper()
	data, err := os.ReadFile(crdFile)
	if err != nil {
		t.Fatal(err)
	}
	var external apiextensionsv1.CustomResourceDefinition
	if err := yaml.UnmarshalStrict(data, &external); err != nil {
		t.Fatalf("the CRD is not one: %v", err)
	}
	apiextensionsv1.SetDefaults_CustomResourceDefinition(&external)
	apiextensionsv1.SetDefaults_CustomResourceDefinitionSpec(&external.Spec)
	// The API server fills in the stored versions when it stores the CRD.
	external.Status.StoredVersions = []string{external.Spec.Versions[0].Name}
	var crd apiextensions.CustomResourceDefinition
	if err := apiextensionsv1.Convert_v1_CustomResourceDefinition_To_apiextensions_CustomResourceDefinition(&external, &crd, nil); err != nil {
		t.Fatalf("converting the CRD: %v", err)
	}
	return &crd
}

func newAPIServer(t *testing.T, crdFile string) *apiServer {
	t.Helper()
	crd := load(t, crdFile)
	version, err := apiextensions.GetSchemaForVersion(crd, v1alpha1.GroupVersion.Version)
	if err != nil {
		t.Fatalf("finding the schema: %v", err)
	}
	structural, err := schema.NewStructural(version.OpenAPIV3Schema)
	if err != nil {
		t.Fatalf("the schema is not structural: %v", err)
	}
	validator, _, err := validation.NewSchemaValidator(version.OpenAPIV3Schema)
	if err != nil {
		t.Fatalf("compiling the schema: %v", err)
	}
	return &apiServer{
		structural: structural,
		schema:     validator,
		rules:      cel.NewValidator(structural, true, celconfig.PerCallLimit),
	}
}

// admit gives the object as it would be stored, or what the client is told.
func (s *apiServer) admit(manifest []byte) (*unstructured.Unstructured, []string) {
	var object map[string]any
	data, err := yaml.YAMLToJSON(manifest)
	if err != nil {
		return nil, []string{err.Error()}
	}
	// The decoder of unstructured objects makes int64 of whole numbers, as the API
	// server's does.
	u := &unstructured.Unstructured{}
	if err := u.UnmarshalJSON(data); err != nil {
		return nil, []string{err.Error()}
	}
	object = u.Object
	var told []string
	for _, path := range pruning.PruneWithOptions(object, s.structural, true, schema.UnknownFieldPathOptions{TrackUnknownFieldPaths: true}) {
		told = append(told, fmt.Sprintf("unknown field %q", path))
	}
	defaulting.PruneNonNullableNullsWithoutDefaults(object, s.structural)
	defaulting.Default(object, s.structural)
	errs := validation.ValidateCustomResource(nil, object, s.schema)
	errs = append(errs, listtype.ValidateListSetsAndMaps(nil, s.structural, object)...)
	if len(errs) == 0 {
		broken, _ := s.rules.Validate(context.Background(), nil, s.structural, object, nil, celconfig.RuntimeCELCostBudget)
		errs = append(errs, broken...)
	}
	for _, err := range errs {
		told = append(told, err.Error())
	}
	return u, told
}

func TestCRDIsValid(t *testing.T) {
	if errs := crdvalidation.ValidateCustomResourceDefinition(context.Background(), load(t, crdFile)); len(errs) > 0 {
		t.Errorf("an API server would refuse the CRD: %v", errs.ToAggregate())
	}
}

// kubectl apply keeps the whole object in an annotation, and annotations may have
// 256 KiB.
func TestCRDCanBeApplied(t *testing.T) {
	data, err := os.ReadFile(crdFile)
	if err != nil {
		t.Fatal(err)
	}
	asJSON, err := yaml.YAMLToJSON(data)
	if err != nil {
		t.Fatal(err)
	}
	if limit := 128 << 10; len(asJSON) > limit {
		t.Errorf("the CRD has %d bytes as JSON, and should have at most %d", len(asJSON), limit)
	}
	again, err := finished(data)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(data, again) {
		t.Error("the CRD is not as this command writes it: run make generate")
	}
}

// manifest is a group of one application, with a line put in for each %s: fields of
// the application's spec, of its chart, and of its release.
func manifest(spec, chart, release string) []byte {
	return fmt.Appendf(nil, `
apiVersion: orkestra.azure.microsoft.com/v1alpha1
kind: ApplicationGroup
metadata: {name: group}
spec:
  applications:
  - name: a
    dependencies: []
    spec:
      chart: {url: "https://charts.example.com", name: podinfo%s}
      release: {targetNamespace: default%s}
%s`, chart, release, spec)
}

func group(applications string) []byte {
	return fmt.Appendf(nil, `{apiVersion: orkestra.azure.microsoft.com/v1alpha1, kind: ApplicationGroup, metadata: {name: group}, spec: {applications: [%s]}}`,
		applications)
}

func application(name, dependencies string) string {
	return fmt.Sprintf(`{name: %s, dependencies: %s, spec: {chart: {url: "https://charts.example.com", name: c}, release: {targetNamespace: default}}}`,
		name, dependencies)
}

const allOfTheOriginal = `
      subcharts:
      - {name: one, dependencies: []}
      - {name: two, dependencies: [one, one]}
      workflow:
      - name: first
        type: custom
        image:
          name: main
          image: registry.example.com/executor:v1
          args: [--fast]
          env: [{name: A, value: b}]
          resources: {limits: {cpu: 1, memory: 64Mi}}
          volumeMounts: [{name: v, mountPath: /v}]
          livenessProbe: {httpGet: {path: /, port: http}}
        params: {any: [thing, 1, null]}
      - {name: second, dependencies: [first], type: keptn, params: {configMapRef: {name: keptn}}}
      - {name: third}
`

// releaseOfTheOriginal has every field of Flux's v2beta1 structs.
const releaseOfTheOriginal = `, interval: 1h, timeout: 1h30m, values: {any: {thing: [1, 1.5, true, null]}},
  install: {timeout: 1m, remediation: {retries: -1, ignoreTestFailures: true, remediateLastFailure: true}, disableWait: true,
    disableWaitForJobs: true, disableHooks: true, disableOpenAPIValidation: true, replace: true, skipCRDs: true, crds: CreateReplace, createNamespace: true},
  upgrade: {timeout: 1m, remediation: {retries: 3, ignoreTestFailures: true, remediateLastFailure: true, strategy: rollback}, disableWait: true,
    disableWaitForJobs: true, disableHooks: true, disableOpenAPIValidation: true, force: true, preserveValues: true, cleanupOnFail: true, crds: Skip},
  rollback: {timeout: 1m, disableWait: true, disableWaitForJobs: true, disableHooks: true, recreate: true, force: true, cleanupOnFail: true},
  uninstall: {timeout: 1m, disableHooks: true, keepHistory: true}`

func TestAdmits(t *testing.T) {
	server := newAPIServer(t, crdFile)
	example, err := os.ReadFile("../../examples/bookinfo.yaml")
	if err != nil {
		t.Fatal(err)
	}
	cases := map[string]struct {
		reason   string
		manifest []byte
	}{
		"Bookinfo": {"the example of the original applies unchanged", bytes.ReplaceAll(example, []byte("CHARTS"), []byte("http://charts.example.com"))},
		"Everything": {"every field of the original applies", manifest(allOfTheOriginal,
			`, version: 6.6.0, authSecretRef: {kind: Secret, name: secret, namespace: other}`, releaseOfTheOriginal)},
		"Least":       {"what is required is enough", manifest("", "", "")},
		"OneVersion":  {"a version is text, of any form that Helm reads", manifest("", `, version: v1`, "")},
		"ZeroTimeout": {"a timeout of nothing stays what it was to the original's users: the default", manifest("", "", ", timeout: 0s")},
		"NullValues":  {"values that were left empty are none", manifest("", "", ", values: null")},
		"OCI":         {"a registry is a repository", bytes.Replace(manifest("", "", ""), []byte("https"), []byte("oci"), 1)},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			stored, told := server.admit(tc.manifest)
			if len(told) > 0 {
				t.Fatalf("%s: %q", tc.reason, told)
			}
			// What is stored is what every client decodes: strictly, so that a field
			// of the schema that the type does not have shows.
			var g v1alpha1.ApplicationGroup
			if err := runtime.DefaultUnstructuredConverter.FromUnstructuredWithValidation(stored.Object, &g, true); err != nil {
				t.Fatalf("%s: decoding: %v", tc.reason, err)
			}
			if errs := g.Validate(); len(errs) > 0 {
				t.Errorf("%s: %v", tc.reason, errs.ToAggregate())
			}
		})
	}
}

func TestRefuses(t *testing.T) {
	server := newAPIServer(t, crdFile)
	long := string(bytes.Repeat([]byte("n"), 64))
	cases := map[string]struct {
		reason   string
		manifest []byte
		want     []string
	}{
		"NoApplications": {"a group of nothing is a mistake", group(""),
			[]string{`spec.applications: Invalid value: 0: spec.applications in body should have at least 1 items`}},
		"Duplicate": {"a name says which entry it is", group(application("a", "[]") + ", " + application("a", "[]")),
			[]string{`spec.applications[1]: Duplicate value: {"name":"a"}`}},
		"SelfDependency": {"what waits for itself never starts", group(application("a", "[b, a]")),
			[]string{`spec.applications[0].dependencies: Invalid value: an application may not depend on itself`}},
		"CustomWithoutImage": {"a custom executor has a container", manifest("      workflow: [{name: s, type: custom}]", "", ""),
			[]string{`spec.applications[0].spec.workflow[0].image: Invalid value: a custom executor runs a container: name its image in image.image`}},
		"ExecutorType": {"there are five types of executors", manifest("      workflow: [{name: s, type: helm}]", "", ""),
			[]string{`spec.applications[0].spec.workflow[0].type: Unsupported value: "helm": supported values: "helmrelease", "keptn", "custom", "job", "wait"`}},
		"UnknownField": {"a field that is not there is a mistake in writing", manifest("", "", ", namespace: x"),
			[]string{`unknown field "spec.applications[0].spec.release.namespace"`}},
		"NegativeTimeout": {"a time is not negative", manifest("", "", ", timeout: -5m"),
			[]string{`spec.applications[0].spec.release.timeout: Invalid value: "-5m": spec.applications[0].spec.release.timeout in body should match '^([0-9]+(\.[0-9]+)?(ms|s|m|h))+$'`}},
		"EndlessTimeout": {"a time that Go cannot hold would stop every informer", manifest("", "", ", install: {timeout: 9999999999999h}"),
			[]string{`spec.applications[0].spec.release.install: Invalid value: "object": type conversion error from 'string' to 'google.protobuf.Duration' evaluating rule: must be a duration such as 90s, 10m or 1h30m`}},
		"EndlessInterval": {"in any field", manifest("", "", ", interval: 9999999999999h"),
			[]string{`spec.applications[0].spec.release.interval: Invalid value: "string": type conversion error from 'string' to 'google.protobuf.Duration' evaluating rule: must be a duration such as 90s, 10m or 1h30m`}},
		"Authentication": {"credentials are in a Secret that has a name", manifest("", ", authSecretRef: {namespace: x}", ""),
			[]string{`spec.applications[0].spec.chart.authSecretRef.name: Invalid value: must name a Secret`}},
		"LongName": {"the group's name becomes the value of a label", bytes.Replace(manifest("", "", ""), []byte("group}"), []byte(long+"}"), 1),
			[]string{`<nil>: Invalid value: metadata.name may have at most 63 characters: it becomes the value of a label`}},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			_, told := server.admit(tc.manifest)
			if diff := cmp.Diff(tc.want, told); diff != "" {
				t.Errorf("%s (-want +got):\n%s", tc.reason, diff)
			}
		})
	}
}

// What the API server stores and a client cannot decode stops every informer of the
// kind, and with it all groups. So whatever is put into any one field of the spec,
// the API server refuses it or the type holds it.
func TestWhatTheSchemaAdmitsTheTypeDecodes(t *testing.T) {
	server := newAPIServer(t, crdFile)
	full := manifest(allOfTheOriginal, `, version: 6.6.0, authSecretRef: {kind: Secret, name: secret, namespace: other}`, releaseOfTheOriginal)
	for _, action := range []string{"  install: {", "  upgrade: {"} {
		full = bytes.Replace(full, []byte(action), []byte(action+"strategy: {name: RetryOnFailure, retryInterval: 1m}, "), 1)
	}
	full = bytes.ReplaceAll(full, []byte("  uninstall:"), []byte("  test: {enable: true, timeout: 1m, filters: [{name: t, exclude: true}]},\n  uninstall:"))
	if _, told := server.admit(full); len(told) > 0 {
		t.Fatal(told)
	}
	junk := []any{"x", "", "9999999999999h", "-1", int64(7), int64(1) << 40, 1.5, 1e30, true, []any{"x"}, map[string]any{"x": "y"}, nil}
	var paths [][]any
	walk(decode(t, full)["spec"], []any{"spec"}, func(path []any) { paths = append(paths, slices.Clone(path)) })
	admitted := 0
	for _, path := range paths {
		for _, value := range junk {
			object := decode(t, full)
			set(object, path, value)
			data, err := json.Marshal(object)
			if err != nil {
				t.Fatal(err)
			}
			stored, told := server.admit(data)
			if len(told) > 0 {
				continue
			}
			admitted++
			if data, err = json.Marshal(stored); err != nil {
				t.Fatal(err)
			}
			if err := json.Unmarshal(data, &v1alpha1.ApplicationGroup{}); err != nil {
				t.Errorf("%v = %v is admitted and cannot be decoded: %v", path, value, err)
			}
		}
	}
	if admitted == 0 || len(paths) < 100 {
		t.Errorf("%d fields tried, %d values admitted: this says nothing", len(paths), admitted)
	}
}

func decode(t *testing.T, manifest []byte) map[string]any {
	t.Helper()
	data, err := yaml.YAMLToJSON(manifest)
	if err != nil {
		t.Fatal(err)
	}
	u := &unstructured.Unstructured{}
	if err := u.UnmarshalJSON(data); err != nil {
		t.Fatal(err)
	}
	return u.Object
}

// walk visits every field and every element below a node.
func walk(node any, path []any, visit func([]any)) {
	visit(path)
	switch node := node.(type) {
	case map[string]any:
		for key, child := range node {
			walk(child, append(slices.Clone(path), key), visit)
		}
	case []any:
		for i, child := range node {
			walk(child, append(slices.Clone(path), i), visit)
		}
	}
}

func set(node any, path []any, value any) {
	for _, step := range path[:len(path)-1] {
		node = child(node, step)
	}
	switch last := path[len(path)-1].(type) {
	case string:
		node.(map[string]any)[last] = value
	case int:
		node.([]any)[last] = value
	}
}

func child(node, step any) any {
	if key, ok := step.(string); ok {
		return node.(map[string]any)[key]
	}
	return node.([]any)[step.(int)]
}

// The schema is what an API server applies, SetDefaults what the CLI does.
func TestDefaultsAgree(t *testing.T) {
	stored, told := newAPIServer(t, crdFile).admit(manifest("      workflow: [{name: e}]", "", ""))
	if len(told) > 0 {
		t.Fatal(told)
	}
	var byServer, bySetDefaults v1alpha1.ApplicationGroup
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(stored.Object, &byServer); err != nil {
		t.Fatal(err)
	}
	if err := yaml.UnmarshalStrict(manifest("      workflow: [{name: e}]", "", ""), &bySetDefaults); err != nil {
		t.Fatal(err)
	}
	bySetDefaults.SetDefaults()
	if diff := cmp.Diff(byServer, bySetDefaults); diff != "" {
		t.Errorf("(-API server +SetDefaults):\n%s", diff)
	}
	if byServer.Spec.Applications[0].Spec.Release.Interval.Duration != 5*time.Minute {
		t.Errorf("interval %s", byServer.Spec.Applications[0].Spec.Release.Interval)
	}
}
