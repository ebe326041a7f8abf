package command

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"unicode/utf8"

	"github.com/spf13/cobra"
	"sigs.k8s.io/yaml"

	"orkestra.dev/cli/internal/tree"
)

// output is the flag -o of a command that prints data: text, json or yaml.
type output struct{ format string }

func (o *output) add(cmd *cobra.Command) {
	cmd.Flags().StringVarP(&o.format, "output", "o", "text", "format: text, json or yaml")
}

func (o *output) check(cmd *cobra.Command) error {
	switch o.format {
	case "text", "json", "yaml":
		return nil
	default:
		return &usageError{fmt.Errorf("--output %q: want text, json or yaml", o.format), cmd.CommandPath()}
	}
}

// write the data as the user wants it; text is how it is written for people.
func (o *output) write(w io.Writer, data any, text func(io.Writer) error) error {
	if o.format == "text" {
		return text(w)
	}
	raw, err := json.MarshalIndent(data, "", "  ")
	if err == nil && o.format == "yaml" {
		raw, err = yaml.JSONToYAML(raw)
	}
	if err != nil {
		return fmt.Errorf("writing %s: %w", o.format, err)
	}
	_, err = fmt.Fprintln(w, strings.TrimRight(string(raw), "\n"))
	return err
}

const (
	// pageWidth is how wide a table is that goes to no terminal.
	pageWidth = 120
	// textWidth is how wide a text is that goes to no terminal.
	textWidth = 100
	// leastFlex is what a table's wide column keeps, however narrow the terminal.
	leastFlex = 16
)

// table writes rows below their header, in as many columns as the terminal has. The
// flex'th column, of those counted from 0, gives way where that is too few.
func table(w io.Writer, flex int, header []string, rows [][]string) error {
	style := terminal(w)
	width := pageWidth
	if style.Width > 0 {
		width = style.Width
	}
	all := append([][]string{header}, rows...)
	widths := make([]int, len(header))
	for _, row := range all {
		for i := range row {
			row[i] = tree.OneLine(row[i])
			widths[i] = max(widths[i], utf8.RuneCountInString(row[i]))
		}
	}
	room := width - 1
	for i, n := range widths {
		if i != flex {
			room -= n + 2
		}
	}
	room = max(room, leastFlex)
	var b bytes.Buffer
	tw := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	for _, row := range all {
		row[flex] = tree.Cut(row[flex], room)
		fmt.Fprintln(tw, strings.Join(row, "\t"))
	}
	if err := tw.Flush(); err != nil {
		return fmt.Errorf("writing a table: %w", err)
	}
	for line := range strings.Lines(b.String()) {
		line = strings.TrimRight(line, " \n")
		if style.Width > 0 {
			line = tree.Cut(line, width-1)
		}
		if _, err := fmt.Fprintln(w, line); err != nil {
			return err
		}
	}
	return nil
}

// colored is a unified diff in the colors that diffs have on a terminal.
func colored(diff string) string {
	var b strings.Builder
	for line := range strings.Lines(diff) {
		text, end := strings.CutSuffix(line, "\n")
		code := ""
		switch {
		case strings.HasPrefix(text, "--- "), strings.HasPrefix(text, "+++ "):
			code = "1"
		case strings.HasPrefix(text, "@@"):
			code = "36"
		case strings.HasPrefix(text, "-"):
			code = "31"
		case strings.HasPrefix(text, "+"):
			code = "32"
		}
		if code != "" {
			text = "\x1b[" + code + "m" + text + "\x1b[0m"
		}
		b.WriteString(text)
		if end {
			b.WriteString("\n")
		}
	}
	return b.String()
}
