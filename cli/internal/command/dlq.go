package command

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/spf13/cobra"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"orkestra.dev/cli/internal/tree"
	"orkestra.dev/pkg/events"
	"orkestra.dev/pkg/service/groupstatus"
)

func newDeadLetters(name string, open opener) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "dlq",
		Short: "Show the events that a service gave up on, and replay or discard them",
		Long: `A service that cannot handle an event, or has tried too often, puts it aside as a dead
letter, with the reason, and goes on with the next. Dlq shows those letters, puts their
events into the stream again when what was wrong is mended, or throws them away.`,
		Example: examples(name, `
orkestra dlq list
orkestra dlq show 7
orkestra dlq replay 7
orkestra dlq discard --all --yes`),
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newLetterList(name), newLetterShow(name), newLetterReplay(name, open), newLetterDiscard(name))
	for _, sub := range cmd.Commands() {
		check := sub.Args
		sub.Args = func(cmd *cobra.Command, args []string) error {
			if err := check(cmd, args); err != nil {
				return &usageError{err, cmd.CommandPath()}
			}
			return nil
		}
	}
	return cmd
}

// letterView is a dead letter as programs read it.
type letterView struct {
	events.DeadLetter
	// What, Group and Generation of the event, as far as it can be read.
	What       string `json:"what,omitempty"`
	Group      string `json:"group,omitempty"`
	Generation int64  `json:"generation,omitempty"`
	// Event as JSON, a string where it is none.
	Event json.RawMessage `json:"event"`
}

func viewOfLetter(l events.DeadLetter) (letterView, error) {
	f, _ := l.Fact() // what cannot be read is why some letters are here
	// The group of what cannot be read is the last token of the subject, as it is there.
	group := cmp.Or(f.Rollout.Group, l.Subject[strings.LastIndex(l.Subject, ".")+1:])
	v := letterView{DeadLetter: l, What: f.Type().What(), Group: group, Generation: f.Rollout.Generation, Event: l.Event}
	if json.Valid(l.Event) {
		return v, nil
	}
	text, err := json.Marshal(string(l.Event))
	v.Event = text
	return v, err
}

func newLetterList(name string) *cobra.Command {
	var from stream
	var filter events.DeadLetterFilter
	var out output
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List the dead letters, oldest first",
		Long: `List shows the dead letters, oldest first: the number by which each is shown, replayed
and discarded, since when it is there, which service gave up on which event, and why.
With -o wide there are times, positions in the stream and whole errors.`,
		Example: examples(name, `
orkestra dlq list
orkestra dlq list --group bookinfo -o wide
orkestra dlq list --consumer stager -o json`),
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			wide := out.format == "wide"
			if wide {
				out.format = "text"
			}
			if err := out.check(cmd); err != nil {
				return err
			}
			views := []letterView{}
			err := from.with(cmd.Context(), func(ctx context.Context, bus *events.Bus) error {
				letters, err := lettersOf(ctx, bus, filter)
				for _, l := range letters {
					v, viewErr := viewOfLetter(l)
					err = errors.Join(err, viewErr)
					views = append(views, v)
				}
				return err
			})
			if err != nil {
				return err
			}
			return out.write(cmd.OutOrStdout(), views, func(w io.Writer) error {
				switch {
				case len(views) == 0:
					cmd.PrintErrln("there are no dead letters")
					return nil
				case wide:
					return wideLetters(w, views)
				default:
					return letterTable(w, views, time.Now())
				}
			})
		},
	}
	addFilter(cmd, &filter)
	cmd.Flags().StringVarP(&out.format, "output", "o", "text", "format: text, wide, json or yaml")
	from.add(cmd.Flags())
	return cmd
}

func addFilter(cmd *cobra.Command, filter *events.DeadLetterFilter) {
	cmd.Flags().StringVar(&filter.Group, "group", "", "only the letters about this group")
	cmd.Flags().StringVar(&filter.Consumer, "consumer", "", "only the letters of this consumer, such as stager")
}

// lettersOf are the letters that there are now.
func lettersOf(ctx context.Context, bus *events.Bus, filter events.DeadLetterFilter) ([]events.DeadLetter, error) {
	var out []events.DeadLetter
	err := bus.DeadLetters(ctx, filter, func(l events.DeadLetter) error {
		out = append(out, l)
		return nil
	})
	if err == nil && ctx.Err() != nil {
		err = errFailed // interrupted: these are not all
	}
	return out, err
}

