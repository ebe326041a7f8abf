package events

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go/jetstream"
)

func TestNext(t *testing.T) {
	plain := errors.New("no")
	l := limits{attempts: 3, wait: time.Hour, backoff: func(n uint64) time.Duration { return time.Duration(n) * time.Second }}
	cases := map[string]struct {
		reason string
		visit  visit
		want   action
	}{
		"Done":            {"no error is done", visit{}, action{outcome: outcomeDone}},
		"Retried":         {"any error is tried again after the backoff of its attempt", visit{failed: 1, err: plain}, action{outcome: outcomeRetried, delay: 2 * time.Second}},
		"LastAttempt":     {"the last attempt is the dead letter, with the error at hand", visit{failed: 2, err: plain}, action{outcome: outcomeDead, reason: ReasonTooManyAttempts}},
		"Terminal":        {"terminal is not tried again", visit{err: fmt.Errorf("x: %w", Terminal("Bad", plain))}, action{outcome: outcomeDead, reason: "Bad"}},
		"Superseded":      {"superseded is no failure, even the last time", visit{failed: 2, err: fmt.Errorf("x: %w", Superseded("4"))}, action{outcome: outcomeSuperseded}},
		"Waiting":         {"waiting is excused", visit{failed: 2, err: fmt.Errorf("x: %w", RetryAfter(time.Minute, plain))}, action{outcome: outcomeWaiting, delay: time.Minute, excused: true}},
		"WaitingBackoff":  {"without a delay, waiting takes the backoff", visit{failed: 2, err: RetryAfter(0, nil)}, action{outcome: outcomeWaiting, delay: 3 * time.Second, excused: true}},
		"WaitedTooLong":   {"waiting ends with the age", visit{age: time.Hour, err: RetryAfter(time.Second, plain)}, action{outcome: outcomeDead, reason: ReasonWaitedTooLong}},
		"TerminalWaiting": {"terminal outranks waiting", visit{err: Terminal("Bad", RetryAfter(time.Second, plain))}, action{outcome: outcomeDead, reason: "Bad"}},
		"Interrupted":     {"a shutdown is nobody's failure, and the event is free at once", visit{failed: 2, stopping: true, err: plain}, action{outcome: outcomeInterrupted, excused: true}},
		"StoppedInTime":   {"done is done, in a shutdown too", visit{stopping: true}, action{outcome: outcomeDone}},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(c.want, next(c.visit, l), cmp.AllowUnexported(action{})); diff != "" {
				t.Errorf("%s (-want +got):\n%s", c.reason, diff)
			}
		})
	}
}

func TestFence(t *testing.T) {
	fact := func(uid string, generation int64, requestedAt string, p Payload) Fact {
		return New(Rollout{Group: "g", UID: uid, Generation: generation, RequestedAt: requestedAt}, p)
	}
	last := fact("u", 3, "a", GroupDesired{})
	cases := map[string]struct {
		reason string
		last   *Fact
		fact   Fact
		want   fenceDecision
	}{
		"First":          {"nothing fences the first", nil, last, fenceOpen},
		"Same":           {"said is said", &last, last, fenceSaid},
		"Older":          {"an older generation of the same object is stale", &last, fact("u", 2, "a", GroupDesired{}), fenceStale},
		"OlderOtherFact": {"whatever is said of it", &last, fact("u", 2, "a", GroupRejected{}), fenceStale},
		"Newer":          {"a newer one is not", &last, fact("u", 4, "a", GroupDesired{}), fenceOpen},
		"OtherRequest":   {"requests have no order", &last, fact("u", 3, "", GroupDesired{}), fenceOpen},
		"OtherFact":      {"the same rollout may be spoken of again", &last, fact("u", 3, "a", GroupRejected{}), fenceOpen},
		"OtherObject":    {"generations of another object are not compared", &last, fact("v", 1, "", GroupDesired{}), fenceOpen},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			if got := fence(c.last, c.fact); got != c.want {
				t.Errorf("%s: fence() = %d, want %d", c.reason, got, c.want)
			}
		})
	}
}

