// Command picture draws the dashboard of deploy/monitoring from a run: it reads the
// metrics of services for a while, asks Prometheus's own engine what the dashboard asks,
// and writes an SVG. It draws panels of type timeseries and stat; it is no Grafana.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log"
	"os"
	"os/signal"
	"strings"
	"time"
)

func main() {
	dashboard := flag.String("dashboard", "deploy/monitoring/dashboard.json", "the dashboard")
	out := flag.String("out", "docs/dashboard.svg", "the picture")
	span := flag.Duration("for", 10*time.Minute, "how long to read metrics; SIGINT ends it earlier")
	every := flag.Duration("every", 5*time.Second, "how often")
	flag.Usage = func() {
		fmt.Fprintln(flag.CommandLine.Output(), "usage: picture [flags] JOB=URL...\n\nEach URL answers with metrics; JOB is the label that Prometheus would give it.")
		flag.PrintDefaults()
	}
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, *dashboard, *out, *span, *every, flag.Args()); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, dashboard, out string, span, every time.Duration, args []string) error {
	data, err := os.ReadFile(dashboard)
	if err != nil {
		return err
	}
	panels, err := Parse(data)
	if err != nil {
		return fmt.Errorf("reading %s: %w", dashboard, err)
	}
	targets, err := targetsOf(args)
	if err != nil {
		return err
	}
	r := newRecorder()
	begin := time.Now()
	recording, done := context.WithTimeout(ctx, span)
	defer done()
	if err := r.record(recording, targets, every); err != nil {
		return err
	}
	drawn, err := r.answers(context.WithoutCancel(ctx), panels, begin, time.Now())
	if err != nil {
		return err
	}
	return os.WriteFile(out, []byte(Draw(drawn)), 0o644)
}

// targetsOf reads JOB=URL.
func targetsOf(args []string) ([]target, error) {
	var out []target
	for _, arg := range args {
		job, url, ok := strings.Cut(arg, "=")
		if !ok || job == "" || url == "" {
			return nil, fmt.Errorf("%q: want JOB=URL", arg)
		}
		out = append(out, target{job: job, url: url})
	}
	if len(out) == 0 {
		return nil, errors.New("no JOB=URL is given: there is nothing to read")
	}
	return out, nil
}
