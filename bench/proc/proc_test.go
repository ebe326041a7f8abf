package proc

import (
	"os"
	"runtime/debug"
	"testing"
)

func TestParseStat(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		stat string
		want float64
		bad  bool
	}{
		"Plain":          {stat: "7 (nats) S 1 7 7 0 -1 4194560 1 2 3 4 150 50 0 0 20 0", want: 2},
		"NameWithSpaces": {stat: "7 (a ) b (c)) R 1 7 7 0 -1 4194560 1 2 3 4 1 2 0 0 20 0", want: 0.03},
		"Cut":            {stat: "7 (nats) S 1", bad: true},
		"NoNumbers":      {stat: "7 (nats) S 1 7 7 0 -1 4194560 1 2 3 4 x y 0", bad: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := parseStat(c.stat)
			if got != c.want || (err != nil) != c.bad {
				t.Errorf("parseStat(%q) = %v, %v; want %v", c.stat, got, err, c.want)
			}
		})
	}
}

// What this process costs can be read, and its peak follows what it holds.
func TestOwnProcess(t *testing.T) {
	pid := os.Getpid()
	debug.FreeOSMemory() // or what an earlier run has let go of would be used once more, and no peak be seen
	if err := ResetPeak(pid); err != nil {
		t.Fatal(err)
	}
	before, err := PeakMiB(pid)
	if err != nil {
		t.Fatal(err)
	}
	const mib = 64
	held := make([]byte, mib<<20)
	for i := range held {
		held[i] = byte(i)
	}
	after, err := PeakMiB(pid)
	if err != nil {
		t.Fatal(err)
	}
	if after < before+mib/2 {
		t.Errorf("the peak went from %.0f to %.0f MiB with %d MiB more in use (%d)", before, after, mib, held[len(held)-1])
	}
	if resident, own, err := MiB(pid); err != nil || own < mib || resident < own {
		t.Errorf("MiB = %v, %v, %v with %d MiB in use", resident, own, err, mib)
	}
	if cpu, err := CPUSeconds(pid); err != nil || cpu <= 0 {
		t.Errorf("CPUSeconds = %v, %v", cpu, err)
	}
	if _, err := parseStatus("VmPeak: 7 kB", "VmHWM:"); err == nil {
		t.Error("a status without a peak is no error")
	}
}
