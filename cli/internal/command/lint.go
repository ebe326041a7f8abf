package command

import (
	"fmt"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/util/sets"

	"orkestra.dev/cli/internal/manifest"
)

func newLint(name string) *cobra.Command {
	var from files
	cmd := &cobra.Command{
		Use:   "lint -f FILE",
		Short: "Check ApplicationGroups without a cluster",
		Long: `Lint reads ApplicationGroups as an API server would, only stricter, and says what is
wrong with each: fields that there are not, values of the wrong type, dependencies on
what is not there, cycles, names that collide. Each problem names its file, line and
field. The exit code is 1 where there is one.

Lint does not fetch the charts: whether a subchart exists is for render to say.`,
		Example: examples(name, `
orkestra lint -f group.yaml

# All files of a folder
orkestra lint -f groups/

# What another program writes
helm template ./my-groups | orkestra lint -f -`),
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			set, err := from.valid(cmd)
			if err != nil {
				return err
			}
			for _, p := range duplicates(set.Groups) {
				cmd.PrintErrln(p)
				err = errFailed
			}
			if err != nil {
				return err
			}
			for _, d := range set.Groups {
				releases := 0
				for _, app := range d.Group.Spec.Applications {
					releases += 1 + len(app.Spec.Subcharts)
				}
				cmd.Printf("%s: %d applications, %d releases in the spec\n", d.Group.Name, len(d.Group.Spec.Applications), releases)
			}
			return nil
		},
	}
	from.add(cmd)
	return cmd
}

// duplicates are groups of the same name, of which the second would replace the first.
func duplicates(docs []*manifest.Document) []*manifest.Problem {
	seen := sets.New[string]()
	var out []*manifest.Problem
	for _, d := range docs {
		if seen.Has(d.Group.Name) {
			out = append(out, d.Problem("metadata.name", fmt.Sprintf("%q is the name of an earlier group in these files too", d.Group.Name)))
		}
		seen.Insert(d.Group.Name)
	}
	return out
}
