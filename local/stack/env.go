package stack

import (
	"maps"
	"slices"
	"strings"
)

// envFile writes variables for a shell to source. Sourcing it twice does not lengthen PATH.
func envFile(vars map[string]string, bin string) []byte {
	var b strings.Builder
	b.WriteString("# Written by the local stack. Source it in a POSIX shell.\n")
	for _, name := range slices.Sorted(maps.Keys(vars)) {
		b.WriteString("export " + name + "=" + quote(vars[name]) + "\n")
	}
	b.WriteString("case \":$PATH:\" in *:" + quote(bin) + ":*) ;; *) export PATH=" + quote(bin) + ":\"$PATH\" ;; esac\n")
	return []byte(b.String())
}

// quote is a word that a POSIX shell reads as exactly s.
func quote(s string) string {
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
