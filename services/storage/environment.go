package storage

import (
	"context"
	"fmt"
	"net"
	"strconv"
	"strings"

	typev1 "github.com/sebs-suite/sebs/gen/go/sebs/type/v1"
)

// variable is one variable of a function's environment.
type variable struct {
	name, value string
	secret      bool
}

// functionEnvironment returns what a function needs to reach the deployment's benchmarks bucket and the benchmark's
// tables. storeHost is the address under which the function sees this machine; "" is loopback. Keys are those of the
// functions' own account.
func (s *Service) functionEnvironment(ctx context.Context, d deployment, benchmark, storeHost string, usesObjects, usesTables bool) ([]variable, error) {
	var out []variable
	if usesObjects {
		vars, err := s.objectEnvironment(ctx, d, storeHost)
		if err != nil {
			return nil, err
		}
		out = append(out, vars...)
	}
	if usesTables {
		vars, err := s.tableEnvironment(ctx, d, benchmark, storeHost)
		if err != nil {
			return nil, err
		}
		out = append(out, vars...)
	}
	return out, nil
}

func (s *Service) objectEnvironment(ctx context.Context, d deployment, storeHost string) ([]variable, error) {
	_, o, err := s.objects(ctx, d)
	if err != nil {
		return nil, err
	}
	if o.Grant == nil {
		return nil, nil
	}
	bucket, err := s.ensureBucket(ctx, d, typev1.BucketRole_BUCKET_ROLE_BENCHMARKS)
	if err != nil {
		return nil, err
	}
	account, err := o.Grant(ctx, d.id, bucket.Name)
	if err != nil {
		return nil, fmt.Errorf("give the functions of deployment %s access to bucket %s: %w", d.id, bucket.Name, err)
	}
	address := hostPort(o.Endpoint)
	if o.Embedded {
		address, err = s.reach(relayKey{Kind: relayObjects, Host: storeHost}, address, s.objectTarget(d))
		if err != nil {
			return nil, err
		}
	}
	return []variable{
		{name: "MINIO_ADDRESS", value: address},
		{name: "MINIO_ACCESS_KEY", value: account.AccessKey},
		{name: "MINIO_SECRET_KEY", value: account.SecretKey.Reveal(), secret: true},
	}, nil
}

func (s *Service) tableEnvironment(ctx context.Context, d deployment, benchmark, storeHost string) ([]variable, error) {
	_, t, err := s.tables(ctx, d)
	if err != nil {
		return nil, err
	}
	tables, err := s.listTables(ctx, d, benchmark)
	if err != nil {
		return nil, err
	}
	out, err := s.tableStoreEnvironment(d, t, storeHost)
	if err != nil {
		return nil, err
	}
	for _, table := range tables {
		out = append(out, variable{name: "NOSQL_STORAGE_TABLE_" + table.logical, value: table.Table})
	}
	return out, nil
}

// tableStoreEnvironment tells functions where the table store is, unless they know.
func (s *Service) tableStoreEnvironment(d deployment, t *Tables, storeHost string) ([]variable, error) {
	if t.FunctionType == "" {
		return nil, nil
	}
	address := hostPort(t.Endpoint)
	if t.Embedded {
		if storeHost == "" {
			storeHost = "127.0.0.1"
		}
		var err error
		address, err = s.reach(relayKey{Kind: relayTables, Host: storeHost, Deployment: d.id}, address, s.tableTarget(d))
		if err != nil {
			return nil, err
		}
	}
	return []variable{
		{name: "NOSQL_STORAGE_TYPE", value: t.FunctionType},
		{name: "NOSQL_STORAGE_ENDPOINT", value: address},
	}, nil
}

// reach returns the address under which a function sees a store that listens on this machine's loopback. A host name
// in place of an address is one that leads to this machine's loopback by itself, as Docker Desktop's does.
func (s *Service) reach(key relayKey, address string, t target) (string, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return "", fmt.Errorf("store address %q: %w", address, err)
	}
	if key.Host == "" {
		return address, nil
	}
	named := net.ParseIP(key.Host) == nil
	outside := key.Host
	if named {
		key.Host = "127.0.0.1"
	}
	if key.Kind == relayObjects && key.Host == host {
		return net.JoinHostPort(outside, port), nil
	}
	preferred := 0
	if key.Kind == relayObjects {
		// The same port as on loopback, where it is free.
		if preferred, err = strconv.Atoi(port); err != nil {
			return "", fmt.Errorf("store address %q: %w", address, err)
		}
	}
	relayed, err := s.relays.expose(key, preferred, t)
	if err != nil || !named {
		return relayed, err
	}
	_, port, err = net.SplitHostPort(relayed)
	return net.JoinHostPort(outside, port), err
}

func (s *Service) objectTarget(d deployment) target {
	return func(ctx context.Context) (string, error) {
		_, o, err := s.objects(ctx, d)
		if err != nil {
			return "", err
		}
		return hostPort(o.Endpoint), nil
	}
}

func (s *Service) tableTarget(d deployment) target {
	return func(ctx context.Context) (string, error) {
		_, t, err := s.tables(ctx, d)
		if err != nil {
			return "", err
		}
		return hostPort(t.Endpoint), nil
	}
}

// Restore opens the relays of the last run again and keeps their ports in a file from now on. The stores that the
// suite runs itself serve the platform "local".
func (s *Service) Restore(file string) error {
	local := deployment{platform: "local", id: anyDeployment}
	return s.relays.restore(file, func(kind string) target {
		switch kind {
		case relayObjects:
			return s.objectTarget(local)
		case relayTables:
			return s.tableTarget(local)
		}
		return nil
	})
}

// hostPort strips the scheme of an endpoint: the clients in functions want none.
func hostPort(endpoint string) string {
	if _, rest, ok := strings.Cut(endpoint, "://"); ok {
		return strings.TrimSuffix(rest, "/")
	}
	return endpoint
}
