// Package generated makes the files that follow from pkg/events: one JSON Schema
// per type and the lock of their versions, the catalogue in docs/events, and the
// configurations of the topology for whoever sets JetStream up by other means than
// EnsureTopology.
package generated

import (
	"bytes"
	"encoding/json"
	"path/filepath"
	"strings"

	"orkestra.dev/pkg/events"
)

// Folders that hold generated JSON and Markdown files, and of these no others except
// READMEs, relative to pkg/events.
var Folders = []string{
	"schemas", filepath.Join("..", "..", "deploy", "nats"),
	filepath.Join(docs, "types"), filepath.Join(docs, "examples"),
}

// Stale are the files in Folders that are there and belong to nothing.
func Stale(files map[string][]byte) ([]string, error) {
	var stale []string
	for _, dir := range Folders {
		for _, pattern := range []string{"*.json", "*.md"} {
			found, err := filepath.Glob(filepath.Join(dir, pattern))
			if err != nil {
				return nil, err
			}
			for _, name := range found {
				if _, ok := files[name]; !ok && filepath.Base(name) != "README.md" {
					stale = append(stale, name)
				}
			}
		}
	}
	return stale, nil
}

const (
	schemaBase = "https://orkestra.dev/schemas/"
	// productionReplicas of the streams in the files; a single server wants 1.
	productionReplicas = 3
)

// Files are the generated files' contents by name, relative to pkg/events, whose
// folder is dir: the comments of the fields are read from the sources there.
func Files(dir string) (map[string][]byte, error) {
	files := map[string][]byte{}
	c, err := readCatalogue(dir)
	if err != nil {
		return nil, err
	}
	for _, add := range []func(map[string][]byte, string, *catalogue) error{addSchemas, addLock, addPages, addAsyncAPI} {
		if err := add(files, dir, c); err != nil {
			return nil, err
		}
	}
	if err := addTopology(files); err != nil {
		return nil, err
	}
	addUsers(files)
	return files, nil
}

func addTopology(files map[string][]byte) error {
	t := events.DefaultTopology()
	for _, s := range t.Streams {
		s.Replicas = productionReplicas
		content, err := encode(s)
		if err != nil {
			return err
		}
		files[filepath.Join(Folders[1], "stream-"+s.Name+".json")] = content
	}
	for _, c := range t.Consumers {
		content, err := encode(c)
		if err != nil {
			return err
		}
		files[filepath.Join(Folders[1], "consumer-"+c.Durable+".json")] = content
	}
	return nil
}

var unescape = strings.NewReplacer(`\u003c`, "<", `\u003e`, ">", `\u0026`, "&")

func encode(v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err := e.Encode(v); err != nil {
		return nil, err
	}
	// The schema library escapes what JSON does not ask to be escaped.
	return []byte(unescape.Replace(b.String())), nil
}
