// Command executor is Orkestra's executor service, and the executor of a pod.
package main

import (
	"os"

	ctrl "sigs.k8s.io/controller-runtime"

	"orkestra.dev/pkg/service"
	"orkestra.dev/services/executor"
)

func main() {
	if len(os.Args) > 1 && os.Args[1] == executor.RunCommand {
		os.Exit(executor.RunPod(ctrl.SetupSignalHandler(), os.Args[2:], os.LookupEnv, os.Stderr, executor.TerminationLog))
	}
	service.Main(executor.New())
}
