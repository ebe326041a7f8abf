package command

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"orkestra.dev/api/v1alpha1"
	"orkestra.dev/cli/internal/bundle"
	"orkestra.dev/cli/internal/manifest"
	"orkestra.dev/services/stager/registry"
)

func newBundle(name string, open opener) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "bundle",
		Short: "Move what groups need to where there is no internet",
		Long: `Bundle moves the charts of groups, with their digests, provenance and signatures, and
the groups themselves in one file. Container images are not in it, and neither are Secrets.`,
		Example: examples(name, `
# Where the internet is
orkestra bundle save -f group.yaml -o bundle.tgz

# Where it is not
orkestra bundle show bundle.tgz
orkestra bundle load bundle.tgz --to oci://registry.internal/charts -o group.yaml
kubectl apply -f group.yaml`),
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newBundleSave(name, open), newBundleLoad(name), newBundleShow(name))
	for _, sub := range cmd.Commands() {
		check := sub.Args
		sub.Args = func(cmd *cobra.Command, args []string) error {
			if err := check(cmd, args); err != nil {
				return &usageError{err, cmd.CommandPath()}
			}
			return nil
		}
	}
	return cmd
}

// progress is written to the command's error stream.
func progress(cmd *cobra.Command) bundle.Say {
	return func(format string, args ...any) { cmd.PrintErrf(format+"\n", args...) }
}

func newBundleSave(name string, open opener) *cobra.Command {
	var from files
	var out string
	var flags credentials
	w := &wallet{flags: &flags, cluster: &cluster{open: open}}
	cmd := &cobra.Command{
		Use:   "save -f FILE -o BUNDLE",
		Short: "Put the charts of groups, and the groups, into a file",
		Long: `Save finds the charts of groups as the stager would, fetches them, and writes them
with the groups' manifests to a file. Charts and groups that are the same make the same
file, byte for byte.

A registry that asks for credentials gets those of the Secret that the group names:
from its manifest, where that is among the files; else those of the flags, which are
sent to one host only; else from the cluster of the kubeconfig. A chart that has to
prove who made it is verified, where the Secret with the keys is found in the same way,
and its provenance, or its manifest with the signatures of cosign, is saved with it. No
Secret is.`,
		Example: examples(name, `
orkestra bundle save -f group.yaml -f more.yaml -o bundle.tgz

# From a registry that asks for a password
orkestra bundle save -f group.yaml -f secret.yaml -o bundle.tgz
orkestra bundle save -f group.yaml -o bundle.tgz --username me --password-stdin < password`),
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if out == "" {
				return &usageError{errors.New("say where to write the bundle with -o"), cmd.CommandPath()}
			}
			if flags.stdin() && slices.Contains(from, manifest.Stdin) {
				return &usageError{errors.New("the standard input cannot be both a manifest and a password"), cmd.CommandPath()}
			}
			var err error
			if w.set, err = from.valid(cmd); err != nil {
				return err
			}
			if err := flags.read(cmd); err != nil {
				return err
			}
			requests, err := w.requests(cmd)
			if err != nil {
				return err
			}
			x, err := bundle.Save(cmd.Context(), out, requests, registry.New(registry.Options{AllowPrivate: true}), progress(cmd))
			if err != nil {
				return err
			}
			cmd.PrintErrf("saved %s and %s to %s\n", count(len(x.Groups), "group"), count(len(x.Charts), "chart"), out)
			return nil
		},
	}
	from.add(cmd)
	cmd.Flags().StringVarP(&out, "output", "o", "", "file to write the bundle to")
	flags.add(cmd.Flags())
	w.addTo(cmd.Flags())
	return cmd
}

func count(n int, what string) string {
	if n != 1 {
		what += "s"
	}
	return fmt.Sprintf("%d %s", n, what)
}

// requests to save: the groups of the files, each once.
func (w *wallet) requests(cmd *cobra.Command) ([]bundle.Request, error) {
	var out []bundle.Request
	known := map[types.NamespacedName]*registry.Credentials{}
	for _, d := range w.set.Groups {
		g := d.Group
		if slices.ContainsFunc(out, func(r bundle.Request) bool { return r.Group.Name == g.Name }) {
			return nil, d.Problem("metadata.name", fmt.Sprintf("is %q, as that of another group among the files", g.Name))
		}
		refs, err := refsOf(cmd.Context(), g, w.credentials, known)
		if err != nil {
			return nil, fmt.Errorf("group %s: %w", g.Name, err)
		}
		r := bundle.Request{Group: g, Refs: refs, Keys: make([]map[string][]byte, len(refs))}
		for i := range g.Spec.Applications {
			if v := g.Spec.Applications[i].Spec.Chart.Verify; v != nil {
				r.Keys[i] = w.keys(cmd.Context(), v.SecretRef, v1alpha1.DefaultAuthSecretNamespace)
			}
		}
		out = append(out, r)
	}
	return out, nil
}

