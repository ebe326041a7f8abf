package stage_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"errors"
	"flag"
	"fmt"
	"hash"
	"io"
	"os"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write the golden file anew")

const golden = "testdata/digests.golden"

// TestGoldenDigests shows a change of what is staged in review: whoever has staged a
// chart before gets another version of it, and each of its releases is upgraded.
//
// The digests are of what is in the archives, nested ones too, and not of the packed
// bytes: those may change with a release of Go, and then it is not our code that has
// changed. To write them anew: go test ./stage -run Golden -update.
func TestGoldenDigests(t *testing.T) {
	var b strings.Builder
	all := corpus(t)
	for _, name := range sorted(all) {
		for _, p := range all[name].split(t).Pieces {
			h := sha256.New()
			unpacked(t, h, p.Archive)
			fmt.Fprintf(&b, "%s %s %x\n", name, p.Chart, h.Sum(nil))
		}
	}
	if *update {
		if err := os.WriteFile(golden, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), b.String()); diff != "" {
		t.Errorf("pieces have other contents; if that is meant, run with -update (-want +got):\n%s", diff)
	}
}

// unpacked writes all that an archive says to h, with archives in it unpacked.
func unpacked(t *testing.T, h hash.Hash, data []byte) {
	t.Helper()
	zr, err := gzip.NewReader(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(h, "%q %q %x %d %d\n", zr.Name, zr.Comment, zr.Extra, zr.ModTime.Unix(), zr.OS)
	for tr := tar.NewReader(zr); ; {
		head, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(tr)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(h, "%q %c %o %d %d:%d %q %v\n", head.Name, head.Typeflag, head.Mode, head.ModTime.Unix(), head.Uid, head.Gid, head.Uname, head.PAXRecords)
		if strings.HasSuffix(head.Name, ".tgz") {
			unpacked(t, h, content)
			continue
		}
		fmt.Fprintf(h, "%d\n%s\n", len(content), content)
	}
}

// digests of all pieces of the corpus, by chart and piece.
func digests(t *testing.T) map[string]string {
	t.Helper()
	out := map[string]string{}
	for name, s := range corpus(t) {
		for _, p := range s.split(t).Pieces {
			out[name+" "+p.Chart] = p.Digest
		}
	}
	return out
}

func TestASplitIsReproducible(t *testing.T) {
	want := digests(t)
	zone, procs, mask := time.Local, runtime.GOMAXPROCS(1), syscall.Umask(0o777)
	t.Cleanup(func() {
		time.Local = zone
		runtime.GOMAXPROCS(procs)
		syscall.Umask(mask)
	})
	time.Local = time.FixedZone("elsewhere", -11*60*60)
	t.Setenv("TZ", "Pacific/Niue")
	var got map[string]string
	synctest.Test(t, func(t *testing.T) { // midnight, 2000-01-01
		if year := time.Now().Year(); year > 2000 {
			t.Fatalf("it is %d: the clock is not another", year)
		}
		got = digests(t)
	})
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("another clock, zone, umask and number of threads, other bytes (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(want, digests(t)); diff != "" {
		t.Errorf("a minute later, other bytes (-want +got):\n%s", diff)
	}
}
