package executor

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"orkestra.dev/api/v1alpha1"
	"orkestra.dev/pkg/events"
	"orkestra.dev/pkg/plan"
	"orkestra.dev/pkg/plan/outcome"
	"orkestra.dev/services/executor/execute"
)

// pollInterval is how often what nobody tells of is looked at.
const pollInterval = time.Second

// stillOpen says that steps of a workflow are under way of which no event will
// tell: Jobs, waits for any object, and releases whose expression does not hold.
type stillOpen struct {
	// tasks of those steps, those that were activated first at the front.
	tasks []string
	// polled are all tasks of the workflow that may come to be such.
	polled map[string]bool
	// rest is what else came of the look.
	rest error
}

func (e *stillOpen) Error() string {
	return fmt.Sprintf("waiting for %d steps, the first of which is %s", len(e.tasks), e.tasks[0])
}

func (e *stillOpen) Unwrap() error { return e.rest }

// polled are the tasks of a plan that may be looked at again without an event.
func polled(nodes map[string]plan.Node) map[string]bool {
	out := map[string]bool{}
	for task, n := range nodes {
		if n.Kind == plan.Job || n.Kind == plan.Wait || n.ReadyExpr != "" {
			out[task] = true
		}
	}
	return out
}

// carryOn makes one event of a workflow come back while steps are open of which
// nobody will tell, and ends all others: the event of the step that was activated
// first, and when that is done the same event for those that are left. What else
// failed is told first: it makes the event come back, too.
func carryOn(f events.Fact, task string, err error) error {
	open, ok := errors.AsType[*stillOpen](err)
	if !ok {
		return err
	}
	if open.rest != nil && !events.IsSuperseded(open.rest) {
		return open.rest
	}
	first := task == open.tasks[0]
	heir := f.Attempt > 1 && open.polled[task] && !slices.Contains(open.tasks, task)
	if first || heir {
		return events.RetryAfter(pollInterval, errors.New(open.Error()))
	}
	return open.rest
}

// readSteps reads, live, what the waiting tasks are about that are not only about
// the release in the informer.
func (r *reader) readSteps(ctx context.Context, s *seen, waiting []string) error {
	var mu sync.Mutex
	jobs, objects, releases := map[string]*batchv1.Job{}, map[string]execute.Object{}, map[execute.Key]struct{}{}
	reads, ctx := errgroup.WithContext(ctx)
	reads.SetLimit(parallelCalls)
	for _, task := range waiting {
		n, planned := s.Plan[task]
		switch {
		case !planned:
		case n.Kind == plan.Job && n.Action == plan.Install:
			reads.Go(func() error {
				job, err := r.job(ctx, client.ObjectKeyFromObject(n.Job))
				mu.Lock()
				defer mu.Unlock()
				jobs[task] = job
				return err
			})
		case n.Kind == plan.Wait && n.Action == plan.Install:
			reads.Go(func() error {
				object, err := r.object(ctx, *n.Wait)
				mu.Lock()
				defer mu.Unlock()
				objects[task] = object
				return err
			})
		case r.wantsWhole(n, s):
			releases[execute.KeyOf(n.Release)] = struct{}{}
		}
	}
	for _, key := range slices.Collect(maps.Keys(releases)) {
		reads.Go(func() error {
			hr, err := r.release(ctx, key)
			mu.Lock()
			defer mu.Unlock()
			s.Releases[key] = hr
			return err
		})
	}
	s.Prepared = map[string]bool{}
	err := reads.Wait()
	s.Jobs, s.Objects = jobs, objects
	return err
}

// readsMore: readSteps may read something for such a node, or forgets what was prepared for it.
func readsMore(n plan.Node) bool {
	return n.Kind == plan.Job || n.Kind == plan.Wait || n.Kind == plan.Prepare || n.ReadyExpr != ""
}

// wantsWhole: the informer leaves out what an expression may look at, and may be
// behind a pod that has just deleted a release.
func (r *reader) wantsWhole(n plan.Node, s *seen) bool {
	have := s.Releases[execute.KeyOf(n.Release)]
	if n.Action == plan.Delete {
		return n.Kind == plan.Prepare && have != nil
	}
	return n.ReadyExpr != "" && have != nil && outcome.Of(have).Phase == outcome.Ready
}

// job is nil where there is none of that name.
func (r *reader) job(ctx context.Context, key client.ObjectKey) (*batchv1.Job, error) {
	job := &batchv1.Job{}
	err := r.live.Get(ctx, key, job)
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading Job %s: %w", key, err)
	}
	return job, nil
}

