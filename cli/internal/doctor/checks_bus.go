package doctor

import (
	"fmt"
	"strings"
	"time"

	"orkestra.dev/pkg/events"
)

const (
	// full is how much of a limit may be used, of 1.
	full = 0.8
	// leastAge that events are kept: a service that is away for longer has missed some.
	leastAge = 24 * time.Hour

	makeTopology = "start the process topology (orkestra-intake topology), or a service with --nats-topology ensure: they make it again"
)

func bus(v *visit) {
	if v.Bus.Err != nil {
		if v.BusGiven {
			v.find(Problem, "bus-unreachable", fmt.Sprintf("NATS does not answer: %v", v.Bus.Err), "Services cannot say or hear anything: no rollout begins.",
				"see that NATS runs, and that address, CA and credentials (--nats-url, --nats-ca, --nats-nkey) are right")
			return
		}
		v.find(Unknown, "bus-not-seen", fmt.Sprintf("NATS was not found where it is by default: %v", v.Bus.Err), "Streams and consumers were not looked at.",
			fmt.Sprintf("kubectl -n %s port-forward svc/orkestra-nats 4222, and say where it is with --nats-url, --nats-ca and --nats-nkey", v.Namespace))
		return
	}
	state := v.Bus.Value
	v.say("%d streams, %s stored", len(state.Streams), size(state.StoreBytes))
	if used(state.StoreBytes, state.StoreLimit) {
		v.find(Problem, "storage-full", fmt.Sprintf("JetStream has %s stored, of %s.", size(state.StoreBytes), size(state.StoreLimit)),
			"Where nothing can be stored, nothing is said, and no rollout goes on.", "raise the account's limit of storage, or max_file_store of the servers")
	}
	for _, s := range state.Streams {
		v.stream(s)
	}
}

func (v *visit) stream(s events.StreamCondition) {
	edit := "nats stream edit " + s.Name
	if s.Missing {
		v.find(Problem, "stream-missing", fmt.Sprintf("There is no stream %s.", s.Name), "Services wait for it and do nothing.", makeTopology)
		return
	}
	if len(s.Drift) > 0 {
		v.find(Problem, "stream-drift", fmt.Sprintf("Stream %s is not as this release needs it: %s.", s.Name, strings.Join(s.Drift, "; ")),
			"Events may be refused, counted twice or lost.", makeTopology)
	}
	if s.Leaderless {
		v.find(Problem, "stream-leaderless", fmt.Sprintf("Stream %s has no leader.", s.Name), "Nothing can be stored in it.", "bring back the servers of NATS that are away")
	} else if len(s.Behind) > 0 {
		v.find(Warning, "stream-behind", fmt.Sprintf("Servers of stream %s are away or behind: %s.", s.Name, some(s.Behind)),
			"It works, and may not if one more goes.", "bring them back; nats stream info "+s.Name)
	}
	if used(s.Messages, s.MaxMessages) {
		v.find(Problem, "stream-full", fmt.Sprintf("Stream %s has %d messages, of %d at most.", s.Name, s.Messages, s.MaxMessages),
			"The oldest go, whether they were handled or not.", edit+" --max-msgs=-1")
	}
	if used(s.Bytes, s.MaxBytes) {
		v.find(Problem, "stream-full", fmt.Sprintf("Stream %s has %s, of %s at most.", s.Name, size(s.Bytes), size(s.MaxBytes)),
			"The oldest messages go, whether they were handled or not.", edit+" --max-bytes=-1")
	}
	if s.MaxAge > 0 && s.MaxAge < leastAge {
		v.find(Problem, "stream-forgetful", fmt.Sprintf("Stream %s forgets after %s.", s.Name, s.MaxAge),
			"A service that is away for longer misses what was said.", fmt.Sprintf("%s --max-age=%dh", edit, int(s.WantAge.Hours())))
	}
}

func used(n, most uint64) bool { return most > 0 && float64(n) >= full*float64(most) }

func size(n uint64) string {
	const kilo = 1024
	unit, value := 0, float64(n)
	for ; value >= kilo && unit < 4; unit++ {
		value /= kilo
	}
	if unit == 0 {
		return fmt.Sprintf("%d B", n)
	}
	return fmt.Sprintf("%.1f %ciB", value, "KMGT"[unit-1])
}

func consumers(v *visit) {
	if v.Bus.Err != nil {
		v.say("not seen: see bus")
		return
	}
	v.say("%d, with somebody at each", len(v.Bus.Value.Consumers))
	for _, c := range v.Bus.Value.Consumers {
		switch {
		case c.Missing:
			v.find(Problem, "consumer-missing", fmt.Sprintf("There is no consumer %s.", c.Name), "The service of that name hears nothing.", makeTopology)
			continue
		case c.Paused:
			v.find(Problem, "consumer-paused", fmt.Sprintf("Consumer %s is paused.", c.Name), "The service of that name hears nothing until then.",
				"nats consumer resume "+events.StreamEvents+" "+c.Name)
		case c.Waiting == 0 && (c.InHand == 0 || v.away(c.Name)):
			// What waits to be tried again counts as in hand, for minutes, whoever has it.
			v.find(Problem, "consumer-away", fmt.Sprintf("Nobody takes the events of consumer %s; %d wait.", c.Name, c.Pending+uint64(c.InHand)),
				"Rollouts stop where the part of that service begins.", fmt.Sprintf("see that %s runs, and what its /readyz and its log say", c.Name))
		case c.Waiting == 0:
			v.find(Warning, "consumer-busy", fmt.Sprintf("Nobody asks for the next event of consumer %s; %d are in hand, %d wait.", c.Name, c.InHand, c.Pending),
				"All its workers are busy, or it is away.", fmt.Sprintf("see that %s runs; raise its replicas or --workers", c.Name))
		}
		if len(c.Drift) > 0 {
			v.find(Problem, "consumer-drift", fmt.Sprintf("Consumer %s is not as this release needs it: %s.", c.Name, strings.Join(c.Drift, "; ")),
				"Events may be lost, or come at the wrong time.", makeTopology)
		}
	}
	if len(v.findings) > 0 {
		v.say("%d", len(v.Bus.Value.Consumers))
	}
}

// away tells whether a service is seen, and no replica of it is ready.
func (v *visit) away(service string) bool {
	seen := false
	runs := func(name string) bool { return name == service || name == "single" } // all services in one
	for _, w := range v.Workloads.Value {
		if w.Ours && runs(w.Component) {
			if w.Ready > 0 {
				return false
			}
			seen = true
		}
	}
	for _, p := range v.Probes {
		if name, _, _ := strings.Cut(p.Name, "_"); runs(name) { // stager, and stager_2
			if p.Err == nil {
				return false
			}
			seen = true
		}
	}
	return seen
}

func letters(v *visit) {
	if v.Bus.Err != nil {
		v.say("not seen: see bus")
		return
	}
	for _, s := range v.Bus.Value.Streams {
		if s.Name != events.StreamDeadLetters {
			continue
		}
		v.say("%d dead letters", s.Messages)
		if s.Messages > 0 {
			v.find(Problem, "dead-letters", fmt.Sprintf("Services have given up on events: %d dead letters.", s.Messages),
				"The groups that they were about wait where they are.", fmt.Sprintf("%s dlq list, then %s dlq replay N or discard N", v.Program, v.Program))
		}
	}
}
