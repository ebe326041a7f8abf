package events

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"net/url"
	"strings"
)

// Rollout names one attempt to bring a group to what its owner asked for. The
// API server orders rollouts: a new spec is a new Generation, and an annotation
// requestedAt asks for the same spec again. Two Rollouts that are equal are the
// same rollout, whoever speaks of it and however often.
type Rollout struct {
	// Group is the name of the ApplicationGroup (cluster-scoped).
	Group string `json:"group"`
	// UID is the group's UID: a group deleted and made again is another one.
	UID string `json:"uid"`
	// Generation is metadata.generation of the spec that the rollout is about.
	Generation int64 `json:"generation"`
	// RequestedAt is the value of the annotation
	// orkestra.azure.microsoft.com/requestedAt, empty where nobody set it.
	RequestedAt string `json:"requestedAt,omitempty"`
}

// ID is the rollout's identity as one string, the correlationid of its events:
// <uid>/<generation>[/<requestedAt>].
func (r Rollout) ID() string {
	id := fmt.Sprintf("%s/%d", token(r.UID), r.Generation)
	if r.RequestedAt != "" {
		id += "/" + token(r.RequestedAt)
	}
	return id
}

// validate reports what is missing from a rollout that was heard.
func (r Rollout) validate() error {
	switch {
	case r.Group == "":
		return errors.New("rollout.group is empty")
	case strings.ContainsAny(r.Group, "*> \t\r\n"):
		return fmt.Errorf("rollout.group %q is not a name", r.Group)
	case r.UID == "":
		return errors.New("rollout.uid is empty")
	case r.Generation < 1:
		return fmt.Errorf("rollout.generation is %d, want 1 or more", r.Generation)
	}
	return nil
}

// maxToken bounds one part of an id, in bytes. A UID has 36, a timestamp 35, a
// Kubernetes name at most 253.
const maxToken = 256

// token makes s one part of an id: a slash in it does not end the part, a line
// break does not reach a header, and an annotation of 256 KiB (requestedAt is
// typed by users) becomes its digest. What identifies things in practice (UIDs,
// names, RFC 3339 times) is left as it is.
func token(s string) string {
	if s = url.PathEscape(s); len(s) <= maxToken {
		return s
	}
	return fmt.Sprintf("sha256-%x", sha256.Sum256([]byte(s)))
}

// SubjectToken makes a name one token of a NATS subject: a dot, which Kubernetes
// allows in a name and NATS reads as a separator, becomes "_". The slash between a
// namespace and a name stays: NATS has no meaning for it.
func SubjectToken(name string) string { return strings.ReplaceAll(name, ".", "_") }
