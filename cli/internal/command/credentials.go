package command

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/clientcmd"

	"orkestra.dev/cli/internal/bundle"
	"orkestra.dev/cli/internal/manifest"
	"orkestra.dev/services/stager/registry"
)

// credentials for one repository, by flags.
type credentials struct {
	username                  string
	passwordStdin, tokenStdin bool
	caFile, certFile, keyFile string
	secret                    map[string][]byte // as a Secret would have them; nil before read
	host                      string            // that they were given to
}

func (c *credentials) add(fs *pflag.FlagSet) {
	fs.StringVar(&c.username, "username", "", "user name for the repository")
	fs.BoolVar(&c.passwordStdin, "password-stdin", false, "read the password from the standard input")
	fs.BoolVar(&c.tokenStdin, "token-stdin", false, "read a bearer token from the standard input")
	fs.StringVar(&c.caFile, "ca-file", "", "file with the CA, in PEM, to trust for the repository")
	fs.StringVar(&c.certFile, "cert-file", "", "file with a client certificate in PEM")
	fs.StringVar(&c.keyFile, "key-file", "", "file with the client certificate's key in PEM")
}

// stdin tells whether the standard input is asked for.
func (c *credentials) stdin() bool { return c.passwordStdin || c.tokenStdin }

// read the files and the standard input.
func (c *credentials) read(cmd *cobra.Command) error {
	usage := func(text string) error { return &usageError{errors.New(text), cmd.CommandPath()} }
	switch {
	case c.passwordStdin && c.tokenStdin:
		return usage("--password-stdin and --token-stdin: there is one standard input")
	case c.passwordStdin != (c.username != ""):
		return usage("--username and --password-stdin belong together")
	case (c.certFile == "") != (c.keyFile == ""):
		return usage("--cert-file and --key-file belong together")
	}
	c.secret = map[string][]byte{}
	for key, file := range map[string]string{"ca.crt": c.caFile, corev1.TLSCertKey: c.certFile, corev1.TLSPrivateKeyKey: c.keyFile} {
		if file == "" {
			continue
		}
		data, err := os.ReadFile(file)
		if err != nil {
			return fmt.Errorf("reading credentials: %w", err)
		}
		c.secret[key] = data
	}
	if !c.stdin() {
		return nil
	}
	const most = 64 << 10
	line, err := io.ReadAll(io.LimitReader(cmd.InOrStdin(), most))
	if err != nil {
		return fmt.Errorf("reading the standard input: %w", err)
	}
	line = bytes.TrimRight(line, "\r\n")
	if len(line) == 0 {
		return errors.New("the standard input has no password or token in it")
	}
	if c.tokenStdin {
		c.secret["token"] = line
		return nil
	}
	c.secret[corev1.BasicAuthUsernameKey], c.secret[corev1.BasicAuthPasswordKey] = []byte(c.username), line
	return nil
}

// login is the credentials for a target.
func (c *credentials) login() (bundle.Login, error) {
	l := bundle.Login{Username: c.username, Password: string(c.secret[corev1.BasicAuthPasswordKey]), Token: string(c.secret["token"])}
	if len(c.secret) == 0 {
		return l, nil
	}
	var err error
	if l.Credentials, err = registry.CredentialsOf(c.secret); err != nil {
		return l, fmt.Errorf("reading credentials: %w", err)
	}
	if ca := c.secret["ca.crt"]; len(ca) > 0 {
		l.TLS = &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: x509.NewCertPool()}
		l.TLS.RootCAs.AppendCertsFromPEM(ca) // CredentialsOf has seen that it holds some
	}
	if len(c.secret[corev1.TLSCertKey]) > 0 {
		pair, err := tls.X509KeyPair(c.secret[corev1.TLSCertKey], c.secret[corev1.TLSPrivateKeyKey])
		if err != nil {
			return l, errors.New("reading credentials: --cert-file and --key-file do not belong together")
		}
		if l.TLS == nil {
			l.TLS = &tls.Config{MinVersion: tls.VersionTLS12}
		}
		l.TLS.Certificates = []tls.Certificate{pair}
	}
	return l, nil
}

// wallet finds Secrets: among the files, in the flags, in the cluster.
type wallet struct {
	set     *manifest.Set
	flags   *credentials
	cluster *cluster
}

// clusterPatience is how long a cluster is waited for that may not be there.
const clusterPatience = 10 * time.Second

// credentials are those of the flags where the files have no such Secret. They are for
// one host: more than that the user cannot have meant.
func (w *wallet) credentials(ctx context.Context, key types.NamespacedName, raw string) (map[string][]byte, error) {
	if data, ok := w.set.Secrets[key]; ok {
		return data, nil
	}
	if len(w.flags.secret) == 0 {
		data, err := w.fromCluster(ctx, key)
		if err != nil {
			return nil, fmt.Errorf("give the Secret's manifest with -f, or the credentials with --username and --password-stdin or --token-stdin, or a cluster that has it with --kubeconfig: %w", err)
		}
		return data, nil
	}
	u, err := url.Parse(raw)
	if err != nil {
		return nil, errors.New("the URL of the repository does not parse")
	}
	if w.flags.host = cmp.Or(w.flags.host, u.Host); w.flags.host != u.Host {
		return nil, fmt.Errorf("the credentials of the flags went to %s, and this one is at %s: give the Secrets' manifests with -f", w.flags.host, u.Host)
	}
	return w.flags.secret, nil
}

// keys to verify a chart with; nil where they are not at hand.
func (w *wallet) keys(ctx context.Context, ref corev1.SecretReference, namespace string) map[string][]byte {
	key := types.NamespacedName{Namespace: cmp.Or(ref.Namespace, namespace), Name: ref.Name}
	if data, ok := w.set.Secrets[key]; ok {
		return data
	}
	data, err := w.fromCluster(ctx, key)
	if err != nil {
		return nil // the bundle says that the chart was not verified
	}
	return data
}

func (w *wallet) fromCluster(ctx context.Context, key types.NamespacedName) (map[string][]byte, error) {
	from, err := w.cluster.client()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, clusterPatience)
	defer cancel()
	secret := &corev1.Secret{}
	if err := from.Get(ctx, key, secret); err != nil {
		return nil, fmt.Errorf("reading Secret %s: %w", key, err)
	}
	return secret.Data, nil
}

// addTo has the flags that say which cluster, without those for a user of it: they have
// the names of ours.
func (w *wallet) addTo(fs *pflag.FlagSet) {
	w.cluster.rules = clientcmd.NewDefaultClientConfigLoadingRules()
	fs.StringVar(&w.cluster.rules.ExplicitPath, "kubeconfig", "", "kubeconfig of a cluster that has the Secrets which are not among the files (default: KUBECONFIG, else ~/.kube/config)")
	fs.StringVar(&w.cluster.overrides.CurrentContext, "context", "", "context of the kubeconfig")
}
