package command

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"
	"helm.sh/helm/v3/pkg/chart/loader"
	"helm.sh/helm/v3/pkg/chartutil"

	"orkestra.dev/services/stager/stage"
)

func newVerifySplit(name string) *cobra.Command {
	var valueFiles, subcharts []string
	var release stage.Release
	cmd := &cobra.Command{
		Use:   "verify-split CHART",
		Short: "Check that the pieces of a chart are the chart",
		Long: `Verify-split splits a chart as the stager does, renders the chart and its pieces with
the same values, and compares: each object of the chart has to come from exactly one
piece, and be the same. A piece of a subchart is released with those values only that
it can see, so it is rendered with those too, and has to come out the same.

Two things are listed that no comparison settles. Hooks run with their piece, not with
the whole. And what templates ask for besides the values is not the same for each piece,
or each time: the cluster (lookup), random values, the clock, the release's history.

CHART is an archive or a folder. The exit code is 1 where the pieces are not the chart.`,
		Example: examples(name, `
orkestra verify-split bookinfo-v1.tgz

# With the values that the release will have; later files win
orkestra verify-split ./bookinfo --values common.yaml --values prod.yaml

# Only these subcharts may be named
orkestra verify-split bookinfo-v1.tgz --subcharts details,ratings`),
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			data, err := archive(args[0])
			if err != nil {
				return err
			}
			values := chartutil.Values{}
			for _, path := range valueFiles {
				more, err := chartutil.ReadValuesFile(path)
				if err != nil {
					return fmt.Errorf("reading values %s: %w", path, err)
				}
				values = chartutil.CoalesceTables(more, values)
			}
			chart, err := stage.Open(data)
			if err != nil {
				return err
			}
			if !cmd.Flags().Changed("subcharts") {
				for _, s := range chart.Subcharts() {
					if !s.Library {
						subcharts = append(subcharts, s.Name)
					}
				}
			}
			if len(subcharts) == 0 {
				cmd.Printf("chart %s has no subcharts: there is nothing to split, and so nothing to differ\n", chart.Name())
				return nil
			}
			report, err := stage.Equivalent(chart, values, subcharts, release)
			if err != nil {
				return err
			}
			cmd.Print(report)
			if !report.OK() {
				return errFailed
			}
			return nil
		},
	}
	fs := cmd.Flags()
	fs.StringArrayVar(&valueFiles, "values", nil, "file with values; may be repeated, and later files win")
	fs.StringSliceVar(&subcharts, "subcharts", nil, "subcharts to name (default: all)")
	fs.StringVar(&release.Name, "release-name", "release", "name of the release")
	fs.StringVarP(&release.Namespace, "namespace", "n", "default", "namespace of the release")
	return cmd
}

// archive reads a chart's archive, or makes one of a folder.
func archive(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("reading chart: %w", err)
	}
	if info.IsDir() {
		chart, err := loader.LoadDir(path)
		if err != nil {
			return nil, fmt.Errorf("reading chart %s: %w", path, err)
		}
		dir, err := os.MkdirTemp("", "orkestra-chart-")
		if err != nil {
			return nil, fmt.Errorf("packing chart %s: %w", path, err)
		}
		defer os.RemoveAll(dir)
		if path, err = chartutil.Save(chart, dir); err != nil {
			return nil, fmt.Errorf("packing chart %s: %w", filepath.Base(dir), err)
		}
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("reading chart: %w", err)
	}
	return data, nil
}
