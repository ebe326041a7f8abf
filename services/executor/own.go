package executor

import (
	"context"
	"fmt"
	"log/slog"
	"sync"

	helmv2 "github.com/fluxcd/helm-controller/api/v2"
	"k8s.io/apimachinery/pkg/types"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/cache"

	"orkestra.dev/api/v1alpha1"
	"orkestra.dev/pkg/events"
	"orkestra.dev/pkg/plan/outcome"
	"orkestra.dev/services/executor/execute"
)

// own are the releases that this process has begun. It sees in its informer when they come to
// rest, and looks at their workflow then: to wait until a watcher has said so, and the stream
// has stored it, would be most of what lies between a release and the next. The event comes
// all the same, to this replica or to another, and where the look was a success it is
// answered by it. Nothing here needs to outlive the process: the event does.
type own struct {
	ctx  context.Context
	look func(context.Context, wake) error
	log  *slog.Logger

	mu       sync.Mutex
	releases map[execute.Key]*begunRelease
}

// begunRelease is a release as this process wrote it last.
type begunRelease struct {
	// uid, and the time at which the write was decided, name the write: the informer may
	// show what was before.
	uid       types.UID
	startedAt string
	workflow  types.UID
	// generation with which it came to rest, and looked, which is closed when that was
	// looked at with the result err; nil before.
	generation int64
	looked     chan struct{}
	err        error
}

func newOwn(ctx context.Context, look func(context.Context, wake) error, log *slog.Logger) *own {
	return &own{ctx: ctx, look: look, log: log, releases: map[execute.Key]*begunRelease{}}
}

// watch has an informer's releases seen.
func (o *own) watch(ctx context.Context, informers cache.Informers) error {
	informer, err := informers.GetInformer(ctx, &helmv2.HelmRelease{}, cache.BlockUntilSynced(false))
	if err == nil {
		see := func(object any) {
			if hr, ok := object.(*helmv2.HelmRelease); ok {
				o.see(hr)
			}
		}
		_, err = informer.AddEventHandler(toolscache.ResourceEventHandlerFuncs{
			AddFunc: see, UpdateFunc: func(_, object any) { see(object) },
		})
	}
	if err != nil {
		return fmt.Errorf("watching HelmReleases: %w", err)
	}
	return nil
}

// began notes that this process has written a release, unless it is as wanted already.
func (o *own) began(hr *helmv2.HelmRelease) {
	if outcome.Of(hr).Phase != outcome.Progressing {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.releases[execute.KeyOf(hr)] = &begunRelease{
		uid: hr.UID, startedAt: hr.Annotations[v1alpha1.AnnotationStartedAt],
		workflow: types.UID(hr.Annotations[v1alpha1.AnnotationWorkflowUID]),
	}
}

// see takes in what the informer shows of a release, and has the workflow looked at where one
// that this process has begun has come to rest.
func (o *own) see(hr *helmv2.HelmRelease) {
	if hr.DeletionTimestamp != nil || outcome.Of(hr).Phase == outcome.Progressing {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	r := o.releases[execute.KeyOf(hr)]
	if r == nil || r.looked != nil || r.uid != hr.UID || r.startedAt != hr.Annotations[v1alpha1.AnnotationStartedAt] {
		return
	}
	r.generation, r.looked = hr.Generation, make(chan struct{})
	w := wake{
		workflow: hr.Annotations[v1alpha1.AnnotationWorkflow],
		news:     []news{{key: execute.KeyOf(hr), uid: hr.UID, generation: hr.Generation}},
	}
	go func() {
		defer close(r.looked)
		r.err = o.look(o.ctx, w)
		if err := ignoreEnded(r.err); err != nil {
			// The event asks for another look.
			o.log.Warn("looking at a workflow whose release has come to rest", "group", hr.Labels[v1alpha1.LabelOwner], "workflow", w.workflow, "error", err)
		}
	}()
}

// answered reports whether this process has looked, with success, at what the event tells of.
// It waits for a look that has begun. An event that came back is looked at anew, and so is one
// that is to come back: where something has to be polled.
func (o *own) answered(ctx context.Context, f events.Fact) bool {
	if f.Attempt > 1 {
		return false
	}
	var ref events.ReleaseRef
	switch data := f.Data.(type) {
	case events.ReleaseReady:
		ref = data.ReleaseRef
	case events.ReleaseFailed:
		ref = data.ReleaseRef
	default:
		return false
	}
	key := execute.Key{Namespace: ref.Namespace, Name: ref.Name}
	o.mu.Lock()
	r := o.releases[key]
	known := r != nil && r.looked != nil && r.uid == types.UID(ref.ReleaseUID) && r.generation == ref.ReleaseGeneration
	o.mu.Unlock()
	if !known {
		return false
	}
	select {
	case <-r.looked:
	case <-ctx.Done():
		return false
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.releases[key] == r {
		delete(o.releases, key)
	}
	return r.err == nil
}

// keep forgets the releases of all workflows but these.
func (o *own) keep(running map[types.UID]bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for key, r := range o.releases {
		if !running[r.workflow] {
			delete(o.releases, key)
		}
	}
}
