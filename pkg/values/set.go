package values

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/fluxcd/pkg/apis/meta"
)

// Helm's limits (pkg/strvals).
const (
	maxIndex = 65536
	maxDepth = 30
)

// verbatim escapes what means something in the value of `helm --set`.
var verbatim = strings.NewReplacer(`\`, `\\`, `,`, `\,`, `[`, `\[`, `]`, `\]`, `{`, `\{`, `}`, `\}`)

// setAt puts the value of a reference at its targetPath; the problem does not repeat
// the value, which may be secret, and of which Helm's syntax makes keys.
func setAt(values map[string]any, ref meta.ValuesReference, value string) (problem string) {
	typed := !ref.Literal
	quoted := func(q string) bool { return strings.HasPrefix(value, q) && strings.HasSuffix(value, q) }
	switch {
	case ref.Literal:
		value = verbatim.Replace(value)
	case quoted(`'`), quoted(`"`):
		value, typed = strings.Trim(value, `'"`), false
	}
	p := &setter{in: strings.NewReader(ref.TargetPath + "=" + value), typed: typed}
	for {
		switch err := p.key(values, 0); {
		case errors.Is(err, io.EOF):
			return ""
		case err != nil:
			return fmt.Sprintf("cannot be set at targetPath %s: if it is not written as for helm --set, let the reference say literal: true", ref.TargetPath)
		}
	}
}

// The reasons why something cannot be set. They are not shown: they would repeat what
// may be part of a value.
var (
	errSyntax = errors.New("is not written as for helm --set")
	errShape  = errors.New("goes through what is no map or no list")
	errLimit  = errors.New("has an index or a depth beyond Helm's limits")
	errNoList = errors.New("is not a list")
)

// setter reads `path=value[,path=value]` as Helm's strvals.ParseInto does: a name may
// hold dots and brackets, a value commas and braces, behind a backslash.
type setter struct {
	in *strings.Reader
	// typed: true, false, null and whole numbers are what they look like.
	typed bool
}

// key reads one path and its value into data. The error is io.EOF at the end.
func (s *setter) key(data map[string]any, depth int) error {
	name, last, err := s.until("=[,.")
	switch {
	case err != nil && name == "":
		return err
	case err != nil, last == ',':
		return errSyntax
	case last == '=':
		return s.value(func(v any) { put(data, name, v) })
	case last == '[':
		return s.list(data, name, depth)
	}
	if depth++; depth > maxDepth {
		return errLimit
	}
	inner := map[string]any{}
	if have, ok := data[name]; ok {
		if inner, ok = have.(map[string]any); !ok {
			return errShape
		}
	}
	err = s.key(inner, depth)
	if err == nil && len(inner) == 0 {
		return errSyntax
	}
	if len(inner) > 0 {
		put(data, name, inner)
	}
	return err
}

// list reads an index of the list of that name, and what follows.
func (s *setter) list(data map[string]any, name string, depth int) error {
	i, err := s.index()
	if err != nil {
		return err
	}
	list := []any{}
	if have, ok := data[name]; ok {
		if list, ok = have.([]any); !ok {
			return errShape
		}
	}
	list, err = s.item(list, i, depth)
	put(data, name, list)
	return err
}

func (s *setter) index() (int, error) {
	text, _, err := s.until("]")
	if err != nil {
		return 0, errSyntax
	}
	i, err := strconv.Atoi(text)
	if err != nil {
		return 0, errSyntax
	}
	return i, nil
}

// item reads what comes behind an index, and puts it there.
func (s *setter) item(list []any, i, depth int) ([]any, error) {
	if i < 0 || i > maxIndex {
		return list, errLimit
	}
	name, last, err := s.until("[.=")
	if name != "" || err != nil {
		return list, errSyntax
	}
	at := func(v any) {
		if i >= len(list) {
			list = slices.Concat(list, make([]any, i+1-len(list)))
		}
		list[i] = v
	}
	switch last {
	case '=':
		if err := s.value(at); err != nil && !errors.Is(err, io.EOF) {
			return list, err
		}
		return list, nil
	case '[':
		next, err := s.index()
		if err != nil {
			return list, err
		}
		var inner []any
		if i < len(list) && list[i] != nil {
			var ok bool
			if inner, ok = list[i].([]any); !ok {
				return list, errShape
			}
		}
		if inner, err = s.item(inner, next, depth); err == nil {
			at(inner)
		}
		return list, err
	default:
		inner := map[string]any{}
		if i < len(list) {
			var ok bool
			if inner, ok = list[i].(map[string]any); !ok {
				inner = map[string]any{}
				list[i] = inner
			}
		}
		if err := s.key(inner, depth); err != nil {
			return list, err
		}
		at(inner)
		return list, nil
	}
}

// value reads a value, one or a list in braces, and hands it to put.
func (s *setter) value(put func(any)) error {
	list, err := s.braces()
	switch {
	case errors.Is(err, io.EOF):
		put("")
		return err
	case errors.Is(err, errNoList):
		text, _, err := s.until(",")
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		put(s.scalar(text))
		return nil
	case err != nil:
		return err
	}
	put(list)
	return nil
}

// braces reads {a,b}; errNoList where the value is none.
func (s *setter) braces() ([]any, error) {
	r, _, err := s.in.ReadRune()
	if err != nil {
		return nil, err
	}
	if r != '{' {
		return nil, errors.Join(errNoList, s.in.UnreadRune())
	}
	list := []any{}
	for {
		text, last, err := s.until(",}")
		if err != nil {
			return nil, errSyntax
		}
		list = append(list, s.scalar(text))
		if last != '}' {
			continue
		}
		if r, _, err := s.in.ReadRune(); err == nil && r != ',' {
			return list, s.in.UnreadRune()
		}
		return list, nil
	}
}

// until reads to one of the runes of stop, which is not part of the text; a rune
// behind a backslash is.
func (s *setter) until(stop string) (text string, last rune, err error) {
	var b strings.Builder
	for {
		r, _, err := s.in.ReadRune()
		if err == nil && strings.ContainsRune(stop, r) {
			return b.String(), r, nil
		}
		if err == nil && r == '\\' {
			r, _, err = s.in.ReadRune()
		}
		if err != nil {
			return b.String(), 0, err
		}
		b.WriteRune(r)
	}
}

// scalar is what Helm takes a text for.
func (s *setter) scalar(text string) any {
	if !s.typed {
		return text
	}
	for word, value := range map[string]any{"true": true, "false": false, "null": nil, "0": int64(0)} {
		if strings.EqualFold(text, word) {
			return value
		}
	}
	if n, err := strconv.ParseInt(text, 10, 64); err == nil && text[0] != '0' {
		return n
	}
	return text
}

func put(data map[string]any, name string, value any) {
	if name != "" {
		data[name] = value
	}
}
