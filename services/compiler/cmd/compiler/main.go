// Command compiler makes workflows of groups whose charts are staged.
package main

import (
	"orkestra.dev/pkg/service"
	"orkestra.dev/services/compiler"
)

func main() { service.Main(compiler.New()) }
