package watcher

import (
	"context"
	"sync"

	"golang.org/x/sync/errgroup"
	"k8s.io/apimachinery/pkg/types"

	"orkestra.dev/pkg/events"
)

// parallelSays is how many facts about one object are said at a time.
const parallelSays = 8

// memory of what was said of the objects that exist, so that each change is said
// once by this process. After a restart all is said again, and the stream, which
// knows the ids, stores none of it twice.
type memory struct {
	say sayer

	mu   sync.Mutex
	said map[types.NamespacedName]*spoken
}

// spoken is what was said of one object.
type spoken struct {
	uid types.UID
	ids map[string]bool
}

func newMemory(say sayer) *memory {
	return &memory{say: say, said: map[types.NamespacedName]*spoken{}}
}

// tell says those of the facts that were not said yet: in their order, but for
// neighbours of one type. One that the stream knows to be stale is as good as said.
func (m *memory) tell(ctx context.Context, name types.NamespacedName, uid types.UID, facts []events.Fact) error {
	fresh := m.fresh(name, uid, facts)
	for len(fresh) > 0 {
		n := 1
		for n < len(fresh) && fresh[n].Type() == fresh[0].Type() {
			n++
		}
		if err := m.sayAll(ctx, name, uid, fresh[:n]); err != nil {
			return err
		}
		fresh = fresh[n:]
	}
	return nil
}

// sayAll says facts whose order does not matter, several at a time: each takes the
// stream some milliseconds, and the first release of the next level waits for the
// last that ended of this one.
func (m *memory) sayAll(ctx context.Context, name types.NamespacedName, uid types.UID, facts []events.Fact) error {
	var says errgroup.Group
	says.SetLimit(parallelSays)
	for _, f := range facts {
		says.Go(func() error {
			if err := m.say(ctx, f); err != nil && !events.IsSuperseded(err) {
				return err
			}
			m.note(name, uid, f)
			return nil
		})
	}
	return says.Wait()
}

func (m *memory) note(name types.NamespacedName, uid types.UID, f events.Fact) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if s := m.said[name]; s != nil && s.uid == uid {
		s.ids[f.EventID()] = true
	}
}

func (m *memory) fresh(name types.NamespacedName, uid types.UID, facts []events.Fact) []events.Fact {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := m.said[name]
	if s == nil || s.uid != uid {
		s = &spoken{uid: uid, ids: map[string]bool{}}
		m.said[name] = s
	}
	var fresh []events.Fact
	for _, f := range facts {
		if !s.ids[f.EventID()] {
			fresh = append(fresh, f)
		}
	}
	return fresh
}

// forget an object that is gone.
func (m *memory) forget(name types.NamespacedName) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.said, name)
}
