package service

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/url"
	"strings"
	"time"

	"github.com/spf13/pflag"
	"k8s.io/apimachinery/pkg/util/validation"
)

// envPrefix comes before the name of a flag in the environment.
const envPrefix = "ORKESTRA_"

const environmentHelp = `

Every flag can be given in the environment: ORKESTRA_ and its name in capitals,
with "_" for "-" (ORKESTRA_NATS_URL for --nats-url). A flag on the command line
comes first. NATS_URL and NATS_CA are read where nothing else is given, as is KUBECONFIG where the
service has --kubeconfig.`

// options are the flags that all services have.
type options struct {
	kubeconfig   string
	natsURL      string
	natsCreds    string
	natsNKey     string
	natsTopology string
	natsCA       string
	natsCert     string
	natsKey      string
	natsReplicas int
	healthAddr   string
	metricsAddr  string
	namespace    string
	clusterName  string
	logLevel     string
	logFormat    string
	otlpEndpoint string
	pprofAddr    string
	gracePeriod  time.Duration
}

func (o *options) addFlags(fs *pflag.FlagSet, s Service) {
	if !s.NoCluster {
		fs.StringVar(&o.kubeconfig, "kubeconfig", "", "kubeconfig to use (default: KUBECONFIG, else in-cluster)")
		fs.StringVar(&o.namespace, "namespace", "orkestra", "namespace of Workflows, plans and staged charts")
	}
	if !s.NoTopology {
		fs.IntVar(&o.natsReplicas, "nats-replicas", 1, "replicas of each JetStream stream: 1, 3 or 5")
	}
	if !s.NoTopology && !s.keepsTopology {
		fs.StringVar(&o.natsTopology, "nats-topology", topologyEnsure, "ensure: make the JetStream streams and consumers; await: somebody else makes them, see the command topology")
	}
	if !s.hosted {
		fs.StringVar(&o.natsURL, "nats-url", "nats://127.0.0.1:4222", "NATS server, or servers separated by commas")
		fs.StringVar(&o.natsCreds, "nats-creds", "", "file with NATS credentials (.creds)")
		fs.StringVar(&o.natsNKey, "nats-nkey", "", "file with the seed of an NKey, as which to connect to NATS")
		fs.StringVar(&o.natsCA, "nats-ca", "", "file with the CA of the NATS server's certificate (PEM)")
		fs.StringVar(&o.natsCert, "nats-cert", "", "file with a client certificate for NATS (PEM)")
		fs.StringVar(&o.natsKey, "nats-key", "", "file with the key of --nats-cert (PEM)")
	}
	fs.StringVar(&o.healthAddr, "health-addr", ":8081", "address for /healthz and /readyz; 0 switches it off")
	fs.StringVar(&o.metricsAddr, "metrics-addr", ":8080", "address for /metrics; 0 switches it off")
	fs.StringVar(&o.clusterName, "cluster-name", "cluster", "name of this cluster in the source of events")
	fs.StringVar(&o.logLevel, "log-level", "info", "debug, info, warn or error; SIGUSR1 switches to debug and back")
	fs.StringVar(&o.logFormat, "log-format", "json", "json or text")
	fs.StringVar(&o.otlpEndpoint, "otlp-endpoint", "", "OTLP/HTTP endpoint for traces, such as http://collector:4318 (default: OTEL_EXPORTER_OTLP_ENDPOINT; without either there are none)")
	fs.StringVar(&o.pprofAddr, "pprof-addr", "", "address for /debug/pprof/, on loopback where it names no host, such as :6060; empty switches it off")
	fs.DurationVar(&o.gracePeriod, "grace-period", 20*time.Second, "how long work in hand may take after SIGTERM")
}

// configError is a configuration that no restart will mend.
type configError struct{ error }

func (e *configError) Unwrap() error { return e.error }

