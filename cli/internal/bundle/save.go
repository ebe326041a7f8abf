package bundle

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"

	"orkestra.dev/api/v1alpha1"
	"orkestra.dev/services/stager/archive"
	"orkestra.dev/services/stager/registry"
	"orkestra.dev/services/stager/verify"
)

// parallel is how many charts are fetched at a time.
const parallel = 8

// Say tells the user, in a line, how far it is.
type Say func(format string, args ...any)

// Request is a group to save.
type Request struct {
	Group *v1alpha1.ApplicationGroup
	// Refs of the group's applications, in their order, with credentials.
	Refs []registry.Ref
	// Keys to verify their charts with, in their order: the data of the Secrets that
	// chart.verify names. Nil where that is not at hand.
	Keys []map[string][]byte
}

// Save resolves and fetches the charts of groups and writes them, with the groups, to
// the file at path. Charts whose keys are at hand are verified. What is in a Secret is
// not saved, and neither is what is secret in a URL.
func Save(ctx context.Context, path string, requests []Request, from registry.Registry, say Say) (*Index, error) {
	dir, err := os.MkdirTemp("", "orkestra-bundle-")
	if err != nil {
		return nil, fmt.Errorf("making a folder for charts: %w", err)
	}
	defer os.RemoveAll(dir)
	s := &saving{from: from, say: say, spool: spool(dir), wanted: map[want]*wanted{}}
	s.requests = slices.SortedFunc(slices.Values(requests), func(a, b Request) int { return cmp.Compare(a.Group.Name, b.Group.Name) })
	for _, r := range s.requests {
		for i := range r.Group.Spec.Applications {
			s.want(r, i)
		}
	}
	if err := s.fetch(ctx); err != nil {
		return nil, err
	}
	x, err := s.index()
	if err != nil {
		return nil, err
	}
	return x, writeFile(path, x, s.spool.get)
}

// want is a chart that is asked for.
type want struct {
	ref            registry.Ref
	prov, cosigned bool
}

// wanted says who asks, and what was found.
type wanted struct {
	askers []asker
	chart  Chart
}

// asker is an application, and how its chart is to prove who made it.
type asker struct {
	who    string
	verify *v1alpha1.ChartVerification
	keys   map[string][]byte
}

type saving struct {
	from     registry.Registry
	say      Say
	spool    spool
	requests []Request
	wanted   map[want]*wanted
	order    []want
}

func wantOf(r Request, i int) want {
	v := r.Group.Spec.Applications[i].Spec.Chart.Verify
	return want{r.Refs[i], v != nil && v.Provider == v1alpha1.VerifyProvenance, v != nil && v.Provider == v1alpha1.VerifyCosign}
}

func (s *saving) want(r Request, i int) {
	app := &r.Group.Spec.Applications[i]
	key := wantOf(r, i)
	if s.wanted[key] == nil {
		s.wanted[key] = &wanted{}
		s.order = append(s.order, key)
	}
	a := asker{fmt.Sprintf("group %s, application %s", r.Group.Name, app.Name), app.Spec.Chart.Verify, r.Keys[i]}
	s.wanted[key].askers = append(s.wanted[key].askers, a)
	if a.verify != nil && a.keys == nil {
		s.say("warning: %s: the chart is not verified, because Secret %s is not at hand: give its manifest with -f too", a.who, a.verify.SecretRef.Name)
	}
}

