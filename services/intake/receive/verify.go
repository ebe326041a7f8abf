package receive

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"net/http"
	"strings"
)

const (
	headerSignature     = "X-Signature-256"
	headerAuthorization = "Authorization"
)

// signed wants the HMAC-SHA256 of the body under the token: sha256=<hex>.
func signed(name string) func(request) error {
	return func(r request) error {
		value := r.header.Get(name)
		if value == "" {
			return refuse(http.StatusUnauthorized, "the header %s is missing: sha256=<hex of the HMAC-SHA256 of the body under the token>", name)
		}
		sent, err := hex.DecodeString(strings.TrimPrefix(value, "sha256="))
		mac := hmac.New(sha256.New, r.token)
		mac.Write(r.body)
		if err != nil || !strings.HasPrefix(value, "sha256=") || !hmac.Equal(sent, mac.Sum(nil)) {
			return refuse(http.StatusUnauthorized, "the signature in %s does not match", name)
		}
		return nil
	}
}

// gitlabToken is compared as it is: GitLab signs nothing with it.
func gitlabToken(r request) error {
	return r.holds("X-Gitlab-Token", r.header.Get("X-Gitlab-Token"))
}

// authorized wants the token in Authorization, as it is or as a bearer's.
func authorized(r request) error {
	value := r.header.Get(headerAuthorization)
	if scheme, token, ok := strings.Cut(value, " "); ok && strings.EqualFold(scheme, "Bearer") {
		value = strings.TrimSpace(token)
	}
	return r.holds(headerAuthorization, value)
}

// holds compares what a header says with the token, in constant time.
func (r request) holds(name, value string) error {
	if value == "" {
		return refuse(http.StatusUnauthorized, "the header %s with the token is missing", name)
	}
	sent, want := sha256.Sum256([]byte(value)), sha256.Sum256(r.token)
	if subtle.ConstantTimeCompare(sent[:], want[:]) != 1 {
		return refuse(http.StatusUnauthorized, "the token in %s does not match", name)
	}
	return nil
}

// signedOrAuthorized: by signature where there is one, else by token.
func signedOrAuthorized(r request) error {
	switch {
	case r.header.Get(headerSignature) != "":
		return signed(headerSignature)(r)
	case r.header.Get(headerAuthorization) != "":
		return authorized(r)
	}
	return refuse(http.StatusUnauthorized, "sign the body in %s, or send the token in %s", headerSignature, headerAuthorization)
}

// pathOnly: who found the path is who was told it.
func pathOnly(request) error { return nil }
