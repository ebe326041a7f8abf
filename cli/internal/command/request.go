package command

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"orkestra.dev/api/v1alpha1"
	"orkestra.dev/cli/internal/tree"
)

func newReconcile(name string, open opener) *cobra.Command {
	return newRequest(name, open, &cobra.Command{
		Use:   "reconcile NAME",
		Short: "Roll a group out again, though its spec has not changed",
		Long: `Reconcile asks for a rollout of the group as its spec is: ranges of versions are resolved
again, and a release that was edited or deleted by hand is put back. What is as it
should be is not touched. A rollout that is under way is begun anew.

It sets the annotation ` + v1alpha1.AnnotationRequestedAt + ` to now.`,
		Example: examples(name, `
orkestra reconcile bookinfo

# And wait for the outcome
orkestra reconcile bookinfo --wait --timeout 15m`),
	}, reconcilable)
}

func newRetry(name string, open opener) *cobra.Command {
	return newRequest(name, open, &cobra.Command{
		Use:   "retry NAME",
		Short: "Try a rollout that has failed again",
		Long: `Retry asks for another rollout of a group whose last one has failed, with the spec as it
is. Releases that are as they should be are not touched, so it goes on where the other
failed. A group that has not failed is left alone.`,
		Example: examples(name, `
orkestra retry bookinfo

# And wait for the outcome
orkestra retry bookinfo --wait --timeout 15m`),
	}, retriable)
}

// newRequest is a command that asks for a rollout, where the group is not against it.
func newRequest(name string, open opener, cmd *cobra.Command, may func(program string, group *v1alpha1.ApplicationGroup) error) *cobra.Command {
	c := cluster{program: name, open: open}
	var w waiting
	cmd.Args = cobra.ExactArgs(1)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		to, group, err := c.living(cmd.Context(), args[0])
		if err != nil {
			return err
		}
		if err := may(name, group); err != nil {
			return err
		}
		before := group.DeepCopy()
		metav1.SetMetaDataAnnotation(&group.ObjectMeta, v1alpha1.AnnotationRequestedAt, time.Now().UTC().Format(time.RFC3339Nano))
		if err := c.patch(cmd.Context(), to, group, before); err != nil {
			return err
		}
		cmd.Printf("%s: asked for a rollout of generation %d\n", group.Name, group.Generation)
		return w.ready(cmd, &c, to, group)
	}
	w.add(cmd, "it is ready")
	c.add(cmd.Flags())
	return cmd
}

func reconcilable(program string, group *v1alpha1.ApplicationGroup) error {
	if group.Spec.Suspend {
		return fmt.Errorf("group %[1]s is suspended, and nothing of it is rolled out: use '%[2]s resume %[1]s'", group.Name, program)
	}
	return nil
}

// retriable says why a group is not one whose rollout has failed.
func retriable(program string, group *v1alpha1.ApplicationGroup) error {
	if err := reconcilable(program, group); err != nil {
		return err
	}
	ready := apimeta.FindStatusCondition(group.Status.Conditions, v1alpha1.ConditionReady)
	known := ready != nil && ready.ObservedGeneration == group.Generation
	switch over, ok := tree.Done(group); {
	case over && ok:
		return fmt.Errorf("group %[1]s has not failed, it is ready: to roll it out again use '%[2]s reconcile %[1]s'", group.Name, program)
	case over:
		return nil
	case known && ready.Reason == v1alpha1.ReasonChartPullFailed:
		// It is being tried again, at longer and longer intervals: now is sooner.
		return nil
	case known && ready.Status == metav1.ConditionFalse:
		return fmt.Errorf("group %[1]s has failed, and is still on its way back: see how far it is with '%[2]s status %[1]s --watch', or do not wait for it and use '%[2]s reconcile %[1]s'", group.Name, program)
	default:
		return fmt.Errorf("group %[1]s has not failed, it is on its way: see how far it is with '%[2]s status %[1]s --watch', or begin anew with '%[2]s reconcile %[1]s'", group.Name, program)
	}
}
