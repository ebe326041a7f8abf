package values_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/fluxcd/pkg/apis/meta"
	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
	"sigs.k8s.io/yaml"

	"orkestra.dev/api/v1alpha1"
	"orkestra.dev/pkg/values"
)

func configMap(name string, data map[string]string) client.Object {
	return &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "target", Name: name}, Data: data}
}

func secret(name string, data map[string]string) client.Object {
	s := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "target", Name: name}, Data: map[string][]byte{}}
	for k, v := range data {
		s.Data[k] = []byte(v)
	}
	return s
}

func release(t *testing.T, inline string, refs ...meta.ValuesReference) *v1alpha1.Release {
	t.Helper()
	r := &v1alpha1.Release{ValuesFrom: refs}
	if inline != "" {
		raw, err := yaml.YAMLToJSON([]byte(inline))
		if err != nil {
			t.Fatal(err)
		}
		r.Values = &apiextensionsv1.JSON{Raw: raw}
	}
	return r
}

func decode(t *testing.T, document string) map[string]any {
	t.Helper()
	out := map[string]any{}
	if err := yaml.Unmarshal([]byte(document), &out); err != nil {
		t.Fatal(err)
	}
	return out
}

// The cases are those of Flux's own test of valuesFrom (pkg/chartutil), and those in
// which what is merged shares its maps.
func TestResolve(t *testing.T) {
	document := func(kind, name string) meta.ValuesReference { return meta.ValuesReference{Kind: kind, Name: name} }
	at := func(kind, name, key, path string) meta.ValuesReference {
		return meta.ValuesReference{Kind: kind, Name: name, ValuesKey: key, TargetPath: path}
	}
	literal := func(ref meta.ValuesReference) meta.ValuesReference { ref.Literal = true; return ref }
	optional := func(ref meta.ValuesReference) meta.ValuesReference { ref.Optional = true; return ref }
	objects := []client.Object{
		configMap("values", map[string]string{
			"values.yaml": "flat: value\nnested:\n  configuration: [one, two, three]\n",
			"text":        "invalid", "brokers": "a.net:9092,b.net:9092", "empty": "", "list": "{a,2}", "quoted": `"5"`,
			"file": "kafka {\n  servers = \"b-1:9098,b-2:9098\" # [x] \\ = \n}\n",
		}),
		secret("values", map[string]string{"values.yaml": "flat: {nested: value}\nnested: value\n", "key": "value", "number": "12345678", "null": "null"}),
	}
	cases := map[string]struct {
		reason  string
		inline  string
		refs    []meta.ValuesReference
		want    string
		missing string // in the error; no error where empty
	}{
		"Merged": {
			reason: "a later reference stands over an earlier one, and the inline values over all",
			inline: "other: values", refs: []meta.ValuesReference{document("ConfigMap", "values"), document("Secret", "values")},
			want: "{flat: {nested: value}, nested: value, other: values}",
		},
		"TargetPath": {
			reason: "a path is made where it is not there",
			refs:   []meta.ValuesReference{at("Secret", "values", "key", "merge.at.specific.path")},
			want:   "{merge: {at: {specific: {path: value}}}}",
		},
		"TargetPathFirst": {
			reason: "a target path stands over the inline values",
			inline: "nested: {configuration: [list, item, option]}",
			refs:   []meta.ValuesReference{at("Secret", "values", "key", "nested.configuration[0]"), document("ConfigMap", "values")},
			want:   "{flat: value, nested: {configuration: [value, item, option]}}",
		},
		"TargetPathInAnArray": {
			reason: "the other items stay",
			inline: "other: values", refs: []meta.ValuesReference{document("ConfigMap", "values"), at("Secret", "values", "key", "nested.configuration[1]")},
			want: "{flat: value, nested: {configuration: [one, value, three]}, other: values}",
		},
		"TargetPathBeyondAnArray": {
			reason: "what is between is null",
			refs:   []meta.ValuesReference{at("Secret", "values", "key", "a[2].b[1][0]")},
			want:   "{a: [null, null, {b: [null, [value]]}]}",
		},
		"TargetPathBelowADocument": {
			reason: "where a document has made the map, the inline value has the last word: so it is in Flux",
			inline: "nested: {inline: 1, flat: mine}",
			refs:   []meta.ValuesReference{document("ConfigMap", "values"), at("Secret", "values", "key", "nested.flat")},
			want:   "{flat: value, nested: {configuration: [one, two, three], inline: 1, flat: mine}}",
		},
		"Types": {
			reason: "a value is typed as by helm --set, unless it is in quotes",
			refs: []meta.ValuesReference{at("Secret", "values", "number", "num"), at("Secret", "values", "null", "z"), at("ConfigMap", "values", "quoted", "s"),
				at("ConfigMap", "values", "list", "l"), at("ConfigMap", "values", "empty", "e")},
			want: `{num: 12345678, z: null, s: "5", l: [a, 2], e: ""}`,
		},
		"Literal": {
			reason: "literally it is what it is",
			refs:   []meta.ValuesReference{literal(at("ConfigMap", "values", "file", `config.app\.conf`)), literal(at("ConfigMap", "values", "brokers", "brokers"))},
			want:   `{config: {app.conf: "kafka {\n  servers = \"b-1:9098,b-2:9098\" # [x] \\ = \n}\n"}, brokers: "a.net:9092,b.net:9092"}`,
		},
		"LiteralDocument": {
			reason: "without a target path literally means nothing",
			refs:   []meta.ValuesReference{literal(document("Secret", "values"))},
			want:   "{flat: {nested: value}, nested: value}",
		},
		"Commas":    {reason: "a comma ends a value", refs: []meta.ValuesReference{at("ConfigMap", "values", "brokers", "kafka.brokers")}, missing: "ConfigMap target/values, key brokers: cannot be set at targetPath kafka.brokers"},
		"NoMap":     {reason: "a path does not go through a scalar", inline: "a: b", refs: []meta.ValuesReference{at("Secret", "values", "key", "a.b")}, missing: "targetPath a.b"},
		"NoList":    {reason: "nor an index through a map", inline: "a: {}", refs: []meta.ValuesReference{at("Secret", "values", "key", "a[0]")}, missing: "targetPath a[0]"},
		"Index":     {reason: "an index has Helm's limit", refs: []meta.ValuesReference{at("Secret", "values", "key", "a[65537]")}, missing: "targetPath a[65537]"},
		"Depth":     {reason: "a path has Helm's limit", refs: []meta.ValuesReference{at("Secret", "values", "key", strings.Repeat("a.", 31)+"b")}, missing: "targetPath"},
		"NoSecret":  {reason: "it is named", refs: []meta.ValuesReference{document("Secret", "missing")}, missing: "Secret target/missing, key values.yaml: is not there"},
		"NoMapping": {reason: "it is named", refs: []meta.ValuesReference{document("ConfigMap", "missing")}, missing: "ConfigMap target/missing, key values.yaml: is not there"},
		"NoKey":     {reason: "the key is named", refs: []meta.ValuesReference{at("Secret", "values", "nobody", "")}, missing: "key nobody: the key is not there"},
		"NoValues":  {reason: "what is no YAML map is refused", refs: []meta.ValuesReference{at("ConfigMap", "values", "text", "")}, missing: "key text: is not a YAML document of values"},
		"Kind":      {reason: "only two kinds hold values", refs: []meta.ValuesReference{document("Pod", "values")}, missing: "Pod target/values"},
		"Optional": {
			reason: "what is optional may be missing, object and key",
			refs:   []meta.ValuesReference{optional(document("Secret", "missing")), optional(at("ConfigMap", "values", "nobody", "x")), optional(document("ConfigMap", "missing"))},
			want:   "{}",
		},
		"OptionalNoValues": {reason: "but not be wrong", refs: []meta.ValuesReference{optional(at("ConfigMap", "values", "text", ""))}, missing: "key text"},
		"Null":             {reason: "inline values of null are none", inline: "null", want: "{}"},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			c := fake.NewClientBuilder().WithScheme(scheme.Scheme).WithObjects(objects...).Build()
			got, err := values.Resolve(t.Context(), c, "target", release(t, tc.inline, tc.refs...))
			if tc.missing != "" {
				missing, ok := errors.AsType[*values.MissingError](err)
				if !ok || !strings.Contains(missing.Error(), tc.missing) {
					t.Errorf("%s: %q is not in %v", tc.reason, tc.missing, err)
				}
				return
			}
			if err != nil {
				t.Fatalf("%s: %v", tc.reason, err)
			}
			data, err := yaml.Marshal(got)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(decode(t, tc.want), decode(t, string(data))); diff != "" {
				t.Errorf("%s (-want +got):\n%s", tc.reason, diff)
			}
		})
	}
}

