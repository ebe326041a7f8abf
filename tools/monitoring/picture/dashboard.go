package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Panel of a dashboard, as far as it is drawn.
type Panel struct {
	Title, Type string
	// GridPos is where it is: 24 columns, rows of a unit's height.
	GridPos struct{ X, Y, W, H int }
	Targets []struct{ Expr, LegendFormat string }
	// FieldConfig has the unit: short, s, ops or bytes.
	FieldConfig struct{ Defaults struct{ Unit string } }
}

// Parse reads the panels of a dashboard. One that cannot be drawn is an error.
func Parse(data []byte) ([]Panel, error) {
	var d struct{ Panels []Panel }
	if err := json.Unmarshal(data, &d); err != nil {
		return nil, err
	}
	if len(d.Panels) == 0 {
		return nil, errors.New("it has no panels")
	}
	for _, p := range d.Panels {
		if !slices.Contains([]string{"timeseries", "stat"}, p.Type) {
			return nil, fmt.Errorf("panel %q is a %s, and only timeseries and stat are drawn", p.Title, p.Type)
		}
	}
	return d.Panels, nil
}

// legend of a series: the format with its labels filled in.
func legend(format string, labels map[string]string) string {
	for name, value := range labels {
		format = strings.ReplaceAll(format, "{{"+name+"}}", value)
	}
	return strings.TrimSpace(format)
}
