package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/pflag"

	typev1 "github.com/sebs-suite/sebs/gen/go/sebs/type/v1"
	"github.com/sebs-suite/sebs/internal/authn"
	"github.com/sebs-suite/sebs/internal/cache"
)

// tokenTimeout bounds making a token.
const tokenTimeout = 15 * time.Second

// tokenCommand answers "token create": it makes a token straight in etcd, whose access is what proves the right to do so.
// This is how the first token of a suite that asks for tokens comes about.
func tokenCommand(name string, rest []string, source *Source, out, problems io.Writer) int {
	flags := pflag.NewFlagSet(name+" token create", pflag.ContinueOnError)
	flags.SetOutput(problems)
	role := flags.String("role", "admin", "viewer, operator or admin")
	description := flags.String("description", "made at the command line", "what the token is for")
	ttl := flags.Duration("ttl", 0, "how long it is good for; 0 means for ever")
	if len(rest) < 2 || rest[1] != "create" {
		_, _ = fmt.Fprintf(problems, "%s: unknown command %q; use token create\n", name, strings.Join(rest, " "))
		return exitUsage
	}
	if err := flags.Parse(rest[2:]); err != nil {
		if errors.Is(err, pflag.ErrHelp) {
			return exitOK
		}
		_, _ = fmt.Fprintf(problems, "%s: %v\n", name, err)
		return exitUsage
	}
	value, known := typev1.Role_value["ROLE_"+strings.ToUpper(*role)]
	if !known || value == 0 || flags.NArg() > 0 || *ttl < 0 {
		_, _ = fmt.Fprintf(problems, "%s: --role is viewer, operator or admin, --ttl is not negative, and nothing else is taken\n", name)
		return exitUsage
	}
	text, err := createToken(name, source, *description, typev1.Role(value), *ttl)
	if err != nil {
		_, _ = fmt.Fprintf(problems, "%s: %v\n", name, err)
		return exitFailed
	}
	_, _ = fmt.Fprintln(out, text)
	return exitOK
}

// createToken returns the text of a new token, which is shown this once.
func createToken(name string, source *Source, description string, role typev1.Role, ttl time.Duration) (string, error) {
	cfg := DefaultConfig(name)
	if err := errors.Join(source.Decode("", &cfg), cfg.Validate()); err != nil {
		return "", err
	}
	store, err := openCache(cfg.Etcd)
	if err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(context.Background(), tokenTimeout)
	defer cancel()
	_, text, err := authn.NewTokens(store).Create(ctx, description, role, ttl)
	if cerr := store.Close(ctx); err == nil {
		err = cerr
	}
	if err != nil {
		return "", err
	}
	return text.Reveal(), nil
}

func openCache(cfg EtcdConfig) (*cache.Store, error) {
	tlsConfig, err := clientTLS(cfg.CAFile, cfg.CertFile, cfg.KeyFile)
	if err != nil {
		return nil, fmt.Errorf("etcd: %w", err)
	}
	return cache.Open(cache.Config{Endpoints: cfg.Endpoints, TLS: tlsConfig, Username: cfg.Username, Password: cfg.Password})
}
