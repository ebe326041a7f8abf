package bundle

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"

	corev1 "k8s.io/api/core/v1"

	"orkestra.dev/api/v1alpha1"
	"orkestra.dev/services/stager/archive"
	"orkestra.dev/services/stager/refusal"
	"orkestra.dev/services/stager/registry"
)

// LoadOptions of Load. All may be zero.
type LoadOptions struct {
	// AuthSecretRef that the groups will name; nil where the target asks for no
	// credentials. Those of the source are left out in any case: they are not for the
	// target.
	AuthSecretRef *corev1.ObjectReference
	// DryRun pushes nothing.
	DryRun bool
}

// Load pushes the charts of a bundle to a target, and gives the groups as they are to be
// applied there, in the order of the index. What is there with the same digest is left;
// where something is there with another, nothing is pushed at all. It may be run again.
func (b *Bundle) Load(ctx context.Context, to Target, from registry.Registry, o LoadOptions, say Say) ([]*v1alpha1.ApplicationGroup, error) {
	push, at, err := to.pusher(ctx)
	if err != nil {
		return nil, err
	}
	to.URL = at.String()
	l := &loading{Bundle: b, to: &to, from: from, push: push, say: say, dry: o.DryRun}
	l.images, _ = push.(imagePusher)
	if err := l.plan(ctx); err != nil {
		return nil, fmt.Errorf("nothing is pushed to %s:\n%w", to.URL, err)
	}
	if !o.DryRun {
		if err := b.walk(func(f File, data []byte) error { return l.file(ctx, f, data) }); err != nil {
			return nil, err
		}
		if err := l.check(ctx); err != nil {
			return nil, err
		}
	}
	return l.localized(o), nil
}

// loading is a bundle on its way to a target.
type loading struct {
	*Bundle
	to   *Target
	from registry.Registry
	push pusher
	// images is push, where it takes them; else nil.
	images imagePusher
	say    Say

	dry bool

	jobs  []*job
	files map[string][]*job // those that need it, by path
}

// job is a chart to be there. It needs its files, which come one after the other.
type job struct {
	Chart
	there         bool              // before we came
	data          map[string][]byte // of its files, by digest
	awaited, here int               // files
}

// pin is the digest that the target has to have: of the manifest, where that is kept.
func (c *Chart) pin() string {
	if c.Image != nil {
		return c.Image.Digest
	}
	return c.Digest
}

// plan looks what is there, and refuses what cannot be.
func (l *loading) plan(ctx context.Context) error {
	errs := l.unproved()
	byName := map[string]*job{}
	for _, c := range l.Charts {
		if l.images == nil {
			c.Image = nil
		}
		name := c.Name + " " + c.Version
		had := byName[name]
		switch {
		case had == nil:
			byName[name] = &job{Chart: c}
			l.jobs = append(l.jobs, byName[name])
		case had.Digest != c.Digest:
			errs = append(errs, fmt.Errorf("%s is in the bundle twice, from %s and from %s, and they differ: one repository cannot hold both, so save and load the groups one by one", &c, had.URL, c.URL))
		case had.Image != nil && c.Image != nil && had.Image.Digest != c.Image.Digest:
			errs = append(errs, fmt.Errorf("%s is in the bundle with two signed manifests, from %s and from %s: one tag cannot stand for both, so save and load the groups one by one", &c, had.URL, c.URL))
		default:
			had.Provenance, had.Image = cmp.Or(had.Provenance, c.Provenance), cmp.Or(had.Image, c.Image)
		}
	}
	if len(errs) > 0 {
		return errors.Join(errs...)
	}
	l.files = map[string][]*job{}
	for _, j := range l.jobs {
		digest, err := l.digest(ctx, j)
		switch {
		case refusal.Reason(err) == v1alpha1.ReasonAuthenticationFailed:
			return fmt.Errorf("%w; here those are --username and --password-stdin, or --token-stdin", err)
		case err != nil:
			return fmt.Errorf("looking for %s: %w", &j.Chart, err)
		case digest != "" && digest != j.pin():
			errs = append(errs, fmt.Errorf("%s is there with digest %s, and the bundle has %s: nothing is overwritten, so delete that, or load to another URL", &j.Chart, digest, j.pin()))
		case j.Image != nil:
			if err := errors.Join(j.Image.proves(j.Provenance), l.images.Fits(ctx, j.Name, j.Image)); err != nil {
				errs = append(errs, fmt.Errorf("%s: %w", &j.Chart, err))
			}
		}
		j.there = digest != ""
		l.await(j)
	}
	return errors.Join(errs...)
}

// unproved are the charts that ask for a signature where there can be none.
func (l *loading) unproved() (errs []error) {
	for _, entry := range l.Groups {
		for i, app := range l.groups[entry.Name].Spec.Applications {
			if v := app.Spec.Chart.Verify; v == nil || v.Provider != v1alpha1.VerifyCosign {
				continue
			}
			who := fmt.Sprintf("group %s, application %s", entry.Name, app.Name)
			if l.images != nil {
				if l.Charts[entry.Applications[i].Chart].Image == nil {
					errs = append(errs, fmt.Errorf("%s: chart.verify asks for a signature of cosign, and there is none in the bundle: save it again", who))
				}
				continue
			}
			errs = append(errs, fmt.Errorf("%s: chart.verify asks for a signature of cosign, and those are in OCI registries only: load to an oci:// URL, or take it out of the group and save that again", who))
		}
	}
	return errs
}