func letterTable(w io.Writer, views []letterView, now time.Time) error {
	header := []string{"SEQ", "AGE", "CONSUMER", "EVENT", "GROUP", "REASON", "ERROR"}
	rows := [][]string{}
	room := textWidth - 1
	widths := make([]int, len(header)-1)
	for _, v := range views {
		rows = append(rows, []string{
			strconv.FormatUint(v.Sequence, 10), age(now, v.Time), tree.Cut(v.Consumer, 16), cmp.Or(v.What, "(unreadable)"),
			tree.Cut(cmp.Or(v.Group, "-"), 20), tree.Cut(v.Reason, 18), tree.OneLine(strings.TrimPrefix(v.Error, v.Reason+": ")),
		})
	}
	for _, row := range append([][]string{header}, rows...) {
		for i := range widths {
			widths[i] = max(widths[i], utf8.RuneCountInString(row[i]))
		}
	}
	for _, n := range widths {
		room -= n + 2
	}
	for _, row := range rows {
		row[len(row)-1] = tree.Cut(row[len(row)-1], max(room, leastFlex/2))
	}
	return table(w, len(header)-1, header, rows)
}

// wideLetters are as wide as they are.
func wideLetters(w io.Writer, views []letterView) error {
	for _, v := range views {
		_, err := fmt.Fprintf(w, "%d  %s  %s  %s  %s g%d  event %d of %s, %d deliveries  %s  %s\n", v.Sequence,
			v.Time.Local().Format(time.RFC3339), tree.OneLine(v.Consumer), cmp.Or(v.What, "(unreadable)"), tree.OneLine(cmp.Or(v.Group, "-")),
			v.Generation, v.StreamSequence, v.StreamTime.Local().Format(time.RFC3339), v.Deliveries, tree.OneLine(v.Reason), tree.OneLine(strings.TrimPrefix(v.Error, v.Reason+": ")))
		if err != nil {
			return err
		}
	}
	return nil
}

func newLetterShow(name string) *cobra.Command {
	var from stream
	var out output
	cmd := &cobra.Command{
		Use:   "show SEQ",
		Short: "Show a dead letter whole, with its event",
		Long:  "Show prints a dead letter: who gave up on which event, when and why, and the event as it was.",
		Example: examples(name, `
orkestra dlq show 7
orkestra dlq show 7 -o json`),
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := out.check(cmd); err != nil {
				return err
			}
			sequence, err := sequenceOf(args[0])
			if err != nil {
				return &usageError{err, cmd.CommandPath()}
			}
			var v letterView
			err = from.with(cmd.Context(), func(ctx context.Context, bus *events.Bus) error {
				l, err := oneLetter(ctx, bus, sequence)
				if err != nil {
					return err
				}
				v, err = viewOfLetter(l)
				return err
			})
			if err != nil {
				return err
			}
			return out.write(cmd.OutOrStdout(), v, func(w io.Writer) error { return letterText(w, v, time.Now()) })
		},
	}
	out.add(cmd)
	from.add(cmd.Flags())
	return cmd
}

func letterText(w io.Writer, v letterView, now time.Time) error {
	var b bytes.Buffer
	line := func(name, text string) { fmt.Fprintf(&b, "%-12s%s\n", name+":", tree.OneLine(text)) }
	line("Letter", strconv.FormatUint(v.Sequence, 10))
	line("Given up", fmt.Sprintf("%s, %s ago", v.Time.Local().Format(time.RFC3339), age(now, v.Time)))
	line("Consumer", v.Consumer)
	line("Reason", v.Reason)
	line("Error", v.Error)
	line("Subject", v.Subject)
	line("Original", fmt.Sprintf("event %d, of %s", v.StreamSequence, v.StreamTime.Local().Format(time.RFC3339)))
	line("Deliveries", strconv.FormatUint(v.Deliveries, 10))
	b.WriteString("Event:\n  ")
	if err := json.Indent(&b, v.Event, "  ", "  "); err != nil {
		return fmt.Errorf("writing the event of letter %d: %w", v.Sequence, err)
	}
	// What a terminal would obey is left out of what came from elsewhere.
	_, err := fmt.Fprintln(w, strings.Map(func(r rune) rune {
		if r == '\n' || unicode.IsPrint(r) {
			return r
		}
		return -1
	}, b.String()))
	return err
}

