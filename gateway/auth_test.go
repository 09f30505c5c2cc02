package gateway_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/protobuf/types/known/durationpb"

	authv1 "github.com/sebs-suite/sebs/gen/go/sebs/auth/v1"
	deployerv1 "github.com/sebs-suite/sebs/gen/go/sebs/deployer/v1"
	experimentsv1 "github.com/sebs-suite/sebs/gen/go/sebs/experiments/v1"
	typev1 "github.com/sebs-suite/sebs/gen/go/sebs/type/v1"
	"github.com/sebs-suite/sebs/internal/app/apptest"
	"github.com/sebs-suite/sebs/internal/errs"
)

// tokens makes one token per role.
func (s *stand) tokens() map[typev1.Role]string {
	s.t.Helper()
	made := make(map[typev1.Role]string)
	for _, role := range []typev1.Role{typev1.Role_ROLE_VIEWER, typev1.Role_ROLE_OPERATOR, typev1.Role_ROLE_ADMIN} {
		_, text, err := s.Tokens.Create(s.t.Context(), "test", role, time.Hour)
		if err != nil {
			s.t.Fatal(err)
		}
		made[role] = text.Reveal()
	}
	return made
}

func TestRolesAreTheSameOnBothProtocols(t *testing.T) {
	t.Parallel()
	for name, apart := range map[string]bool{"one process": false, "services apart": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := start(t, options{auth: true, apart: apart})
			made := s.tokens()
			conn := s.dial()
			tokens, runs, functions := authv1.NewTokenServiceClient(conn), experimentsv1.NewExperimentsServiceClient(conn), deployerv1.NewDeployerServiceClient(conn)
			for _, c := range []struct {
				name string
				need typev1.Role
				rest request
				grpc func(ctx context.Context) error
			}{
				{
					"read a run", typev1.Role_ROLE_VIEWER, request{path: "/v1/runs/r1"},
					func(ctx context.Context) error {
						_, err := runs.GetRun(ctx, &experimentsv1.GetRunRequest{Name: "runs/r1"})
						return err
					},
				},
				{
					"delete a function", typev1.Role_ROLE_OPERATOR, request{method: "DELETE", path: "/v1/" + deployment + "/functions/f1"},
					func(ctx context.Context) error {
						_, err := functions.DeleteFunction(ctx, &deployerv1.DeleteFunctionRequest{Name: deployment + "/functions/f1"})
						return err
					},
				},
				{
					"write an object", typev1.Role_ROLE_OPERATOR, request{method: "PUT", path: "/v1/content/" + deployment + "/buckets/b1/k", body: "x"},
					func(ctx context.Context) error { return upload(ctx, conn, "k", "x") },
				},
				{
					"list tokens", typev1.Role_ROLE_ADMIN, request{path: "/v1/tokens"},
					func(ctx context.Context) error {
						_, err := tokens.ListTokens(ctx, &authv1.ListTokensRequest{})
						return err
					},
				},
			} {
				for role, secret := range made {
					wantStatus, wantCode := http.StatusOK, codes.OK
					if role < c.need {
						wantStatus, wantCode = http.StatusForbidden, codes.PermissionDenied
					}
					r := c.rest
					r.token = secret
					if got := s.do(r); got.status != wantStatus {
						t.Errorf("%s as %s over REST: %d %s", c.name, role, got.status, got.body)
					}
					ctx, cancel := context.WithTimeout(apptest.WithToken(t.Context(), secret), limit)
					if err := c.grpc(ctx); errs.Code(errs.FromStatus(err)) != wantCode {
						t.Errorf("%s as %s over gRPC: %v", c.name, role, err)
					}
					cancel()
				}
				for kind, secret := range map[string]string{"nobody": "", "a stranger": "sebs_0000_made-up"} {
					r := c.rest
					r.token = secret
					got := s.do(r)
					if got.status != http.StatusUnauthorized || got.header.Get("WWW-Authenticate") != "Bearer" || got.reason() == "" {
						t.Errorf("%s as %s over REST: %d %s", c.name, kind, got.status, got.body)
					}
					ctx, cancel := context.WithTimeout(t.Context(), limit)
					if secret != "" {
						ctx = apptest.WithToken(ctx, secret)
					}
					if err := c.grpc(ctx); errs.Code(errs.FromStatus(err)) != codes.Unauthenticated {
						t.Errorf("%s as %s over gRPC: %v", c.name, kind, err)
					}
					cancel()
				}
			}
		})
	}
}

