package command

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/util/duration"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"orkestra.dev/api/v1alpha1"
	"orkestra.dev/cli/internal/tree"
)

func newStatus(name string, open opener) *cobra.Command {
	c := cluster{program: name, open: open}
	var watch bool
	var timeout, every time.Duration
	var out output
	var at string
	var told stream
	cmd := &cobra.Command{
		Use:   "status [NAME]",
		Short: "Show how far a group is, or how all groups are",
		Long: `Status shows a group, its rollout, its applications and the releases of each: the
phase, how long it took or has taken, and what Helm says. Without a name it lists all
groups.

With --watch it goes on until the rollout is over, and the exit code is 0 where the
group is ready, and 1 where it failed, is suspended, or --timeout passed. Where the
output is not a terminal, a line is printed when it changes.

With --at it shows how the group stood then, from what was said of it until then in the
stream ORKESTRA, and asks no cluster: the group may be gone by now. What the stream does
not tell, it does not show: a change that is not announced yet, the condition of a
release that nobody touched.`,
		Example: examples(name, `
# All groups
orkestra status

orkestra status bookinfo

# In a pipeline: apply, and wait for the outcome
kubectl apply -f group.yaml
orkestra status bookinfo --watch --timeout 15m

# How was it before the night?
orkestra status bookinfo --at 2026-05-04T22:00:00Z
orkestra status bookinfo --at 8h`),
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := out.check(cmd); err != nil {
				return err
			}
			if watch && len(args) == 0 {
				return &usageError{errors.New("--watch: say which group to watch"), cmd.CommandPath()}
			}
			if watch && out.format != "text" {
				return &usageError{fmt.Errorf("--watch is for people, and --output %s for programs: choose one", out.format), cmd.CommandPath()}
			}
			if at != "" {
				if len(args) == 0 || watch {
					return &usageError{errors.New("--at: say which group, and leave out --watch"), cmd.CommandPath()}
				}
				return statusAt(cmd, &told, args[0], at, out)
			}
			from, err := c.client()
			if err != nil {
				return err
			}
			if len(args) == 0 {
				return list(cmd, from, out)
			}
			look := c.look(from, args[0])
			if watch {
				return follow(cmd, following{look: look, done: tree.Done, every: every, timeout: timeout, program: name})
			}
			s, err := look(cmd.Context())
			if err != nil {
				return err
			}
			return out.write(cmd.OutOrStdout(), viewOf(s), func(w io.Writer) error {
				style := terminal(w)
				style.Height, style.Width = 0, cmp.Or(style.Width, textWidth)
				lines := append(tree.Lines(tree.Of(s), style), closing(s.Group, name, style.Width)...)
				_, err := fmt.Fprintln(w, strings.Join(lines, "\n"))
				return err
			})
		},
	}
	cmd.Flags().BoolVarP(&watch, "watch", "w", false, "go on until the rollout is over")
	cmd.Flags().DurationVar(&timeout, "timeout", 0, "with --watch: give up after this time; 0 is never")
	cmd.Flags().DurationVar(&every, "interval", pace, "with --watch: time between two looks")
	cmd.Flags().StringVar(&at, "at", "", "show how the group stood at a time (RFC 3339), or an age such as 1h ago, from the stream alone")
	out.add(cmd)
	c.add(cmd.Flags())
	told.add(cmd.Flags())
	return cmd
}

// view is a group as programs read it.
type view struct {
	Name       string                  `json:"name"`
	Phase      tree.Phase              `json:"phase"`
	Message    string                  `json:"message,omitempty"`
	Generation int64                   `json:"generation"`
	Suspended  bool                    `json:"suspended"`
	Created    time.Time               `json:"created"`
	Rollout    *v1alpha1.RolloutStatus `json:"rollout,omitempty"`
	// Applications with their releases; not in a list of groups.
	Applications []nodeView `json:"applications,omitempty"`
}

// nodeView is an application or a release.
type nodeView struct {
	Name    string     `json:"name"`
	Phase   tree.Phase `json:"phase"`
	Message string     `json:"message,omitempty"`
	// Seconds that the phase took, or has taken by now.
	Seconds  float64    `json:"seconds,omitempty"`
	Releases []nodeView `json:"releases,omitempty"`
}

func viewOf(s tree.State) view {
	root := tree.Of(s)
	g := s.Group
	return view{
		Name: g.Name, Phase: root.Phase, Message: root.Message, Generation: g.Generation, Suspended: g.Spec.Suspend,
		Created: g.CreationTimestamp.UTC(), Rollout: g.Status.Rollout, Applications: nodeViews(root.Children),
	}
}

