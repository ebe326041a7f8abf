// Command intake runs the intake: see package intake.
package main

import (
	"orkestra.dev/pkg/service"
	"orkestra.dev/services/intake"
)

func main() { service.Main(intake.New()) }
