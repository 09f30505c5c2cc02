package builder

import (
	"context"
	"io/fs"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	"github.com/sebs-suite/sebs/internal/credentials"
	"github.com/sebs-suite/sebs/internal/errs"
	"github.com/sebs-suite/sebs/internal/secret"
	"github.com/sebs-suite/sebs/platform/registry"
	"github.com/sebs-suite/sebs/platform/registry/ecr"
	"github.com/sebs-suite/sebs/platform/registry/registrytest"
	"github.com/sebs-suite/sebs/services/builder/images"

	builderv1 "github.com/sebs-suite/sebs/gen/go/sebs/builder/v1"
	deployerv1 "github.com/sebs-suite/sebs/gen/go/sebs/deployer/v1"
	storagev1 "github.com/sebs-suite/sebs/gen/go/sebs/storage/v1"
	typev1 "github.com/sebs-suite/sebs/gen/go/sebs/type/v1"
)

// deployments are the deployments that a builder may ask for.
type deployments map[string]*typev1.Deployment

func (d deployments) GetDeployment(_ context.Context, in *deployerv1.GetDeploymentRequest, _ ...grpc.CallOption) (*typev1.Deployment, error) {
	if found, ok := d[in.GetName()]; ok {
		return found, nil
	}
	return nil, errs.ToStatus(errs.NotFound("DEPLOYMENT_NOT_FOUND", "deployment %s does not exist", in.GetName())).Err()
}

// imageOptions are what tests of images change.
type imageOptions struct {
	config      RegistryConfig
	login       *registrytest.Registry
	bases       map[string]string
	deployments deployments
	version     string
	openECR     func(ctx context.Context, credential, region string) (*ecr.Registry, error)
}

func newImageBench(t testing.TB, folders fs.FS, o imageOptions) *bench {
	t.Helper()
	b := &bench{storage: &memoryStorage{objects: map[string][]byte{}}, records: newRecords(), facts: &told{}}
	storage := storagev1.NewStorageServiceClient(serve(t, func(s *grpc.Server) { storagev1.RegisterStorageServiceServer(s, b.storage) }))
	server := newServer(t, b, storage, folders)
	server.images = newImages(t, server, o)
	b.client = builderv1.NewBuilderServiceClient(serve(t, func(s *grpc.Server) { builderv1.RegisterBuilderServiceServer(s, server) }))
	return b
}

func newImages(t testing.TB, server *Server, o imageOptions) *Images {
	t.Helper()
	// What was exported of the Engine is kept between runs of the tests: that takes long.
	engine, err := images.OpenEngine(filepath.Join(toolsDir(t), "bases"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := engine.Close(); err != nil {
			t.Error(err)
		}
	})
	config := credentials.Config{}
	if o.login != nil {
		config[registry.Platform] = map[string]map[string]secret.String{credentials.Default: {
			"registry": secret.New(o.login.Address), "username": secret.New(o.login.Username), "password": secret.New(o.login.Password),
		}}
	}
	client := registry.New(registry.NewKeychain(credentials.NewResolver(config, func(string) string { return "" }), "", false))
	t.Cleanup(client.Close)
	bases, err := images.NewBases(o.bases, client, engine)
	if err != nil {
		t.Fatal(err)
	}
	if o.openECR == nil {
		o.openECR = func(context.Context, string, string) (*ecr.Registry, error) {
			return nil, errs.FailedPrecondition("CREDENTIALS_NOT_ON_SERVICE", "the test has no account")
		}
	}
	if o.version == "" {
		o.version = "v1.0.0"
	}
	return &Images{
		Bases: bases, Engine: engine, Bootstraps: server.layouts.(images.Bootstraps), Dir: t.TempDir(), Version: o.version,
		Registries: NewRegistries(o.config, client, engine, o.deployments, o.openECR),
	}
}

// pictures is a benchmark without dependencies.
func pictures(source string) fstest.MapFS {
	return fstest.MapFS{
		"901.picture/config.json":         {Data: []byte(`{"timeout": 10, "memory": 256, "languages": ["python", "nodejs"], "modules": []}`)},
		"901.picture/python/function.py":  {Data: []byte(source)},
		"901.picture/nodejs/function.js":  {Data: []byte("exports.handler = async (event) => ({ result: event });\n")},
		"901.picture/nodejs/package.json": {Data: []byte(`{"dependencies": {}}`)},
	}
}

