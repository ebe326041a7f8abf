// Command images builds the images of Orkestra, without a container engine: of its services and command line, of the
// servers that it needs, and of the example charts. Each becomes an OCI layout with all platforms in it, an archive for
// each platform that `ctr images import` and `docker load` read, and a bill of materials; with --push they also go to a
// registry. See docs/images.md.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"orkestra.dev/tools/images/catalog"
)

// options are what the command line says.
type options struct {
	root, out             string
	registry, tag, commit string
	platforms             []v1.Platform
	push                  bool
	created               time.Time
	images                []catalog.Image
	log                   io.Writer
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	o, err := parse(os.Args[1:], os.Getenv, os.Stderr)
	if errors.Is(err, flag.ErrHelp) {
		return
	}
	if err == nil {
		err = o.run(ctx)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "images:", err)
		os.Exit(1)
	}
}

const usage = `usage: images [flags] [image or set of images...]

Sets are orkestra, servers, node, demo and test. Nothing named is all of them but test.

`

func parse(args []string, getenv func(string) string, log io.Writer) (*options, error) {
	o := &options{log: log}
	flags := flag.NewFlagSet("images", flag.ContinueOnError)
	flags.SetOutput(log)
	flags.Usage = func() {
		fmt.Fprint(log, usage)
		flags.PrintDefaults()
	}
	flags.StringVar(&o.root, "root", ".", "the checkout of Orkestra")
	flags.StringVar(&o.out, "out", "", "folder that the images are written to (default <root>/.local/images)")
	flags.StringVar(&o.registry, "registry", "ghcr.io/orkestra-dev", "registry, and path in it, that the images are named after")
	flags.StringVar(&o.tag, "tag", "dev", "tag of Orkestra's own images; the servers have their own versions")
	flags.StringVar(&o.commit, "revision", "", "commit that is built, for the label of that name (default: none)")
	platforms := flags.String("platforms", "linux/"+runtime.GOARCH, "platforms to build for, such as linux/amd64,linux/arm64")
	flags.BoolVar(&o.push, "push", false, "push to the registry too, with the credentials of `docker login`")
	if err := flags.Parse(args); err != nil {
		return nil, err
	}
	var err error
	if o.root, err = filepath.Abs(o.root); err != nil {
		return nil, fmt.Errorf("finding the checkout: %w", err)
	}
	if o.out == "" {
		o.out = filepath.Join(o.root, ".local", "images")
	}
	if o.platforms, err = parsePlatforms(*platforms); err != nil {
		return nil, err
	}
	if o.created, err = epoch(getenv("SOURCE_DATE_EPOCH")); err != nil {
		return nil, err
	}
	o.images, err = catalog.Select(flags.Args())
	return o, err
}

func parsePlatforms(list string) ([]v1.Platform, error) {
	var out []v1.Platform
	for part := range strings.SplitSeq(list, ",") {
		p, err := v1.ParsePlatform(part)
		if err != nil || p.OS != "linux" || p.Architecture == "" || p.Variant != "" {
			return nil, fmt.Errorf("--platforms: want linux/<architecture> of Go, separated by commas, not %q", part)
		}
		out = append(out, *p)
	}
	return out, nil
}

// epoch is when the images say they were made: as reproducible-builds.org has it, or else 1970.
func epoch(variable string) (time.Time, error) {
	if variable == "" {
		return time.Unix(0, 0).UTC(), nil
	}
	seconds, err := strconv.ParseInt(variable, 10, 64)
	if err != nil || seconds < 0 {
		return time.Time{}, fmt.Errorf("SOURCE_DATE_EPOCH: want seconds since 1970, not %q", variable)
	}
	return time.Unix(seconds, 0).UTC(), nil
}
