package watcher

import (
	"context"

	"orkestra.dev/api/v1alpha1"
	"orkestra.dev/pkg/service/groupevent"
	"orkestra.dev/pkg/service/groupstatus"
	"orkestra.dev/services/watcher/observe"
)

// announce tells the turns of a group as Kubernetes events.
func (r *groups) announce(ctx context.Context, group *v1alpha1.ApplicationGroup, status groupstatus.Status) error {
	for _, turn := range observe.Turns(group, status) {
		if err := groupevent.Tell(ctx, r.client, fieldManager, group, turn, r.now()); err != nil {
			return err
		}
	}
	return nil
}
