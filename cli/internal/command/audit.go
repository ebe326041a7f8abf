package command

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"time"

	"github.com/spf13/cobra"

	"orkestra.dev/pkg/events"
	"orkestra.dev/services/auditor/record"
)

func newAudit(name string) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "audit",
		Short: "Check the trail that the auditor keeps",
		Long: `The auditor writes all that the services say to files in which each record has the
hash of the one before.`,
		Example: examples(name, "orkestra audit verify /var/lib/orkestra/audit"),
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newAuditVerify(name))
	return cmd
}

// recordHash is a record's hash as it is written.
var recordHash = regexp.MustCompile(`^[0-9a-f]{64}$`)

func newAuditVerify(name string) *cobra.Command {
	var v record.Verifier
	var contains string
	var against bool
	var from stream
	cmd := &cobra.Command{
		Use:   "verify DIR",
		Short: "Find the first record that was altered, removed or moved",
		Long: `Verify reads the segments of a trail in their order and names the first record that
was altered, removed or moved, with its file and line. The exit code is 1 then.

A chain cannot show by itself that its end was cut off, or that all of it was written
anew. For that, keep a hash elsewhere (each HTTP sink gets them) and give it with
--contains; or compare, with --against-stream, what the stream of events still holds.
While the auditor writes, the last line may be unfinished; ask again.

A folder with the objects of an S3 sink is verified like the auditor's own.`,
		Example: examples(name, `
orkestra audit verify /var/lib/orkestra/audit

# Is it still the trail that I have seen?
orkestra audit verify /var/lib/orkestra/audit --contains HASH

# Is everything in it that the stream has?
orkestra audit verify /var/lib/orkestra/audit --against-stream`),
		Args: func(cmd *cobra.Command, args []string) error {
			if err := cobra.ExactArgs(1)(cmd, args); err != nil {
				return &usageError{err, cmd.CommandPath()}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if contains != "" && !recordHash.MatchString(contains) {
				return &usageError{fmt.Errorf("--contains %q: want the 64 digits of a record's hash", contains), cmd.CommandPath()}
			}
			if !against {
				return verifyTrail(cmd, &v, args[0], contains, nil)
			}
			return from.with(cmd.Context(), func(ctx context.Context, bus *events.Bus) error {
				now, err := bus.EventStream(ctx)
				if err != nil {
					return err
				}
				c := record.Comparison{Stream: record.Stream(now)}
				if err := verifyTrail(cmd, &v, args[0], contains, c.Record); err != nil {
					return err
				}
				return compareStream(ctx, cmd, bus, &c)
			})
		},
	}
	fs := cmd.Flags()
	fs.BoolVar(&v.Partial, "partial", false, "let the trail begin after its first record: older segments are kept elsewhere")
	fs.StringVar(&contains, "contains", "", "hash of a record that has to be in the trail")
	fs.BoolVar(&against, "against-stream", false, "also compare the records with what the stream of events still holds")
	from.add(fs)
	return cmd
}

// verifyTrail checks a folder, and shows each record to see where that is not nil.
func verifyTrail(cmd *cobra.Command, v *record.Verifier, dir, contains string, see func(record.Record)) error {
	seen := contains == ""
	v.See = func(r record.Record) {
		seen = seen || r.Hash == contains
		if see != nil {
			see(r)
		}
	}
	err := v.Folder(os.DirFS(dir))
	if bad, ok := errors.AsType[*record.Bad](err); ok {
		cmd.PrintErrf("bad: %v\n", bad)
		cmd.PrintErrf("before it: %s\n", auditSummary(v.Report()))
		return errFailed
	}
	if err != nil {
		return fmt.Errorf("reading the trail: %w", err)
	}
	if v.Report().Records == 0 {
		return fmt.Errorf("%s has no records: want the folder that the auditor writes to", dir)
	}
	if !seen {
		cmd.PrintErrf("bad: no record has the hash %s: the end was cut off, or it is another trail\n", contains)
		return errFailed
	}
	return writeAuditReport(cmd.OutOrStdout(), v.Report())
}

// errEnd ends the reading of a stream.
var errEnd = errors.New("the end")

// compareStream reads what the stream held when the comparison began.
func compareStream(ctx context.Context, cmd *cobra.Command, bus *events.Bus, c *record.Comparison) error {
	if c.Stream.First == 0 || c.Stream.First > c.Stream.Last {
		_, err := fmt.Fprintln(cmd.OutOrStdout(), "the stream is empty")
		return err
	}
	wrong := 0
	err := bus.Read(ctx, c.Stream.Created, c.Stream.First, func(m events.Stored) error {
		if m.Sequence > c.Stream.Last {
			return errEnd
		}
		problem := c.Message(record.Message{Sequence: m.Sequence, Time: m.Time, Subject: m.Subject, Event: m.Event, Raw: m.Raw})
		if problem != "" {
			wrong++
			cmd.PrintErrf("bad: %s\n", problem)
		}
		if m.Sequence == c.Stream.Last {
			return errEnd
		}
		return nil
	})
	switch {
	case !errors.Is(err, errEnd) && err != nil:
		return fmt.Errorf("comparing with the stream: %w", err)
	case ctx.Err() != nil || wrong > 0:
		return errFailed
	}
	text := fmt.Sprintf("the stream's messages %d to %d: %d are as they were recorded", c.Stream.First, c.Stream.Last, c.Same)
	if c.Later > 0 {
		text += fmt.Sprintf(", %d came after the last record", c.Later)
	}
	_, err = fmt.Fprintln(cmd.OutOrStdout(), text)
	return err
}

// auditSummary is a line about a trail.
func auditSummary(r record.Report) string {
	text := fmt.Sprintf("%d records", r.Records)
	if !r.First.IsZero() {
		text += fmt.Sprintf(", from %s to %s", r.First.Format(time.RFC3339), r.Last.Format(time.RFC3339))
	}
	return text + fmt.Sprintf(", %d segments, %d gaps", r.Segments, r.Gaps)
}

func writeAuditReport(w io.Writer, r record.Report) error {
	text := auditSummary(r) + "\n"
	if r.Lost > 0 {
		text += fmt.Sprintf("lost before they were read: %d messages\n", r.Lost)
	}
	if r.Streams > 1 {
		text += fmt.Sprintf("streams: %d, or the same one begun again\n", r.Streams)
	}
	_, err := fmt.Fprintf(w, "%slast record: %d, hash %s\n", text, r.Head.N, r.Head.Hash)
	return err
}
