package builder

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/sebs-suite/sebs/internal/archive"
	"github.com/sebs-suite/sebs/internal/benchsource"
	"github.com/sebs-suite/sebs/internal/errs"
	"github.com/sebs-suite/sebs/services/builder/benchmark"
	"github.com/sebs-suite/sebs/services/builder/inputs"

	builderv1 "github.com/sebs-suite/sebs/gen/go/sebs/builder/v1"
	eventv1 "github.com/sebs-suite/sebs/gen/go/sebs/event/v1"
	storagev1 "github.com/sebs-suite/sebs/gen/go/sebs/storage/v1"
)

// prepareInput runs input.py and records what came of it.
func (s *Server) prepareInput(ctx context.Context, request *builderv1.PrepareInputRequest, tell progress) (_ *builderv1.BenchmarkInput, err error) {
	ctx, cancel := context.WithTimeout(ctx, s.limits.Operation)
	defer cancel()
	platform, rid, err := deploymentOf(request.GetParent())
	if err != nil {
		return nil, err
	}
	tell("source", "finding "+request.GetSource().GetBenchmark())
	b, done, err := s.sources.find(ctx, request.GetSource())
	if err != nil {
		return nil, err
	}
	defer closeInto(&err, done)
	digest, err := inputDigest(ctx, b)
	if err != nil {
		return nil, fmt.Errorf("read input of %s: %w", b.Name, err)
	}
	key := strings.Join([]string{"inputs", platform, rid, b.Name, request.GetSize()}, "/")
	unlock, err := s.records.Lock(ctx, key)
	if err != nil {
		return nil, fmt.Errorf("wait for another preparation of the same input: %w", err)
	}
	defer unlock()
	before := &builderv1.BenchmarkInput{}
	if _, err := s.records.Get(ctx, key, before); err != nil && !errs.Is(err, codes.NotFound) {
		return nil, fmt.Errorf("read record of the input: %w", err)
	}
	tell("input", "running input.py of "+b.Name)
	host := &inputHost{
		storage: s.storage, parent: request.GetParent(), benchmark: b.Name, tell: tell,
		// Other data than last time must not be mistaken for the old one.
		replace: request.GetReplaceExisting() || before.GetDigest() != digest,
	}
	settings, err := s.web.settings(ctx, platform, b)
	if err != nil {
		return nil, err
	}
	generated, err := s.runner.Generate(ctx, b, request.GetSize(), host, settings...)
	if err != nil {
		return nil, err
	}
	result := &builderv1.BenchmarkInput{
		Benchmark: b.Name, Size: request.GetSize(), Digest: digest, PayloadJson: string(generated.Payload),
		Bucket: generated.Granted.Bucket, InputPrefixes: generated.Granted.InputPrefixes, OutputPrefixes: generated.Granted.OutputPrefixes,
		Tables: map[string]string{}, UsesObjects: generated.UsesObjects, UsesTables: generated.UsesTables,
		UploadedCount: host.uploaded, SkippedCount: host.skipped,
	}
	for name, table := range host.tables {
		result.Tables[name] = table.GetTableId()
	}
	return result, s.recordInput(ctx, key, request.GetParent(), result)
}

// recordInput writes what later preparations and other services need. The payload stays out: it may be large.
func (s *Server) recordInput(ctx context.Context, key, parent string, input *builderv1.BenchmarkInput) error {
	record := proto.CloneOf(input)
	record.PayloadJson = ""
	if _, err := s.records.Put(ctx, key, record); err != nil {
		return fmt.Errorf("record input: %w", err)
	}
	s.tellFact(ctx, "input_prepared", &eventv1.InputPrepared{Deployment: parent, Benchmark: input.GetBenchmark(), Size: input.GetSize()}, "")
	return nil
}

// inputDigest covers what decides about a benchmark's input: the folder without the languages, and the data.
func inputDigest(ctx context.Context, b benchmark.Benchmark) (string, error) {
	files, err := benchsource.Files(b.Source)
	if err != nil {
		return "", err
	}
	var own []archive.File
	for _, file := range files {
		top, _, nested := strings.Cut(file.Path, "/")
		if nested && slices.Contains(benchmark.Languages(), top) || file.Path == benchmark.ConfigFile {
			continue
		}
		own = append(own, file.At("benchmark/"+file.Path))
	}
	if b.Data != nil {
		data, err := archive.Tree(b.Data, inputs.DataLimits, nil)
		if err != nil {
			return "", err
		}
		for _, file := range data {
			own = append(own, file.At("data/"+file.Path))
		}
	}
	return benchsource.Digest(ctx, own)
}

