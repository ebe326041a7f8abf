package compiler

import (
	"context"
	"errors"
	"fmt"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"orkestra.dev/api/v1alpha1"
	"orkestra.dev/pkg/events"
	"orkestra.dev/pkg/service/groupstatus"
	"orkestra.dev/pkg/values"
)

// lookForValues is when to look again for values that are not there.
const lookForValues = 10 * time.Second

// values of every application that takes some from elsewhere, as they are now. Where
// a reference gives none the group says so, and is looked at again.
func (c *compiler) values(ctx context.Context, group *v1alpha1.ApplicationGroup) (map[string]map[string]any, error) {
	out := map[string]map[string]any{}
	for i := range group.Spec.Applications {
		app := &group.Spec.Applications[i]
		if len(app.Spec.Release.ValuesFrom) == 0 {
			continue
		}
		resolved, err := values.Resolve(ctx, c.client, app.Spec.Release.TargetNamespace, &app.Spec.Release)
		if err == nil {
			out[app.Name] = resolved
			continue
		}
		err = fmt.Errorf("application %s: %w", app.Name, err)
		if _, missing := errors.AsType[*values.MissingError](err); !missing {
			return nil, err
		}
		if err := c.say(ctx, group, groupstatus.Status{}, metav1.ConditionFalse, v1alpha1.ReasonValuesNotFound, err.Error()); err != nil {
			return nil, err
		}
		return nil, events.RetryAfter(lookForValues, err)
	}
	return out, nil
}