const echoSource = "def handler(event):\n    return {'result': event}\n"

// onRegistry are the options of a builder that pushes to a registry and builds on nothing.
func onRegistry(r *registrytest.Registry) imageOptions {
	o := imageOptions{
		config: RegistryConfig{Address: r.Address, Repository: "sebs/benchmarks"},
		bases:  map[string]string{"local.python": images.Scratch, "local.nodejs": images.Scratch},
	}
	if r.Username != "" {
		o.login = r
	}
	return o
}

func (b *bench) container(t testing.TB, change func(*builderv1.CreatePackageRequest)) *builderv1.Package {
	t.Helper()
	request := &builderv1.CreatePackageRequest{
		Source: &builderv1.BenchmarkSource{Benchmark: "901.picture"}, Platform: "local", Runtime: python("3.11"),
		Architecture: typev1.Architecture_ARCHITECTURE_X64, SystemVariant: typev1.SystemVariant_SYSTEM_VARIANT_CONTAINER,
	}
	if change != nil {
		change(request)
	}
	op, err := b.client.CreatePackage(t.Context(), request)
	return result(t, op, err, &builderv1.Package{})
}

func TestContainerIsBuiltPushedAndKept(t *testing.T) {
	r := registrytest.Start(t, "builder", "s3cret-of-the-registry")
	b := newImageBench(t, pictures(echoSource), onRegistry(r))
	first := b.container(t, nil)
	place := r.Address + "/sebs/benchmarks"
	if !strings.HasPrefix(first.GetImageUri(), place+"@sha256:") || first.GetCached() || first.GetSystemVariant() != typev1.SystemVariant_SYSTEM_VARIANT_CONTAINER {
		t.Fatalf("package = %v", first)
	}
	const tag = "function.local.901.picture.python-3.11-x64-1.0.0"
	_, digest, _ := strings.Cut(first.GetImageUri(), "@")
	found, err := b.client.FindImage(t.Context(), &builderv1.FindImageRequest{Repository: place, Tag: tag})
	if err != nil || !found.GetFound() || found.GetDigest() != digest {
		t.Fatalf("FindImage = %v, %v; want %s", found, err, digest)
	}

	second := b.container(t, nil)
	if !second.GetCached() || second.GetImageUri() != first.GetImageUri() {
		t.Errorf("the second build is not the first: %v", second)
	}

	// Gone from the registry: pushed again, not built again, and the same.
	r.Delete(t, "sebs/benchmarks", digest)
	third := b.container(t, nil)
	if !third.GetCached() || third.GetImageUri() != first.GetImageUri() || third.GetBuildMs() != first.GetBuildMs() {
		t.Errorf("the image that was gone was not pushed from what is kept: %v", third)
	}
	if found, err := b.client.FindImage(t.Context(), &builderv1.FindImageRequest{Repository: place, Tag: tag}); err != nil || found.GetDigest() != digest {
		t.Errorf("FindImage after the second push = %v, %v", found, err)
	}
	got, err := b.client.GetPackage(t.Context(), &builderv1.GetPackageRequest{Name: first.GetName()})
	if err != nil || got.GetImageUri() != first.GetImageUri() {
		t.Errorf("GetPackage = %v, %v", got, err)
	}
	b.records.mu.Lock()
	defer b.records.mu.Unlock()
	for key, raw := range b.records.records {
		if strings.Contains(string(raw), r.Password) {
			t.Errorf("record %s holds the password", key)
		}
	}
	if len(b.records.records["images/"+place+":"+tag]) == 0 {
		t.Error("the image is not recorded")
	}
}

