package doctor

import (
	"fmt"
	"io"
	"strings"

	"orkestra.dev/cli/internal/tree"
)

// Width of what Write writes, in columns.
const Width = 80

var marks = map[Level]string{Problem: "✗", Unknown: "?", Warning: "!", OK: "✓"}

// Write the report for people: a line to a check, then what was found.
func Write(w io.Writer, r Report) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%-13s%-11s%s\n", "CHECK", "RESULT", "SEEN")
	for _, c := range r.Checks {
		line := fmt.Sprintf("%-13s%s %-9s%s", c.Check, marks[c.Level], c.Level, tree.OneLine(c.Detail))
		b.WriteString(strings.TrimRight(tree.Cut(line, Width), " ") + "\n")
	}
	for _, f := range r.Findings {
		b.WriteString("\n")
		wrap(&b, fmt.Sprintf("%s %s: ", marks[f.Level], f.Name), f.What)
		wrap(&b, "  why: ", f.Why)
		wrap(&b, "  do:  ", f.Do)
	}
	fmt.Fprintf(&b, "\n%s\n", summary(r))
	_, err := io.WriteString(w, b.String())
	return err
}

func summary(r Report) string {
	counts := map[Level]int{}
	for _, f := range r.Findings {
		counts[f.Level]++
	}
	if len(r.Findings) == 0 {
		return "Nothing is wrong."
	}
	return fmt.Sprintf("%d wrong, %d not seen, %d to know of.", counts[Problem], counts[Unknown], counts[Warning])
}

// wrap a text after a head; lines that follow are indented.
func wrap(b *strings.Builder, head, text string) {
	const indent = "       "
	lines := tree.Wrap(head+text, Width-len(indent))
	for i, line := range lines {
		switch {
		case i > 0:
			line = indent + line
		case strings.HasPrefix(head, "  "):
			line = "  " + line
		}
		b.WriteString(line + "\n")
	}
}
