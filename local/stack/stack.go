package stack

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"
)

// Stack is one local Orkestra, running or not.
type Stack struct {
	// Dir is the folder of its state, Bin that of the executables.
	Dir, Bin string
	// Kubeconfig is the path of the administrator's kubeconfig.
	Kubeconfig string

	layout layout
	log    io.Writer
}

// Open finds the stack that Options.Root and Options.Dir name, without changing anything: to look at it, to reach it, to
// take it down. It is no error if there is none; it then has no processes.
func Open(o Options) (*Stack, error) {
	l, err := o.layout()
	if err != nil {
		return nil, err
	}
	s := &Stack{Dir: l.dir, Bin: l.bin, Kubeconfig: l.kubeconfig(), layout: l, log: o.Log}
	if s.log == nil {
		s.log = io.Discard
	}
	return s, nil
}

// Up builds what is not built, starts what does not run, restarts what is not healthy or runs with other flags or another
// executable than the options ask for, and leaves the rest. It returns when all of it is healthy.
//
// When it fails or is interrupted, what it has started is recorded: a next Up continues there, and Down takes it away.
func Up(ctx context.Context, o Options) (*Stack, error) {
	if o.KubernetesOnly && (o.Services || o.Kubeconfig != "") {
		return nil, errors.New("KubernetesOnly is a cluster of our own, without our services: want neither Services nor Kubeconfig")
	}
	s, err := Open(o)
	if err != nil {
		return nil, err
	}
	if err := Build(ctx, s.layout.root, s.Bin, s.log); err != nil {
		return nil, err
	}
	if o.Services {
		if err := BuildServices(ctx, s.layout.root, s.Bin, s.log); err != nil {
			return nil, err
		}
	}
	if o.Node == Containerd {
		if _, err := preflight(s.layout); err != nil {
			return nil, err
		}
		if err := s.layout.buildNode(ctx, slices.Concat(nodeImages, o.Images), s.log); err != nil {
			return nil, err
		}
	}
	unlock, err := lock(ctx, s.layout.lockFile(), s.log)
	if err != nil {
		return nil, err
	}
	if err := errors.Join(s.up(ctx, o), unlock()); err != nil {
		return nil, err
	}
	return s, nil
}

func (s *Stack) up(ctx context.Context, o Options) error {
	begin := time.Now()
	if err := s.layout.makeDirs(); err != nil {
		return err
	}
	if err := makePKI(s.layout.pki(), time.Now()); err != nil {
		return err
	}
	if err := errors.Join(s.layout.makeKeys(), s.layout.makeClusterFile(), s.layout.makePassword()); err != nil {
		return err
	}
	p, err := s.plan(ctx, o)
	if err != nil {
		return err
	}
	if err := s.retire(ctx, p, o.Services); err != nil {
		return err
	}
	if p.node == nil {
		if err := s.removeNode(ctx); err != nil {
			return err
		}
	}
	if err := s.start(ctx, p); err != nil {
		return err
	}
	env, err := s.Env()
	if err != nil {
		return err
	}
	if err := writeFile(s.layout.envFile(), envFile(env, s.Bin), 0o600); err != nil {
		return err
	}
	say(s.log, "all of it is healthy after %s", time.Since(begin).Round(10*time.Millisecond))
	return nil
}

// plan says what is to run, and writes down what that is to be found by: the ports and the kubeconfig.
func (s *Stack) plan(ctx context.Context, o Options) (plan, error) {
	ports, err := loadPorts(s.layout.portsFile())
	if err != nil {
		return plan{}, err
	}
	processes, err := s.Processes()
	if err != nil {
		return plan{}, err
	}
	running := map[string]bool{}
	for _, process := range processes {
		if running[process.name], err = process.Running(); err != nil {
			return plan{}, err
		}
	}
	ports.forget(func(name string) bool { return running[name] })

	planner := &planner{layout: s.layout, ports: ports}
	if o.Node == Containerd {
		if err := planner.makeNode(ctx); err != nil {
			return plan{}, err
		}
	}
	if s.layout.foreign == "" {
		if err := writeKubeconfig(s.layout, planner.apiserverURL()); err != nil {
			return plan{}, err
		}
	}
	if planner.inputs, err = s.layout.inputs(); err != nil {
		return plan{}, err
	}
	p := planner.plan(o)
	if planner.err != nil {
		return plan{}, planner.err
	}
	return p, ports.save()
}

