package doctor

import (
	"reflect"
	"strings"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
)

// lacking are the fields of a type that a schema does not have, as paths: the API server
// drops them from what is written, and says nothing.
func lacking(t reflect.Type, schema *apiextensionsv1.JSONSchemaProps, path string) []string {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if schema == nil || schema.XPreserveUnknownFields != nil && *schema.XPreserveUnknownFields {
		return nil
	}
	switch {
	case t.Kind() == reflect.Slice && schema.Items != nil:
		return lacking(t.Elem(), schema.Items.Schema, path+"[]")
	case t.Kind() == reflect.Map && schema.AdditionalProperties != nil:
		return lacking(t.Elem(), schema.AdditionalProperties.Schema, path+"{}")
	case t.Kind() != reflect.Struct || schema.Type != "object":
		return nil // a value that is written as one, such as a time
	}
	var out []string
	for f := range t.Fields() {
		name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		switch {
		case name == "-" || !f.IsExported():
		case path == "" && name == "metadata": // the API server's own
		case f.Anonymous && (name == "" || strings.Contains(options, "inline")):
			out = append(out, lacking(f.Type, schema, path)...)
		default:
			property, ok := schema.Properties[name]
			if !ok {
				out = append(out, strings.TrimPrefix(path+"."+name, "."))
				continue
			}
			out = append(out, lacking(f.Type, &property, path+"."+name)...)
		}
	}
	return out
}
