package executor

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/argoproj/argo-workflows/v3/workflow/packer"
	helmv2 "github.com/fluxcd/helm-controller/api/v2"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"orkestra.dev/pkg/events"
	"orkestra.dev/services/executor/execute"
)

// fieldManager under which releases are written.
const fieldManager = "orkestra-executor"

// fence is the admission policy that refuses older generations
// (deploy/policies/helmrelease-fence.yaml).
const fence = "orkestra-helmrelease-fence"

// writer does what was decided. Every write is fenced by what it was decided on:
// a release is created where there was none and updated or deleted at the
// resourceVersion that was seen, so that a look that was overtaken, by a newer
// generation or another replica, writes nothing. Server-side apply could not
// promise that: it merges into what another workflow has made in between.
type writer struct {
	reader *reader
	client client.Client
	log    *slog.Logger
	count  func(action string)
	// later has a workflow looked at again in a while: nodes that are done wait for others.
	later func(workflow, group string, wait time.Duration)
	// began hears of each release that was written.
	began func(*helmv2.HelmRelease)
}

// refusal is an object that the API server does not take, and never will as it is.
type refusal struct{ error }

// begun is what became of one node that was to be begun.
type begun struct {
	task string
	// key of the node's release.
	key execute.Key
	// note what is there now; only where there is no error.
	note func()
	// overtaken: it is not what it was decided on any more, and nothing was written.
	overtaken bool
	err       error
}

// apply writes a release.
func (w *writer) apply(ctx context.Context, s *seen, a execute.Apply) begun {
	b := begun{task: a.Node.Task, key: execute.KeyOf(a.Release)}
	if b.err = w.ensure(ctx, a.Needs, s.Rollout); b.err != nil {
		return b
	}
	created := a.Release.ResourceVersion == ""
	if created {
		b.err = w.client.Create(ctx, a.Release, client.FieldOwner(fieldManager))
	} else {
		b.err = w.client.Update(ctx, a.Release, client.FieldOwner(fieldManager))
	}
	switch {
	case b.err == nil:
		b.note = func() { s.Releases[b.key] = a.Release }
		w.reader.recent.wroteRelease(a.Release)
		w.began(a.Release)
		w.did(s, "apply", a.Node, slog.String("release", b.key.String()), slog.Bool("created", created), slog.Bool("ahead", a.Node.ID == ""))
	case isOvertaken(b.err, created), isFenced(b.err) && !s.again:
		b.overtaken, b.err = true, nil
	default:
		b.err = classify(fmt.Errorf("writing HelmRelease %s: %w", b.key, b.err))
	}
	return b
}

// isOvertaken: somebody else has made, changed or deleted the object since.
func isOvertaken(err error, created bool) bool {
	return apierrors.IsAlreadyExists(err) || apierrors.IsConflict(err) || apierrors.IsNotFound(err) && !created
}

// isFenced: a newer generation of the group has written the release. Who looks
// again mostly finds that the group has moved on.
func isFenced(err error) bool { return err != nil && strings.Contains(err.Error(), fence) }

// remove deletes a release, after it was marked as this workflow's.
func (w *writer) remove(ctx context.Context, s *seen, d execute.Delete) begun {
	b := begun{task: d.Node.Task, key: execute.KeyOf(d.Release)}
	have := d.Release
	if d.Mark != nil {
		have = d.Mark
		b.err = w.client.Update(ctx, have, client.FieldOwner(fieldManager))
	}
	if b.err == nil && have.DeletionTimestamp == nil {
		b.err = w.client.Delete(ctx, have, client.Preconditions{UID: &have.UID, ResourceVersion: &have.ResourceVersion})
	}
	switch {
	case b.err == nil:
		w.did(s, "delete", d.Node, slog.String("release", b.key.String()), slog.Bool("ahead", d.Node.ID == ""))
		gone := going(have, s.Now)
		if gone != nil {
			w.reader.recent.wroteRelease(gone)
		}
		b.note = func() { s.Releases[b.key] = gone }
	case isOvertaken(b.err, false), isFenced(b.err) && !s.again:
		b.overtaken, b.err = true, nil
	default:
		b.err = classify(fmt.Errorf("deleting HelmRelease %s: %w", b.key, b.err))
	}
	return b
}