func sequenceOf(text string) (uint64, error) {
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil || n == 0 {
		return 0, fmt.Errorf("%q is no number of a dead letter: see 'orkestra dlq list'", text)
	}
	return n, nil
}

func oneLetter(ctx context.Context, bus *events.Bus, sequence uint64) (events.DeadLetter, error) {
	l, err := bus.DeadLetter(ctx, sequence)
	if errors.Is(err, events.ErrNotFound) {
		err = fmt.Errorf("there is no dead letter %d: see 'orkestra dlq list'", sequence)
	}
	return l, err
}

// letterChoice is which letters are meant: one by its number, or all.
type letterChoice struct {
	all    bool
	filter events.DeadLetterFilter
}

func (c *letterChoice) add(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&c.all, "all", false, "all letters, or all of --group and --consumer")
	addFilter(cmd, &c.filter)
}

func (c *letterChoice) check(cmd *cobra.Command, args []string) (sequence uint64, err error) {
	switch {
	case len(args) == 0 && !c.all:
		err = errors.New("say which letter, or --all")
	case len(args) == 1 && c.all:
		err = errors.New("say which letter, or --all, and not both")
	case !c.all && c.filter != events.DeadLetterFilter{}:
		err = errors.New("--group and --consumer are for --all")
	case len(args) == 1:
		sequence, err = sequenceOf(args[0])
	}
	if err != nil {
		return 0, &usageError{err, cmd.CommandPath()}
	}
	return sequence, nil
}

// with reads the letters that the arguments mean, and does something with them.
func (c *letterChoice) with(cmd *cobra.Command, args []string, from *stream, do func(context.Context, *events.Bus, []events.DeadLetter) error) error {
	sequence, err := c.check(cmd, args)
	if err != nil {
		return err
	}
	return from.with(cmd.Context(), func(ctx context.Context, bus *events.Bus) error {
		letters, err := c.letters(ctx, bus, sequence)
		if err != nil {
			return err
		}
		return do(ctx, bus, letters)
	})
}

func (c *letterChoice) letters(ctx context.Context, bus *events.Bus, sequence uint64) ([]events.DeadLetter, error) {
	if c.all {
		return lettersOf(ctx, bus, c.filter)
	}
	l, err := oneLetter(ctx, bus, sequence)
	return []events.DeadLetter{l}, err
}

// confirmAll asks whether it is to be done with so many letters, where there is a question and something to do.
func confirmAll(cmd *cobra.Command, yes bool, question string, letters []events.DeadLetter) error {
	if question == "" || len(letters) == 0 {
		return nil
	}
	return confirm(cmd, yes, fmt.Sprintf(question, howMany(len(letters))))
}

func newLetterReplay(name string, open opener) *cobra.Command {
	c := cluster{program: name, open: open}
	var from stream
	var choice letterChoice
	var yes, force bool
	cmd := &cobra.Command{
		Use:   "replay SEQ|--all",
		Short: "Put the event of a dead letter into the stream again",
		Long: `Replay puts the event of a dead letter on its subject again, where all services hear it,
and discards the letter. It looks first whether the event still matters: whether the
group is there, is the same one, and asks for the rollout that the event is of. A letter
whose event does not matter any longer stays, to be discarded; the exit code is 1 then.
Where there is no cluster to ask, or the event cannot be read, --force is needed.`,
		Example: examples(name, `
orkestra dlq replay 7

# All that the stager gave up on while the registry was away
orkestra dlq replay --all --consumer stager --yes`),
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			question := ""
			if choice.all {
				question = "Replay %s?"
			}
			return choice.with(cmd, args, &from, func(ctx context.Context, bus *events.Bus, letters []events.DeadLetter) error {
				if err := confirmAll(cmd, yes, question, letters); err != nil {
					return err
				}
				r := replay{bus: bus, force: force}
				if !force {
					r.reader, r.away = c.client()
				}
				return each(cmd, letters, "replayed", r.letter)
			})
		},
	}
	choice.add(cmd)
	cmd.Flags().BoolVarP(&yes, "yes", "y", false, "do not ask before --all")
	cmd.Flags().BoolVar(&force, "force", false, "do not look whether the event still matters")
	c.add(cmd.Flags())
	from.add(cmd.Flags())
	return cmd
}

