// Command executor is Orkestra's executor service.
package main

import (
	"orkestra.dev/pkg/service"
	"orkestra.dev/services/executor"
)

func main() { service.Main(executor.New()) }
