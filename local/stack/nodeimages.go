package stack

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
)

// nodeImages are those that a real node needs: to hold pods, to run the steps of workflows, and to run the demo.
var nodeImages = []string{"node", "demo", "argoexec", "orkestra-executor"}

// nodeImage is an image as tools/images describes it.
type nodeImage struct {
	Name      string `json:"name"`
	Reference string `json:"reference"`
	Inputs    string `json:"inputs"`
	Archives  []struct {
		Platform string `json:"platform"`
		File     string `json:"file"`
	} `json:"archives"`
}

// archive for this machine.
func (i nodeImage) archive() (string, error) {
	for _, a := range i.Archives {
		if a.Platform == runtime.GOOS+"/"+runtime.GOARCH {
			return a.File, nil
		}
	}
	return "", fmt.Errorf("the image %s is not there for %s/%s", i.Name, runtime.GOOS, runtime.GOARCH)
}

// imagesDir is shared by all stacks of a checkout, as executables are.
func (l layout) imagesDir() string { return filepath.Join(filepath.Dir(l.bin), "images") }

// buildNode builds what only a real node needs: the cluster's DNS, who enforces its NetworkPolicies, and images.
func (l layout) buildNode(ctx context.Context, images []string, log io.Writer) error {
	unlock, err := lock(ctx, filepath.Join(l.bin, ".lock"), log)
	if err != nil {
		return err
	}
	if err := errors.Join(buildServers(ctx, l.root, l.bin, []server{coreDNS, kubeRouter}, log), unlock()); err != nil {
		return err
	}
	return l.buildImages(ctx, images, log)
}

// buildImages builds the images that a real node is to have, with the program of the checkout that does that.
func (l layout) buildImages(ctx context.Context, names []string, log io.Writer) error {
	unlock, err := lock(ctx, filepath.Join(l.imagesDir(), ".lock"), log)
	if err != nil {
		return err
	}
	done := progress(log, "building images (about 10 CPU-minutes the first time, 30 with all of the servers)")
	args := append([]string{"run", ".", "--root", l.root, "--out", l.imagesDir()}, names...)
	_, err = goTool(ctx, filepath.Join(l.root, "tools", "images"), alone, args...)
	done(err)
	if unlockErr := unlock(); err == nil {
		err = unlockErr
	}
	if err != nil {
		return fmt.Errorf("building images: %w", err)
	}
	return nil
}

// readImages are all that were built, by name.
func readImages(l layout) (map[string]nodeImage, error) {
	files, err := filepath.Glob(filepath.Join(l.imagesDir(), "*.json"))
	if err != nil {
		return nil, fmt.Errorf("listing the images: %w", err)
	}
	out := map[string]nodeImage{}
	for _, f := range files {
		if strings.HasSuffix(f, ".cdx.json") {
			continue
		}
		b, err := os.ReadFile(f)
		if err != nil {
			return nil, fmt.Errorf("reading an image's record: %w", err)
		}
		var i nodeImage
		if err := json.Unmarshal(b, &i); err != nil {
			return nil, fmt.Errorf("reading the image's record %s: %w", f, err)
		}
		out[i.Name] = i
	}
	for _, name := range []string{"pause", "argoexec", "orkestra-executor"} {
		if out[name].Reference == "" {
			return nil, fmt.Errorf("the image %s was not built in %s", name, l.imagesDir())
		}
	}
	return out, nil
}

// importImages gives containerd all images that were built, unless it has them. It returns when all are unpacked.
func (n *node) importImages(ctx context.Context, log io.Writer) error {
	begin := time.Now()
	var count atomic.Int32
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(2) // unpacking is work for a disk and a processor
	for _, i := range n.images {
		g.Go(func() error {
			imported, err := n.importImage(gctx, i)
			if imported {
				count.Add(1)
			}
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	if count.Load() > 0 {
		say(log, "%-24s imported after %s", fmt.Sprintf("%d images", count.Load()), time.Since(begin).Round(10*time.Millisecond))
	}
	return nil
}

// importImage imports an image, unless the very same was imported before.
func (n *node) importImage(ctx context.Context, i nodeImage) (bool, error) {
	mark := n.layout.node("images", i.Name)
	want := i.Reference + "\n" + i.Inputs + "\n"
	have, err := readFileOr(mark)
	if err != nil || have == want {
		return false, err
	}
	archive, err := i.archive()
	if err != nil {
		return false, err
	}
	cmd := exec.CommandContext(ctx, n.tools["ctr"], "--address", n.socket(), "--namespace", "k8s.io", "images", "import",
		filepath.Join(n.layout.imagesDir(), archive))
	if out, err := cmd.CombinedOutput(); err != nil {
		return false, fmt.Errorf("importing the image %s: %w: %s", i.Reference, err, strings.TrimSpace(string(out)))
	}
	return true, writeFile(mark, []byte(want), 0o600)
}
