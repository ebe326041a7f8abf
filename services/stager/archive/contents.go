package archive

import (
	"bytes"
	"fmt"
	"strings"

	"go.yaml.in/yaml/v3"
	sigsyaml "sigs.k8s.io/yaml"
)

// contents is what is left of the limits on what files say.
type contents struct {
	limits                                   Limits
	yamlBytes, yamlNodes, links, actionBytes int64
}

// read tells whether what a file says is looked at.
func (f file) read() bool { return f.isYAML() || f.isSchema() || f.isTemplate() }

// isYAML tells whether Helm decodes the file as it loads the chart.
func (f file) isYAML() bool {
	switch f.name {
	case "Chart.yaml", "Chart.lock", "values.yaml", "requirements.yaml", "requirements.lock":
		return true
	}
	return false
}

func (f file) isSchema() bool { return f.name == "values.schema.json" }

func (f file) isTemplate() bool { return strings.HasPrefix(f.name, "templates/") }

// look spends the budgets on what a file says.
func (c *contents) look(f file, data []byte) error {
	switch {
	case f.isYAML():
		if err := c.yaml(data); err != nil {
			return err
		}
		return c.dependencies(f, data)
	case f.isSchema():
		return schema(data)
	default:
		if c.actionBytes -= actions(data); c.actionBytes < 0 {
			return fmt.Errorf("more than %d bytes of the templates are actions", c.limits.ActionBytes)
		}
		return nil
	}
}

func (c *contents) yaml(data []byte) error {
	bytes, nodes, aliases := estimate(data)
	if err := c.spend(bytes, nodes); err != nil || !aliases {
		return err
	}
	// What does not parse Helm will not load, and will say so better.
	var doc yaml.Node
	if err := yaml.Unmarshal(data, &doc); err != nil {
		return fmt.Errorf("decoding it: %w", err)
	}
	all, ok := expansion{limit: c.limits, of: map[*yaml.Node]*size{}}.measure(&doc)
	if !ok {
		return fmt.Errorf("an anchor holds itself")
	}
	return c.spend(max(all.bytes-bytes, 0), max(all.nodes-nodes, 0))
}

// dependencies counts what a chart declares: Helm compares each dependency with each
// chart that is there, and copies values for each import.
func (c *contents) dependencies(f file, data []byte) error {
	if f.name != "Chart.yaml" && f.name != "requirements.yaml" {
		return nil
	}
	var declares struct {
		Dependencies []struct {
			Version      string `json:"version"`
			Condition    string `json:"condition"`
			Tags         []any  `json:"tags"`
			ImportValues []any  `json:"import-values"`
		} `json:"dependencies"`
	}
	if err := sigsyaml.Unmarshal(data, &declares); err != nil {
		return nil //nolint:nilerr // Helm says what is wrong with it
	}
	for _, d := range declares.Dependencies {
		c.links -= int64(1 + len(d.Tags) + len(d.ImportValues) + strings.Count(d.Condition, ",") + strings.Count(d.Version, "|") + len(d.Version)/64)
	}
	if c.links < 0 {
		return fmt.Errorf("the charts declare more than %d dependencies, with all conditions, tags and imports of theirs", c.limits.Links)
	}
	return nil
}

func (c *contents) spend(bytes, nodes int64) error {
	if c.yamlBytes -= bytes; c.yamlBytes < 0 {
		return fmt.Errorf("the charts' YAML, with its aliases followed, has more than %d bytes in all", c.limits.YAMLBytes)
	}
	if c.yamlNodes -= nodes; c.yamlNodes < 0 {
		return fmt.Errorf("the charts' YAML, with its aliases followed, may have more than %d nodes in all", c.limits.YAMLNodes)
	}
	return nil
}

// estimate is a bound on what decoding YAML costs: nothing is a node that has none of
// the characters which begin one. Lines that begin with # are comments or text.
func estimate(data []byte) (size, nodes int64, aliases bool) {
	anchor, alias := false, false
	for line := range bytes.Lines(data) {
		size += int64(len(line))
		if line = bytes.TrimLeft(line, " \t"); bytes.HasPrefix(line, []byte("#")) {
			continue
		}
		for i, b := range line {
			switch b {
			case ':', ',', '[', '{':
				nodes++
			case '-', '?':
				if i+1 >= len(line) || strings.IndexByte(" \t\r\n", line[i+1]) >= 0 {
					nodes++
				}
			case '&':
				anchor = true
			case '*':
				alias = true
			}
		}
	}
	return size, nodes, anchor && alias
}

// size of YAML with its aliases followed.
type size struct{ bytes, nodes int64 }

// expansion measures without expanding: what an anchor stands for is measured once.
type expansion struct {
	limit Limits
	of    map[*yaml.Node]*size
}

// measure is false for what holds itself. It stops counting above the limits.
func (e expansion) measure(n *yaml.Node) (size, bool) {
	if s, ok := e.of[n]; ok {
		if s == nil {
			return size{}, false
		}
		return *s, true
	}
	e.of[n] = nil
	s := size{bytes: int64(len(n.Value)), nodes: 1}
	under := n.Content
	if n.Alias != nil {
		s = size{}
		under = []*yaml.Node{n.Alias}
	}
	for _, child := range under {
		c, ok := e.measure(child)
		if !ok {
			return size{}, false
		}
		s.bytes = min(s.bytes+c.bytes, e.limit.YAMLBytes+1)
		s.nodes = min(s.nodes+c.nodes, e.limit.YAMLNodes+1)
	}
	e.of[n] = &s
	return s, true
}

// actions is how much of a template is between {{ and }}, or is one of these, by the
// rules of text/template's lexer: a }} in quotes does not end one. What is in quotes or in
// a comment costs no more than other text, and is not counted: dashboards are quoted whole.
func actions(text []byte) (n int64) {
	for {
		_, rest, ok := bytes.Cut(text, []byte("{{"))
		if !ok {
			return n
		}
		inside, counted := action(rest)
		n += int64(counted + len("{{}}"))
		text = rest[inside:]
	}
}

// action is the length of what begins behind {{, up to its }}, or to the end, and how
// much of it counts.
func action(text []byte) (length, counted int) {
	quote := byte(0)
	for i := 0; i < len(text); i++ {
		b := text[i]
		if quote == 0 || b == quote {
			counted++
		}
		switch {
		case quote == 0 && b == '}' && bytes.HasPrefix(text[i:], []byte("}}")):
			return i, counted - 1
		case quote == 0 && (b == '"' || b == '\'' || b == '`'):
			quote = b
		case quote == 0 && b == '/' && bytes.HasPrefix(text[i:], []byte("/*")):
			if end := bytes.Index(text[i:], []byte("*/")); end > 0 {
				i += end + 1
			}
		case b == quote:
			quote = 0
		case b == '\\' && (quote == '"' || quote == '\''):
			i++
		}
	}
	return len(text), counted
}
