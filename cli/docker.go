package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"cloud.google.com/go/longrunning/autogen/longrunningpb"
	"github.com/google/uuid"
	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"
	"google.golang.org/protobuf/proto"

	"github.com/sebs-suite/sebs/cli/exitcode"
	"github.com/sebs-suite/sebs/cli/output"
	builderv1 "github.com/sebs-suite/sebs/gen/go/sebs/builder/v1"
	deployerv1 "github.com/sebs-suite/sebs/gen/go/sebs/deployer/v1"
	typev1 "github.com/sebs-suite/sebs/gen/go/sebs/type/v1"
)

// Types of images.
const (
	imageBuild    = "build"
	imageFunction = "function"
)

// noImageType tells why types of images that SeBS has do not exist here.
var noImageType = map[string]string{
	"dependencies": "C++ dependencies come with the package and need no image",
	"run":          "the local platform takes any image with the language's interpreter; see local.images and `sebs doctor`",
	"manage":       "the suite speaks to the clouds itself and needs no image with their tools",
}

// dockerPlatforms are the architectures by the names that the docker command has for them.
var dockerPlatforms = map[string]string{"linux/amd64": "x64", "linux/arm64": "arm64", "linux/arm64/v8": "arm64"}

type dockerFlags struct {
	commonFlags
	imageType      string
	platform       string
	multiPlatform  bool
	dependencyType string
	parallel       int
	imageTagPrefix string
	builderImage   string
	ifMissing      bool
}

func (a *app) dockerCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "docker",
		Aliases: []string{"docker-cmd"}, // the name in some versions of SeBS
		Short:   "Build and push container images: those of functions, and those that they are built on",
	}
	cmd.AddCommand(a.dockerBuildCommand(), a.dockerPushCommand())
	return cmd
}

func (a *app) dockerBuildCommand() *cobra.Command {
	f := &dockerFlags{}
	cmd := &cobra.Command{
		Use:   "build [BENCHMARK]",
		Short: "Build images and push them to the registry",
		Long: `Build images and push them to the registry: with BENCHMARK the image of its function, without one the images that
functions are built on, for one version of a language or for all.

Images go to the registry of the deployment (aws: ECR), else to the one in builder.registry of the configuration, else into
the Docker Engine of the builder's machine. No Docker is needed to build them.`,
		Example: `  sebs docker build --deployment aws --language python --language-version 3.11 --multi-platform
  sebs docker build 110.dynamic-html --deployment local --language nodejs`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.dockerWork(cmd, f, args, func(c *call, set *settings, spec *builderv1.ImageSpec) (*imageDone, error) {
				request := &builderv1.BuildImageRequest{Spec: spec, IsCached: !f.ifMissing, BuilderImage: f.builderImage, RequestId: uuid.NewString()}
				if spec.GetBenchmark() != "" {
					var err error
					if request.Source, err = f.source(c.ctx, c.s, spec.GetBenchmark()); err != nil {
						return nil, err
					}
				}
				op, err := builderv1.NewBuilderServiceClient(c.conn).BuildImage(c.ctx, request)
				built := &builderv1.BuildImageResponse{}
				if err = a.followImage(c, op, err, built); err != nil {
					return nil, f.searched(c.s, err)
				}
				return &imageDone{Image: built.GetImageUri(), Digest: built.GetDigest(), SizeMB: built.GetSizeMb(), Rebuilt: built.GetRebuilt()}, nil
			})
		},
	}
	f.addDocker(cmd, a)
	flags := cmd.Flags()
	flags.IntVar(&f.parallel, "parallel", 1, "images built at once")
	flags.StringVar(&f.builderImage, "builder-image", "", "image to build on (default: the configured one, else one built by this command, else the platform's)")
	boolFlag(cmd, &f.ifMissing, "if-missing", false, "leave an image that the registry has as it is")
	return cmd
}

