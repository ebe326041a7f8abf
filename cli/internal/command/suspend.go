package command

import "github.com/spf13/cobra"

func newSuspend(name string, open opener) *cobra.Command {
	c := cluster{program: name, open: open}
	cmd := &cobra.Command{
		Use:   "suspend NAME",
		Short: "Hold a group",
		Long: `Suspend holds a group: no rollout of it is begun, and one that is under way begins
nothing more. What runs stays as it is. A deletion is carried out all the same.

It sets spec.suspend. A tool that keeps the group as it is in a repository will undo
this: change it there.`,
		Example: examples(name, `
orkestra suspend bookinfo`),
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			to, group, err := c.living(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			if group.Spec.Suspend {
				cmd.Printf("%s: is suspended already\n", group.Name)
				return nil
			}
			before := group.DeepCopy()
			group.Spec.Suspend = true
			if err := c.patch(cmd.Context(), to, group, before); err != nil {
				return err
			}
			cmd.Printf("%s: suspended\n", group.Name)
			return nil
		},
	}
	c.add(cmd.Flags())
	return cmd
}

func newResume(name string, open opener) *cobra.Command {
	c := cluster{program: name, open: open}
	var w waiting
	cmd := &cobra.Command{
		Use:   "resume NAME",
		Short: "Let a suspended group go on",
		Long: `Resume lets a group that is suspended go on: it is rolled out as its spec is by now.

It takes spec.suspend away.`,
		Example: examples(name, `
orkestra resume bookinfo

# And wait for the outcome
orkestra resume bookinfo --wait --timeout 15m`),
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			to, group, err := c.living(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			if !group.Spec.Suspend {
				cmd.Printf("%s: is not suspended\n", group.Name)
				return w.ready(cmd, &c, to, group)
			}
			before := group.DeepCopy()
			group.Spec.Suspend = false
			if err := c.patch(cmd.Context(), to, group, before); err != nil {
				return err
			}
			cmd.Printf("%s: resumed, as generation %d\n", group.Name, group.Generation)
			return w.ready(cmd, &c, to, group)
		},
	}
	w.add(cmd, "it is ready")
	c.add(cmd.Flags())
	return cmd
}
