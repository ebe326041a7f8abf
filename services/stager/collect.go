package stager

import (
	"context"
	"errors"
	"fmt"
	"time"

	helmv2 "github.com/fluxcd/helm-controller/api/v2"
	sourcev1 "github.com/fluxcd/source-controller/api/v1"
	appsv1 "k8s.io/api/apps/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"orkestra.dev/api/v1alpha1"
	"orkestra.dev/pkg/events"
	"orkestra.dev/pkg/service/groupstatus"
	"orkestra.dev/services/stager/archive"
	"orkestra.dev/services/stager/retention"
	"orkestra.dev/services/stager/stage"
)

// page is how many objects are read at a time. A revision may have a MiB.
const page = 50

// collector removes staged charts that nothing needs any more. Any number may run side
// by side: what the one has marked or deleted, the other finds so.
type collector struct {
	*stager
	every, grace time.Duration
}

// run sweeps now and then, until it is told to stop.
func (c *collector) run(ctx context.Context) error {
	c.nowAndThen(ctx, c.every, "not all staged charts that are unused were collected", c.sweep)
	return nil
}

// nowAndThen does something every so often, until ctx is done, and logs what goes wrong.
func (s *stager) nowAndThen(ctx context.Context, every time.Duration, trouble string, do func(context.Context) error) {
	again := time.NewTicker(every)
	defer again.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-again.C:
		}
		if err := do(ctx); err != nil && ctx.Err() == nil {
			s.log.WarnContext(ctx, trouble, "err", err)
		}
	}
}

// sweep looks at everything once. What cannot be done now the next one does.
func (c *collector) sweep(ctx context.Context) error {
	s, groups, err := c.observe(ctx)
	if err != nil {
		return err
	}
	now := c.now()
	d := retention.Decide(s, now, c.grace)
	var errs []error
	for _, chart := range d.Mark {
		errs = append(errs, c.mark(ctx, chart, fmt.Sprintf("%q", now.UTC().Format(time.RFC3339))))
	}
	for _, chart := range d.Unmark {
		errs = append(errs, c.mark(ctx, chart, "null"))
	}
	for _, chart := range d.Delete {
		errs = append(errs, c.delete(ctx, chart))
	}
	for i := range groups {
		if s.Settled[string(groups[i].UID)] {
			errs = append(errs, c.tidy(ctx, &groups[i], s.Charts))
		}
	}
	return errors.Join(errs...)
}

// observe reads the HelmCharts first, and then who needs them.
func (c *collector) observe(ctx context.Context) (retention.State, []v1alpha1.ApplicationGroup, error) {
	s := retention.State{Settled: map[string]bool{}, Used: map[string]bool{}}
	var charts sourcev1.HelmChartList
	if err := c.client.List(ctx, &charts, client.InNamespace(c.namespace), ours(), client.UnsafeDisableDeepCopy); err != nil {
		return s, nil, fmt.Errorf("listing HelmCharts: %w", err)
	}
	for i := range charts.Items {
		s.Charts = append(s.Charts, observed(&charts.Items[i]))
	}
	var groups v1alpha1.ApplicationGroupList
	if err := c.client.List(ctx, &groups); err != nil {
		return s, nil, fmt.Errorf("listing groups: %w", err)
	}
	recorded := map[events.Rollout]bool{}
	if err := c.revisions(ctx, recorded, s.Used); err != nil {
		return s, nil, err
	}
	if err := c.releases(ctx, s.Used); err != nil {
		return s, nil, err
	}
	for i := range groups.Items {
		s.Settled[string(groups.Items[i].UID)] = settled(&groups.Items[i], recorded)
	}
	return s, groups.Items, nil
}

func ours() client.MatchingLabels {
	return client.MatchingLabels{v1alpha1.LabelHeritage: v1alpha1.Heritage}
}

func observed(h *sourcev1.HelmChart) retention.Chart {
	c := retention.Chart{
		Name: h.Name, UID: string(h.UID), ResourceVersion: h.ResourceVersion, Leaving: leaving(h),
		Repository: h.Spec.SourceRef.Name,
		Archive:    retention.Archive{Name: h.Spec.Chart, Version: h.Spec.Version},
	}
	for _, r := range h.OwnerReferences {
		if r.Kind == v1alpha1.Kind {
			c.Group = string(r.UID)
		}
	}
	// A mark that is none is as good as none: it is written anew.
	if since, err := time.Parse(time.RFC3339, h.Annotations[v1alpha1.AnnotationUnusedSince]); err == nil {
		c.UnusedSince = since
	}
	return c
}

// settled tells whether the compiler has recorded the group's current rollout: until
// then nobody knows what the rollout needs, but the events that are on their way.
func settled(g *v1alpha1.ApplicationGroup, recorded map[events.Rollout]bool) bool {
	r := groupstatus.RolloutOf(g)
	return leaving(g) || recorded[r] || g.Status.LastUnchangedRollout == r.ID()
}

// revisions adds what a rollback could go to, and which rollouts are recorded.
func (c *collector) revisions(ctx context.Context, recorded map[events.Rollout]bool, used map[string]bool) error {
	var list appsv1.ControllerRevisionList
	return c.pages(ctx, &list, "revisions", func() error {
		for i := range list.Items {
			r, err := retention.RevisionOf(list.Items[i].Data.Raw)
			if err != nil {
				return fmt.Errorf("in ControllerRevision %s: %w", list.Items[i].Name, err)
			}
			recorded[r.Rollout] = true
			for _, name := range r.HelmCharts {
				used[name] = true
			}
		}
		return nil
	}, client.InNamespace(c.namespace), ours())
}

