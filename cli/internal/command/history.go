package command

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"orkestra.dev/cli/internal/history"
	"orkestra.dev/cli/internal/trace"
	"orkestra.dev/cli/internal/tree"
	"orkestra.dev/pkg/events"
)

func newHistory(name string, open opener) *cobra.Command {
	c := cluster{program: name, open: open}
	var from stream
	var out output
	cmd := &cobra.Command{
		Use:   "history NAME",
		Short: "Show the revisions of a group",
		Long: `History shows what a group was, the newest last: each revision with the generation of
the group that it is of, when it was begun, what became of it, the charts in the
versions that were resolved then, and the workflow that rolled it out.

  current       the last that was rolled out whole
  good          rolled out whole, before the current one
  under way     its workflow runs
  suspended     its workflow is held
  rolling back  it failed, and the group is on its way back from it
  rolled back   it failed, and the group went back from it
  removed       it failed, and all that it had made was removed
  failed        it failed, or the way back from it did
  superseded    a newer one, or a person, stopped it
  unknown       it was not rolled out whole, and its workflow is gone

How many good revisions are kept is for spec.revisionHistoryLimit to say; a revision
that is not good goes when a newer one is.

Where NATS is named (--nats-url, or NATS_URL) the stream says of each revision also who
asked for it and why: the user or field manager, and the delivery of a webhook. The stream
keeps that for 30 days unless it was told otherwise; 'orkestra trace' has the rest.`,
		Example: examples(name, `
orkestra history bookinfo

# What it takes to go back
orkestra history bookinfo -o yaml
orkestra diff bookinfo --revision 3
orkestra rollback bookinfo --revision 3`),
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := out.check(cmd); err != nil {
				return err
			}
			api, group, err := c.group(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			revisions, err := c.revisions(cmd.Context(), api, group)
			if err != nil {
				return err
			}
			slices.Reverse(revisions)
			var reasons map[events.Rollout]history.Reason
			if from.named() {
				// What the cluster says is worth showing without the stream.
				if reasons, err = from.reasons(cmd.Context(), group.Name); err != nil {
					cmd.PrintErrf("who asked is not known: %v\n", err)
				}
			}
			return out.write(cmd.OutOrStdout(), revisionViews(revisions, reasons), func(w io.Writer) error {
				if len(revisions) == 0 {
					cmd.PrintErrf("group %s has no revisions: nothing of it has been rolled out yet\n", group.Name)
					return nil
				}
				return historyTable(w, revisions, reasons, time.Local)
			})
		},
	}
	out.add(cmd)
	c.add(cmd.Flags())
	from.add(cmd.Flags())
	return cmd
}

// named: somebody says where NATS is.
func (s *stream) named() bool { return s.options.FromEnvironment(os.Getenv).URL != "" }

// reasons of a group's rollouts, as far as the stream has them still.
func (s *stream) reasons(ctx context.Context, group string) (map[events.Rollout]history.Reason, error) {
	var facts []events.Fact
	err := s.with(ctx, func(ctx context.Context, bus *events.Bus) error {
		var asked []string
		err := bus.Follow(ctx, events.FollowOptions{Group: group, Types: []events.Type{events.TypeGroupDesired}}, func(f events.Fact, _ []byte) error {
			facts = append(facts, f)
			if event := trace.OriginOf(f.Data).Event; event != "" {
				asked = append(asked, event)
			}
			return nil
		})
		if err != nil || len(asked) == 0 {
			return err
		}
		return bus.Follow(ctx, events.FollowOptions{Types: []events.Type{events.TypeWebhookReceived}}, func(f events.Fact, _ []byte) error {
			if slices.Contains(asked, f.EventID()) {
				facts = append(facts, f)
			}
			return nil
		})
	})
	return history.Reasons(facts, traceDetails), err
}

func historyTable(w io.Writer, revisions []history.Revision, reasons map[events.Rollout]history.Reason, zone *time.Location) error {
	header := []string{"REVISION", "GENERATION", "BEGUN", "STATUS", "CHARTS", "WORKFLOW"}
	if reasons != nil {
		header = slices.Insert(header, 4, "BY", "WHY")
	}
	var rows [][]string
	for _, r := range revisions {
		row := []string{
			strconv.FormatInt(r.Number, 10), strconv.FormatInt(r.Rollout.Generation, 10), r.Created.In(zone).Format(time.DateTime),
			string(r.Status), charts(r), r.Name,
		}
		if reasons != nil {
			why := reasons[r.Rollout]
			row = slices.Insert(row, 4, tree.OneLine(why.Who), tree.OneLine(why.Why))
		}
		rows = append(rows, row)
	}
	return table(w, slices.Index(header, "CHARTS"), header, rows)
}

// charts of a revision in a few words. Where applications have one chart in several
// versions each version says whose it is.
func charts(r history.Revision) string {
	all := r.Charts()
	apps, versions := map[string][]string{}, map[string]int{}
	for _, app := range slices.Sorted(maps.Keys(all)) {
		chart := cmp.Or(all[app].Chart, app)
		name := strings.TrimSpace(chart + " " + all[app].Version)
		if apps[name] == nil {
			versions[chart]++
		}
		apps[name] = append(apps[name], app)
	}
	var out []string
	for _, name := range slices.Sorted(maps.Keys(apps)) {
		text := name
		if chart, _, _ := strings.Cut(name, " "); versions[chart] > 1 {
			text += " (" + strings.Join(apps[name], ", ") + ")"
		}
		out = append(out, text)
	}
	return strings.Join(out, ", ")
}

// revisionView is a revision as programs read it.
type revisionView struct {
	Revision    int64          `json:"revision"`
	Generation  int64          `json:"generation"`
	RequestedAt string         `json:"requestedAt,omitempty"`
	Begun       time.Time      `json:"begun"`
	Status      history.Status `json:"status"`
	Good        bool           `json:"good"`
	Workflow    string         `json:"workflow"`
	// Origin is who asked for it, and Why in words, where the stream was asked and has it.
	Origin events.Origin `json:"origin,omitzero"`
	Why    string        `json:"why,omitempty"`
	Charts []chartView   `json:"charts"`
}

type chartView struct {
	Application string            `json:"application"`
	Chart       string            `json:"chart"`
	Version     string            `json:"version"`
	Digest      string            `json:"digest,omitempty"`
	Subcharts   map[string]string `json:"subcharts,omitempty"`
}

func revisionViews(revisions []history.Revision, reasons map[events.Rollout]history.Reason) []revisionView {
	out := []revisionView{}
	for _, r := range revisions {
		v := revisionView{
			Revision: r.Number, Generation: r.Rollout.Generation, RequestedAt: r.Rollout.RequestedAt, Begun: r.Created.UTC(),
			Status: r.Status, Good: r.Good(), Workflow: r.Name, Charts: []chartView{},
			Origin: reasons[r.Rollout].Origin, Why: reasons[r.Rollout].Why,
		}
		resolved := r.Charts()
		for _, app := range r.Staged {
			v.Charts = append(v.Charts, chartView{
				Application: app.Name, Chart: app.Chart, Version: app.Version, Digest: app.Digest, Subcharts: resolved[app.Name].Subcharts,
			})
		}
		out = append(out, v)
	}
	return out
}

// revisionName is how a revision is spoken of.
func revisionName(r history.Revision) string {
	return fmt.Sprintf("revision %d (%s)", r.Number, r.Status)
}
