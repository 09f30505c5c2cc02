package local

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/timestamppb"

	localv1 "github.com/sebs-suite/sebs/gen/go/sebs/local/v1"
	"github.com/sebs-suite/sebs/internal/errs"
	"github.com/sebs-suite/sebs/runtimes"
	"github.com/sebs-suite/sebs/services/local/host"
	"github.com/sebs-suite/sebs/services/local/sandbox"
)

// URLs tells where the HTTP front answers.
type URLs interface {
	URL() string
	FunctionURL(name string) string
	OwnURL(port int) string
}

// Server implements sebs.local.v1.LocalService over a host.
type Server struct {
	localv1.UnimplementedLocalServiceServer
	host *host.Host
	urls URLs
	// notes says why a kind of sandbox does not work here or what it does not enforce, by kind.
	notes map[string]string
}

// NewServer serves the host. Notes tell, per kind of sandbox, why it does not work here.
func NewServer(h *host.Host, urls URLs, notes map[string]string) *Server {
	return &Server{host: h, urls: urls, notes: notes}
}

// Register adds the service to a gRPC server.
func (s *Server) Register(r grpc.ServiceRegistrar) { localv1.RegisterLocalServiceServer(r, s) }

// GetHost implements the RPC.
func (s *Server) GetHost(ctx context.Context, _ *localv1.GetHostRequest) (*localv1.Host, error) {
	out := &localv1.Host{
		HttpAddress:  s.urls.URL(),
		SandboxNotes: map[string]string{},
		Architecture: architectureEnums[host.Architecture()],
	}
	for kind, note := range s.notes {
		out.SandboxNotes[kind] = note
	}
	for _, k := range s.host.Kinds() {
		out.SandboxKinds = append(out.SandboxKinds, kindEnums[k.Name()])
		caps := k.Capabilities()
		if missing := caps.Missing(); len(missing) > 0 {
			out.SandboxNotes[k.Name()] = "not enforced: " + strings.Join(missing, "; ")
		}
		// What is on the machine and what the bootstraps run on are two things.
		offers := slices.DeleteFunc(k.Runtimes(ctx), func(o sandbox.Offer) bool {
			return !runtimes.Runs(o.Runtime.Language, o.Runtime.Version)
		})
		for _, o := range offers {
			out.Runtimes = append(out.Runtimes, &localv1.HostRuntime{
				Runtime: runtimeProto(o.Runtime, ""), SandboxKind: kindEnums[k.Name()], Provider: o.Provider,
			})
		}
		if out.DefaultSandboxKind == localv1.SandboxKind_SANDBOX_KIND_UNSPECIFIED && s.host.Prefers(k.Name()) && (len(offers) > 0 || k.Name() == "process") {
			out.DefaultSandboxKind = kindEnums[k.Name()]
		}
		switch k.Name() {
		case "process":
			out.CgroupMemory = caps.MemoryLimit == ""
			out.CgroupCpu = caps.CPULimit == ""
		case "docker":
			if _, advertise, err := k.RuntimeAPIHost(ctx); err == nil {
				out.DockerStoreHost = advertise
			}
		}
	}
	return out, nil
}