// inputs identifies the kubeconfig and the certificates that processes are started with.
func (l layout) inputs() (string, error) {
	paths := []string{l.kubeconfig()}
	for _, f := range []string{"ca", "apiserver", "component", "nats", "webhook/tls"} {
		paths = append(paths, l.pki(f+".crt"))
	}
	identities, err := l.identities()
	if err != nil {
		return "", err
	}
	for _, identity := range identities {
		paths = append(paths, l.seed(identity))
	}
	paths = append(paths, l.usersFile(), l.museum("config.yaml"))
	return digest(paths...)
}

// retire stops what an earlier up has started and the plan does not have: replicas, or a cluster of our own. Our services
// are left alone by who does not ask for them.
func (s *Stack) retire(ctx context.Context, p plan, services bool) error {
	processes, err := s.Processes()
	if err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	for _, process := range processes {
		if p.has(process.name) || isService(process.name) && !services {
			continue
		}
		g.Go(func() error {
			say(s.log, "%-24s is stopped, as it is not asked for", process.name)
			return s.remove(ctx, process)
		})
	}
	return g.Wait()
}

// start starts whatever does not depend on another at once.
func (s *Stack) start(ctx context.Context, p plan) error {
	manifests, err := s.manifests()
	if err != nil {
		return err
	}
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		if err := s.ensure(gctx, p.stores...); err != nil || p.node == nil {
			return err
		}
		return p.node.importImages(gctx, s.log)
	})
	g.Go(func() error {
		// The API server waits for etcd by itself.
		if err := s.ensure(gctx, p.kubernetes...); err != nil {
			return err
		}
		g.Go(func() error { return s.ensure(gctx, p.cluster...) })
		client, err := s.client()
		if err != nil {
			return err
		}
		if s.layout.foreign != "" {
			if err := refuseControllers(gctx, client); err != nil {
				return err
			}
		}
		if p.node != nil {
			g.Go(func() error {
				if err := p.node.furnish(gctx, client); err != nil {
					return err
				}
				return s.ensure(gctx, p.addons...)
			})
		}
		if len(p.controllers) > 0 {
			if err := s.bootstrap(gctx, client, manifests, p.webhookURL); err != nil {
				return err
			}
		}
		if len(p.services) > 0 {
			g.Go(func() error { return s.provideAccounts(gctx, client) })
		}
		if len(p.cluster) > 0 {
			g.Go(func() error {
				// A kubelet says itself that it is there.
				if p.node == nil {
					if err := createNode(gctx, client); err != nil {
						return err
					}
				}
				return awaitNode(gctx, client)
			})
		}
		return s.ensure(gctx, p.controllers...)
	})
	if err := g.Wait(); err != nil {
		return err
	}
	return s.ensure(ctx, p.services...)
}

// manifests are those of the CRDs of all that runs, and of our admission policies.
func (s *Stack) manifests() ([]string, error) {
	var out []string
	for _, folder := range []string{
		filepath.Join(s.layout.share, "argo"), filepath.Join(s.layout.share, "flux-source"),
		filepath.Join(s.layout.share, "flux-helm"), filepath.Join(s.layout.root, "deploy", "crds"),
		filepath.Join(s.layout.root, "deploy", "policies"),
	} {
		files, err := filepath.Glob(filepath.Join(folder, "*.yaml"))
		if err == nil && len(files) == 0 {
			err = fmt.Errorf("there is none in %s", folder)
		}
		if err != nil {
			return nil, fmt.Errorf("finding manifests: %w", err)
		}
		out = append(out, files...)
	}
	return out, nil
}

// ensure brings about that processes run, side by side.
func (s *Stack) ensure(ctx context.Context, specs ...spec) error {
	g, ctx := errgroup.WithContext(ctx)
	for _, want := range specs {
		g.Go(func() error {
			p, err := s.process(want.Name)
			if err != nil {
				return err
			}
			return p.ensure(ctx, want, s.log)
		})
	}
	return g.Wait()
}

// remove ends a process and its record.
func (s *Stack) remove(ctx context.Context, p *Process) error {
	if err := p.Stop(ctx); err != nil {
		running, runErr := p.Running()
		if running || runErr != nil {
			return errors.Join(err, runErr)
		}
		// It was killed because it would not end: worth a line, but it is gone.
		say(s.log, "%v", err)
	}
	return p.forget()
}

