package sebsformat

import "slices"

// Redacted stands in written files where a secret would be.
const Redacted = "[REDACTED]"

// secretKeys are the keys of SeBS configuration blocks whose values are secrets.
var secretKeys = []string{
	"access_key", "secret_key", "password", "docker_password", "connection_string", "credential", "credentials-json",
	"session_token", "token", "client_secret", "private_key",
}

// accountKeys are what may be written of a credentials object: they identify the account and open nothing.
var accountKeys = []string{"account_id", "subscription_id", "project_id"}

// Redact returns a copy of a configuration tree without secrets: values under secret keys become [REDACTED], and of a credentials
// object only the account, subscription or project id remains. Empty values stay empty, because they say that nothing was set.
func Redact(tree map[string]any) map[string]any {
	out := make(map[string]any, len(tree))
	for key, value := range tree {
		out[key] = redactValue(key, value)
	}
	return out
}

func redactValue(key string, value any) any {
	if key == "credentials" {
		object, ok := value.(map[string]any)
		if !ok {
			return redactScalar(value)
		}
		kept := make(map[string]any)
		for k, v := range object {
			if slices.Contains(accountKeys, k) {
				kept[k] = v
			}
		}
		return kept
	}
	if slices.Contains(secretKeys, key) {
		return redactScalar(value)
	}
	switch value := value.(type) {
	case map[string]any:
		return Redact(value)
	case []any:
		out := make([]any, len(value))
		for i, e := range value {
			out[i] = redactValue("", e)
		}
		return out
	default:
		return value
	}
}

func redactScalar(value any) any {
	if value == nil || value == "" {
		return value
	}
	return Redacted
}
