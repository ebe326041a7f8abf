package chart

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// permissionsPage is written by hack/permissions.
const permissionsPage = "../../docs/security-permissions.md"

var update = flag.Bool("update", false, "write docs/security-permissions.md anew")

// permissions of each service account are those that docs/security-permissions.md lists.
func (c *cluster) permissions(t *testing.T) {
	t.Helper()
	// The controller-manager puts this one together, after it was installed.
	err := wait.PollUntilContextTimeout(t.Context(), 100*time.Millisecond, time.Minute, true, func(ctx context.Context) (bool, error) {
		var waits rbacv1.ClusterRole
		err := c.client.Get(ctx, client.ObjectKey{Name: "orkestra-waits"}, &waits)
		return len(waits.Rules) > 0, err
	})
	if err != nil {
		t.Fatalf("ClusterRole orkestra-waits has no rules: %v", err)
	}
	if *update {
		is, err := c.listPermissions(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(permissionsPage, []byte(is), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	says, err := os.ReadFile(permissionsPage)
	if err != nil {
		t.Fatal(err)
	}
	// The API server authorizes by what it has heard of roles and bindings, which is a moment old. A look that has begun may
	// take its time.
	var diff string
	err = wait.PollUntilContextTimeout(t.Context(), 100*time.Millisecond, 20*time.Second, true, func(context.Context) (bool, error) {
		is, err := c.listPermissions(t.Context())
		if err != nil {
			return false, err
		}
		diff = cmp.Diff(string(says), is)
		return diff == "", nil
	})
	switch {
	case diff != "":
		t.Errorf("docs/security-permissions.md is old; `go test ./test/chart -run TestOnACluster -update` writes it (-page +API server):\n%s", diff)
	case err != nil:
		t.Error(err)
	}
}

// listPermissions has hack/permissions ask the API server.
func (c *cluster) listPermissions(ctx context.Context) (string, error) {
	script := exec.CommandContext(ctx, filepath.Join("..", "..", "hack", "permissions"), namespace)
	script.Env = append(os.Environ(), "KUBECONFIG="+c.path, "PATH="+c.bin+string(filepath.ListSeparator)+os.Getenv("PATH"))
	var complaints strings.Builder
	script.Stderr = &complaints
	out, err := script.Output()
	if err != nil {
		return "", fmt.Errorf("hack/permissions: %w: %s", err, complaints.String())
	}
	return string(out), nil
}
