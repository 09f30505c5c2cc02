package awsstand

import (
	"crypto/rand"
	"maps"
	"slices"
	"sync"
)

// identity is who signs with a key.
type identity struct {
	accessKey, secret string
	// token goes with temporary keys; empty with those of a user.
	token string
	// role is the ARN of the role whose policies bound the key; empty means the owner of the account.
	role string
	// expired says that the key is no longer good.
	expired bool
}

// keyring knows the keys that the stand handed out.
type keyring struct {
	mu   sync.Mutex
	keys map[string]*identity
}

func newKeyring() *keyring { return &keyring{keys: make(map[string]*identity)} }

// issue makes a key. Those with the prefix ASIA are temporary and come with a token.
func (k *keyring) issue(prefix, role string) identity {
	id := identity{accessKey: prefix + rand.Text()[:16], secret: rand.Text() + rand.Text()[:14], role: role}
	if prefix == "ASIA" {
		id.token = "Fwo" + rand.Text() + rand.Text() + rand.Text()
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.keys[id.accessKey] = &id
	return id
}

func (k *keyring) find(accessKey string) (identity, bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	id, ok := k.keys[accessKey]
	if !ok {
		return identity{}, false
	}
	return *id, true
}

func (k *keyring) expire(accessKey string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if id, ok := k.keys[accessKey]; ok {
		id.expired = true
	}
}

// secrets lists every secret and token that was handed out.
func (k *keyring) secrets() []string {
	k.mu.Lock()
	defer k.mu.Unlock()
	var out []string
	for _, id := range k.keys {
		out = append(out, id.secret)
		if id.token != "" {
			out = append(out, id.token)
		}
	}
	return out
}

// Keys are temporary keys of the account.
type Keys struct{ AccessKey, SecretKey, SessionToken string }

// TemporaryKeys hands out keys that are good only together with their session token.
func (s *Stand) TemporaryKeys() Keys {
	id := s.keys.issue("ASIA", "")
	return Keys{AccessKey: id.accessKey, SecretKey: id.secret, SessionToken: id.token}
}

// ExpireKey makes every further request signed with the key fail with ExpiredToken.
func (s *Stand) ExpireKey(accessKey string) { s.keys.expire(accessKey) }

// Secrets lists all secret keys, session tokens and log-ins of the registry that the stand handed out, those of functions
// included, for searches in what a test left behind.
func (s *Stand) Secrets() []string {
	all := s.keys.secrets()
	if s.images != nil {
		s.images.mu.Lock()
		defer s.images.mu.Unlock()
		all = slices.AppendSeq(all, maps.Keys(s.images.tokens))
	}
	return all
}
