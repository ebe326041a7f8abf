package events_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"orkestra.dev/pkg/events"
	"orkestra.dev/pkg/events/eventstest"
)

// mayPublish says for a subject of each kind who may publish on it; everybody else
// may not. It is written by hand: what is given by mistake in the table fails here.
var mayPublish = map[string]string{
	"orkestra.v1.group.g":                                 "intake operator",
	"orkestra.v1.webhook.r":                               "intake operator",
	"orkestra.v1.charts.g":                                "stager operator",
	"orkestra.v1.chart.t":                                 "stager operator",
	"orkestra.v1.workflow.g":                              "compiler operator",
	"orkestra.v1.node.g":                                  "watcher operator",
	"orkestra.v1.release.g":                               "watcher operator",
	"orkestra.v1.rollout.g":                               "compiler watcher operator",
	"orkestra.v1.unheard.g":                               "",
	"orkestra.v1.group.g.more":                            "",
	"orkestra.dlq.v1.intake.g":                            "intake",
	"orkestra.dlq.v1.stager.g":                            "stager",
	"orkestra.dlq.v1.compiler.g":                          "compiler",
	"orkestra.dlq.v1.executor.g":                          "executor",
	"orkestra.waits.v1.intake.1.2":                        "intake",
	"orkestra.waits.v1.stager.1.2":                        "stager",
	"orkestra.waits.v1.compiler.1.2":                      "compiler",
	"orkestra.waits.v1.executor.1.2":                      "executor",
	"$JS.ACK.ORKESTRA.intake.1.1.1.1.1":                   "intake",
	"$JS.ACK.ORKESTRA.stager.1.1.1.1.1":                   "stager",
	"$JS.ACK.ORKESTRA.compiler.1.1.1.1.1":                 "compiler",
	"$JS.ACK.ORKESTRA.executor.1.1.1.1.1":                 "executor",
	"$JS.API.CONSUMER.MSG.NEXT.ORKESTRA.intake":           "intake",
	"$JS.API.CONSUMER.MSG.NEXT.ORKESTRA.stager":           "stager",
	"$JS.API.CONSUMER.MSG.NEXT.ORKESTRA.compiler":         "compiler",
	"$JS.API.CONSUMER.MSG.NEXT.ORKESTRA.executor":         "executor",
	"$JS.API.CONSUMER.INFO.ORKESTRA.executor":             "executor auditor topology operator reader",
	"$JS.API.CONSUMER.CREATE.ORKESTRA.stager":             "topology",
	"$JS.API.CONSUMER.CREATE.ORKESTRA.stager.orkestra.>":  "topology",
	"$JS.API.CONSUMER.DELETE.ORKESTRA.stager":             "",
	"$JS.API.CONSUMER.PAUSE.ORKESTRA.stager":              "",
	"$JS.API.CONSUMER.DURABLE.CREATE.ORKESTRA.mine":       "",
	"$JS.API.CONSUMER.CREATE.ORKESTRA":                    "",
	"$JS.API.CONSUMER.CREATE.ORKESTRA.mine":               "auditor operator reader",
	"$JS.API.CONSUMER.CREATE.ORKESTRA.mine.orkestra.v1.>": "auditor operator reader",
	"$JS.API.CONSUMER.MSG.NEXT.ORKESTRA.mine":             "auditor operator reader",
	"$JS.API.CONSUMER.CREATE.ORKESTRA_DLQ.mine":           "operator reader",
	"$JS.API.CONSUMER.CREATE.ORKESTRA_WAITS.mine":         "operator reader",
	"$JS.API.STREAM.INFO.ORKESTRA":                        "intake stager compiler executor watcher auditor topology operator reader",
	"$JS.API.STREAM.INFO.ELSEWHERE":                       "",
	"$JS.API.STREAM.MSG.GET.ORKESTRA":                     "intake compiler watcher auditor operator reader",
	"$JS.API.STREAM.MSG.GET.ORKESTRA_WAITS":               "intake stager compiler executor operator reader",
	"$JS.API.STREAM.MSG.GET.ORKESTRA_DLQ":                 "operator reader",
	"$JS.API.STREAM.MSG.DELETE.ORKESTRA_DLQ":              "operator",
	"$JS.API.STREAM.MSG.DELETE.ORKESTRA":                  "",
	"$JS.API.STREAM.CREATE.ORKESTRA":                      "topology",
	"$JS.API.STREAM.UPDATE.ORKESTRA":                      "topology",
	"$JS.API.STREAM.CREATE.ELSEWHERE":                     "",
	"$JS.API.STREAM.DELETE.ORKESTRA":                      "",
	"$JS.API.STREAM.PURGE.ORKESTRA":                       "",
	"$JS.API.STREAM.PURGE.ORKESTRA_DLQ":                   "",
	"$JS.API.STREAM.SNAPSHOT.ORKESTRA":                    "",
	"$JS.API.STREAM.RESTORE.ORKESTRA":                     "",
	"$JS.API.ACCOUNT.PURGE.ORKESTRA":                      "",
	"_INBOX_stager.x":                                     "",
	"_INBOX.x":                                            "",
	"$SYS.REQ.SERVER.PING":                                "",
	"orkestra.cdevents.v1.g":                              "auditor",
	"$JS.API.STREAM.CREATE.ORKESTRA_CDEVENTS":             "auditor",
	"$JS.API.STREAM.UPDATE.ORKESTRA_CDEVENTS":             "",
	"$JS.API.CONSUMER.CREATE.ORKESTRA_CDEVENTS.mine":      "operator reader",
	"elsewhere": "",
}

