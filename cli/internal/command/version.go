package command

import (
	"cmp"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

// version is set by the linker in a release.
var version string

func newVersion(name string) *cobra.Command {
	return &cobra.Command{
		Use:     "version",
		Short:   "Print the version",
		Example: examples(name, "orkestra version"),
		Args:    cobra.NoArgs,
		Run: func(cmd *cobra.Command, _ []string) {
			built, revision := "", ""
			if info, ok := debug.ReadBuildInfo(); ok {
				built = info.Main.Version
				for _, s := range info.Settings {
					if s.Key == "vcs.revision" {
						revision = " " + s.Value
					}
				}
			}
			cmd.Printf("orkestra %s%s (%s, %s/%s)\n", cmp.Or(version, built, "(devel)"), revision, runtime.Version(), runtime.GOOS, runtime.GOARCH)
		},
	}
}
