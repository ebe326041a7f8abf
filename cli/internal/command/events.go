package command

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"orkestra.dev/cli/internal/trace"
	"orkestra.dev/cli/internal/tree"
	"orkestra.dev/pkg/events"
)

// defaultNATS is where a NATS server listens by default.
const defaultNATS = "nats://127.0.0.1:4222"

// connectTimeout is how long to look for the stream before saying that it is not
// there.
const connectTimeout = 5 * time.Second

func newEvents(name string) *cobra.Command {
	var from stream
	var follow events.FollowOptions
	var types []string
	var since, format string
	cmd := &cobra.Command{
		Use:   "events",
		Short: "Show what the services have said",
		Long: `Events shows the facts that the services have said, as they are kept in the stream
ORKESTRA, oldest first: what was desired, staged, submitted, started, ready, failed.
With -o json each is a CloudEvent in structured mode, one to a line.

The server is NATS_URL, or ORKESTRA_NATS_URL, where --nats-url is not given; so are
--nats-ca and --nats-nkey NATS_CA and NATS_NKEY.`,
		Example: examples(name, `
# The story of one group
orkestra events --group bookinfo

# As it happens, until interrupted
orkestra events --group bookinfo --follow

# What failed in the last hour
orkestra events --since 1h --type charts.failed,node.failed,rollout.failed -o json`),
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var err error
			if follow.Types, err = typesOf(types); err != nil {
				return &usageError{err, cmd.CommandPath()}
			}
			write, ok := map[string]func(io.Writer, events.Fact, []byte) error{"text": eventText, "json": eventJSON}[format]
			if !ok {
				return &usageError{fmt.Errorf("--output %q: want text or json", format), cmd.CommandPath()}
			}
			if follow.Since, err = moment("--since", since, time.Now()); err != nil {
				return &usageError{err, cmd.CommandPath()}
			}
			return from.with(cmd.Context(), func(ctx context.Context, bus *events.Bus) error {
				return bus.Follow(ctx, follow, func(f events.Fact, raw []byte) error {
					// Names that differ in a dot share a subject.
					if follow.Group != "" && f.Data != nil && f.About() != follow.Group {
						return nil
					}
					// One that spoils the stream does not hide the others.
					if format == "json" && !json.Valid(raw) {
						cmd.PrintErrf("event %d of the stream is left out: it is no JSON\n", f.Sequence)
						return nil
					}
					return write(cmd.OutOrStdout(), f, raw)
				})
			})
		},
	}
	fs := cmd.Flags()
	fs.StringVar(&follow.Group, "group", "", "only the facts about this group")
	fs.StringSliceVar(&types, "type", nil, "only facts of these types, such as group.desired or dev.orkestra.group.desired.v1")
	fs.StringVar(&since, "since", "", "only facts that are not older: an age such as 1h, or a time (RFC 3339)")
	fs.BoolVar(&follow.Follow, "follow", false, "go on with what is said from now on")
	fs.StringVarP(&format, "output", "o", "text", "format: text or json")
	from.add(fs)
	return cmd
}

// stream is how to reach the stream of events: the flags of all commands that read it.
type stream struct{ options events.Options }

func (s *stream) add(fs *pflag.FlagSet) {
	o := &s.options
	fs.StringVar(&o.URL, "nats-url", "", "NATS server, or servers separated by commas (default NATS_URL, else "+defaultNATS+")")
	fs.StringVar(&o.NKeyFile, "nats-nkey", "", "file with the seed of an NKey (default NATS_NKEY)")
	fs.StringVar(&o.CredsFile, "nats-creds", "", "file with NATS credentials (.creds)")
	fs.StringVar(&o.CAFile, "nats-ca", "", "file with the CA of the NATS server's certificate (PEM; default NATS_CA)")
	fs.StringVar(&o.CertFile, "nats-cert", "", "file with a client certificate for NATS (PEM)")
	fs.StringVar(&o.KeyFile, "nats-key", "", "file with the key of --nats-cert (PEM)")
}

// with calls do with a connection on which the stream was found, and closes it afterwards.
func (s *stream) with(ctx context.Context, do func(context.Context, *events.Bus) error) error {
	return s.connected(ctx, func(ctx context.Context, bus *events.Bus) error {
		if err := there(ctx, bus); err != nil {
			return err
		}
		return do(ctx, bus)
	})
}

// connected calls do with a connection, whether or not anybody answers on it.
func (s *stream) connected(ctx context.Context, do func(context.Context, *events.Bus) error) error {
	o := s.options.FromEnvironment(os.Getenv)
	o.Source = "orkestra://command-line/orkestra"
	o.URL = cmp.Or(o.URL, defaultNATS)
	bus, err := events.Connect(ctx, o)
	if err != nil {
		return fmt.Errorf("connecting to NATS: %w", err)
	}
	err = do(ctx, bus)
	if closed := bus.Close(); err == nil {
		err = closed
	}
	return err
}

// moment is a time, or an age before now; zero for "".
func moment(flag, text string, now time.Time) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	if age, err := time.ParseDuration(text); err == nil && age > 0 {
		return now.Add(-age), nil
	}
	at, err := time.Parse(time.RFC3339, text)
	if err != nil || at.After(now) {
		return at, fmt.Errorf("%s %q: want an age such as 1h, or a time that has passed such as 2026-05-04T03:02:01Z", flag, text)
	}
	return at, nil
}

