// Package stored asks the API server for the metadata of an object as it has it.
package stored

import (
	"context"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// patience with a watch cache that is behind what was seen: the API server itself would wait for 3 s, and the client ask
// again. Where nothing is wrong it takes a millisecond.
const patience = time.Second

// Metadata of an object as it is now, nil where there is none.
func Metadata(ctx context.Context, from client.Reader, kind schema.GroupVersionKind, key client.ObjectKey, opts ...client.GetOption) (*metav1.ObjectMeta, error) {
	o := &metav1.PartialObjectMetadata{}
	o.SetGroupVersionKind(kind)
	switch err := from.Get(ctx, key, o, opts...); {
	case apierrors.IsNotFound(err):
		return nil, nil
	case err != nil:
		return nil, err
	default:
		return &o.ObjectMeta, nil
	}
}

// Since is Metadata for who has seen an object, with that resourceVersion, and asks what has become of it. The API server
// answers out of its watch cache, when that has what was seen: so it is as new as what any watch of that API server has been
// sent, and costs an eighth of a read from etcd, where all of a custom resource is decoded (docs/benchmarks/costs.md). Where the
// cache is behind, it is read from etcd.
// https://kubernetes.io/docs/reference/using-api/api-concepts/#semantics-for-get-and-list
func Since(ctx context.Context, from client.Reader, kind schema.GroupVersionKind, key client.ObjectKey, seen string) (*metav1.ObjectMeta, error) {
	brief, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	o, err := Metadata(brief, from, kind, key, &client.GetOptions{Raw: &metav1.GetOptions{ResourceVersion: seen}})
	if err == nil || ctx.Err() != nil {
		return o, err
	}
	return Metadata(ctx, from, kind, key)
}