// inputHost serves the calls of input.py through the storage service.
type inputHost struct {
	storage   storagev1.StorageServiceClient
	parent    string
	benchmark string
	replace   bool
	tell      progress

	bucket            string
	granted           inputs.Granted
	tables            map[string]*storagev1.Table
	uploaded, skipped int64
	written           int64
}

// Objects allots prefixes.
func (h *inputHost) Objects(ctx context.Context, inputCount, outputCount int) (inputs.Granted, error) {
	if inputCount+outputCount == 0 {
		return inputs.Granted{}, nil
	}
	data, err := h.storage.AllocateBenchmarkData(ctx, &storagev1.AllocateBenchmarkDataRequest{
		Parent: h.parent, Benchmark: h.benchmark, InputCount: int32(inputCount), OutputCount: int32(outputCount),
	})
	if err != nil {
		return inputs.Granted{}, errs.FromStatus(err)
	}
	h.bucket = data.GetBucket().GetName()
	h.granted = inputs.Granted{Bucket: data.GetBucket().GetBucketId(), InputPrefixes: data.GetInputPrefixes(), OutputPrefixes: data.GetOutputPrefixes()}
	return h.granted, nil
}

// Tables creates tables.
func (h *inputHost) Tables(ctx context.Context, tables []inputs.Table) error {
	request := &storagev1.CreateBenchmarkTablesRequest{Parent: h.parent, Benchmark: h.benchmark}
	for _, table := range tables {
		request.Tables = append(request.Tables, &storagev1.TableSpec{LogicalName: table.Name, PrimaryKey: table.PrimaryKey, SecondaryKey: table.SecondaryKey})
	}
	h.tell("input", "creating tables")
	created, err := h.storage.CreateBenchmarkTables(ctx, request)
	if err != nil {
		return errs.FromStatus(err)
	}
	h.tables = map[string]*storagev1.Table{}
	for _, table := range created.GetTables() {
		h.tables[table.GetSpec().GetLogicalName()] = table
	}
	return nil
}

// Upload stores an object, unless it is there and may stay.
func (h *inputHost) Upload(ctx context.Context, prefix int, key string, content *os.File) error {
	key = h.granted.InputPrefixes[prefix] + "/" + strings.TrimPrefix(key, "/")
	skipped, err := upload(ctx, h.storage, &storagev1.UploadTarget{Bucket: h.bucket, Key: key, ReplaceExisting: &h.replace}, content)
	if err != nil {
		return err
	}
	if skipped {
		h.skipped++
	} else {
		h.uploaded++
	}
	h.tell("input", fmt.Sprintf("%d objects uploaded, %d were there", h.uploaded, h.skipped))
	return nil
}

// WriteItem writes an item.
func (h *inputHost) WriteItem(ctx context.Context, item inputs.Item) error {
	table, ok := h.tables[item.Table]
	if !ok {
		return errs.InvalidArgument(inputs.ReasonFailed, "input.py writes to table %q, which allocate_nosql does not declare", item.Table).With("benchmark", h.benchmark)
	}
	data := &structpb.Struct{}
	if len(item.Data) > 0 && string(item.Data) != "null" {
		if err := json.Unmarshal(item.Data, data); err != nil {
			return errs.InvalidArgument(inputs.ReasonFailed, "input.py writes to table %q what is not an object of names and values", item.Table).With("benchmark", h.benchmark)
		}
	}
	request := &storagev1.WriteItemRequest{
		Table: table.GetName(), PrimaryKey: &storagev1.ItemKey{Name: item.PrimaryKey[0], Value: item.PrimaryKey[1]}, Data: data,
	}
	if item.SecondaryKey != nil {
		request.SecondaryKey = &storagev1.ItemKey{Name: item.SecondaryKey[0], Value: item.SecondaryKey[1]}
	}
	if _, err := h.storage.WriteItem(ctx, request); err != nil {
		return errs.FromStatus(err)
	}
	h.written++
	return nil
}

// Download reads an object of the deployment.
func (h *inputHost) Download(ctx context.Context, bucket, key string, w io.Writer) error {
	if !bucketPattern.MatchString(bucket) {
		return errs.NotFound("BUCKET_NOT_FOUND", "bucket %q does not exist", bucket)
	}
	return download(ctx, h.storage, h.parent+"/buckets/"+bucket, key, w)
}
