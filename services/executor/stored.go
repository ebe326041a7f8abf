package executor

import (
	"context"

	wfv1 "github.com/argoproj/argo-workflows/v3/pkg/apis/workflow/v1alpha1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// manyTasks is from how many tasks on a workflow, and its group, are better asked for by a list. With 600 a list took the
// API server 3 to 28 ms of processor time, and a Get 18 to 114 ms; with 10, and others writing, a list took 40 ms
// and a Get 6 ms (docs/benchmarks/costs.md).
const manyTasks = 300

// large says whether a workflow has many tasks.
func large(wf *wfv1.Workflow) bool {
	tasks := 0
	for _, t := range wf.Spec.Templates {
		if t.DAG != nil {
			tasks += len(t.DAG.Tasks)
		}
	}
	return tasks >= manyTasks
}

// stored is the metadata of an object as it is now, nil where there is none. byList is how to ask for a large one: the API
// server answers a Get from etcd, and decodes all of the object for it; a list of one name it answers from memory, as soon as
// that has all that was written before it was asked (Kubernetes 1.31 and later; an older one reads that one object). That
// takes it some 40 ms where others write, so that a small object is better got.
func stored(ctx context.Context, from client.Reader, kind schema.GroupVersionKind, key client.ObjectKey, byList bool) (*metav1.ObjectMeta, error) {
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
