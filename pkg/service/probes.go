package service

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"sigs.k8s.io/controller-runtime/pkg/healthz"
)

// addProbes: the process lives while it answers; it is ready when it can hear and
// speak, that is when the bus is there and the informers are in step. Prefix tells the
// checks of this service from those of others in the process.
func (e *Env) addProbes(prefix string) error {
	checks := map[string]healthz.Checker{
		"topology": func(*http.Request) error {
			select {
			case <-e.topology:
				return nil
			default:
				return errors.New("the streams and consumers are not there yet")
			}
		},
		"bus": func(*http.Request) error { return e.Bus.Ready() },
		"informers": func(r *http.Request) error {
			ctx, cancel := context.WithTimeout(r.Context(), time.Second)
			defer cancel()
			if !e.Manager.GetCache().WaitForCacheSync(ctx) {
				return errors.New("the informers are not in step with the API server")
			}
			return nil
		},
	}
	for name, check := range checks {
		if err := e.Manager.AddReadyzCheck(prefix+name, check); err != nil {
			return fmt.Errorf("adding /readyz: %w", err)
		}
	}
	return nil
}
