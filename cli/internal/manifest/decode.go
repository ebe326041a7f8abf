package manifest

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"

	yamlv3 "go.yaml.in/yaml/v3"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	kjson "sigs.k8s.io/json"
	"sigs.k8s.io/yaml"

	"orkestra.dev/api/v1alpha1"
)

// mostProblems is how many values of a wrong type are reported of one document.
const mostProblems = 20

// object is one document: a group, a Secret, a ConfigMap, or where all are nil
// something else.
type object struct {
	group     *v1alpha1.ApplicationGroup
	lines     lines
	secret    *corev1.Secret
	configMap *corev1.ConfigMap
}

// decode one document.
func decode(data []byte) (object, []*Problem) {
	// First the parser that bounds what aliases may unfold to.
	raw, err := yaml.YAMLToJSONStrict(data)
	if err != nil {
		return object{}, syntax(err)
	}
	var root yamlv3.Node
	if err := yamlv3.Unmarshal(data, &root); err != nil {
		return object{}, syntax(err)
	}
	where := lines{}
	if len(root.Content) > 0 {
		where.add("", root.Content[0])
	}
	wrong := func(field, message string) (object, []*Problem) {
		return object{}, []*Problem{{Line: where.of(field), Field: field, Message: message}}
	}
	var kind metav1.TypeMeta
	if err := kjson.UnmarshalCaseSensitivePreserveInts(raw, &kind); err != nil {
		return wrong("", "is not a Kubernetes object")
	}
	want := v1alpha1.GroupVersion.String()
	switch group, _, _ := strings.Cut(kind.APIVersion, "/"); {
	case kind.Kind == "":
		return wrong("kind", "is missing")
	case kind.Kind == v1alpha1.Kind && kind.APIVersion != want:
		return wrong("apiVersion", fmt.Sprintf("is %q; an %s has %q", kind.APIVersion, v1alpha1.Kind, want))
	case kind.Kind != v1alpha1.Kind && group == v1alpha1.GroupVersion.Group:
		return wrong("kind", fmt.Sprintf("is %q; %s has only %s", kind.Kind, want, v1alpha1.Kind))
	case kind.Kind == "Secret" && kind.APIVersion == "v1":
		secret := &corev1.Secret{}
		if err := kjson.UnmarshalCaseSensitivePreserveInts(raw, secret); err != nil {
			// The decoder's message might hold what is in the Secret.
			return wrong("data", "of the Secret does not decode: it has to be base64")
		}
		if secret.Data == nil {
			secret.Data = map[string][]byte{}
		}
		for k, v := range secret.StringData {
			secret.Data[k] = []byte(v)
		}
		return object{secret: secret}, nil
	case kind.Kind == "ConfigMap" && kind.APIVersion == "v1":
		configMap := &corev1.ConfigMap{}
		if err := kjson.UnmarshalCaseSensitivePreserveInts(raw, configMap); err != nil {
			return wrong("data", "of the ConfigMap "+plain(err))
		}
		return object{configMap: configMap}, nil
	case kind.Kind != v1alpha1.Kind:
		return object{}, nil
	}

	group := &v1alpha1.ApplicationGroup{}
	unknown, err := kjson.UnmarshalStrict(raw, group)
	var problems []*Problem
	if err != nil {
		problems = mistyped(raw, where)
		if len(problems) == 0 {
			problems = []*Problem{{Line: where.of(""), Message: plain(err)}}
		}
	}
	for _, e := range unknown {
		p := &Problem{Message: e.Error()}
		var at kjson.FieldError
		if errors.As(e, &at) {
			p.Field = at.FieldPath()
			p.Line = where.of(p.Field)
			p.Message = "is not a field of an " + v1alpha1.Kind
		}
		problems = append(problems, p)
	}
	if group.Name == "" && err == nil {
		problems = append(problems, &Problem{Line: where.of("metadata"), Field: "metadata.name", Message: "is missing"})
	}
	slices.SortStableFunc(problems, func(a, b *Problem) int { return a.Line - b.Line })
	return object{group: group, lines: where}, problems
}

// yamlLine finds the line that the YAML library speaks of.
var yamlLine = regexp.MustCompile(`line (\d+): `)

// syntax is what the YAML library found, one problem for each line that it names.
func syntax(err error) []*Problem {
	message := strings.TrimPrefix(strings.TrimPrefix(err.Error(), "error converting YAML to JSON: "), "yaml: ")
	var out []*Problem
	for _, part := range strings.Split(strings.TrimPrefix(message, "unmarshal errors:\n"), "\n") {
		p := &Problem{Message: strings.TrimSpace(part)}
		if m := yamlLine.FindStringSubmatchIndex(part); m != nil {
			if n, err := strconv.Atoi(part[m[2]:m[3]]); err == nil {
				p.Line = n
			}
			p.Message = strings.TrimSpace(part[m[1]:])
		}
		out = append(out, p)
	}
	return out
}

