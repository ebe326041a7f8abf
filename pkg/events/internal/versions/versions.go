// Package versions compares JSON Schemas: whether whoever reads by the one can read what
// is written by the other.
package versions

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
)

// First is the version of a schema that is new.
const First = "1.0"

// maxDepth bounds the nesting of a schema, and so ends one that refers to itself.
const maxDepth = 32

// annotations say nothing about what is valid.
var annotations = []string{"$schema", "$id", "$comment", "$defs", "title", "description", "examples", "default"}

// Shape is what a schema asks of data, and nothing else: without annotations, and with
// what it refers to (#/$defs/<name>) in place. Two schemas of the same shape accept the
// same data.
func Shape(raw []byte) (map[string]any, error) {
	var schema map[string]any
	if err := json.Unmarshal(raw, &schema); err != nil {
		return nil, err
	}
	defs, _ := schema["$defs"].(map[string]any)
	shape, err := shapeOf(schema, defs, 0)
	if err != nil {
		return nil, err
	}
	return shape, nil
}

func shapeOf(schema, defs map[string]any, depth int) (map[string]any, error) {
	if depth > maxDepth {
		return nil, errors.New("the schema is too deep, or refers to itself")
	}
	if ref, ok := schema["$ref"].(string); ok {
		target, ok := defs[strings.TrimPrefix(ref, "#/$defs/")].(map[string]any)
		if !ok {
			return nil, fmt.Errorf("%s refers to nothing", ref)
		}
		return shapeOf(target, defs, depth+1)
	}
	shape := map[string]any{}
	for keyword, value := range schema {
		if slices.Contains(annotations, keyword) {
			continue
		}
		var err error
		switch v := value.(type) {
		case map[string]any:
			if keyword == "properties" {
				shape[keyword], err = propertiesOf(v, defs, depth)
			} else {
				shape[keyword], err = shapeOf(v, defs, depth+1)
			}
		case []any:
			shape[keyword], err = shapesOf(v, defs, depth)
		default:
			shape[keyword] = value
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", keyword, err)
		}
	}
	return shape, nil
}

// shapesOf are the shapes of alternatives, as in oneOf; what is no schema stays.
func shapesOf(list []any, defs map[string]any, depth int) ([]any, error) {
	shapes := slices.Clone(list)
	for i, value := range list {
		schema, ok := value.(map[string]any)
		if !ok {
			continue
		}
		shape, err := shapeOf(schema, defs, depth+1)
		if err != nil {
			return nil, err
		}
		shapes[i] = shape
	}
	return shapes, nil
}

func propertiesOf(properties, defs map[string]any, depth int) (map[string]any, error) {
	shapes := map[string]any{}
	for name, value := range properties {
		schema, ok := value.(map[string]any)
		if !ok { // true: anything
			shapes[name] = value
			continue
		}
		shape, err := shapeOf(schema, defs, depth+1)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		shapes[name] = shape
	}
	return shapes, nil
}

// Added are the fields, dotted, that the newer shape has and the older has not. The error
// names the first difference that is more than an optional field, which a reader or what
// is stored already would not bear.
func Added(older, newer map[string]any) ([]string, error) { return added("data", older, newer) }

func added(path string, older, newer map[string]any) ([]string, error) {
	var fields []string
	for _, keyword := range keys(older, newer) {
		was, had := older[keyword]
		is, has := newer[keyword]
		wasObject, wasOK := was.(map[string]any)
		isObject, isOK := is.(map[string]any)
		switch {
		case keyword == "properties" && wasOK && isOK, keyword == "properties" && !had, keyword == "properties" && !has:
			more, err := addedProperties(path, wasObject, isObject)
			if err != nil {
				return nil, err
			}
			fields = append(fields, more...)
		case keyword == "items" && wasOK && isOK:
			more, err := added(path+"[]", wasObject, isObject)
			if err != nil {
				return nil, err
			}
			fields = append(fields, more...)
		case !reflect.DeepEqual(was, is):
			return nil, fmt.Errorf("%s: %s was %s and is %s", path, keyword, text(was, had), text(is, has))
		}
	}
	return fields, nil
}

func addedProperties(path string, older, newer map[string]any) ([]string, error) {
	var fields []string
	for _, name := range keys(older, newer) {
		field := path + "." + name
		was, had := older[name]
		is, has := newer[name]
		wasObject, wasOK := was.(map[string]any)
		isObject, isOK := is.(map[string]any)
		switch {
		case !has:
			return nil, fmt.Errorf("%s is gone", field)
		case !had:
			fields = append(fields, field)
		case wasOK && isOK:
			more, err := added(field, wasObject, isObject)
			if err != nil {
				return nil, err
			}
			fields = append(fields, more...)
		case !reflect.DeepEqual(was, is):
			return nil, fmt.Errorf("%s was %s and is %s", field, text(was, had), text(is, has))
		}
	}
	return fields, nil
}

// keys of either, sorted.
func keys(a, b map[string]any) []string {
	all := slices.AppendSeq(slices.Collect(maps.Keys(a)), maps.Keys(b))
	slices.Sort(all)
	return slices.Compact(all)
}

func text(v any, there bool) string {
	if !there {
		return "absent"
	}
	raw, err := json.Marshal(v)
	if err != nil {
		return fmt.Sprint(v)
	}
	return string(raw)
}

// Next is the version after one: 1.1 after 1.0.
func Next(version string) (string, error) {
	major, minor, ok := strings.Cut(version, ".")
	n, err := strconv.Atoi(minor)
	if !ok || err != nil {
		return "", fmt.Errorf("version %q is not <major>.<minor>", version)
	}
	return major + "." + strconv.Itoa(n+1), nil
}
