package builder

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"time"

	"cloud.google.com/go/longrunning/autogen/longrunningpb"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/sebs-suite/sebs/internal/benchsource"
	"github.com/sebs-suite/sebs/internal/errs"
	"github.com/sebs-suite/sebs/internal/operations"
	"github.com/sebs-suite/sebs/services/builder/benchmark"
	"github.com/sebs-suite/sebs/services/builder/inputs"
	"github.com/sebs-suite/sebs/services/builder/packaging"
	"github.com/sebs-suite/sebs/services/builder/runtimesdata"

	builderv1 "github.com/sebs-suite/sebs/gen/go/sebs/builder/v1"
	storagev1 "github.com/sebs-suite/sebs/gen/go/sebs/storage/v1"
	typev1 "github.com/sebs-suite/sebs/gen/go/sebs/type/v1"
)

// Kinds of the service's operations.
const (
	kindPackage  = "create_package"
	kindInput    = "prepare_input"
	kindImage    = "build_image"
	kindPush     = "push_image"
	kindFinalize = "finalize_container_build"
)

// Limits bound the work of a server.
type Limits struct {
	// Operation is the longest that building a package or preparing an input may take.
	Operation time.Duration
	// CacheBytes is the most that is kept on disk of dependency layers, and as much again of uploaded sources.
	CacheBytes int64
}

// Dependencies are what a Server works with.
type Dependencies struct {
	// Records are the shared state, Operations the long work, Facts the events.
	Records    Records
	Operations Starter
	Facts      Teller
	// Storage is the storage service, Store the suite's own bucket behind it.
	Storage storagev1.StorageServiceClient
	Store   *Store
	// Catalogue finds benchmarks; Runtimes knows the platforms.
	Catalogue *benchmark.Catalogue
	Runtimes  *runtimesdata.Table
	// Layouts describe packages, Packages builds them, Runner runs input.py.
	Layouts  packaging.Layouts
	Packages *packaging.Builder
	Runner   *inputs.Runner
	// Web serves files to functions.
	Web *WebFiles
	// Images makes container images.
	Images *Images
	// Dir is a directory of this process for archives on their way.
	Dir string
	// HostArchitecture is used where a request names none and the platform has it.
	HostArchitecture string
	// Limits bound the work.
	Limits Limits
	// Sweep removes what killed processes left; it may be nil.
	Sweep func() error
	// Log is the process's log.
	Log *slog.Logger
}

// Server is the builder's gRPC service.
type Server struct {
	builderv1.UnimplementedBuilderServiceServer

	records    Records
	operations Starter
	facts      Teller
	storage    storagev1.StorageServiceClient
	store      *Store
	sources    *sources
	runtimes   *runtimesdata.Table
	layouts    packaging.Layouts
	packages   *packaging.Builder
	runner     *inputs.Runner
	web        *WebFiles
	images     *Images
	dir        string
	host       string
	limits     Limits
	sweep      func() error
	log        *slog.Logger
}

// NewServer returns the service.
func NewServer(d Dependencies) *Server {
	return &Server{
		records: d.Records, operations: d.Operations, facts: d.Facts, storage: d.Storage, store: d.Store,
		sources:  &sources{catalogue: d.Catalogue, store: d.Store, dir: filepath.Join(d.Dir, "sources")},
		runtimes: d.Runtimes, layouts: d.Layouts, packages: d.Packages, runner: d.Runner, web: d.Web, images: d.Images,
		dir: d.Dir, host: d.HostArchitecture, limits: d.Limits, sweep: d.Sweep, log: d.Log,
	}
}

// progress tells clients how far an operation is.
type progress func(phase, message string)

// work tells clients how far an operation is, with the bytes of the phase that are done and all of them; 0 where they are
// not counted.
type work func(phase, message string, current, total int64)

// say tells a phase whose bytes are not counted.
func (w work) say(phase, message string) { w(phase, message, 0, 0) }

// tellFact publishes an event. A bus that is away does not undo the work that was done.
func (s *Server) tellFact(ctx context.Context, event string, fact proto.Message, id string) {
	if err := s.facts.Tell(ctx, event, fact, id); err != nil {
		s.log.WarnContext(ctx, "an event was not published", "event", event, "error", err)
	}
}

// closeInto adds the error of closing something to the result of a function.
func closeInto(err *error, done func() error) { *err = errors.Join(*err, done()) }