// releases adds what is installed, whoever made the HelmRelease.
func (c *collector) releases(ctx context.Context, used map[string]bool) error {
	var list helmv2.HelmReleaseList
	return c.pages(ctx, &list, "HelmReleases", func() error {
		for i := range list.Items {
			ref := list.Items[i].Spec.ChartRef
			if ref == nil || ref.Kind != sourcev1.HelmChartKind {
				continue
			}
			if ref.Namespace == c.namespace || ref.Namespace == "" && list.Items[i].Namespace == c.namespace {
				used[ref.Name] = true
			}
		}
		return nil
	})
}

// pages lists a page at a time, so that not all of it is in memory at once.
func (c *collector) pages(ctx context.Context, list client.ObjectList, what string, visit func() error, opts ...client.ListOption) error {
	for {
		more := append([]client.ListOption{client.Limit(page), client.Continue(list.GetContinue())}, opts...)
		if err := c.client.List(ctx, list, more...); err != nil {
			return fmt.Errorf("listing %s: %w", what, err)
		}
		if err := visit(); err != nil || list.GetContinue() == "" {
			return err
		}
	}
}

// mark writes the mark, or takes it off, if nobody has changed the HelmChart since.
func (c *collector) mark(ctx context.Context, chart retention.Chart, value string) error {
	patch := fmt.Appendf(nil, `{"metadata":{"uid":%q,"resourceVersion":%q,"annotations":{%q:%s}}}`,
		chart.UID, chart.ResourceVersion, v1alpha1.AnnotationUnusedSince, value)
	err := c.client.Patch(ctx, c.object(chart.Name), client.RawPatch(types.MergePatchType, patch), client.FieldOwner(fieldManager))
	return unlessMoved(err, "marking HelmChart "+chart.Name)
}

// delete deletes a HelmChart if nobody has changed it since: whoever stages a chart
// takes the mark off before it counts on it.
func (c *collector) delete(ctx context.Context, chart retention.Chart) error {
	uid := types.UID(chart.UID)
	err := c.client.Delete(ctx, c.object(chart.Name), client.Preconditions{UID: &uid, ResourceVersion: &chart.ResourceVersion})
	if err == nil {
		c.log.InfoContext(ctx, "collected", "helmChart", chart.Name, "chart", chart.Archive.Name, "version", chart.Archive.Version)
	}
	return unlessMoved(err, "deleting HelmChart "+chart.Name)
}

func (c *collector) object(name string) *sourcev1.HelmChart {
	return &sourcev1.HelmChart{ObjectMeta: metav1.ObjectMeta{Namespace: c.namespace, Name: name}}
}

// unlessMoved passes over what somebody else was faster with.
func unlessMoved(err error, doing string) error {
	if err == nil || apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
		return nil
	}
	return fmt.Errorf("%s: %w", doing, err)
}

// tidy has ChartMuseum hold the archives of a group that HelmCharts name, and no others.
func (c *collector) tidy(ctx context.Context, group *v1alpha1.ApplicationGroup, charts []retention.Chart) error {
	stored, err := c.museum.Stored(ctx, group.Name)
	if err != nil {
		return err
	}
	return errors.Join(c.restock(ctx, group, stored, charts), c.empty(ctx, group, stored, charts))
}

// empty removes the archives of a group that no HelmChart names any more.
func (c *collector) empty(ctx context.Context, group *v1alpha1.ApplicationGroup, stored map[retention.Archive]time.Time, charts []retention.Chart) error {
	for _, a := range retention.Archives(stored, charts, string(group.UID), group.Name, c.now(), c.grace) {
		switch moved, err := c.moved(ctx, group); {
		case err != nil:
			return err
		case moved:
			return nil // it is being staged, or gone
		}
		if err := c.take(ctx, group, a); err != nil {
			return err
		}
		c.log.InfoContext(ctx, "collected", "group", group.Name, "chart", a.Name, "version", a.Version)
	}
	return nil
}

// take removes an archive, and puts it back where the group has moved on meanwhile: who stages it
// then may have seen that the archive was there.
func (c *collector) take(ctx context.Context, group *v1alpha1.ApplicationGroup, a retention.Archive) error {
	data, err := c.museum.Archive(ctx, group.Name, museumChart(a))
	if _, gone := errors.AsType[notThere](err); gone {
		return nil
	}
	if err != nil {
		return err
	}
	if err := c.museum.Remove(ctx, group.Name, museumChart(a)); err != nil {
		return err
	}
	switch now, err := c.current(ctx, groupstatus.RolloutOf(group)); {
	case err == nil:
		return nil
	case events.IsSuperseded(err) && (now == nil || now.UID != group.UID || leaving(now)):
		return nil // nobody stages it again
	}
	if _, err := c.museum.Push(ctx, group.Name, stage.Piece{Chart: a.Name, Version: a.Version, Archive: data, Digest: archive.Digest(data)}); err != nil {
		return err
	}
	return c.leaveNothing(ctx, groupstatus.RolloutOf(group))
}

// moved tells whether a group is not what it was seen as any more.
func (c *collector) moved(ctx context.Context, group *v1alpha1.ApplicationGroup) (bool, error) {
	_, err := c.current(ctx, groupstatus.RolloutOf(group))
	if events.IsSuperseded(err) {
		return true, nil
	}
	return false, err
}
