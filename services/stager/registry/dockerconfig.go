package registry

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// dockerConfig is what we need of Docker's config.json.
type dockerConfig struct {
	Auths       map[string]dockerAuth `json:"auths"`
	CredsStore  string                `json:"credsStore"`
	CredHelpers map[string]string     `json:"credHelpers"`
}

type dockerAuth struct {
	Username      string `json:"username"`
	Password      string `json:"password"`
	Auth          string `json:"auth"` // base64 of username:password
	IdentityToken string `json:"identitytoken"`
	RegistryToken string `json:"registrytoken"`
}

func parseDockerConfig(data []byte) (*dockerConfig, error) {
	var c dockerConfig
	if err := json.Unmarshal(data, &c); err != nil {
		return nil, fmt.Errorf("key %s is not the JSON of a Docker configuration", keyDocker) // its error may quote a secret
	}
	for name, a := range c.Auths {
		if a.Auth == "" {
			continue
		}
		plain, err := base64.StdEncoding.DecodeString(a.Auth)
		user, password, ok := strings.Cut(string(plain), ":")
		if err != nil || !ok {
			return nil, fmt.Errorf("key %s: an auth in it is not the base64 of username:password", keyDocker)
		}
		a.Username, a.Password = user, strings.TrimRight(password, "\x00")
		c.Auths[name] = a
	}
	switch {
	case len(c.Auths) == 0 && c.helped(""):
		return nil, errHelper
	case len(c.Auths) == 0:
		return nil, fmt.Errorf("key %s has no auths", keyDocker)
	}
	return &c, nil
}

var errHelper = fmt.Errorf("key %s names a credential helper, a program that only the machine it was written on has: put username and password into its auths", keyDocker)

// helped tells whether a helper is to have the credentials of a host, or of any.
func (c *dockerConfig) helped(host string) bool {
	return c.CredsStore != "" || c.CredHelpers[host] != "" || host == "" && len(c.CredHelpers) > 0
}

// login for a repository, out of the entry that names the most of its path. An entry
// may be a host, or a URL, as Docker writes it.
func (c *dockerConfig) login(host, path string) (login, error) {
	path = strings.Trim(path, "/")
	best, matched := -1, dockerAuth{}
	for _, name := range slices.Sorted(maps.Keys(c.Auths)) {
		h, p := dockerName(name)
		within := p == "" || path == p || strings.HasPrefix(path, p+"/")
		if within && len(p) > best && dockerHost(h) == dockerHost(host) && c.Auths[name] != (dockerAuth{}) {
			best, matched = len(p), c.Auths[name]
		}
	}
	switch {
	case best < 0 && c.helped(host):
		return login{}, errHelper
	case best < 0:
		return login{}, fmt.Errorf("key %s has nothing in its auths for host %s", keyDocker, host)
	case matched.RegistryToken != "":
		return login{token: matched.RegistryToken}, nil
	case matched.IdentityToken != "":
		return login{refresh: matched.IdentityToken}, nil
	case matched.Username == "" || matched.Password == "":
		return login{}, errors.New("key " + keyDocker + " has no username or no password for host " + host)
	}
	return login{username: matched.Username, password: matched.Password}, nil
}

// dockerName is the host and the path of an entry, without the version of the API that
// old ones end with.
func dockerName(name string) (host, path string) {
	name = strings.TrimPrefix(strings.TrimPrefix(name, "https://"), "http://")
	host, path, _ = strings.Cut(name, "/")
	path = strings.Trim(path, "/")
	if path == "v1" || path == "v2" {
		path = ""
	}
	return host, path
}

// dockerHost is one of the names that Docker Hub has, for any of them.
func dockerHost(host string) string {
	host = strings.ToLower(host)
	switch host {
	case "index.docker.io", "registry-1.docker.io":
		return "docker.io"
	}
	return host
}