// ListBenchmarks lists the benchmarks under the roots. Those whose config.json is at fault are left out and logged.
func (s *Server) ListBenchmarks(ctx context.Context, r *builderv1.ListBenchmarksRequest) (*builderv1.ListBenchmarksResponse, error) {
	found, faults, err := s.sources.catalogue.List()
	if err != nil {
		return nil, err
	}
	for _, fault := range faults {
		s.log.WarnContext(ctx, "a benchmark is left out", "error", fault)
	}
	names := make([]string, len(found))
	for i, b := range found {
		names[i] = b.Name
	}
	from, to, next, err := page(names, r.GetPageSize(), r.GetPageToken(), 100, 1000)
	if err != nil {
		return nil, err
	}
	answer := &builderv1.ListBenchmarksResponse{NextPageToken: next}
	for _, b := range found[from:to] {
		described, err := describe(ctx, b)
		if err != nil {
			return nil, err
		}
		answer.Benchmarks = append(answer.Benchmarks, described)
	}
	return answer, nil
}

// GetBenchmark returns one benchmark.
func (s *Server) GetBenchmark(ctx context.Context, r *builderv1.GetBenchmarkRequest) (*builderv1.Benchmark, error) {
	const collection = "benchmarks/"
	if len(r.GetName()) <= len(collection) || r.GetName()[:len(collection)] != collection {
		return nil, errs.Fields(errs.Field("name", "%q is not a name of the form benchmarks/{benchmark}", r.GetName()))
	}
	b, err := s.sources.catalogue.Find(r.GetName()[len(collection):])
	if err != nil {
		return nil, err
	}
	return describe(ctx, b)
}

func describe(ctx context.Context, b benchmark.Benchmark) (*builderv1.Benchmark, error) {
	files, err := benchsource.Files(b.Source)
	if err != nil {
		return nil, fmt.Errorf("read benchmark %s: %w", b.Name, err)
	}
	digest, err := benchsource.Digest(ctx, files)
	if err != nil {
		return nil, fmt.Errorf("read benchmark %s: %w", b.Name, err)
	}
	answer := &builderv1.Benchmark{
		Name: "benchmarks/" + b.Name, Benchmark: b.Name, TimeoutSeconds: int32(b.Config.Timeout / time.Second), MemoryMb: int32(b.Config.MemoryMB),
		Modules: b.Config.Modules, CppDependencies: b.Config.CPPDependencies, SourceDigest: digest, HasData: b.Data != nil,
	}
	for _, language := range b.Config.Languages {
		answer.Languages = append(answer.Languages, &builderv1.BenchmarkLanguage{Language: valueOf(languageNames, language.Name), Variants: language.Variants})
	}
	return answer, nil
}

// ListRuntimes lists what a platform runs.
func (s *Server) ListRuntimes(_ context.Context, r *builderv1.ListRuntimesRequest) (*builderv1.ListRuntimesResponse, error) {
	const collection = "platforms/"
	if len(r.GetParent()) <= len(collection) || r.GetParent()[:len(collection)] != collection {
		return nil, errs.Fields(errs.Field("parent", "%q is not a name of the form platforms/{platform}", r.GetParent()))
	}
	runtimes, err := s.runtimes.Runtimes(r.GetParent()[len(collection):])
	if err != nil {
		return nil, err
	}
	answer := &builderv1.ListRuntimesResponse{}
	for _, runtime := range runtimes {
		supported := &builderv1.SupportedRuntime{
			Runtime:   &typev1.Runtime{Language: valueOf(languageNames, runtime.Language), Version: runtime.Version, Variant: benchmark.DefaultVariant},
			EndOfLife: runtime.EndOfLife,
		}
		for _, architecture := range runtime.Architectures {
			supported.Architectures = append(supported.Architectures, valueOf(architectureNames, architecture))
		}
		answer.Runtimes = append(answer.Runtimes, supported)
	}
	return answer, nil
}

// UploadSource stores a benchmark folder that lies with the caller.
func (s *Server) UploadSource(stream builderv1.BuilderService_UploadSourceServer) error {
	first, err := stream.Recv()
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	header := first.GetHeader()
	if header == nil {
		return errs.Fields(errs.Field("header", "must be set in the first message of an upload"))
	}
	kept, err := s.sources.keep(stream.Context(), header, func() ([]byte, error) {
		message, err := stream.Recv()
		if err != nil {
			return nil, err
		}
		if message.GetHeader() != nil {
			return nil, errs.Fields(errs.Field("header", "must be set in the first message only"))
		}
		return message.GetChunk(), nil
	})
	if err != nil {
		return err
	}
	return stream.SendAndClose(kept)
}

// start starts an operation that tells its progress as BuildMetadata.
func (s *Server) start(ctx context.Context, kind, requestID string, request proto.Message, run func(context.Context, work) (proto.Message, error)) (*longrunningpb.Operation, error) {
	begun := timestamppb.Now()
	spec := operations.Spec{
		Service: "builder", Kind: kind, RequestID: requestID, Request: request,
		Metadata: &builderv1.BuildMetadata{Phase: "source", Message: "waiting to begin", StartTime: begun},
	}
	return s.operations.Start(ctx, spec, func(ctx context.Context, h *operations.Handle) (proto.Message, error) {
		return run(ctx, report(h, begun))
	})
}

