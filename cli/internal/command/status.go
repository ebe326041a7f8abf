package command

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"orkestra.dev/cli/internal/tree"
)

func newStatus(name string) *cobra.Command {
	var c cluster
	var watch bool
	var timeout, every time.Duration
	cmd := &cobra.Command{
		Use:   "status NAME",
		Short: "Show how far a group is",
		Long: `Status shows a group, its applications and the releases of each: the phase, how long
it took or has taken, and what Helm says.

With --watch it goes on until the rollout is over, and the exit code is 0 where the
group is ready, and 1 where it failed or --timeout passed. Where the output is not a
terminal, a line is printed when it changes.`,
		Example: examples(name, `
orkestra status bookinfo

# In a pipeline: apply, and wait for the outcome
kubectl apply -f group.yaml
orkestra status bookinfo --watch --timeout 15m`),
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			from, err := c.client()
			if err != nil {
				return err
			}
			look := func(ctx context.Context) (tree.State, error) {
				s, err := c.state(ctx, from, args[0])
				s.Now = time.Now()
				return s, err
			}
			if watch {
				return follow(cmd, look, every, timeout)
			}
			s, err := look(cmd.Context())
			if err != nil {
				return err
			}
			style := terminal(cmd.OutOrStdout())
			style.Height = 0
			_, err = fmt.Fprintln(cmd.OutOrStdout(), strings.Join(tree.Lines(tree.Of(s), style), "\n"))
			return err
		},
	}
	cmd.Flags().BoolVarP(&watch, "watch", "w", false, "go on until the rollout is over")
	cmd.Flags().DurationVar(&timeout, "timeout", 0, "with --watch: give up after this time; 0 is never")
	cmd.Flags().DurationVar(&every, "interval", time.Second, "with --watch: time between two looks")
	c.add(cmd.Flags())
	return cmd
}

// follow looks again and again, until the rollout is over. A cluster that cannot be
// reached for a while is waited for, once it has been reached.
func follow(cmd *cobra.Command, look func(context.Context) (tree.State, error), every, timeout time.Duration) error {
	if every <= 0 {
		return &usageError{fmt.Errorf("--interval %s: want more than nothing", every), cmd.CommandPath()}
	}
	ctx := cmd.Context()
	var late <-chan time.Time
	if timeout > 0 {
		timer := time.NewTimer(timeout)
		defer timer.Stop()
		late = timer.C
	}
	again := time.NewTicker(every)
	defer again.Stop()

	out := newScreen(cmd.OutOrStdout())
	seen := false
	for {
		s, err := look(ctx)
		switch {
		case ctx.Err() != nil:
			return errFailed // interrupted: the question has no answer
		case apierrors.IsNotFound(err) && seen:
			return out.say("the group is gone")
		case err != nil && (!seen || !passing(err)):
			return err
		case err != nil:
			if err := out.say(err.Error()); err != nil {
				return err
			}
		default:
			seen = true
			if err := out.show(tree.Of(s)); err != nil {
				return err
			}
			switch over, ok := tree.Done(s.Group); {
			case over && ok:
				return nil
			case over:
				return errFailed
			}
		}
		select {
		case <-ctx.Done():
			return errFailed
		case <-late:
			return fmt.Errorf("group %s is not ready after %s", cmd.Flags().Arg(0), timeout)
		case <-again.C:
		}
	}
}

// passing says whether an error may not be there the next time.
func passing(err error) bool {
	var status apierrors.APIStatus
	if !errors.As(err, &status) {
		return true // no answer
	}
	return apierrors.IsServerTimeout(err) || apierrors.IsTimeout(err) || apierrors.IsTooManyRequests(err) ||
		apierrors.IsServiceUnavailable(err) || apierrors.IsInternalError(err)
}

// terminal is the style for a writer: of that terminal's size, or plain.
func terminal(w io.Writer) tree.Style {
	f, ok := w.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return tree.Style{}
	}
	s := tree.Style{Color: os.Getenv("NO_COLOR") == ""}
	if width, height, err := term.GetSize(int(f.Fd())); err == nil {
		s.Width, s.Height = width, height-1
	}
	return s
}

// screen shows a tree in place of the one before.
type screen struct {
	w     io.Writer
	live  bool // a terminal, which can be written over
	drawn int
	last  map[string]string
}

func newScreen(w io.Writer) *screen {
	return &screen{w: w, live: terminal(w).Width > 0, last: map[string]string{}}
}

// show a tree. On a terminal the lines are written over the old ones, in one write and
// without erasing them first, so that nothing flickers.
func (s *screen) show(root tree.Node) error {
	if !s.live {
		return s.log(root)
	}
	lines := tree.Lines(root, terminal(s.w))
	var b strings.Builder
	if s.drawn > 0 {
		fmt.Fprintf(&b, "\x1b[%dA\r", s.drawn)
	}
	for _, l := range lines {
		b.WriteString(l + "\x1b[K\n")
	}
	b.WriteString("\x1b[J")
	s.drawn = len(lines)
	delete(s.last, "")
	_, err := io.WriteString(s.w, b.String())
	return err
}

// log prints the nodes whose phase or message has changed, one to a line.
func (s *screen) log(root tree.Node) error {
	var b strings.Builder
	note := func(path string, n tree.Node) {
		line := strings.TrimSpace(fmt.Sprintf("%-10s %s", n.Phase, tree.OneLine(n.Message)))
		if s.last[path] != line {
			s.last[path] = line
			fmt.Fprintf(&b, "%-40s %s\n", path, line)
		}
	}
	for _, app := range root.Children {
		for _, r := range app.Children {
			note(root.Name+"/"+app.Name+"/"+r.Name, r)
		}
	}
	note(root.Name, root)
	delete(s.last, "")
	_, err := io.WriteString(s.w, b.String())
	return err
}

// say a line under the tree.
func (s *screen) say(text string) error {
	if s.last[""] == text {
		return nil
	}
	s.last[""] = text
	if s.live {
		s.drawn++
		text += "\x1b[K"
	}
	_, err := fmt.Fprintln(s.w, text)
	return err
}
