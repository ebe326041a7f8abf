package stage

import (
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
	"text/template/parse"
)

// Caution is about a thing that templates ask for and that is not, or need not be,
// the same for a piece and for the whole chart. The rendering that Equivalent compares
// has none of it: no cluster, no history, and of chance and time only two samples.
type Caution struct {
	// Call is what the templates ask for: lookup, randAlphaNum, .Release.Revision.
	Call string
	// Why it need not be the same.
	Why string
	// Templates that ask for it, as paths in the chart, sorted.
	Templates []string
}

func (c Caution) String() string {
	return fmt.Sprintf("%s %s (%s)", c.Call, c.Why, strings.Join(c.Templates, ", "))
}

const (
	asksCluster = "asks the cluster, when the piece is released"
	isRandom    = "is another each time; a value of another part's must come from a Secret or from the values"
	asksClock   = "is the time at which the piece is released"
	ownHistory  = "is of the piece's own release, which has its own history"
	changes     = "changes values for the templates of its piece only"
)

// calls that make templates render what they would not in another piece, or at another
// time. What Helm takes out of its functions (env, expandenv), or leaves without an
// effect (getHostByName), is not here.
var calls = map[string]string{
	"lookup":       asksCluster,
	"randAlphaNum": isRandom, "randAlpha": isRandom, "randAscii": isRandom, "randNumeric": isRandom,
	"randBytes": isRandom, "randInt": isRandom, "shuffle": isRandom, "uuidv4": isRandom,
	"bcrypt": isRandom, "htpasswd": isRandom, "encryptAES": isRandom, "genPrivateKey": isRandom,
	"genCA": isRandom, "genCAWithKey": isRandom, "genSelfSignedCert": isRandom,
	"genSelfSignedCertWithKey": isRandom, "genSignedCert": isRandom, "genSignedCertWithKey": isRandom,
	"now": asksClock, "ago": asksClock,
	".Release.Revision": ownHistory, ".Release.IsInstall": ownHistory, ".Release.IsUpgrade": ownHistory,
}

// changers change a map that they are given.
var changers = []string{"set", "unset", "merge", "mustMerge", "mergeOverwrite", "mustMergeOverwrite"}

// cautions of all templates of the chart, those of subcharts that the values disable
// too, sorted by call. What tpl makes of values is not looked into.
func (c *Chart) cautions() []Caution {
	found := map[string]Caution{}
	var visit func(f *folder, at string)
	visit = func(f *folder, at string) {
		for _, file := range f.files {
			if !template(file.Name) {
				continue
			}
			for call, why := range asks(string(file.Data)) {
				caution := found[call]
				caution.Call, caution.Why = call, why
				caution.Templates = append(caution.Templates, path.Join(at, file.Name))
				found[call] = caution
			}
		}
		for _, sub := range f.charts {
			visit(sub, path.Join(at, "charts", sub.dir))
		}
	}
	visit(c.root, "")
	var out []Caution
	for _, call := range slices.Sorted(maps.Keys(found)) {
		slices.Sort(found[call].Templates)
		out = append(out, found[call])
	}
	return out
}

// asks is what a template calls for, and why it matters. A template that does not
// parse asks for nothing: Helm will say what is wrong with it.
func asks(text string) map[string]string {
	out := map[string]string{}
	set, err := trees(text)
	if err != nil {
		return out
	}
	for _, tree := range set {
		look(tree.Root, out)
	}
	return out
}

// look for calls in a node and all below it.
func look(node parse.Node, out map[string]string) {
	note := func(call string) {
		if why, ok := calls[call]; ok {
			out[call] = why
		}
	}
	switch n := node.(type) {
	case *parse.ListNode:
		if n == nil {
			return // the else that is not there
		}
		for _, inner := range n.Nodes {
			look(inner, out)
		}
	case *parse.ActionNode:
		look(n.Pipe, out)
	case *parse.TemplateNode:
		look(n.Pipe, out)
	case *parse.IfNode:
		lookBranch(&n.BranchNode, out)
	case *parse.RangeNode:
		lookBranch(&n.BranchNode, out)
	case *parse.WithNode:
		lookBranch(&n.BranchNode, out)
	case *parse.PipeNode:
		if n == nil {
			return // {{template "x"}}
		}
		for _, command := range n.Cmds {
			lookCommand(command, out)
		}
	case *parse.ChainNode:
		look(n.Node, out)
	case *parse.IdentifierNode:
		note(n.Ident)
	case *parse.FieldNode:
		note(end(n.Ident))
	case *parse.VariableNode:
		note(end(n.Ident))
	}
}

// end of a chain of fields, as in .Release.Revision and $.root.Release.Revision.
func end(fields []string) string {
	return "." + strings.Join(fields[max(0, len(fields)-2):], ".")
}

func lookBranch(n *parse.BranchNode, out map[string]string) {
	look(n.Pipe, out)
	look(n.List, out)
	look(n.ElseList, out)
}

func lookCommand(n *parse.CommandNode, out map[string]string) {
	for _, argument := range n.Args {
		look(argument, out)
	}
	function, ok := n.Args[0].(*parse.IdentifierNode)
	if !ok || len(n.Args) < 2 || !slices.Contains(changers, function.Ident) {
		return
	}
	into := n.Args[1].String()
	if strings.HasPrefix(strings.TrimPrefix(into, "$"), ".Values") {
		out[function.Ident+" "+into] = changes
	}
}
