package stack

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net"
	"os"
	"strings"
)

// Ports are taken from below Linux's range for outgoing connections (32768 and up), which could otherwise take one
// between our choosing it and the server's listening.
const (
	firstPort = 20000
	lastPort  = 31999
)

// ports remembers which loopback port each server listens on, so that addresses stay what they are from one up to the
// next. A key is <process>/<purpose>.
type ports struct {
	path   string
	chosen map[string]int
	free   func(port int) bool
}

func loadPorts(path string) (*ports, error) {
	p := &ports{path: path, chosen: map[string]int{}, free: listens}
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return p, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading the recorded ports: %w", err)
	}
	if err := json.Unmarshal(b, &p.chosen); err != nil {
		return nil, fmt.Errorf("reading the recorded ports in %s: %w", path, err)
	}
	return p, nil
}

// forget drops the ports that processes which do not run have recorded and something else has taken since, so that get
// chooses others. Whoever speaks to them gets other flags by that, and is restarted.
func (p *ports) forget(runs func(process string) bool) {
	for key, port := range p.chosen {
		process, _, _ := strings.Cut(key, "/")
		if !runs(process) && !p.free(port) {
			delete(p.chosen, key)
		}
	}
}

// get returns the port for a purpose of a process, choosing a free one the first time.
func (p *ports) get(process, purpose string) (int, error) {
	key := process + "/" + purpose
	if port, ok := p.chosen[key]; ok {
		return port, nil
	}
	used := map[int]bool{}
	for _, port := range p.chosen {
		used[port] = true
	}
	const n = lastPort - firstPort + 1
	start := rand.IntN(n)
	for i := range n {
		port := firstPort + (start+i)%n
		if !used[port] && p.free(port) {
			p.chosen[key] = port
			return port, nil
		}
	}
	return 0, fmt.Errorf("choosing a port for %s: none of %d to %d is free on 127.0.0.1", key, firstPort, lastPort)
}

func (p *ports) save() error {
	b, err := json.MarshalIndent(p.chosen, "", "  ")
	if err != nil {
		return fmt.Errorf("recording the ports: %w", err)
	}
	return writeFile(p.path, append(b, '\n'), 0o600)
}

func listens(port int) bool {
	l, err := net.Listen("tcp", loopback(port))
	if err != nil {
		return false
	}
	return l.Close() == nil
}

func loopback(port int) string { return fmt.Sprintf("127.0.0.1:%d", port) }
