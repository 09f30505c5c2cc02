package registry_test

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/authn"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"go.uber.org/goleak"
	"google.golang.org/grpc/codes"

	"github.com/sebs-suite/sebs/internal/credentials"
	"github.com/sebs-suite/sebs/internal/errs"
	"github.com/sebs-suite/sebs/internal/secret"
	"github.com/sebs-suite/sebs/platform/registry"
	"github.com/sebs-suite/sebs/platform/registry/registrytest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func nothing(string) string { return "" }

// client has the log-in of one registry, if a user is given.
func client(t *testing.T, address, username, password string) *registry.Client {
	t.Helper()
	config := credentials.Config{}
	if username != "" {
		config[registry.Platform] = map[string]map[string]secret.String{credentials.Default: {
			"registry": secret.New(address), "username": secret.New(username), "password": secret.New(password),
		}}
	}
	c := registry.New(registry.NewKeychain(credentials.NewResolver(config, nothing), "", false))
	t.Cleanup(c.Close)
	return c
}

func image(t *testing.T) v1.Image {
	t.Helper()
	img, err := random.Image(300_000, 2)
	if err != nil {
		t.Fatal(err)
	}
	return img
}

func TestPushAndFind(t *testing.T) {
	for name, login := range map[string][2]string{"open": {}, "with a log-in": {"builder", "s3cret"}} {
		t.Run(name, func(t *testing.T) {
			r := registrytest.Start(t, login[0], login[1])
			c := client(t, r.Address, r.Username, r.Password)
			img, uri := image(t), r.Address+"/sebs/test:one"
			if _, found, err := c.Find(t.Context(), uri); err != nil || found {
				t.Fatalf("Find before the push = %v, %v", found, err)
			}
			var last, total int64
			digest, err := c.Push(t.Context(), uri, img, func(done, all int64) { last, total = done, all })
			if err != nil {
				t.Fatal(err)
			}
			if last != total || total < 600_000 {
				t.Errorf("the push told %d of %d bytes at last", last, total)
			}
			got, found, err := c.Find(t.Context(), uri)
			if err != nil || !found || got != digest {
				t.Errorf("Find = %s, %v, %v; pushed %s", got, found, err, digest)
			}
			size, err := c.Size(t.Context(), uri)
			if want, _ := registry.StoredSize(img); err != nil || size != want {
				t.Errorf("Size = %d, %v; want %d", size, err, want)
			}
			r.Delete(t, "sebs/test", digest)
			if _, found, err := c.Find(t.Context(), r.Address+"/sebs/test@"+digest); err != nil || found {
				t.Errorf("Find after the deletion = %v, %v", found, err)
			}
		})
	}
}

func TestRefusedWithoutLogin(t *testing.T) {
	r := registrytest.Start(t, "builder", "s3cret")
	for name, c := range map[string]*registry.Client{
		"none": client(t, r.Address, "", ""), "wrong": client(t, r.Address, "builder", "wrong"), "of another": client(t, "127.0.0.1:1", "builder", "s3cret"),
	} {
		_, err := c.Push(t.Context(), r.Address+"/sebs/test:one", image(t), nil)
		if errs.Code(err) != codes.PermissionDenied || errs.Reason(err) != registry.ReasonDenied || !strings.Contains(err.Error(), "credentials.registry") {
			t.Errorf("%s: Push = %v", name, err)
		}
		if strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%s: the error tells the password: %v", name, err)
		}
	}
}

// nobody is a keychain that has the log-in of no registry.
type nobody struct{}

func (nobody) Resolve(authn.Resource) (authn.Authenticator, error) { return authn.Anonymous, nil }

