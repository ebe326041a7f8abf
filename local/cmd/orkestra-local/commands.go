package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"orkestra.dev/local/stack"
)

func newCommand() *cobra.Command {
	var o stack.Options
	root := &cobra.Command{
		Use:   "orkestra-local",
		Short: "A whole Orkestra on this machine, without root and without containers",
		Long: `A whole Orkestra on this machine, without root and without containers: a real Kubernetes API server, Argo, Flux,
ChartMuseum and NATS as plain processes on 127.0.0.1, and Orkestra's services beside them. Charts are installed for
real; their pods are simulated by kwok.

The first up builds the servers from their Go modules, which takes a quarter of an hour. After that it takes seconds.`,
		Example: `  orkestra-local up                       # all of it
  . .local/env && kubectl get nodes       # look around
  orkestra-local logs compiler -f
  # what is staged of a group: ChartMuseum has a password, in files of the folder CHARTMUSEUM_CREDENTIALS
  curl -u "orkestra:$(cat $CHARTMUSEUM_CREDENTIALS/password)" $CHARTMUSEUM_URL/bookinfo/index.yaml
  orkestra-local down --wipe              # as if it had never been there`,
		SilenceUsage:  true,
		SilenceErrors: true,
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error {
			o.Log = cmd.ErrOrStderr()
			if o.Root != "" {
				return nil
			}
			var err error
			o.Root, err = checkout()
			return err
		},
	}
	root.PersistentFlags().StringVar(&o.Root, "root", "", "the checkout of Orkestra (default: the one around the working directory)")
	root.PersistentFlags().StringVar(&o.Dir, "dir", "", "folder of the state, for a stack beside the usual one (default: <root>/.local)")
	root.AddCommand(upCommand(&o), downCommand(&o), statusCommand(&o), buildCommand(&o), logsCommand(&o))
	return root
}

func upCommand(o *stack.Options) *cobra.Command {
	var withoutServices bool
	cmd := &cobra.Command{
		Use:   "up",
		Short: "Bring it up, or mend what is not up",
		Long: `Bring it up, or mend what is not up: what runs and is healthy is left alone, what died or was built anew is
restarted.`,
		Example: `  orkestra-local up
  orkestra-local up --replicas 2                            # two of each service
  orkestra-local up --nats 3                                # a cluster of NATS servers
  orkestra-local up --kubeconfig kind.kubeconfig            # on a cluster of yours
  orkestra-local up --node containerd                       # with pods that run; as root
  orkestra-local up --node containerd --kubernetes-only     # the same with nothing in it, to install Orkestra's chart
  orkestra-local up --without-services --dir .local/flux    # only Kubernetes, Argo, Flux, ChartMuseum, NATS; a second stack`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			o.Services = !withoutServices && !o.KubernetesOnly
			s, err := stack.Up(cmd.Context(), *o)
			if err != nil {
				return err
			}
			return welcome(cmd.OutOrStdout(), s)
		},
	}
	cmd.Flags().IntVar(&o.Replicas, "replicas", 1, "how many of each of Orkestra's services")
	cmd.Flags().IntVar(&o.NATS, "nats", 1, "how many NATS servers: 1, or a cluster of 3 or 5")
	cmd.Flags().StringVar(&o.Kubeconfig, "kubeconfig", "", "use this cluster instead of one of our own; it must not have Argo or Flux itself")
	cmd.Flags().Var(&o.Node, "node", "what plays the node: kwok, or containerd, which runs real pods and needs root (default kwok)")
	cmd.Flags().StringSliceVar(&o.Images, "images", nil, "with --node containerd: further images, or sets of them, that the node is given; see docs/images.md")
	cmd.Flags().BoolVar(&withoutServices, "without-services", false, "only the servers that Orkestra's services need")
	cmd.Flags().BoolVar(&o.KubernetesOnly, "kubernetes-only", false, "a cluster with nothing in it, to install Orkestra's chart into")
	cmd.Flags().StringVar(&o.LogLevel, "log-level", "info", "log level of Orkestra's services")
	cmd.Flags().DurationVar(&o.RequeueTime, "requeue-time", 100*time.Millisecond, "how long Argo waits before it looks at a workflow again")
	return cmd
}

func downCommand(o *stack.Options) *cobra.Command {
	var wipe bool
	cmd := &cobra.Command{
		Use:   "down",
		Short: "Stop everything; with --wipe also forget all state",
		Long: `Stop everything. State is kept, so that the next up finds the cluster as it was; with --wipe it is forgotten:
data, certificates, ports and logs. What was built stays in .local/bin.`,
		Example: `  orkestra-local down
  orkestra-local down --wipe`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, err := stack.Open(*o)
			if err != nil {
				return err
			}
			return s.Down(cmd.Context(), wipe)
		},
	}
	cmd.Flags().BoolVar(&wipe, "wipe", false, "forget all state")
	return cmd
}

func buildCommand(o *stack.Options) *cobra.Command {
	var withoutServices bool
	cmd := &cobra.Command{
		Use:     "build",
		Short:   "Build what up would build, and start nothing",
		Example: "  orkestra-local build --without-services",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, err := stack.Open(*o)
			if err != nil {
				return err
			}
			if err := stack.Build(cmd.Context(), o.Root, s.Bin, o.Log); err != nil || withoutServices {
				return err
			}
			return stack.BuildServices(cmd.Context(), o.Root, s.Bin, o.Log)
		},
	}
	cmd.Flags().BoolVar(&withoutServices, "without-services", false, "only the servers")
	return cmd
}

