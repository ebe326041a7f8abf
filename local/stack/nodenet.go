package stack

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
)

const (
	forwarding = "/proc/sys/net/ipv4/ip_forward"
	// natTable is ours. What pods ask of the world leaves with the machine's address; what they ask of each other does not.
	natTable = "orkestra-local"
	natRules = `table ip ` + natTable + `
flush table ip ` + natTable + `
table ip ` + natTable + ` {
	chain postrouting {
		type nat hook postrouting priority srcnat; policy accept;
		ip saddr ` + podCIDR + ` ip daddr != ` + podCIDR + ` masquerade
	}
}
`
)

// connect makes the bridge whose address is the node's, marked as this stack's, and lets pods reach the world. No pod is on
// it: each has a link of its own to the node, so that what pods ask of each other passes the node's rules as well.
func (n *node) connect(ctx context.Context) error {
	if !exists("/sys/class/net/" + bridge) {
		if err := n.run(ctx, "", "ip", "link", "add", bridge, "type", "bridge"); err != nil {
			return err
		}
	}
	// Not while it is added: Linux takes no alias then, and says nothing.
	if err := n.run(ctx, "", "ip", "link", "set", bridge, "alias", n.layout.dir); err != nil {
		return err
	}
	before, err := os.ReadFile(forwarding)
	if err != nil {
		return fmt.Errorf("reading whether packets are forwarded: %w", err)
	}
	// Written once: a second time it would be our own doing that is remembered.
	if !exists(n.layout.node("forwarding")) {
		if err := writeFile(n.layout.node("forwarding"), before, 0o600); err != nil {
			return err
		}
	}
	if err := os.WriteFile(forwarding, []byte("1"), 0o644); err != nil {
		return fmt.Errorf("forwarding packets: %w", err)
	}
	return errors.Join(
		n.run(ctx, "", "ip", "address", "replace", nodeIP+"/24", "dev", bridge),
		n.run(ctx, "", "ip", "link", "set", bridge, "up"),
		n.run(ctx, natRules, "nft", "-f", "-"),
	)
}

// disconnect takes the bridge away, and the rules: ours and those of kube-proxy and kube-router, which leave them on purpose.
func (n *node) disconnect(ctx context.Context) error {
	var errs []error
	for _, table := range [][]string{{"ip", natTable}, {"ip", "kube-proxy"}, {"ip6", "kube-proxy"}} {
		// Added before it is deleted, as nft has no way to delete what may not be there.
		rules := fmt.Sprintf("table %[1]s %[2]s\ndelete table %[1]s %[2]s\n", table[0], table[1])
		errs = append(errs, n.run(ctx, rules, "nft", "-f", "-"))
	}
	if exists("/sys/class/net/" + bridge) {
		errs = append(errs, n.run(ctx, "", "ip", "link", "delete", bridge))
	}
	errs = append(errs, forgetPolicies(ctx))
	before, err := readFileOr(n.layout.node("forwarding"))
	errs = append(errs, err)
	if before != "" {
		errs = append(errs, os.WriteFile(forwarding, []byte(before), 0o644), os.Remove(n.layout.node("forwarding")))
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("taking the network of pods away: %w", err)
	}
	return nil
}

// run runs one of the node's tools. What it complains of becomes the error.
func (n *node) run(ctx context.Context, stdin, tool string, args ...string) error {
	cmd := exec.CommandContext(ctx, tool, args...)
	cmd.Stdin = strings.NewReader(stdin)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s %s: %w: %s", tool, strings.Join(args, " "), err, bytes.TrimSpace(out))
	}
	return nil
}