func (a *app) dockerPushCommand() *cobra.Command {
	f := &dockerFlags{parallel: 1}
	cmd := &cobra.Command{
		Use:     "push [BENCHMARK]",
		Short:   "Push images again that were built before, without building them",
		Example: "  sebs docker push 110.dynamic-html --deployment aws",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.dockerWork(cmd, f, args, func(c *call, _ *settings, spec *builderv1.ImageSpec) (*imageDone, error) {
				op, err := builderv1.NewBuilderServiceClient(c.conn).PushToRegistry(c.ctx, &builderv1.PushToRegistryRequest{Spec: spec, RequestId: uuid.NewString()})
				pushed := &builderv1.PushImageResponse{}
				if err = a.followImage(c, op, err, pushed); err != nil {
					return nil, err
				}
				return &imageDone{Image: pushed.GetImageUri(), Digest: pushed.GetDigest()}, nil
			})
		},
	}
	f.addDocker(cmd, a)
	return cmd
}

func (f *dockerFlags) addDocker(cmd *cobra.Command, a *app) {
	f.add(cmd, a)
	flags := cmd.Flags()
	flags.StringVar(&f.imageType, "image-type", "", "build (what functions are built on) or function (default: function with BENCHMARK, else build)")
	flags.StringVar(&f.platform, "platform", a.Getenv("DOCKER_DEFAULT_PLATFORM"), "the architecture in docker's form: linux/amd64 or linux/arm64 (env DOCKER_DEFAULT_PLATFORM)")
	boolFlag(cmd, &f.multiPlatform, "multi-platform", false, "one image for all architectures of the platform")
	flags.StringVar(&f.dependencyType, "dependency-type", "", "accepted as in SeBS; there are no images of dependencies")
	flags.StringVar(&f.imageTagPrefix, "image-tag-prefix", "", "prefix of the tag of functions' images")
}

// imageDone is what a command tells of one image.
type imageDone struct {
	Image   string  `json:"image" yaml:"image"`
	Digest  string  `json:"digest" yaml:"digest"`
	SizeMB  float64 `json:"size_mb" yaml:"size_mb"`
	Rebuilt bool    `json:"rebuilt" yaml:"rebuilt"`
}

// followImage follows an operation that was started, or not.
func (a *app) followImage(c *call, op *longrunningpb.Operation, err error, into proto.Message) error {
	if err != nil {
		return err
	}
	return a.follow(c.ctx, c.s, c.show, op, into)
}

// dockerWork does the work for every image that the flags name.
func (a *app) dockerWork(cmd *cobra.Command, f *dockerFlags, args []string, work func(c *call, set *settings, spec *builderv1.ImageSpec) (*imageDone, error)) error {
	if err := f.check(cmd, args); err != nil {
		return err
	}
	// The environment yields to flags.
	if cmd.Flags().Changed("platform") || f.platform != "" && f.architecture == "" {
		f.architecture = dockerPlatforms[f.platform]
	}
	return a.commonCall(&f.commonFlags, nil, func(c *call, set *settings) error {
		specs, err := f.specs(c, set, args)
		if err != nil {
			return err
		}
		done, problems := make([]*imageDone, len(specs)), make([]error, len(specs))
		// An image that fails does not stop the others.
		var group errgroup.Group
		group.SetLimit(f.parallel)
		for i, spec := range specs {
			group.Go(func() (err error) {
				if done[i], err = work(c, set, spec); err != nil {
					problems[i] = fmt.Errorf("image of %s: %w", describeSpec(spec), err)
				}
				return nil
			})
		}
		err = errors.Join(append(problems, group.Wait())...)
		done = slices.DeleteFunc(done, func(d *imageDone) bool { return d == nil })
		if len(done) > 0 || err == nil {
			if printErr := a.printImages(c.format, done); printErr != nil {
				return errors.Join(printErr, err)
			}
		}
		return err
	})(cmd, nil)
}

// check refuses flags that cannot be served.
func (f *dockerFlags) check(cmd *cobra.Command, args []string) error {
	usage := func(format string, values ...any) error {
		return exitcode.With(exitcode.Usage, fmt.Errorf(format, values...))
	}
	if why, ok := noImageType[f.imageType]; ok {
		return usage("--image-type: there are no images of type %s: %s; use build or function", f.imageType, why)
	}
	switch {
	case f.imageType != "" && f.imageType != imageBuild && f.imageType != imageFunction:
		return usage("--image-type: %q is unknown; use build or function", f.imageType)
	case f.imageType == imageFunction && len(args) == 0:
		return usage("--image-type function needs the BENCHMARK whose image is meant")
	case f.imageType == imageBuild && len(args) > 0:
		return usage("--image-type build takes no BENCHMARK: the image serves all of them")
	case f.dependencyType != "":
		return usage("--dependency-type: %s", noImageType["dependencies"])
	case cmd.Flags().Changed("platform") && (f.architecture != "" || f.multiPlatform):
		return usage("--platform says the same as --architecture and excludes it, and --multi-platform; give one")
	case f.parallel < 1:
		return usage("--parallel: %d is not a number of images; give 1 or more", f.parallel)
	case f.platform != "" && dockerPlatforms[f.platform] == "":
		return usage("--platform: %q is unknown; use linux/amd64 or linux/arm64", f.platform)
	}
	return nil
}

