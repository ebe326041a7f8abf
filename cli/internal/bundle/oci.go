package bundle

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"

	"helm.sh/helm/v3/pkg/chart"
	helmregistry "helm.sh/helm/v3/pkg/registry"
	"oras.land/oras-go/v2/registry/remote/auth"
)

// ociTarget is an OCI registry. Helm itself pushes to it, so that Helm can pull.
type ociTarget struct {
	*Target
	at *url.URL
}

// created is the time in the manifests that are pushed, which Helm would take from the
// clock: the same chart is the same manifest, whoever loads it, and a signature of one
// holds for all.
const created = "1970-01-01T00:00:00Z"

// Push never finds a chart there: a tag may be moved, and who asks has just looked.
func (o *ociTarget) Push(_ context.Context, meta *chart.Metadata, archive, provenance []byte) error {
	options := []helmregistry.ClientOption{helmregistry.ClientOptWriter(io.Discard), helmregistry.ClientOptAuthorizer(o.authorizer())}
	if o.plain(o.at.Host) {
		options = append(options, helmregistry.ClientOptPlainHTTP())
	}
	client, err := helmregistry.NewClient(options...)
	if err != nil {
		return fmt.Errorf("making a client for OCI registries: %w", err)
	}
	push := []helmregistry.PushOption{helmregistry.PushOptCreationTime(created)}
	if provenance != nil {
		push = append(push, helmregistry.PushOptProvData(provenance))
	}
	_, err = client.Push(archive, o.at.Host+o.at.Path+"/"+meta.Name+":"+meta.Version, push...)
	return err
}

// authorizer shows the login to the registry, and to none else.
func (o *ociTarget) authorizer() auth.Client {
	return auth.Client{
		Client: o.http,
		Cache:  auth.NewCache(),
		Credential: auth.StaticCredential(o.at.Host, auth.Credential{
			Username: o.Login.Username, Password: o.Login.Password, AccessToken: o.Login.Token,
		}),
	}
}

// PushProvenance cannot add to a manifest: it would be another.
func (o *ociTarget) PushProvenance(context.Context, *chart.Metadata, []byte, []byte) error {
	return errors.New("it holds the chart without this provenance, or with another: delete the tag, or load to another URL")
}
