package command

import (
	"context"
	"time"

	"github.com/spf13/cobra"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"orkestra.dev/api/v1alpha1"
	"orkestra.dev/cli/internal/tree"
)

// waiting are the flags of a command that can stay until what it asked for is done.
type waiting struct {
	wait    bool
	timeout time.Duration
}

func (w *waiting) add(cmd *cobra.Command, until string) {
	cmd.Flags().BoolVar(&w.wait, "wait", false, "follow the group until "+until)
	cmd.Flags().DurationVar(&w.timeout, "timeout", 0, "with --wait: give up after this time; 0 is never")
}

// pace is the time between two looks of who waits.
const pace = time.Second

// ready follows the group until it is ready, where that is asked for.
func (w *waiting) ready(cmd *cobra.Command, c *cluster, from client.Reader, group *v1alpha1.ApplicationGroup) error {
	if !w.wait {
		return nil
	}
	return follow(cmd, following{look: c.look(from, group.Name), done: tree.Done, every: pace, timeout: w.timeout, seen: true, gone: errFailed, program: c.program})
}

// gone follows the group until it is gone, where that is asked for. A group of its name
// that is made in the meantime is another one.
func (w *waiting) gone(cmd *cobra.Command, c *cluster, from client.Reader, name string, uid types.UID, done func(*v1alpha1.ApplicationGroup) (over, ok bool)) error {
	if !w.wait {
		return nil
	}
	look := c.look(from, name)
	same := func(ctx context.Context) (tree.State, error) {
		s, err := look(ctx)
		if err == nil && s.Group.UID != uid {
			err = apierrors.NewNotFound(schema.GroupResource{Group: v1alpha1.GroupVersion.Group, Resource: "applicationgroups"}, name)
		}
		return s, err
	}
	return follow(cmd, following{look: same, done: done, every: pace, timeout: w.timeout, seen: true, aim: "gone", program: c.program})
}

// look at the group as it is now.
func (c *cluster) look(from client.Reader, name string) func(context.Context) (tree.State, error) {
	return func(ctx context.Context) (tree.State, error) {
		s, err := c.state(ctx, from, name)
		s.Now = time.Now()
		return s, err
	}
}
