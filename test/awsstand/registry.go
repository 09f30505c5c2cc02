package awsstand

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"time"

	localv1 "github.com/sebs-suite/sebs/gen/go/sebs/local/v1"
	"github.com/sebs-suite/sebs/platform/registry/registrytest"
)

// defaultTokenLife is how long tokens of ECR are good.
const defaultTokenLife = 12 * time.Hour

// registry is a registry of images behind a check of ECR's tokens and repositories.
type registry struct {
	behind *registrytest.Registry
	pass   *httputil.ReverseProxy

	mu     sync.Mutex
	tokens map[string]time.Time // and until when they are good
}

// startRegistry starts the registry, and the front that clients see.
func (s *Stand) startRegistry() {
	s.t.Helper()
	behind := registrytest.Start(s.t, "", "")
	target := &url.URL{Scheme: "http", Host: behind.Address}
	transport := &http.Transport{MaxIdleConnsPerHost: 16, IdleConnTimeout: 5 * time.Second}
	s.images = &registry{
		behind: behind, tokens: make(map[string]time.Time),
		// The registry names itself by the host that it was asked by.
		pass: &httputil.ReverseProxy{Transport: transport, Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(target)
			r.Out.Host = r.In.Host
			r.Out.Header.Del("Authorization")
		}},
	}
	listener, err := (&net.ListenConfig{}).Listen(s.ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		s.t.Fatal(err)
	}
	s.Registry = listener.Addr().String()
	server := &http.Server{Handler: http.HandlerFunc(s.serveImages), ReadHeaderTimeout: 10 * time.Second}
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	s.t.Cleanup(func() {
		_ = server.Close()
		if err := <-served; !errors.Is(err, http.ErrServerClosed) {
			s.t.Errorf("awsstand: registry: %v", err)
		}
		transport.CloseIdleConnections()
	})
}

// serveECR answers ECR: moto does, and the addresses are those of the registry here.
func (s *Stand) serveECR(w http.ResponseWriter, q *request) *refusal {
	if s.images == nil {
		s.pass.ServeHTTP(w, q.Request)
		return nil
	}
	if q.operation == "GetAuthorizationToken" {
		life := s.script.get().TokenLife
		if life <= 0 {
			life = defaultTokenLife
		}
		token, until := rand.Text()+rand.Text(), time.Now().Add(life)
		s.images.mu.Lock()
		s.images.tokens[token] = until
		s.images.mu.Unlock()
		give(w, http.StatusOK, map[string]any{"authorizationData": []any{map[string]any{
			"authorizationToken": base64.StdEncoding.EncodeToString([]byte("AWS:" + token)),
			"expiresAt":          float64(until.UnixMilli()) / 1000, "proxyEndpoint": "http://" + s.Registry,
		}}})
		return nil
	}
	a, no := s.relay(w, q, q.body)
	if a == nil {
		return no
	}
	host := fmt.Sprintf("%s.dkr.ecr.%s.amazonaws.com", s.Account, s.Region)
	a.body = []byte(strings.ReplaceAll(string(a.body), host, s.Registry))
	a.give(w)
	return nil
}

// serveImages lets those with a token through to the repositories that were made.
func (s *Stand) serveImages(w http.ResponseWriter, r *http.Request) {
	no := func(status int, code, text string) {
		w.Header().Set("Docker-Distribution-Api-Version", "registry/2.0")
		give(w, status, map[string]any{"errors": []any{map[string]string{"code": code, "message": text}}})
	}
	user, token, ok := r.BasicAuth()
	s.images.mu.Lock()
	until, known := s.images.tokens[token]
	s.images.mu.Unlock()
	switch {
	case !ok:
		w.Header().Set("WWW-Authenticate", `Basic realm="http://`+s.Registry+`/",service="ecr.amazonaws.com"`)
		no(http.StatusUnauthorized, "UNAUTHORIZED", "Not Authorized")
		return
	case user != "AWS" || !known:
		no(http.StatusForbidden, "DENIED", "Not Authorized")
		return
	case time.Now().After(until):
		no(http.StatusForbidden, "DENIED", "Your authorization token has expired. Reauthenticate and try again.")
		return
	}
	if name := repositoryOf(r.URL.Path); name != "" {
		there, err := s.repositoryExists(r.Context(), name)
		if err != nil {
			no(http.StatusInternalServerError, "UNKNOWN", err.Error())
			return
		}
		if !there {
			no(http.StatusNotFound, "NAME_UNKNOWN", "The repository with name '"+name+"' does not exist in the registry with id '"+s.Account+"'")
			return
		}
	}
	s.images.pass.ServeHTTP(w, r)
}

