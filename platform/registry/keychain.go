package registry

import (
	"context"
	"net"
	"strings"

	"github.com/google/go-containerregistry/pkg/authn"

	"github.com/sebs-suite/sebs/internal/credentials"
	"github.com/sebs-suite/sebs/internal/errs"
)

// Platform is the platform under which the credentials of registries are kept. A credential has the keys `registry` (the
// host, with its port), `username` and `password`.
const Platform = "registry"

// Keychain finds the log-in of a registry.
type Keychain struct {
	resolver     *credentials.Resolver
	credential   string
	dockerConfig bool
}

// NewKeychain returns a keychain that looks into the named credential (empty is the default one) and, when dockerConfig is
// set, into the configuration file of the docker command. A registry that neither knows is asked without a log-in.
func NewKeychain(resolver *credentials.Resolver, credential string, dockerConfig bool) *Keychain {
	return &Keychain{resolver: resolver, credential: credential, dockerConfig: dockerConfig}
}

// Resolve implements authn.Keychain.
func (k *Keychain) Resolve(target authn.Resource) (authn.Authenticator, error) {
	username, password, err := k.Login(context.Background(), target.RegistryStr())
	if err != nil {
		return nil, err
	}
	if username != "" {
		return &authn.Basic{Username: username, Password: password}, nil
	}
	if k.dockerConfig {
		return authn.DefaultKeychain.Resolve(target)
	}
	return authn.Anonymous, nil
}

// Login returns user and password of the suite's credential for a registry; empty when it has none for that one. A
// credential is for the registry that it names and goes to no other, whoever names that.
func (k *Keychain) Login(_ context.Context, host string) (username, password string, err error) {
	set, err := k.resolver.Resolve(Platform, k.credential)
	if errs.Reason(err) == credentials.ReasonNotOnService && (k.credential == "" || k.credential == credentials.Default) {
		return "", "", nil
	}
	if err != nil {
		return "", "", err
	}
	registry, err := set.Require("registry")
	if err != nil {
		return "", "", err
	}
	if canonical(registry.Reveal()) != canonical(host) {
		return "", "", nil
	}
	user, err := set.Require("username")
	if err != nil {
		return "", "", err
	}
	secret, err := set.Require("password")
	if err != nil {
		return "", "", err
	}
	return user.Reveal(), secret.Reveal(), nil
}

// canonical is the one form of a registry's name. Docker Hub has two: names of images begin with the first, the libraries
// ask for log-ins under the second.
func canonical(host string) string {
	host = strings.ToLower(host)
	if host == "docker.io" {
		return "index.docker.io"
	}
	return host
}

// IsLoopback tells whether a host, with or without a port, is this machine.
func IsLoopback(host string) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	host = strings.Trim(host, "[]")
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}
