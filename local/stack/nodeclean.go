package stack

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// podGrace is how long pods have between SIGTERM and SIGKILL when the node goes down and its state is kept.
const podGrace = 5 * time.Second

// cleanNode takes away all of a real node that is not in the stack's folder, and what is mounted in it. containerd and the
// kubelet have ended; containers and their shims outlive them, so they are found by what they run in. It can be repeated,
// and is nothing where the stack has no such node.
func (s *Stack) cleanNode(ctx context.Context, wipe bool) error {
	n := &node{layout: s.layout}
	if !exists(s.layout.node()) {
		return nil
	}
	if err := n.endPods(ctx, wipe); err != nil {
		return fmt.Errorf("ending the pods: %w", err)
	}
	if err := n.endShims(ctx); err != nil {
		return fmt.Errorf("ending the shims of containerd: %w", err)
	}
	err := errors.Join(n.unmount(), n.disconnect(ctx), removePodCgroups(), n.removeTraces())
	if err != nil {
		return fmt.Errorf("cleaning up the node: %w", err)
	}
	// As after a boot: containerd makes it anew, and the kubelet starts what is to run.
	if err := os.RemoveAll(s.layout.node("state")); err != nil {
		return fmt.Errorf("removing the state of containerd: %w", err)
	}
	return nil
}

// removeNode forgets the real node of a stack that is to have a simulated one.
func (s *Stack) removeNode(ctx context.Context) error {
	if err := s.cleanNode(ctx, true); err != nil {
		return err
	}
	if err := os.RemoveAll(s.layout.node()); err != nil {
		return fmt.Errorf("removing the node's folder: %w", err)
	}
	return nil
}

// podCgroups are the folders of the kubelet's control group: one for each controller, or one for all.
func podCgroups() ([]string, error) {
	out, err := filepath.Glob(filepath.Join(cgroupRoot, "*", kubepods))
	if err != nil {
		return nil, err
	}
	if one := filepath.Join(cgroupRoot, kubepods); exists(one) {
		out = append(out, one)
	}
	return out, nil
}

// podProcesses are all that run in a pod.
func podProcesses() (map[int]bool, error) {
	roots, err := podCgroups()
	if err != nil {
		return nil, err
	}
	out := map[int]bool{}
	for _, root := range roots {
		err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
			// A group goes with its last process.
			if err != nil || d.Name() != "cgroup.procs" {
				return ignoreGone(err)
			}
			content, err := os.ReadFile(path)
			for pid := range strings.FieldsSeq(string(content)) {
				if n, err := strconv.Atoi(pid); err == nil {
					out[n] = true
				}
			}
			return ignoreGone(err)
		})
		if err != nil {
			return nil, err
		}
	}
	return out, nil
}

func ignoreGone(err error) error {
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENODEV) || errors.Is(err, syscall.ESRCH) {
		return nil
	}
	return err
}

// endPods asks the processes of pods to end, where there is time for that, and then kills them.
func (n *node) endPods(ctx context.Context, now bool) error {
	if !now {
		patience, cancel := context.WithTimeout(ctx, podGrace)
		defer cancel()
		if err := endAll(patience, syscall.SIGTERM, podProcesses); err == nil || ctx.Err() != nil {
			return err
		}
	}
	bounded, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	return endAll(bounded, syscall.SIGKILL, podProcesses)
}

// endShims kills the shims that speak to this node's containerd.
func (n *node) endShims(ctx context.Context) error {
	bounded, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	return endAll(bounded, syscall.SIGKILL, func() (map[int]bool, error) { return shims(n.socket()) })
}

// shims of the containerd that listens on the socket.
func shims(socket string) (map[int]bool, error) {
	files, err := filepath.Glob("/proc/[0-9]*/cmdline")
	out := map[int]bool{}
	for _, f := range files {
		line, err := os.ReadFile(f)
		if err != nil || !isShim(line, socket) {
			continue // it is gone by now, or another's
		}
		if pid, err := strconv.Atoi(filepath.Base(filepath.Dir(f))); err == nil {
			out[pid] = true
		}
	}
	return out, err
}

// isShim tells by a process's arguments whether it is a shim of the containerd that listens on the socket.
func isShim(cmdline []byte, socket string) bool {
	args := strings.Split(strings.TrimRight(string(cmdline), "\x00"), "\x00")
	i := slices.Index(args, "-address")
	return filepath.Base(args[0]) == "containerd-shim-runc-v2" && i >= 0 && i+1 < len(args) && args[i+1] == socket
}

