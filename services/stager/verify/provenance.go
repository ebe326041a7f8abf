package verify

import (
	"bytes"
	"errors"
	"fmt"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/ProtonMail/go-crypto/openpgp/clearsign"
	pgperrors "github.com/ProtonMail/go-crypto/openpgp/errors"
	"github.com/ProtonMail/go-crypto/openpgp/packet"
	"helm.sh/helm/v3/pkg/provenance"
	"sigs.k8s.io/yaml"

	"orkestra.dev/services/stager/archive"
)

// provenanceOf is Helm's provenance.Signatory.Verify on values: that takes the names of
// files, and the time of day. The tests hold the two together.
func provenanceOf(chart Chart, prov []byte, entries []entry, now time.Time) error {
	ring, err := keyring(entries)
	if err != nil {
		return err
	}
	switch {
	case len(prov) == 0:
		return errors.New("there is no provenance beside it; sign it with helm package --sign, and put the .prov file beside the archive")
	case len(prov) > maxProvenance:
		return fmt.Errorf("its provenance has %d bytes, %d are allowed", len(prov), maxProvenance)
	}
	block, _ := clearsign.Decode(prov)
	if block == nil {
		return errors.New("its provenance holds no clear-signed message; make it anew with helm package --sign")
	}
	config := &packet.Config{Time: func() time.Time { return now }}
	if _, err := openpgp.CheckDetachedSignature(ring, bytes.NewReader(block.Bytes), block.ArmoredSignature.Body, config); err != nil {
		return pgpFault(err)
	}
	sums, err := sumsOf(block.Plaintext)
	if err != nil {
		return err
	}
	// The name in the provenance is the one that helm package gave the archive. A
	// repository may offer an old version as a new one: its name gives it away.
	name := chart.Name + "-" + chart.Version + ".tgz"
	promised, ok := sums.Files[name]
	switch got := archive.Digest(chart.Archive); {
	case !ok:
		return fmt.Errorf("its provenance is that of another chart or version: it does not speak of %s", name)
	case promised != got:
		return fmt.Errorf("its provenance promises %s for %s, and the archive has %s: one of them was changed, or belongs to another build", promised, name, got)
	}
	return nil
}

// sumsOf what is signed: the chart's metadata and the sums, two documents of YAML with
// the mark between them that a clear-signed message may hold.
func sumsOf(message []byte) (*provenance.SumCollection, error) {
	_, second, ok := bytes.Cut(message, []byte("\n...\n"))
	if !ok {
		return nil, errors.New("its provenance is signed, and is not one of Helm's: it has no sums")
	}
	second, _, _ = bytes.Cut(second, []byte("\n...\n"))
	sums := &provenance.SumCollection{}
	if err := yaml.Unmarshal(second, sums); err != nil {
		return nil, errors.New("its provenance is signed, and is not one of Helm's: its sums do not parse")
	}
	return sums, nil
}

// keyring of all entries, armored or binary.
func keyring(entries []entry) (openpgp.EntityList, error) {
	var ring openpgp.EntityList
	for _, e := range entries {
		keys, err := openPGPKeys(e.data)
		if err != nil || len(keys) == 0 {
			return nil, fmt.Errorf("entry %s is not an OpenPGP keyring; gpg --export writes one", e.name)
		}
		if ring = append(ring, keys...); len(ring) > maxKeys {
			return nil, fmt.Errorf("there are more than %d keys", maxKeys)
		}
	}
	return ring, nil
}

var armor = []byte("-----BEGIN PGP ")

// openPGPKeys reads one binary keyring, or armored ones, one after the other.
func openPGPKeys(data []byte) (openpgp.EntityList, error) {
	at := bytes.Index(data, armor)
	if at < 0 {
		return openpgp.ReadKeyRing(bytes.NewReader(data))
	}
	var out openpgp.EntityList
	for _, block := range bytes.Split(data[at+len(armor):], armor) {
		keys, err := openpgp.ReadArmoredKeyRing(bytes.NewReader(append(bytes.Clone(armor), block...)))
		if err != nil {
			return nil, err
		}
		out = append(out, keys...)
	}
	return out, nil
}

// pgpFault is what to do about a signature that does not hold.
func pgpFault(err error) error {
	switch {
	case errors.Is(err, pgperrors.ErrUnknownIssuer):
		return errors.New("its provenance is signed with another key; put the signer's public key into the Secret if it is to be trusted")
	case errors.Is(err, pgperrors.ErrKeyExpired):
		return errors.New("the key that signed its provenance has expired; put the key with its new term into the Secret, or have the chart signed with another")
	case errors.Is(err, pgperrors.ErrSignatureExpired):
		return errors.New("the signature of its provenance has expired; have the chart signed again")
	case errors.Is(err, pgperrors.ErrKeyRevoked):
		return errors.New("the key that signed its provenance was revoked; have the chart signed with another")
	default:
		return fmt.Errorf("the signature of its provenance does not hold: %w", err)
	}
}
