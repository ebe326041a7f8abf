package command

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"orkestra.dev/cli/internal/trace"
	"orkestra.dev/pkg/events"
)

func newTrace(name string) *cobra.Command {
	var from stream
	var rollout string
	var out output
	cmd := &cobra.Command{
		Use:   "trace GROUP|EVENT-ID",
		Short: "Show what led to what in a rollout, and where its time went",
		Long: `Trace shows a rollout as the tree of its events, each under the one that led to it: its
offset from the first, the time since what it had to wait for, who said it, and of what.

An event that a service says in answer to another names that one as its cause. What is
said of the cluster's own objects (nodes, releases, the end of a rollout) names none, and
is put where it belongs by what it is about, on a dotted branch. A node waits for others,
which the stream does not say: its time is counted from the last that ended before it,
and so is at least what Argo took.

A rollout that a webhook asked for begins with the delivery; the delivery's id shows all
rollouts that it led to (with -o json a list of them). The second line is who asked: the
field manager that wrote the spec or asked again, the user where the admission webhook
runs, and the event.

The last lines say where the time went, along the events that the end had to wait for:

  receiving  from a webhook's delivery to the request
  staging    from the request to the staged charts
  compiling  from those to the workflow
  argo       from the workflow, or the last node's end, to the next node's begin
  helm       from there to what became of its release; with the executor
  reporting  from the release to the node's end, executor and Argo
  settling   from the last node's end to the end of the rollout

Without --rollout it is the group's newest; an event's id names its rollout by itself.`,
		Example: examples(name, `
orkestra trace bookinfo

# An older rollout: of a generation, or of a request for it
orkestra trace bookinfo --rollout 3
orkestra trace bookinfo --rollout 3/2026-05-04T03:02:01Z

# Whose event is this?
orkestra trace group.desired/6c1f5c4e-7b1e-4a54-8a4d-0e5f1d2c3b4a/3/ -o json`),
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := out.check(cmd); err != nil {
				return err
			}
			which, err := wantedOf(args[0], rollout)
			if err != nil {
				return &usageError{err, cmd.CommandPath()}
			}
			var told [][]events.Fact
			err = from.with(cmd.Context(), func(ctx context.Context, bus *events.Bus) error {
				told, err = which.rollouts(ctx, bus)
				return err
			})
			if err != nil {
				return err
			}
			var traces []trace.Trace
			for _, facts := range told {
				traces = append(traces, trace.Of(facts, time.Now()))
			}
			var data any = traces
			if !which.standalone() {
				data = traces[0]
			}
			return out.write(cmd.OutOrStdout(), data, func(w io.Writer) error {
				style := terminal(w)
				var all []string
				for _, t := range traces {
					lines := trace.Lines(t, trace.Style{
						Width: cmp.Or(style.Width, textWidth), Color: style.Color, Details: traceDetails, Chosen: which.event,
					})
					all = append(all, strings.Join(lines, "\n"))
				}
				_, err := fmt.Fprintln(w, strings.Join(all, "\n\n"))
				return err
			})
		},
	}
	cmd.Flags().StringVar(&rollout, "rollout", "", "the rollout: its generation, or GENERATION/REQUESTED-AT (default: the newest)")
	out.add(cmd)
	from.add(cmd.Flags())
	return cmd
}

// traceDetails names also what a fact about no rollout is about.
func traceDetails(p events.Payload) string {
	if s, ok := p.(events.Standalone); ok {
		return s.About() + ": " + details(p)
	}
	return details(p)
}

// wanted is which rollout is to be traced.
type wanted struct {
	// group, and of it the generation and the request; 0 is the newest rollout.
	group      string
	generation int64
	request    string
	// requested: request was given, if only as "".
	requested bool
	// event that is to be in the rollout, in place of the group.
	event string
}

func wantedOf(arg, rollout string) (wanted, error) {
	if strings.Contains(arg, "/") {
		if rollout != "" {
			return wanted{}, errors.New("--rollout: the event names its rollout by itself")
		}
		return wanted{event: arg}, nil
	}
	out := wanted{group: arg}
	if rollout == "" {
		return out, nil
	}
	generation, request, requested := strings.Cut(rollout, "/")
	n, err := strconv.ParseInt(generation, 10, 64)
	if err != nil || n < 1 {
		return out, fmt.Errorf("--rollout %q: want a generation such as 3, or 3/2026-05-04T03:02:01Z", rollout)
	}
	out.generation, out.request, out.requested = n, request, requested
	return out, nil
}

