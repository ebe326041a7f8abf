package archive

import (
	"archive/tar"
	"fmt"
	"path"
	"regexp"
	"strings"
)

// maxName is how long a path may be, in bytes: four times this is what Linux lets
// anybody open.
const maxName = 1024

// maxLevels is how many folders a path may have. Every one is remembered, to tell a
// file from a folder.
const maxLevels = 64

// drive is how a path begins that Windows takes for an absolute one.
var drive = regexp.MustCompile(`^[A-Za-z]:`)

// paths of an archive: true for those of files, false for the folders that they are in.
type paths map[string]bool

// entry checks one entry, and returns the path of the file in the chart; it is empty
// for what is not a file.
func (p paths) entry(h *tar.Header) (string, error) {
	if len(h.Name) > maxName {
		return "", fmt.Errorf("entry %q... has a path of %d bytes, %d are allowed", h.Name[:40], len(h.Name), maxName)
	}
	if err := kind(h); err != nil {
		return "", err
	}
	if h.Typeflag == tar.TypeXGlobalHeader {
		return "", nil
	}
	switch {
	case path.IsAbs(h.Name), drive.MatchString(h.Name), strings.ContainsRune(h.Name, 0):
		return "", fmt.Errorf("entry %q is not a relative path", h.Name)
	case strings.ContainsRune(h.Name, '\\'):
		// Helm reads it as a separator, everybody else as a character.
		return "", fmt.Errorf(`entry %q has a \ in its path; pack the chart again, with a newer Helm`, h.Name)
	}
	for part := range strings.SplitSeq(h.Name, "/") {
		if part == ".." {
			return "", fmt.Errorf("entry %q leaves the archive", h.Name)
		}
	}
	if h.Typeflag == tar.TypeDir {
		return "", nil
	}
	// Helm drops the first folder, whatever its name.
	first, name, _ := strings.Cut(h.Name, "/")
	if name == "" || path.Clean(name) == "." {
		return "", fmt.Errorf("file %q is outside the chart's folder", h.Name)
	}
	if first == "Chart.yaml" || path.IsAbs(name) || drive.MatchString(path.Clean(name)) {
		return "", fmt.Errorf("entry %q: its path in the chart is none that Helm takes", h.Name)
	}
	name = path.Clean(name)
	return name, p.add(name)
}

// kind refuses what is neither a file nor a directory, in any of the ways in which tar
// can say so: by type, by the bits of the mode, by records that give a file holes.
func kind(h *tar.Header) error {
	switch h.Typeflag {
	case tar.TypeReg, tar.TypeDir:
	case tar.TypeXGlobalHeader: // git archive writes one, with the commit in it
		for key := range h.PAXRecords {
			if key != "comment" {
				return fmt.Errorf("a global header sets %q for all entries", key)
			}
		}
		return nil
	default:
		return fmt.Errorf("entry %q is neither a file nor a directory (type %q)", h.Name, h.Typeflag)
	}
	if info := h.FileInfo(); info.IsDir() != (h.Typeflag == tar.TypeDir) || !info.IsDir() && !info.Mode().IsRegular() {
		return fmt.Errorf("entry %q is neither a file nor a directory (mode %o)", h.Name, h.Mode)
	}
	for key := range h.PAXRecords {
		switch {
		case strings.HasPrefix(key, "GNU.sparse."):
			return fmt.Errorf("entry %q is a sparse file", h.Name)
		case key == "size": // readers differ in which of two sizes they believe
			return fmt.Errorf("entry %q has its size twice", h.Name)
		}
	}
	return nil
}

// add refuses a path that is there already, as a file or as a folder: readers would
// differ in what they see.
func (p paths) add(name string) error {
	if strings.Count(name, "/") >= maxLevels {
		return fmt.Errorf("file %q... is more than %d folders deep", name[:40], maxLevels)
	}
	if isFile, ok := p[name]; ok && isFile {
		return fmt.Errorf("file %q is there twice", name)
	} else if ok {
		return fmt.Errorf("%q is a file and a folder", name)
	}
	p[name] = true
	for dir := path.Dir(name); dir != "."; dir = path.Dir(dir) {
		isFile, ok := p[dir]
		if isFile {
			return fmt.Errorf("%q is a file and a folder", dir)
		}
		if ok {
			break // and so are those above
		}
		p[dir] = false
	}
	return nil
}

// file is where a file has its place: in a chart, which may be in others.
type file struct {
	// charts that the chart is in, in the archive.
	charts int
	// name in the innermost chart; that of the archive where it is packed.
	name string
	// packed tells whether Helm would open the file as a packed subchart.
	packed bool
}

// placed finds the chart of a file, as Helm does.
func placed(name string) file {
	f := file{name: name}
	for {
		rest, ok := strings.CutPrefix(f.name, "charts/")
		if !ok || strings.HasPrefix(rest, "_") || strings.HasPrefix(rest, ".") {
			return f
		}
		chart, inner, deeper := strings.Cut(rest, "/")
		if !deeper {
			f.packed = path.Ext(chart) == ".tgz"
			return f
		}
		f.name = inner
		f.charts++
	}
}