func TestTokensOverREST(t *testing.T) {
	t.Parallel()
	s := start(t, options{auth: true})
	admin := s.tokens()[typev1.Role_ROLE_ADMIN]
	created := s.do(request{method: "POST", path: "/v1/tokens", token: admin, body: `{"description":"ci","role":"ROLE_VIEWER","ttl":"3600s"}`})
	var made struct {
		Secret string
		Token  struct{ Name string }
	}
	if err := json.Unmarshal(created.body, &made); err != nil || made.Secret == "" || made.Token.Name == "" {
		t.Fatalf("create: %d %s", created.status, created.body)
	}
	if who := s.do(request{path: "/v1/whoami", token: made.Secret}); who.status != 200 || !strings.Contains(string(who.body), made.Token.Name) {
		t.Errorf("who am I: %d %s", who.status, who.body)
	}
	list := s.do(request{path: "/v1/tokens", token: admin})
	if list.status != 200 || !strings.Contains(string(list.body), made.Token.Name) || strings.Contains(string(list.body), made.Secret) {
		t.Errorf("list: %d %s", list.status, list.body)
	}
	// Pages of one: every token once.
	seen := map[string]int{}
	for page := ""; ; {
		var answer struct {
			Tokens        []struct{ Name, Hash, Salt string }
			NextPageToken string
		}
		got := s.do(request{path: "/v1/tokens?pageSize=1&pageToken=" + page, token: admin})
		if err := json.Unmarshal(got.body, &answer); err != nil {
			t.Fatalf("%v: %s", err, got.body)
		}
		for _, token := range answer.Tokens {
			seen[token.Name]++
			if token.Hash != "" || token.Salt != "" {
				t.Errorf("the list shows the hash of %s", token.Name)
			}
		}
		if page = answer.NextPageToken; page == "" {
			break
		}
	}
	if len(seen) != 4 || seen[made.Token.Name] != 1 {
		t.Errorf("pages show %v", seen)
	}
	if revoked := s.do(request{method: "DELETE", path: "/v1/" + made.Token.Name, token: admin}); revoked.status != 200 {
		t.Errorf("revoke: %d %s", revoked.status, revoked.body)
	}
	if who := s.do(request{path: "/v1/whoami", token: made.Secret}); who.status != http.StatusUnauthorized {
		t.Errorf("a revoked token: %d %s", who.status, who.body)
	}
	if again := s.do(request{method: "DELETE", path: "/v1/" + made.Token.Name, token: admin}); again.status != http.StatusNotFound {
		t.Errorf("revoke again: %d %s", again.status, again.body)
	}
}

func TestATokenEnds(t *testing.T) {
	t.Parallel()
	s := start(t, options{auth: true})
	ctx := apptest.WithToken(t.Context(), s.tokens()[typev1.Role_ROLE_ADMIN])
	client := authv1.NewTokenServiceClient(s.dial())
	made, err := client.CreateToken(ctx, &authv1.CreateTokenRequest{Role: typev1.Role_ROLE_VIEWER, Ttl: durationpb.New(time.Nanosecond)})
	if err != nil {
		t.Fatal(err)
	}
	if who := s.do(request{path: "/v1/whoami", token: made.GetSecret()}); who.status != http.StatusUnauthorized {
		t.Errorf("a token past its time: %d %s", who.status, who.body)
	}
}

// certificate writes a certificate for 127.0.0.1 that signs itself.
func certificate(t *testing.T) (certFile, keyFile string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "gateway"}, NotBefore: time.Now().Add(-time.Hour),
		NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	certFile, keyFile = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	for file, block := range map[string]*pem.Block{
		certFile: {Type: "CERTIFICATE", Bytes: der}, keyFile: {Type: "EC PRIVATE KEY", Bytes: secret},
	} {
		if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return certFile, keyFile
}

func TestTLS(t *testing.T) {
	t.Parallel()
	cert, key := certificate(t)
	s := start(t, options{auth: true, sets: []string{"gateway.cert_file=" + cert, "gateway.key_file=" + key}})
	made := s.tokens()
	raw, err := os.ReadFile(cert)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(raw)
	config := &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}
	s.scheme = "https"
	for name, transport := range map[string]*http.Transport{
		"HTTP/1.1": {TLSClientConfig: config.Clone()}, "HTTP/2.0": {TLSClientConfig: config.Clone(), ForceAttemptHTTP2: true},
	} {
		s.client = &http.Client{Transport: transport, Timeout: limit}
		if got := s.do(request{path: "/v1/whoami", token: made[typev1.Role_ROLE_VIEWER]}); got.status != http.StatusOK {
			t.Errorf("%s: %d %s", name, got.status, got.body)
		}
		transport.CloseIdleConnections()
	}
	conn := s.dial(grpc.WithTransportCredentials(credentials.NewTLS(config)))
	ctx, cancel := context.WithTimeout(apptest.WithToken(t.Context(), made[typev1.Role_ROLE_VIEWER]), limit)
	defer cancel()
	if _, err := authv1.NewTokenServiceClient(conn).WhoAmI(ctx, &authv1.WhoAmIRequest{}); err != nil {
		t.Errorf("gRPC over TLS: %v", err)
	}
	stranger := &http.Transport{TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12}}
	defer stranger.CloseIdleConnections()
	if _, err := (&http.Client{Transport: stranger, Timeout: limit}).Get("https://" + s.address + "/healthz"); err == nil {
		t.Error("a client that does not know the authority was served")
	}
}
