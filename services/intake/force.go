package intake

import (
	"context"
	"fmt"
	"strings"

	helmv2 "github.com/fluxcd/helm-controller/api/v2"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"orkestra.dev/api/v1alpha1"
	"orkestra.dev/pkg/events"
	"orkestra.dev/pkg/service/groupevent"
	"orkestra.dev/services/intake/admit"
)

// Reasons of the Kubernetes events of a group's end.
const (
	eventRemoved    = "Removed"
	eventForced     = "RemovedByForce"
	eventNamespaces = "NamespacesDeleted"
)

// maxLeft is how many objects an event names.
const maxLeft = 10

// force lets a group go that its owner will not wait for. What runs is stopped, so that
// nothing new is made; what is there is told to go, and left to helm-controller.
func (r *reconciler) force(ctx context.Context, s admit.State) (ctrl.Result, error) {
	if _, err := r.stopAll(ctx, s.Workflows); err != nil {
		return ctrl.Result{}, err
	}
	releases, err := r.releases(ctx, s.Group)
	if err != nil {
		return ctrl.Result{}, err
	}
	var left []string
	for i := range releases {
		hr := &releases[i]
		name := fmt.Sprintf("HelmRelease %s/%s", hr.Namespace, hr.Name)
		switch err := r.client.Delete(ctx, hr, client.Preconditions{UID: &hr.UID}); {
		case apierrors.IsNotFound(err), apierrors.IsConflict(err):
			continue // gone, and perhaps another of that name by now
		case apierrors.IsForbidden(err), apierrors.IsInvalid(err):
			name += " (which may not be deleted: " + err.Error() + ")"
		case err != nil:
			return ctrl.Result{}, fmt.Errorf("deleting HelmRelease %s/%s: %w", hr.Namespace, hr.Name, err)
		}
		left = append(left, name)
	}
	message := "let go by force; nothing was left of it"
	if len(left) > 0 {
		message = "let go by force; told to go, and not waited for: " + list(left)
	}
	return r.release(ctx, s, groupevent.Event{
		Type: corev1.EventTypeWarning, Reason: eventForced, Message: message, Key: string(s.Group.UID),
	})
}

// stopAll stops what runs, and says whether anything does.
func (r *reconciler) stopAll(ctx context.Context, workflows []admit.Workflow) (running bool, err error) {
	for _, wf := range workflows {
		if wf.Finished {
			continue
		}
		running = true
		if err := r.stop(ctx, wf.Name); err != nil {
			return running, err
		}
	}
	return running, nil
}

// stop asks Argo to end a workflow, held or not.
func (r *reconciler) stop(ctx context.Context, name string) error {
	wf := &metav1.PartialObjectMetadata{ObjectMeta: metav1.ObjectMeta{Namespace: r.namespace, Name: name}}
	wf.SetGroupVersionKind(workflowList.GroupVersion().WithKind("Workflow"))
	patch := client.RawPatch(types.MergePatchType, []byte(`{"spec":{"shutdown":"Terminate","suspend":null}}`))
	if err := r.client.Patch(ctx, wf, patch); client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("stopping workflow %s: %w", name, err)
	}
	return nil
}

// release lets the group go, and says so: first the events, for when the finalizer is
// gone nobody would know to tell them.
func (r *reconciler) release(ctx context.Context, s admit.State, told groupevent.Event) (ctrl.Result, error) {
	if !v1alpha1.GoesAlone(s.Group) {
		if err := r.removeNamespaces(ctx, s.Group); err != nil {
			return ctrl.Result{}, err
		}
	}
	if err := r.sayOne(ctx, s.Rollout, events.GroupDeleted{}, ""); err != nil {
		return ctrl.Result{}, err
	}
	if err := groupevent.Tell(ctx, r.client, fieldManager, s.Group, told, r.now()); err != nil {
		return ctrl.Result{}, err
	}
	if err := r.removeFinalizer(ctx, s.Group); err != nil {
		return ctrl.Result{}, fmt.Errorf("removing the finalizer from group %s: %w", s.Group.Name, err)
	}
	r.log.InfoContext(ctx, "released", "group", s.Group.Name, "generation", s.Group.Generation, "how", told.Reason)
	return ctrl.Result{}, nil
}

// removeNamespaces deletes those that go with the group. They are not waited for: what
// a namespace holds may take its time, and none of it is the group's any more.
func (r *reconciler) removeNamespaces(ctx context.Context, group *v1alpha1.ApplicationGroup) error {
	if group.Spec.NamespaceDeletionPolicy != v1alpha1.NamespacesDelete {
		return nil
	}
	namespaces := &metav1.PartialObjectMetadataList{}
	namespaces.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("NamespaceList"))
	owned := client.MatchingLabels{v1alpha1.LabelHeritage: v1alpha1.Heritage, v1alpha1.LabelOwner: v1alpha1.Shorten(group.Name, v1alpha1.MaxLabel)}
	if err := r.live.List(ctx, namespaces, owned); err != nil {
		return fmt.Errorf("listing the namespaces of group %s: %w", group.Name, err)
	}
	var releases helmv2.HelmReleaseList
	if err := r.live.List(ctx, &releases); err != nil {
		return fmt.Errorf("listing the releases that use the namespaces of group %s: %w", group.Name, err)
	}
	gone, kept := admit.Namespaces(group, namespaces.Items, releases.Items, r.namespace)
	var names []string
	for _, ns := range gone {
		err := r.client.Delete(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: ns.Name}}, client.Preconditions{UID: &ns.UID})
		if err != nil && !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) {
			return fmt.Errorf("deleting namespace %s of group %s: %w", ns.Name, group.Name, err)
		}
		names = append(names, ns.Name)
	}
	if len(names)+len(kept) == 0 {
		return nil
	}
	message := "spec.namespaceDeletionPolicy is Delete: "
	if len(names) > 0 {
		message += "deleted, with all that is in them: " + list(names)
	}
	if len(kept) > 0 {
		message += "; kept, because a HelmRelease uses them: " + list(kept)
	}
	r.log.InfoContext(ctx, "namespaces", "group", group.Name, "deleted", names, "kept", kept)
	return groupevent.Tell(ctx, r.client, fieldManager, group, groupevent.Event{
		Type: corev1.EventTypeNormal, Reason: eventNamespaces, Message: message, Key: string(group.UID),
	}, r.now())
}

// list names some things, and counts the others.
func list(names []string) string {
	if more := len(names) - maxLeft; more > 0 {
		return fmt.Sprintf("%s and %d more", strings.Join(names[:maxLeft], ", "), more)
	}
	return strings.Join(names, ", ")
}
