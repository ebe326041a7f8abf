package stack

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/google/renameio/v2"
)

// writeFile replaces a file as a whole, so that who reads it meanwhile, or after a crash, sees the old or the new one.
func writeFile(path string, b []byte, mode fs.FileMode) error {
	if err := renameio.WriteFile(path, b, mode); err != nil {
		return fmt.Errorf("writing %s: %w", path, err)
	}
	return nil
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// lock makes one at a time of those that name the same file, across processes; the kernel lets go of it when its holder
// dies. A waiting one says so to log.
func lock(ctx context.Context, path string, log io.Writer) (unlock func() error, err error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, fmt.Errorf("locking %s: %w", path, err)
	}
	for waited := false; ; waited = true {
		f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
		if err != nil {
			return nil, fmt.Errorf("locking %s: %w", path, err)
		}
		err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil && same(f, path) {
			return f.Close, nil
		}
		if err := errors.Join(unlessBusy(err), f.Close()); err != nil {
			return nil, fmt.Errorf("locking %s: %w", path, err)
		}
		if !waited {
			say(log, "waiting for another orkestra-local that works on %s", filepath.Dir(path))
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("waiting for the lock %s: %w", path, ctx.Err())
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// same tells whether the open file is still the one of that name: whoever wiped the stack took the lock file with it.
func same(f *os.File, path string) bool {
	a, errA := f.Stat()
	b, errB := os.Stat(path)
	return errA == nil && errB == nil && os.SameFile(a, b)
}

func unlessBusy(err error) error {
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return nil
	}
	return err
}