func nodeViews(nodes []tree.Node) []nodeView {
	var out []nodeView
	for _, n := range nodes {
		out = append(out, nodeView{Name: n.Name, Phase: n.Phase, Message: n.Message, Seconds: n.Took.Seconds(), Releases: nodeViews(n.Children)})
	}
	return out
}

// list all groups.
func list(cmd *cobra.Command, from client.Reader, out output) error {
	var groups v1alpha1.ApplicationGroupList
	if err := from.List(cmd.Context(), &groups); err != nil {
		return unread("listing groups", err)
	}
	slices.SortFunc(groups.Items, func(a, b v1alpha1.ApplicationGroup) int { return cmp.Compare(a.Name, b.Name) })
	now := time.Now()
	views := []view{}
	var rows [][]string
	for i := range groups.Items {
		g := &groups.Items[i]
		v := viewOf(tree.State{Group: g, Now: now})
		v.Applications = nil
		views = append(views, v)
		progress := ""
		if r := g.Status.Rollout; r != nil && r.Generation == g.Generation {
			progress = strings.TrimSpace(r.Type + " " + r.Progress)
		}
		rows = append(rows, []string{
			g.Name, string(v.Phase), progress, strconv.Itoa(len(g.Spec.Applications)), age(now, g.CreationTimestamp.Time), tree.Message(g),
		})
	}
	return out.write(cmd.OutOrStdout(), views, func(w io.Writer) error {
		if len(rows) == 0 {
			cmd.PrintErrln("there are no groups in this cluster")
			return nil
		}
		header := []string{"NAME", "PHASE", "ROLLOUT", "APPLICATIONS", "AGE", "MESSAGE"}
		return table(w, len(header)-1, header, rows)
	})
}

// age as kubectl writes it.
func age(now, created time.Time) string {
	if created.IsZero() {
		return "unknown"
	}
	return duration.HumanDuration(now.Sub(created))
}

// following is what follow is to do.
type following struct {
	look func(context.Context) (tree.State, error)
	// done says whether what is waited for is over, and how it ended.
	done           func(*v1alpha1.ApplicationGroup) (over, ok bool)
	every, timeout time.Duration
	// seen: the group was there before the first look.
	seen bool
	// aim is what the group is to become; "ready" where it is empty.
	aim string
	// gone is the error where the group goes; nil where that is a good end.
	gone error
	// program is the command line's name, for what it advises in the end.
	program string
}

// follow looks again and again, until it is over. A cluster that cannot be reached for a
// while is waited for, once it has been reached.
func follow(cmd *cobra.Command, f following) error {
	if f.every <= 0 {
		return &usageError{fmt.Errorf("--interval %s: want more than nothing", f.every), cmd.CommandPath()}
	}
	ctx := cmd.Context()
	var late <-chan time.Time
	if f.timeout > 0 {
		timer := time.NewTimer(f.timeout)
		defer timer.Stop()
		late = timer.C
	}
	again := time.NewTicker(f.every)
	defer again.Stop()

	out := newScreen(cmd.OutOrStdout())
	for {
		s, err := f.look(ctx)
		switch {
		case ctx.Err() != nil:
			return errFailed // interrupted: the question has no answer
		case apierrors.IsNotFound(err) && f.seen:
			return errors.Join(out.say("the group is gone"), f.gone)
		case err != nil && (!f.seen || !passing(err)):
			return err
		case err != nil:
			if err := out.say(err.Error()); err != nil {
				return err
			}
		default:
			f.seen = true
			if err := out.show(tree.Of(s)); err != nil {
				return err
			}
			switch over, ok := f.done(s.Group); {
			case over && ok:
				return nil
			case over:
				for _, line := range closing(s.Group, f.program, cmp.Or(terminal(cmd.OutOrStdout()).Width, textWidth)) {
					cmd.Println(line)
				}
				return errFailed
			}
		}
		select {
		case <-ctx.Done():
			return errFailed
		case <-late:
			return fmt.Errorf("group %s is not %s after %s", cmd.Flags().Arg(0), cmp.Or(f.aim, "ready"), f.timeout)
		case <-again.C:
		}
	}
}

// closing is what there is to say under the tree of a group that is not ready: its
// message in full, and what to do.
func closing(group *v1alpha1.ApplicationGroup, program string, width int) []string {
	text, verb := tree.Advice(group)
	if text == "" {
		return nil
	}
	lines := append([]string{""}, tree.Wrap(tree.Message(group), width-1)...)
	lines = append(append(lines, ""), tree.Wrap(text, width-1)...)
	return append(lines, fmt.Sprintf("  %s %s %s", program, verb, group.Name))
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
	root.Message = tree.Cut(tree.OneLine(root.Message), textWidth) // in full at the end
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