// DeployFunction implements the RPC.
func (s *Server) DeployFunction(stream grpc.ClientStreamingServer[localv1.DeployFunctionRequest, localv1.LocalFunction]) error {
	first, err := stream.Recv()
	if err != nil {
		return fmt.Errorf("receive function: %w", err)
	}
	spec := first.GetFunction()
	if spec == nil {
		return errs.Fields(errs.Field("function", "is missing; the first message describes the function, the following ones carry its archive"))
	}
	config, err := configFrom(spec.GetConfiguration())
	if err != nil {
		return err
	}
	if config.Image = spec.GetImageUri(); config.Image != "" && (spec.GetArchiveSha256() != "" || spec.GetArchiveSizeBytes() != 0) {
		return errs.Fields(errs.Field("function.image_uri", "and an archive exclude each other; send one"))
	}
	archive := &chunkReader{stream: stream}
	def, err := s.host.Deploy(stream.Context(), host.Spec{
		Name: spec.GetFunctionId(), Config: config, ArchiveSHA256: spec.GetArchiveSha256(),
		CodeHash: cmp.Or(spec.GetCodeHash(), spec.GetArchiveSha256(), spec.GetImageUri()), Replace: spec.GetReplaceExisting(),
	}, archive)
	if err != nil {
		return err
	}
	if want := spec.GetArchiveSizeBytes(); want > 0 && archive.done && archive.size != want {
		return errs.InvalidArgument("ARCHIVE_SIZE_MISMATCH", "the archive has %d bytes, the request says %d; send the archive again", archive.size, want)
	}
	return stream.SendAndClose(s.function(def, 0))
}

// chunkReader reads the archive out of the messages of a deployment.
type chunkReader struct {
	stream grpc.ClientStreamingServer[localv1.DeployFunctionRequest, localv1.LocalFunction]
	rest   []byte
	size   int64
	done   bool
}

// Read implements io.Reader.
func (r *chunkReader) Read(p []byte) (int, error) {
	for len(r.rest) == 0 {
		m, err := r.stream.Recv()
		if errors.Is(err, io.EOF) {
			r.done = true
			return 0, io.EOF
		}
		if err != nil {
			return 0, err
		}
		if m.GetFunction() != nil {
			return 0, errs.Fields(errs.Field("function", "came twice; only the first message describes the function"))
		}
		r.rest = m.GetChunk()
	}
	n := copy(p, r.rest)
	r.rest = r.rest[n:]
	r.size += int64(n)
	return n, nil
}

// UpdateConfiguration implements the RPC.
func (s *Server) UpdateConfiguration(ctx context.Context, r *localv1.UpdateConfigurationRequest) (*localv1.LocalFunction, error) {
	config, err := configFrom(r.GetConfiguration())
	if err != nil {
		return nil, err
	}
	def, err := s.host.Configure(ctx, r.GetFunctionId(), config)
	if err != nil {
		return nil, err
	}
	return s.function(def, 0), nil
}

// GetLocalFunction implements the RPC.
func (s *Server) GetLocalFunction(_ context.Context, r *localv1.GetLocalFunctionRequest) (*localv1.LocalFunction, error) {
	def, sandboxes, err := s.host.Get(r.GetFunctionId())
	if err != nil {
		return nil, err
	}
	return s.function(def, sandboxes), nil
}

// ListLocalFunctions implements the RPC. The page token is the name of the last function of the page before.
func (s *Server) ListLocalFunctions(_ context.Context, r *localv1.ListLocalFunctionsRequest) (*localv1.ListLocalFunctionsResponse, error) {
	size := pageSize(r.GetPageSize(), 100, 1000)
	out := &localv1.ListLocalFunctionsResponse{}
	for _, d := range s.host.List() {
		if d.Name <= r.GetPageToken() || (r.GetDeployment() != "" && d.Config.Labels["deployment"] != r.GetDeployment()) {
			continue
		}
		if len(out.Functions) == size {
			out.NextPageToken = out.Functions[size-1].GetFunctionId()
			break
		}
		_, sandboxes, err := s.host.Get(d.Name)
		if err != nil {
			continue // deleted in between
		}
		out.Functions = append(out.Functions, s.function(d, sandboxes))
	}
	return out, nil
}

func pageSize(asked int32, normal, most int) int {
	if asked <= 0 {
		return normal
	}
	return min(int(asked), most)
}

// DeleteLocalFunction implements the RPC.
func (s *Server) DeleteLocalFunction(_ context.Context, r *localv1.DeleteLocalFunctionRequest) (*emptypb.Empty, error) {
	if err := s.host.Delete(r.GetFunctionId()); err != nil {
		return nil, err
	}
	return &emptypb.Empty{}, nil
}