func statusCommand(o *stack.Options) *cobra.Command {
	return &cobra.Command{
		Use:     "status",
		Short:   "Show what runs; fails unless all of it is healthy",
		Example: "  orkestra-local status",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, err := stack.Open(*o)
			if err != nil {
				return err
			}
			processes, err := s.Processes()
			if err != nil {
				return err
			}
			if len(processes) == 0 {
				return errors.New("nothing runs: `orkestra-local up` starts it")
			}
			statuses := make([]stack.Status, len(processes))
			var g errgroup.Group
			for i, p := range processes {
				g.Go(func() error {
					statuses[i] = p.Status(cmd.Context())
					return nil
				})
			}
			return errors.Join(g.Wait(), table(cmd.OutOrStdout(), statuses, time.Now()))
		},
	}
}

func logsCommand(o *stack.Options) *cobra.Command {
	var follow bool
	cmd := &cobra.Command{
		Use:   "logs NAME",
		Short: "Show the end of a process's log",
		Example: `  orkestra-local logs helm-controller
  orkestra-local logs executor-2 -f`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			s, err := stack.Open(*o)
			if err != nil {
				return err
			}
			p, err := s.Process(args[0])
			if err != nil {
				return fmt.Errorf("%w; `orkestra-local status` lists the names", err)
			}
			tail := exec.CommandContext(cmd.Context(), "tail", "-n", "100")
			if follow {
				tail.Args = append(tail.Args, "-F")
			}
			tail.Args = append(tail.Args, p.LogFile())
			tail.Stdout, tail.Stderr = cmd.OutOrStdout(), cmd.ErrOrStderr()
			if err := tail.Run(); err != nil && cmd.Context().Err() == nil {
				return fmt.Errorf("showing the log of %s: %w", args[0], err)
			}
			return nil
		},
	}
	cmd.Flags().BoolVarP(&follow, "follow", "f", false, "go on with what is written from now on")
	return cmd
}

// table prints one line for each process, and is an error unless all of them are healthy.
func table(out io.Writer, statuses []stack.Status, now time.Time) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "NAME\tPID\tPORTS\tHEALTHY\tUPTIME\tLOG")
	var unhealthy []string
	for _, s := range statuses {
		pid, uptime, healthy := "-", "-", "yes"
		if s.PID != 0 {
			pid, uptime = strconv.Itoa(s.PID), now.Sub(s.Since).Round(time.Second).String()
		}
		if s.Err != nil {
			healthy = "no"
			unhealthy = append(unhealthy, fmt.Sprintf("%s: %v", s.Name, s.Err))
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", s.Name, pid, joined(s.Ports), healthy, uptime, nearby(s.Log))
	}
	if err := w.Flush(); err != nil {
		return fmt.Errorf("printing the table: %w", err)
	}
	if len(unhealthy) > 0 {
		return fmt.Errorf("%d of %d are not healthy:\n  %s", len(unhealthy), len(statuses), strings.Join(unhealthy, "\n  "))
	}
	return nil
}

func joined(ports []int) string {
	out := make([]string, len(ports))
	for i, p := range ports {
		out[i] = strconv.Itoa(p)
	}
	return strings.Join(out, ",")
}

// welcome says what to type next.
func welcome(out io.Writer, s *stack.Stack) error {
	env, err := s.Env()
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "\nKubernetes   KUBECONFIG=%s\n", nearby(env["KUBECONFIG"]))
	if env["NATS_URL"] != "" {
		fmt.Fprintf(out, "NATS         %s\n", env["NATS_URL"])
		fmt.Fprintf(out, "ChartMuseum  %s (username and password: files in %s)\n", env["CHARTMUSEUM_URL"], nearby(env["CHARTMUSEUM_CREDENTIALS"]))
	}
	status := "orkestra-local status"
	if s.Dir != filepath.Dir(s.Bin) { // a second stack has the executables of the usual one
		status += " --dir " + nearby(s.Dir)
	}
	_, err = fmt.Fprintf(out, `
Next:
  . %s              # kubectl and orkestra on the PATH, all addresses in the environment
  kubectl get nodes
  %s
`, nearby(filepath.Join(s.Dir, "env")), status)
	return err
}

// nearby is a path as seen from the working directory, where that is shorter.
func nearby(path string) string {
	wd, err := os.Getwd()
	if err != nil {
		return path
	}
	rel, err := filepath.Rel(wd, path)
	if err != nil || strings.HasPrefix(rel, "..") {
		return path
	}
	return rel
}

// checkout finds the folder that the servers' modules are in, from the working directory upwards.
func checkout() (string, error) {
	wd, err := os.Getwd()
	if err != nil {
		return "", fmt.Errorf("finding the checkout: %w", err)
	}
	for dir := wd; ; dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "servers", "kubernetes", "go.mod")); err == nil {
			return dir, nil
		}
		if dir == filepath.Dir(dir) {
			return "", fmt.Errorf("finding the checkout: neither %s nor a folder above it has servers/kubernetes; name it with --root", wd)
		}
	}
}