// await the files that the chart needs.
func (l *loading) await(j *job) {
	files := j.Image.files()
	if !j.there {
		files = append(files, j.File)
	}
	if j.Provenance != nil {
		files = append(files, *j.Provenance)
	}
	for _, f := range files {
		l.files[f.Path] = append(l.files[f.Path], j)
	}
	j.awaited, j.data = len(files), map[string][]byte{}
	switch {
	case j.awaited == 0:
		l.say("%s is there", &j.Chart)
	case l.dry && !j.there:
		l.say("%s (%s) would be pushed", &j.Chart, Bytes(j.Size))
	}
}

// digest of what the target has under the chart's name and version, as the stager will
// see it; empty where it has nothing.
func (l *loading) digest(ctx context.Context, j *job) (string, error) {
	found, err := l.to.has(ctx, l.from, j.Name, j.Version)
	if err != nil || found == nil {
		return "", err
	}
	switch {
	case j.Image != nil && found.Digest == j.Digest:
		return found.ManifestDigest, nil
	case found.Digest != "":
		return found.Digest, nil
	}
	data, err := l.from.Fetch(ctx, found) // an index need not promise anything
	if err != nil {
		return "", err
	}
	return archive.Digest(data), nil
}

// file of the bundle, as it is read. A chart is pushed when all its files are here.
func (l *loading) file(ctx context.Context, f File, data []byte) error {
	for _, j := range l.files[f.Path] {
		j.data[f.Digest] = data
		if j.here++; j.here < j.awaited {
			continue
		}
		if err := l.deliver(ctx, j); err != nil {
			return fmt.Errorf("pushing %s to %s: %w", &j.Chart, l.to.URL, err)
		}
		j.data = nil
	}
	return nil
}

func (l *loading) deliver(ctx context.Context, j *job) error {
	if j.Image != nil {
		return l.image(ctx, j)
	}
	meta := l.meta[j.Path]
	var proof []byte
	if j.Provenance != nil {
		proof = j.data[j.Provenance.Digest]
	}
	if !j.there {
		if err := l.push.Push(ctx, meta, j.data[j.Digest], proof); err != nil {
			return err
		}
		l.say("pushed %s (%s)", &j.Chart, Bytes(j.Size))
		return nil
	}
	found, err := l.to.has(ctx, l.from, j.Name, j.Version)
	if err != nil {
		return err
	}
	if found != nil {
		if has, err := l.from.Provenance(ctx, found); err == nil && bytes.Equal(has, proof) {
			l.say("%s is there, with its provenance", &j.Chart)
			return nil
		}
	}
	if err := l.push.PushProvenance(ctx, meta, nil, proof); err != nil {
		return err
	}
	l.say("pushed the provenance of %s", &j.Chart)
	return nil
}

// image of a chart, which has the provenance in it if it has any.
func (l *loading) image(ctx context.Context, j *job) error {
	if err := l.images.PushImage(ctx, j.Name, j.Version, j.Image, j.data); err != nil {
		return err
	}
	if j.there {
		l.say("%s is there, with its signatures", &j.Chart)
	} else {
		l.say("pushed %s (%s) with its signatures", &j.Chart, Bytes(j.Size))
	}
	return nil
}

// check that all is there now, as the stager will see it.
func (l *loading) check(ctx context.Context) error {
	var errs []error
	for _, j := range l.jobs {
		switch digest, err := l.digest(ctx, j); {
		case err != nil:
			errs = append(errs, fmt.Errorf("looking for %s: %w", &j.Chart, err))
		case digest == "":
			errs = append(errs, fmt.Errorf("%s was pushed to %s, and is not found there", &j.Chart, l.to.URL))
		case digest != j.pin():
			errs = append(errs, fmt.Errorf("%s was pushed to %s with digest %s, and is there with %s: somebody else pushed too", &j.Chart, l.to.URL, j.pin(), digest))
		}
	}
	return errors.Join(errs...)
}

// localized are the groups with the target's charts: versions exact, digests pinned.
func (l *loading) localized(o LoadOptions) []*v1alpha1.ApplicationGroup {
	var out []*v1alpha1.ApplicationGroup
	for _, entry := range l.Groups {
		g := l.groups[entry.Name].DeepCopy()
		for i := range g.Spec.Applications {
			c := &l.Charts[entry.Applications[i].Chart]
			spec := &g.Spec.Applications[i].Spec.Chart
			spec.URL, spec.Name, spec.Version, spec.Digest = l.to.URL, c.Name, c.Version, c.Digest
			if l.images != nil {
				spec.Digest = c.pin()
			}
			spec.AuthSecretRef = o.AuthSecretRef.DeepCopy()
		}
		out = append(out, g)
	}
	return out
}
