package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"github.com/sebs-suite/sebs/cli/display"
	"github.com/sebs-suite/sebs/cli/exitcode"
	"github.com/sebs-suite/sebs/cli/output"
	builderv1 "github.com/sebs-suite/sebs/gen/go/sebs/builder/v1"
	typev1 "github.com/sebs-suite/sebs/gen/go/sebs/type/v1"
	"github.com/sebs-suite/sebs/internal/benchsource"
	"github.com/sebs-suite/sebs/internal/errs"
)

// uploadChunkBytes is the size of one message of an upload; it leaves room below the message limit.
const uploadChunkBytes = 512 << 10

func (a *app) benchmarkPackageCommand() *cobra.Command {
	f := &commonFlags{}
	var functionName, imageTagPrefix string
	cmd := &cobra.Command{
		Use:     "package BENCHMARK",
		Aliases: []string{"build"}, // the name in SeBS's documentation
		Short:   "Build the code package or the container image of a benchmark without deploying it",
		Example: "  sebs benchmark package 110.dynamic-html --language nodejs\n  sebs benchmark package 110.dynamic-html --system-variant container",
		Args:    cobra.ExactArgs(1),
		RunE: a.commonCall(f, nil, func(c *call, set *settings) error {
			built, err := a.createPackage(c.ctx, c.s, c.show, f, set, c.args[0], imageTagPrefix)
			if err != nil {
				return err
			}
			return output.Message(a.Stdout, c.format, built, func() output.Rows { return packageRows(built) })
		}),
	}
	f.add(cmd, a)
	cmd.Flags().StringVar(&functionName, "function-name", "", "accepted as in SeBS; a package does not depend on it")
	cmd.Flags().StringVar(&imageTagPrefix, "image-tag-prefix", "", "prefix of the tag of container images")
	return cmd
}

func (a *app) createPackage(ctx context.Context, s *session, show *display.Display, f *commonFlags, set *settings, name, imageTagPrefix string) (*builderv1.Package, error) {
	folder, err := f.source(ctx, s, name)
	if err != nil {
		return nil, err
	}
	deployment := ""
	if set.target.GetSystemVariant() == typev1.SystemVariant_SYSTEM_VARIANT_CONTAINER {
		if deployment, err = registryDeployment(ctx, s, set); err != nil {
			return nil, err
		}
	}
	op, err := builderv1.NewBuilderServiceClient(s.conn).CreatePackage(ctx, &builderv1.CreatePackageRequest{
		Source: folder, Platform: set.platform, Runtime: set.target.GetRuntime(), Architecture: set.target.GetArchitecture(),
		SystemVariant: set.target.GetSystemVariant(), Force: set.target.GetUpdateCode(), RequestId: uuid.NewString(),
		Deployment: deployment, ImageTagPrefix: imageTagPrefix,
	})
	if err != nil {
		return nil, err
	}
	built := &builderv1.Package{}
	return built, a.follow(ctx, s, show, op, built)
}

func packageRows(p *builderv1.Package) output.Rows {
	rows := output.Rows{
		Header: []string{"BENCHMARK", "RUNTIME", "ARCH", "SIZE BYTES", "BUILD MS", "CACHED", "DIGEST"},
		Lines: [][]string{{
			p.GetBenchmark(), nameOf(p.GetRuntime().GetLanguage(), languageNames) + " " + p.GetRuntime().GetVersion(),
			nameOf(p.GetArchitecture(), architectureNames), strconv.FormatInt(p.GetSizeBytes(), 10),
			strconv.FormatInt(p.GetBuildMs(), 10), strconv.FormatBool(p.GetCached()), p.GetDigest(),
		}},
	}
	if p.GetImageUri() != "" {
		rows.Header, rows.Lines[0] = append(rows.Header, "IMAGE"), append(rows.Lines[0], p.GetImageUri())
	}
	return rows
}