// No error repeats what an object holds.
func TestMissingSaysNoValue(t *testing.T) {
	c := fake.NewClientBuilder().WithScheme(scheme.Scheme).WithObjects(secret("values", map[string]string{
		"list": "hunter2,hunter3", "yaml": "hunter2: [hunter3", "text": "hunter2", "brace": "{hunter2",
	})).Build()
	for _, ref := range []meta.ValuesReference{
		{ValuesKey: "list", TargetPath: "a"}, {ValuesKey: "yaml"}, {ValuesKey: "text"}, {ValuesKey: "brace", TargetPath: "a"}, {ValuesKey: "text", TargetPath: "a[x]"},
	} {
		ref.Kind, ref.Name = "Secret", "values"
		_, err := values.Resolve(t.Context(), c, "target", release(t, "", ref))
		if err == nil || strings.Contains(err.Error(), "hunter") {
			t.Errorf("%+v: want an error that keeps the secret, got %v", ref, err)
		}
	}
}

// What the API server cannot say now is not missing; and an object is read once.
func TestResolveReads(t *testing.T) {
	reads := 0
	away := errors.New("away")
	fail := error(nil)
	c := fake.NewClientBuilder().WithScheme(scheme.Scheme).WithObjects(secret("values", map[string]string{"a": "a: 1", "b": "b: 2"})).
		WithInterceptorFuncs(interceptor.Funcs{Get: func(ctx context.Context, w client.WithWatch, key client.ObjectKey, o client.Object, opts ...client.GetOption) error {
			if reads++; fail != nil {
				return fail
			}
			return w.Get(ctx, key, o, opts...)
		}}).Build()
	r := release(t, "", meta.ValuesReference{Kind: "Secret", Name: "values", ValuesKey: "a"}, meta.ValuesReference{Kind: "Secret", Name: "values", ValuesKey: "b"})
	if got, err := values.Resolve(t.Context(), c, "target", r); err != nil || len(got) != 2 || reads != 1 {
		t.Errorf("%v, %v after %d reads", got, err, reads)
	}
	fail = away
	_, err := values.Resolve(t.Context(), c, "target", r)
	if _, missing := errors.AsType[*values.MissingError](err); missing || !errors.Is(err, away) {
		t.Errorf("what may pass is not missing: %v", err)
	}
}

