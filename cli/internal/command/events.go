package command

import (
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

	"orkestra.dev/cli/internal/tree"
	"orkestra.dev/pkg/events"
)

// defaultNATS is where a NATS server listens by default.
const defaultNATS = "nats://127.0.0.1:4222"

// connectTimeout is how long to look for the stream before saying that it is not
// there.
const connectTimeout = 5 * time.Second

func newEvents(name string) *cobra.Command {
	var o events.Options
	var follow events.FollowOptions
	var types []string
	var since time.Duration
	var format string
	cmd := &cobra.Command{
		Use:   "events",
		Short: "Show what the services have said",
		Long: `Events shows the facts that the services have said, as they are kept in the stream
ORKESTRA, oldest first: what was desired, staged, submitted, started, ready, failed.
With -o json each is a CloudEvent in structured mode, one to a line.

The server is NATS_URL, or ORKESTRA_NATS_URL, where --nats-url is not given.`,
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
			if since > 0 {
				follow.Since = time.Now().Add(-since)
			}
			o.Source = "orkestra://command-line/orkestra"
			o.URL = cmp.Or(o.URL, os.Getenv("NATS_URL"), os.Getenv("ORKESTRA_NATS_URL"), defaultNATS)
			bus, err := events.Connect(cmd.Context(), o)
			if err != nil {
				return fmt.Errorf("connecting to NATS: %w", err)
			}
			err = there(cmd.Context(), bus)
			if err == nil {
				err = bus.Follow(cmd.Context(), follow, func(f events.Fact, raw []byte) error {
					return write(cmd.OutOrStdout(), f, raw)
				})
			}
			if closed := bus.Close(); err == nil {
				err = closed
			}
			return err
		},
	}
	fs := cmd.Flags()
	fs.StringVar(&follow.Group, "group", "", "only the facts about this group")
	fs.StringSliceVar(&types, "type", nil, "only facts of these types, such as group.desired or dev.orkestra.group.desired.v1")
	fs.DurationVar(&since, "since", 0, "only facts that are not older, such as 1h")
	fs.BoolVar(&follow.Follow, "follow", false, "go on with what is said from now on")
	fs.StringVarP(&format, "output", "o", "text", "format: text or json")
	fs.StringVar(&o.URL, "nats-url", "", "NATS server, or servers separated by commas (default NATS_URL, else "+defaultNATS+")")
	fs.StringVar(&o.CredsFile, "nats-creds", "", "file with NATS credentials (.creds)")
	fs.StringVar(&o.CAFile, "nats-ca", "", "file with the CA of the NATS server's certificate (PEM)")
	fs.StringVar(&o.CertFile, "nats-cert", "", "file with a client certificate for NATS (PEM)")
	fs.StringVar(&o.KeyFile, "nats-key", "", "file with the key of --nats-cert (PEM)")
	return cmd
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

func eventJSON(w io.Writer, _ events.Fact, raw []byte) error {
	_, err := w.Write(append(slices.Clone(raw), '\n'))
	return err
}

// eventText is a line: when, what, of which group, and what else it says.
func eventText(w io.Writer, f events.Fact, _ []byte) error {
	what := f.Type().What()
	if f.Data == nil {
		what = "(not in the contract)"
	}
	line := fmt.Sprintf("%s  %-20s %s g%d", f.Time.Local().Format("2006-01-02 15:04:05.000"), what, f.Rollout.Group, f.Rollout.Generation)
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
	case events.GroupDesired, events.GroupSuspended, events.GroupDeleting, events.GroupDeleted, nil:
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
