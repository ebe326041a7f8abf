package service

import (
	"context"
	"log/slog"
	"os"
	"syscall"
	"testing"
	"time"
)

// Who has to find out what a service does just now need not restart it.
func TestASignalSwitchesTheLogLevel(t *testing.T) {
	l := newLevels(slog.LevelInfo)
	defer l.stop()
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- l.follow(ctx, slog.New(slog.DiscardHandler)) }()
	for _, want := range []slog.Level{slog.LevelDebug, slog.LevelInfo} {
		if err := syscall.Kill(os.Getpid(), syscall.SIGUSR1); err != nil {
			t.Fatal(err)
		}
		for deadline := time.Now().Add(10 * time.Second); l.Level() != want; time.Sleep(time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("the level is %s, want %s", l.Level(), want)
			}
		}
	}
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestProfilesAreOnLoopbackUnlessAsked(t *testing.T) {
	for addr, want := range map[string]string{":6060": "127.0.0.1:6060", "0.0.0.0:6060": "0.0.0.0:6060", "[::1]:1": "[::1]:1", "": ""} {
		if got := onLoopback(addr); got != want {
			t.Errorf("%q: %q, want %q", addr, got, want)
		}
	}
}
