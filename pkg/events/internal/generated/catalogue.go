package generated

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"orkestra.dev/pkg/events"
)

// catalogue is what the comments of payloads.go say of the types. They are the one place
// where it is said.
type catalogue struct {
	entries []entry // in the order of events.Types
	// fields are the comments by <struct>.<field>.
	fields map[string]string
}

// entry is one type.
type entry struct {
	payload events.Payload
	// when it is said, from the comment of the type's constant.
	when string
	// says what the payload says, from the comment of the struct.
	says string
	// by is the service that says it.
	by string
	// then are the types that are said because of it.
	then []events.Type
}

func (e entry) eventType() events.Type { return e.payload.EventType() }

// spoken is the end of a struct's comment: Said by: <service>. Then: <struct>, <struct>.
var spoken = regexp.MustCompile(`^(.*?)\s*Said by: ([a-z]+)\.(?: Then: ([A-Za-z, ]+)\.)?$`)

func readCatalogue(dir string) (*catalogue, error) {
	file, err := parser.ParseFile(token.NewFileSet(), filepath.Join(dir, "payloads.go"), nil, parser.ParseComments)
	if err != nil {
		return nil, fmt.Errorf("reading the comments of the payloads: %w", err)
	}
	consts, structs, fields := comments(file)
	types := map[string]events.Type{}
	for _, p := range events.Payloads() {
		types[structName(p)] = p.EventType()
	}
	c := &catalogue{fields: fields}
	for _, p := range events.Payloads() {
		name := structName(p)
		said := spoken.FindStringSubmatch(structs[name])
		if said == nil {
			return nil, fmt.Errorf("the comment of %s does not end with who says it (Said by: <service>. Then: <struct>, <struct>.): %q", name, structs[name])
		}
		when, ok := strings.CutPrefix(consts[string(p.EventType())], "Type"+name+": ")
		if !ok {
			return nil, fmt.Errorf("the comment of Type%s does not begin with %q", name, "Type"+name+": ")
		}
		e := entry{payload: p, when: sentence(when), says: said[1], by: said[2]}
		for _, next := range strings.FieldsFunc(said[3], func(r rune) bool { return r == ',' || r == ' ' }) {
			t, ok := types[next]
			if !ok {
				return nil, fmt.Errorf("%s is followed by %q, which is no payload", name, next)
			}
			e.then = append(e.then, t)
		}
		c.entries = append(c.entries, e)
	}
	return c, nil
}

// comments are those of the constants by value, of the structs by name, and of the fields
// by <struct>.<field>, each as one line.
func comments(file *ast.File) (consts, structs, fields map[string]string) {
	consts, structs, fields = map[string]string{}, map[string]string{}, map[string]string{}
	for _, decl := range file.Decls {
		group, ok := decl.(*ast.GenDecl)
		if !ok {
			continue
		}
		for _, spec := range group.Specs {
			switch s := spec.(type) {
			case *ast.ValueSpec:
				if value, ok := s.Values[0].(*ast.BasicLit); ok {
					consts[strings.Trim(value.Value, `"`)] = line(s.Doc)
				}
			case *ast.TypeSpec:
				structs[s.Name.Name] = line(group.Doc)
				if body, ok := s.Type.(*ast.StructType); ok {
					fieldComments(s.Name.Name, body, fields)
				}
			}
		}
	}
	return consts, structs, fields
}

// fieldComments also gives a field without a comment the one above it, where that names
// the field.
func fieldComments(owner string, body *ast.StructType, fields map[string]string) {
	above := ""
	for _, field := range body.Fields.List {
		if field.Doc != nil {
			above = line(field.Doc)
		}
		for _, name := range field.Names {
			if field.Doc != nil || slices.Contains(strings.FieldsFunc(above, notInWord), name.Name) {
				fields[owner+"."+name.Name] = above
			}
		}
	}
}

func notInWord(r rune) bool { return strings.ContainsRune(" ,.:;()", r) }

// line is a comment without line breaks, which mean nothing.
func line(doc *ast.CommentGroup) string { return strings.Join(strings.Fields(doc.Text()), " ") }

func sentence(s string) string {
	if s == "" {
		return s
	}
	return strings.ToUpper(s[:1]) + s[1:]
}

func structName(p events.Payload) string {
	return strings.TrimPrefix(fmt.Sprintf("%T", p), "events.")
}

// hears are the consumers of the topology that hear a type, sorted.
func hears(t events.Type) []string {
	var names []string
	for _, c := range events.DefaultTopology().Consumers {
		for _, subject := range c.FilterSubjects {
			if subject == subjectPrefix+t.Thing()+".*" {
				names = append(names, c.Durable)
			}
		}
	}
	slices.Sort(names)
	return names
}
