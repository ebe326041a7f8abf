package main

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql"
)

// target is a service's metrics.
type target struct{ job, url string }

// recorder keeps what was read.
type recorder struct {
	kept memory
	http *http.Client
}

func newRecorder() *recorder {
	return &recorder{kept: memory{}, http: &http.Client{Timeout: 5 * time.Second}}
}

// record reads all targets every so often until ctx ends. One that does not answer has a
// gap; that nobody has ever answered is an error.
func (r *recorder) record(ctx context.Context, targets []target, every time.Duration) error {
	again := time.NewTicker(every)
	defer again.Stop()
	answered := false
	var last error
	for {
		for _, t := range targets {
			if err := r.read(ctx, t); err == nil {
				answered = true
			} else if ctx.Err() == nil {
				last = err
			}
		}
		select {
		case <-ctx.Done():
			if !answered {
				return fmt.Errorf("nobody has answered: %w", last)
			}
			return nil
		case <-again.C:
		}
	}
}

func (r *recorder) read(ctx context.Context, t target) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, t.url, nil)
	if err != nil {
		return err
	}
	resp, err := r.http.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s answered %s", t.url, resp.Status)
	}
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(resp.Body)
	if err != nil {
		return fmt.Errorf("reading %s: %w", t.url, err)
	}
	now := model.Now()
	for _, family := range families {
		samples, err := expfmt.ExtractSamples(&expfmt.DecodeOptions{Timestamp: now}, family)
		if err != nil {
			return fmt.Errorf("reading %s: %w", t.url, err)
		}
		for _, s := range samples {
			r.kept.add(labelsOf(s.Metric, t), int64(now), float64(s.Value))
		}
	}
	return nil
}

func labelsOf(m model.Metric, t target) labels.Labels {
	all := map[string]string{"job": t.job, "instance": t.url}
	if u, err := url.Parse(t.url); err == nil && u.Host != "" {
		all["instance"] = u.Host
	}
	for name, value := range m {
		all[string(name)] = string(value)
	}
	return labels.FromMap(all)
}

// points of a line, from left to right.
const points = 90

// answers asks for every panel what it asks, over the time from begin to end.
func (r *recorder) answers(ctx context.Context, panels []Panel, begin, end time.Time) ([]Drawn, error) {
	engine := promql.NewEngine(promql.EngineOpts{MaxSamples: 10_000_000, Timeout: time.Minute})
	step := max(end.Sub(begin)/points, time.Second)
	var out []Drawn
	for _, p := range panels {
		d := Drawn{Panel: p, Begin: begin, End: end}
		for _, t := range p.Targets {
			q, err := engine.NewRangeQuery(ctx, r.kept, nil, t.Expr, begin, end, step)
			if err != nil {
				return nil, fmt.Errorf("panel %q: %w", p.Title, err)
			}
			m, err := q.Exec(ctx).Matrix()
			if err != nil {
				return nil, fmt.Errorf("panel %q: %w", p.Title, err)
			}
			for _, s := range m {
				line := Line{Name: legend(t.LegendFormat, s.Metric.Map())}
				for _, f := range s.Floats {
					line.Points = append(line.Points, Point{At: time.UnixMilli(f.T), Value: f.F})
				}
				d.Lines = append(d.Lines, line)
			}
			q.Close()
		}
		slices.SortStableFunc(d.Lines, func(a, b Line) int { return cmp.Compare(b.peak(), a.peak()) })
		out = append(out, d)
	}
	return out, nil
}
