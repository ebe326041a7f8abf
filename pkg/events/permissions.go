package events

import (
	"slices"
	"strings"
)

// Identity is somebody who may connect to the streams: the one table behind
// deploy/nats/users.conf and its test.
type Identity struct {
	// Name is a service, or the part that somebody plays: "intake", "operator".
	Name string
	// Description says in a line who it is.
	Description string
	// Says are the things that it states facts of, see Type.Thing.
	Says []string
	// Consumer of the topology that it hears by, where it has one.
	Consumer string
	// Reads are the streams that it reads as they are, without acknowledging.
	Reads []string
	// Translates: it says what it reads once more as CDEvents, in a stream that it makes.
	Translates bool
	// Replays dead letters and discards them.
	Replays bool
	// KeepsTopology: it makes the streams and the consumers, and changes them.
	KeepsTopology bool
	// Inbox is the prefix of the subjects on which it is answered, see
	// Options.InboxPrefix.
	Inbox string
}

// Permissions are subjects. What is not allowed is refused, and so is what is
// denied, allowed or not.
type Permissions struct {
	PublishAllow, PublishDeny, SubscribeAllow []string
}

// The identities that are no service.
const (
	// IdentityTopology makes and changes streams, and does nothing else.
	IdentityTopology = "topology"
	// IdentityOperator reads everything, and replays and discards dead letters.
	IdentityOperator = "operator"
	// IdentityReader only reads.
	IdentityReader = "reader"
)

// peopleInbox is the default of every NATS client: people read with tools that are
// not ours. They share it, because each of them may read all that another is answered.
const peopleInbox = "_INBOX"

// InboxOf is the inbox prefix of a service.
func InboxOf(service string) string { return "_INBOX_" + service }

// Identities are all that Orkestra knows, services first.
func Identities() []Identity {
	service := func(i Identity) Identity {
		i.Inbox = InboxOf(i.Name)
		return i
	}
	everything := []string{StreamEvents, StreamDeadLetters, StreamWaits, StreamCDEvents}
	return []Identity{
		service(Identity{
			Name: "intake", Description: "says what groups are to be, and what webhooks asked for",
			Says: []string{TypeGroupDesired.Thing(), TypeWebhookReceived.Thing()}, Consumer: "intake",
		}),
		service(Identity{
			Name: "stager", Description: "says which charts are staged",
			Says: []string{TypeChartsStaged.Thing(), TypeChartPushed.Thing()}, Consumer: "stager",
		}),
		service(Identity{
			Name: "compiler", Description: "says which workflows are submitted, and which rollouts need none",
			Says: []string{TypeWorkflowSubmitted.Thing(), TypeRolloutUnchanged.Thing()}, Consumer: "compiler",
		}),
		service(Identity{
			Name: "executor", Description: "hears what is to be settled, and says nothing", Consumer: "executor",
		}),
		service(Identity{
			Name: "watcher", Description: "says what became of nodes, releases and rollouts",
			Says: []string{TypeNodeStarted.Thing(), TypeReleaseReady.Thing(), TypeRolloutSucceeded.Thing()},
		}),
		service(Identity{
			Name: "auditor", Description: "reads all that is said, and translates it into CDEvents where asked",
			Reads: []string{StreamEvents}, Translates: true,
		}),
		service(Identity{
			Name: IdentityTopology, Description: "makes the streams and the consumers, and nobody else does", KeepsTopology: true,
		}),
		{
			Name: IdentityOperator, Description: "a person who reads everything, and replays and discards dead letters",
			Says: allThings(), Reads: everything, Replays: true, Inbox: peopleInbox,
		},
		{
			Name: IdentityReader, Description: "a person or a program that reads everything, and changes nothing",
			Reads: everything, Inbox: peopleInbox,
		},
	}
}

// allThings that facts are about, in the order of Types.
func allThings() []string {
	var things []string
	for _, t := range Types() {
		if !slices.Contains(things, t.Thing()) {
			things = append(things, t.Thing())
		}
	}
	return things
}

// Permissions are the least with which i can do what the table says.
func (i Identity) Permissions(t Topology) Permissions {
	p := Permissions{SubscribeAllow: []string{i.Inbox + ".>"}}
	allow := func(subjects ...string) {
		for _, s := range subjects {
			if !slices.Contains(p.PublishAllow, s) {
				p.PublishAllow = append(p.PublishAllow, s)
			}
		}
	}
	for _, thing := range i.Says {
		allow(subjectPrefix + thing + ".*")
	}
	// Readiness, and Topology's versions.
	for _, s := range t.Streams {
		allow(api("STREAM.INFO", s.Name))
	}
	if slices.ContainsFunc(i.Says, func(thing string) bool { return fenced[thing] }) {
		allow(api("STREAM.MSG.GET", StreamEvents))
	}
	if i.Consumer != "" {
		allow(
			api("CONSUMER.INFO", StreamEvents, i.Consumer),
			api("CONSUMER.MSG.NEXT", StreamEvents, i.Consumer),
			"$JS.ACK."+StreamEvents+"."+i.Consumer+".>",
			deadLetterPrefix+i.Consumer+".*",
			waitsPrefix+i.Consumer+".*.*",
			api("STREAM.MSG.GET", StreamWaits),
		)
	}
	for _, stream := range i.Reads {
		allow(reading(stream)...)
	}
	if len(i.Reads) > 0 {
		p.PublishDeny = durables(t)
	}
	if i.Translates {
		allow(cdeventsAll, api("STREAM.INFO", StreamCDEvents), api("STREAM.CREATE", StreamCDEvents))
	}
	if i.Replays {
		allow(api("STREAM.MSG.DELETE", StreamDeadLetters))
	}
	if i.KeepsTopology {
		allow(keeping(t)...)
	}
	return p
}

// api is a subject of JetStream's API.
func api(request string, tokens ...string) string {
	return "$JS.API." + strings.Join(append([]string{request}, tokens...), ".")
}

// reading a stream takes a consumer of one's own, under a name that chance gives.
func reading(stream string) []string {
	return []string{
		"$JS.API.INFO", "$JS.API.STREAM.NAMES", "$JS.API.STREAM.LIST", // what clients that are not ours begin with
		api("STREAM.INFO", stream),
		api("STREAM.MSG.GET", stream),
		api("CONSUMER.NAMES", stream), api("CONSUMER.LIST", stream), api("CONSUMER.INFO", stream, "*"),
		api("CONSUMER.CREATE", stream, "*"), api("CONSUMER.CREATE", stream, "*", ">"),
		api("CONSUMER.MSG.NEXT", stream, "*"), api("CONSUMER.DELETE", stream, "*"),
	}
}

// durables is what nobody may do who only reads: to take, change or remove the
// consumers of the services.
func durables(t Topology) []string {
	var out []string
	for _, c := range t.Consumers {
		out = append(out,
			api("CONSUMER.CREATE", StreamEvents, c.Durable), api("CONSUMER.CREATE", StreamEvents, c.Durable, ">"),
			api("CONSUMER.MSG.NEXT", StreamEvents, c.Durable), api("CONSUMER.DELETE", StreamEvents, c.Durable))
	}
	return out
}

func keeping(t Topology) []string {
	var out []string
	for _, s := range t.Streams {
		out = append(out, api("STREAM.CREATE", s.Name), api("STREAM.UPDATE", s.Name))
	}
	for _, c := range t.Consumers {
		out = append(out, api("CONSUMER.INFO", StreamEvents, c.Durable),
			api("CONSUMER.CREATE", StreamEvents, c.Durable), api("CONSUMER.CREATE", StreamEvents, c.Durable, ">"))
	}
	return out
}
