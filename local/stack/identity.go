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
	s, err := statOf(pid)
	if err != nil {
		return identity{}, err
	}
	return identity{PID: pid, Ticks: s.ticks, Boot: boot}, nil
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
	s, err := statOf(i.PID)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ESRCH) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return s.ticks == i.Ticks && !s.ended(), nil
}

var bootID = sync.OnceValues(func() (string, error) {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "", fmt.Errorf("reading the boot's identity (the local stack needs Linux): %w", err)
	}
	return string(bytes.TrimSpace(b)), nil
})

// stat is what proc_pid_stat(5) says of a process.
type stat struct {
	state   byte   // field 3
	threads int    // field 20
	ticks   uint64 // field 22: when it began
}

// ended tells whether nothing of the process is left but its number. Its first thread may end before the others, and is a
// zombie then: they still have its ports.
func (s stat) ended() bool { return s.state == 'X' || s.state == 'Z' && s.threads <= 1 }

func statOf(pid int) (stat, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return stat{}, fmt.Errorf("looking at process %d: %w", pid, err)
	}
	s, err := parseStat(string(b))
	if err != nil {
		return stat{}, fmt.Errorf("looking at process %d: %w", pid, err)
	}
	return s, nil
}

// parseStat reads a line of proc_pid_stat(5). Field 2 is the name in parentheses, and may itself hold blanks and
// parentheses, so fields are counted from the last one.
func parseStat(line string) (s stat, err error) {
	i := strings.LastIndexByte(line, ')')
	if i < 0 {
		return stat{}, fmt.Errorf("parsing %q: no name in parentheses", line)
	}
	fields := strings.Fields(line[i+1:])
	if len(fields) < 20 || len(fields[0]) != 1 {
		return stat{}, fmt.Errorf("parsing %q: too few fields", line)
	}
	s.state = fields[0][0]
	s.threads, err = strconv.Atoi(fields[17])
	if err == nil {
		s.ticks, err = strconv.ParseUint(fields[19], 10, 64)
	}
	if err != nil {
		return stat{}, fmt.Errorf("parsing %q: %w", line, err)
	}
	return s, nil
}