// going is a release after its deletion; nil where nothing holds it.
func going(hr *helmv2.HelmRelease, now time.Time) *helmv2.HelmRelease {
	if len(hr.Finalizers) == 0 {
		return nil
	}
	hr = hr.DeepCopy()
	hr.DeletionTimestamp = &metav1.Time{Time: now}
	return hr
}

// classify tells a refusal from what may pass. A namespace that is on its way out
// forbids what it will not forbid when it is made again.
func classify(err error) error {
	switch {
	case apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause):
		return events.RetryAfter(retryDelay, err)
	case apierrors.IsInvalid(err), apierrors.IsBadRequest(err), apierrors.IsForbidden(err),
		apierrors.IsRequestEntityTooLargeError(err), apierrors.IsMethodNotSupported(err):
		return refusal{err}
	default:
		return err
	}
}

// settle tells Argo the ends of all nodes in one patch, like Argo's own
// util.SetWorkflow does for one: on the nodes as they are, and again on those that
// are left where somebody else wrote in between.
func (w *writer) settle(ctx context.Context, s *seen, settle []execute.Settle) error {
	for _, end := range settle {
		if end.StorageNamespace != "" {
			if err := w.removeStorage(ctx, end.StorageNamespace, s.Rollout.Group); err != nil {
				return err
			}
		}
	}
	for range maxConflicts {
		changed, count := execute.Settled(s.Workflow, settle, w.reader.now())
		if count == 0 {
			return nil
		}
		if err := packer.CompressWorkflowIfNeeded(changed); err != nil {
			return fmt.Errorf("compressing workflow %s: %w", changed.Name, err)
		}
		changed.ManagedFields = unmanaged()
		err := w.client.Patch(ctx, changed, client.MergeFromWithOptions(s.stored, client.MergeFromWithOptimisticLock{}))
		if err == nil {
			w.reader.recent.wroteWorkflow(changed)
			for _, end := range settle {
				w.did(s, "settle", end.Node, slog.String("phase", string(end.Phase)), slog.String("message", end.Message))
			}
			return nil
		}
		if apierrors.IsNotFound(err) {
			return events.Superseded("the end of workflow " + s.Workflow.Name)
		}
		if !apierrors.IsConflict(err) {
			return fmt.Errorf("settling %d nodes of workflow %s: %w", count, s.Workflow.Name, err)
		}
		if err := w.reader.reread(ctx, s); err != nil {
			return err
		}
	}
	return events.RetryAfter(retryDelay, fmt.Errorf("settling nodes of workflow %s: %w", s.Workflow.Name, errConflicts))
}

// unmanaged has the API server forget who wrote which field of an object, and not begin anew. Of a workflow that
// record grows with the nodes, and each write brings all of it up to date; nobody applies workflows, so nobody is to
// be told of a conflict.
// https://kubernetes.io/docs/reference/using-api/server-side-apply/#clearing-managedfields
func unmanaged() []metav1.ManagedFieldsEntry { return []metav1.ManagedFieldsEntry{{}} }

// did is the log line and the metric of one action.
func (w *writer) did(s *seen, action string, n execute.Node, attrs ...any) {
	w.count(action)
	w.log.With(attrs...).Info(action, "group", s.Rollout.Group, "generation", s.Rollout.Generation,
		"workflow", s.Workflow.Name, "task", n.Task)
}

const (
	// maxConflicts in one look; each means that somebody else got something done.
	maxConflicts = 8
	// retryDelay is how long what is in the way is given to go away.
	retryDelay = time.Second
)

// errConflicts: somebody else writes what we write, faster than we read.
var errConflicts = errors.New("too many conflicts in one look")
