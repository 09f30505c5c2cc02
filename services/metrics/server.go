package metrics

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"

	"cloud.google.com/go/longrunning/autogen/longrunningpb"
	"github.com/google/uuid"
	"google.golang.org/genproto/googleapis/api/httpbody"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	metricsv1 "github.com/sebs-suite/sebs/gen/go/sebs/metrics/v1"
	"github.com/sebs-suite/sebs/internal/errs"
	"github.com/sebs-suite/sebs/internal/operations"
)

const (
	// sendBytes is the content of one message of a stream.
	sendBytes = 256 << 10
	// inlineResultBytes is the largest result file that is answered in an operation, which is kept in the shared state.
	inlineResultBytes = 256 << 10
	// kindDownload and kindProcess name the operations. Only the former can be taken up: the file of the latter is not kept.
	kindDownload = "download_metrics"
	kindProcess  = "process_results"
)

// server translates between the API and the service.
type server struct {
	metricsv1.UnimplementedMetricsServiceServer
	service    *service
	operations *operations.Manager
}

func (s *server) register(r grpc.ServiceRegistrar) { metricsv1.RegisterMetricsServiceServer(r, s) }

// IngestInvocations implements the RPC.
func (s *server) IngestInvocations(ctx context.Context, in *metricsv1.IngestInvocationsRequest) (*metricsv1.IngestInvocationsResponse, error) {
	n, err := s.service.ingest(ctx, in.GetBatch())
	if err != nil {
		return nil, err
	}
	return &metricsv1.IngestInvocationsResponse{StoredCount: n}, nil
}

// ListInvocations implements the RPC.
func (s *server) ListInvocations(ctx context.Context, in *metricsv1.ListInvocationsRequest) (*metricsv1.ListInvocationsResponse, error) {
	return s.service.list(ctx, in)
}

// GetStatistics implements the RPC.
func (s *server) GetStatistics(ctx context.Context, in *metricsv1.GetStatisticsRequest) (*metricsv1.Statistics, error) {
	return s.service.statistics(ctx, in.GetRun(), in.GetPhase(), in.GetWaitForCount())
}

// ComputeStatistics implements the RPC.
func (s *server) ComputeStatistics(_ context.Context, in *metricsv1.ComputeStatisticsRequest) (_ *metricsv1.Statistics, err error) {
	p, err := s.service.receive(bytes.NewReader(in.GetResultsJson()))
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, p.close()) }()
	return p.fileStatistics()
}

// CompactRun implements the RPC.
func (s *server) CompactRun(ctx context.Context, in *metricsv1.CompactRunRequest) (*metricsv1.CompactRunResponse, error) {
	return s.service.compact(ctx, in.GetRun(), in.GetExpectedCount())
}

// ListPrices implements the RPC.
func (s *server) ListPrices(_ context.Context, in *metricsv1.ListPricesRequest) (*metricsv1.ListPricesResponse, error) {
	return listPrices(s.service.prices, in)
}

// EstimateCost implements the RPC.
func (s *server) EstimateCost(_ context.Context, in *metricsv1.EstimateCostRequest) (*metricsv1.EstimateCostResponse, error) {
	return estimateCost(s.service.prices, in)
}

// ExportRun implements the RPC.
func (s *server) ExportRun(in *metricsv1.ExportRunRequest, stream grpc.ServerStreamingServer[httpbody.HttpBody]) error {
	contentType := mediaType(in.GetFormat())
	out := &sender{send: func(content []byte) error {
		return stream.Send(&httpbody.HttpBody{ContentType: contentType, Data: content})
	}}
	if err := s.service.export(stream.Context(), in.GetRun(), in.GetFormat(), out); err != nil {
		return err
	}
	return out.flush()
}

// sender gathers what is written into messages.
type sender struct {
	send   func(content []byte) error
	buffer []byte
}

// Write gathers content and sends full messages.
func (s *sender) Write(p []byte) (int, error) {
	written := len(p)
	for len(p) > 0 {
		if s.buffer == nil {
			s.buffer = make([]byte, 0, sendBytes)
		}
		n := min(len(p), sendBytes-len(s.buffer))
		s.buffer = append(s.buffer, p[:n]...)
		p = p[n:]
		if len(s.buffer) == sendBytes {
			if err := s.flush(); err != nil {
				return 0, err
			}
		}
	}
	return written, nil
}

// flush sends what is left. A sent buffer is not used again: an in-process call hands it on as it is.
func (s *sender) flush() error {
	if len(s.buffer) == 0 {
		return nil
	}
	content := s.buffer
	s.buffer = nil
	return s.send(content)
}

// DownloadMetrics implements the RPC.
func (s *server) DownloadMetrics(ctx context.Context, in *metricsv1.DownloadMetricsRequest) (*longrunningpb.Operation, error) {
	if (in.GetRun() == "") == (len(in.GetResultsJson()) == 0) {
		return nil, errs.Fields(errs.Field("run", "or results_json must be given, and not both"))
	}
	if _, err := newFetchOptions(in.GetExtend(), in.GetWait(), nil, nil); err != nil {
		return nil, err
	}
	spec := operations.Spec{Service: "metrics", Kind: kindDownload, Metadata: &metricsv1.DownloadMetricsMetadata{}, Request: in}
	work := s.downloadRun
	if in.GetRun() == "" {
		// The file is too large for the shared state; without it the operation cannot be taken up.
		spec.Kind, spec.Request = kindProcess, nil
		work = s.downloadFile
	}
	return s.operations.Start(ctx, spec, func(ctx context.Context, h *operations.Handle) (proto.Message, error) {
		return work(ctx, h, in)
	})
}