func (s *saving) fetch(ctx context.Context) error {
	errs := make([]error, len(s.order))
	slots := make(chan struct{}, parallel)
	var saying sync.Mutex
	var wg sync.WaitGroup
	for i, key := range s.order {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			w := s.wanted[key]
			if err := s.one(ctx, key, w); err != nil {
				errs[i] = fmt.Errorf("%s: %w", w.askers[0].who, err)
				return
			}
			saying.Lock()
			defer saying.Unlock()
			s.say("fetched %s %s (%s) from %s", w.chart.Name, w.chart.Version, Bytes(w.chart.Size), w.chart.URL)
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

func (s *saving) one(ctx context.Context, key want, w *wanted) error {
	found, err := s.from.Resolve(ctx, key.ref)
	if err != nil {
		return err
	}
	data, err := s.from.Fetch(ctx, found)
	if err != nil {
		return err
	}
	meta, err := metadata(data)
	if err != nil {
		return fmt.Errorf("chart %s %s: %w", found.Name, found.Version, err)
	}
	digest := archive.Digest(data)
	w.chart = Chart{
		URL: location(key.ref.URL), Name: meta.Name, Version: meta.Version,
		RequestedVersion: key.ref.Version, RequestedDigest: key.ref.Digest,
		File: fileOf(archivePath(meta.Name, meta.Version, digest), data),
	}
	var proof verify.Proof
	if key.prov {
		if proof.Provenance, err = s.from.Provenance(ctx, found); err != nil {
			return err
		}
		p := fileOf(provenancePath(meta.Name, meta.Version, digest, archive.Digest(proof.Provenance)), proof.Provenance)
		w.chart.Provenance = &p
		if err := s.spool.put(p.Digest, proof.Provenance); err != nil {
			return err
		}
	}
	if key.cosigned {
		if proof.Signatures, err = s.signatures(ctx, found, &w.chart); err != nil {
			return err
		}
	}
	chart := verify.Chart{Archive: data, Name: found.Name, Version: found.Version, ManifestDigest: found.ManifestDigest}
	for _, a := range w.askers {
		if a.verify == nil || a.keys == nil {
			continue
		}
		if err := verify.Check(*a.verify, a.keys, chart, proof, time.Now()); err != nil {
			return err
		}
	}
	return s.spool.put(w.chart.Digest, data)
}

// signatures of a chart, which it keeps with the manifest that they are of.
func (s *saving) signatures(ctx context.Context, found *registry.Resolved, c *Chart) ([]verify.Signature, error) {
	signatures, err := s.from.Signatures(ctx, found)
	if err != nil {
		return nil, err
	}
	var out []verify.Signature
	for _, one := range signatures {
		out = append(out, verify.Signature(one))
	}
	original, err := s.from.Original(ctx, found)
	if err != nil {
		return nil, err
	}
	c.Image = imageOf(found.ManifestDigest, c.Digest, original)
	for _, m := range original.Manifests {
		if err := s.spool.put(m.Digest, m.Data); err != nil {
			return nil, err
		}
	}
	for d, data := range original.Blobs {
		if err := s.spool.put(d, data); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// index of what was fetched, in an order that does not depend on when.
func (s *saving) index() (*Index, error) {
	x := &Index{FormatVersion: FormatVersion}
	compare := func(a, b want) int {
		return cmp.Or(cmp.Compare(a.ref.URL, b.ref.URL), cmp.Compare(a.ref.Name, b.ref.Name), cmp.Compare(a.ref.Version, b.ref.Version),
			cmp.Compare(a.ref.Digest, b.ref.Digest), cmp.Compare(s.wanted[a].askers[0].who, s.wanted[b].askers[0].who))
	}
	number := map[want]int{}
	for i, key := range slices.SortedFunc(slices.Values(s.order), compare) {
		number[key] = i
		x.Charts = append(x.Charts, s.wanted[key].chart)
	}
	for _, r := range s.requests {
		g := r.Group
		data, err := Manifest(withoutSecrets(g))
		if err != nil {
			return nil, err
		}
		out := Group{Name: g.Name, File: fileOf(manifestPath(g.Name), data)}
		for i := range g.Spec.Applications {
			out.Applications = append(out.Applications, Application{g.Spec.Applications[i].Name, number[wantOf(r, i)]})
		}
		if err := s.spool.put(out.Digest, data); err != nil {
			return nil, err
		}
		x.Groups = append(x.Groups, out)
	}
	return x, nil
}

// withoutSecrets is the group without what may be secret in the URLs of charts.
func withoutSecrets(g *v1alpha1.ApplicationGroup) *v1alpha1.ApplicationGroup {
	g = g.DeepCopy()
	for i := range g.Spec.Applications {
		chart := &g.Spec.Applications[i].Spec.Chart
		chart.URL = location(chart.URL)
	}
	return g
}

// Manifest of a group in YAML: what its user says, without what a cluster has added.
func Manifest(g *v1alpha1.ApplicationGroup) ([]byte, error) {
	g = g.DeepCopy()
	meta := map[string]any{"name": g.Name}
	if len(g.Labels) > 0 {
		meta["labels"] = g.Labels
	}
	delete(g.Annotations, corev1.LastAppliedConfigAnnotation)
	if len(g.Annotations) > 0 {
		meta["annotations"] = g.Annotations
	}
	data, err := yaml.Marshal(map[string]any{
		"apiVersion": v1alpha1.GroupVersion.String(), "kind": v1alpha1.Kind, "metadata": meta, "spec": g.Spec,
	})
	if err != nil {
		return nil, fmt.Errorf("encoding group %s: %w", g.Name, err)
	}
	return data, nil
}

// spool keeps files by digest until the bundle is written.
type spool string

func (s spool) path(digest string) string {
	return filepath.Join(string(s), strings.TrimPrefix(digest, "sha256:"))
}

func (s spool) put(digest string, data []byte) error {
	if err := os.WriteFile(s.path(digest), data, 0o600); err != nil {
		return fmt.Errorf("keeping a chart: %w", err)
	}
	return nil
}

func (s spool) get(f File) ([]byte, error) {
	data, err := os.ReadFile(s.path(f.Digest))
	if err != nil {
		return nil, fmt.Errorf("reading a chart back: %w", err)
	}
	return data, nil
}

// Bytes is a size, for people.
func Bytes(n int64) string {
	switch {
	case n < 1<<10:
		return fmt.Sprintf("%d B", n)
	case n < 1<<20:
		return fmt.Sprintf("%.1f KiB", float64(n)/(1<<10))
	default:
		return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
	}
}
