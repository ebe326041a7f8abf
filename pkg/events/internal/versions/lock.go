package versions

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
)

// Lock has every version of every schema, by type, the oldest first.
type Lock map[string][]Version

// Version of a schema.
type Version struct {
	// Version is <major>.<minor>. The major is that of the type, the minor counts the
	// times that it got optional fields.
	Version string `json:"version"`
	// Digest is sha256:<hex> of Shape as compact JSON with sorted keys.
	Digest string `json:"digest"`
	// Shape of the schema, see the function of that name.
	Shape map[string]any `json:"shape"`
}

// ErrChanged is a schema that is not what its version says.
var ErrChanged = errors.New("the payload has changed")

// ReadLock reads a lock, and checks that each shape is the one that was locked.
func ReadLock(raw []byte) (Lock, error) {
	var lock Lock
	if err := json.Unmarshal(raw, &lock); err != nil {
		return nil, fmt.Errorf("reading the lock of the schemas: %w", err)
	}
	for name, history := range lock {
		for _, v := range history {
			digest, err := digestOf(v.Shape)
			if err != nil {
				return nil, err
			}
			if digest != v.Digest {
				return nil, fmt.Errorf("the lock of %s %s was edited: its digest is %s and says %s", name, v.Version, digest, v.Digest)
			}
		}
	}
	return lock, nil
}

// Add locks a type's schema under the version that the code declares. What is locked
// already stays. A payload that is not what is locked is ErrChanged, and the error says
// what to do.
func (l Lock) Add(name, version string, schema []byte) error {
	shape, err := Shape(schema)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	history := l[name]
	if len(history) == 0 {
		if version != First {
			return fmt.Errorf("%s is new, and its version is %s, want %s", name, version, First)
		}
		return l.add(name, version, shape)
	}
	last := history[len(history)-1]
	fields, err := Added(last.Shape, shape)
	if err != nil {
		return fmt.Errorf("%s: %w in what readers rely on: %w; put it back, and say it as a type of the next version (.v2)", name, ErrChanged, err)
	}
	next, err := Next(last.Version)
	switch {
	case err != nil:
		return fmt.Errorf("%s: %w", name, err)
	case len(fields) == 0 && version == last.Version:
		return nil
	case len(fields) == 0:
		return fmt.Errorf("%s is as it was in version %s, and its version is %s", name, last.Version, version)
	case version != next:
		return fmt.Errorf("%s: %w: %s is new since version %s; make its version %s in schema.go", name, ErrChanged, strings.Join(fields, ", "), last.Version, next)
	}
	return l.add(name, version, shape)
}

func (l Lock) add(name, version string, shape map[string]any) error {
	digest, err := digestOf(shape)
	if err != nil {
		return err
	}
	l[name] = append(l[name], Version{Version: version, Digest: digest, Shape: shape})
	return nil
}

func digestOf(shape map[string]any) (string, error) {
	raw, err := json.Marshal(shape)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("sha256:%x", sha256.Sum256(raw)), nil
}