func TestEqualInputsGiveEqualImages(t *testing.T) {
	r := registrytest.Start(t, "", "")
	one, other := newImageBench(t, pictures(echoSource), onRegistry(r)), newImageBench(t, pictures(echoSource), onRegistry(r))
	first, second := one.container(t, nil), other.container(t, nil)
	if first.GetImageUri() != second.GetImageUri() || first.GetDigest() != second.GetDigest() {
		t.Errorf("two builders made %s and %s", first.GetImageUri(), second.GetImageUri())
	}
	changed := newImageBench(t, pictures(echoSource+"\n"), onRegistry(r)).container(t, nil)
	if changed.GetImageUri() == first.GetImageUri() {
		t.Error("another source gave the same image")
	}
	prefixed := one.container(t, func(r *builderv1.CreatePackageRequest) { r.ImageTagPrefix = "mine" })
	if prefixed.GetDigest() == first.GetDigest() || prefixed.GetImageUri() != first.GetImageUri() {
		t.Errorf("a prefix changes the name and not the image; got %s, %s", prefixed.GetDigest(), prefixed.GetImageUri())
	}
	node := one.container(t, func(r *builderv1.CreatePackageRequest) {
		r.Runtime = &typev1.Runtime{Language: typev1.Language_LANGUAGE_NODEJS, Version: "20"}
	})
	if node.GetImageUri() == first.GetImageUri() {
		t.Error("two languages gave the same image")
	}
}

func TestBuildImageSkipsWhatIsThere(t *testing.T) {
	r := registrytest.Start(t, "", "")
	b := newImageBench(t, pictures(echoSource), onRegistry(r))
	spec := &builderv1.ImageSpec{Platform: "local", Benchmark: "901.picture", Runtime: python("3.11"), Architecture: typev1.Architecture_ARCHITECTURE_X64, TagPrefix: "p1"}
	build := func(cached bool) *builderv1.BuildImageResponse {
		t.Helper()
		op, err := b.client.BuildImage(t.Context(), &builderv1.BuildImageRequest{Spec: spec, IsCached: cached})
		return result(t, op, err, &builderv1.BuildImageResponse{})
	}
	first := build(false)
	want := r.Address + "/sebs/benchmarks:function.local.901.picture.python-3.11-x64-p1-1.0.0"
	if !first.GetRebuilt() || first.GetImageUri() != want || first.GetSizeMb() <= 0 {
		t.Fatalf("first = %v, want %s", first, want)
	}
	second := build(false)
	if second.GetRebuilt() || second.GetImageUri() != want || second.GetDigest() != first.GetDigest() || second.GetSizeMb() != first.GetSizeMb() {
		t.Errorf("an image that is not cached and is in the registry = %v, first was %v", second, first)
	}
	if third := build(true); !third.GetRebuilt() || third.GetDigest() != first.GetDigest() {
		t.Errorf("a cached image = %v", third)
	}

	r.Delete(t, "sebs/benchmarks", first.GetDigest())
	op, err := b.client.PushToRegistry(t.Context(), &builderv1.PushToRegistryRequest{Spec: spec})
	if pushed := result(t, op, err, &builderv1.PushImageResponse{}); pushed.GetDigest() != first.GetDigest() || pushed.GetImageUri() != want {
		t.Errorf("PushToRegistry = %v", pushed)
	}
	place, tag, _ := strings.Cut(strings.TrimPrefix(want, "127.0.0.1:"), ":")
	r.Delete(t, "sebs/benchmarks", first.GetDigest())
	op, err = b.client.PushImage(t.Context(), &builderv1.PushImageRequest{RepositoryUri: "127.0.0.1:" + place, Tag: tag})
	if pushed := result(t, op, err, &builderv1.PushImageResponse{}); pushed.GetDigest() != first.GetDigest() {
		t.Errorf("PushImage = %v", pushed)
	}
	op, err = b.client.FinalizeContainerBuild(t.Context(), &builderv1.FinalizeContainerBuildRequest{Spec: spec})
	if p := result(t, op, err, &builderv1.Package{}); !strings.HasSuffix(p.GetImageUri(), "@"+first.GetDigest()) {
		t.Errorf("FinalizeContainerBuild = %v", p)
	}
}

