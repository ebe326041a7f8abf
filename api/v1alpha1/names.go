package v1alpha1

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"
)

// Limits on names, and where they come from.
const (
	// MaxReleaseName is Helm's own limit on a release name: what Helm adds to it
	// has to fit into 63.
	MaxReleaseName = 53
	// MaxLabel is the limit of Kubernetes on a DNS label and on a label's value.
	MaxLabel = 63
)

// DNSName turns the name of an application or a subchart into a DNS label: lower
// case, and "-" for what a label may not have.
func DNSName(name string) string {
	var b strings.Builder
	for _, r := range strings.ToLower(name) {
		switch {
		case r >= 'a' && r <= 'z', r >= '0' && r <= '9':
			b.WriteRune(r)
		default:
			b.WriteByte('-')
		}
	}
	return strings.Trim(b.String(), "-")
}

// Shorten cuts a name to at most limit characters. A name that is cut ends in a
// hash of the whole, so that two long names stay two.
func Shorten(name string, limit int) string {
	if len(name) <= limit {
		return name
	}
	tail := "-" + shortHash(name)
	return strings.TrimRight(name[:limit-len(tail)], "-.") + tail
}

// TaskName is the name of a release in the graph, as in the original:
// <application>-<subchart>, and <application>-<application> for the application's
// own chart, where subchart is empty. A subchart that is named like its
// application is <application>-<application>-subchart, so that the two stay apart.
func TaskName(application, subchart string) string {
	application, subchart = DNSName(application), DNSName(subchart)
	switch subchart {
	case "":
		return application + "-" + application
	case application:
		return application + "-" + application + "-subchart"
	default:
		return application + "-" + subchart
	}
}

// ReleaseName is the name of the HelmRelease: <application> for the application's
// own chart, <application>-<subchart> for a piece; at most 53 characters.
func ReleaseName(application, subchart string) string {
	name := DNSName(application)
	if subchart != "" {
		name += "-" + DNSName(subchart)
	}
	return Shorten(name, MaxReleaseName)
}

// StorageNamespace is where Helm keeps its records of a piece, so that the pieces
// of one application can share a release name: the records of the parent, and of
// an application that is not split, are in its target namespace.
//
// It is orkestra-<group>-<subchart> where that can be read in one way only. A group
// that has a "-" or a "." in its name gets a hash of both names behind it: else
// group "a" with subchart "b-c" would share its records with group "a-b" and "c".
func StorageNamespace(group, subchart string) string {
	name := "orkestra-" + DNSName(group) + "-" + DNSName(subchart)
	if strings.ContainsAny(group, "-.") {
		name += "-" + shortHash(group+"/"+DNSName(subchart))
	}
	return Shorten(name, MaxLabel)
}

func shortHash(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:])[:8]
}