func TestAnotherKeychainComesFirst(t *testing.T) {
	r := registrytest.Start(t, "builder", "s3cret")
	uri := r.Address + "/sebs/test:one"
	own := registry.NewKeychain(credentials.NewResolver(credentials.Config{registry.Platform: {credentials.Default: {
		"registry": secret.New(r.Address), "username": secret.New("builder"), "password": secret.New("s3cret"),
	}}}, nothing), "", false)
	for name, c := range map[string]*registry.Client{
		"the other": client(t, "", "", "").With(own), "its own": client(t, r.Address, "builder", "s3cret").With(nobody{}),
	} {
		if _, err := c.Push(t.Context(), uri, image(t), nil); err != nil {
			t.Errorf("%s keychain has the log-in: Push = %v", name, err)
		}
	}
}

func TestLoginGoesToItsRegistryAlone(t *testing.T) {
	for _, tt := range []struct {
		credential, host string
		want             bool
	}{
		{"docker.io", "index.docker.io", true},
		{"index.docker.io", "docker.io", true},
		{"Registry.example.org:5000", "registry.example.org:5000", true},
		{"registry.example.org", "registry.example.org:5000", false},
		{"registry.example.org", "registry.example.org.evil.example", false},
		{"docker.io", "example.org", false},
	} {
		chain := registry.NewKeychain(credentials.NewResolver(credentials.Config{registry.Platform: {credentials.Default: {
			"registry": secret.New(tt.credential), "username": secret.New("builder"), "password": secret.New("s3cret"),
		}}}, nothing), "", false)
		username, _, err := chain.Login(t.Context(), tt.host)
		if err != nil || (username != "") != tt.want {
			t.Errorf("the log-in of %s for %s is %q, %v", tt.credential, tt.host, username, err)
		}
	}
}

func TestPushErrorsSurface(t *testing.T) {
	full := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.URL.Path == "/v2/":
		case r.Method == http.MethodHead:
			w.WriteHeader(http.StatusNotFound)
		default:
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(http.StatusForbidden)
			_, _ = w.Write([]byte(`{"errors":[{"code":"DENIED","message":"quota exceeded"}]}`))
		}
	}))
	defer full.Close()
	c := client(t, "", "", "")
	_, err := c.Push(t.Context(), strings.TrimPrefix(full.URL, "http://")+"/sebs/test:one", image(t), nil)
	if errs.Reason(err) != registry.ReasonDenied || !strings.Contains(err.Error(), "quota exceeded") {
		t.Errorf("Push = %v", err)
	}
	_, _, err = c.Find(t.Context(), "127.0.0.1:1/sebs/test:one")
	if errs.Reason(err) != registry.ReasonUnavailable {
		t.Errorf("Find where nothing listens = %v", err)
	}
}

func TestNoPlainHTTPBeyondThisMachine(t *testing.T) {
	// Private networks would be asked without TLS by the library.
	_, _, err := client(t, "", "", "").Find(t.Context(), "10.255.255.1:5000/sebs/test:one")
	if err == nil {
		t.Fatal("found")
	}
	for host, want := range map[string]bool{
		"127.0.0.1": true, "127.0.0.1:5000": true, "localhost:5000": true, "[::1]:5000": true, "::1": true,
		"10.0.0.1:5000": false, "registry.local": false, "localhost.example.org": false, "": false,
	} {
		if got := registry.IsLoopback(host); got != want {
			t.Errorf("IsLoopback(%q) = %v", host, got)
		}
	}
}

func TestNames(t *testing.T) {
	for _, bad := range []string{"", "UPPER/case", "a b", "repo:tag:tag", "repo@sha256:1"} {
		if _, err := registry.Parse(bad); errs.Reason(err) != registry.ReasonName {
			t.Errorf("Parse(%q) = %v", bad, err)
		}
	}
	if _, err := registry.Parse("127.0.0.1:5000/a/b@sha256:" + strings.Repeat("0", 64)); err != nil {
		t.Error(err)
	}
	if _, err := client(t, "", "", "").Push(t.Context(), "UPPER", image(t), nil); !errors.As(err, new(*errs.Error)) {
		t.Errorf("Push under a wrong name = %v", err)
	}
}
