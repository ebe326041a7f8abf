package values

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"

	"github.com/fluxcd/pkg/apis/meta"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"orkestra.dev/api/v1alpha1"
)

// The kinds of objects that hold values.
const (
	configMap = "ConfigMap"
	secret    = "Secret"
)

// MissingError says that a reference of valuesFrom gives no values: what it refers to
// is not there, or is not what the reference says. It may be there later.
type MissingError struct {
	// Kind, Namespace and Name of the object, and the key of its data.
	Kind, Namespace, Name, Key string
	// Problem with it, without anything that the object holds.
	Problem string
}

// Error names the reference.
func (e *MissingError) Error() string {
	return fmt.Sprintf("valuesFrom: %s %s/%s, key %s: %s", e.Kind, e.Namespace, e.Name, e.Key, e.Problem)
}

// Resolve is the values of a release in that namespace: those that valuesFrom refers
// to, in order, each over those before it, and over them those of the field values. A
// reference with a targetPath is read as `helm --set` reads one, and stands above the
// field values, as in Flux, unless one without a targetPath has made a part of its
// path before. The result is never nil. Numbers are float64, as Helm reads those of a
// values file, and int64 where a targetPath set them.
//
// A reference that gives no values is a *MissingError, unless it is optional and its
// object or key is not there. Other errors are those of r.
func Resolve(ctx context.Context, r client.Reader, namespace string, release *v1alpha1.Release) (map[string]any, error) {
	inline, err := Inline(release)
	if err != nil {
		return nil, err
	}
	source := source{reader: r, namespace: namespace, read: map[string]map[string][]byte{}}
	out := map[string]any{}
	for _, ref := range release.ValuesFrom {
		data, problem, err := source.data(ctx, ref)
		switch {
		case err != nil:
			return nil, err
		case problem != "" && ref.Optional:
			continue
		case problem == "" && ref.TargetPath != "":
			// The inline values come first, and what they share with the result they
			// go on sharing: so they do not take back what is set in them here.
			out = merge(out, inline)
			problem = setAt(out, ref, string(data))
		case problem == "":
			var document map[string]any
			if yaml.Unmarshal(data, &document) != nil {
				problem = "is not a YAML document of values"
			}
			out = merge(out, document)
		}
		if problem != "" {
			return nil, &MissingError{Kind: ref.Kind, Namespace: namespace, Name: ref.Name, Key: ref.GetValuesKey(), Problem: problem}
		}
	}
	return merge(out, inline), nil
}

// Inline is the values of the field values alone; never nil.
func Inline(release *v1alpha1.Release) (map[string]any, error) {
	out := map[string]any{}
	if release.Values == nil || len(release.Values.Raw) == 0 {
		return out, nil
	}
	if err := json.Unmarshal(release.Values.Raw, &out); err != nil {
		return nil, fmt.Errorf("decoding the field values: %w", err)
	}
	if out == nil { // null
		out = map[string]any{}
	}
	return out, nil
}

// source reads each object once, so that two references to it see one version.
type source struct {
	reader    client.Reader
	namespace string
	// read is the data of the objects that were read; nil of one that is not there.
	read map[string]map[string][]byte
}

// data of a reference; problem says why there is none.
func (s *source) data(ctx context.Context, ref meta.ValuesReference) (data []byte, problem string, err error) {
	if ref.Kind != configMap && ref.Kind != secret {
		return nil, "is neither a ConfigMap nor a Secret", nil
	}
	object, seen := s.read[ref.Kind+"/"+ref.Name]
	if !seen {
		if object, err = s.object(ctx, ref); err != nil {
			return nil, "", err
		}
		s.read[ref.Kind+"/"+ref.Name] = object
	}
	if object == nil {
		return nil, "is not there", nil
	}
	data, ok := object[ref.GetValuesKey()]
	if !ok {
		return nil, "the key is not there", nil
	}
	return data, "", nil
}

// object is the data of what is referred to; nil where it is not there.
func (s *source) object(ctx context.Context, ref meta.ValuesReference) (map[string][]byte, error) {
	key := types.NamespacedName{Namespace: s.namespace, Name: ref.Name}
	var err error
	out := map[string][]byte{}
	if ref.Kind == secret {
		var o corev1.Secret
		err = s.reader.Get(ctx, key, &o)
		maps.Copy(out, o.Data)
	} else {
		var o corev1.ConfigMap
		err = s.reader.Get(ctx, key, &o)
		for k, v := range o.Data {
			out[k] = []byte(v)
		}
	}
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading %s %s for values: %w", ref.Kind, key, err)
	}
	return out, nil
}

// merge is b over a: maps are merged, everything else replaces. A map that is in one
// of them only is shared with the result.
func merge(a, b map[string]any) map[string]any {
	out := maps.Clone(a)
	for k, v := range b {
		over, isMap := v.(map[string]any)
		under, wasMap := out[k].(map[string]any)
		if isMap && wasMap {
			v = merge(under, over)
		}
		out[k] = v
	}
	return out
}
