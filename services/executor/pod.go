package executor

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	wfv1 "github.com/argoproj/argo-workflows/v3/pkg/apis/workflow/v1alpha1"
	helmv2 "github.com/fluxcd/helm-controller/api/v2"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"orkestra.dev/api/v1alpha1"
	"orkestra.dev/pkg/events"
	"orkestra.dev/pkg/plan"
	"orkestra.dev/pkg/plan/outcome"
	"orkestra.dev/services/executor/execute"
)

// watchedInterval is how often a release is looked at whose changes are told.
const watchedInterval = 5 * time.Second

// pod runs one release, as the service does, in a process of its own. It may be
// ended and started again at any time.
type pod struct {
	writer *writer
	watch  client.WithWatch
	node   plan.Node
	owner  execute.Owner
	// since the process runs.
	since time.Time
	// timeout of all of it, and interval of looks where changes are not told.
	timeout, interval time.Duration
}

// run brings the release about. The error is for a user: it says why the release
// has failed, or what was in the way when the time was up.
func (p *pod) run(ctx context.Context) error {
	// The release's own time is up first, and what is said then says more.
	limit := p.timeout + 2*outcome.Grace
	bounded, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	key := execute.KeyOf(p.node.Release)
	changes := &follower{client: p.watch, key: key}
	defer changes.stop()
	again := false
	for {
		// Before the look, so that no change falls between the two.
		changes.begin(bounded)
		done, err := p.look(bounded, again)
		switch {
		case done != nil && done.Phase == wfv1.NodeSucceeded:
			return nil
		case done != nil:
			return errors.New(done.Message)
		case events.IsSuperseded(err):
			return fmt.Errorf("HelmRelease %s: %w", key, err)
		}
		again = errors.Is(err, errOvertaken)
		if again || changes.wait(bounded, p.interval, err == nil) {
			continue
		}
		if ctx.Err() != nil {
			return fmt.Errorf("HelmRelease %s: %w", key, errStopped)
		}
		return fmt.Errorf("HelmRelease %s was not done within %s: %w", key, limit, cmp.Or(err, errUnderWay))
	}
}

var (
	// errStopped: the pod is being ended.
	errStopped = errors.New("stopped before it was done")
	// errOvertaken: somebody else wrote the release between the look and the write.
	errOvertaken = errors.New("it is being written by somebody else")
	// errUnderWay: nothing else is known.
	errUnderWay = errors.New("it is still under way")
)

// look observes, decides and acts, until there is nothing more to do for now. It
// returns the end of the node where it has come to one.
func (p *pod) look(ctx context.Context, again bool) (*execute.Settle, error) {
	s, err := p.observe(ctx)
	if err != nil {
		return nil, err
	}
	s.again = again
	for {
		a, err := execute.Next(s.State)
		switch {
		case err != nil:
			return nil, err
		case len(a.Apply)+len(a.Delete) > 0:
			overtaken, failures := p.writer.begin(ctx, s, a)
			if len(overtaken) > 0 {
				return nil, errOvertaken
			}
			if len(failures) > 0 {
				return nil, errors.Join(failures...)
			}
		case a.Superseded != "":
			return nil, events.Superseded(a.Superseded)
		case len(a.Settle) == 0:
			return nil, nil
		default:
			if err := p.clean(ctx, a.Settle[0]); err != nil {
				return nil, err
			}
			return &a.Settle[0], nil
		}
	}
}

// clean removes what a release that is gone has left.
func (p *pod) clean(ctx context.Context, end execute.Settle) error {
	if end.StorageNamespace == "" {
		return nil
	}
	return p.writer.removeStorage(ctx, end.StorageNamespace, p.owner.Rollout.Group)
}

// observe sees the release, and what it needs: of an install the group, which
// fences it, and of a delete the group's other releases. The workflow is only this
// one node. A delete is not fenced by the group: it may be the group's own.
func (p *pod) observe(ctx context.Context) (*seen, error) {
	s := &seen{live: true, groupLive: true, State: execute.State{
		Now:      p.writer.reader.now(),
		Workflow: p.workflow(),
		Rollout:  p.owner.Rollout,
		Plan:     map[string]plan.Node{p.node.Task: p.node},
		Releases: map[execute.Key]*helmv2.HelmRelease{},
		Refused:  map[string]string{},
		Held:     map[string]bool{},
	}}
	key := execute.KeyOf(p.node.Release)
	var err error
	if p.node.Action == plan.Delete {
		s.Releases, err = p.writer.reader.inventory(ctx, s)
	} else {
		s.Group, err = p.writer.reader.group(ctx, s)
	}
	if err != nil {
		return nil, err
	}
	hr, err := p.writer.reader.release(ctx, key)
	s.Releases[key] = hr
	return s, err
}

func (p *pod) workflow() *wfv1.Workflow {
	kind := events.WorkflowForward
	if p.node.Action == plan.Delete {
		kind = events.WorkflowReverse
	}
	const id = "pod"
	return &wfv1.Workflow{
		ObjectMeta: metav1.ObjectMeta{
			Name: p.owner.Workflow, UID: types.UID(p.owner.WorkflowUID),
			Labels: map[string]string{v1alpha1.LabelWorkflowType: string(kind)},
		},
		Status: wfv1.WorkflowStatus{Nodes: wfv1.Nodes{id: {
			ID: id, Name: p.owner.Workflow + "." + p.node.Task, Type: wfv1.NodeTypeSuspend,
			Phase: wfv1.NodeRunning, StartedAt: metav1.Time{Time: p.since},
		}}},
	}
}

// follower watches one release for as long as the API server lets it.
type follower struct {
	client client.WithWatch
	key    execute.Key
	watch  watch.Interface // nil where there is none
}

// begin watches, unless it does already. Where that is refused the release is
// looked at every interval instead.
func (f *follower) begin(ctx context.Context) {
	if f.watch != nil {
		return
	}
	w, err := f.client.Watch(ctx, &helmv2.HelmReleaseList{}, client.InNamespace(f.key.Namespace),
		client.MatchingFieldsSelector{Selector: fields.OneTermEqualSelector(metav1.ObjectNameField, f.key.Name)})
	if err == nil {
		f.watch = w
	}
}

// wait returns at a change of the release, or after a while: the interval, or
// where changes are told (and settled, in that the last look went well) a long one.
// It reports whether ctx goes on.
func (f *follower) wait(ctx context.Context, interval time.Duration, settled bool) bool {
	var told <-chan watch.Event
	while := interval
	if f.watch != nil && settled {
		told, while = f.watch.ResultChan(), max(interval, watchedInterval)
	}
	t := time.NewTimer(while)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	case _, ok := <-told:
		if !ok { // the watch has ended: another one is made, and not at once
			f.stop()
			return f.wait(ctx, interval, settled)
		}
	}
	return ctx.Err() == nil
}

func (f *follower) stop() {
	if f.watch != nil {
		f.watch.Stop()
		f.watch = nil
	}
}