func TestImageOutlivesItsDeployment(t *testing.T) {
	r := registrytest.Start(t, "builder", "s3cret-of-the-registry")
	const name = "platforms/aws/deployments/abcd1234"
	known := deployments{name: {Name: name, Platform: "aws", Settings: map[string]string{"docker-registry": r.Address, "container_repository": "team/functions"}}}
	o := onRegistry(r)
	o.bases["aws.python"], o.deployments = images.Scratch, known
	b := newImageBench(t, pictures(echoSource), o)
	built := b.container(t, func(r *builderv1.CreatePackageRequest) { r.Platform, r.Deployment = "aws", name })
	_, digest, _ := strings.Cut(built.GetImageUri(), "@")
	delete(known, name)

	place, tag := r.Address+"/team/functions", "function.aws.901.picture.python-3.11-x64-1.0.0"
	find := &builderv1.FindImageRequest{Repository: place, Tag: tag}
	if found, err := b.client.FindImage(t.Context(), find); err != nil || found.GetDigest() != digest {
		t.Errorf("FindImage = %v, %v; want %s", found, err, digest)
	}
	r.Delete(t, "team/functions", digest)
	if found, err := b.client.FindImage(t.Context(), find); err != nil || found.GetFound() {
		t.Errorf("FindImage of what the registry has no more = %v, %v", found, err)
	}
	push := &builderv1.PushImageRequest{RepositoryUri: place, Tag: tag}
	op, err := b.client.PushImage(t.Context(), push)
	if pushed := result(t, op, err, &builderv1.PushImageResponse{}); pushed.GetDigest() != digest {
		t.Errorf("PushImage = %v, want %s", pushed, digest)
	}
}

func TestImageOfADeploymentThatIsGoneNeedsAnotherLogin(t *testing.T) {
	r := registrytest.Start(t, "builder", "s3cret-of-the-registry")
	b := newImageBench(t, nil, imageOptions{})
	const name, tag = "platforms/aws/deployments/abcd1234", "function.aws.901.picture.python-3.11-x64-1.0.0"
	for _, test := range []struct{ place, reason string }{
		{r.Address + "/team/functions", registry.ReasonDenied},
		{"123456789012.dkr.ecr.eu-west-1.amazonaws.com/functions", "CREDENTIALS_NOT_ON_SERVICE"},
	} {
		key := "images/" + test.place + ":" + tag
		if _, err := b.records.Put(t.Context(), key, &builderv1.Image{Name: key, Platform: "aws", Deployment: name}); err != nil {
			t.Fatal(err)
		}
		_, findErr := b.client.FindImage(t.Context(), &builderv1.FindImageRequest{Repository: test.place, Tag: tag})
		_, pushErr := b.client.PushImage(t.Context(), &builderv1.PushImageRequest{RepositoryUri: test.place, Tag: tag})
		for call, err := range map[string]error{"FindImage": findErr, "PushImage": pushErr} {
			err = errs.FromStatus(err)
			if errs.Reason(err) != test.reason || !strings.Contains(err.Error(), name+", which no longer exists") || !strings.Contains(err.Error(), "build the image for a deployment that exists") {
				t.Errorf("%s in %s = %v (%s), want %s that names the deployment", call, test.place, err, errs.Reason(err), test.reason)
			}
		}
	}
}

func TestImageOfADeploymentIsReachedWithItsCredentialOnly(t *testing.T) {
	const name, place, tag = "platforms/aws/deployments/abcd1234", "123456789012.dkr.ecr.eu-west-1.amazonaws.com/functions", "t"
	var asked []string
	b := newImageBench(t, nil, imageOptions{
		deployments: deployments{name: {Name: name, Platform: "aws", Credential: "team", Region: "eu-west-1"}},
		openECR: func(_ context.Context, credential, _ string) (*ecr.Registry, error) {
			asked = append(asked, credential)
			return nil, errs.FailedPrecondition("CREDENTIALS_NOT_ON_SERVICE", "the test has no account")
		},
	})
	key := "images/" + place + ":" + tag
	if _, err := b.records.Put(t.Context(), key, &builderv1.Image{Name: key, Platform: "aws", Deployment: name}); err != nil {
		t.Fatal(err)
	}
	_, err := b.client.FindImage(t.Context(), &builderv1.FindImageRequest{Repository: place, Tag: tag})
	if errs.Reason(errs.FromStatus(err)) != "CREDENTIALS_NOT_ON_SERVICE" || len(asked) != 1 || asked[0] != "team" {
		t.Errorf("FindImage = %v, asked for the credentials %q; want those of the deployment", err, asked)
	}
}