func TestPrune(t *testing.T) {
	const all = `{db: {size: 3, user: {name: n}}, global: {region: eu}, gone: null, my.chart: {x: 1}, tags: {front: true}, flat: 1}`
	cases := map[string]struct {
		reason string
		paths  []string
		want   string
	}{
		"All":        {"without paths it is everything", nil, all},
		"Below":      {"what is below a path is there", []string{"db", "global"}, "{db: {size: 3, user: {name: n}}, global: {region: eu}}"},
		"Deep":       {"and what is beside it is not", []string{"db.user.name", "tags.front"}, "{db: {user: {name: n}}, tags: {front: true}}"},
		"Both":       {"a path within another adds nothing, in any order", []string{"db.size", "db", "db.user"}, "{db: {size: 3, user: {name: n}}}"},
		"Two":        {"two paths into one map are one map", []string{"db.size", "db.user.name"}, "{db: {size: 3, user: {name: n}}}"},
		"Null":       {"a null takes a default away", []string{"gone"}, "{gone: null}"},
		"AboveAPath": {"what replaces the map that a path goes through counts", []string{"gone.deep.down", "flat.x"}, "{gone: null, flat: 1}"},
		"Nothing":    {"what is not there is not made", []string{"nobody", "db.nobody"}, "{}"},
		"Dots":       {"a key may hold a dot", []string{values.Path("my.chart", "x")}, "{my.chart: {x: 1}}"},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			in := decode(t, all)
			if diff := cmp.Diff(decode(t, tc.want), values.Prune(in, tc.paths)); diff != "" {
				t.Errorf("%s (-want +got):\n%s", tc.reason, diff)
			}
			if diff := cmp.Diff(decode(t, all), in); diff != "" {
				t.Errorf("what was handed in is changed:\n%s", diff)
			}
		})
	}
	if got := values.Path(`a.b`, `c\d`, "e"); got != `a\.b.c\\d.e` {
		t.Errorf("a path of awkward keys is %s", got)
	}
}
