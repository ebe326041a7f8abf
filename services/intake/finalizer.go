package intake

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"orkestra.dev/api/v1alpha1"
)

// Neither patch carries a resourceVersion: others write the group's status all the
// time, and a finalizer that had to wait for a quiet moment would hold up a rollout
// by a second. What each must not touch, another group of the same name, is fenced by
// the UID.

// addFinalizer by server-side apply: the finalizers are a set, and ours is the one
// element that we own.
func (r *reconciler) addFinalizer(ctx context.Context, group *v1alpha1.ApplicationGroup) error {
	o := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": v1alpha1.GroupVersion.String(),
		"kind":       v1alpha1.Kind,
		"metadata": map[string]any{
			"name": group.Name, "uid": string(group.UID), "finalizers": []any{v1alpha1.Finalizer},
		},
	}}
	err := r.client.Apply(ctx, client.ApplyConfigurationFromUnstructured(o), client.FieldOwner(fieldManager+"-finalizer"), client.ForceOwnership)
	if apierrors.IsConflict(err) {
		return client.IgnoreNotFound(r.gone(ctx, group, err))
	}
	return err
}

// removeFinalizer by a patch that tests what it removes, whoever put it there.
func (r *reconciler) removeFinalizer(ctx context.Context, group *v1alpha1.ApplicationGroup) error {
	i := slices.Index(group.Finalizers, v1alpha1.Finalizer)
	at := fmt.Sprintf("/metadata/finalizers/%d", i)
	patch, err := json.Marshal([]map[string]any{
		{"op": "test", "path": "/metadata/uid", "value": group.UID},
		{"op": "test", "path": at, "value": v1alpha1.Finalizer},
		{"op": "remove", "path": at},
	})
	if err != nil {
		return err
	}
	err = r.client.Patch(ctx, group.DeepCopy(), client.RawPatch(types.JSONPatchType, patch))
	if apierrors.IsInvalid(err) { // a test failed: the group is not what it was
		return client.IgnoreNotFound(r.gone(ctx, group, err))
	}
	return client.IgnoreNotFound(err)
}

// gone answers a refused write: nothing where this very group is gone, or its
// finalizer is, else the refusal.
func (r *reconciler) gone(ctx context.Context, group *v1alpha1.ApplicationGroup, refusal error) error {
	live := &v1alpha1.ApplicationGroup{}
	if err := r.live.Get(ctx, client.ObjectKeyFromObject(group), live); err != nil {
		return err
	}
	if live.UID != group.UID || !live.DeletionTimestamp.IsZero() && !slices.Contains(live.Finalizers, v1alpha1.Finalizer) {
		return nil
	}
	return refusal
}