// resumeDownload takes up a download whose owner died.
func (s *server) resumeDownload(ctx context.Context, h *operations.Handle, request *anypb.Any) (proto.Message, error) {
	in := &metricsv1.DownloadMetricsRequest{}
	if err := request.UnmarshalTo(in); err != nil {
		return nil, errs.DataLoss("OPERATION_REQUEST_DAMAGED", "the request of %s cannot be read: %v", h.Name(), err)
	}
	return s.downloadRun(ctx, h, in)
}

func progressTo(h *operations.Handle) func(progress) {
	return func(now progress) { h.Update(now.proto()) }
}

func (s *server) downloadRun(ctx context.Context, h *operations.Handle, in *metricsv1.DownloadMetricsRequest) (proto.Message, error) {
	response, err := s.service.downloadRun(ctx, in, progressTo(h))
	if err != nil {
		return nil, err
	}
	return response, nil
}

func (s *server) downloadFile(ctx context.Context, h *operations.Handle, in *metricsv1.DownloadMetricsRequest) (_ proto.Message, err error) {
	options, err := newFetchOptions(in.GetExtend(), in.GetWait(), s.service.log, progressTo(h))
	if err != nil {
		return nil, err
	}
	p, err := s.service.receive(bytes.NewReader(in.GetResultsJson()))
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, p.close()) }()
	if err := p.scan(); err != nil {
		return nil, err
	}
	if err := p.fill(ctx, in.GetDeployment(), options); err != nil {
		return nil, err
	}
	var out bytes.Buffer
	if err := p.write(&out, p.collector(p.header)); err != nil {
		return nil, err
	}
	response, err := p.outcome.response()
	if err != nil {
		return nil, err
	}
	if out.Len() <= inlineResultBytes {
		response.ResultsJson = out.Bytes()
		return response, nil
	}
	key := "processed/" + uuid.NewString() + ".json"
	if err := s.service.store.Put(ctx, key, bytes.NewReader(out.Bytes()), int64(out.Len())); err != nil {
		return nil, fmt.Errorf("store the processed results: %w", err)
	}
	response.ResultsRef = s.service.store.Ref(key)
	return response, nil
}

// ProcessResults implements the RPC.
func (s *server) ProcessResults(stream grpc.BidiStreamingServer[metricsv1.ProcessResultsRequest, metricsv1.ProcessResultsResponse]) (err error) {
	first, err := stream.Recv()
	if err != nil {
		return err
	}
	options := first.GetOptions()
	if options == nil {
		return errs.Fields(errs.Field("options", "must be in the first message"))
	}
	fetching, err := newFetchOptions(options.GetExtend(), options.GetWait(), s.service.log, func(now progress) {
		// A client that is gone is noticed at the next chunk.
		_ = stream.Send(&metricsv1.ProcessResultsResponse{Part: &metricsv1.ProcessResultsResponse_Progress{Progress: now.proto()}})
	})
	if err != nil {
		return err
	}
	p, err := s.service.receive(&chunks{recv: stream.Recv})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.close()) }()
	summary, err := s.process(stream, p, options, fetching)
	if err != nil {
		return err
	}
	return stream.Send(&metricsv1.ProcessResultsResponse{Part: &metricsv1.ProcessResultsResponse_Summary{Summary: summary}})
}

func (s *server) process(stream grpc.BidiStreamingServer[metricsv1.ProcessResultsRequest, metricsv1.ProcessResultsResponse], p *processing, options *metricsv1.ProcessResultsOptions, fetching fetchOptions) (*metricsv1.ProcessResultsSummary, error) {
	if options.GetStatisticsOnly() {
		statistics, err := p.fileStatistics()
		return &metricsv1.ProcessResultsSummary{Statistics: statistics}, err
	}
	if err := p.scan(); err != nil {
		return nil, err
	}
	if err := p.fill(stream.Context(), options.GetDeployment(), fetching); err != nil {
		return nil, err
	}
	out := &sender{send: func(content []byte) error {
		return stream.Send(&metricsv1.ProcessResultsResponse{Part: &metricsv1.ProcessResultsResponse_Chunk{Chunk: content}})
	}}
	c := p.collector(p.header)
	if err := p.write(out, c); err != nil {
		return nil, err
	}
	if err := out.flush(); err != nil {
		return nil, err
	}
	return &metricsv1.ProcessResultsSummary{
		FoundCount: p.outcome.found, MissingCount: p.outcome.missing, MissingRequestIds: p.outcome.missingIDs, Statistics: c.message(),
	}, nil
}

// chunks turns the messages of an upload into a reader.
type chunks struct {
	recv func() (*metricsv1.ProcessResultsRequest, error)
	left []byte
}

// Read returns the next bytes.
func (c *chunks) Read(p []byte) (int, error) {
	for len(c.left) == 0 {
		part, err := c.recv()
		if errors.Is(err, io.EOF) {
			return 0, io.EOF
		}
		if err != nil {
			return 0, err
		}
		if part.GetOptions() != nil {
			return 0, errs.Fields(errs.Field("options", "must be in the first message only"))
		}
		c.left = part.GetChunk()
	}
	n := copy(p, c.left)
	c.left = c.left[n:]
	return n, nil
}
