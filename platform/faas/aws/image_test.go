package aws_test

import (
	"archive/tar"
	"bytes"
	"encoding/base64"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ecr"
	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"google.golang.org/grpc/codes"

	"github.com/sebs-suite/sebs/internal/errs"
	"github.com/sebs-suite/sebs/platform/faas/aws"
	"github.com/sebs-suite/sebs/platform/faas/driver"
	"github.com/sebs-suite/sebs/test/awsstand"
)

// pushed builds an image whose only program is a function, puts it into the deployment's repository, and returns its URI
// by digest.
func pushed(t *testing.T, stand *awsstand.Stand) string {
	t.Helper()
	program := filepath.Join(t.TempDir(), "function")
	build := exec.CommandContext(t.Context(), "go", "build", "-ldflags", "-s -w", "-o", program, "../../../test/awsstand/testdata/function")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	content, err := os.ReadFile(program)
	if err != nil {
		t.Fatal(err)
	}
	var layer bytes.Buffer
	w := tar.NewWriter(&layer)
	err = w.WriteHeader(&tar.Header{Name: "function", Mode: 0o755, Size: int64(len(content)), Typeflag: tar.TypeReg})
	if err == nil {
		_, err = w.Write(content)
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	added, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(layer.Bytes())), nil })
	if err != nil {
		t.Fatal(err)
	}
	image, err := mutate.AppendLayers(empty.Image, added)
	if err != nil {
		t.Fatal(err)
	}
	config, err := image.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	config.Architecture, config.OS, config.Config = "amd64", "linux", v1.Config{Entrypoint: []string{"/function"}}
	if image, err = mutate.ConfigFile(image, config); err != nil {
		t.Fatal(err)
	}
	digest, err := image.Digest()
	if err != nil {
		t.Fatal(err)
	}
	repositories := ecr.NewFromConfig(opened(stand).Config)
	repository := "sebs-benchmarks-" + testDeployment
	if _, err := repositories.CreateRepository(t.Context(), &ecr.CreateRepositoryInput{RepositoryName: &repository}); err != nil {
		t.Fatal(err)
	}
	token, err := repositories.GetAuthorizationToken(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	login, err := base64.StdEncoding.DecodeString(*token.AuthorizationData[0].AuthorizationToken)
	if err != nil {
		t.Fatal(err)
	}
	user, password, _ := strings.Cut(string(login), ":")
	uri := stand.Registry + "/" + repository + "@" + digest.String()
	reference, err := name.ParseReference(uri)
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.Write(reference, image, remote.WithContext(t.Context()), remote.WithAuth(&authn.Basic{Username: user, Password: password})); err != nil {
		t.Fatal(err)
	}
	return uri
}

func TestFunctionsCanBeImages(t *testing.T) {
	t.Parallel()
	stand := awsstand.Start(t, awsstand.Options{Registry: true})
	d := aws.New(opened(stand), aws.Options{Poll: 10 * time.Millisecond})
	t.Cleanup(func() { _ = d.Close() })
	p := platformOf(t, d)
	uri := pushed(t, stand)
	spec := coldSpec(t, "from_image", func(spec *driver.FunctionSpec) {
		spec.Code, spec.Buckets = driver.Code{Digest: "d1", ImageURI: uri}, nil
		spec.Config.Environment = map[string]string{"VARIABLE": "one"}
		spec.Config.Handler = ""
	})
	fn := create(t, p, spec)
	if fn.Attributes["package_type"] != "image" || fn.Config.Runtime != spec.Config.Runtime || fn.Digest != "d1" {
		t.Errorf("made %+v", fn)
	}
	answers := func(want string) {
		t.Helper()
		result, err := p.Invoke(t.Context(), driver.Call{Function: "from_image", Payload: []byte("{}")})
		if err != nil || result.FunctionError != "" || !bytes.Contains(result.Payload, []byte(want)) || result.Record == nil {
			t.Errorf("answered %+v %s, %v; want %s", result, result.Payload, err, want)
		}
	}
	answers(`"one"`)
	config := spec.Config
	config.Environment = map[string]string{"VARIABLE": "two"}
	fn, err := p.UpdateCode(t.Context(), "from_image", driver.Code{Digest: "d2", ImageURI: uri}, config)
	if err != nil || fn.Digest != "d2" {
		t.Fatalf("updated to %+v, %v", fn, err)
	}
	answers(`"two"`)
	_, err = p.UpdateCode(t.Context(), "from_image", codeOf(archive(t, 1), "d3"), config)
	if !errs.Is(err, codes.FailedPrecondition) || errs.Reason(err) != "PACKAGE_TYPE_FIXED" || !strings.Contains(err.Error(), "delete the function first") {
		t.Errorf("an archive in place of an image: %v", err)
	}
}