func newBundleLoad(name string) *cobra.Command {
	var out, secret string
	var to bundle.Target
	var options bundle.LoadOptions
	var flags credentials
	cmd := &cobra.Command{
		Use:   "load BUNDLE --to URL",
		Short: "Push the charts of a bundle, and print the groups as they are to be applied",
		Long: `Load checks a bundle, file by file, against the digests in it, and pushes its charts to
a Helm repository with ChartMuseum's API (http, https) or to an OCI registry (oci). A
chart that is there with the same digest is left; where something is there with
another digest, nothing is pushed at all. What was interrupted may be run again. A chart
that a group verifies with cosign keeps its manifest and signatures, byte for byte, and
so has to go to an OCI registry.

It prints the groups with the repository replaced, and with the versions and digests of
the charts in the bundle. Where the repository asks for credentials, --auth-secret
names the Secret that the groups are to refer to.`,
		Example: examples(name, `
orkestra bundle load bundle.tgz --to oci://registry.internal/charts | kubectl apply -f -

# What would be pushed?
orkestra bundle load bundle.tgz --to https://charts.internal/team --dry-run

# To a repository that asks for a password, here and in the cluster
orkestra bundle load bundle.tgz --to https://charts.internal --ca-file ca.crt \
  --username me --password-stdin --auth-secret orkestra/charts -o group.yaml < password`),
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if to.URL == "" {
				return &usageError{errors.New("say where to load the bundle to with --to"), cmd.CommandPath()}
			}
			if err := flags.read(cmd); err != nil {
				return err
			}
			var err error
			if to.Login, err = flags.login(); err != nil {
				return err
			}
			if secret != "" {
				namespace, name, ok := strings.Cut(secret, "/")
				if !ok {
					namespace, name = "", secret
				}
				options.AuthSecretRef = &corev1.ObjectReference{Namespace: namespace, Name: name}
			}
			b, err := bundle.Open(args[0])
			if err != nil {
				return err
			}
			groups, err := b.Load(cmd.Context(), to, registry.New(fetching(to)), options, progress(cmd))
			if err != nil {
				return err
			}
			return writeGroups(cmd.OutOrStdout(), out, groups)
		},
	}
	fs := cmd.Flags()
	fs.StringVar(&to.URL, "to", "", "URL of the Helm repository, or oci://host/path")
	fs.StringVarP(&out, "output", "o", "", "file to write the groups to (default: the standard output)")
	fs.StringVar(&to.ContextPath, "context-path", "", "path below which ChartMuseum serves, where it was given one")
	fs.BoolVar(&to.PlainHTTP, "plain-http", false, "speak to the OCI registry without TLS")
	fs.StringVar(&secret, "auth-secret", "", "Secret, as namespace/name, that the groups are to name for their charts")
	fs.BoolVar(&options.DryRun, "dry-run", false, "push nothing")
	flags.add(fs)
	return cmd
}

// fetching is how the target is looked at.
func fetching(to bundle.Target) registry.Options {
	o := registry.Options{AllowPrivate: true}
	if u, err := url.Parse(to.URL); err == nil && to.PlainHTTP {
		o.PlainHTTP = []string{u.Host}
	}
	return o
}

// writeGroups to a file, or to the standard output where there is no path.
func writeGroups(stdout io.Writer, path string, groups []*v1alpha1.ApplicationGroup) error {
	var b bytes.Buffer
	for _, g := range groups {
		data, err := bundle.Manifest(g)
		if err != nil {
			return err
		}
		if b.Len() > 0 {
			b.WriteString("---\n")
		}
		b.Write(data)
	}
	if path == "" {
		_, err := stdout.Write(b.Bytes())
		return err
	}
	if err := os.WriteFile(path, b.Bytes(), 0o644); err != nil {
		return fmt.Errorf("writing groups: %w", err)
	}
	return nil
}

func newBundleShow(name string) *cobra.Command {
	var out output
	cmd := &cobra.Command{
		Use:   "show BUNDLE",
		Short: "Show what is in a bundle",
		Long: `Show checks a bundle, file by file, against the digests in it, and lists the
applications of its groups with their charts: the version that was asked for, the one
that was found, where, the archive's digest, and what is there to prove who made it.`,
		Example: examples(name, `
orkestra bundle show bundle.tgz

# For a program
orkestra bundle show bundle.tgz -o json`),
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := out.check(cmd); err != nil {
				return err
			}
			b, err := bundle.Open(args[0])
			if err != nil {
				return err
			}
			return out.write(cmd.OutOrStdout(), b.Index, func(w io.Writer) error {
				header := []string{"GROUP", "APPLICATION", "CHART", "ASKED", "VERSION", "SIZE", "DIGEST", "PROOF", "FROM"}
				var rows [][]string
				for _, g := range b.Groups {
					for _, a := range g.Applications {
						c := b.Charts[a.Chart]
						proof := "none"
						switch {
						case c.Provenance != nil:
							proof = "provenance"
						case c.Image != nil:
							proof = "cosign"
						}
						rows = append(rows, []string{g.Name, a.Name, c.Name, c.RequestedVersion, c.Version, bundle.Bytes(c.Size), c.Digest[:19], proof, c.URL})
					}
				}
				return table(w, len(header)-1, header, rows)
			})
		},
	}
	out.add(cmd)
	return cmd
}