func (a *app) benchmarkListCommand() *cobra.Command {
	f := &simpleFlags{}
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List the benchmarks that can be invoked",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			format, err := a.format()
			if err != nil {
				return err
			}
			options, err := f.connectOptions("local")
			if err != nil {
				return err
			}
			return a.with(cmd.Context(), options, func(s *session, _ *display.Display) error {
				all := &builderv1.ListBenchmarksResponse{}
				for token := ""; ; {
					page, err := builderv1.NewBuilderServiceClient(s.conn).ListBenchmarks(cmd.Context(), &builderv1.ListBenchmarksRequest{PageToken: token})
					if err != nil {
						return err
					}
					all.Benchmarks = append(all.Benchmarks, page.GetBenchmarks()...)
					if token = page.GetNextPageToken(); token == "" {
						break
					}
				}
				return output.Message(a.Stdout, format, all, func() output.Rows { return benchmarkRows(all.GetBenchmarks()) })
			})
		},
	}
	f.add(cmd, a)
	return cmd
}

func benchmarkRows(benchmarks []*builderv1.Benchmark) output.Rows {
	rows := output.Rows{Header: []string{"BENCHMARK", "LANGUAGES", "MEMORY MB", "TIMEOUT S", "MODULES"}}
	for _, b := range benchmarks {
		languages := ""
		for i, l := range b.GetLanguages() {
			if i > 0 {
				languages += " "
			}
			languages += nameOf(l.GetLanguage(), languageNames)
		}
		rows.Lines = append(rows.Lines, []string{
			b.GetBenchmark(), languages, strconv.Itoa(int(b.GetMemoryMb())), strconv.Itoa(int(b.GetTimeoutSeconds())),
			fmt.Sprint(b.GetModules()),
		})
	}
	return rows
}

// uploadFolder sends the folder of a benchmark out of the first directory that has it; without one it answers an
// empty name, and the suite's own directories are used.
func uploadFolder(ctx context.Context, client builderv1.BuilderServiceClient, dirs []string, name string, kind builderv1.SourceKind) (string, error) {
	folder, err := findFolder(dirs, name)
	if err != nil || folder == nil {
		return "", err
	}
	stream, err := client.UploadSource(ctx)
	if err != nil {
		return "", fmt.Errorf("upload %s: %w", name, err)
	}
	header := &builderv1.SourceHeader{Benchmark: name, Kind: kind}
	if err := stream.Send(&builderv1.UploadSourceRequest{Part: &builderv1.UploadSourceRequest_Header{Header: header}}); err != nil && !errors.Is(err, io.EOF) {
		return "", fmt.Errorf("upload %s: %w", name, err)
	}
	_, packErr := benchsource.Pack(ctx, chunkWriter(func(chunk []byte) error {
		return stream.Send(&builderv1.UploadSourceRequest{Part: &builderv1.UploadSourceRequest_Chunk{Chunk: chunk}})
	}), folder)
	stored, err := stream.CloseAndRecv()
	if err = errs.FromStatus(err); err != nil {
		return "", fmt.Errorf("upload %s: %w", name, err)
	}
	if packErr != nil {
		return "", fmt.Errorf("pack %s: %w", name, packErr)
	}
	return stored.GetName(), nil
}

// findFolder looks a folder up by its leaf name; nil tells that no directory has it.
func findFolder(dirs []string, name string) (fs.FS, error) {
	if len(dirs) == 0 {
		return nil, nil
	}
	for _, dir := range dirs {
		var found string
		err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			if entry.IsDir() && entry.Name() == name {
				found = path
				return fs.SkipAll
			}
			return nil
		})
		if err != nil {
			return nil, exitcode.With(exitcode.Usage, fmt.Errorf("look for %s: %w", name, err))
		}
		if found != "" {
			return os.DirFS(found), nil
		}
	}
	return nil, nil
}

// chunkWriter sends what is written in messages of bounded size.
type chunkWriter func(chunk []byte) error

func (send chunkWriter) Write(p []byte) (int, error) {
	for sent := 0; sent < len(p); sent += uploadChunkBytes {
		end := min(sent+uploadChunkBytes, len(p))
		if err := send(p[sent:end]); err != nil {
			return sent, err
		}
	}
	return len(p), nil
}
