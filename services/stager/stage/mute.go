package stage

import (
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"
	"text/template/parse"

	"orkestra.dev/services/stager/archive"
)

// mute silences the templates of a chart that the engine puts at paths. It
// reports whether there was anything to silence.
func (f *folder) mute(paths []string, take taker) (changed bool, err error) {
	dirs := map[string][]string{}
	for _, file := range f.files {
		if template(file.Name) {
			dir := path.Dir(file.Name)
			dirs[dir] = append(dirs[dir], file.Name)
		}
	}
	moves := map[string]archive.File{}
	for _, names := range dirs {
		if err := f.muteDir(names, paths, take, moves); err != nil {
			return false, err
		}
	}
	for i, file := range f.files {
		if moved, ok := moves[file.Name]; ok {
			f.files[i] = moved
		}
	}
	if len(moves) == 0 {
		return false, nil
	}
	// The engine puts .Template into a chart's values when it renders a file of it, and
	// a template that is included with them (.Subcharts.<name>) may ask for its
	// BasePath: something has to be rendered.
	if !slices.ContainsFunc(f.files, func(file archive.File) bool { return template(file.Name) && !partial(file.Name) }) {
		f.set("templates/orkestra-muted.txt", []byte("{{- /* The templates of this chart are muted: they are in the files that begin with _. */ -}}\n"))
	}
	return true, nil
}

// muteDir adds to moves what each template of one directory becomes, where it
// changes. A file that only renders is moved on its own. Where a file has defines
// too, moving it would change its place in the order in which Helm parses files, and
// with it, perhaps, which of two defines of one name holds: then all files of the
// directory move together, which keeps the order. (Helm goes by depth and then by
// name, so no other directory matters.)
func (f *folder) muteDir(names, paths []string, takeApart taker, moves map[string]archive.File) error {
	apart := map[string]*parts{}
	take := func(name string) error {
		p, err := takeApart(string(f.file(name).Data))
		if err != nil {
			return fmt.Errorf("template %s: %w", path.Join(paths[0], name), err)
		}
		apart[name] = p
		return nil
	}
	together := false
	for _, name := range names {
		if partial(name) {
			continue
		}
		if err := take(name); err != nil {
			return err
		}
		p := apart[name]
		together = together || !p.silent && p.defines != ""
	}
	for _, name := range names {
		if together && apart[name] == nil {
			if err := take(name); err != nil {
				return err
			}
		}
		switch p := apart[name]; {
		case together:
			moves[name] = archive.File{Name: underscored(name), Data: []byte(p.defines + named(paths, name, p.body))}
		case p != nil && !p.silent:
			moves[name] = archive.File{Name: f.free(name), Data: []byte(named(paths, name, p.body))}
		}
	}
	return nil
}

// template tells whether Helm would parse a file.
func template(name string) bool { return strings.HasPrefix(name, "templates/") }

// partial tells whether Helm would parse a template and not render it.
func partial(name string) bool { return strings.HasPrefix(path.Base(name), "_") }

// underscored is the name of a partial beside a template.
func underscored(name string) string { return path.Join(path.Dir(name), "_"+path.Base(name)) }

// free is an underscored name that no file has.
func (f *folder) free(name string) string {
	for name = underscored(name); f.file(name) != nil; {
		name = underscored(name)
	}
	return name
}

// named is a partial that defines the template at each of the paths.
func named(paths []string, name, body string) string {
	var b strings.Builder
	first := path.Join(paths[0], name)
	// A brace before an action would become part of it.
	if trimmed, ok := strings.CutSuffix(body, "{"); ok {
		body = trimmed + `{{"{"}}`
	}
	fmt.Fprintf(&b, "{{define %s}}%s{{end}}", strconv.Quote(first), body)
	for _, p := range paths[1:] {
		b.WriteString(forwarding(path.Join(p, name), first))
	}
	return b.String()
}