func TestImagesOfSeveralArchitectures(t *testing.T) {
	r := registrytest.Start(t, "", "")
	b := newImageBench(t, pictures(echoSource), onRegistry(r))
	op, err := b.client.BuildImage(t.Context(), &builderv1.BuildImageRequest{Spec: &builderv1.ImageSpec{
		Platform: "local", Benchmark: "901.picture", Runtime: python("3.11"), MultiPlatform: true,
	}})
	built := result(t, op, err, &builderv1.BuildImageResponse{})
	if !strings.HasSuffix(built.GetImageUri(), "python-3.11-multi-1.0.0") {
		t.Errorf("uri = %s", built.GetImageUri())
	}
	client := registry.New(registry.NewKeychain(credentials.NewResolver(nil, func(string) string { return "" }), "", false))
	defer client.Close()
	for _, architecture := range []string{"amd64", "arm64"} {
		img, err := client.Image(t.Context(), built.GetImageUri(), architecture)
		if err != nil {
			t.Fatal(err)
		}
		file, err := img.ConfigFile()
		if err != nil || file.Architecture != architecture || file.Config.WorkingDir != "/var/task" || len(file.Config.Cmd) != 1 || file.Config.Cmd[0] != "handler.handler" {
			t.Errorf("%s: configuration = %+v, %v", architecture, file, err)
		}
		if len(file.Config.Entrypoint) != 2 || file.Config.Entrypoint[1] != "/var/runtime/python/bootstrap.py" {
			t.Errorf("%s: entry point = %q", architecture, file.Config.Entrypoint)
		}
	}
}

func TestBaseImagesAreUsedOnceBuilt(t *testing.T) {
	r := registrytest.Start(t, "", "")
	o := onRegistry(r)
	o.bases = nil
	o.config.PreviousVersion = "0.9.0"
	older := o
	older.version = "v0.9.0"
	spec := &builderv1.ImageSpec{Platform: "local", Runtime: python("3.11"), Architecture: typev1.Architecture_ARCHITECTURE_X64}
	op, err := newImageBench(t, nil, older).client.BuildImage(t.Context(), &builderv1.BuildImageRequest{Spec: spec, BuilderImage: images.Scratch})
	base := result(t, op, err, &builderv1.BuildImageResponse{})
	if want := r.Address + "/sebs/benchmarks:build.local.python.3.11-0.9.0"; base.GetImageUri() != want {
		t.Fatalf("base image = %s, want %s", base.GetImageUri(), want)
	}
	b := newImageBench(t, pictures(echoSource), o)
	built := b.container(t, nil)
	record := &builderv1.Image{}
	if _, err := b.records.Get(t.Context(), "images/"+r.Address+"/sebs/benchmarks:function.local.901.picture.python-3.11-x64-1.0.0", record); err != nil {
		t.Fatal(err)
	}
	if want := r.Address + "/sebs/benchmarks@" + base.GetDigest(); len(record.GetParts()) != 1 || record.GetParts()[0].GetBaseImage() != want || record.GetParts()[0].GetPackage() != built.GetName() {
		t.Errorf("record = %v, want the base image %s", record, want)
	}
}

