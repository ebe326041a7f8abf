package command

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"orkestra.dev/cli/internal/history"
)

func newHistory(name string, open opener) *cobra.Command {
	c := cluster{program: name, open: open}
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
that is not good goes when a newer one is.`,
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
			from, group, err := c.group(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			revisions, err := c.revisions(cmd.Context(), from, group)
			if err != nil {
				return err
			}
			slices.Reverse(revisions)
			return out.write(cmd.OutOrStdout(), revisionViews(revisions), func(w io.Writer) error {
				if len(revisions) == 0 {
					cmd.PrintErrf("group %s has no revisions: nothing of it has been rolled out yet\n", group.Name)
					return nil
				}
				return historyTable(w, revisions, time.Local)
			})
		},
	}
	out.add(cmd)
	c.add(cmd.Flags())
	return cmd
}

func historyTable(w io.Writer, revisions []history.Revision, zone *time.Location) error {
	header := []string{"REVISION", "GENERATION", "BEGUN", "STATUS", "CHARTS", "WORKFLOW"}
	var rows [][]string
	for _, r := range revisions {
		rows = append(rows, []string{
			strconv.FormatInt(r.Number, 10), strconv.FormatInt(r.Rollout.Generation, 10), r.Created.In(zone).Format(time.DateTime),
			string(r.Status), charts(r), r.Name,
		})
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
	Charts      []chartView    `json:"charts"`
}

type chartView struct {
	Application string            `json:"application"`
	Chart       string            `json:"chart"`
	Version     string            `json:"version"`
	Digest      string            `json:"digest,omitempty"`
	Subcharts   map[string]string `json:"subcharts,omitempty"`
}

func revisionViews(revisions []history.Revision) []revisionView {
	out := []revisionView{}
	for _, r := range revisions {
		v := revisionView{
			Revision: r.Number, Generation: r.Rollout.Generation, RequestedAt: r.Rollout.RequestedAt, Begun: r.Created.UTC(),
			Status: r.Status, Good: r.Good(), Workflow: r.Name, Charts: []chartView{},
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
