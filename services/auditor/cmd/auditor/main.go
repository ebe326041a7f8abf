// Command auditor is Orkestra's auditor service.
package main

import (
	"orkestra.dev/pkg/service"
	"orkestra.dev/services/auditor"
)

func main() { service.Main(auditor.New()) }