// specs are the images that the flags and arguments name.
func (f *dockerFlags) specs(c *call, set *settings, args []string) ([]*builderv1.ImageSpec, error) {
	spec := func(runtime *typev1.Runtime) *builderv1.ImageSpec {
		return &builderv1.ImageSpec{
			Platform: set.platform, Runtime: runtime, Architecture: set.target.GetArchitecture(), TagPrefix: f.imageTagPrefix, MultiPlatform: f.multiPlatform,
		}
	}
	if len(args) > 0 {
		one := spec(set.target.GetRuntime())
		one.Benchmark = args[0]
		var err error
		one.Deployment, err = registryDeployment(c.ctx, c.s, set)
		return []*builderv1.ImageSpec{one}, err
	}
	known, err := builderv1.NewBuilderServiceClient(c.conn).ListRuntimes(c.ctx, &builderv1.ListRuntimesRequest{Parent: "platforms/" + set.platform})
	if err != nil {
		return nil, err
	}
	var specs []*builderv1.ImageSpec
	for _, supported := range known.GetRuntimes() {
		runtime := supported.GetRuntime()
		if f.language != "" && runtime.GetLanguage() != set.target.GetRuntime().GetLanguage() ||
			f.languageVersion != "" && runtime.GetVersion() != f.languageVersion {
			continue
		}
		specs = append(specs, spec(runtime))
	}
	if len(specs) == 0 {
		return nil, exitcode.With(exitcode.Usage, fmt.Errorf("platform %s has no %s; see the versions with `sebs doctor`",
			set.platform, strings.TrimSpace(firstOf(f.language, "language")+" "+f.languageVersion)))
	}
	return specs, nil
}

// registryDeployment finds the deployment whose registry takes images, and makes it as an invocation would; platform local
// has no registry of a deployment.
func registryDeployment(ctx context.Context, s *session, set *settings) (string, error) {
	if set.platform == "local" {
		return "", nil
	}
	t := set.target
	deployment, err := deployerv1.NewDeployerServiceClient(s.conn).CreateDeployment(ctx, &deployerv1.CreateDeploymentRequest{
		Parent: "platforms/" + set.platform, ResourcesId: t.GetResourcesId(), ResourcePrefix: t.GetResourcePrefix(), Region: t.GetRegion(),
		Credential: t.GetCredential(), Settings: t.GetSettings(), Buckets: t.GetBuckets(), RequestId: uuid.NewString(),
	})
	if err != nil {
		return "", fmt.Errorf("find the deployment whose registry takes the image: %w", err)
	}
	return deployment.GetName(), nil
}

func describeSpec(spec *builderv1.ImageSpec) string {
	runtime := nameOf(spec.GetRuntime().GetLanguage(), languageNames) + " " + spec.GetRuntime().GetVersion()
	return strings.TrimSpace(spec.GetBenchmark() + " " + strings.TrimSpace(runtime))
}

func (a *app) printImages(format output.Format, images []*imageDone) error {
	if format == output.Table {
		return imageRows(images).Write(a.Stdout)
	}
	return output.Value(a.Stdout, format, images)
}

func imageRows(images []*imageDone) output.Rows {
	rows := output.Rows{Header: []string{"IMAGE", "SIZE MB", "REBUILT", "DIGEST"}}
	for _, i := range images {
		size := "-"
		if i.SizeMB > 0 {
			size = strconv.FormatFloat(i.SizeMB, 'f', 1, 64)
		}
		rows.Lines = append(rows.Lines, []string{i.Image, size, strconv.FormatBool(i.Rebuilt), i.Digest})
	}
	return rows
}
