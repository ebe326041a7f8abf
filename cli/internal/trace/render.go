package trace

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"orkestra.dev/cli/internal/tree"
	"orkestra.dev/pkg/events"
)

// Style of the lines.
type Style struct {
	// Width is how many columns there are.
	Width int
	// Color writes what happened in color.
	Color bool
	// Details of a payload in a few words.
	Details func(events.Payload) string
	// Chosen is the id of an event that is pointed at; "" for none.
	Chosen string
}

const (
	red, green, gray, yellow, cyan = "31", "32", "90", "33", "36"

	// serviceWidth is as wide as the longest name of a service.
	serviceWidth = 8

	// leastShare of the time is told as a share.
	leastShare = 0.05
)

// Lines of a trace: what became of the rollout, a line for each fact, where the time
// went, and how the branches are to be read.
func Lines(t Trace, s Style) []string {
	if t.Group == "" && len(t.Steps) > 0 {
		return []string{fmt.Sprintf("%s of %s led to no rollout that the stream has", t.Steps[0].What, t.Steps[0].Time.Format(time.RFC3339))}
	}
	out := []string{heading(t)}
	if who := Who(t.Origin); who != "" {
		out = append(out, tree.Cut("asked for by "+tree.OneLine(who), s.Width-1))
	}
	out = append(out, "")
	var rows []row
	for _, root := range t.Steps {
		rows = append(rows, rowsOf(root, "", "")...)
	}
	width := 0
	for _, r := range rows {
		width = max(width, utf8.RuneCountInString(r.branch+r.step.What))
	}
	for _, r := range rows {
		out = append(out, r.line(width, s))
	}
	out = append(out, "", spent(t))
	return append(out, legend(t)...)
}

// row is a step with the branches before it.
type row struct {
	branch string
	step   *Step
}

func rowsOf(s *Step, branch, stem string) []row {
	out := []row{{branch, s}}
	for i, child := range s.Children {
		last := i == len(s.Children)-1
		corner, down := "├", "│  "
		if last {
			corner, down = "└", "   "
		}
		arm := "─ "
		if child.Link == LinkMeaning {
			arm = "┄ "
		}
		out = append(out, rowsOf(child, stem+corner+arm, stem+down)...)
	}
	return out
}

func (r row) line(width int, s Style) string {
	mark := " "
	if r.step.Slow {
		mark = "!"
	}
	took := ""
	if r.step.After != "" {
		took = fmt.Sprintf("%.3fs", r.step.Took)
	}
	head := fmt.Sprintf("%9s %8s %s ", fmt.Sprintf("+%.3fs", r.step.Offset), took, mark)
	what := r.step.What + strings.Repeat(" ", width-utf8.RuneCountInString(r.branch+r.step.What))
	tail := fmt.Sprintf("  %-*s  %s", serviceWidth, tree.OneLine(r.step.Service), tree.OneLine(s.Details(r.step.Data)))
	pointer := ""
	if r.step.ID == s.Chosen {
		pointer = "  ◀"
	}
	room := s.Width - 1 - utf8.RuneCountInString(head+r.branch+what+pointer)
	tail = strings.TrimRight(tree.Cut(tail, room), " ")
	if s.Color {
		what = "\x1b[" + color(r.step.Data) + "m" + what + "\x1b[0m"
		if r.step.Slow {
			head = "\x1b[" + yellow + "m" + head + "\x1b[0m"
		}
		return head + "\x1b[" + gray + "m" + r.branch + "\x1b[0m" + what + tail + pointer
	}
	return head + r.branch + what + tail + pointer
}

func color(p events.Payload) string {
	what := p.EventType().What()
	for _, bad := range []string{"failed", "rejected", "expired"} {
		if strings.HasSuffix(what, "."+bad) {
			return red
		}
	}
	for _, good := range []string{"ready", "succeeded", "unchanged", "staged"} {
		if strings.HasSuffix(what, "."+good) {
			return green
		}
	}
	return cyan
}

func heading(t Trace) string {
	text := fmt.Sprintf("%s generation %d", tree.OneLine(t.Group), t.Generation)
	if t.RequestedAt != "" {
		text += ", requested at " + tree.OneLine(t.RequestedAt)
	}
	if t.Outcome == "" {
		return fmt.Sprintf("%s: under way for %s, %d events", text, seconds(t.Seconds), t.Facts)
	}
	return fmt.Sprintf("%s: %s after %s, %d events", text, t.Outcome, seconds(t.Seconds), t.Facts)
}

// spent says where the time went, the largest part first.
func spent(t Trace) string {
	parts := slices.SortedStableFunc(slices.Values(t.Parts), func(a, b Part) int { return cmp.Compare(b.Seconds, a.Seconds) })
	var out []string
	for _, p := range parts {
		text := fmt.Sprintf("%s %.2fs", p.Stage, p.Seconds)
		if share := p.Seconds / max(t.Seconds, p.Seconds); share >= leastShare {
			text += fmt.Sprintf(" (%.0f%%)", 100*share)
		}
		out = append(out, text)
	}
	return "time: " + cmp.Or(strings.Join(out, ", "), "none yet")
}

func seconds(s float64) string {
	return time.Duration(s * float64(time.Second)).Round(time.Millisecond).String()
}

// legend of what is in the lines.
func legend(t Trace) (out []string) {
	var meant, slow bool
	var walk func([]*Step)
	walk = func(steps []*Step) {
		for _, s := range steps {
			meant, slow = meant || s.Link == LinkMeaning, slow || s.Slow
			walk(s.Children)
		}
	}
	walk(t.Steps)
	if meant {
		out = append(out, "─ the event names its cause   ┄ it names none, and belongs there by what it is about")
	}
	if slow {
		out = append(out, "! took much longer than others of its kind, or a large part of the whole time")
	}
	if t.Cut {
		out = append(out, "the stream no longer has the rollout's first events: times are from the oldest that it has")
	}
	return out
}
