package stage

import (
	"fmt"
	"strings"
)

// The pieces of a chart cost what they have in them: each has the whole chart, so
// their sum grows with the square of the number of subcharts.
const (
	// maxPieces bounds all pieces of a chart together, unpacked, in bytes. It is what
	// packing takes two seconds for, and what a monitoring stack of 17 MB with a dozen
	// subcharts comes to; most umbrellas are far below.
	maxPieces = 224 << 20
	// maxPacked bounds the same, packed as well as the chart is: that is what stays in
	// memory, and what does not compress takes three times as long.
	maxPacked = 48 << 20
	// perFile is what packing a file costs, besides what is in it, in bytes.
	perFile = 1 << 10
)

// form is a chart as its pieces are cut from it, and where Helm puts each chart in it. To
// find that out takes a look at all of them, and it is the same for all pieces.
type form struct {
	root   *folder
	places map[*folder]*place
	// size of a piece, in bytes, as far as the work is concerned.
	size int
}

// form of the chart for the piece of a subchart, or for its own, made once. The lock is
// the caller's.
func (c *Chart) form(sub string) (*form, error) {
	apart := sub != "" && c.ambiguous(sub)
	if f := c.forms[apart]; f != nil {
		return f, nil
	}
	root := c.root.clone()
	if apart {
		if err := root.materialise(); err != nil {
			return nil, err
		}
	}
	places, err := root.places()
	if err != nil {
		return nil, err
	}
	f := &form{root: root, places: places, size: root.size()}
	root.walk(func(sub *folder) { f.size += perFile * len(sub.files) })
	c.forms[apart] = f
	return f, nil
}

// copy is the form to write into, of a chart that goes by another name.
func (f *form) copy(chart, name string) (*folder, map[*folder]*place) {
	twins := map[*folder]*folder{}
	root := f.root.twin(twins)
	places := make(map[*folder]*place, len(f.places))
	for of, p := range f.places {
		renamed := *p
		renamed.paths = make([]string, len(p.paths))
		for i, path := range p.paths {
			renamed.paths[i] = name + strings.TrimPrefix(path, chart)
		}
		places[twins[of]] = &renamed
	}
	return root, places
}

// affordable refuses to cut what would cost more than any chart has to.
func (c *Chart) affordable(enabled []Subchart) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	total, packed := 0, 0
	names := []string{""}
	for _, sub := range enabled {
		names = append(names, sub.Name)
	}
	for _, name := range names {
		f, err := c.form(name)
		if err != nil {
			return fmt.Errorf("splitting chart %s: %w", c.Name(), err)
		}
		total += f.size
		packed += int(float64(len(c.data)) * float64(f.size) / float64(c.root.size()))
	}
	if total > maxPieces || packed > maxPacked {
		return fmt.Errorf("chart %s has %d subcharts to release on their own: with the whole chart in each piece that is %d MiB, and about %d MiB packed; %d and %d are allowed. Without spec.subcharts it is installed whole",
			c.Name(), len(enabled), total>>20, packed>>20, maxPieces>>20, maxPacked>>20)
	}
	return nil
}
