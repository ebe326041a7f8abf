// Package stored asks the API server for the metadata of an object as it is now.
package stored

import (
	"context"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// Many is from how many releases, or tasks, on a group or a workflow is better asked for by a list. With 600 tasks a list took
// the API server 3 to 28 ms of processor time, and a Get 18 to 114 ms; with 10, and others writing, a list took 40 ms
// and a Get 6 ms (docs/benchmarks/costs.md).
const Many = 300

// Metadata of an object as it is now, nil where there is none. byList is how to ask for a large one: the API
// server answers a Get from etcd, and decodes all of the object for it; a list of one name it answers from memory, as soon as
// that has all that was written before it was asked (Kubernetes 1.31 and later; an older one reads that one object). That
// takes it some 40 ms where others write, so that a small object is better got.
func Metadata(ctx context.Context, from client.Reader, kind schema.GroupVersionKind, key client.ObjectKey, byList bool) (*metav1.ObjectMeta, error) {
	if byList {
		list := &metav1.PartialObjectMetadataList{}
		list.SetGroupVersionKind(kind.GroupVersion().WithKind(kind.Kind + "List"))
		err := from.List(ctx, list, client.InNamespace(key.Namespace), client.MatchingFields{metav1.ObjectNameField: key.Name})
		if err != nil || len(list.Items) == 0 {
			return nil, err
		}
		return &list.Items[0].ObjectMeta, nil
	}
	o := &metav1.PartialObjectMetadata{}
	o.SetGroupVersionKind(kind)
	switch err := from.Get(ctx, key, o); {
	case apierrors.IsNotFound(err):
		return nil, nil
	case err != nil:
		return nil, err
	default:
		return &o.ObjectMeta, nil
	}
}
