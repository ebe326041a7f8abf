package service

import (
	"context"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"syscall"
)

// levels is the level of the log: the one that was asked for, or debug after a
// SIGUSR1, until the next. A signal takes the right to end the process anyway, so
// nobody learns more than before; an address would have to be guarded.
type levels struct {
	slog.LevelVar
	asked   slog.Level
	signals chan os.Signal
}

func newLevels(asked slog.Level) *levels {
	l := &levels{asked: asked, signals: make(chan os.Signal, 1)}
	l.Set(asked)
	signal.Notify(l.signals, syscall.SIGUSR1)
	return l
}

func (l *levels) stop() { signal.Stop(l.signals) }

// follow does as the signals say until ctx is done.
func (l *levels) follow(ctx context.Context, log *slog.Logger) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-l.signals:
			next := slog.LevelDebug
			if l.Level() == next {
				next = l.asked
			}
			l.Set(next)
			log.Warn("the log level was switched", "level", next)
		}
	}
}

// onLoopback is an address that is not open to others unless it says so.
func onLoopback(addr string) string {
	host, port, err := net.SplitHostPort(addr)
	if err == nil && host == "" {
		return net.JoinHostPort("127.0.0.1", port)
	}
	return addr
}
