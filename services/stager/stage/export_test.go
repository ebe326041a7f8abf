package stage

import "orkestra.dev/pkg/values"

// Blind makes the pieces of a chart see nothing but one path.
func Blind(c *Chart, path string) error {
	for _, s := range append(c.Subcharts(), Subchart{}) {
		p, err := c.piece(s)
		if err != nil {
			return err
		}
		if s.Name != "" {
			p.ValuePaths = []string{values.Path(path)}
		}
		c.pieces[s.Name] = p
	}
	return nil
}

// Cautions of a chart.
func Cautions(c *Chart) []Caution { return c.cautions() }
