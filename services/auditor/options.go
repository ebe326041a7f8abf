package auditor

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/url"
	"regexp"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"orkestra.dev/pkg/events"
)

// options are those flags of pkg/service that have a meaning without Kubernetes,
// and the auditor's own.
type options struct {
	nats        events.Options
	healthAddr  string
	metricsAddr string
	clusterName string
	logLevel    string
	logFormat   string

	dir       string
	size      int64
	age       time.Duration
	endpoints map[string]string
	tokens    map[string]string
}

func (o *options) addFlags(fs *pflag.FlagSet) {
	fs.StringVar(&o.nats.URL, "nats-url", "nats://127.0.0.1:4222", "NATS server, or servers separated by commas")
	fs.StringVar(&o.nats.CredsFile, "nats-creds", "", "file with NATS credentials (.creds)")
	fs.StringVar(&o.nats.CAFile, "nats-ca", "", "file with the CA of the NATS server's certificate (PEM)")
	fs.StringVar(&o.nats.CertFile, "nats-cert", "", "file with a client certificate for NATS (PEM)")
	fs.StringVar(&o.nats.KeyFile, "nats-key", "", "file with the key of --nats-cert (PEM)")
	fs.StringVar(&o.healthAddr, "health-addr", ":8081", "address for /healthz and /readyz; 0 switches it off")
	fs.StringVar(&o.metricsAddr, "metrics-addr", ":8080", "address for /metrics; 0 switches it off")
	fs.StringVar(&o.clusterName, "cluster-name", "cluster", "name of this cluster in the source of events")
	fs.StringVar(&o.logLevel, "log-level", "info", "debug, info, warn or error")
	fs.StringVar(&o.logFormat, "log-format", "json", "json or text")

	fs.StringVar(&o.dir, "dir", "", "folder of the trail, on a disk that outlives the process (required)")
	fs.Int64Var(&o.size, "segment-size", 64<<20, "bytes after which a new segment is begun")
	fs.DurationVar(&o.age, "segment-age", 24*time.Hour, "age at which the next record begins a new segment")
	fs.StringToStringVar(&o.endpoints, "http-sink", nil, "NAME=URL of an endpoint that takes CloudEvents; may be repeated")
	fs.StringToStringVar(&o.tokens, "http-sink-token-file", nil, "NAME=FILE with the bearer token of a sink; read at each request")
}

// configError is a configuration that no restart will mend.
type configError struct{ error }

func (e *configError) Unwrap() error { return e.error }

// sinkName is part of the names of files and a label of metrics.
var sinkName = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?$`)

func (o *options) validate() error {
	var errs []error
	if o.dir == "" {
		errs = append(errs, errors.New("--dir: say in which folder the trail is kept"))
	}
	if o.size < 1 {
		errs = append(errs, fmt.Errorf("--segment-size %d: want 1 or more", o.size))
	}
	if o.age <= 0 {
		errs = append(errs, fmt.Errorf("--segment-age %s: want more than nothing", o.age))
	}
	for flag, addr := range map[string]string{"--health-addr": o.healthAddr, "--metrics-addr": o.metricsAddr} {
		if _, err := net.ResolveTCPAddr("tcp", addr); err != nil && addr != off {
			errs = append(errs, fmt.Errorf("%s %q: want host:port or :port", flag, addr))
		}
	}
	if _, err := o.logger(io.Discard); err != nil {
		errs = append(errs, err)
	}
	for name, endpoint := range o.endpoints {
		errs = append(errs, validEndpoint(name, endpoint))
	}
	for name := range o.tokens {
		if o.endpoints[name] == "" {
			errs = append(errs, fmt.Errorf("--http-sink-token-file %s: there is no --http-sink of that name", name))
		}
	}
	return errors.Join(errs...)
}

// validEndpoint never shows the URL, which may hold a secret.
func validEndpoint(name, endpoint string) error {
	if !sinkName.MatchString(name) {
		return fmt.Errorf("--http-sink %q: a name has up to 32 small letters, digits and dashes", name)
	}
	u, err := url.Parse(endpoint)
	switch {
	case err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "":
		return fmt.Errorf("--http-sink %s: want http://host/path or https://host/path", name)
	case u.User != nil:
		return fmt.Errorf("--http-sink %s: put the credentials into a file, see --http-sink-token-file", name)
	}
	return nil
}

func (o *options) logger(w io.Writer) (*slog.Logger, error) {
	var level slog.Level
	if err := level.UnmarshalText([]byte(o.logLevel)); err != nil {
		return nil, fmt.Errorf("--log-level %q: want debug, info, warn or error", o.logLevel)
	}
	switch ho := (&slog.HandlerOptions{Level: level}); o.logFormat {
	case "text":
		return slog.New(slog.NewTextHandler(w, ho)), nil
	case "json":
		return slog.New(slog.NewJSONHandler(w, ho)), nil
	}
	return nil, fmt.Errorf("--log-format %q: want json or text", o.logFormat)
}

// fromEnvironment sets the flags that the command line left alone.
func fromEnvironment(fs *pflag.FlagSet, lookup func(string) (string, bool)) error {
	var errs []error
	fs.VisitAll(func(f *pflag.Flag) {
		if f.Changed || f.Name == "help" {
			return
		}
		names := []string{"ORKESTRA_" + strings.ToUpper(strings.ReplaceAll(f.Name, "-", "_"))}
		if f.Name == "nats-url" {
			names = append(names, "NATS_URL")
		}
		for _, name := range names {
			if value, ok := lookup(name); ok && value != "" {
				if err := fs.Set(f.Name, value); err != nil {
					// The value may be a secret, and the error would show it.
					errs = append(errs, fmt.Errorf("%s in the environment does not fit --%s", name, f.Name))
				}
				return
			}
		}
	})
	return errors.Join(errs...)
}

// off is the address of a server that is not wanted.
const off = "0"

// sinksOf makes the sinks of an auditor.
func (o *options) sinksOf(a *auditor) []*sink {
	var sinks []*sink
	client := newClient()
	for name, endpoint := range o.endpoints {
		sinks = append(sinks, &sink{
			name: name, endpoint: endpoint, tokenFile: o.tokens[name], source: "orkestra://" + o.clusterName + "/" + serviceName,
			dir: o.dir, client: client, backoff: events.DefaultBackoff, progress: a.progress,
			log: a.log, metrics: a.metrics, now: a.now,
		})
	}
	return sinks
}
