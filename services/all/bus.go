package all

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nkeys"

	"orkestra.dev/pkg/events"
)

const (
	// startTime is how long the server may take to read its files.
	startTime = 2 * time.Minute
	// lookInterval is how often the server is asked whether it still stores anything.
	lookInterval = 5 * time.Second
)

// bus is a NATS server with JetStream in this process.
type bus struct {
	server *server.Server
	lock   *os.File
	keys   string // the folder of the keys
}

// open starts the server on the files of an earlier one.
func open(o options, log *slog.Logger) (*bus, error) {
	b := &bus{keys: filepath.Join(o.dataDir, "nkeys")}
	if err := os.MkdirAll(b.keys, 0o700); err != nil {
		return nil, fmt.Errorf("--data-dir: %w", err)
	}
	var err error
	if b.lock, err = lock(filepath.Join(o.dataDir, "lock")); err != nil {
		return nil, fmt.Errorf("--data-dir: %w", err)
	}
	if err := b.start(o, log); err != nil {
		return nil, errors.Join(err, b.Close())
	}
	return b, nil
}

// lock takes the folder for this process. It is free again when the process has ended,
// however it did.
func lock(file string) (*os.File, error) {
	f, err := os.OpenFile(file, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return nil, errors.Join(fmt.Errorf("%s is held by another process: %w", file, err), f.Close())
	}
	return f, nil
}

func (b *bus) start(o options, log *slog.Logger) error {
	so := &server.Options{
		ServerName: "orkestra", DontListen: o.natsAddr == "", NoSigs: true,
		JetStream: true, StoreDir: filepath.Join(o.dataDir, "nats"), SyncAlways: o.syncAlways, DisableJetStreamBanner: true,
	}
	if o.natsAddr != "" {
		host, port, err := net.SplitHostPort(o.natsAddr)
		if err != nil {
			return fmt.Errorf("--nats-addr: %w", err)
		}
		so.Host = host
		if so.Port, err = strconv.Atoi(port); err != nil {
			return fmt.Errorf("--nats-addr: %w", err)
		}
	}
	for _, i := range events.Identities() {
		user, err := b.user(i)
		if err != nil {
			return err
		}
		so.Nkeys = append(so.Nkeys, user)
	}
	var err error
	if b.server, err = server.NewServer(so); err != nil {
		return fmt.Errorf("configuring NATS: %w", err)
	}
	lines := &lines{log: log}
	b.server.SetLoggerV2(lines, false, false, false)
	b.server.Start()
	if !b.server.ReadyForConnections(startTime) || !b.server.JetStreamEnabled() {
		return fmt.Errorf("NATS does not start: %s", lines.trouble())
	}
	return nil
}

// user is what the server has to know of somebody. The key is made at the first start, and
// is where only the user of this process may read it.
func (b *bus) user(i events.Identity) (*server.NkeyUser, error) {
	pair, err := key(b.key(i.Name))
	if err != nil {
		return nil, fmt.Errorf("the key of %s: %w", i.Name, err)
	}
	defer pair.Wipe()
	public, err := pair.PublicKey()
	if err != nil {
		return nil, fmt.Errorf("the key of %s: %w", i.Name, err)
	}
	may := i.Permissions(events.DefaultTopology())
	return &server.NkeyUser{Nkey: public, Permissions: &server.Permissions{
		Publish:   &server.SubjectPermission{Allow: may.PublishAllow, Deny: may.PublishDeny},
		Subscribe: &server.SubjectPermission{Allow: may.SubscribeAllow},
	}}, nil
}

// key reads a key, or makes it.
func key(file string) (nkeys.KeyPair, error) {
	seed, err := os.ReadFile(file)
	if err == nil {
		return nkeys.FromSeed(bytes.TrimSpace(seed))
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	pair, err := nkeys.CreateUser()
	if err != nil {
		return nil, err
	}
	if seed, err = pair.Seed(); err != nil {
		return nil, err
	}
	// A process that dies here leaves no half of a key.
	if err := os.WriteFile(file+".new", seed, 0o600); err != nil {
		return nil, err
	}
	return pair, os.Rename(file+".new", file)
}

func (b *bus) key(identity string) string { return filepath.Join(b.keys, identity+".nk") }

// Reach implements service.Host: by memory, as the service.
func (b *bus) Reach(service string, o *events.Options) {
	o.InProcess, o.NKeyFile = b.server, b.key(service)
}

// Run implements service.Host. A server whose disk is full, or gone, stops storing and goes
// on; a new process may find it mended.
func (b *bus) Run(ctx context.Context) error {
	tick := time.NewTicker(lookInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			if !b.server.Running() || !b.server.JetStreamEnabled() {
				return errors.New("JetStream has stopped storing events: see the log, and whether the disk of --data-dir is full")
			}
		}
	}
}

// Close implements service.Host.
func (b *bus) Close() error {
	if b.server != nil {
		b.server.Shutdown()
		b.server.WaitForShutdown()
	}
	if err := b.lock.Close(); err != nil {
		return fmt.Errorf("letting --data-dir go: %w", err)
	}
	return nil
}

// lines are the server's in our log. What it notices in passing is for who debugs.
type lines struct {
	log  *slog.Logger
	last atomic.Pointer[string] // error
}

func (l *lines) say(level slog.Level, format string, v []any) {
	text := fmt.Sprintf(format, v...)
	if level == slog.LevelError {
		l.last.Store(&text)
	}
	l.log.Log(context.Background(), level, "NATS: "+text)
}

func (l *lines) trouble() string {
	if last := l.last.Load(); last != nil {
		return *last
	}
	return "it is not ready after " + startTime.String()
}

// They implement server.Logger.

func (l *lines) Noticef(format string, v ...any) { l.say(slog.LevelDebug, format, v) }
func (l *lines) Debugf(format string, v ...any)  { l.say(slog.LevelDebug, format, v) }
func (l *lines) Tracef(format string, v ...any)  { l.say(slog.LevelDebug, format, v) }
func (l *lines) Warnf(format string, v ...any)   { l.say(slog.LevelWarn, format, v) }
func (l *lines) Errorf(format string, v ...any)  { l.say(slog.LevelError, format, v) }

// Fatalf does not end the process: who waits for the server hears why it is not there.
func (l *lines) Fatalf(format string, v ...any) { l.say(slog.LevelError, format, v) }
