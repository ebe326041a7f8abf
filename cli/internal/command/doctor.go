package command

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"orkestra.dev/cli/internal/doctor"
	"orkestra.dev/cli/internal/doctor/gather"
)

// exitUnknown is the exit code where something could not be looked at, and nothing else is
// wrong.
const exitUnknown = 2

func newDoctor(name string) *cobra.Command {
	c := cluster{program: name}
	var from stream
	var out output
	var probes map[string]string
	var timeout, stuck time.Duration
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Say what is wrong with this installation",
		Long: `Doctor looks at an installation of Orkestra and says what is wrong with it, why that
matters and what to do: CRDs, services, streams and consumers, permissions, admission,
Argo, Flux, registries, groups. It changes nothing; that admission works it sees by
creating a group that has to be refused, as a dry run.

The exit code is 0 where nothing is wrong, 1 where something is, and 2 where something
could not be looked at and nothing else is wrong. Warnings are no reason to fail.

Where services run in the cluster, their Deployments say how they are. Others are asked
with --probe, and so is what ORKESTRA_<NAME>_HEALTH_URL and CHARTMUSEUM_URL name.`,
		Example: examples(name, `
orkestra doctor

# From outside of the cluster, where NATS is bundled
kubectl -n orkestra port-forward svc/orkestra-nats 4222 &
orkestra doctor --nats-url tls://127.0.0.1:4222 --nats-ca ca.crt --nats-cert tls.crt --nats-key tls.key

# For a program
orkestra doctor -o json`),
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := out.check(cmd); err != nil {
				return err
			}
			all, err := allProbes(probes, os.Environ())
			if err != nil {
				return &usageError{err, cmd.CommandPath()}
			}
			config, err := c.config()
			if err != nil {
				return &exitError{err, exitUnknown}
			}
			facts, err := gather.From(cmd.Context(), config, from.connected, gather.Options{Namespace: c.namespace, Timeout: timeout, Probes: all})
			if err != nil {
				return &exitError{err, exitUnknown}
			}
			facts.Program, facts.StuckAfter = name, stuck
			facts.BusGiven = from.options.FromEnvironment(os.Getenv).URL != ""
			report := doctor.Examine(facts)
			if err := out.write(cmd.OutOrStdout(), report, func(w io.Writer) error { return doctor.Write(w, report) }); err != nil {
				return err
			}
			switch report.Worst() {
			case doctor.Problem:
				return errFailed
			case doctor.Unknown:
				return &exitError{errFailed, exitUnknown}
			default:
				return nil
			}
		},
	}
	fs := cmd.Flags()
	fs.DurationVar(&timeout, "timeout", 10*time.Second, "how long each look may take; they are side by side")
	fs.DurationVar(&stuck, "stuck-after", 30*time.Minute, "how long a rollout or a deletion may take")
	fs.StringToStringVar(&probes, "probe", nil, "address to ask whether a service is ready, as name=http://host/readyz; may be repeated")
	out.add(cmd)
	c.add(fs)
	from.add(fs)
	return cmd
}

// allProbes are those that were asked for, and those of the environment, of which
// /healthz is asked as /readyz, which says more.
func allProbes(asked map[string]string, environment []string) (map[string]string, error) {
	out := map[string]string{}
	for _, variable := range environment {
		key, value, _ := strings.Cut(variable, "=")
		name, isOurs := strings.CutPrefix(key, "ORKESTRA_")
		name, isHealth := strings.CutSuffix(name, "_HEALTH_URL")
		switch {
		case value == "":
		case isOurs && isHealth:
			out[strings.ReplaceAll(strings.ToLower(name), "_", "-")] = strings.TrimSuffix(value, "/healthz") + "/readyz"
		case key == "CHARTMUSEUM_URL":
			out[doctor.Shelf] = strings.TrimSuffix(value, "/") + "/health"
		}
	}
	for name, value := range asked {
		out[name] = value
	}
	for name, value := range out {
		u, err := url.Parse(value)
		if err == nil && (u.Scheme != "http" && u.Scheme != "https" || u.Host == "") {
			err = errors.New("want http:// or https:// and a host")
		}
		if err == nil && u.User != nil {
			err = errors.New("leave the credentials out: a probe needs none")
		}
		if err != nil {
			return nil, fmt.Errorf("--probe %s: %w", cmp.Or(name, "(no name)"), err)
		}
	}
	return out, nil
}