// mistyped finds the values that are not of the type of their field. The decoder says
// of some in which field they are, of a duration nothing, and of no list which of its
// elements: so each value is left out in turn, the innermost first, and is the culprit
// where the error goes with it.
func mistyped(raw []byte, where lines) []*Problem {
	var doc any
	if err := json.Unmarshal(raw, &doc); err != nil {
		return nil
	}
	try := func() error {
		data, err := json.Marshal(doc)
		if err != nil {
			return err
		}
		return kjson.UnmarshalCaseSensitivePreserveInts(data, &v1alpha1.ApplicationGroup{})
	}
	var problems []*Problem
	for err := try(); err != nil && len(problems) < mostProblems; err = try() {
		path, found := culprit(doc, "", func() bool {
			again := try()
			return again == nil || again.Error() != err.Error()
		})
		if !found {
			return problems
		}
		problems = append(problems, &Problem{Field: path, Line: where.of(path), Message: plain(err)})
	}
	return problems
}

// culprit leaves out one value after another until helped says that it helped, and
// leaves that one out.
func culprit(doc any, path string, helped func() bool) (string, bool) {
	try := func(child any, path string, set func(any)) (string, bool) {
		if child == nil {
			return "", false
		}
		if inner, ok := culprit(child, path, helped); ok {
			return inner, true
		}
		set(nil)
		if helped() {
			return path, true
		}
		set(child)
		return "", false
	}
	switch v := doc.(type) {
	case map[string]any:
		for _, k := range slices.Sorted(maps.Keys(v)) {
			if p, ok := try(v[k], join(path, k), func(x any) { v[k] = x }); ok {
				return p, true
			}
		}
	case []any:
		for i := range v {
			if p, ok := try(v[i], fmt.Sprintf("%s[%d]", path, i), func(x any) { v[i] = x }); ok {
				return p, true
			}
		}
	}
	return "", false
}

// plain is a decoder's error without Go's names for things.
func plain(err error) string {
	var wrong *json.UnmarshalTypeError
	if errors.As(err, &wrong) {
		message := fmt.Sprintf("is %s, and should be %s", valueOf(wrong.Value), kindOf(wrong.Type))
		if wrong.Value == "bool" {
			message += "; YAML takes y, n, yes, no, on and off for one: put quotes round it"
		}
		return message
	}
	message := strings.TrimPrefix(err.Error(), "json: ")
	if after, ok := strings.CutPrefix(message, "time: "); ok {
		return after + "; write a duration such as 90s, 5m or 1h30m"
	}
	return message
}

// valueOf is the JSON library's word for a value in ours.
func valueOf(word string) string {
	switch {
	case word == "bool":
		return "true or false"
	case word == "array":
		return "a list"
	case word == "object":
		return "an object"
	case strings.HasPrefix(word, "number "):
		return "the number " + strings.TrimPrefix(word, "number ")
	default:
		return "a " + word
	}
}

func kindOf(t reflect.Type) string {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	switch t.Kind() {
	case reflect.String:
		return "a string"
	case reflect.Bool:
		return "true or false"
	case reflect.Slice, reflect.Array:
		return "a list"
	case reflect.Struct, reflect.Map:
		return "an object"
	case reflect.Float32, reflect.Float64:
		return "a number"
	default:
		return "a whole number"
	}
}

func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

// lines is the line of each field of a document.
type lines map[string]int

func (l lines) add(path string, n *yamlv3.Node) {
	if _, ok := l[path]; !ok {
		l[path] = n.Line
	}
	switch n.Kind {
	case yamlv3.MappingNode:
		for i := 0; i+1 < len(n.Content); i += 2 {
			child := join(path, n.Content[i].Value)
			l[child] = n.Content[i].Line
			l.add(child, n.Content[i+1])
		}
	case yamlv3.SequenceNode:
		for i, c := range n.Content {
			l.add(fmt.Sprintf("%s[%d]", path, i), c)
		}
	case yamlv3.AliasNode, yamlv3.DocumentNode, yamlv3.ScalarNode:
		// What an alias stands for is elsewhere in the file, and may be itself.
	}
}

// of a field: its line, or that of the innermost field around it which is there.
func (l lines) of(path string) int {
	for {
		if n, ok := l[path]; ok {
			return n
		}
		i := strings.LastIndexAny(path, ".[")
		if i < 0 {
			return l[""]
		}
		path = path[:i]
	}
}
