package stage_test

import (
	"strings"
	"testing"

	"orkestra.dev/services/stager/archive"
	"orkestra.dev/services/stager/stage"
)

// What Helm comes to the end of is rendered, and split; the rest would overflow its stack.
func TestImportsThatEnd(t *testing.T) {
	for name, tc := range map[string]struct {
		imports string
		endless bool
	}{
		"One":                {"[{child: data, parent: a}]", false},
		"TwoPlaces":          {"[{child: data, parent: a}, {child: data, parent: b}, {child: data.inner, parent: c}]", false},
		"OnePlace":           {"[{child: data, parent: a}, {child: other, parent: a}, e]", false},
		"ThenWhatIsInIt":     {"[{child: data, parent: a}, {child: data.inner, parent: a}]", false},
		"ThenWhatItIsIn":     {"[{child: data.inner, parent: a}, {child: data, parent: a}]", true},
		"IntoWhatItHas":      {"[{child: data, parent: .}, {child: data, parent: inner}]", true},
		"OneOfThemIsNot":     {"[{child: data.none, parent: a}, {child: data, parent: a}]", false},
		"ThroughTheOther":    {"[{child: data.inner, parent: a}, {child: other, parent: a}, {child: other.deep, parent: b}, {child: data.inner, parent: b}]", true},
		"NothingOfTheKind":   {"[{child: data.inner, parent: a}, {child: data, parent: b}]", false},
		"NoImportsOfThisUse": {"[null, 1, {child: 1}]", false},
	} {
		t.Run(name, func(t *testing.T) {
			data, err := archive.Write("shop", []archive.File{
				{Name: "Chart.yaml", Data: []byte("apiVersion: v2\nname: shop\nversion: 1.0.0\ndependencies:\n- {name: db, version: '*', import-values: " + tc.imports + "}\n")},
				{Name: "charts/db/Chart.yaml", Data: []byte("{apiVersion: v2, name: db, version: 1.0.0}")},
				{Name: "charts/db/values.yaml", Data: []byte("{data: {inner: {x: 1}, y: 2}, other: {deep: {z: 3}}, exports: {e: {f: 4}}}")},
				{Name: "templates/a.yaml", Data: []byte("{apiVersion: v1, kind: ConfigMap, metadata: {name: a}}")},
			})
			if err != nil {
				t.Fatal(err)
			}
			c, err := stage.Open(data)
			if err != nil {
				t.Fatal(err)
			}
			_, rendering := stage.Render(data, nil, release)
			_, whole := c.Split(nil, nil)
			_, split := c.Split(nil, []string{"db"})
			for what, err := range map[string]error{"rendered": rendering, "staged": whole, "split": split} {
				if endless := err != nil && strings.Contains(err.Error(), "chart shop: its import-values put values into themselves"); endless != tc.endless || err != nil && !endless {
					t.Errorf("%s: %v; want it to be refused: %v", what, err, tc.endless)
				}
			}
		})
	}
}
