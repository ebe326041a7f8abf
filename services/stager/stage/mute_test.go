package stage

import (
	"strings"
	"testing"
	gotemplate "text/template"

	"github.com/google/go-cmp/cmp"
)

func TestTakeApart(t *testing.T) {
	for name, c := range map[string]struct {
		text, defines, body string
		silent              bool
	}{
		"Nothing":       {text: "", silent: true},
		"Comments":      {text: "{{/* a */}}\n{{- /* b }} */ -}}\n", body: "{{/* a */}}\n{{- /* b }} */ -}}\n", silent: true},
		"OnlyDefines":   {text: "{{define \"a\"}}A{{end}}\n", defines: "{{define \"a\"}}A{{end}}\n", body: "{{/**/}}\n", silent: true},
		"OnlyText":      {text: "a: b\n", body: "a: b\n"},
		"An action":     {text: "{{ include \"x\" . }}", body: "{{ include \"x\" . }}"},
		"Both":          {text: "x{{define \"a\"}}{{if .}}A{{end}}{{end}}y", defines: "{{define \"a\"}}{{if .}}A{{end}}{{end}}\n", body: "x{{/**/}}y"},
		"Trimmed":       {text: "x \n{{- define `a` -}} A {{- end -}}\n y", defines: "{{- define `a` -}} A {{- end -}}\n", body: "x \n{{- /**/ -}}\n y"},
		"Block":         {text: "x{{- block \"a\" .b -}} A {{end -}} y", defines: "{{define \"a\" -}} A {{end}}\n", body: "x{{- template \"a\" .b -}} y"},
		"BlockInside":   {text: "{{if .}}{{block \"a\" .}}{{with .}}A{{end}}{{- end}}{{end}}", defines: "{{define \"a\"}}{{with .}}A{{end}}{{- end}}\n", body: "{{if .}}{{template \"a\" .}}{{end}}"},
		"BlockInDefine": {text: "{{define \"d\"}}{{block \"a\" .}}A{{end}}{{end}}x", defines: "{{define \"d\"}}{{block \"a\" .}}A{{end}}{{end}}\n", body: "{{/**/}}x"},
		"Quoted":        {text: "{{ \"}}\" }}{{ `{{end}}` }}{{ \"\\\"}}\" }}{{ '\"' }}", body: "{{ \"}}\" }}{{ `{{end}}` }}{{ \"\\\"}}\" }}{{ '\"' }}"},
		"ElseIf":        {text: "{{if .}}{{else if 1}}{{else}}{{end}}{{define \"a\"}}{{end}}", defines: "{{define \"a\"}}{{end}}\n", body: "{{if .}}{{else if 1}}{{else}}{{end}}{{/**/}}"},
		"Definitely":    {text: "{{ definitely }}{{ ending }}{{ if_ }}", body: "{{ definitely }}{{ ending }}{{ if_ }}"},
		"Negative":      {text: "a {{-3}} b", body: "a {{-3}} b"},
	} {
		t.Run(name, func(t *testing.T) {
			p, err := takeApart(c.text)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff([]any{c.defines, c.body, c.silent}, []any{p.defines, p.body, p.silent}); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestNesting(t *testing.T) {
	for text, want := range map[string]int{
		"": 0, "{{.}}": 0, "{{if .}}{{end}}{{if .}}{{end}}": 1, "{{define `a`}}{{with .}}{{end}}{{end}}": 2,
		"{{if 1}}{{else if 2}}{{else if 3}}{{else}}{{end}}{{if 1}}{{end}}": 4,
		"{{end}}{{else}}{{end}}": 0, "{{/* {{if}} */}}{{`{{if}}`}}": 0,
		strings.Repeat("{{if 1}}", 5000): maxNesting + 1,
	} {
		if got := nesting(text); got != want {
			t.Errorf("nesting(%.60q) = %d, want %d", text, got, want)
		}
	}
}

func TestNamedKeepsABraceAtTheEnd(t *testing.T) {
	text := named([]string{"chart", "other"}, "templates/a.yaml", "x: {")
	for _, name := range []string{"chart/templates/a.yaml", "other/templates/a.yaml"} {
		var b strings.Builder
		if err := gotemplate.Must(gotemplate.New("").Parse(text)).ExecuteTemplate(&b, name, nil); err != nil || b.String() != "x: {" {
			t.Errorf("%s: %q, %v", name, b.String(), err)
		}
	}
}

// FuzzTakeApart: whatever parses is taken apart into what parses to the same, or
// refused; takeApart compares, so what is left to see is that nothing panics and
// nothing that Helm parses is refused.
func FuzzTakeApart(f *testing.F) {
	for _, s := range []string{
		"x{{define \"a\"}}A{{end}}y", "{{- block \"a\" . -}} A {{- end -}}", "{{/* } */}}{{ `\n}}` }}", "{{ \"\\\\\" }}{{end",
		"{{range .}}{{break}}{{else}}{{continue}}{{end}}", "{{with $x := 1}}{{$x}}{{end}}{{- /**/ -}}", "{ {{- 1 -}} }", "{{ (index . \"}}\") }}",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if _, _, err := parsed(text); err != nil {
			return
		}
		if _, err := takeApart(text); err != nil {
			t.Errorf("%q parses and is refused: %v", text, err)
		}
	})
}
