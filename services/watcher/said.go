package watcher

import (
	"context"
	"sync"

	"k8s.io/apimachinery/pkg/types"

	"orkestra.dev/pkg/events"
)

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

// tell says those of the facts that were not said yet. One that the stream knows
// to be stale is as good as said.
func (m *memory) tell(ctx context.Context, name types.NamespacedName, uid types.UID, facts []events.Fact) error {
	fresh := m.fresh(name, uid, facts)
	if len(fresh) == 0 {
		return nil
	}
	if err := m.say(ctx, fresh...); err != nil && !events.IsSuperseded(err) {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if s := m.said[name]; s != nil && s.uid == uid {
		for _, f := range fresh {
			s.ids[f.EventID()] = true
		}
	}
	return nil
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
