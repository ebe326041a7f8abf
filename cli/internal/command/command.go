// Package command is Orkestra's command line. Each command reads, calls a core that
// the services use too, and writes; none of them knows more than the services do.
package command

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"orkestra.dev/cli/internal/manifest"
)

// Streams are where a command reads and writes.
type Streams struct {
	In       io.Reader
	Out, Err io.Writer
}

// errFailed says that the command has said all that there is to say, and that the
// answer is no.
var errFailed = errors.New("failed")

// Main runs the command line and gives the exit code: 0, or 1 where the answer is no
// or something went wrong, or 2 where the command was not understood.
func Main(args []string, s Streams) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // who interrupts again does not wait for what is being ended
	return execute(ctx, New(args[0], s), args[1:], s)
}

func execute(ctx context.Context, root *cobra.Command, args []string, s Streams) int {
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	if err != nil && strings.HasPrefix(err.Error(), "unknown command ") {
		// Cobra's own, with what might have been meant.
		err = &usageError{err, root.CommandPath()}
	}
	var usage *usageError
	var exit *exitError
	code := 1
	if errors.As(err, &exit) {
		code = exit.code
	}
	switch {
	case err == nil:
		return 0
	case errors.Is(err, errFailed):
		return code
	case errors.As(err, &usage):
		fmt.Fprintf(s.Err, "%s: %v\nSee '%s --help'.\n", root.DisplayName(), err, usage.command)
		return 2
	default:
		fmt.Fprintf(s.Err, "%s: %v\n", root.DisplayName(), err)
		return code
	}
}

// exitError is an error with an exit code of its own.
type exitError struct {
	err  error
	code int
}

func (e *exitError) Error() string { return e.err.Error() }
func (e *exitError) Unwrap() error { return e.err }

// usageError is a command line that makes no sense.
type usageError struct {
	err     error
	command string
}

func (e *usageError) Error() string { return e.err.Error() }
func (e *usageError) Unwrap() error { return e.err }

// New is the command line of the program of that name: "orkestra", and "kubectl
// orkestra" where the program is kubectl's plugin.
func New(program string, s Streams) *cobra.Command { return newRoot(program, s, open) }

func newRoot(program string, s Streams, open opener) *cobra.Command {
	name := "orkestra"
	if strings.HasPrefix(filepath.Base(program), "kubectl-") {
		name = "kubectl orkestra"
	}
	root := &cobra.Command{
		Use:   "orkestra",
		Short: "Roll out groups of Helm charts as one",
		Long: `Orkestra rolls out a stack of Helm charts as one: in order, down to the subcharts,
and back as one where it fails.

The command line checks and draws an ApplicationGroup, shows what would be installed,
follows what is, and takes it back. It calls the same code as the services do.`,
		Example: examples(name, `
# What is wrong with a file?
orkestra lint -f group.yaml

# What comes before what?
orkestra graph -f group.yaml

# What would be installed? No cluster is needed.
orkestra render -f group.yaml --out rendered

# How far is it?
orkestra status bookinfo --watch

# What was it before, and how does it get there again?
orkestra history bookinfo
orkestra rollback bookinfo`),
		Annotations:       map[string]string{cobra.CommandDisplayNameAnnotation: name},
		SilenceUsage:      true,
		SilenceErrors:     true,
		CompletionOptions: cobra.CompletionOptions{HiddenDefaultCmd: true},
	}
	root.SetIn(s.In)
	root.SetOut(s.Out)
	root.SetErr(s.Err)
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error { return &usageError{err, cmd.CommandPath()} })
	root.AddCommand(newLint(name), newGraph(name), newRender(name), newVerifySplit(name), newEvents(name), newAudit(name), newTrace(name), newDeadLetters(name, open), newBundle(name, open), newDoctor(name), newVersion(name), newServe(name),
		newStatus(name, open), newHistory(name, open), newDiff(name, open), newRollback(name, open), newReconcile(name, open),
		newRetry(name, open), newSuspend(name, open), newResume(name, open), newDelete(name, open))
	for _, cmd := range root.Commands() {
		check := cmd.Args
		cmd.Args = func(cmd *cobra.Command, args []string) error {
			if err := check(cmd, args); err != nil {
				return &usageError{err, cmd.CommandPath()}
			}
			return nil
		}
	}
	return root
}

// examples writes the examples of --help as the program is called.
func examples(name, text string) string {
	var b strings.Builder
	for line := range strings.SplitSeq(strings.TrimSpace(text), "\n") {
		if after, ok := strings.CutPrefix(line, "orkestra "); ok {
			line = name + " " + after
		}
		if line != "" {
			line = "  " + line
		}
		b.WriteString(line + "\n")
	}
	return strings.TrimRight(b.String(), "\n")
}

// files is the flag -f.
type files []string

func (f *files) add(cmd *cobra.Command) {
	cmd.Flags().StringArrayVarP((*[]string)(f), "filename", "f", nil, "file or folder with ApplicationGroups, - for the standard input; may be repeated")
}

// valid reads the groups, with the defaults of the API, and the Secrets beside them.
// Where something is wrong with a group each problem is written to the command's error
// stream, and the error is errFailed.
func (f files) valid(cmd *cobra.Command) (*manifest.Set, error) {
	if len(f) == 0 {
		return nil, &usageError{errors.New("say which file with -f"), cmd.CommandPath()}
	}
	set, err := manifest.Read(f, cmd.InOrStdin())
	var problem *manifest.Problem
	switch {
	case errors.As(err, &problem):
		cmd.PrintErrln(err)
		err = errFailed
	case err != nil:
		return nil, err
	}
	for _, d := range set.Groups {
		d.Group.SetDefaults()
		for _, p := range d.Validate() {
			cmd.PrintErrln(p)
			err = errFailed
		}
	}
	return set, err
}