// repositoryOf is the repository that a path of the registry's API means.
func repositoryOf(path string) string {
	rest, ok := strings.CutPrefix(path, "/v2/")
	if !ok {
		return ""
	}
	for _, kind := range []string{"/manifests/", "/blobs/", "/tags/"} {
		if name, _, ok := strings.Cut(rest, kind); ok {
			return name
		}
	}
	return ""
}

func (s *Stand) repositoryExists(ctx context.Context, name string) (bool, error) {
	body, err := json.Marshal(map[string][]string{"repositoryNames": {name}})
	if err != nil {
		return false, err
	}
	a, err := s.moto.target(ctx, "ecr", "AmazonEC2ContainerRegistry_V20150921.DescribeRepositories", body)
	if err != nil {
		return false, err
	}
	return a.status == http.StatusOK, nil
}

// Media types of images that Lambda runs; lists of images are none.
const mediaTypes = "application/vnd.oci.image.manifest.v1+json, application/vnd.docker.distribution.manifest.v2+json"

// imagePresent refuses images that are not in the registry, or are not of a kind that Lambda runs.
func (s *Stand) imagePresent(q *request, uri string) *refusal {
	invalid := func(format string) *refusal {
		return refuse(http.StatusBadRequest, "InvalidParameterValueException", format, uri)
	}
	rest, ok := strings.CutPrefix(uri, s.Registry+"/")
	if s.images == nil || !ok {
		return invalid("Source image %s is not valid. Provide a valid source image.")
	}
	name, reference := rest, "latest"
	if before, digest, ok := strings.Cut(rest, "@"); ok {
		name, reference = before, digest
		name, _, _ = strings.Cut(name, ":")
	} else if before, tag, ok := strings.Cut(rest, ":"); ok {
		name, reference = before, tag
	}
	request, err := http.NewRequestWithContext(q.Context(), http.MethodGet, "http://"+s.images.behind.Address+"/v2/"+name+"/manifests/"+reference, nil)
	if err != nil {
		return invalid("Source image %s is not valid. Provide a valid source image.")
	}
	request.Header.Set("Accept", mediaTypes+", application/vnd.oci.image.index.v1+json, application/vnd.docker.distribution.manifest.list.v2+json")
	response, err := s.images.pass.Transport.RoundTrip(request)
	if err != nil {
		return refuse(http.StatusInternalServerError, "ServiceException", "%v", err)
	}
	_, _ = io.Copy(io.Discard, response.Body)
	_ = response.Body.Close()
	switch {
	case response.StatusCode != http.StatusOK:
		return invalid("Source image %s does not exist. Provide a valid source image.")
	case !strings.Contains(mediaTypes, response.Header.Get("Content-Type")):
		return invalid("The image manifest, config or layer media type for the source image %s is not supported.")
	}
	return nil
}

// deployImage puts a function that is an image on the host. The Engine pulls it past the check of tokens.
func (s *Stand) deployImage(ctx context.Context, snap *snapshot, config *localv1.LocalConfiguration) error {
	stream, err := s.host.DeployFunction(ctx)
	if err != nil {
		return fmt.Errorf("deploy to the host: %w", err)
	}
	image := strings.Replace(snap.code.image, s.Registry, s.images.behind.Address, 1)
	err = stream.Send(&localv1.DeployFunctionRequest{Part: &localv1.DeployFunctionRequest_Function{Function: &localv1.FunctionSpec{
		FunctionId: snap.local, Configuration: config, ImageUri: image, ReplaceExisting: true,
	}}})
	if err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("deploy to the host: %w", err)
	}
	_, err = stream.CloseAndRecv()
	return err
}
