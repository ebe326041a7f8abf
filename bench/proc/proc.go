// Package proc reads what a process costs, as the kernel counts it.
package proc

import (
	"fmt"
	"os"
	"strings"
)

// ticks a second in which the kernel counts a process's time: USER_HZ, 100 on every
// architecture that Go runs Linux on.
const ticks = 100

// CPUSeconds that a process has used so far, in user mode and in the kernel.
func CPUSeconds(pid int) (float64, error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, fmt.Errorf("reading the CPU time of process %d: %w", pid, err)
	}
	return parseStat(string(stat))
}

// parseStat reads the fields utime and stime, the 14th and 15th. The second is the
// program's name in parentheses, which may hold spaces and parentheses.
func parseStat(stat string) (float64, error) {
	fields := strings.Fields(stat[strings.LastIndexByte(stat, ')')+1:])
	if len(fields) < 13 {
		return 0, fmt.Errorf("reading the CPU time of a process: %q has too few fields", stat)
	}
	var user, system float64
	if _, err := fmt.Sscan(fields[11]+" "+fields[12], &user, &system); err != nil {
		return 0, fmt.Errorf("reading the CPU time of a process: %w", err)
	}
	return (user + system) / ticks, nil
}

// ResetPeak begins to count the peak of a process's memory anew.
func ResetPeak(pid int) error {
	if err := os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", pid), []byte("5"), 0o200); err != nil {
		return fmt.Errorf("setting the peak of the memory of process %d back: %w", pid, err)
	}
	return nil
}

// PeakMiB is a process's resident memory at its peak since it began, or since
// ResetPeak.
func PeakMiB(pid int) (float64, error) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, fmt.Errorf("reading the memory of process %d: %w", pid, err)
	}
	return parseStatus(string(status), "VmHWM:")
}

// MiB of a process's memory that are resident now, and those of them that are its own: the
// rest are pages of its executable and of other files, which processes share and the kernel
// takes away when it needs them.
func MiB(pid int) (resident, own float64, err error) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, 0, fmt.Errorf("reading the memory of process %d: %w", pid, err)
	}
	if resident, err = parseStatus(string(status), "VmRSS:"); err != nil {
		return 0, 0, err
	}
	own, err = parseStatus(string(status), "RssAnon:")
	return resident, own, err
}

func parseStatus(status, field string) (float64, error) {
	_, value, _ := strings.Cut(status, field)
	var kib float64
	if _, err := fmt.Sscan(value, &kib); err != nil {
		return 0, fmt.Errorf("reading the memory of a process: %s %w", field, err)
	}
	return kib / 1024, nil
}
