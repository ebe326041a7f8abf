// Command crd finishes a CustomResourceDefinition that controller-gen has written:
// it takes the descriptions out of the schema of a core/v1 Container, and puts the
// limits of its ports in.
//
// An executor's image is a Container, and its schema has to be there: what the
// schema lets in and the Go type cannot hold would stop the informers of every
// service. Its descriptions are nearly half of the file, and are better read in the
// documentation of Kubernetes.
//
//	crd <file>
package main

import (
	"fmt"
	"math"
	"os"

	"sigs.k8s.io/yaml"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: crd <file>")
		os.Exit(2)
	}
	if err := finish(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, "crd:", err)
		os.Exit(1)
	}
}

func finish(file string) error {
	before, err := os.ReadFile(file)
	if err != nil {
		return fmt.Errorf("reading the CRD: %w", err)
	}
	after, err := finished(before)
	if err != nil {
		return fmt.Errorf("finishing %s: %w", file, err)
	}
	if err := os.WriteFile(file, after, 0o644); err != nil {
		return fmt.Errorf("writing the CRD: %w", err)
	}
	return nil
}

// finished gives the CRD back in the form in which controller-gen writes it: with a
// document start, and its keys sorted.
func finished(crd []byte) ([]byte, error) {
	var document any
	if err := yaml.Unmarshal(crd, &document); err != nil {
		return nil, fmt.Errorf("decoding YAML: %w", err)
	}
	findContainers(document)
	out, err := yaml.Marshal(document)
	if err != nil {
		return nil, fmt.Errorf("encoding YAML: %w", err)
	}
	return append([]byte("---\n"), out...), nil
}

// findContainers knows a Container by a pair of properties that nothing else has.
// Its own description stays.
func findContainers(node any) {
	switch node := node.(type) {
	case map[string]any:
		properties, ok := node["properties"].(map[string]any)
		if ok && properties["livenessProbe"] != nil && properties["volumeMounts"] != nil {
			finishContainer(properties, true)
			return
		}
		for _, child := range node {
			findContainers(child)
		}
	case []any:
		for _, child := range node {
			findContainers(child)
		}
	}
}

// finishContainer takes the descriptions out. In a map of properties a description
// is the name of a property, and stays.
//
// Where Go has an IntOrString the schema has an integer of any size, and Go 32 bits.
// A quantity has that schema too, but with a pattern, and holds what is larger.
func finishContainer(node any, properties bool) {
	switch node := node.(type) {
	case map[string]any:
		if _, text := node["description"].(string); text && !properties {
			delete(node, "description")
		}
		if node["x-kubernetes-int-or-string"] == true && node["pattern"] == nil {
			node["minimum"], node["maximum"] = 0, math.MaxInt32
		}
		for key, child := range node {
			finishContainer(child, key == "properties" && !properties)
		}
	case []any:
		for _, child := range node {
			finishContainer(child, false)
		}
	}
}
