// Package events is how Orkestra's services speak to each other: the types of
// the facts, their payloads, ids, subjects and schemas, and a publisher and a
// consumer on NATS JetStream.
//
// Kubernetes is the truth, an event is a hint plus a receipt. Whoever hears one
// reads again what it is about before acting, and says Superseded where the
// world has moved on.
//
//	bus, err := events.Connect(ctx, events.Options{URL: url, Source: "orkestra://prod/stager"})
//	err = bus.EnsureTopology(ctx)
//	err = bus.Consume(ctx, "stager", 4, func(ctx context.Context, f events.Fact) ([]events.Fact, error) {
//		desired, ok := f.Data.(events.GroupDesired)
//		if !ok {
//			return nil, nil // not for us
//		}
//		staged, err := stage(ctx, f.Rollout, desired)
//		if err != nil {
//			return nil, err // Terminal, RetryAfter, Superseded; anything else is retried
//		}
//		return []events.Fact{events.New(f.Rollout, staged)}, nil
//	})
//
// What a handler returns is published first and the event acknowledged then, in
// one place; a death in between repeats the handler, and because ids are a
// function of what is said, what it says the second time is stored once.
package events

//go:generate go run ./internal/generate
