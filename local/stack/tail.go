package stack

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"strings"
)

// tailWindow bounds how much of the end of a log is looked at.
const tailWindow = 64 << 10

// tail returns the last n lines of what the file holds from offset on.
func tail(path string, offset int64, n int) ([]string, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("opening the log: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("opening the log: %w", err)
	}
	cut := info.Size()-offset > tailWindow
	if cut {
		offset = info.Size() - tailWindow
	}
	b, err := io.ReadAll(io.NewSectionReader(f, offset, info.Size()-offset))
	if err != nil {
		return nil, fmt.Errorf("reading the log: %w", err)
	}
	if cut {
		// The first line of the window is the end of one that began before it.
		_, b, _ = bytes.Cut(b, []byte("\n"))
	}
	text := strings.TrimRight(string(b), "\n")
	if text == "" {
		return nil, nil
	}
	lines := strings.Split(text, "\n")
	return lines[max(0, len(lines)-n):], nil
}
