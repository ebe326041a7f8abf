package history

import (
	"orkestra.dev/cli/internal/trace"
	"orkestra.dev/pkg/events"
)

// Reason of a rollout, as far as the stream tells it.
type Reason struct {
	// Who asked: the user, where that is known, and the field manager.
	Who string
	// Why it was asked for: a new spec, a request by annotation, or what a sender said.
	Why string
	// Origin has the same for programs.
	Origin events.Origin
}

// Reasons of rollouts, from the facts with which they begin and, in any order, the ones for
// which they were asked. Describe puts such a one in a few words.
func Reasons(facts []events.Fact, describe func(events.Payload) string) map[events.Rollout]Reason {
	causes := map[string]string{}
	for _, f := range facts {
		if _, alone := f.Data.(events.Standalone); alone {
			causes[f.EventID()] = describe(f.Data)
		}
	}
	out := map[events.Rollout]Reason{}
	for _, f := range facts {
		if _, desired := f.Data.(events.GroupDesired); !desired {
			continue
		}
		origin := trace.OriginOf(f.Data)
		r := Reason{Who: trace.Who(events.Origin{User: origin.User, Manager: origin.Manager}), Origin: origin, Why: "a new spec"}
		switch said := causes[origin.Event]; {
		case said != "":
			r.Why = said
		case origin.Event != "":
			r.Why = origin.Event
		case f.Rollout.RequestedAt != "":
			r.Why = "asked again"
		}
		out[f.Rollout] = r
	}
	return out
}