// maySubscribe is the same for what is listened to.
var maySubscribe = map[string]string{
	"_INBOX_intake.>": "intake", "_INBOX_stager.>": "stager", "_INBOX_compiler.>": "compiler",
	"_INBOX_executor.>": "executor", "_INBOX_watcher.>": "watcher", "_INBOX_auditor.>": "auditor",
	"_INBOX_topology.>": "topology", "_INBOX.>": "operator reader",
	">": "", "orkestra.>": "", "orkestra.v1.group.*": "", "$JS.>": "", "$SYS.>": "", "*.>": "",
}

func TestEachIdentityCanDoWhatItNeedsAndNothingElse(t *testing.T) {
	g := guard(t)
	identities := map[string]events.Identity{}
	for _, i := range events.Identities() {
		identities[i.Name] = i
	}
	stager := g.bus(t, identities["stager"])
	awaited := make(chan error, 1)
	go func() { awaited <- stager.AwaitTopology(t.Context()) }()
	eventstest.Eventually(t, timeout, "the stager waits for the streams", func() bool { return strings.Contains(g.logs.String(), "it is not there yet") })
	ctx, stop := context.WithCancel(t.Context())
	made := make(chan struct{})
	kept := make(chan struct{})
	topology := g.bus(t, identities[events.IdentityTopology])
	go func() {
		defer close(kept)
		topology.KeepTopology(ctx, 10*time.Millisecond, func() { close(made) })
	}()
	<-made
	if err := <-awaited; err != nil {
		t.Fatalf("the stager does not see the streams: %v", err)
	}

	operator := g.bus(t, identities[events.IdentityOperator])
	for _, i := range events.Identities() {
		if i.Consumer != "" {
			t.Run(i.Name+" consumes", func(t *testing.T) { consumesAs(t, g, i, operator) })
		}
	}
	t.Run("says", func(t *testing.T) { saysOwn(t, g, identities) })
	t.Run("reads", func(t *testing.T) { reads(t, g, identities, operator) })
	if strings.Contains(g.logs.String(), "ermissions") {
		t.Errorf("something that is needed is forbidden:\n%s", g.logs)
	}
	stop()
	<-kept

	// From here on all is refused, and what is not spoils the streams: it comes last.
	for _, i := range events.Identities() {
		t.Run(i.Name+" is refused the rest", func(t *testing.T) { refused(t, g, i) })
	}
}

// consumesAs goes through all that settling takes: say, wait, give up.
func consumesAs(t *testing.T, g *guarded, i events.Identity, operator *events.Bus) {
	group := func(kind string) string { return kind + "-" + i.Name }
	hears := map[string]func(events.Rollout) events.Fact{
		"intake":   func(r events.Rollout) events.Fact { return events.New(r, events.RolloutSucceeded{}) },
		"stager":   func(r events.Rollout) events.Fact { return events.New(r, events.GroupDesired{}) },
		"compiler": func(r events.Rollout) events.Fact { return events.New(r, events.GroupDesired{}) },
		"executor": func(r events.Rollout) events.Fact { return events.New(r, events.NodeStarted{}) },
	}[i.Name]
	says := map[string]func(events.Rollout) []events.Fact{
		"intake":   func(r events.Rollout) []events.Fact { return []events.Fact{events.New(r, events.GroupDeleted{})} },
		"stager":   func(r events.Rollout) []events.Fact { return []events.Fact{staged(r)} },
		"compiler": func(r events.Rollout) []events.Fact { return []events.Fact{events.New(r, events.RolloutUnchanged{})} },
		"executor": func(events.Rollout) []events.Fact { return nil },
	}[i.Name]
	b := g.bus(t, i)
	var seen calls
	consume(t, b, i.Consumer, 2, func(_ context.Context, f events.Fact) ([]events.Fact, error) {
		if !strings.HasSuffix(f.Rollout.Group, "-"+i.Name) {
			return nil, nil
		}
		switch {
		case f.Type() != hears(f.Rollout).Type():
			return nil, nil
		case f.Rollout.Group == group("bad"):
			return nil, events.Terminal("Bad", nil)
		case f.Rollout.Group == group("waits") && f.Attempt < 4:
			return nil, events.RetryAfter(time.Millisecond, nil)
		}
		seen.add(f)
		return says(f.Rollout), nil
	})
	for _, kind := range []string{"good", "waits", "bad"} {
		say(t, operator, hears(events.Rollout{Group: group(kind), UID: group(kind), Generation: 1}))
	}
	seen.await(t, 2)
	eventstest.Eventually(t, timeout, "the dead letter is stored", func() bool {
		count := 0
		if err := operator.DeadLetters(t.Context(), events.DeadLetterFilter{Consumer: i.Consumer, Group: group("bad")},
			func(events.DeadLetter) error { count++; return nil }); err != nil {
			t.Fatal(err)
		}
		return count == 1
	})
	if err := b.Ready(); err != nil {
		t.Errorf("Ready: %v", err)
	}
}