func (w wanted) matches(f events.Fact) bool {
	switch r := f.Rollout; {
	case w.event != "":
		return f.EventID() == w.event
	case r.Group != w.group:
		return false
	default:
		return w.generation == 0 || r.Generation == w.generation && (!w.requested || r.RequestedAt == w.request)
	}
}

// standalone: the event is about no rollout, and may have led to several.
func (w wanted) standalone() bool {
	return strings.HasPrefix(w.event, events.TypeWebhookReceived.What()+"/") || strings.HasPrefix(w.event, events.TypeChartPushed.What()+"/")
}

// rollouts that are wanted, at least one: the facts of each, with what led to it.
func (w wanted) rollouts(ctx context.Context, bus *events.Bus) ([][]events.Fact, error) {
	if w.standalone() {
		return w.caused(ctx, bus)
	}
	facts, err := w.facts(ctx, bus)
	if err != nil {
		return nil, err
	}
	for _, f := range facts {
		if (wanted{event: f.CausationID}).standalone() {
			cause, err := find(ctx, bus, f.CausationID)
			if err != nil {
				return nil, err
			}
			return [][]events.Fact{append(cause, facts...)}, nil
		}
	}
	return [][]events.Fact{facts}, nil
}

// caused are the rollouts that an event about none led to.
func (w wanted) caused(ctx context.Context, bus *events.Bus) ([][]events.Fact, error) {
	cause, err := find(ctx, bus, w.event)
	if err == nil && len(cause) == 0 {
		err = w.missing()
	}
	if err != nil {
		return nil, err
	}
	var begun []events.Rollout
	groups := events.FollowOptions{Types: []events.Type{
		events.TypeGroupDesired, events.TypeGroupSuspended, events.TypeGroupDeleting, events.TypeGroupRejected,
	}}
	err = bus.Follow(ctx, groups, func(f events.Fact, _ []byte) error {
		if f.CausationID == w.event && !slices.Contains(begun, f.Rollout) {
			begun = append(begun, f.Rollout)
		}
		return nil
	})
	out := [][]events.Fact{}
	for _, r := range begun {
		facts := slices.Clone(cause)
		err = errors.Join(err, bus.Follow(ctx, events.FollowOptions{Group: r.Group}, func(f events.Fact, _ []byte) error {
			if f.Data != nil && f.Rollout == r {
				facts = append(facts, f)
			}
			return nil
		}))
		out = append(out, facts)
	}
	switch {
	case err != nil:
		return nil, err
	case ctx.Err() != nil:
		return nil, errFailed
	case len(out) == 0:
		return [][]events.Fact{cause}, nil // it led to nothing
	}
	return out, nil
}

// find an event about no rollout; none where the stream has it no longer.
func find(ctx context.Context, bus *events.Bus, id string) ([]events.Fact, error) {
	var found []events.Fact
	types := []events.Type{events.TypeWebhookReceived, events.TypeChartPushed}
	err := bus.Follow(ctx, events.FollowOptions{Types: types}, func(f events.Fact, _ []byte) error {
		if f.EventID() != id {
			return nil
		}
		found = append(found, f)
		return errEnd
	})
	if errors.Is(err, errEnd) {
		err = nil
	}
	return found, err
}

func (w wanted) missing() error {
	return fmt.Errorf("there is no event %s in the stream: its id is what 'orkestra events -o json' shows", w.event)
}

// facts of the rollout, in the order of the stream: of those that match, the one that
// was begun last.
func (w wanted) facts(ctx context.Context, bus *events.Bus) ([]events.Fact, error) {
	all := map[events.Rollout][]events.Fact{}
	var found *events.Rollout
	err := bus.Follow(ctx, events.FollowOptions{Group: w.group}, func(f events.Fact, _ []byte) error {
		r := f.Rollout
		if f.Data == nil || w.event != "" && !strings.Contains(w.event, "/"+r.ID()) {
			return nil
		}
		all[r] = append(all[r], f)
		if w.matches(f) && (w.event != "" || len(all[r]) == 1) {
			found = &r
		}
		return nil
	})
	switch {
	case err != nil:
		return nil, err
	case ctx.Err() != nil:
		return nil, errFailed
	case found == nil && w.event != "":
		return nil, w.missing()
	case found == nil && w.generation > 0:
		return nil, fmt.Errorf("there is no such rollout of group %s in the stream: see 'orkestra events --group %s'", w.group, w.group)
	case found == nil:
		return nil, fmt.Errorf("there are no events of group %s in the stream", w.group)
	}
	return all[*found], nil
}