func newLetterDiscard(name string) *cobra.Command {
	var from stream
	var choice letterChoice
	var yes bool
	cmd := &cobra.Command{
		Use:   "discard SEQ|--all",
		Short: "Throw a dead letter away",
		Long:  "Discard removes a dead letter for good. It asks first, or wants --yes where there is nobody to ask.",
		Example: examples(name, `
orkestra dlq discard 7 --yes
orkestra dlq discard --all --group bookinfo`),
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return choice.with(cmd, args, &from, func(_ context.Context, bus *events.Bus, letters []events.DeadLetter) error {
				if err := confirmAll(cmd, yes, "Discard %s for good?", letters); err != nil {
					return err
				}
				return each(cmd, letters, "discarded", func(ctx context.Context, l events.DeadLetter) error {
					return bus.Discard(ctx, l.Sequence)
				})
			})
		},
	}
	choice.add(cmd)
	cmd.Flags().BoolVarP(&yes, "yes", "y", false, "do not ask")
	from.add(cmd.Flags())
	return cmd
}

func howMany(letters int) string {
	if letters == 1 {
		return "1 dead letter"
	}
	return fmt.Sprintf("%d dead letters", letters)
}

// each letter, whatever became of those before it. The error is errFailed where
// something was not done.
func each(cmd *cobra.Command, letters []events.DeadLetter, done string, do func(context.Context, events.DeadLetter) error) error {
	var failed error
	if len(letters) == 0 {
		cmd.PrintErrln("there are no dead letters")
	}
	for _, l := range letters {
		if cmd.Context().Err() != nil {
			return errFailed
		}
		if err := do(cmd.Context(), l); err != nil {
			cmd.PrintErrf("letter %d was not %s: %v\n", l.Sequence, done, tree.OneLine(err.Error()))
			failed = errFailed
			continue
		}
		if _, err := fmt.Fprintf(cmd.OutOrStdout(), "letter %d %s\n", l.Sequence, done); err != nil {
			return err
		}
	}
	return failed
}

// replay is what it takes to replay a letter.
type replay struct {
	bus   *events.Bus
	force bool
	// reader of the cluster, or why there is none.
	reader client.Reader
	away   error
}

func (r replay) letter(ctx context.Context, l events.DeadLetter) error {
	if !r.force {
		if err := r.matters(ctx, l); err != nil {
			return err
		}
	}
	err := r.bus.Replay(ctx, l.Sequence)
	if events.IsSuperseded(err) {
		err = fmt.Errorf("it does not matter any longer, discard it: %w", err)
	}
	return err
}

// matters says why the event of a letter does not matter any longer, or why that is not known.
func (r replay) matters(ctx context.Context, l events.DeadLetter) error {
	f, err := l.Fact()
	if err != nil {
		return fmt.Errorf("whether it still matters cannot be checked, for its event cannot be read; --force replays it as it is: %w", err)
	}
	if r.away != nil {
		return fmt.Errorf("whether it still matters could not be checked without a cluster; --force replays it all the same: %w", r.away)
	}
	group, err := readGroup(ctx, r.reader, f.Rollout.Group)
	switch {
	case apierrors.IsNotFound(err):
		return fmt.Errorf("it does not matter any longer, discard it: there is no group %s", f.Rollout.Group)
	case err != nil:
		return fmt.Errorf("whether it still matters could not be checked; --force replays it all the same: %w", err)
	}
	if now := groupstatus.RolloutOf(group); now != f.Rollout {
		return fmt.Errorf("it does not matter any longer, discard it: %s", passed(f.Rollout, now))
	}
	return nil
}

// passed says how the rollout of an event differs from that which its group asks for now.
func passed(was, now events.Rollout) string {
	switch {
	case was.UID != now.UID:
		return fmt.Sprintf("group %s was deleted and made again since", now.Group)
	case was.Generation != now.Generation:
		return fmt.Sprintf("it is of generation %d of group %s, which is at %d", was.Generation, now.Group, now.Generation)
	default:
		return fmt.Sprintf("another rollout of generation %d of group %s was requested since", now.Generation, now.Group)
	}
}
