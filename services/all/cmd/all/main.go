// Command all runs all services of Orkestra in one process: see package all.
package main

import (
	"orkestra.dev/pkg/service"
	"orkestra.dev/services/all"
)

func main() { service.MainOf(all.New().Command()) }
