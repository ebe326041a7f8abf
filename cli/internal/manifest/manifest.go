// Package manifest reads ApplicationGroups from files as an API server would, only
// stricter: a field that it does not know, a value of the wrong type or a key that is
// there twice is a problem, and each problem names its file, line and field.
package manifest

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"orkestra.dev/api/v1alpha1"
	"orkestra.dev/pkg/readiness"
)

// Stdin is the name that stands for the standard input.
const Stdin = "-"

// Problem is something wrong in a file.
type Problem struct {
	// File as it was named; "stdin" for the standard input.
	File string
	// Line in the file, from 1; 0 where it is not known.
	Line int
	// Field such as spec.applications[0].name; empty where it is the document.
	Field string
	// Message says what is wrong.
	Message string
}

// Error is file:line: field: message, which editors can jump to.
func (p *Problem) Error() string {
	var b strings.Builder
	b.WriteString(p.File)
	if p.Line > 0 {
		fmt.Fprintf(&b, ":%d", p.Line)
	}
	b.WriteString(": ")
	if p.Field != "" {
		b.WriteString(p.Field + ": ")
	}
	b.WriteString(p.Message)
	return b.String()
}

// Document is one ApplicationGroup, and where it was found.
type Document struct {
	Group *v1alpha1.ApplicationGroup
	file  string
	lines lines
}

// Problem is one with a field of the document.
func (d *Document) Problem(field, message string) *Problem {
	return &Problem{File: d.file, Line: d.lines.of(field), Field: field, Message: message}
}

// Set is what was read.
type Set struct {
	Groups []*Document
	// Secrets by namespace and name. Charts in repositories that ask for credentials
	// can be fetched where the Secret is among the files.
	Secrets map[types.NamespacedName]map[string][]byte
	// ConfigMaps by namespace and name, and Secrets, may hold values of releases.
	ConfigMaps map[types.NamespacedName]*corev1.ConfigMap
}

// Read the groups, Secrets and ConfigMaps of files, of the folders' *.yaml, *.yml and *.json, and
// of stdin where a name is "-". Objects of other kinds are passed over. The error
// joins one *Problem for each thing that is wrong; a group that can be read in part is
// not in the set.
func Read(names []string, stdin io.Reader) (*Set, error) {
	out := &Set{Secrets: map[types.NamespacedName]map[string][]byte{}, ConfigMaps: map[types.NamespacedName]*corev1.ConfigMap{}}
	var errs []error
	for _, name := range names {
		files, err := expand(name)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		for _, file := range files {
			errs = append(errs, out.readFile(file, stdin))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return out, err
	}
	if len(out.Groups) == 0 {
		return out, fmt.Errorf("%s: there is no %s in it", strings.Join(names, ", "), v1alpha1.Kind)
	}
	return out, nil
}

// expand names the files of a folder.
func expand(name string) ([]string, error) {
	if name == Stdin {
		return []string{name}, nil
	}
	info, err := os.Stat(name)
	if err != nil {
		return nil, fmt.Errorf("reading manifests: %w", err)
	}
	if !info.IsDir() {
		return []string{name}, nil
	}
	entries, err := os.ReadDir(name)
	if err != nil {
		return nil, fmt.Errorf("reading manifests: %w", err)
	}
	var files []string
	for _, e := range entries {
		if slices.Contains([]string{".yaml", ".yml", ".json"}, filepath.Ext(e.Name())) && !e.IsDir() {
			files = append(files, filepath.Join(name, e.Name()))
		}
	}
	if len(files) == 0 {
		return nil, fmt.Errorf("reading manifests: folder %s has no .yaml, .yml or .json", name)
	}
	return files, nil
}

func (s *Set) readFile(name string, stdin io.Reader) error {
	shown := name
	var data []byte
	var err error
	if name == Stdin {
		shown = "stdin"
		data, err = io.ReadAll(stdin)
	} else {
		data, err = os.ReadFile(name)
	}
	if err != nil {
		return fmt.Errorf("reading manifests: %w", err)
	}
	var errs []error
	for _, part := range split(data) {
		found, problems := decode(part)
		for _, p := range problems {
			p.File = shown
			errs = append(errs, p)
		}
		switch {
		case len(problems) > 0:
		case found.group != nil:
			s.Groups = append(s.Groups, &Document{Group: found.group, file: shown, lines: found.lines})
		case found.secret != nil:
			s.Secrets[types.NamespacedName{Namespace: found.secret.Namespace, Name: found.secret.Name}] = found.secret.Data
		case found.configMap != nil:
			s.ConfigMaps[types.NamespacedName{Namespace: found.configMap.Namespace, Name: found.configMap.Name}] = found.configMap
		}
	}
	return errors.Join(errs...)
}

// split a stream of YAML into its documents. Each begins with as many empty lines as
// there are before it, so that whoever counts lines counts those of the file.
func split(data []byte) [][]byte {
	var out [][]byte
	var current bytes.Buffer
	empty := true
	begin := func(line int) {
		current.Reset()
		current.Write(bytes.Repeat([]byte("\n"), line))
		empty = true
	}
	end := func() {
		if !empty {
			out = append(out, bytes.Clone(current.Bytes()))
		}
	}
	for i, line := range bytes.SplitAfter(data, []byte("\n")) {
		if bytes.HasPrefix(line, []byte("---")) && (len(line) == 3 || bytes.ContainsAny(line[3:4], " \t\r\n")) {
			end()
			begin(i)
			// What follows on the same line belongs to the document.
			line = append([]byte("   "), line[3:]...)
		}
		if text := bytes.TrimSpace(line); len(text) > 0 && text[0] != '#' {
			empty = false
		}
		current.Write(line)
	}
	end()
	return out
}

// Validate says what is wrong with the group beyond what can be read from its fields
// one by one.
func (d *Document) Validate() []*Problem {
	var out []*Problem
	for _, fault := range append(d.Group.Validate(), readiness.Validate(d.Group)...) {
		out = append(out, d.Problem(fault.Field, fault.ErrorBody()))
	}
	slices.SortStableFunc(out, func(a, b *Problem) int { return a.Line - b.Line })
	return out
}
