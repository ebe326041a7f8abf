package stager

import (
	"context"
	"fmt"
	"time"

	"orkestra.dev/api/v1alpha1"
	"orkestra.dev/pkg/service/groupstatus"
	"orkestra.dev/services/stager/retention"
)

// restock brings archives back that HelmCharts of a settled group name and ChartMuseum has lost, such as with its disk. helm-controller
// fetches a chart again whenever it looks at its release. What the group's spec leads to is fetched and pushed as in a
// rollout; the archives of older revisions are not to be had that way.
func (c *collector) restock(ctx context.Context, group *v1alpha1.ApplicationGroup, stored map[retention.Archive]time.Time, charts []retention.Chart) error {
	lost := retention.Lost(stored, charts, string(group.UID))
	if len(lost) == 0 {
		return nil
	}
	if moved, err := c.moved(ctx, group); err != nil || moved {
		return err // it is being staged, or is going, or its repository was emptied
	}
	o := &outcomes{apps: c.prepare(ctx, group)}
	pushed := 0
	if !o.failed() {
		pushed = c.place(ctx, group.Name, o)
	}
	c.log.WarnContext(ctx, "ChartMuseum has lost staged charts", "group", group.Name, "lost", len(lost), "pushed", pushed)
	if err := c.leaveNothing(ctx, groupstatus.RolloutOf(group)); err != nil {
		return err
	}
	if o.err != nil {
		return o.err
	}
	for i, a := range o.apps {
		if a.err != nil {
			return fmt.Errorf("staging group %s again: %s", group.Name, explain(&group.Spec.Applications[i], a.err))
		}
	}
	return nil
}
