package values

import "strings"

// pathEscape makes a key part of a path.
var pathEscape = strings.NewReplacer(`\`, `\\`, `.`, `\.`)

// Path is the dotted path of keys, the outermost first. A dot that is part of a key,
// and a backslash, is behind a backslash in it.
func Path(keys ...string) string {
	escaped := make([]string, len(keys))
	for i, k := range keys {
		escaped[i] = pathEscape.Replace(k)
	}
	return strings.Join(escaped, ".")
}

// keysOf is the keys of a path.
func keysOf(path string) []string {
	var keys []string
	var key strings.Builder
	escaped := false
	for _, r := range path {
		switch {
		case escaped:
			key.WriteRune(r)
			escaped = false
		case r == '\\':
			escaped = true
		case r == '.':
			keys = append(keys, key.String())
			key.Reset()
		default:
			key.WriteRune(r)
		}
	}
	return append(keys, key.String())
}

// Prune is what of values lies at one of the paths or below it, as Path writes them.
// A null is kept: it takes a default of the chart away. So is what lies above a path
// and is no map, because it replaces the map that the chart has there. Without paths
// the result is values; the result shares its parts with values, and is never nil.
func Prune(values map[string]any, paths []string) map[string]any {
	if len(paths) == 0 && values != nil {
		return values
	}
	out := map[string]any{}
	whole := map[string]bool{} // what was taken as it is, and is not to be written into
	for _, path := range paths {
		take(out, values, keysOf(path), "", whole)
	}
	return out
}

func take(to, from map[string]any, keys []string, at string, whole map[string]bool) {
	value, ok := from[keys[0]]
	at += "." + pathEscape.Replace(keys[0])
	if !ok || whole[at] {
		return
	}
	below, isMap := value.(map[string]any)
	if len(keys) == 1 || !isMap {
		to[keys[0]], whole[at] = value, true
		return
	}
	inner, ok := to[keys[0]].(map[string]any)
	if !ok {
		inner = map[string]any{}
	}
	take(inner, below, keys[1:], at, whole)
	if len(inner) > 0 {
		to[keys[0]] = inner
	}
}
