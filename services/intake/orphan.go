package intake

import (
	"context"
	"fmt"
	"slices"

	helmv2 "github.com/fluxcd/helm-controller/api/v2"
	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"orkestra.dev/api/v1alpha1"
	"orkestra.dev/pkg/service/groupevent"
	"orkestra.dev/services/intake/admit"
)

// eventOrphaned is the reason of the Kubernetes event of a group that went alone.
const eventOrphaned = "Orphaned"

// identity is what says of a release, of its values, and of a Job which group it is of.
// A group that is made again under the name may take over what has lost it.
var identity = []string{
	v1alpha1.AnnotationGroupUID, v1alpha1.AnnotationRollout,
	v1alpha1.AnnotationWorkflow, v1alpha1.AnnotationWorkflowUID,
}

// disowned looks at the group's revisions, which it owns from the moment they are made:
// who finds one that it does not own any more knows that the group was deleted with
// --cascade=orphan, long after the finalizer of that is gone.
func (r *reconciler) disowned(ctx context.Context, group *v1alpha1.ApplicationGroup) (bool, error) {
	revisions, err := r.revisions(ctx, group)
	return slices.ContainsFunc(revisions, func(o metav1.PartialObjectMetadata) bool {
		return !slices.ContainsFunc(o.OwnerReferences, func(ref metav1.OwnerReference) bool { return ref.UID == group.UID })
	}), err
}

func (r *reconciler) revisions(ctx context.Context, group *v1alpha1.ApplicationGroup) ([]metav1.PartialObjectMetadata, error) {
	return r.belongings(ctx, group, appsv1.SchemeGroupVersion.WithKind("ControllerRevision"), client.InNamespace(r.namespace))
}

// forgetRevisions removes what only this very group could go back to.
func (r *reconciler) forgetRevisions(ctx context.Context, group *v1alpha1.ApplicationGroup) error {
	revisions, err := r.revisions(ctx, group)
	if err != nil {
		return err
	}
	for i := range revisions {
		o := &appsv1.ControllerRevision{ObjectMeta: metav1.ObjectMeta{Namespace: revisions[i].Namespace, Name: revisions[i].Name}}
		err := r.client.Delete(ctx, o, client.Preconditions{UID: &revisions[i].UID}, client.PropagationPolicy(metav1.DeletePropagationBackground))
		if err != nil && !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) {
			return fmt.Errorf("removing revision %s of group %s: %w", o.Name, group.Name, err)
		}
	}
	return nil
}

// belongings are the objects of a kind that were made for the group, this one by UID.
func (r *reconciler) belongings(ctx context.Context, group *v1alpha1.ApplicationGroup, kind schema.GroupVersionKind, opts ...client.ListOption) ([]metav1.PartialObjectMetadata, error) {
	list := &metav1.PartialObjectMetadataList{}
	list.SetGroupVersionKind(kind.GroupVersion().WithKind(kind.Kind + "List"))
	if err := r.live.List(ctx, list, append(opts, owned(group))...); err != nil {
		return nil, fmt.Errorf("listing every %s of group %s: %w", kind.Kind, group.Name, err)
	}
	return slices.DeleteFunc(list.Items, func(o metav1.PartialObjectMetadata) bool {
		return o.Annotations[v1alpha1.AnnotationGroupUID] != string(group.UID)
	}), nil
}

// recordOrphan writes down that the group goes alone, for all replicas, and for the
// other services, before anything is done about it.
func (r *reconciler) recordOrphan(ctx context.Context, s admit.State) (ctrl.Result, error) {
	patch := client.MergeFromWithOptions(s.Group.DeepCopy(), client.MergeFromWithOptimisticLock{})
	metav1.SetMetaDataAnnotation(&s.Group.ObjectMeta, v1alpha1.AnnotationOrphan, v1alpha1.Orphaned)
	switch err := r.client.Patch(ctx, s.Group, patch); {
	case apierrors.IsConflict(err):
		return ctrl.Result{RequeueAfter: soon}, nil
	case apierrors.IsNotFound(err):
		return ctrl.Result{}, nil
	case err != nil:
		return ctrl.Result{}, fmt.Errorf("noting that the releases of group %s stay: %w", s.Group.Name, err)
	}
	r.log.InfoContext(ctx, "the releases stay", "group", s.Group.Name, "generation", s.Group.Generation)
	return r.act(ctx, s, admit.Next(s))
}

// orphan lets the group go alone. First what runs is stopped and waited for, so that
// nobody writes or deletes a release of the group behind our back.
func (r *reconciler) orphan(ctx context.Context, s admit.State) (ctrl.Result, error) {
	running, err := r.stopAll(ctx, s.Workflows)
	if err != nil {
		return ctrl.Result{}, err
	}
	if running {
		return ctrl.Result{RequeueAfter: soon}, nil
	}
	var left []string
	for _, kind := range []schema.GroupVersionKind{
		helmv2.GroupVersion.WithKind(helmv2.HelmReleaseKind), corev1.SchemeGroupVersion.WithKind("Secret"), batchv1.SchemeGroupVersion.WithKind("Job"),
	} {
		objects, err := r.belongings(ctx, s.Group, kind)
		if err != nil {
			return ctrl.Result{}, err
		}
		for i := range objects {
			o := &objects[i]
			o.SetGroupVersionKind(kind)
			if err := r.disown(ctx, o); err != nil {
				return ctrl.Result{}, err
			}
			if kind.Kind == helmv2.HelmReleaseKind {
				left = append(left, o.Namespace+"/"+o.Name)
			}
		}
	}
	if err := r.forgetRevisions(ctx, s.Group); err != nil {
		return ctrl.Result{}, err
	}
	message := "the group went alone, there were no releases"
	if len(left) > 0 {
		message = "the group went alone; left as they are, to helm-controller: HelmRelease " + list(left)
	}
	return r.release(ctx, s, groupevent.Event{
		Type: corev1.EventTypeNormal, Reason: eventOrphaned, Message: message, Key: string(s.Group.UID),
	})
}

// disown takes off what says of which group an object is.
func (r *reconciler) disown(ctx context.Context, o *metav1.PartialObjectMetadata) error {
	patch := fmt.Appendf(nil, `{"metadata":{"uid":%q,"annotations":{`, o.UID)
	for i, name := range identity {
		if i > 0 {
			patch = append(patch, ',')
		}
		patch = fmt.Appendf(patch, "%q:null", name)
	}
	patch = append(patch, "}}}"...)
	err := r.client.Patch(ctx, o, client.RawPatch(types.MergePatchType, patch))
	if err != nil && !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) { // gone, and perhaps another of that name by now
		return fmt.Errorf("taking the group off %s %s/%s: %w", o.Kind, o.Namespace, o.Name, err)
	}
	return nil
}
