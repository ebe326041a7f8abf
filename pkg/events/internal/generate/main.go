// Command generate writes the schemas of the payloads, their catalogue, and the
// configurations of the topology, from the Go code. Run it by go generate in pkg/events.
package main

import (
	"fmt"
	"os"

	"orkestra.dev/pkg/events/internal/generated"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "generate:", err)
		os.Exit(1)
	}
}

func run() error {
	files, err := generated.Files(".")
	if err != nil {
		return err
	}
	for _, dir := range generated.Folders {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	stale, err := generated.Stale(files)
	if err != nil {
		return err
	}
	for _, name := range stale {
		if err := os.Remove(name); err != nil {
			return err
		}
	}
	for name, content := range files {
		if err := os.WriteFile(name, content, 0o644); err != nil {
			return err
		}
	}
	return nil
}
