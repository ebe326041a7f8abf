package executor

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/argoproj/argo-workflows/v3/pkg/apis/workflow"
	wfv1 "github.com/argoproj/argo-workflows/v3/pkg/apis/workflow/v1alpha1"
	"github.com/argoproj/argo-workflows/v3/workflow/packer"
	helmv2 "github.com/fluxcd/helm-controller/api/v2"
	"golang.org/x/sync/errgroup"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"orkestra.dev/api/v1alpha1"
	"orkestra.dev/pkg/events"
	"orkestra.dev/pkg/service/stored"
	"orkestra.dev/services/executor/execute"
)

// Reasons of dead letters.
const (
	reasonForeignWorkflow   = "ForeignWorkflow"
	reasonOffloadedWorkflow = "OffloadedWorkflow"
)

// seen is a state, and the workflow as the API server has it, nodes compressed or
// not: a patch is made against that.
type seen struct {
	execute.State
	stored *wfv1.Workflow
	// live: the workflow was read for this look, and not only heard of; groupLive the same of
	// its group.
	live, groupLive bool
	// again: an earlier try of this look was overtaken.
	again bool
	// acted: something was begun on the workflow and the group as they are here.
	acted bool
}

// reader sees what is there. Whether there is anything to do is decided on the workflow as
// it was heard of, and before something is begun it is read live: the compiler stops it before
// it looks at what a newer generation finds. Of the group the informer may be behind for as long.
// Releases come from the informer where that is not behind the news: whatever is done to
// one is fenced by its resourceVersion.
type reader struct {
	cached    client.Reader
	live      client.Reader
	namespace string
	plans     *plans
	// recent is nil where all is read live.
	recent   *recent
	unpacked unpacked
	now      func() time.Time
	// early: releases are begun ahead of Argo.
	early bool
}

// observe sees the workflow that w is about. The state has no waiting node where
// there is nothing to do.
func (r *reader) observe(ctx context.Context, w wake) (*seen, error) {
	s := &seen{State: execute.State{Early: r.early}}
	if err := r.hearsay(ctx, s, w); err != nil {
		return nil, err
	}
	if s.stored != nil && !r.plans.has(s.stored.UID) {
		// Argo first looks at a workflow while its plan is read.
		if _, err := r.plans.of(ctx, s.stored); err != nil {
			return nil, err
		}
		if err := r.hearsay(ctx, s, w); err != nil {
			return nil, err
		}
	}
	var fresh map[execute.Key]*helmv2.HelmRelease
	reads, readCtx := errgroup.WithContext(ctx)
	reads.Go(func() (err error) { fresh, err = r.releases(readCtx, w.news); return err })
	if s.live = s.stored == nil; s.live {
		reads.Go(func() (err error) { s.stored, err = r.workflow(readCtx, w.workflow); return err })
	}
	if err := reads.Wait(); err != nil {
		return nil, err
	}
	s.Now = r.now()
	if s.live {
		if err := r.hydrate(s); err != nil {
			return nil, err
		}
	}
	waiting := execute.Waiting(s.Workflow)
	if len(waiting) == 0 && (!r.early || !execute.Open(s.Workflow)) {
		return s, nil
	}
	if err := json.Unmarshal([]byte(s.Workflow.Annotations[v1alpha1.AnnotationRollout]), &s.Rollout); err != nil {
		return nil, events.Terminal(reasonForeignWorkflow, fmt.Errorf("reading the rollout of workflow %s: %w", w.workflow, err))
	}
	var err error
	s.groupLive = w.live
	if s.Group, err = r.group(ctx, s); err != nil {
		return nil, err
	}
	if s.Plan, err = r.plans.of(ctx, s.Workflow); err != nil {
		return nil, err
	}
	if s.Releases, err = r.inventory(ctx, s); err != nil {
		return nil, err
	}
	for key, hr := range fresh {
		s.Releases[key] = hr
	}
	if err := r.readSteps(ctx, s, waiting); err != nil {
		return nil, err
	}
	return s, nil
}

// hearsay gives s the workflow as it was heard of, unless it has to be read live.
func (r *reader) hearsay(ctx context.Context, s *seen, w wake) error {
	heard, err := r.recent.workflow(ctx, w)
	if err != nil || heard == nil {
		return err
	}
	s.stored = heard
	if err := r.hydrate(s); err != nil {
		return err
	}
	if !execute.Activated(s.Workflow, w.activated) {
		s.stored = nil
	}
	return nil
}