func forwarding(from, to string) string {
	return fmt.Sprintf("{{define %s}}{{template %s .}}{{end}}", strconv.Quote(from), strconv.Quote(to))
}

// templates are the paths that the engine gives to all templates, sorted.
func templates(places map[*folder]*place) []string {
	var paths []string
	for f, p := range places {
		for _, file := range f.files {
			if !template(file.Name) {
				continue
			}
			for _, at := range p.paths {
				paths = append(paths, path.Join(at, file.Name))
			}
		}
	}
	slices.Sort(paths)
	return slices.Compact(paths)
}

// forward lets templates that spell out the chart's name in a path find what they
// include, in a piece whose outermost chart has another name.
func (f *folder) forward(chart, piece string, templates []string) {
	speltOut := false
	f.walk(func(c *folder) {
		for _, file := range c.files {
			text := string(file.Data)
			if strings.Contains(text, chart+"/templates/") || strings.Contains(text, chart+"/charts/") {
				speltOut = true
			}
		}
	})
	if !speltOut {
		return
	}
	var b strings.Builder
	for _, p := range templates {
		b.WriteString(forwarding(chart+strings.TrimPrefix(p, piece), p) + "\n")
	}
	f.set(f.free("templates/orkestra-paths.tpl"), []byte(b.String()))
}

// parts of a template file.
type parts struct {
	// defines are its named templates; empty where it has none.
	defines string
	// body is what it renders.
	body string
	// silent: the body renders nothing but space.
	silent bool
}

// taker takes templates apart. Each piece of a chart mutes nearly all of its files,
// so it remembers.
type taker func(text string) (*parts, error)

func newTaker() taker {
	known := map[string]*parts{}
	return func(text string) (*parts, error) {
		if p, ok := known[text]; ok {
			return p, nil
		}
		p, err := takeApart(text)
		if err == nil {
			known[text] = p
		}
		return p, err
	}
}

// takeApart takes a template apart. What it makes is text cut out of the original,
// and what that parses to is compared with what the original parses to.
func takeApart(text string) (*parts, error) {
	original, silent, err := parsed(text)
	if err != nil {
		return nil, err
	}
	if len(original) == 1 { // no defines: most files
		return &parts{body: text, silent: silent}, nil
	}
	p := cut(text)
	p.silent = silent
	defines, nothing, err := parsed(p.defines)
	if err != nil {
		return nil, fmt.Errorf("separating its defines: %w", err)
	}
	body, _, err := parsed(p.body)
	if err != nil {
		return nil, fmt.Errorf("separating its body: %w", err)
	}
	delete(defines, main)
	if _, ok := body[main]; !ok || len(body) > 1 || !nothing {
		return nil, errors.New("separating its defines from its body: one is left in the other")
	}
	maps.Copy(defines, body)
	if !maps.Equal(defines, original) {
		return nil, errors.New("separating its defines from its body changes them")
	}
	return p, nil
}

// main is what a file's own template is called while it is compared; no define
// can be called so.
const main = "\x00main"

// parsed prints the templates of a text, by name; silent is whether its own
// renders nothing.
func parsed(text string) (printed map[string]string, silent bool, err error) {
	set, err := trees(text)
	if err != nil {
		return nil, false, err
	}
	printed = map[string]string{}
	for name, tree := range set {
		printed[name] = tree.Root.String()
	}
	return printed, parse.IsEmptyTree(set[main].Root), nil
}

// trees of a text's templates, by name.
func trees(text string) (map[string]*parse.Tree, error) {
	t := parse.New(main)
	t.Mode = parse.SkipFuncCheck
	set := map[string]*parse.Tree{}
	if _, err := t.Parse(text, "", "", set); err != nil {
		// template: \x00main:3: unexpected "}" in operand
		_, where, _ := strings.Cut(err.Error(), main+":")
		return nil, errors.New("line " + where)
	}
	return set, nil
}
