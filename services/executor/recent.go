package executor

import (
	"context"
	"fmt"
	"maps"
	"sync"
	"time"

	wfv1 "github.com/argoproj/argo-workflows/v3/pkg/apis/workflow/v1alpha1"
	helmv2 "github.com/fluxcd/helm-controller/api/v2"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/resourceversion"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"orkestra.dev/api/v1alpha1"
	"orkestra.dev/pkg/events"
)

// recent is what this process knows without a read: what its informers hold, or, where they
// are behind that, what it has written itself. Many looks find nothing to do, and to read a
// workflow of a hundred releases live for each of them is dear. What is written is decided anew
// on what is there just then.
type recent struct {
	// cached reads from the informer, which holds the workflows that have not ended.
	cached    client.Reader
	namespace string
	workflows *written[*wfv1.Workflow]
	releases  *written[*helmv2.HelmRelease]
}

// newRecent reads from informers; a nil *recent knows nothing.
func newRecent(cached client.Reader, namespace string, now func() time.Time) *recent {
	return &recent{cached: cached, namespace: namespace, workflows: newWritten[*wfv1.Workflow](now), releases: newWritten[*helmv2.HelmRelease](now)}
}

// workflow is the one that a wake-up is about; nil where it has to be read live: the wake-up
// asks for that, or tells of something that the informer has not heard of.
func (r *recent) workflow(ctx context.Context, w wake) (*wfv1.Workflow, error) {
	if r == nil || w.live && w.version == "" {
		return nil, nil
	}
	wf, key := &wfv1.Workflow{}, client.ObjectKey{Namespace: r.namespace, Name: w.workflow}
	err := r.cached.Get(ctx, key, wf)
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading workflow %s from the informer: %w", w.workflow, err)
	}
	later, err := r.workflows.later(key, wf)
	if err != nil {
		return nil, err
	}
	if later != nil {
		wf = later
	}
	if w.live && wf.ResourceVersion != w.version {
		return nil, nil
	}
	return wf, nil
}

// wroteWorkflow notes a workflow as the API server has it after a write. It is not to be changed.
func (r *recent) wroteWorkflow(wf *wfv1.Workflow) {
	if r != nil {
		r.workflows.note(wf)
	}
}

// wroteRelease is wroteWorkflow of a release.
func (r *recent) wroteRelease(hr *helmv2.HelmRelease) {
	if r != nil {
		r.releases.note(hr)
	}
}

// gone notes that a release is: what was written of it, its deletion mostly, is not to be shown any more.
func (r *recent) gone(key client.ObjectKey, uid types.UID) {
	if r != nil {
		r.releases.forget(key, uid)
	}
}

// watch has the informer's releases that are gone forgotten: it shows none of them, as it shows none that it
// has not seen yet.
func (r *recent) watch(ctx context.Context, informers cache.Informers) error {
	informer, err := informers.GetInformer(ctx, &helmv2.HelmRelease{}, cache.BlockUntilSynced(false))
	if err == nil {
		_, err = informer.AddEventHandler(toolscache.ResourceEventHandlerFuncs{DeleteFunc: func(object any) {
			if last, ok := object.(toolscache.DeletedFinalStateUnknown); ok {
				object = last.Obj
			}
			if hr, ok := object.(*helmv2.HelmRelease); ok {
				r.gone(client.ObjectKeyFromObject(hr), hr.UID)
			}
		}})
	}
	if err != nil {
		return fmt.Errorf("watching the end of HelmReleases: %w", err)
	}
	return nil
}

// overlay puts releases of a rollout's group that this process has written over those of the informer
// that are older. One that was deleted is never shown by it again: of an earlier group of the same name it would
// be taken for one that is still there.
func (r *recent) overlay(rollout events.Rollout, releases map[client.ObjectKey]*helmv2.HelmRelease) error {
	if r == nil {
		return nil
	}
	for _, key := range r.releases.keys() {
		later, err := r.releases.later(key, releases[key])
		if err != nil {
			return err
		}
		if later != nil && later.Annotations[v1alpha1.AnnotationGroupUID] == rollout.UID {
			releases[key] = later
		}
	}
	return nil
}

// overdue is how long an informer may take to show what was written. It takes milliseconds; but
// an object that is gone before the informer saw it is never shown.
const overdue = 5 * time.Second

// written are objects as they were after this process wrote them, for as long as its informer
// may not show them.
type written[T client.Object] struct {
	now func() time.Time

	mu sync.Mutex
	by map[client.ObjectKey]writing[T]
}

type writing[T client.Object] struct {
	object T
	at     time.Time
}

func newWritten[T client.Object](now func() time.Time) *written[T] {
	return &written[T]{now: now, by: map[client.ObjectKey]writing[T]{}}
}

// note what was written, and forget what is overdue: nobody may ask for that again.
func (w *written[T]) note(object T) {
	w.mu.Lock()
	defer w.mu.Unlock()
	now := w.now()
	maps.DeleteFunc(w.by, func(_ client.ObjectKey, wrote writing[T]) bool { return now.Sub(wrote.at) > overdue })
	w.by[client.ObjectKeyFromObject(object)] = writing[T]{object, now}
}

// forget an object that is gone; one of its name that came after it is another.
func (w *written[T]) forget(key client.ObjectKey, uid types.UID) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if wrote, ok := w.by[key]; ok && wrote.object.GetUID() == uid {
		delete(w.by, key)
	}
}

func (w *written[T]) keys() []client.ObjectKey {
	w.mu.Lock()
	defer w.mu.Unlock()
	keys := make([]client.ObjectKey, 0, len(w.by))
	for key := range w.by {
		keys = append(keys, key)
	}
	return keys
}

// later is what was written, where cached, which is nil where the informer has none, is older;
// else nil.
func (w *written[T]) later(key client.ObjectKey, cached T) (later T, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	wrote, ok := w.by[key]
	if !ok {
		return later, nil
	}
	var none T
	shown := false
	if client.Object(cached) != client.Object(none) {
		order, err := resourceversion.CompareResourceVersion(cached.GetResourceVersion(), wrote.object.GetResourceVersion())
		if err != nil {
			return later, fmt.Errorf("comparing the versions of %T %s: %w", cached, key, err)
		}
		shown = order >= 0
	}
	if shown || w.now().Sub(wrote.at) > overdue {
		delete(w.by, key)
		return later, nil
	}
	return wrote.object, nil
}