// object reads what a step waits for. That it cannot be read may pass, and holds
// up no other step.
func (r *reader) object(ctx context.Context, want v1alpha1.WaitFor) (execute.Object, error) {
	u := &unstructured.Unstructured{}
	u.SetAPIVersion(want.APIVersion)
	u.SetKind(want.Kind)
	err := r.live.Get(ctx, client.ObjectKey{Namespace: want.Namespace, Name: want.Name}, u)
	switch {
	case err == nil:
		return execute.Object{Content: u.Object}, nil
	case ctx.Err() != nil:
		return execute.Object{}, ctx.Err()
	case apierrors.IsNotFound(err):
		return execute.Object{}, nil
	case meta.IsNoMatchError(err):
		return execute.Object{Problem: "the API server does not know its kind"}, nil
	default:
		return execute.Object{Problem: "it cannot be read: " + err.Error()}, nil
	}
}

// ensure makes what must be there before a release or a Job.
func (w *writer) ensure(ctx context.Context, needs execute.Needs, rollout events.Rollout) error {
	for _, ns := range needs.Namespaces {
		if err := w.ensureNamespace(ctx, ns, rollout); err != nil {
			return err
		}
	}
	if needs.Values == nil {
		return nil
	}
	return w.ensureValues(ctx, needs.Values)
}

// ensureValues makes a Secret with values. It is named by what it holds, so that
// one that is there is right, unless somebody else has made it.
func (w *writer) ensureValues(ctx context.Context, want *corev1.Secret) error {
	key := client.ObjectKeyFromObject(want)
	err := w.client.Create(ctx, want.DeepCopy(), client.FieldOwner(fieldManager))
	if err == nil {
		return nil
	}
	if !apierrors.IsAlreadyExists(err) {
		return classify(fmt.Errorf("creating the values Secret %s: %w", key, err))
	}
	have := &corev1.Secret{}
	err = w.reader.live.Get(ctx, key, have)
	switch {
	case apierrors.IsNotFound(err):
		return events.RetryAfter(retryDelay, fmt.Errorf("the values Secret %s is there and is not", key))
	case err != nil:
		return fmt.Errorf("reading the values Secret %s: %w", key, err)
	case have.DeletionTimestamp != nil:
		return events.RetryAfter(retryDelay, fmt.Errorf("the values Secret %s is being deleted", key))
	case !sameValues(want, have):
		return refusal{fmt.Errorf("its values Secret %s is there already and was not made by Orkestra for this group: delete it", key)}
	}
	return nil
}

// sameValues: nobody can have changed a Secret that is immutable.
func sameValues(want, have *corev1.Secret) bool {
	return have.Immutable != nil && *have.Immutable &&
		have.Labels[v1alpha1.LabelHeritage] == v1alpha1.Heritage &&
		have.Labels[v1alpha1.LabelOwner] == want.Labels[v1alpha1.LabelOwner] &&
		maps.EqualFunc(have.Data, dataOf(want), slices.Equal)
}

// dataOf is what the API server makes of a Secret's data.
func dataOf(s *corev1.Secret) map[string][]byte {
	out := maps.Clone(s.Data)
	if out == nil {
		out = map[string][]byte{}
	}
	for k, v := range s.StringData {
		out[k] = []byte(v)
	}
	return out
}

// prepare makes what the HelmRelease of a pod needs.
func (w *writer) prepare(ctx context.Context, s *seen, p execute.Prepare) begun {
	b := begun{task: p.Node.Task, note: func() { s.Prepared[p.Node.Task] = true }}
	if b.err = w.ensure(ctx, p.Needs, s.Rollout); b.err == nil {
		w.did(s, "prepare", p.Node)
	}
	return b
}

// run creates a Job, after the one that an earlier workflow ran without success
// is deleted.
func (w *writer) run(ctx context.Context, s *seen, r execute.Run) begun {
	key := client.ObjectKeyFromObject(r.Job)
	b := begun{task: r.Node.Task, key: execute.KeyOf(s.Plan[r.Node.Task].Release)}
	if b.err = w.ensure(ctx, r.Needs, s.Rollout); b.err != nil {
		return b
	}
	if r.Failed != nil {
		b.err = w.client.Delete(ctx, r.Failed, client.Preconditions{UID: &r.Failed.UID, ResourceVersion: &r.Failed.ResourceVersion},
			client.PropagationPolicy(metav1.DeletePropagationBackground))
	}
	if b.err == nil {
		b.err = w.client.Create(ctx, r.Job, client.FieldOwner(fieldManager))
	}
	switch {
	case b.err == nil:
		b.note = func() { s.Jobs[r.Node.Task] = r.Job }
		w.did(s, "run", r.Node, slog.String("job", key.String()))
	case isOvertaken(b.err, r.Failed == nil):
		b.overtaken, b.err = true, nil
	default:
		b.err = classify(fmt.Errorf("creating Job %s: %w", key, b.err))
	}
	return b
}
