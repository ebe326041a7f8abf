package intake

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/client-go/util/retry"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"orkestra.dev/api/v1alpha1"
	"orkestra.dev/services/intake/admit"
)

// indexReferences finds the groups that refer to an object, by refer.
const indexReferences = "references"

// refer is the value of the index for an object.
func refer(kind, namespace, name string) string { return kind + "/" + namespace + "/" + name }

// referred are the values of the index for a group.
func referred(o client.Object) []string {
	group, ok := o.(*v1alpha1.ApplicationGroup)
	if !ok {
		return nil
	}
	var out []string
	for _, r := range admit.References(group) {
		out = append(out, refer(r.Kind, r.Namespace, r.Name))
	}
	return out
}

// uninteresting are the types of Secrets that nobody takes values or credentials from,
// and of which there are many: Helm's records, tokens, our own plans.
var uninteresting = fields.AndSelectors(
	fields.OneTermNotEqualSelector("type", "helm.sh/release.v1"),
	fields.OneTermNotEqualSelector("type", string(corev1.SecretTypeServiceAccountToken)),
	fields.OneTermNotEqualSelector("type", "orkestra.azure.microsoft.com/plan"),
	fields.OneTermNotEqualSelector("type", v1alpha1.SecretTypeDelivery),
)

// cacheOptions: of Secrets and ConfigMaps no more than that they are there, and in
// which version.
func cacheOptions(string) cache.Options {
	return cache.Options{ByObject: map[client.Object]cache.ByObject{
		&corev1.Secret{}:    {Transform: bare, Field: uninteresting},
		&corev1.ConfigMap{}: {Transform: bare},
	}}
}

// bare leaves name, UID and version.
func bare(object any) (any, error) {
	if o, ok := object.(*metav1.PartialObjectMetadata); ok {
		o.ObjectMeta = metav1.ObjectMeta{
			Namespace: o.Namespace, Name: o.Name, UID: o.UID, ResourceVersion: o.ResourceVersion,
		}
	}
	return object, nil
}

// versionChanged: the object is another, and not only told of again.
func versionChanged() predicate.Predicate {
	return predicate.Funcs{UpdateFunc: func(u event.UpdateEvent) bool {
		return admit.Version(u.ObjectOld) != admit.Version(u.ObjectNew)
	}}
}

// groupsThatReferTo finds them for an object of that kind.
func (r *reconciler) groupsThatReferTo(kind string) handler.MapFunc {
	return func(ctx context.Context, o client.Object) []reconcile.Request {
		var groups v1alpha1.ApplicationGroupList
		err := r.client.List(ctx, &groups, client.MatchingFields{indexReferences: refer(kind, o.GetNamespace(), o.GetName())})
		if err != nil {
			r.log.ErrorContext(ctx, "listing the groups that refer to an object", "kind", kind, "namespace", o.GetNamespace(), "name", o.GetName(), "error", err)
			return nil
		}
		var out []reconcile.Request
		for _, g := range groups.Items {
			out = append(out, reconcile.Request{NamespacedName: client.ObjectKeyFromObject(&g)})
		}
		return out
	}
}

// versions of what the group refers to, of those objects that are there.
func (r *reconciler) versions(ctx context.Context, from client.Reader, group *v1alpha1.ApplicationGroup) (map[admit.Reference]string, error) {
	out := map[admit.Reference]string{}
	for _, ref := range admit.References(group) {
		o := &metav1.PartialObjectMetadata{}
		o.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind(ref.Kind))
		err := from.Get(ctx, client.ObjectKey{Namespace: ref.Namespace, Name: ref.Name}, o)
		if apierrors.IsNotFound(err) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("reading %s %s/%s, to which group %s refers: %w", ref.Kind, ref.Namespace, ref.Name, group.Name, err)
		}
		out[ref] = admit.Version(o)
	}
	return out, nil
}

// record writes what the rollout sees of the references, before it is announced: a
// change that comes later is told from what the services may have read. Others write
// the group all the time, and a rollout is not to wait for a quiet moment.
func (r *reconciler) record(ctx context.Context, s admit.State) (ctrl.Result, error) {
	err := retry.RetryOnConflict(retry.DefaultBackoff, func() error {
		now, err := r.look(ctx, r.live, r.live, s.Group.Name)
		if err != nil {
			return err
		}
		s = now
		d := admit.Next(s)
		if d.Action != admit.Record {
			return nil
		}
		return r.annotate(ctx, s.Group, d)
	})
	if apierrors.IsNotFound(err) {
		return ctrl.Result{}, nil
	}
	if err != nil {
		return ctrl.Result{}, fmt.Errorf("noting what group %s refers to: %w", s.Group.Name, err)
	}
	d := admit.Next(s)
	if d.Action == admit.Record {
		return ctrl.Result{}, fmt.Errorf("noting what group %s refers to: it was written, and is not there", s.Group.Name)
	}
	return r.act(ctx, s, d)
}

// request asks for another rollout, where all that calls for it is still so when it is
// read from the API server: another replica may have asked already, and a cache may be
// behind. Of two that ask at the same time one is refused, and looks again.
func (r *reconciler) request(ctx context.Context, name string) (ctrl.Result, error) {
	s, err := r.look(ctx, r.live, r.live, name)
	if err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	d := admit.Next(s)
	if d.Action != admit.Request {
		return r.act(ctx, s, d)
	}
	switch err := r.annotate(ctx, s.Group, d); {
	case apierrors.IsConflict(err):
		return ctrl.Result{RequeueAfter: soon}, nil
	case client.IgnoreNotFound(err) != nil:
		return ctrl.Result{}, fmt.Errorf("asking for a rollout of group %s: %w", name, err)
	}
	r.log.InfoContext(ctx, "requested", "group", name, "generation", s.Group.Generation, "requestedAt", d.RequestedAt, "why", d.Why)
	return ctrl.Result{}, nil // the annotation wakes us
}

// annotate writes what a decision names, if the group is still as it was read.
func (r *reconciler) annotate(ctx context.Context, group *v1alpha1.ApplicationGroup, d admit.Decision) error {
	patch := client.MergeFromWithOptions(group.DeepCopy(), client.MergeFromWithOptimisticLock{})
	if group.Annotations == nil {
		group.Annotations = map[string]string{}
	}
	for name, value := range map[string]string{
		v1alpha1.AnnotationRequestedAt: d.RequestedAt, v1alpha1.AnnotationReferences: d.Record,
	} {
		if value != "" {
			group.Annotations[name] = value
		}
	}
	if d.RequestedAt != "" {
		delete(group.Annotations, v1alpha1.AnnotationRequestedBy) // no event asks for this
	}
	return r.client.Patch(ctx, group, patch)
}
