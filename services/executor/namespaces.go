package executor

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"orkestra.dev/api/v1alpha1"
	"orkestra.dev/pkg/events"
	"orkestra.dev/services/executor/execute"
)

// storage is the value of the label on a namespace that holds Helm's records.
const storage = "true"

// ensureNamespace makes a namespace that is missing. It says for which group it was
// made, and no more: the garbage collector does not take it with the group. One that
// is there is taken as it is, but for a storage namespace of another group: Helm
// would take that group's records for this one's.
func (w *writer) ensureNamespace(ctx context.Context, want execute.Namespace, rollout events.Rollout) error {
	owner := v1alpha1.Shorten(rollout.Group, v1alpha1.MaxLabel)
	have, err := namespaceMeta(ctx, w.reader.cached, want.Name)
	if have == nil && err == nil {
		ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{
			Name:        want.Name,
			Labels:      map[string]string{v1alpha1.LabelHeritage: v1alpha1.Heritage, v1alpha1.LabelOwner: owner},
			Annotations: map[string]string{v1alpha1.AnnotationGroupUID: rollout.UID},
		}}
		if want.Storage {
			ns.Labels[v1alpha1.LabelStorage] = storage
		}
		err = w.client.Create(ctx, ns, client.FieldOwner(fieldManager))
		if err == nil {
			return nil
		}
		if !apierrors.IsAlreadyExists(err) {
			return classify(fmt.Errorf("creating namespace %s: %w", want.Name, err))
		}
		have, err = namespaceMeta(ctx, w.reader.live, want.Name)
	}
	switch {
	case err != nil:
		return err
	case have == nil:
		return events.RetryAfter(retryDelay, fmt.Errorf("namespace %s is there and is not", want.Name))
	case have.DeletionTimestamp != nil:
		return events.RetryAfter(retryDelay, fmt.Errorf("namespace %s is being deleted", want.Name))
	case want.Storage && have.Labels[v1alpha1.LabelStorage] == storage && have.Labels[v1alpha1.LabelOwner] != owner:
		return refusal{fmt.Errorf("its storage namespace %s belongs to group %q", want.Name, have.Labels[v1alpha1.LabelOwner])}
	}
	return nil
}

// removeStorage deletes a storage namespace that nothing needs any more. One that
// does not carry the group's labels is left alone.
func (w *writer) removeStorage(ctx context.Context, name, group string) error {
	have, err := namespaceMeta(ctx, w.reader.cached, name)
	if err != nil {
		return err
	}
	if have == nil || have.DeletionTimestamp != nil || have.Labels[v1alpha1.LabelStorage] != storage ||
		have.Labels[v1alpha1.LabelOwner] != v1alpha1.Shorten(group, v1alpha1.MaxLabel) {
		return nil
	}
	err = w.client.Delete(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}, client.Preconditions{UID: &have.UID})
	if err != nil && !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) {
		return fmt.Errorf("removing storage namespace %s: %w", name, err)
	}
	return nil
}

// namespaceMeta is nil where there is no such namespace.
func namespaceMeta(ctx context.Context, from client.Reader, name string) (*metav1.PartialObjectMetadata, error) {
	ns := &metav1.PartialObjectMetadata{}
	ns.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("Namespace"))
	err := from.Get(ctx, client.ObjectKey{Name: name}, ns)
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading namespace %s: %w", name, err)
	}
	return ns, nil
}
