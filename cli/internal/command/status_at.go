package command

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"orkestra.dev/cli/internal/past"
	"orkestra.dev/cli/internal/trace"
	"orkestra.dev/cli/internal/tree"
	"orkestra.dev/pkg/events"
)

// pastView is a group at a time as programs read it.
type pastView struct {
	Name       string     `json:"name"`
	At         time.Time  `json:"at"`
	Phase      tree.Phase `json:"phase"`
	Message    string     `json:"message,omitempty"`
	UID        string     `json:"uid"`
	Generation int64      `json:"generation"`
	// RequestedAt and Begun of the rollout that was asked for last, and who asked.
	RequestedAt string        `json:"requestedAt,omitempty"`
	Begun       time.Time     `json:"begun"`
	Origin      events.Origin `json:"origin,omitzero"`
	// LastEvent is the id of the last event until then.
	LastEvent string `json:"lastEvent"`
	// Cut: what was said before the oldest event of the stream is not in it.
	Cut          bool       `json:"cut,omitempty"`
	Applications []nodeView `json:"applications,omitempty"`
}

// statusAt shows a group as it stood at a time.
func statusAt(cmd *cobra.Command, from *stream, name, text string, out output) error {
	at, err := moment("--at", text, time.Now())
	if err != nil {
		return &usageError{err, cmd.CommandPath()}
	}
	var facts []events.Fact
	err = from.with(cmd.Context(), func(ctx context.Context, bus *events.Bus) error {
		err := bus.Follow(ctx, events.FollowOptions{Group: name}, func(f events.Fact, _ []byte) error {
			if f.Data != nil && f.Rollout.Group == name {
				facts = append(facts, f)
			}
			return nil
		})
		if err == nil && ctx.Err() != nil {
			err = errFailed // interrupted: these are not all
		}
		return err
	})
	if err != nil {
		return err
	}
	s, ok := past.Of(facts, at)
	switch {
	case len(facts) == 0:
		return fmt.Errorf("there are no events of group %s in the stream", name)
	case !ok && facts[0].Time.After(at):
		return fmt.Errorf("there was no group %s at %s, or the stream no longer has it: its oldest event of the group is of %s",
			name, at.UTC().Format(time.RFC3339), facts[0].Time.UTC().Format(time.RFC3339))
	case !ok:
		return fmt.Errorf("there was no group %s at %s: it was deleted before", name, at.UTC().Format(time.RFC3339))
	}
	v := pastView{
		Name: name, At: at.UTC(), Phase: s.Phase, Message: s.Message, UID: s.Rollout.UID, Generation: s.Rollout.Generation,
		RequestedAt: s.Rollout.RequestedAt, Begun: s.Begun.UTC(), Origin: s.Origin, LastEvent: s.Last, Cut: s.Cut,
		Applications: nodeViews(s.Children),
	}
	return out.write(cmd.OutOrStdout(), v, func(w io.Writer) error {
		style := terminal(w)
		style.Height, style.Width = 0, cmp.Or(style.Width, textWidth)
		lines := append([]string{fmt.Sprintf("as of %s: generation %d, begun %s", at.Local().Format(time.DateTime), v.Generation, v.Begun.Local().Format(time.DateTime))},
			tree.Lines(s.Node, style)...)
		if who := trace.Who(s.Origin); who != "" {
			lines = append(lines, "", "asked for by "+tree.OneLine(who))
		}
		if s.Cut {
			lines = append(lines, "", "the stream no longer has the group's first events: what was installed before them is not shown")
		}
		_, err := fmt.Fprintln(w, strings.Join(lines, "\n"))
		return err
	})
}
