package command

import (
	"errors"

	"github.com/spf13/cobra"

	"orkestra.dev/pkg/service"
	"orkestra.dev/services/all"
)

// newServe is the one command that is no client: the services themselves, as their own
// binaries run them.
func newServe(name string) *cobra.Command {
	cmd := all.New().Command()
	cmd.Use = "serve"
	cmd.Example = examples(name, cmd.Example)
	var every bool
	cmd.Flags().BoolVar(&every, "all", false, "run all services, with JetStream between them, in this process (required)")
	cmd.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error { return &usageError{err, cmd.CommandPath()} })
	run := cmd.RunE
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if !every {
			return &usageError{errors.New("say what to serve: --all"), cmd.CommandPath()}
		}
		err := run(cmd, args)
		if service.IsConfiguration(err) {
			return &usageError{err, cmd.CommandPath()}
		}
		return err
	}
	return cmd
}