// saysOwn lets those say something who do so on their own.
func saysOwn(t *testing.T, g *guarded, identities map[string]events.Identity) {
	r := events.Rollout{Group: "said", UID: "said", Generation: 1}
	say(t, g.bus(t, identities["intake"]), events.New(r, events.GroupDesired{}))
	say(t, g.bus(t, identities["watcher"]), events.New(r, events.NodeStarted{}), events.New(r, events.ReleaseReady{}),
		events.New(r, events.RolloutSucceeded{}))
}

func reads(t *testing.T, g *guarded, identities map[string]events.Identity, operator *events.Bus) {
	for _, name := range []string{events.IdentityReader, events.IdentityOperator, "auditor"} {
		b := g.bus(t, identities[name])
		var said []events.Type
		if err := b.Follow(t.Context(), events.FollowOptions{Group: "said"}, func(f events.Fact, _ []byte) error {
			said = append(said, f.Type())
			return nil
		}); err != nil || len(said) != 4 {
			t.Errorf("%s reads %v: %v", name, said, err)
		}
		state, err := b.EventStream(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		ctx, done := context.WithCancel(t.Context())
		if err := b.Read(ctx, state.Created, 1, func(s events.Stored) error {
			if s.Sequence >= state.Last {
				done()
			}
			return nil
		}); err != nil {
			t.Errorf("%s does not read the stream: %v", name, err)
		}
		done()
	}
	auditor := g.bus(t, identities["auditor"])
	if err := auditor.EnsureCDEvents(t.Context()); err != nil {
		t.Errorf("the auditor makes its stream: %v", err)
	}
	if err := auditor.PublishCDEvent(t.Context(), "orkestra.cdevents.v1.g", "id", []byte("{}")); err != nil {
		t.Errorf("the auditor translates: %v", err)
	}
	var letters []uint64
	if err := g.bus(t, identities[events.IdentityReader]).DeadLetters(t.Context(), events.DeadLetterFilter{}, func(l events.DeadLetter) error {
		letters = append(letters, l.Sequence)
		return nil
	}); err != nil || len(letters) < 2 {
		t.Fatalf("a reader sees the dead letters %v: %v", letters, err)
	}
	if err := operator.Replay(t.Context(), letters[0]); err != nil {
		t.Errorf("an operator replays: %v", err)
	}
	if err := operator.Discard(t.Context(), letters[1]); err != nil {
		t.Errorf("an operator discards: %v", err)
	}
}

// refused compares what the server lets i do with the lists above.
func refused(t *testing.T, g *guarded, i events.Identity) {
	nc := g.raw(t, i)
	check := func(verb, subject, who string, do func() error) {
		if err := do(); err != nil {
			t.Fatal(err)
		}
		if err := nc.Flush(); err != nil {
			t.Fatal(err)
		}
		want := slices.Contains(strings.Fields(who), i.Name)
		err := nc.LastError()
		if got := err == nil || !strings.Contains(err.Error(), fmt.Sprintf("%q", subject)); got != want {
			t.Errorf("%s may %s %s: %t, want %t", i.Name, verb, subject, got, want)
		}
	}
	for subject, who := range maySubscribe {
		check("subscribe to", subject, who, func() error {
			_, err := nc.Subscribe(subject, func(*nats.Msg) {})
			return err
		})
	}
	for subject, who := range mayPublish {
		check("publish on", subject, who, func() error { return nc.Publish(subject, nil) })
	}
}

func TestNobodyComesInWithoutAName(t *testing.T) {
	g := guard(t)
	_, stranger := user(t, t.TempDir(), "stranger")
	key, err := nats.NkeyOptionFromSeed(stranger)
	if err != nil {
		t.Fatal(err)
	}
	own, err := nats.NkeyOptionFromSeed(g.seeds["intake"])
	if err != nil {
		t.Fatal(err)
	}
	for name, options := range map[string][]nats.Option{
		"nobody":        {nats.RootCAs(g.ca)},
		"a stranger":    {nats.RootCAs(g.ca), key},
		"a password":    {nats.RootCAs(g.ca), nats.UserInfo("intake", "intake")},
		"without trust": {own},
	} {
		if nc, err := nats.Connect(g.url, options...); err == nil {
			nc.Close()
			t.Errorf("%s is let in", name)
		}
	}
	if nc, err := nats.Connect(g.url, nats.RootCAs(g.ca), own); err != nil {
		t.Errorf("intake is not let in: %v", err)
	} else {
		nc.Close()
	}
}