// endAll signals processes until there are none any more: who dies may have left children.
func endAll(ctx context.Context, signal syscall.Signal, find func() (map[int]bool, error)) error {
	told := map[int]bool{}
	for {
		processes, err := find()
		if err != nil || len(processes) == 0 {
			return err
		}
		for pid := range processes {
			if told[pid] && signal != syscall.SIGKILL {
				continue
			}
			told[pid] = true
			if err := syscall.Kill(pid, signal); err != nil && !errors.Is(err, syscall.ESRCH) {
				return fmt.Errorf("sending %s to process %d: %w", signal, pid, err)
			}
		}
		if err := pause(ctx, 20*time.Millisecond); err != nil {
			return fmt.Errorf("waiting for %d processes to end: %w", len(processes), err)
		}
	}
}

// unmount takes away all mounts in the node's folder, the innermost first: root filesystems, volumes and namespaces.
func (n *node) unmount() error {
	table, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return fmt.Errorf("reading the mounts: %w", err)
	}
	points := mountPoints(table, n.layout.node())
	var errs []error
	for _, point := range slices.Backward(points) {
		if err := syscall.Unmount(point, syscall.MNT_DETACH); err != nil && !errors.Is(err, syscall.EINVAL) && !errors.Is(err, syscall.ENOENT) {
			errs = append(errs, fmt.Errorf("unmounting %s: %w", point, err))
		}
	}
	return errors.Join(errs...)
}

// mountPoints are those below a folder, in the order of the table (field 5 of proc_pid_mountinfo(5)), which is that of
// mounting.
func mountPoints(table []byte, folder string) []string {
	unescape := strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`)
	var out []string
	for lines := bufio.NewScanner(bytes.NewReader(table)); lines.Scan(); {
		fields := strings.Fields(lines.Text())
		if len(fields) < 5 {
			continue
		}
		if point := unescape.Replace(fields[4]); strings.HasPrefix(point, folder+"/") {
			out = append(out, point)
		}
	}
	return out
}

// removePodCgroups removes the empty groups of pods, the innermost first.
func removePodCgroups() error {
	roots, err := podCgroups()
	if err != nil {
		return err
	}
	var errs []error
	for _, root := range roots {
		var groups []string
		err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
			if err == nil && d.IsDir() {
				groups = append(groups, path)
			}
			return ignoreGone(err)
		})
		errs = append(errs, err)
		for _, g := range slices.Backward(groups) {
			errs = append(errs, ignoreGone(os.Remove(g)))
		}
	}
	return errors.Join(errs...)
}

// removeTraces removes what the kubelet, CNI and the shims leave outside of the folder: links to logs, results of the
// network's plugins, and sockets.
func (n *node) removeTraces() error {
	var errs []error
	links, err := filepath.Glob("/var/log/containers/*.log")
	errs = append(errs, err)
	for _, link := range links {
		if to, err := os.Readlink(link); err == nil && strings.HasPrefix(to, n.layout.node()+"/") {
			errs = append(errs, os.Remove(link))
		}
	}
	const results = "/var/lib/cni/results/"
	ours, err := filepath.Glob(results + network + "-*-eth0")
	errs = append(errs, err)
	for _, file := range ours {
		container := strings.TrimSuffix(strings.TrimPrefix(filepath.Base(file), network+"-"), "-eth0")
		errs = append(errs, os.Remove(file), ignoreGone(os.Remove(results+"cni-loopback-"+container+"-lo")))
	}
	addresses, err := filepath.Glob(n.layout.node("state", "io.containerd.runtime.v2.task", "*", "*", "address"))
	errs = append(errs, err)
	for _, file := range addresses {
		socket, err := os.ReadFile(file)
		errs = append(errs, err)
		if path, ok := strings.CutPrefix(string(socket), "unix://"); ok {
			errs = append(errs, ignoreGone(os.Remove(path)))
		}
	}
	return errors.Join(errs...)
}

// NodeLeft is an error that names what is left on this machine of the real node of the stack in dir, for tests of taking it
// down: processes, mounts, interfaces, rules and control groups.
func NodeLeft(dir string) error {
	var errs []error
	l := layout{dir: dir}
	table, err := os.ReadFile("/proc/self/mountinfo")
	errs = append(errs, err)
	for _, point := range mountPoints(table, l.node()) {
		errs = append(errs, fmt.Errorf("%s is mounted", point))
	}
	shims, err := shims(filepath.Join(l.node(), socketName))
	errs = append(errs, err)
	for pid := range shims {
		errs = append(errs, fmt.Errorf("process %d is a shim", pid))
	}
	groups, err := podCgroups()
	errs = append(errs, err)
	for _, g := range groups {
		errs = append(errs, fmt.Errorf("there is %s", g))
	}
	if exists("/sys/class/net/" + bridge) {
		errs = append(errs, fmt.Errorf("there is the bridge %s", bridge))
	}
	tables, err := exec.Command("nft", "list", "tables").Output()
	errs = append(errs, err)
	for _, name := range []string{natTable, "kube-proxy"} {
		if bytes.Contains(tables, []byte(" "+name+"\n")) {
			errs = append(errs, fmt.Errorf("there is the table %s", name))
		}
	}
	return errors.Join(append(errs, policiesLeft())...)
}