func TestErrorsSayWhatIsNext(t *testing.T) {
	cause := errors.New("cause")
	for name, err := range map[string]error{"Terminal": Terminal("Bad", cause), "RetryAfter": RetryAfter(time.Second, cause)} {
		if !errors.Is(fmt.Errorf("doing: %w", err), cause) {
			t.Errorf("%s hides its cause", name)
		}
	}
	if IsTerminal(cause) || IsSuperseded(cause) {
		t.Error("a plain error is classified")
	}
	if _, ok := RetryDelay(cause); ok {
		t.Error("a plain error has a delay")
	}
	for _, err := range []error{Terminal("Bad", nil), RetryAfter(time.Second, nil), Superseded("4")} {
		if err.Error() == "" {
			t.Errorf("%#v says nothing", err)
		}
	}
}

func TestDefaultBackoff(t *testing.T) {
	for n, want := range map[uint64]time.Duration{0: time.Second, 1: time.Second, 2: 2 * time.Second, 5: 16 * time.Second, 9: 256 * time.Second, 10: 5 * time.Minute, 1 << 40: 5 * time.Minute} {
		for range 50 {
			if got := DefaultBackoff(n); got < want*4/5 || got > want*6/5 {
				t.Errorf("DefaultBackoff(%d) = %s, want %s give or take a fifth", n, got, want)
			}
		}
	}
}

func TestErrorTextInLetters(t *testing.T) {
	got := oneLine(redact("getting\nhttps://user:s3cret@charts.example.com/index.yaml and oci://s3cret@r.example.com/x: 403"))
	if want := "getting https://***@charts.example.com/index.yaml and oci://***@r.example.com/x: 403"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got := oneLine(strings.Repeat("☃", 5000)); len(got) > maxErrorText+len("…") || strings.Contains(got, "\uFFFD") {
		t.Errorf("a long text has %d bytes", len(got))
	}
}

func TestTopologyRespectsOperators(t *testing.T) {
	want := DefaultTopology().Streams[0]
	have := want
	have.Replicas, have.MaxAge, have.MaxBytes = 5, time.Hour, 1<<30
	have.Metadata = map[string]string{"_nats.ver": "2.15.2", "team": "x"}
	got := mergeStream(have, want)
	if got.Replicas != 5 || got.MaxAge != time.Hour || got.MaxBytes != 1<<30 || got.Metadata["team"] != "x" {
		t.Errorf("what the operator set is gone: %+v", got)
	}
	if got.Duplicates != time.Hour {
		t.Errorf("the server refuses a window of %s with an age of %s", got.Duplicates, got.MaxAge)
	}
	consumer := DefaultTopology().Consumers[0]
	tuned := consumer
	tuned.AckWait, tuned.MaxAckPending, tuned.BackOff, tuned.MaxDeliver = time.Minute, 5, []time.Duration{1}, 3
	merged := mergeConsumer(tuned, consumer)
	if merged.AckWait != time.Minute || merged.MaxAckPending != 5 {
		t.Errorf("what the operator set is gone: %+v", merged)
	}
	if merged.BackOff != nil || merged.MaxDeliver != -1 {
		t.Errorf("BackOff and MaxDeliver change what the consumer promises: %+v", merged)
	}
	if !newer(map[string]string{metaVersion: "99"}) || newer(nil) || newer(want.Metadata) {
		t.Error("an older replica would undo what a newer one has set up")
	}
}

func TestTopologyTable(t *testing.T) {
	for _, c := range DefaultTopology().Consumers {
		if c.AckPolicy != jetstream.AckExplicitPolicy || c.MaxDeliver != -1 || c.BackOff != nil || len(c.FilterSubjects) == 0 {
			t.Errorf("%s: %+v", c.Durable, c)
		}
		if strings.ContainsAny(c.Durable, ". *>") {
			t.Errorf("%q cannot be a token of a subject", c.Durable)
		}
	}
}
