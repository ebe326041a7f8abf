package executor

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

// postponed are the workflows that are looked at again in a moment. They are not kept:
// where the process dies the next event of the workflow, or the resync, does the same.
type postponed struct {
	ctx   context.Context
	wakes *wakes
	log   *slog.Logger

	mu   sync.Mutex
	soon map[string]bool
}

func newPostponed(ctx context.Context, ws *wakes, log *slog.Logger) *postponed {
	return &postponed{ctx: ctx, wakes: ws, log: log, soon: map[string]bool{}}
}

// look has a workflow looked at after a wait, once: whoever asks meanwhile shares the look.
func (p *postponed) look(workflow, group string, wait time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.soon[workflow] {
		return
	}
	p.soon[workflow] = true
	time.AfterFunc(wait, func() {
		p.mu.Lock()
		delete(p.soon, workflow)
		p.mu.Unlock()
		if p.ctx.Err() != nil {
			return
		}
		if err := ignoreEnded(p.wakes.do(p.ctx, wake{workflow: workflow})); err != nil {
			p.log.Warn("looking at a workflow again", "group", group, "workflow", workflow, "error", err)
		}
	})
}
