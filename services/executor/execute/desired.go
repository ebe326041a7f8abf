package execute

import (
	"encoding/json"
	"fmt"
	"maps"
	"strconv"
	"strings"
	"time"

	helmv2 "github.com/fluxcd/helm-controller/api/v2"
	"github.com/fluxcd/pkg/apis/meta"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"

	"orkestra.dev/api/v1alpha1"
)

// ownPrefix is that of our labels and annotations.
var ownPrefix = v1alpha1.GroupVersion.Group + "/"

// Desired is the object to write for a node: the plan's release, marked as begun
// by owner at now. Where have is there it is have with the plan's spec, so that
// its resourceVersion fences the write and what others have added to its metadata
// stays; where it is nil, the object is to be created and nothing else.
//
// A release that failed before is asked to be tried again, since a spec that did
// not change makes helm-controller do nothing. Resetting the failure counts is
// enough for that; forcing would upgrade a release that is in sync. helm-controller
// tries at once then, and just once for the time being (outcome.Of).
func Desired(owner Owner, task string, want, have *helmv2.HelmRelease, now time.Time) (*helmv2.HelmRelease, error) {
	out := want.DeepCopy()
	if have != nil {
		out.ObjectMeta = *have.ObjectMeta.DeepCopy()
		out.ManagedFields = nil
		maps.DeleteFunc(out.Annotations, func(k, _ string) bool { return strings.HasPrefix(k, ownPrefix) })
		out.Labels = merged(out.Labels, want.Labels)
		out.Annotations = merged(out.Annotations, want.Annotations)
	}
	// helm-controller's first look at a release without its finalizer only adds it,
	// and comes back after its minimum retry delay.
	controllerutil.AddFinalizer(out, helmv2.HelmReleaseFinalizer)
	out.Labels = merged(out.Labels, ownerLabels(owner))
	if err := mark(owner, task, &out.ObjectMeta, now); err != nil {
		return nil, err
	}
	if have != nil && failedBefore(have) {
		token := out.Annotations[v1alpha1.AnnotationStartedAt]
		out.Annotations[meta.ReconcileRequestAnnotation] = token
		out.Annotations[helmv2.ResetRequestAnnotation] = token
	}
	return out, nil
}

func ownerLabels(owner Owner) map[string]string {
	return map[string]string{
		v1alpha1.LabelHeritage: v1alpha1.Heritage,
		v1alpha1.LabelOwner:    v1alpha1.Shorten(owner.Rollout.Group, v1alpha1.MaxLabel),
	}
}

// Marked is have with the marks of a workflow that is about to delete it.
func Marked(owner Owner, task string, have *helmv2.HelmRelease, now time.Time) (*helmv2.HelmRelease, error) {
	out := have.DeepCopy()
	if err := mark(owner, task, &out.ObjectMeta, now); err != nil {
		return nil, err
	}
	return out, nil
}

// mark says by whom and when an object is written. The generation is a label, so
// that an admission policy can refuse an older one.
func mark(owner Owner, task string, object *metav1.ObjectMeta, now time.Time) error {
	rollout, err := json.Marshal(owner.Rollout)
	if err != nil {
		return fmt.Errorf("encoding rollout %s: %w", owner.Rollout.ID(), err)
	}
	object.Labels = merged(object.Labels, map[string]string{
		v1alpha1.LabelGeneration: strconv.FormatInt(owner.Rollout.Generation, 10),
	})
	object.Annotations = merged(object.Annotations, map[string]string{
		v1alpha1.AnnotationGroupUID:    owner.Rollout.UID,
		v1alpha1.AnnotationRollout:     string(rollout),
		v1alpha1.AnnotationWorkflow:    owner.Workflow,
		v1alpha1.AnnotationWorkflowUID: owner.WorkflowUID,
		v1alpha1.AnnotationNode:        task,
		v1alpha1.AnnotationStartedAt:   now.UTC().Format(time.RFC3339Nano),
	})
	return nil
}

// failedBefore: whatever generation that was said of, helm-controller is not
// content, and may have given up or be waiting out a long delay.
func failedBefore(have *helmv2.HelmRelease) bool {
	return apimeta.IsStatusConditionFalse(have.Status.Conditions, meta.ReadyCondition) ||
		apimeta.IsStatusConditionPresentAndEqual(have.Status.Conditions, meta.StalledCondition, metav1.ConditionTrue)
}

func merged(base, over map[string]string) map[string]string {
	out := make(map[string]string, len(base)+len(over))
	maps.Copy(out, base)
	maps.Copy(out, over)
	return out
}