func report(h *operations.Handle, begun *timestamppb.Timestamp) work {
	return func(phase, message string, current, total int64) {
		metadata := &builderv1.BuildMetadata{Phase: phase, Message: message, StartTime: begun, Current: current, Total: total}
		if total > 0 {
			metadata.Unit = "bytes"
		}
		h.Update(metadata)
	}
}

// resume takes up operations whose owner died. All kinds of work can be done twice.
func (s *Server) resume(ctx context.Context, h *operations.Handle, request *anypb.Any) (proto.Message, error) {
	message, err := request.UnmarshalNew()
	if err != nil {
		return nil, fmt.Errorf("read request of the operation: %w", err)
	}
	tell := report(h, timestamppb.Now())
	switch r := message.(type) {
	case *builderv1.CreatePackageRequest:
		return s.createPackage(ctx, r, tell)
	case *builderv1.PrepareInputRequest:
		return s.prepareInput(ctx, r, tell.say)
	case *builderv1.BuildImageRequest:
		return s.buildImage(ctx, r, tell)
	case *builderv1.PushImageRequest:
		return s.pushImage(ctx, r, tell)
	case *builderv1.PushToRegistryRequest:
		return s.pushToRegistry(ctx, r, tell)
	case *builderv1.FinalizeContainerBuildRequest:
		return s.finalizeContainer(ctx, r)
	}
	return nil, errs.Internal(fmt.Errorf("the builder has no operation for %s", request.GetTypeUrl()))
}

// PrepareInput starts the preparation of an input.
func (s *Server) PrepareInput(ctx context.Context, r *builderv1.PrepareInputRequest) (*longrunningpb.Operation, error) {
	if _, _, err := deploymentOf(r.GetParent()); err != nil {
		return nil, err
	}
	if err := s.checkSource(ctx, r.GetSource()); err != nil {
		return nil, err
	}
	return s.start(ctx, kindInput, r.GetRequestId(), r, func(ctx context.Context, tell work) (proto.Message, error) {
		return s.prepareInput(ctx, r, tell.say)
	})
}

// checkSource refuses a benchmark that does not exist before an operation is begun for it.
func (s *Server) checkSource(ctx context.Context, r *builderv1.BenchmarkSource) (err error) {
	_, done, err := s.sources.find(ctx, r)
	if err != nil {
		return err
	}
	return done()
}

// ValidateOutput runs validate_output over one answer.
func (s *Server) ValidateOutput(ctx context.Context, r *builderv1.ValidateOutputRequest) (_ *builderv1.ValidateOutputResponse, err error) {
	if _, _, err := deploymentOf(r.GetParent()); err != nil {
		return nil, err
	}
	var problems []error
	for field, text := range map[string]string{"payload_json": r.GetPayloadJson(), "output_json": r.GetOutputJson()} {
		if !json.Valid([]byte(text)) {
			problems = append(problems, errs.Field(field, "is not JSON"))
		}
	}
	if err := errs.Fields(problems...); err != nil {
		return nil, err
	}
	b, done, err := s.sources.find(ctx, r.GetSource())
	if err != nil {
		return nil, err
	}
	defer closeInto(&err, done)
	reason, err := s.runner.Validate(ctx, b, inputs.Judgement{
		Payload: json.RawMessage(r.GetPayloadJson()), Output: json.RawMessage(r.GetOutputJson()), Language: languageNames[r.GetLanguage()], Storage: true,
	}, &inputHost{storage: s.storage, parent: r.GetParent(), benchmark: b.Name, tell: func(string, string) {}})
	if err != nil {
		return nil, err
	}
	return &builderv1.ValidateOutputResponse{Valid: reason == "", Reason: reason}, nil
}

// CreatePackage starts the build of a package.
func (s *Server) CreatePackage(ctx context.Context, r *builderv1.CreatePackageRequest) (*longrunningpb.Operation, error) {
	choice, err := s.runtimes.Resolve(choiceOf(r.GetPlatform(), r.GetRuntime(), r.GetArchitecture(), r.GetSystemVariant()), s.host)
	if err != nil {
		return nil, err
	}
	if err := checkImageFields(choice, r); err != nil {
		return nil, err
	}
	if err := s.checkSource(ctx, r.GetSource()); err != nil {
		return nil, err
	}
	return s.start(ctx, kindPackage, r.GetRequestId(), r, func(ctx context.Context, tell work) (proto.Message, error) {
		return s.createPackage(ctx, r, tell)
	})
}

// DeletePackage deletes a package and its archive.
func (s *Server) DeletePackage(ctx context.Context, r *builderv1.DeletePackageRequest) (*emptypb.Empty, error) {
	digest, err := digestOf("name", "packages", r.GetName())
	if err != nil {
		return nil, err
	}
	return &emptypb.Empty{}, s.deletePackage(ctx, digest)
}
