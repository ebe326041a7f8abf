package registry

import (
	"context"
	"time"

	"orkestra.dev/services/stager/internal/flight"
	"orkestra.dev/services/stager/internal/lru"
)

// store keeps what has a digest, and fetches what it does not have once for all who
// want it at the time.
type store struct {
	timeout   time.Duration
	kept      *lru.Cache[[]byte]
	downloads flight.Group[[]byte]
}

// get what has a digest in a repository, or, where digest is empty, what is at a place:
// that is not kept. Repositories, which are read with different credentials, share
// nothing.
func (s *store) get(ctx context.Context, repository, digest, place string, fetch func(context.Context) ([]byte, error)) ([]byte, error) {
	key := repository + " " + digest
	if digest == "" {
		return s.downloads.Do(ctx, key+place, s.timeout, fetch)
	}
	if data, ok := s.kept.Get(key); ok {
		return data, nil
	}
	return s.downloads.Do(ctx, key, s.timeout, func(ctx context.Context) ([]byte, error) {
		// Another download of it may have ended since we looked.
		if data, ok := s.kept.Get(key); ok {
			return data, nil
		}
		data, err := fetch(ctx)
		if err == nil {
			s.kept.Put(key, data, int64(len(data)))
		}
		return data, err
	})
}
