package executor

import (
	"context"
	"fmt"
	"sync"

	wfv1 "github.com/argoproj/argo-workflows/v3/pkg/apis/workflow/v1alpha1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/resourceversion"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// recent are the workflows that run, as this process saw them last: in its informer, or
// when it wrote them. Most looks find nothing to do, and to read a workflow of a hundred
// releases live for each of them would be most of what a rollout costs the API server. What
// is written is decided anew on what is there just then.
type recent struct {
	// cached reads from the informer, which holds the workflows that have not ended.
	cached    client.Reader
	namespace string

	mu      sync.Mutex
	written map[string]*wfv1.Workflow // by name
}

// newRecent reads from an informer; a nil *recent has heard of nothing.
func newRecent(cached client.Reader, namespace string) *recent {
	return &recent{cached: cached, namespace: namespace, written: map[string]*wfv1.Workflow{}}
}

// of is the workflow that a wake-up is about; nil where it has to be read live: the wake-up
// asks for that, or tells of something that the informer has not heard of.
func (r *recent) of(ctx context.Context, w wake) (*wfv1.Workflow, error) {
	if r == nil || w.live {
		return nil, nil
	}
	wf := &wfv1.Workflow{}
	err := r.cached.Get(ctx, client.ObjectKey{Namespace: r.namespace, Name: w.workflow}, wf)
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading workflow %s from the informer: %w", w.workflow, err)
	}
	return r.later(wf)
}

// later is what was written, where the informer is behind that.
func (r *recent) later(cached *wfv1.Workflow) (*wfv1.Workflow, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	written := r.written[cached.Name]
	if written == nil {
		return cached, nil
	}
	if written.UID == cached.UID {
		order, err := resourceversion.CompareResourceVersion(cached.ResourceVersion, written.ResourceVersion)
		if err != nil {
			return nil, fmt.Errorf("comparing the versions of workflow %s: %w", cached.Name, err)
		}
		if order < 0 {
			return written, nil
		}
	}
	delete(r.written, cached.Name)
	return cached, nil
}

// wrote notes a workflow as the API server has it after a write. It is not to be changed.
func (r *recent) wrote(wf *wfv1.Workflow) {
	if r == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.written[wf.Name] = wf
}

// keep forgets all workflows but these.
func (r *recent) keep(running map[types.UID]bool) {
	if r == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for name, wf := range r.written {
		if !running[wf.UID] {
			delete(r.written, name)
		}
	}
}
