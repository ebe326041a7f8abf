package executor

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"time"

	"github.com/argoproj/argo-workflows/v3/pkg/apis/workflow"
	wfv1 "github.com/argoproj/argo-workflows/v3/pkg/apis/workflow/v1alpha1"
	"golang.org/x/sync/errgroup"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"orkestra.dev/api/v1alpha1"
	"orkestra.dev/services/executor/execute"
)

// parallelLooks of one resync.
const parallelLooks = 4

// resync looks at every workflow that runs, now and then: an event may be lost,
// with all of NATS, or with a watcher that was away when a release was deleted; and Argo
// may have missed what we wrote.
type resync struct {
	live      client.Reader
	client    client.Client
	reader    *reader
	now       func() time.Time
	namespace string
	every     time.Duration
	plans     *plans
	own       *own
	wakes     *wakes
	log       *slog.Logger
}

func (r *resync) run(ctx context.Context) error {
	for {
		// Replicas do not look at the same time.
		wait := time.NewTimer(r.every - r.every/5 + rand.N(2*r.every/5))
		select {
		case <-ctx.Done():
			wait.Stop()
			return nil
		case <-wait.C:
		}
		if err := ignoreEnded(r.once(ctx)); err != nil {
			r.log.Warn("looking at running workflows", "error", err)
		}
	}
}

func (r *resync) once(ctx context.Context) error {
	list := &metav1.PartialObjectMetadataList{}
	list.SetGroupVersionKind(wfv1.SchemeGroupVersion.WithKind(workflow.WorkflowKind + "List"))
	if err := r.live.List(ctx, list, client.InNamespace(r.namespace), client.MatchingLabelsSelector{Selector: unfinished()}); err != nil {
		return fmt.Errorf("listing running workflows: %w", err)
	}
	uids := make(map[types.UID]bool, len(list.Items))
	var looks errgroup.Group
	looks.SetLimit(parallelLooks)
	for _, wf := range list.Items {
		uids[wf.UID] = true
		looks.Go(func() error {
			if err := ignoreEnded(r.wakes.do(ctx, wake{workflow: wf.Name, live: true, version: wf.ResourceVersion})); err != nil {
				r.log.Warn("looking at a running workflow", "group", wf.Labels[v1alpha1.LabelOwner], "workflow", wf.Name, "error", err)
			}
			if err := ignoreEnded(r.nudge(ctx, &wf)); err != nil {
				r.log.Warn("looking whether Argo goes on", "group", wf.Labels[v1alpha1.LabelOwner], "workflow", wf.Name, "error", err)
			}
			return nil
		})
	}
	err := looks.Wait()
	r.plans.keep(uids)
	r.reader.unpacked.keep(uids)
	r.own.keep(uids)
	return err
}

// nudge writes to a workflow with which Argo does not go on, so that Argo sees it anew.
func (r *resync) nudge(ctx context.Context, listed *metav1.PartialObjectMetadata) error {
	name := listed.Name
	s := &seen{}
	err := r.reader.hearsay(ctx, s, wake{workflow: name, live: true, version: listed.ResourceVersion})
	if err == nil && s.stored == nil {
		if s.stored, err = r.reader.workflow(ctx, name); err == nil {
			err = r.reader.hydrate(s)
		}
	}
	if err != nil {
		return err
	}
	stored := s.stored
	if !execute.Stalled(s.Workflow, r.now()) {
		return nil
	}
	r.log.Info("nudging Argo", "group", stored.Labels[v1alpha1.LabelOwner], "workflow", name)
	patch := fmt.Appendf(nil, `{"metadata":{"annotations":{%q:%q}}}`, v1alpha1.AnnotationNudgedAt, r.now().UTC().Format(time.RFC3339Nano))
	if err := r.client.Patch(ctx, stored.DeepCopy(), client.RawPatch(types.MergePatchType, patch), client.FieldOwner(fieldManager)); client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("nudging workflow %s: %w", name, err)
	}
	return nil
}

// unfinished selects our workflows that Argo has not ended.
func unfinished() labels.Selector {
	selector, err := labels.Parse(v1alpha1.LabelOwner + "," + workflow.WorkflowFullName + "/completed!=true")
	utilruntime.Must(err) // of constants
	return selector
}