// there waits for the server for a moment: Connect returns before there is one.
func there(ctx context.Context, bus *events.Bus) error {
	deadline, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	again := time.NewTicker(50 * time.Millisecond)
	defer again.Stop()
	for {
		err := bus.Ready()
		if err == nil {
			return nil
		}
		select {
		case <-deadline.Done():
			if ctx.Err() != nil {
				return nil // interrupted
			}
			return fmt.Errorf("connecting to NATS: %w", err)
		case <-again.C:
		}
	}
}

// typesOf reads types as users write them: with or without dev.orkestra. and .v1.
func typesOf(names []string) ([]events.Type, error) {
	var out []events.Type
	all := events.Types()
	for _, name := range names {
		i := slices.IndexFunc(all, func(t events.Type) bool { return string(t) == name || t.What() == name })
		if i < 0 {
			var known []string
			for _, t := range all {
				known = append(known, t.What())
			}
			return nil, fmt.Errorf("--type %q: want one of %s", name, strings.Join(known, ", "))
		}
		out = append(out, all[i])
	}
	return out, nil
}

// eventJSON is a line, however the event was sent.
func eventJSON(w io.Writer, _ events.Fact, raw []byte) error {
	var line bytes.Buffer
	if err := json.Compact(&line, raw); err != nil {
		return fmt.Errorf("writing an event: %w", err)
	}
	_, err := fmt.Fprintln(w, line.String())
	return err
}

// eventText is a line: when, what, of which group, and what else it says.
func eventText(w io.Writer, f events.Fact, _ []byte) error {
	what := f.Type().What()
	if f.Data == nil {
		what = "(not in the contract)"
	}
	if f.Time.IsZero() {
		_, err := fmt.Fprintf(w, "event %-17d  %s\n", f.Sequence, "(not readable)")
		return err
	}
	line := fmt.Sprintf("%s  %-20s %s", f.Time.Local().Format("2006-01-02 15:04:05.000"), what, tree.OneLine(f.About()))
	if f.Rollout.Generation > 0 {
		line += fmt.Sprintf(" g%d", f.Rollout.Generation)
	}
	if details := tree.OneLine(details(f.Data)); details != "" {
		line += "  " + details
	}
	_, err := fmt.Fprintln(w, line)
	return err
}

// details of a payload in a few words.
func details(p events.Payload) string {
	switch d := p.(type) {
	case events.GroupRejected:
		return d.Reason + ": " + d.Message
	case events.ChartsStaged:
		pieces := 0
		for _, a := range d.Applications {
			pieces += len(a.Pieces)
		}
		return fmt.Sprintf("%d applications, %d charts", len(d.Applications), pieces)
	case events.ChartsFailed:
		return fmt.Sprintf("%s: %s: %s", d.Application, d.Reason, d.Message)
	case events.WorkflowSubmitted:
		return fmt.Sprintf("%s, %d releases", d.Workflow, d.Releases)
	case events.WorkflowRejected:
		return fmt.Sprintf("%s: %s: %s", d.WorkflowType, d.Reason, d.Message)
	case events.NodeStarted:
		return d.Task
	case events.NodeSucceeded:
		return d.Task
	case events.NodeFailed:
		return d.Task + ": " + d.Message
	case events.ReleaseReady:
		return fmt.Sprintf("%s/%s %s %s", d.Namespace, d.Name, d.Chart, d.Version)
	case events.ReleaseFailed:
		return fmt.Sprintf("%s/%s: %s: %s", d.Namespace, d.Name, d.Reason, d.Message)
	case events.ReleaseDeleted:
		return d.Namespace + "/" + d.Name
	case events.ReleaseExpired:
		return fmt.Sprintf("%s/%s: not ready within %s", d.Namespace, d.Name, time.Duration(d.TimeoutSeconds)*time.Second)
	case events.RolloutUnchanged:
		return fmt.Sprintf("%d releases are as they should be", d.Releases)
	case events.RolloutSucceeded:
		return d.Workflow
	case events.RolloutFailed:
		return fmt.Sprintf("%s: %s: %s", d.Workflow, d.Reason, d.Message)
	case events.WebhookReceived:
		return delivery(d)
	case events.ChartPushed:
		return d.Chart + " " + d.Version
	case events.GroupDesired, events.GroupSuspended, events.GroupDeleting:
		if who := trace.Who(trace.OriginOf(d)); who != "" {
			return "by " + who
		}
		return ""
	case events.GroupDeleted, nil:
		return ""
	default:
		// What a later contract brings, as it is.
		raw, err := json.Marshal(p)
		if err != nil {
			return err.Error()
		}
		return string(raw)
	}
}

// delivery is what a webhook asks for in a few words.
func delivery(w events.WebhookReceived) string {
	out := []string{strings.TrimSpace(w.ReceiverType + " " + w.Event)}
	for _, c := range w.Charts {
		out = append(out, strings.TrimSpace(c.Name+" "+c.Version))
	}
	for _, d := range w.Deploys {
		text := "deploy " + d.Group + "/" + d.Application
		if d.Version != "" {
			text += " " + d.Version
		}
		if d.ValuesSecret != "" {
			text += " with other values"
		}
		out = append(out, text)
	}
	if w.Reconcile {
		out = append(out, "reconcile")
	}
	if w.DryRun {
		out = append(out, "dry run")
	}
	return strings.Join(out, ", ")
}
