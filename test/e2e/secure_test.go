package e2e

import (
	"context"
	"crypto/tls"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	experimentsv1 "github.com/sebs-suite/sebs/gen/go/sebs/experiments/v1"
	localv1 "github.com/sebs-suite/sebs/gen/go/sebs/local/v1"
	"github.com/sebs-suite/sebs/test/e2e/stand"
)

func TestASuiteThatAsksWhoCalls(t *testing.T) {
	s := stand.Start(t, binaries, stand.Options{Secure: true})
	ctx := limited(t)
	operator, viewer := s.FirstToken("operator"), s.FirstToken("viewer")
	run := func(name, token string) (int, string) {
		p := s.CLI(name, "benchmark", "invoke", "010.sleep", "test", "--repetitions", "2", "--output-dir", filepath.Join(t.TempDir(), name))
		if token != "" {
			p.Env = []string{"SEBS_TOKEN=" + token}
		}
		p.Run()
		return p.Wait(testLimit), p.Log()
	}
	if code, log := run("nobody", ""); code == 0 || !strings.Contains(log, "credential") {
		t.Errorf("without a token: %d\n%s", code, log)
	}
	if code, log := run("viewer", viewer); code == 0 || !strings.Contains(log, "role") {
		t.Errorf("as viewer: %d\n%s", code, log)
	}
	if code, log := run("operator", operator); code != 0 {
		t.Fatalf("as operator: %d\n%s", code, log)
	}
	asViewer := metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+viewer)
	list, err := experimentsv1.NewExperimentsServiceClient(s.Dial()).ListRuns(asViewer, &experimentsv1.ListRunsRequest{})
	if err != nil || len(list.GetRuns()) != 1 || list.GetRuns()[0].GetState() != experimentsv1.Run_STATE_SUCCEEDED {
		t.Errorf("the viewer sees %v, %v", list, err)
	}
	for _, service := range s.Processes() {
		for _, secret := range []string{operator, viewer} {
			if strings.Contains(service.Log(), secret) {
				t.Errorf("the log of %s shows a token", service.Name)
			}
		}
	}
	strangers(ctx, t, s)
}

// strangers tries to reach a service past the gateway.
func strangers(ctx context.Context, t *testing.T, s *stand.Suite) {
	t.Helper()
	_, rest, _ := strings.Cut(s.Local.Log(), " grpc=")
	address, _, _ := strings.Cut(rest, " ")
	other := stand.NewAuthority(t, t.TempDir(), "stranger")
	cert, key := other.Issue("stranger")
	pair, err := tls.LoadX509KeyPair(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	withForeign := s.Authority.TLS()
	// Sent although the server names other authorities.
	withForeign.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &pair, nil }
	for name, c := range map[string]struct {
		config *tls.Config
		code   codes.Code
	}{
		"no certificate":      {s.Authority.TLS(), codes.Unauthenticated},
		"a foreign one":       {withForeign, codes.Unavailable},
		"a foreign authority": {other.TLS(), codes.Unavailable},
		"no authority":        {&tls.Config{MinVersion: tls.VersionTLS12}, codes.Unavailable},
	} {
		conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(credentials.NewTLS(c.config)))
		if err != nil {
			t.Fatal(err)
		}
		_, err = localv1.NewLocalServiceClient(conn).GetHost(ctx, &localv1.GetHostRequest{})
		if status.Code(err) != c.code {
			t.Errorf("with %s: %v", name, err)
		}
		_ = conn.Close()
	}
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: s.Authority.TLS()}}
	response, err := client.Get("https://" + s.Local.HTTP + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	if err := response.Body.Close(); err != nil || response.StatusCode != http.StatusUnauthorized {
		t.Errorf("metrics without a credential: %s, %v", response.Status, err)
	}
}
