package tree

import (
	"fmt"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// Style of the lines.
type Style struct {
	// Width is how many columns there are; 0 for as many as it takes.
	Width int
	// Height is how many lines there are; 0 for as many as it takes. Where they are
	// too few, applications without a trouble or a work in them are folded.
	Height int
	// Color writes phases in color.
	Color bool
}

// colors of the phases, as ANSI codes.
var colors = map[Phase]string{
	Ready: "32", Degraded: "33", Failed: "31", Deleting: "35", Installing: "36", Upgrading: "36", Working: "36", Waiting: "90", Pending: "90", Gone: "90", Suspended: "33",
}

var marks = map[Phase]string{
	Ready: "✓", Degraded: "!", Failed: "✗", Deleting: "↓", Installing: "↻", Upgrading: "↻", Working: "↻", Waiting: "·", Pending: "·", Gone: "✓", Suspended: "‖",
}

// line of the tree, before it is cut to the width.
type line struct {
	prefix string
	node   Node
}

// Lines of a tree.
func Lines(root Node, s Style) []string {
	lines := flatten(root, func(Node) bool { return false })
	if s.Height > 0 && len(lines) > s.Height {
		lines = flatten(root, func(n Node) bool { return n.Phase == Ready || n.Phase == Pending || n.Phase == Gone })
	}
	more := 0
	if s.Height > 0 && len(lines) > s.Height {
		more = len(lines) - s.Height + 1
		lines = lines[:max(s.Height-1, 1)]
	}
	nameWidth, phaseWidth, tookWidth := 0, 0, 0
	for _, l := range lines {
		nameWidth = max(nameWidth, utf8.RuneCountInString(l.prefix+OneLine(l.node.Name)))
		phaseWidth = max(phaseWidth, utf8.RuneCountInString(phase(l.node)))
		tookWidth = max(tookWidth, len(took(l.node.Took)))
	}
	if s.Width > 0 {
		// The phase and the time stay in sight: a long name gives way.
		nameWidth = min(nameWidth, max(s.Width-phaseWidth-tookWidth-6, 12))
	}
	out := make([]string, 0, len(lines)+1)
	for _, l := range lines {
		name := Cut(l.prefix+OneLine(l.node.Name), nameWidth)
		head := name + strings.Repeat(" ", nameWidth-utf8.RuneCountInString(name)) + "  "
		mid := phase(l.node)
		tail := strings.Repeat(" ", phaseWidth-utf8.RuneCountInString(mid)) + fmt.Sprintf("  %*s", tookWidth, took(l.node.Took))
		if message := OneLine(l.node.Message); message != "" {
			tail += "  " + message
		}
		tail = strings.TrimRight(tail, " ")
		if s.Width > 0 {
			// The last column stays free, or some terminals break the line.
			tail = Cut(tail, max(s.Width-1-utf8.RuneCountInString(head+mid), 0))
		}
		if code := colors[l.node.Phase]; s.Color && code != "" {
			mid = "\x1b[" + code + "m" + mid + "\x1b[0m"
		}
		out = append(out, head+mid+tail)
	}
	if more > 0 {
		out = append(out, fmt.Sprintf("… and %d more", more))
	}
	return out
}

func phase(n Node) string { return marks[n.Phase] + " " + string(n.Phase) }

// flatten the tree into lines, but for the children of applications to fold.
func flatten(root Node, fold func(Node) bool) []line {
	out := []line{{"", root}}
	for i, app := range root.Children {
		branch, stem := "├─ ", "│  "
		if i == len(root.Children)-1 {
			branch, stem = "└─ ", "   "
		}
		children := app.Children
		if fold(app) {
			app.Message = fmt.Sprintf("%d releases", len(children))
			children = nil
		}
		out = append(out, line{branch, app})
		for j, r := range children {
			leaf := "├─ "
			if j == len(children)-1 {
				leaf = "└─ "
			}
			out = append(out, line{stem + leaf, r})
		}
	}
	return out
}

// OneLine makes one line of a text that comes from a cluster, without anything that a
// terminal would obey.
func OneLine(s string) string {
	s = strings.Map(func(r rune) rune {
		switch {
		case unicode.IsSpace(r):
			return ' '
		case !unicode.IsPrint(r):
			return -1
		default:
			return r
		}
	}, s)
	return strings.Join(strings.Fields(s), " ")
}

// Cut a text to so many columns, with an ellipsis where something is lost.
func Cut(s string, width int) string {
	if utf8.RuneCountInString(s) <= width {
		return s
	}
	if width < 1 {
		return ""
	}
	return string([]rune(s)[:width-1]) + "…"
}

// Wrap a text into lines of at most so many columns. A word that is longer has a line
// of its own.
func Wrap(s string, width int) []string {
	var out []string
	for _, word := range strings.Fields(OneLine(s)) {
		if last := len(out) - 1; last >= 0 && utf8.RuneCountInString(out[last])+1+utf8.RuneCountInString(word) <= width {
			out[last] += " " + word
		} else {
			out = append(out, word)
		}
	}
	return out
}

// took is a duration in a few characters.
func took(d time.Duration) string {
	switch {
	case d <= 0:
		return ""
	case d < time.Second:
		return "<1s"
	case d < time.Minute:
		return fmt.Sprintf("%ds", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%dm%02ds", int(d.Minutes()), int(d.Seconds())%60)
	default:
		return fmt.Sprintf("%dh%02dm", int(d.Hours()), int(d.Minutes())%60)
	}
}
