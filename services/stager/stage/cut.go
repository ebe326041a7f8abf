package stage

import (
	"strconv"
	"strings"
)

// action is one {{...}} of a template.
type action struct {
	// start and end are its place in the text, delimiters included.
	start, end int
	// trimLeft and trimRight: it has the marker that trims the text before it,
	// behind it.
	trimLeft, trimRight bool
	// inside is what is between delimiters and markers.
	inside string
}

// keyword is the first word of the action.
func (a action) keyword() string {
	s := strings.TrimLeft(a.inside, spaces)
	for i, r := range s {
		if r != '_' && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') {
			return s[:i]
		}
	}
	return s
}

// spaces of text/template.
const spaces = " \t\r\n"

// next finds the first action at or behind from. It follows the rules of
// text/template's lexer, for text that text/template has parsed.
func next(text string, from int) (action, bool) {
	i := strings.Index(text[from:], "{{")
	if i < 0 {
		return action{}, false
	}
	a := action{start: from + i}
	i = a.start + 2
	if len(text) > i+1 && text[i] == '-' && strings.ContainsRune(spaces, rune(text[i+1])) {
		a.trimLeft = true
		i += 2
	}
	inside := i
	if strings.HasPrefix(text[i:], "/*") {
		n := strings.Index(text[i+2:], "*/")
		if n < 0 {
			return action{}, false
		}
		i += 2 + n + 2
	}
	for i < len(text) {
		switch {
		case strings.HasPrefix(text[i:], "}}"):
			a.inside, a.end = text[inside:i], i+2
			return a, true
		case strings.ContainsRune(spaces, rune(text[i])) && strings.HasPrefix(text[i+1:], "-}}"):
			a.inside, a.end, a.trimRight = text[inside:i], i+4, true
			return a, true
		case text[i] == '`':
			n := strings.IndexByte(text[i+1:], '`')
			if n < 0 {
				return action{}, false
			}
			i += 1 + n + 1
		case text[i] == '"', text[i] == '\'':
			quote := text[i]
			for i++; i < len(text) && text[i] != quote; i++ {
				if text[i] == '\\' {
					i++
				}
			}
			i++
		default:
			i++
		}
	}
	return action{}, false
}

// maxNesting is how deep actions of a template may be in one another. The parser
// calls itself for each level, without a limit of its own: a small file of nothing
// but {{if}} ends the process that parses it.
const maxNesting = 1000

// nesting is how deep the actions of a text are in one another; each else of a chain
// counts as a level, because it is one to the parser. It stops counting past the limit.
func nesting(text string) int {
	deepest, depth := 0, 0
	var levels []int // of each action that is open
	for at := 0; deepest <= maxNesting; {
		a, ok := next(text, at)
		if !ok {
			break
		}
		at = a.end
		switch a.keyword() {
		case "if", "range", "with", "define", "block":
			levels = append(levels, 1)
			depth++
		case "else":
			if len(levels) > 0 {
				levels[len(levels)-1]++
				depth++
			}
		case "end":
			if len(levels) > 0 {
				depth -= levels[len(levels)-1]
				levels = levels[:len(levels)-1]
			}
		}
		deepest = max(deepest, depth)
	}
	return deepest
}

// write prints an action with what is inside and the markers given.
func write(b *strings.Builder, trimLeft bool, inside string, trimRight bool) {
	b.WriteString("{{")
	if trimLeft {
		b.WriteString("- ")
	}
	b.WriteString(inside)
	if trimRight {
		b.WriteString(" -")
	}
	b.WriteString("}}")
}

// cut separates the named templates of a file from what it renders. Each part is
// text of the original, except that in the body a define leaves a comment with
// its trim markers, and a block, which defines and renders, leaves a call.
func cut(text string) *parts {
	var defines, body strings.Builder
	copied := 0 // of text, to body
	depth := 0
	var open *action // the define or block that we are in
	var openDepth int
	for at := 0; ; {
		a, ok := next(text, at)
		if !ok {
			break
		}
		at = a.end
		switch a.keyword() {
		case "define", "block":
			if open == nil {
				open, openDepth = &a, depth
				body.WriteString(text[copied:a.start])
			}
			depth++
		case "if", "range", "with":
			depth++
		case "end":
			depth--
			if open == nil || depth != openDepth {
				continue
			}
			inside := strings.TrimSpace(open.inside)
			if open.keyword() == "define" {
				defines.WriteString(text[open.start:a.end] + "\n")
				write(&body, open.trimLeft, "/**/", a.trimRight)
			} else {
				call := strings.TrimSpace(strings.TrimPrefix(inside, "block"))
				name, err := strconv.QuotedPrefix(call)
				if err != nil {
					name = call // takeApart sees that it is not the same
				}
				write(&defines, false, "define "+name, open.trimRight)
				defines.WriteString(text[open.end:a.start])
				write(&defines, a.trimLeft, "end", false)
				defines.WriteString("\n")
				write(&body, open.trimLeft, "template "+call, a.trimRight)
			}
			copied, open = a.end, nil
		}
	}
	body.WriteString(text[copied:])
	return &parts{defines: defines.String(), body: body.String()}
}
