package events_test

import shown "orkestra.dev/pkg/events/internal/examples"

var (
	rollout  = shown.Rollout
	examples = shown.Payloads()
)
