package events

import "time"

// outcome of one delivery, the label of orkestra_events_handled_total.
type outcome string

const (
	outcomeDone        outcome = "done"
	outcomeSuperseded  outcome = "superseded"
	outcomeRetried     outcome = "retried"
	outcomeWaiting     outcome = "waiting"
	outcomeDead        outcome = "dead"
	outcomeInterrupted outcome = "interrupted"
)

// visit is what is known when a handler has returned.
type visit struct {
	// failed attempts before this one.
	failed uint64
	// age of the event since it was stored.
	age time.Duration
	// stopping: the handler's context was taken away by a shutdown.
	stopping bool
	err      error
}

// limits are the options that bound repetition.
type limits struct {
	attempts uint64
	wait     time.Duration
	backoff  func(uint64) time.Duration
}

// action is what happens to the event.
type action struct {
	outcome outcome
	// delay before it is delivered again.
	delay time.Duration
	// excused: this delivery is not counted as a failed attempt.
	excused bool
	// reason of a dead letter.
	reason string
}

// next classifies an error, once.
func next(v visit, l limits) action {
	delay, waiting := RetryDelay(v.err)
	if delay <= 0 {
		delay = l.backoff(v.failed + 1)
	}
	switch {
	case v.err == nil:
		return action{outcome: outcomeDone}
	case IsSuperseded(v.err):
		return action{outcome: outcomeSuperseded}
	case IsTerminal(v.err):
		return action{outcome: outcomeDead, reason: TerminalReason(v.err)}
	case v.stopping:
		return action{outcome: outcomeInterrupted, excused: true}
	case waiting && v.age+delay > l.wait:
		return action{outcome: outcomeDead, reason: ReasonWaitedTooLong}
	case waiting:
		return action{outcome: outcomeWaiting, delay: delay, excused: true}
	case v.failed+1 >= l.attempts:
		return action{outcome: outcomeDead, reason: ReasonTooManyAttempts}
	default:
		return action{outcome: outcomeRetried, delay: delay}
	}
}