// How long the informer is given to show a node that an event tells of. It takes milliseconds, and to read
// a workflow of a hundred releases takes 50 ms where the API server is busy.
const (
	nodeStep = 10 * time.Millisecond
	nodeMost = 250 * time.Millisecond
)

// await returns when the informer shows the nodes that a wake-up tells of, or has had its time: then the look
// reads them.
func (r *reader) await(ctx context.Context, w wake) error {
	if len(w.activated) == 0 || r.recent == nil {
		return nil
	}
	err := wait.PollUntilContextTimeout(ctx, nodeStep, nodeMost, true, func(ctx context.Context) (bool, error) {
		s := &seen{}
		err := r.hearsay(ctx, s, w)
		return s.stored != nil, err
	})
	if wait.Interrupted(err) && ctx.Err() == nil {
		return nil
	}
	return err
}

// refresh sees the workflow anew, and the group, and reports whether both are as they were and nothing else was
// seen, so that what was decided holds. The releases stay as they are: what this look wrote may not have come to
// the informer yet, and writes are fenced.
func (r *reader) refresh(ctx context.Context, s *seen) (same bool, err error) {
	same, err = r.unchanged(ctx, s.stored)
	if err == nil && !same {
		err = r.reread(ctx, s)
	}
	if err != nil {
		return false, err
	}
	before := s.Group
	if s.Group, err = r.group(ctx, s); err != nil {
		return false, err
	}
	s.Now, s.acted, s.live = r.now(), false, true
	waiting := execute.Waiting(s.Workflow)
	same = same && execute.SameFence(before, s.Group) && !slices.ContainsFunc(waiting, func(task string) bool { return readsMore(s.Plan[task]) })
	return same, r.readSteps(ctx, s, waiting)
}

// reread takes the workflow as it is now. Another one of that name is not what was looked at.
func (r *reader) reread(ctx context.Context, s *seen) error {
	wf, err := r.workflow(ctx, s.stored.Name)
	if err != nil {
		return err
	}
	if wf.UID != s.stored.UID {
		return another(wf.Name)
	}
	s.stored = wf
	return r.hydrate(s)
}

func another(workflow string) error { return events.Superseded("another workflow " + workflow) }

// unchanged asks whether a workflow still is as it was seen. Mostly it is, and of a large group it takes longer to
// read, send and parse than it takes to begin a release.
func (r *reader) unchanged(ctx context.Context, wf *wfv1.Workflow) (bool, error) {
	now, err := stored.Since(ctx, r.live, wfv1.SchemeGroupVersion.WithKind(workflow.WorkflowKind), client.ObjectKeyFromObject(wf), wf.ResourceVersion)
	switch {
	case err != nil:
		return false, fmt.Errorf("reading workflow %s: %w", wf.Name, err)
	case now == nil:
		return false, events.Superseded("the end of workflow " + wf.Name)
	case now.UID != wf.UID:
		return false, another(wf.Name)
	default:
		return now.ResourceVersion == wf.ResourceVersion, nil
	}
}

// hydrate gives the workflow its nodes, whichever way Argo has stored them.
func (r *reader) hydrate(s *seen) error {
	s.Workflow = s.stored
	if s.stored.Status.IsOffloadNodeStatus() {
		return events.Terminal(reasonOffloadedWorkflow, fmt.Errorf(
			"workflow %s keeps its nodes in a database that Orkestra cannot see: switch Argo's nodeStatusOffLoad off", s.stored.Name))
	}
	if s.stored.Status.CompressedNodes == "" {
		return nil
	}
	if wf := r.unpacked.of(s.stored); wf != nil {
		s.Workflow = wf
		return nil
	}
	s.Workflow = s.stored.DeepCopy()
	if err := packer.DecompressWorkflow(s.Workflow); err != nil {
		return fmt.Errorf("decompressing workflow %s: %w", s.stored.Name, err)
	}
	r.unpacked.note(s.Workflow)
	return nil
}

// unpacked are large workflows with their nodes decompressed: each is looked at many times before it
// changes. The zero value is empty.
type unpacked struct {
	mu   sync.Mutex
	byID map[types.UID]*wfv1.Workflow
}

// of is the workflow as it was noted; nil where that was another version of it.
func (u *unpacked) of(stored *wfv1.Workflow) *wfv1.Workflow {
	u.mu.Lock()
	defer u.mu.Unlock()
	if wf := u.byID[stored.UID]; wf != nil && wf.ResourceVersion == stored.ResourceVersion {
		return wf
	}
	return nil
}

