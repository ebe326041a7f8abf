package receive

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/Masterminds/semver/v3"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"

	"orkestra.dev/api/v1alpha1"
)

const (
	// maxName of a group or an application, in bytes.
	maxName = 63
	// maxVersion is that of the schema of a group.
	maxVersion = 256
)

// deployOf checks what can be checked without the group.
func deployOf(b deployBody) (Deploy, error) {
	d := Deploy(b)
	switch {
	case d.Group == "" || len(d.Group) > maxName || !printable(d.Group):
		return d, errors.New("group must name an ApplicationGroup")
	case d.Application == "" || len(d.Application) > maxName || !printable(d.Application):
		return d, errors.New("application must name an application of the group")
	case d.Version == "" && d.Values == nil:
		return d, errors.New("version or values must say what is to change")
	case len(d.Version) > maxVersion:
		return d, fmt.Errorf("version may have %d characters", maxVersion)
	}
	if d.Version != "" {
		if _, err := semver.NewConstraint(d.Version); err != nil || !printable(d.Version) {
			return d, errors.New("version is neither a version nor a range of versions, as Helm reads them")
		}
	}
	if d.Values != nil {
		d.Values = bytes.TrimSpace(d.Values)
		if d.Values[0] != '{' {
			return d, errors.New("values must be an object")
		}
	}
	return d, nil
}

// Change makes the fields of one application of the group what a deploy request asks for.
// It says whether that is a change, and why it cannot be made.
//
// Values take the place of those that are there: what is asked for is all there is to
// know then, whatever was asked for before, and a request that comes twice, or late,
// leaves what it would have left alone. valuesFrom stays.
func Change(group *v1alpha1.ApplicationGroup, d Deploy) (changed bool, err error) {
	for i := range group.Spec.Applications {
		app := &group.Spec.Applications[i]
		if app.Name != d.Application {
			continue
		}
		if d.Version != "" && app.Spec.Chart.Version != d.Version {
			if app.Spec.Chart.Digest != "" {
				return false, fmt.Errorf("application %s is pinned by chart.digest: another version cannot have it", app.Name)
			}
			app.Spec.Chart.Version, changed = d.Version, true
		}
		if have := app.Spec.Release.Values; d.Values != nil && (have == nil || !sameJSON(have.Raw, d.Values)) {
			app.Spec.Release.Values, changed = &apiextensionsv1.JSON{Raw: d.Values}, true
		}
		return changed, nil
	}
	return false, fmt.Errorf("group %s has no application %q", group.Name, d.Application)
}

// sameJSON compares values as they are written, but for space and the order of keys.
func sameJSON(a, b []byte) bool {
	canonical := func(data []byte) ([]byte, error) {
		dec := json.NewDecoder(bytes.NewReader(data))
		dec.UseNumber()
		var v any
		if err := dec.Decode(&v); err != nil {
			return nil, err
		}
		return json.Marshal(v)
	}
	x, errX := canonical(a)
	y, errY := canonical(b)
	return errX == nil && errY == nil && bytes.Equal(x, y)
}
