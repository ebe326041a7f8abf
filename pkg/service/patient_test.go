package service

import (
	"testing"
	"testing/synctest"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// late is a mapper of an API server that serves a kind from a time on.
type late struct {
	meta.RESTMapper
	from time.Time
}

func (l late) RESTMapping(kind schema.GroupKind, _ ...string) (*meta.RESTMapping, error) {
	if time.Now().Before(l.from) {
		return nil, &meta.NoKindMatchError{GroupKind: kind}
	}
	return &meta.RESTMapping{GroupVersionKind: kind.WithVersion("v1")}, nil
}

func TestKindsAreWaitedFor(t *testing.T) {
	kind := schema.GroupKind{Group: "helm.toolkit.fluxcd.io", Kind: "HelmRelease"}
	for name, tc := range map[string]struct {
		served, stopped time.Duration
		ok              bool
		took            time.Duration
	}{
		"Served":         {stopped: time.Hour, ok: true},
		"ServedSoon":     {served: 1700 * time.Millisecond, stopped: time.Hour, ok: true, took: 2 * time.Second},
		"ServedTooLate":  {served: time.Minute, stopped: time.Hour, took: kindsTime},
		"StopsMeanwhile": {served: 20 * time.Second, stopped: 3200 * time.Millisecond, took: 3200 * time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				stop := make(chan struct{})
				stopper := time.AfterFunc(tc.stopped, func() { close(stop) })
				defer stopper.Stop()
				began := time.Now()
				p := patient{RESTMapper: late{from: began.Add(tc.served)}, until: began.Add(kindsTime), stop: stop}
				found, err := p.RESTMapping(kind)
				if (err == nil) != tc.ok || tc.ok != (found != nil) || !tc.ok && !meta.IsNoMatchError(err) {
					t.Errorf("got %v, %v", found, err)
				}
				if took := time.Since(began); took != tc.took {
					t.Errorf("it took %s, want %s", took, tc.took)
				}
			})
		})
	}
}
