package registry

import (
	"context"
	"crypto/x509"
	"errors"
	"net/http"
	"net/url"

	"orkestra.dev/api/v1alpha1"
	"orkestra.dev/services/stager/refusal"
)

// unreachable sorts out why there is no response.
func unreachable(ctx context.Context, at *url.URL, err error) error {
	if f, ok := errors.AsType[*forbidden](err); ok {
		return refusal.Becausef(v1alpha1.ReasonRepositoryRefused, "%s: %w", at.Redacted(), f)
	}
	if w, ok := errors.AsType[*unwelcome](err); ok {
		return refusal.Becausef(v1alpha1.ReasonAuthenticationFailed, "%s: %w; name a Secret that has them in authSecretRef", at.Redacted(), w)
	}
	if errors.Is(context.Cause(ctx), context.Canceled) {
		return context.Canceled // we are told to stop; the repository is not to blame
	}
	hint := ""
	if _, ok := errors.AsType[x509.UnknownAuthorityError](err); ok {
		hint = "; the key ca.crt of the Secret in authSecretRef makes a private CA trusted"
	}
	return refusal.Becausef(v1alpha1.ReasonRepositoryUnreachable, "fetching %s: %w%s", at.Redacted(), cause(err), hint)
}

// cause of an HTTP client's error, without the URL that it repeats.
func cause(err error) error {
	if e, ok := errors.AsType[*url.Error](err); ok {
		return e.Err
	}
	return err
}

// status sorts out a response that is no success.
func status(code int, at *url.URL, what string) error {
	reason, hint := v1alpha1.ReasonRepositoryUnreachable, ""
	switch code {
	case http.StatusUnauthorized, http.StatusForbidden:
		reason, hint = v1alpha1.ReasonAuthenticationFailed, "; check the Secret in authSecretRef"
	case http.StatusNotFound, http.StatusGone:
		reason, hint = v1alpha1.ReasonChartNotFound, "; check chart.url"
	}
	return refusal.Becausef(reason, "fetching %s from %s: the server answered %d %s%s", what, at.Redacted(), code, http.StatusText(code), hint)
}

func tooLarge(what string, limit int64) error {
	return refusal.Becausef(v1alpha1.ReasonRepositoryRefused, "%s is larger than %d bytes", what, limit)
}
