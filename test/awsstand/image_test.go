package awsstand_test

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

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ecr"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	lambdatypes "github.com/aws/aws-sdk-go-v2/service/lambda/types"
	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"

	"github.com/sebs-suite/sebs/test/awsstand"
)

// image is one layer with a program that is a function.
func image(t *testing.T) v1.Image {
	t.Helper()
	program := filepath.Join(t.TempDir(), "function")
	build := exec.CommandContext(t.Context(), "go", "build", "-ldflags", "-s -w", "-o", program, "./testdata/function")
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
	out, err := mutate.AppendLayers(empty.Image, added)
	if err != nil {
		t.Fatal(err)
	}
	out, err = mutate.ConfigFile(out, &v1.ConfigFile{
		Architecture: "amd64", OS: "linux", Config: v1.Config{Entrypoint: []string{"/function"}}, RootFS: must(t, out).RootFS,
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func must(t *testing.T, image v1.Image) *v1.ConfigFile {
	t.Helper()
	config, err := image.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	return config
}

func TestImages(t *testing.T) {
	t.Parallel()
	s := awsstand.Start(t, awsstand.Options{Registry: true})
	registry, functions := ecr.NewFromConfig(clientConfig(s)), lambda.NewFromConfig(clientConfig(s))
	token, err := registry.GetAuthorizationToken(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	login, err := base64.StdEncoding.DecodeString(*token.AuthorizationData[0].AuthorizationToken)
	if err != nil {
		t.Fatal(err)
	}
	user, password, _ := strings.Cut(string(login), ":")
	reference, err := name.ParseReference(s.Registry + "/functions/echo:1")
	if err != nil {
		t.Fatal(err)
	}
	built := image(t)
	push := func(password string) error {
		return remote.Write(reference, built, remote.WithContext(t.Context()), remote.WithAuth(&authn.Basic{Username: user, Password: password}))
	}
	if err := push(password); err == nil || !strings.Contains(err.Error(), "NAME_UNKNOWN") {
		t.Errorf("an image is pushed into a repository that nobody made: %v", err)
	}
	made, err := registry.CreateRepository(t.Context(), &ecr.CreateRepositoryInput{RepositoryName: aws.String("functions/echo")})
	if err != nil {
		t.Fatal(err)
	}
	if got, want := *made.Repository.RepositoryUri, s.Registry+"/functions/echo"; got != want {
		t.Errorf("the repository is %s, want %s", got, want)
	}
	if err := push("wrong"); err == nil {
		t.Error("a wrong token is taken")
	}
	arn := role(t, s, "r", logging)
	create := func() error {
		_, err := functions.CreateFunction(t.Context(), &lambda.CreateFunctionInput{
			FunctionName: aws.String("echo"), Role: &arn, PackageType: lambdatypes.PackageTypeImage, MemorySize: aws.Int32(256), Timeout: aws.Int32(10),
			Code:        &lambdatypes.FunctionCode{ImageUri: aws.String(reference.String())},
			Environment: &lambdatypes.Environment{Variables: map[string]string{"VARIABLE": "image"}},
		})
		return err
	}
	if err := create(); err == nil || !strings.Contains(err.Error(), "does not exist") {
		t.Errorf("a function is made of an image that is not there: %v", err)
	}
	if err := push(password); err != nil {
		t.Fatal(err)
	}
	if err := create(); err != nil {
		t.Fatal(err)
	}
	settle(t, s, "echo")
	cold, warm := invoke(t, s, "echo"), invoke(t, s, "echo")
	if cold.body["variable"] != "image" || !strings.Contains(cold.log, "Init Duration") || strings.Contains(warm.log, "Init Duration") {
		t.Errorf("the function answers %v:\n%s%s", cold.body, cold.log, warm.log)
	}
}
