package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
)

// report of a run.
type report struct {
	Charts     int     `json:"charts"`
	ChartBytes int     `json:"chartBytes"`
	CPUs       int     `json:"cpus"`
	Phases     []phase `json:"phases"`
	Paths      []path  `json:"paths"`
}

// phase is one staging of the whole group.
type phase struct {
	Name string `json:"name"`
	// Seconds from the event that asks for the rollout to the one that says that all
	// charts can be installed.
	Seconds float64 `json:"seconds"`
	// FetchedSeconds and PushedSeconds are when the last archive was downloaded, and the
	// last pushed; what follows is the API server's. 0 where there was none.
	FetchedSeconds float64 `json:"fetchedSeconds"`
	PushedSeconds  float64 `json:"pushedSeconds"`
	// Downloads of archives, and pushes to ChartMuseum.
	Downloads int `json:"downloads"`
	Pushes    int `json:"pushes"`
	// PeakMiB is the stager's resident memory at its peak.
	PeakMiB float64 `json:"peakMiB"`
}

// write writes staging.md and staging.json, and shows the former.
func (r report) write(folder string) error {
	r.CPUs = runtime.NumCPU()
	data, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return fmt.Errorf("encoding the report: %w", err)
	}
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return fmt.Errorf("making the folder of the report: %w", err)
	}
	text := r.markdown()
	for name, data := range map[string][]byte{"staging.json": append(data, '\n'), "staging.md": []byte(text)} {
		if err := os.WriteFile(filepath.Join(folder, name), data, 0o644); err != nil {
			return fmt.Errorf("writing the report: %w", err)
		}
	}
	fmt.Print(text)
	return nil
}

func (r report) markdown() string {
	var b strings.Builder
	fmt.Fprintf(&b, `# Staging

One group with %d applications, each with a chart of %d KiB that does not compress: from
the event that asks for the rollout to the one that says that every chart can be
installed, its HelmChart ready. The API server, ChartMuseum, NATS and the
stager are the real ones, all on one machine with %d processors. `+"`make bench`"+` writes
this page; it fails where anything is downloaded or pushed that need not be. What comes
after the last push is two writes for each chart, by which helm-controller finds it. The
stager that was just started is reached under another URL, and writes each chart once.

| | seconds | all fetched after | all pushed after | downloads | pushes | stager's peak memory |
|---|---|---|---|---|---|---|
`, r.Charts, r.ChartBytes>>10, r.CPUs)
	for _, p := range r.Phases {
		fmt.Fprintf(&b, "| %s | %.2f | %.2f | %.2f | %d | %d | %.0f MiB |\n",
			p.Name, p.Seconds, p.FetchedSeconds, p.PushedSeconds, p.Downloads, p.Pushes, p.PeakMiB)
	}
	b.WriteString(`
## The way to the first release

With all services: how long after the request, in the median of ` + strconv.Itoa(r.Paths[0].Repeats) + ` groups, each of these
was seen, by a watch of the benchmark or in the stream. Nothing was staged before a cold
one, which installs one chart as often as it has releases, or as many charts; a chart is
what the stager has not seen. A release of another value needs no chart, and a request
that changes nothing no release.

`)
	b.WriteString(table(r.Paths))
	return b.String()
}
