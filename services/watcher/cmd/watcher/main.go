// Command watcher is Orkestra's watcher service.
package main

import (
	"orkestra.dev/pkg/service"
	"orkestra.dev/services/watcher"
)

func main() { service.Main(watcher.New()) }
