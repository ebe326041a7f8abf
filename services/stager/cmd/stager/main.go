// Command stager stages the charts of ApplicationGroups.
package main

import (
	"orkestra.dev/pkg/service"
	"orkestra.dev/services/stager"
)

func main() { service.Main(stager.New()) }
