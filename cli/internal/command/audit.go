package command

import (
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"time"

	"github.com/spf13/cobra"

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
	cmd := &cobra.Command{
		Use:   "verify DIR",
		Short: "Find the first record that was altered, removed or moved",
		Long: `Verify reads the segments of a trail in their order and names the first record that
was altered, removed or moved, with its file and line. The exit code is 1 then.

A chain cannot show by itself that its end was cut off, or that all of it was written
anew. For that, keep a hash elsewhere (each HTTP sink gets them) and give it with
--contains. While the auditor writes, the last line may be unfinished; ask again.`,
		Example: examples(name, `
orkestra audit verify /var/lib/orkestra/audit

# Is it still the trail that I have seen?
orkestra audit verify /var/lib/orkestra/audit --contains HASH`),
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
			seen := contains == ""
			v.See = func(r record.Record) { seen = seen || r.Hash == contains }
			err := v.Folder(os.DirFS(args[0]))
			if bad, ok := errors.AsType[*record.Bad](err); ok {
				cmd.PrintErrf("bad: %v\n", bad)
				cmd.PrintErrf("before it: %s\n", auditSummary(v.Report()))
				return errFailed
			}
			if err != nil {
				return fmt.Errorf("reading the trail: %w", err)
			}
			if v.Report().Records == 0 {
				return fmt.Errorf("%s has no records: want the folder that the auditor writes to", args[0])
			}
			if !seen {
				cmd.PrintErrf("bad: no record has the hash %s: the end was cut off, or it is another trail\n", contains)
				return errFailed
			}
			return writeAuditReport(cmd.OutOrStdout(), v.Report())
		},
	}
	fs := cmd.Flags()
	fs.BoolVar(&v.Partial, "partial", false, "let the trail begin after its first record: older segments are kept elsewhere")
	fs.StringVar(&contains, "contains", "", "hash of a record that has to be in the trail")
	return cmd
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
