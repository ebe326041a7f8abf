package command

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"orkestra.dev/cli/internal/draw"
	"orkestra.dev/pkg/events"
	"orkestra.dev/services/compiler/compile"
	"orkestra.dev/services/stager/stage"
)

func newGraph(name string) *cobra.Command {
	var from files
	var format, direction string
	var charts bool
	cmd := &cobra.Command{
		Use:   "graph -f FILE",
		Short: "Show what comes before what",
		Long: `Graph shows the order in which a group is installed, or undone: applications, the
releases of each, and the executors of those that have several.

It is the order that the spec names. Subcharts that the spec does not name are
releases too where a chart is split: --fetch gets the charts and shows those as well.`,
		Example: examples(name, `
orkestra graph -f group.yaml

# A picture
orkestra graph -f group.yaml -o dot | dot -Tsvg > group.svg

# The order of a deletion, for a program
orkestra graph -f group.yaml --type reverse -o json`),
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			write, ok := draw.Formats[format]
			if !ok {
				return &usageError{fmt.Errorf("--output %q: want one of %s", format, strings.Join(slices.Sorted(maps.Keys(draw.Formats)), ", ")), cmd.CommandPath()}
			}
			kind := events.WorkflowType(direction)
			if kind != events.WorkflowForward && kind != events.WorkflowReverse {
				return &usageError{fmt.Errorf("--type %q: want %s or %s", direction, events.WorkflowForward, events.WorkflowReverse), cmd.CommandPath()}
			}
			set, err := from.valid(cmd)
			if err != nil {
				return err
			}
			for _, d := range set.Groups {
				var staged []events.StagedApplication
				if charts {
					apps, err := fetch(cmd, set, d.Group)
					if err != nil {
						return err
					}
					staged = stage.Staged(d.Group, apps).Applications
				}
				g, err := compile.Graph(d.Group, staged)
				if err != nil {
					return fmt.Errorf("group %s: %w", d.Group.Name, err)
				}
				if kind == events.WorkflowReverse {
					g = g.Reverse()
				}
				if err := write(cmd.OutOrStdout(), g); err != nil {
					return err
				}
			}
			return nil
		},
	}
	from.add(cmd)
	cmd.Flags().StringVarP(&format, "output", "o", "text", "format: text, json, mermaid or dot")
	cmd.Flags().StringVar(&direction, "type", string(events.WorkflowForward), "way through the graph: forward or reverse")
	cmd.Flags().BoolVar(&charts, "fetch", false, "get the charts, and show the subcharts that the spec does not name too")
	return cmd
}