// InvokeFunction implements the RPC.
func (s *Server) InvokeFunction(ctx context.Context, r *localv1.InvokeFunctionRequest) (*localv1.InvokeFunctionResponse, error) {
	call := host.Call{Function: r.GetFunctionId(), Payload: r.GetPayload(), Tail: r.GetLogTail()}
	if r.GetInvocationType() == localv1.InvokeFunctionRequest_INVOCATION_TYPE_EVENT {
		id, err := s.host.InvokeEvent(call)
		if err != nil {
			return nil, err
		}
		return &localv1.InvokeFunctionResponse{RequestId: id}, nil
	}
	out, err := s.host.Invoke(ctx, call)
	if err != nil {
		return nil, err
	}
	return &localv1.InvokeFunctionResponse{
		RequestId: out.Record.RequestID, Payload: out.Body, FunctionError: out.Record.Failure, LogTail: out.Tail,
		Invocation: invocation(&out.Record),
	}, nil
}

// SetStorageTrigger implements the RPC.
func (s *Server) SetStorageTrigger(_ context.Context, r *localv1.SetStorageTriggerRequest) (*localv1.LocalFunction, error) {
	var trigger *host.StorageTrigger
	if t := r.GetTrigger(); t != nil {
		trigger = &host.StorageTrigger{Bucket: t.GetBucket(), Prefix: t.GetPrefix(), ResultsPrefix: t.GetResultsPrefix()}
	}
	def, err := s.host.SetStorageTrigger(r.GetFunctionId(), trigger)
	if err != nil {
		return nil, err
	}
	_, sandboxes, err := s.host.Get(def.Name)
	if err != nil {
		return nil, err
	}
	return s.function(def, sandboxes), nil
}

// NotifyObjectCreated implements the RPC.
func (s *Server) NotifyObjectCreated(_ context.Context, r *localv1.NotifyObjectCreatedRequest) (*localv1.NotifyObjectCreatedResponse, error) {
	ids, err := s.host.ObjectCreated(r.GetBucket(), r.GetKey(), r.GetSizeBytes())
	if err != nil {
		return nil, err
	}
	return &localv1.NotifyObjectCreatedResponse{RequestIds: ids}, nil
}

// maxPageBytes bounds the answers that one page of records carries.
const maxPageBytes = 8 << 20

// ListLocalInvocations implements the RPC.
func (s *Server) ListLocalInvocations(_ context.Context, r *localv1.ListLocalInvocationsRequest) (*localv1.ListLocalInvocationsResponse, error) {
	from, err := parseCursor(r.GetPageToken())
	if err != nil {
		return nil, err
	}
	records, err := s.host.Records(r.GetFunctionId(), host.Query{From: timeFrom(r.GetStartTime()), To: timeFrom(r.GetEndTime()), RequestIDs: r.GetRequestIds()})
	if err != nil {
		return nil, err
	}
	answers := map[string][]byte{}
	left := maxPageBytes
	records, next := page(records, from, pageSize(r.GetPageSize(), 1000, 10_000), func(r *host.Record) time.Time { return r.Start },
		func(rec *host.Record) bool {
			if !rec.Event {
				return true
			}
			body, err := s.host.Answer(r.GetFunctionId(), rec.RequestID)
			if err != nil {
				return true // no longer kept
			}
			left -= len(body)
			answers[rec.RequestID] = body
			return left > 0
		})
	out := &localv1.ListLocalInvocationsResponse{NextPageToken: next}
	for n := range records {
		p := invocation(&records[n])
		p.Payload = answers[p.GetRequestId()]
		out.Invocations = append(out.Invocations, p)
	}
	return out, nil
}

func timeFrom(t *timestamppb.Timestamp) time.Time {
	if t == nil {
		return time.Time{}
	}
	return t.AsTime()
}

