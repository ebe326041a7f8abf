package command

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"orkestra.dev/api/v1alpha1"
	"orkestra.dev/cli/internal/change"
	"orkestra.dev/cli/internal/history"
)

// exitTrouble is the exit code of diff where something went wrong, as that of diff(1)
// and kubectl diff: 1 says that there are differences.
const exitTrouble = 2

// differ is a run of diff.
type differ struct {
	cluster  cluster
	files    files
	revision string
	out      output
}

func newDiff(name string, open opener) *cobra.Command {
	d := differ{cluster: cluster{program: name, open: open}}
	cmd := &cobra.Command{
		Use:   "diff [NAME]",
		Short: "Show what is different from what a group runs",
		Long: `Diff compares what a group runs, which is its last revision that was rolled out whole,
with its spec as it is now; with -f with that of a file; with --revision with that of
another revision. It shows which applications and subcharts are added, removed, upgraded
and changed, and a unified diff of the specs as YAML. What means nothing, such as the
order of applications, makes no difference.

A range of versions may come to something else than it did: the versions that it came to
are shown where they are known. Values that the spec refers to in ConfigMaps and Secrets
are not looked at.

The exit code is 0 where there is no difference, 1 where there is one, and more where
something went wrong.`,
		Example: examples(name, `
# What has been asked for since?
orkestra diff bookinfo

# What would applying this change?
orkestra diff bookinfo -f group.yaml

# What was revision 3?
orkestra diff bookinfo --revision 3`),
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			diff, err := d.run(cmd, args)
			if err == nil && !diff.Same() {
				return errFailed
			}
			var usage *usageError
			if err == nil || errors.As(err, &usage) {
				return err
			}
			return &exitError{err: err, code: exitTrouble}
		},
	}
	d.files.add(cmd)
	cmd.Flags().StringVar(&d.revision, "revision", "", "compare with this revision: its number, or the name of its workflow")
	d.out.add(cmd)
	d.cluster.add(cmd.Flags())
	return cmd
}

func (d *differ) run(cmd *cobra.Command, args []string) (change.Diff, error) {
	var diff change.Diff
	if err := d.out.check(cmd); err != nil {
		return diff, err
	}
	if len(args) == 0 && len(d.files) == 0 {
		return diff, &usageError{errors.New("say which group"), cmd.CommandPath()}
	}
	if d.revision != "" && len(d.files) > 0 {
		return diff, &usageError{errors.New("--revision and --filename: choose one"), cmd.CommandPath()}
	}
	var manifest *v1alpha1.ApplicationGroup
	if len(d.files) > 0 {
		var err error
		if manifest, err = d.manifest(cmd, args); err != nil {
			return diff, err
		}
		args = []string{manifest.Name}
	}
	from, to, err := d.sides(cmd.Context(), args[0], manifest)
	if err != nil {
		return diff, err
	}
	if diff, err = change.Compare(from, to); err != nil {
		return diff, err
	}
	return diff, d.out.write(cmd.OutOrStdout(), diff, func(w io.Writer) error { return writeDiff(w, diff) })
}

// manifest is the group of the files that has the name, or the only one.
func (d *differ) manifest(cmd *cobra.Command, args []string) (*v1alpha1.ApplicationGroup, error) {
	set, err := d.files.valid(cmd)
	if err != nil {
		return nil, err
	}
	if len(args) == 0 && len(set.Groups) == 1 {
		return set.Groups[0].Group, nil
	}
	var names []string
	for _, doc := range set.Groups {
		if len(args) > 0 && doc.Group.Name == args[0] {
			return doc.Group, nil
		}
		names = append(names, doc.Group.Name)
	}
	if len(args) == 0 {
		return nil, &usageError{fmt.Errorf("say which group of the files: %v", names), cmd.CommandPath()}
	}
	return nil, fmt.Errorf("group %s is not in the files; they have %v", args[0], names)
}

// sides to compare. A group of the files need not be in the cluster yet.
func (d *differ) sides(ctx context.Context, name string, manifest *v1alpha1.ApplicationGroup) (from, to change.Side, err error) {
	reader, group, err := d.cluster.group(ctx, name)
	if manifest != nil {
		to = change.Side{Label: name + " in the files", Spec: &manifest.Spec}
		if apierrors.IsNotFound(err) {
			return change.Side{Label: "nothing: group " + name + " is not in the cluster"}, to, nil
		}
	}
	if err != nil {
		return from, to, err
	}
	revisions, err := d.cluster.revisions(ctx, reader, group)
	if err != nil {
		return from, to, err
	}
	from = change.Side{Label: "nothing: no revision of group " + name + " has been rolled out whole"}
	if r, ok := history.Running(revisions); ok {
		from = revisionSide(name, r)
	}
	switch {
	case manifest != nil:
	case d.revision != "":
		r, err := history.Select(name, revisions, d.revision)
		if err != nil {
			return from, to, err
		}
		to = revisionSide(name, r)
	default:
		to = liveSide(group, revisions)
	}
	return from, to, nil
}

func revisionSide(group string, r history.Revision) change.Side {
	return change.Side{Label: group + " " + revisionName(r), Spec: &r.Spec, Resolved: r.Charts()}
}

// liveSide is the group's spec as it is now, with the versions that it came to where it
// has been staged.
func liveSide(group *v1alpha1.ApplicationGroup, revisions []history.Revision) change.Side {
	side := change.Side{Label: fmt.Sprintf("%s spec (generation %d)", group.Name, group.Generation), Spec: &group.Spec}
	if asked, ok := history.Asked(group, revisions); ok {
		side.Resolved = asked.Charts()
		return side
	}
	staged := apimeta.FindStatusCondition(group.Status.Conditions, v1alpha1.ConditionStaged)
	if staged == nil || staged.Status != metav1.ConditionTrue || staged.ObservedGeneration != group.Generation {
		return side
	}
	side.Resolved = map[string]change.Chart{}
	for _, app := range group.Status.Applications {
		c := change.Chart{Chart: app.Chart, Version: app.Version, Subcharts: map[string]string{}}
		for name, s := range app.Subcharts {
			c.Subcharts[name] = s.Version
		}
		side.Resolved[app.Name] = c
	}
	return side
}

// writeDiff for people: the changes in words, then those of the YAML.
func writeDiff(w io.Writer, d change.Diff) error {
	for _, c := range d.Changes {
		if _, err := fmt.Fprintln(w, c); err != nil {
			return err
		}
	}
	if d.Unified == "" {
		return nil
	}
	text := d.Unified
	if terminal(w).Color {
		text = colored(text)
	}
	if len(d.Changes) > 0 {
		text = "\n" + text
	}
	_, err := io.WriteString(w, text)
	return err
}
