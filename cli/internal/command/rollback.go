package command

import (
	"fmt"

	"github.com/spf13/cobra"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"orkestra.dev/api/v1alpha1"
	"orkestra.dev/cli/internal/change"
	"orkestra.dev/cli/internal/history"
)

// dryRuns are the values of --dry-run, as kubectl has them.
const (
	dryRunNone   = "none"
	dryRunClient = "client"
	dryRunServer = "server"
)

// rollback is a run of the command of that name.
type rollback struct {
	cluster  cluster
	waiting  waiting
	revision string
	dryRun   string
	yes      bool
}

func newRollback(name string, open opener) *cobra.Command {
	r := rollback{cluster: cluster{program: name, open: open}}
	cmd := &cobra.Command{
		Use:   "rollback NAME",
		Short: "Take a group back to an earlier revision",
		Long: `Rollback writes the spec of an earlier revision to the group, with the version of every
chart set to the one that was resolved then: a range would come to something else by
now. That is a new generation, which is rolled out like any other: only what is
different is touched.

Without --revision it is the last revision that was rolled out whole before what the
group asks for now, and that is not the same. What is different is shown, and whether to
go on is asked. Whether the group is suspended stays as it is, and so do the ConfigMaps
and Secrets that the spec takes values from.

A tool that keeps the group as it is in a repository will undo this: change it there.`,
		Example: examples(name, `
# To the revision before
orkestra rollback bookinfo

# To a certain one; see orkestra history bookinfo
orkestra rollback bookinfo --revision 3 --dry-run=server

# In a pipeline: without a question, and wait for the outcome
orkestra rollback bookinfo --yes --wait --timeout 15m`),
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error { return r.run(cmd, args[0]) },
	}
	fs := cmd.Flags()
	fs.StringVar(&r.revision, "revision", "", "revision to go back to: its number, or the name of its workflow")
	fs.StringVar(&r.dryRun, "dry-run", dryRunNone, "none; client: only show what would change; server: have the API server look at it, and keep nothing")
	fs.Lookup("dry-run").NoOptDefVal = dryRunClient
	fs.BoolVarP(&r.yes, "yes", "y", false, "do not ask")
	r.waiting.add(cmd, "it is ready")
	r.cluster.add(fs)
	return cmd
}

func (r *rollback) run(cmd *cobra.Command, name string) error {
	if r.dryRun != dryRunNone && r.dryRun != dryRunClient && r.dryRun != dryRunServer {
		return &usageError{fmt.Errorf("--dry-run %q: want none, client or server", r.dryRun), cmd.CommandPath()}
	}
	to, group, err := r.cluster.living(cmd.Context(), name)
	if err != nil {
		return err
	}
	if group.Spec.Suspend && r.waiting.wait {
		return fmt.Errorf("group %s is suspended, so there would be nothing to wait for: go on with '%s resume %s' first, or leave --wait away", name, r.cluster.program, name)
	}
	revisions, err := r.cluster.revisions(cmd.Context(), to, group)
	if err != nil {
		return err
	}
	target, err := r.target(group, revisions)
	if err != nil {
		return err
	}
	before := group.DeepCopy()
	group.Spec = target.Pinned()
	group.Spec.Suspend = before.Spec.Suspend
	diff, err := change.Compare(liveSide(before, revisions), change.Side{
		Label: fmt.Sprintf("%s %s, versions as resolved then", name, revisionName(target)), Spec: &group.Spec, Resolved: target.Charts(),
	})
	if err != nil {
		return err
	}
	if diff.Unified == "" {
		return fmt.Errorf("nothing would change: group %[1]s asks for what revision %[2]d was already; to roll it out again use '%[3]s reconcile %[1]s', or '%[3]s retry %[1]s' where it has failed", name, target.Number, r.cluster.program)
	}
	if err := writeDiff(cmd.OutOrStdout(), diff); err != nil {
		return err
	}
	if !target.Good() {
		cmd.PrintErrf("warning: revision %d was never rolled out whole: %s\n", target.Number, target.Status)
	}
	if group.Spec.Suspend {
		cmd.PrintErrf("warning: group %s is suspended: nothing is rolled out until '%s resume %s'\n", name, r.cluster.program, name)
	}
	return r.write(cmd, to, group, target)
}

func (r *rollback) target(group *v1alpha1.ApplicationGroup, revisions []history.Revision) (history.Revision, error) {
	if r.revision != "" {
		return history.Select(group.Name, revisions, r.revision)
	}
	target, ok, err := history.Previous(group, revisions)
	if err == nil && !ok {
		err = fmt.Errorf("group %s has no earlier revision that was rolled out whole and is different from what it asks for now; %s", group.Name, history.Available(revisions))
	}
	return target, err
}

// write the group as it was read, but for its spec. That is an update, and no patch: the
// API server drops every null from the lists of a merge patch, and a null in values has a
// meaning. The version that was read is the one that is replaced, or none.
func (r *rollback) write(cmd *cobra.Command, to client.Client, group *v1alpha1.ApplicationGroup, target history.Revision) error {
	switch r.dryRun {
	case dryRunClient:
		cmd.Printf("%s: would go back to revision %d (client dry run)\n", group.Name, target.Number)
		return nil
	case dryRunServer:
		if err := r.cluster.written(group.Name, to.Update(cmd.Context(), group, client.DryRunAll)); err != nil {
			return err
		}
		cmd.Printf("%s: would go back to revision %d (server dry run)\n", group.Name, target.Number)
		return nil
	}
	if err := confirm(cmd, r.yes, fmt.Sprintf("Take group %s back to revision %d?", group.Name, target.Number)); err != nil {
		return err
	}
	if err := r.cluster.written(group.Name, to.Update(cmd.Context(), group)); err != nil {
		return err
	}
	cmd.Printf("%s: goes back to revision %d, as generation %d\n", group.Name, target.Number, group.Generation)
	return r.waiting.ready(cmd, &r.cluster, to, group)
}
