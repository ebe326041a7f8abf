package stack

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
)

// identity tells a process from another that gets the same number later: a number is unique only together with the time
// at which its process began, and that, counted in clock ticks since boot, only within one boot.
type identity struct {
	PID   int    `json:"pid"`
	Ticks uint64 `json:"ticks"`
	Boot  string `json:"boot"`
}

// identify says who the process of that number is now.
func identify(pid int) (identity, error) {
	boot, err := bootID()
	if err != nil {
		return identity{}, err
	}
	_, ticks, err := stat(pid)
	if err != nil {
		return identity{}, err
	}
	return identity{PID: pid, Ticks: ticks, Boot: boot}, nil
}

// running tells whether that very process is alive. One that has ended and that nobody has collected yet is not.
func (i identity) running() (bool, error) {
	boot, err := bootID()
	if err != nil {
		return false, err
	}
	if i.PID <= 0 || i.Boot != boot {
		return false, nil
	}
	state, ticks, err := stat(i.PID)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ESRCH) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return ticks == i.Ticks && state != 'Z' && state != 'X', nil
}

var bootID = sync.OnceValues(func() (string, error) {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "", fmt.Errorf("reading the boot's identity (the local stack needs Linux): %w", err)
	}
	return string(bytes.TrimSpace(b)), nil
})

func stat(pid int) (state byte, ticks uint64, err error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, 0, fmt.Errorf("looking at process %d: %w", pid, err)
	}
	state, ticks, err = parseStat(string(b))
	if err != nil {
		return 0, 0, fmt.Errorf("looking at process %d: %w", pid, err)
	}
	return state, ticks, nil
}

// parseStat reads the state (field 3 of proc_pid_stat(5)) and the start time (field 22). Field 2 is the name in
// parentheses, and may itself hold blanks and parentheses, so fields are counted from the last one.
func parseStat(line string) (state byte, ticks uint64, err error) {
	i := strings.LastIndexByte(line, ')')
	if i < 0 {
		return 0, 0, fmt.Errorf("parsing %q: no name in parentheses", line)
	}
	fields := strings.Fields(line[i+1:])
	if len(fields) < 20 || len(fields[0]) != 1 {
		return 0, 0, fmt.Errorf("parsing %q: too few fields", line)
	}
	ticks, err = strconv.ParseUint(fields[19], 10, 64)
	if err != nil {
		return 0, 0, fmt.Errorf("parsing %q: %w", line, err)
	}
	return fields[0][0], ticks, nil
}