// note keeps a workflow. It is not to be changed.
func (u *unpacked) note(wf *wfv1.Workflow) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.byID == nil {
		u.byID = map[types.UID]*wfv1.Workflow{}
	}
	u.byID[wf.UID] = wf
}

// keep forgets all workflows but these.
func (u *unpacked) keep(running map[types.UID]bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	maps.DeleteFunc(u.byID, func(uid types.UID, _ *wfv1.Workflow) bool { return !running[uid] })
}

func (r *reader) workflow(ctx context.Context, name string) (*wfv1.Workflow, error) {
	wf := &wfv1.Workflow{}
	err := r.live.Get(ctx, client.ObjectKey{Namespace: r.namespace, Name: name}, wf)
	if apierrors.IsNotFound(err) {
		return nil, events.Superseded("the end of workflow " + name)
	}
	if err != nil {
		return nil, fmt.Errorf("reading workflow %s: %w", name, err)
	}
	return wf, nil
}

// group reads what fences the beginning of releases, nil where there is no such group: of a
// large group the rest is large too.
func (r *reader) group(ctx context.Context, s *seen) (*metav1.ObjectMeta, error) {
	from := r.cached
	if s.groupLive {
		from = r.live
	}
	g, err := stored.Metadata(ctx, from, v1alpha1.GroupVersion.WithKind(v1alpha1.Kind), client.ObjectKey{Name: s.Rollout.Group})
	if err != nil {
		return nil, fmt.Errorf("reading group %s: %w", s.Rollout.Group, err)
	}
	return g, nil
}

// release is nil where there is none of that name.
func (r *reader) release(ctx context.Context, key execute.Key) (*helmv2.HelmRelease, error) {
	hr := &helmv2.HelmRelease{}
	err := r.live.Get(ctx, key, hr)
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading HelmRelease %s: %w", key, err)
	}
	return hr, nil
}

// releases reads those of which the informer has not heard what is told.
func (r *reader) releases(ctx context.Context, told []news) (map[execute.Key]*helmv2.HelmRelease, error) {
	var mu sync.Mutex
	out := make(map[execute.Key]*helmv2.HelmRelease, len(told))
	reads, ctx := errgroup.WithContext(ctx)
	reads.SetLimit(parallelCalls)
	for _, n := range told {
		cached := &helmv2.HelmRelease{}
		switch err := r.cached.Get(ctx, n.key, cached); {
		case apierrors.IsNotFound(err):
			cached = nil
		case err != nil:
			return nil, fmt.Errorf("reading HelmRelease %s: %w", n.key, err)
		}
		if n.old(cached) {
			if n.deleted {
				r.recent.gone(n.key, n.uid)
			}
			continue
		}
		reads.Go(func() error {
			hr, err := r.release(ctx, n.key)
			mu.Lock()
			defer mu.Unlock()
			out[n.key] = hr
			return err
		})
	}
	if err := reads.Wait(); err != nil {
		return nil, err
	}
	return out, nil
}

// inventory is what the informer holds of the group, with what this process has written since,
// and of the names in the plan that the group does not have: another group may have them.
func (r *reader) inventory(ctx context.Context, s *seen) (map[execute.Key]*helmv2.HelmRelease, error) {
	var list helmv2.HelmReleaseList
	owner := v1alpha1.Shorten(s.Rollout.Group, v1alpha1.MaxLabel)
	// What is read here is never changed: what is written is a copy.
	if err := r.cached.List(ctx, &list, client.MatchingLabels{v1alpha1.LabelOwner: owner}, client.UnsafeDisableDeepCopy); err != nil {
		return nil, fmt.Errorf("listing the releases of group %s: %w", s.Rollout.Group, err)
	}
	out := make(map[execute.Key]*helmv2.HelmRelease, len(list.Items))
	for i := range list.Items {
		out[execute.KeyOf(&list.Items[i])] = &list.Items[i]
	}
	for _, n := range s.Plan {
		key := execute.KeyOf(n.Release)
		if _, ok := out[key]; ok {
			continue
		}
		hr := &helmv2.HelmRelease{}
		switch err := r.cached.Get(ctx, key, hr); {
		case err == nil:
			out[key] = hr
		case !apierrors.IsNotFound(err):
			return nil, fmt.Errorf("reading HelmRelease %s: %w", key, err)
		}
	}
	return out, r.recent.overlay(s.Rollout, out)
}