func TestImageRefusals(t *testing.T) {
	b := newImageBench(t, pictures(echoSource), imageOptions{
		config: RegistryConfig{Address: "127.0.0.1:1", Repository: "sebs/benchmarks"}, bases: map[string]string{"local.python": images.Scratch, "local.nodejs": "127.0.0.1:1/none:1"},
		deployments: deployments{
			"platforms/aws/deployments/other": {Name: "platforms/aws/deployments/other", Settings: map[string]string{"docker-registry": "127.0.0.1:1"}},
			"platforms/aws/deployments/mine":  {Name: "platforms/aws/deployments/mine"},
		},
	})
	create := func(change func(*builderv1.CreatePackageRequest)) error {
		request := &builderv1.CreatePackageRequest{
			Source: &builderv1.BenchmarkSource{Benchmark: "901.picture"}, Platform: "local", Runtime: python("3.11"),
			Architecture: typev1.Architecture_ARCHITECTURE_X64, SystemVariant: typev1.SystemVariant_SYSTEM_VARIANT_CONTAINER,
		}
		change(request)
		_, err := b.client.CreatePackage(t.Context(), request)
		return errs.FromStatus(err)
	}
	for name, test := range map[string]struct {
		change func(*builderv1.CreatePackageRequest)
		code   codes.Code
		says   string
	}{
		"registry away": {func(*builderv1.CreatePackageRequest) {}, codes.Unavailable, "registry 127.0.0.1:1 cannot be reached"},
		"no base image": {func(r *builderv1.CreatePackageRequest) {
			r.Runtime = &typev1.Runtime{Language: typev1.Language_LANGUAGE_NODEJS, Version: "20"}
		}, codes.FailedPrecondition, "builder.base_images"},
		"bad prefix":           {func(r *builderv1.CreatePackageRequest) { r.ImageTagPrefix = "a b" }, codes.InvalidArgument, "is no tag"},
		"long prefix":          {func(r *builderv1.CreatePackageRequest) { r.ImageTagPrefix = strings.Repeat("x", 200) }, codes.InvalidArgument, "at most 128"},
		"other platform":       {func(r *builderv1.CreatePackageRequest) { r.Deployment = "platforms/aws/deployments/mine" }, codes.InvalidArgument, "platforms/local/deployments"},
		"deployment not there": {func(r *builderv1.CreatePackageRequest) { r.Deployment = "platforms/local/deployments/none" }, codes.NotFound, "does not exist"},
		"registry, no repository": {func(r *builderv1.CreatePackageRequest) {
			r.Platform, r.Deployment = "aws", "platforms/aws/deployments/other"
		}, codes.FailedPrecondition, "container_repository"},
		"no account": {func(r *builderv1.CreatePackageRequest) {
			r.Platform, r.Deployment = "aws", "platforms/aws/deployments/mine"
		}, codes.FailedPrecondition, "no account"},
	} {
		t.Run(name, func(t *testing.T) {
			if err := create(test.change); errs.Code(err) != test.code || !strings.Contains(err.Error(), test.says) {
				t.Errorf("CreatePackage = %v (%s); want %s, saying %q", err, errs.Code(err), test.code, test.says)
			}
		})
	}
	if _, err := b.client.FindImage(t.Context(), &builderv1.FindImageRequest{Repository: "127.0.0.1:1/UPPER", Tag: "-"}); errs.Code(errs.FromStatus(err)) != codes.InvalidArgument {
		t.Errorf("FindImage of a wrong name = %v", err)
	}
	_, err := b.client.PushToRegistry(t.Context(), &builderv1.PushToRegistryRequest{Spec: &builderv1.ImageSpec{Platform: "local", Benchmark: "901.picture", Runtime: python("3.11")}})
	if errs.Reason(errs.FromStatus(err)) != ReasonImageNotBuilt {
		t.Errorf("PushToRegistry of what was never built = %v", err)
	}
}

func TestRegistryName(t *testing.T) {
	b := newImageBench(t, nil, imageOptions{
		config: RegistryConfig{Address: "registry.example.org:5000", Repository: "team/sebs"},
		deployments: deployments{"platforms/aws/deployments/other": {
			Name: "platforms/aws/deployments/other", Settings: map[string]string{"docker-registry": "docker.io", "container_repository": "someone/benchmarks"},
		}},
	})
	for want, spec := range map[string]*builderv1.ImageSpec{
		"registry.example.org:5000/team/sebs:function.local.110.dynamic-html.python-3.11-x64-1.0.0": {Platform: "local", Benchmark: "110.dynamic-html", Runtime: python("3.11"), Architecture: typev1.Architecture_ARCHITECTURE_X64},
		"docker.io/someone/benchmarks:function.aws.110.dynamic-html.python-3.11-arm64-try-1.0.0":    {Platform: "aws", Benchmark: "110.dynamic-html", Runtime: python("3.11"), Architecture: typev1.Architecture_ARCHITECTURE_ARM64, TagPrefix: "try", Deployment: "platforms/aws/deployments/other"},
		"registry.example.org:5000/team/sebs:build.aws.python.3.11-1.0.0":                           {Platform: "aws", Runtime: python("3.11")},
	} {
		got, err := b.client.GetRegistryName(t.Context(), &builderv1.GetRegistryNameRequest{Spec: spec})
		if err != nil || got.GetImageUri() != want || got.GetRegistry()+"/"+got.GetRepository()+":"+got.GetTag() != want {
			t.Errorf("GetRegistryName(%v) = %v, %v; want %s", spec, got, err, want)
		}
	}
}