// Down ends every process of the stack, in the order in which nobody loses what it depends on. With wipe it also forgets
// all state, and does not wait for a graceful end; executables stay.
func (s *Stack) Down(ctx context.Context, wipe bool) error {
	if !exists(s.Dir) {
		return nil
	}
	unlock, err := lock(ctx, s.layout.lockFile(), s.log)
	if err != nil {
		return err
	}
	return errors.Join(s.down(ctx, wipe), unlock())
}

func (s *Stack) down(ctx context.Context, wipe bool) error {
	processes, err := s.Processes()
	if err != nil {
		return err
	}
	ranks := make([][]*Process, rankCount)
	for _, p := range processes {
		r, err := p.read()
		if err != nil {
			return err
		}
		ranks[r.Spec.Rank] = append(ranks[r.Spec.Rank], p)
	}
	for _, rank := range ranks {
		g, ctx := errgroup.WithContext(ctx)
		for _, p := range rank {
			g.Go(func() error {
				if wipe {
					return errors.Join(p.Kill(ctx), p.forget())
				}
				return s.remove(ctx, p)
			})
		}
		if err := g.Wait(); err != nil {
			return err
		}
	}
	if err := s.cleanNode(ctx, wipe); err != nil {
		return err
	}
	say(s.log, "stopped %d processes", len(processes))
	if !wipe {
		return nil
	}
	for _, entry := range mine {
		if err := os.RemoveAll(s.layout.path(entry)); err != nil {
			return fmt.Errorf("wiping the stack: %w", err)
		}
	}
	// A folder of its own goes too; the shared one still holds the executables.
	if entries, err := os.ReadDir(s.Dir); err == nil && len(entries) == 0 {
		if err := os.Remove(s.Dir); err != nil {
			return fmt.Errorf("wiping the stack: %w", err)
		}
	}
	say(s.log, "wiped %s", s.Dir)
	return nil
}

// Process returns a process by its name, such as "nats" or "executor-2".
func (s *Stack) Process(name string) (*Process, error) {
	p, err := s.process(name)
	if err != nil {
		return nil, err
	}
	if !exists(s.layout.record(name)) {
		return nil, fmt.Errorf("finding the process %q: %w", name, fs.ErrNotExist)
	}
	return p, nil
}

func (s *Stack) process(name string) (*Process, error) {
	client, err := prober(s.layout)
	if err != nil {
		return nil, err
	}
	return &Process{name: name, layout: s.layout, http: client}, nil
}

// PIDs are the ids of all processes that were started and not taken down, by name. One that is not healthy is an error.
func (s *Stack) PIDs(ctx context.Context) (map[string]int, error) {
	processes, err := s.Processes()
	if err != nil {
		return nil, err
	}
	out := map[string]int{}
	for _, p := range processes {
		status := p.Status(ctx)
		if status.Err != nil {
			return nil, fmt.Errorf("%s is not healthy: %w", p.Name(), status.Err)
		}
		out[p.Name()] = status.PID
	}
	return out, nil
}

// Processes are all processes that were started and not taken down, alive or not: servers first, then our services, by
// name.
func (s *Stack) Processes() ([]*Process, error) {
	names, err := recorded(s.layout)
	if err != nil {
		return nil, err
	}
	slices.SortFunc(names, func(a, b string) int {
		switch oursA, oursB := isService(a), isService(b); {
		case oursA && !oursB:
			return 1
		case oursB && !oursA:
			return -1
		default:
			return cmp.Compare(a, b)
		}
	})
	out := make([]*Process, 0, len(names))
	for _, name := range names {
		p, err := s.process(name)
		if err != nil {
			return nil, err
		}
		out = append(out, p)
	}
	return out, nil
}

// Env is how users of the stack find it: KUBECONFIG, NATS_URL with
// NATS_CA and NATS_NKEY, CHARTMUSEUM_URL with CHARTMUSEUM_CREDENTIALS, a folder with the
// files username and password, and for every replica of our services
// ORKESTRA_<NAME>_HEALTH_URL and ORKESTRA_<NAME>_METRICS_URL.
func (s *Stack) Env() (map[string]string, error) {
	env := map[string]string{"KUBECONFIG": s.Kubeconfig}
	processes, err := s.Processes()
	if err != nil {
		return nil, err
	}
	for _, p := range processes {
		r, err := p.read()
		if err != nil {
			return nil, err
		}
		maps.Copy(env, r.Spec.Exports)
	}
	return env, nil
}