func (o *options) validate(s Service) error {
	var errs []error
	var servers []string
	if !s.hosted {
		servers = strings.Split(o.natsURL, ",")
	}
	for _, u := range servers {
		parsed, err := url.Parse(u)
		if err != nil {
			errs = append(errs, errors.New("--nats-url is not a URL"))
		} else if parsed.Scheme != "nats" && parsed.Scheme != "tls" && parsed.Scheme != "ws" && parsed.Scheme != "wss" {
			errs = append(errs, fmt.Errorf("--nats-url %q: want nats://host:port", parsed.Redacted()))
		}
	}
	for flag, addr := range map[string]string{"--health-addr": o.healthAddr, "--metrics-addr": o.metricsAddr} {
		if addr == "0" {
			continue
		}
		if _, err := net.ResolveTCPAddr("tcp", addr); err != nil {
			errs = append(errs, fmt.Errorf("%s %q: want host:port or :port", flag, addr))
		}
	}
	if problems := validation.IsDNS1123Label(o.namespace); !s.NoCluster && len(problems) > 0 {
		errs = append(errs, fmt.Errorf("--namespace %q: %s", o.namespace, problems[0]))
	}
	if problems := validation.IsDNS1123Subdomain(o.clusterName); len(problems) > 0 {
		errs = append(errs, fmt.Errorf("--cluster-name %q: %s", o.clusterName, problems[0]))
	}
	if r := o.natsReplicas; !s.NoTopology && r != 1 && r != 3 && r != 5 {
		errs = append(errs, fmt.Errorf("--nats-replicas %d: want 1, 3 or 5", r))
	}
	if t := o.natsTopology; t != "" && t != topologyEnsure && t != topologyAwait {
		errs = append(errs, fmt.Errorf("--nats-topology %q: want %s or %s", t, topologyEnsure, topologyAwait))
	}
	if o.natsNKey != "" && o.natsCreds != "" {
		errs = append(errs, errors.New("--nats-nkey and --nats-creds: want one of them"))
	}
	if _, _, err := net.SplitHostPort(o.pprofAddr); o.pprofAddr != "" && err != nil {
		errs = append(errs, fmt.Errorf("--pprof-addr %q: want host:port or :port", o.pprofAddr))
	}
	if err := validEndpoint(o.otlpEndpoint); err != nil {
		errs = append(errs, err)
	}
	if _, err := o.level(); err != nil {
		errs = append(errs, err)
	}
	if o.logFormat != "json" && o.logFormat != "text" {
		errs = append(errs, fmt.Errorf("--log-format %q: want json or text", o.logFormat))
	}
	if o.gracePeriod <= 0 {
		errs = append(errs, fmt.Errorf("--grace-period %s: want more than nothing", o.gracePeriod))
	}
	return errors.Join(errs...)
}

func (o *options) level() (slog.Level, error) {
	var l slog.Level
	if err := l.UnmarshalText([]byte(o.logLevel)); err != nil {
		return l, fmt.Errorf("--log-level %q: want debug, info, warn or error", o.logLevel)
	}
	return l, nil
}

// logger writes to w what level lets through.
func (o *options) logger(w io.Writer, level slog.Leveler) *slog.Logger {
	ho := &slog.HandlerOptions{Level: level}
	if o.logFormat == "text" {
		return slog.New(slog.NewTextHandler(w, ho))
	}
	return slog.New(slog.NewJSONHandler(w, ho))
}

// fromEnvironment sets the flags that the command line left alone.
func fromEnvironment(fs *pflag.FlagSet, lookup func(string) (string, bool)) error {
	var errs []error
	fs.VisitAll(func(f *pflag.Flag) {
		if f.Changed || f.Name == "help" {
			return
		}
		name := envPrefix + strings.ToUpper(strings.ReplaceAll(f.Name, "-", "_"))
		value, ok := lookup(name)
		if known := map[string]string{"nats-url": "NATS_URL", "nats-ca": "NATS_CA"}[f.Name]; !ok && known != "" {
			name = known
			value, ok = lookup(name)
		}
		if !ok || value == "" {
			return
		}
		if err := fs.Set(f.Name, value); err != nil {
			// The value may be a secret, and the error would show it.
			errs = append(errs, fmt.Errorf("%s in the environment does not fit --%s", name, f.Name))
		}
	})
	return errors.Join(errs...)
}

// redactURL hides the password of each server in a list.
func redactURL(servers string) string {
	list := strings.Split(servers, ",")
	for i, s := range list {
		if u, err := url.Parse(s); err == nil {
			list[i] = u.Redacted()
		}
	}
	return strings.Join(list, ",")
}
