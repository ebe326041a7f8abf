package command

import (
	"context"
	"errors"
	"fmt"
	"slices"

	helmv2 "github.com/fluxcd/helm-controller/api/v2"
	"github.com/fluxcd/pkg/apis/meta"
	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"orkestra.dev/api/v1alpha1"
	"orkestra.dev/cli/internal/tree"
)

// deletion is a run of delete.
type deletion struct {
	cluster    cluster
	waiting    waiting
	force, yes bool
}

func newDelete(name string, open opener) *cobra.Command {
	d := deletion{cluster: cluster{program: name, open: open}}
	cmd := &cobra.Command{
		Use:   "delete NAME",
		Short: "Remove a group and all its releases, in the reverse of their order",
		Long: `Delete deletes a group. Its releases are removed in the reverse of the order in which
they were installed, and the group goes when the last of them is gone. A release that
will not go is reported with its reason, and the group stays until it does.

With --force the group goes at once, also where it is being deleted already: its
releases are deleted in no order and not waited for, so that something of them may stay,
with nobody left to look after it. What there is of the group is listed first.`,
		Example: examples(name, `
orkestra delete bookinfo

# In a pipeline: without a question, until the group is gone
orkestra delete bookinfo --yes --wait --timeout 15m

# It will not go, and something of it may stay
orkestra delete bookinfo --force`),
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error { return d.run(cmd, args[0]) },
	}
	fs := cmd.Flags()
	fs.BoolVar(&d.force, "force", false, "let the group go at once, whatever is left of it")
	fs.BoolVarP(&d.yes, "yes", "y", false, "do not ask")
	d.waiting.add(cmd, "it is gone")
	d.cluster.add(fs)
	return cmd
}

func (d *deletion) run(cmd *cobra.Command, name string) error {
	to, group, err := d.cluster.group(cmd.Context(), name)
	if err != nil {
		return err
	}
	already := !group.DeletionTimestamp.IsZero()
	question := fmt.Sprintf("Delete group %s and all its releases?", name)
	if d.force {
		question = fmt.Sprintf("Let group %s go at once, whatever stays of it?", name)
		if err := d.warn(cmd, to, group); err != nil {
			return err
		}
	}
	if d.force || !already {
		if err := confirm(cmd, d.yes, question); err != nil {
			return err
		}
	}
	// First the deletion: the mark on a group that stays would make of the next deletion
	// one by force.
	err = to.Delete(cmd.Context(), group, client.Preconditions{UID: &group.UID})
	switch {
	case apierrors.IsConflict(err):
		return fmt.Errorf("group %s was deleted and made again in the meantime: look at it, and repeat", name)
	case client.IgnoreNotFound(err) != nil:
		return fmt.Errorf("deleting group %s: %w", name, err)
	}
	if d.force {
		before := group.DeepCopy()
		metav1.SetMetaDataAnnotation(&group.ObjectMeta, v1alpha1.AnnotationForceDelete, "true")
		var missing *missingError
		if err := d.cluster.patch(cmd.Context(), to, group, before); err != nil && !errors.As(err, &missing) {
			return err
		}
	}
	switch {
	case d.force:
		cmd.Printf("%s: goes at once\n", name)
	case already:
		cmd.Printf("%s: is being deleted already\n", name)
	default:
		cmd.Printf("%s: is being deleted\n", name)
	}
	return d.waiting.gone(cmd, &d.cluster, to, name, group.UID, d.over)
}

// over says whether a deletion has come to rest while the group is still there.
func (d *deletion) over(group *v1alpha1.ApplicationGroup) (over, ok bool) {
	over, ok = tree.Done(group)
	return over && !ok && !d.force, false
}

// warn of what may stay of a group that is let go by force.
func (d *deletion) warn(cmd *cobra.Command, from client.Reader, group *v1alpha1.ApplicationGroup) error {
	left, err := d.left(cmd.Context(), from, group)
	if err != nil {
		return err
	}
	cmd.PrintErrf("WARNING: group %s goes at once: its releases are deleted in no order, and nobody looks whether they go.\n", group.Name)
	if len(left) == 0 {
		cmd.PrintErrln("There is nothing of it that could stay.")
		return nil
	}
	cmd.PrintErrln("What follows, and all that these have installed, may stay, with nobody left to look after it:")
	for _, line := range left {
		cmd.PrintErrln("  " + line)
	}
	return nil
}

// left is what there is of a group, one to a line.
func (d *deletion) left(ctx context.Context, from client.Reader, group *v1alpha1.ApplicationGroup) ([]string, error) {
	var out []string
	releases, err := releasesOf(ctx, from, group.Name)
	switch {
	case errors.Is(err, errHidden):
		out = append(out, "its HelmReleases, which you may not see")
	case err != nil:
		return nil, err
	}
	for i := range releases {
		if releases[i].Annotations[v1alpha1.AnnotationGroupUID] == string(group.UID) {
			out = append(out, releaseLeft(&releases[i]))
		}
	}
	workflows, err := d.cluster.workflows(ctx, from, group.Name)
	if err != nil {
		return nil, err
	}
	for i := range workflows {
		if !workflows[i].Status.Fulfilled() && workflows[i].Annotations[v1alpha1.AnnotationGroupUID] == string(group.UID) {
			out = append(out, fmt.Sprintf("Workflow %s/%s, which has not finished", workflows[i].Namespace, workflows[i].Name))
		}
	}
	var namespaces corev1.NamespaceList
	err = from.List(ctx, &namespaces, client.MatchingLabels{v1alpha1.LabelOwner: group.Name})
	switch {
	case apierrors.IsForbidden(err):
		out = append(out, "namespaces that were made for it, which you may not see")
	case err != nil:
		return nil, fmt.Errorf("listing the namespaces of group %s: %w", group.Name, err)
	}
	for _, ns := range namespaces.Items {
		out = append(out, "Namespace "+ns.Name)
	}
	slices.Sort(out)
	return out, nil
}

func releaseLeft(hr *helmv2.HelmRelease) string {
	line := fmt.Sprintf("HelmRelease %s/%s", hr.Namespace, hr.Name)
	if !hr.DeletionTimestamp.IsZero() {
		line += ", which is being deleted since " + hr.DeletionTimestamp.UTC().Format("2006-01-02 15:04:05Z")
	}
	if c := apimeta.FindStatusCondition(hr.Status.Conditions, meta.ReadyCondition); c != nil && c.Status == metav1.ConditionFalse {
		line += ": " + tree.Cut(tree.OneLine(c.Message), 160)
	}
	return line
}