// ListLocalLogs implements the RPC.
func (s *Server) ListLocalLogs(_ context.Context, r *localv1.ListLocalLogsRequest) (*localv1.ListLocalLogsResponse, error) {
	from, err := parseCursor(r.GetPageToken())
	if err != nil {
		return nil, err
	}
	q := host.Query{From: timeFrom(r.GetStartTime()), To: timeFrom(r.GetEndTime())}
	if r.GetRequestId() != "" {
		q.RequestIDs = []string{r.GetRequestId()}
	}
	lines, err := s.host.Logs(r.GetFunctionId(), q)
	if err != nil {
		return nil, err
	}
	left := maxPageBytes
	lines, next := page(lines, from, pageSize(r.GetPageSize(), 1000, 10_000), func(l *host.LogLine) time.Time { return l.Time },
		func(l *host.LogLine) bool { left -= len(l.Text); return left > 0 })
	out := &localv1.ListLocalLogsResponse{NextPageToken: next}
	for _, l := range lines {
		out.Lines = append(out.Lines, &localv1.LocalLogLine{Time: timestamppb.New(l.Time), RequestId: l.RequestID, Text: l.Text})
	}
	return out, nil
}

// ListSandboxes implements the RPC.
func (s *Server) ListSandboxes(ctx context.Context, r *localv1.ListSandboxesRequest) (*localv1.ListSandboxesResponse, error) {
	all, err := s.host.Sandboxes(ctx, r.GetFunctionId())
	if err != nil {
		return nil, err
	}
	out := &localv1.ListSandboxesResponse{}
	for _, b := range all {
		out.Sandboxes = append(out.Sandboxes, sandboxProto(b))
	}
	return out, nil
}

// WarmFunction implements the RPC.
func (s *Server) WarmFunction(ctx context.Context, r *localv1.WarmFunctionRequest) (*localv1.WarmFunctionResponse, error) {
	if err := s.host.Warm(ctx, r.GetFunctionId(), int(r.GetCount())); err != nil {
		return nil, err
	}
	all, err := s.host.Sandboxes(ctx, r.GetFunctionId())
	if err != nil {
		return nil, err
	}
	out := &localv1.WarmFunctionResponse{}
	for _, b := range all {
		out.Sandboxes = append(out.Sandboxes, sandboxProto(b))
	}
	return out, nil
}

const measurementPrefix = "memoryMeasurements/"

// StartMemoryMeasurement implements the RPC.
func (s *Server) StartMemoryMeasurement(_ context.Context, r *localv1.StartMemoryMeasurementRequest) (*localv1.MemoryMeasurement, error) {
	m, err := s.host.StartMeasurement(r.GetFunctionIds(), r.GetInterval().AsDuration())
	if err != nil {
		return nil, err
	}
	return &localv1.MemoryMeasurement{Name: measurementPrefix + m.ID, Interval: durationpb.New(m.Interval)}, nil
}

// StopMemoryMeasurement implements the RPC.
func (s *Server) StopMemoryMeasurement(_ context.Context, r *localv1.StopMemoryMeasurementRequest) (*localv1.MemoryMeasurement, error) {
	m, err := s.host.StopMeasurement(strings.TrimPrefix(r.GetName(), measurementPrefix))
	if err != nil {
		return nil, err
	}
	out := &localv1.MemoryMeasurement{Name: measurementPrefix + m.ID, Interval: durationpb.New(m.Interval), PrecisionErrors: m.Late}
	for _, p := range m.Profiles {
		out.Profiles = append(out.Profiles, &localv1.MemoryProfile{SandboxId: p.Sandbox, FunctionId: p.Function, SamplesBytes: p.Samples})
	}
	return out, nil
}

// RemoveOrphans implements the RPC.
func (s *Server) RemoveOrphans(ctx context.Context, r *localv1.RemoveOrphansRequest) (*localv1.RemoveOrphansResponse, error) {
	removed, err := s.host.Orphans(ctx, r.GetDryRun())
	if err != nil {
		return nil, err
	}
	return &localv1.RemoveOrphansResponse{Sandboxes: removed}, nil
}
