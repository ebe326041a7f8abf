package stack

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

const policyUser = "system:kube-router"

// Prefixes of what kube-router makes to enforce NetworkPolicies: chains of iptables, and sets of addresses.
var (
	policyChains = []string{"KUBE-ROUTER-", "KUBE-NWPLCY-", "KUBE-POD-FW-"}
	policySets   = []string{"KUBE-SRC-", "KUBE-DST-"}
)

// policyObjects are what kube-router may read.
func policyObjects() []runtime.Object {
	return mayDo(policyUser,
		rbacv1.PolicyRule{APIGroups: []string{corev1.GroupName}, Resources: []string{"pods", "namespaces"}, Verbs: []string{"list", "watch"}},
		rbacv1.PolicyRule{APIGroups: []string{corev1.GroupName}, Resources: []string{"nodes"}, Verbs: []string{"get"}},
		rbacv1.PolicyRule{APIGroups: []string{networkingv1.GroupName}, Resources: []string{"networkpolicies"}, Verbs: []string{"list", "watch"}},
	)
}

// forgetPolicies removes kube-router's rules, and then the sets that they named. Where there is no iptables there are none.
func forgetPolicies(ctx context.Context) error {
	rules, err := packetFilter(ctx, "", "iptables-save", "-t", "filter")
	if errors.Is(err, exec.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	if without := withoutPolicies(rules); without != string(rules) {
		if _, err := packetFilter(ctx, without, "iptables-restore", "--wait", "-T", "filter"); err != nil {
			return err
		}
	}
	sets, err := policySetNames(ctx)
	if err != nil {
		return err
	}
	var errs []error
	for _, set := range sets {
		_, err := packetFilter(ctx, "", "ipset", "destroy", set)
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// withoutPolicies is a table as iptables-save writes it, without the chains of kube-router and what jumps to them.
func withoutPolicies(table []byte) string {
	var out strings.Builder
	for line := range strings.Lines(string(table)) {
		if !containsAny(line, policyChains) {
			out.WriteString(line)
		}
	}
	return out.String()
}

func policySetNames(ctx context.Context) (out []string, err error) {
	names, err := packetFilter(ctx, "", "ipset", "list", "-n")
	if errors.Is(err, exec.ErrNotFound) {
		return nil, nil
	}
	for name := range strings.FieldsSeq(string(names)) {
		if containsAny(name, policySets) {
			out = append(out, name)
		}
	}
	return out, err
}

// policiesLeft is an error that says what is left of kube-router's rules.
func policiesLeft() error {
	rules, err := packetFilter(context.Background(), "", "iptables-save", "-t", "filter")
	if err == nil && withoutPolicies(rules) != string(rules) {
		err = errors.New("there are rules of kube-router")
	}
	sets, setsErr := policySetNames(context.Background())
	if len(sets) > 0 {
		setsErr = fmt.Errorf("there are the sets %q", sets)
	}
	return errors.Join(err, setsErr)
}

func containsAny(s string, parts []string) bool {
	for _, p := range parts {
		if strings.Contains(s, p) {
			return true
		}
	}
	return false
}

// packetFilter runs one of the packet filter's tools, and returns what it says.
func packetFilter(ctx context.Context, stdin, tool string, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, tool, args...)
	cmd.Stdin = strings.NewReader(stdin)
	var complaints bytes.Buffer
	cmd.Stderr = &complaints
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w: %s", tool, strings.Join(args, " "), err, bytes.TrimSpace(complaints.Bytes()))
	}
	return out, nil
}
