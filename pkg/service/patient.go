package service

import (
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

const (
	// kindsTime is how long a service that starts waits for kinds that the API server does not
	// serve yet: an installation makes the CRDs just before the services.
	kindsTime = 30 * time.Second
	// kindsAgain is how often it looks.
	kindsAgain = 500 * time.Millisecond
)

// patient is a mapper that waits for kinds until a time, or until it is stopped. After that a
// kind that is not served is told of at once: controllers wait for theirs by themselves, and
// handlers have another use for the answer.
type patient struct {
	meta.RESTMapper
	until time.Time
	stop  <-chan struct{}
}

// RESTMapping implements meta.RESTMapper.
func (p patient) RESTMapping(kind schema.GroupKind, versions ...string) (found *meta.RESTMapping, err error) {
	for {
		found, err = p.RESTMapper.RESTMapping(kind, versions...)
		if !meta.IsNoMatchError(err) || !time.Now().Before(p.until) {
			return found, err
		}
		select {
		case <-p.stop:
			return found, err
		case <-time.After(kindsAgain):
		}
	}
}
