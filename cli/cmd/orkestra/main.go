// Command orkestra checks, draws, renders and follows groups of Helm charts. Installed
// as kubectl-orkestra it is kubectl's plugin.
package main

import (
	"os"

	"orkestra.dev/cli/internal/command"
)

func main() {
	os.Exit(command.Main(os.Args, command.Streams{In: os.Stdin, Out: os.Stdout, Err: os.Stderr}))
}
