package metrics

import (
	"bufio"
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"

	"google.golang.org/protobuf/encoding/protojson"

	metricsv1 "github.com/sebs-suite/sebs/gen/go/sebs/metrics/v1"
	typev1 "github.com/sebs-suite/sebs/gen/go/sebs/type/v1"
	"github.com/sebs-suite/sebs/internal/errs"
	"github.com/sebs-suite/sebs/internal/sebsformat"
	"github.com/sebs-suite/sebs/services/metrics/results"
)

// export writes a run in the given format.
func (s *service) export(ctx context.Context, run string, format metricsv1.ExportRunRequest_Format, w io.Writer) error {
	manifest, err := s.reader.Manifest(ctx, run)
	if err != nil {
		return err
	}
	a := s.about(ctx, run)
	if len(manifest.Segments) == 0 && a.run == nil {
		return errs.NotFound("RUN_NOT_FOUND", "%s has no results; `sebs run list` shows the runs", run).With("run", run)
	}
	switch format {
	case metricsv1.ExportRunRequest_FORMAT_UNSPECIFIED, metricsv1.ExportRunRequest_FORMAT_SEBS_JSON:
		return s.exportSeBS(ctx, run, manifest, a, w)
	case metricsv1.ExportRunRequest_FORMAT_CSV:
		return s.exportCSV(ctx, run, w)
	case metricsv1.ExportRunRequest_FORMAT_PARQUET:
		return s.reader.WriteParquet(ctx, run, w)
	case metricsv1.ExportRunRequest_FORMAT_JSON_LINES:
		return s.exportLines(ctx, run, w)
	default:
		return errs.Fields(errs.Field("format", "%v is not known; use SEBS_JSON, CSV, PARQUET or JSON_LINES", format))
	}
}

// mediaType returns the media type of a format.
func mediaType(format metricsv1.ExportRunRequest_Format) string {
	switch format {
	case metricsv1.ExportRunRequest_FORMAT_CSV:
		return "text/csv"
	case metricsv1.ExportRunRequest_FORMAT_PARQUET:
		return "application/vnd.apache.parquet"
	case metricsv1.ExportRunRequest_FORMAT_JSON_LINES:
		return "application/x-ndjson"
	default:
		return "application/json"
	}
}

func (s *service) exportLines(ctx context.Context, run string, w io.Writer) error {
	out := bufio.NewWriter(w)
	err := s.reader.Scan(ctx, run, 0, func(_ int64, row *results.Row) (bool, error) {
		line, err := protojson.Marshal(row.Record())
		if err != nil {
			return false, fmt.Errorf("export %s: %w", run, err)
		}
		if _, err := out.Write(append(line, '\n')); err != nil {
			return false, fmt.Errorf("export %s: %w", run, err)
		}
		return true, nil
	})
	return errors.Join(err, out.Flush())
}

// csvColumns are the columns of the CSV export. Names carry the units.
var csvColumns = []string{
	"run", "function", "phase", "sequence", "attempt", "invoker", "trigger", "request_id", "cold_start", "failure", "error_class", "error_message",
	"http_status", "scheduled_unix_ns", "started_unix_ns", "finished_unix_ns", "client_us", "benchmark_us", "initialization_us",
	"http_startup_seconds", "http_first_byte_return_seconds", "provider_execution_us", "provider_initialization_us", "memory_used_mb",
	"billed_memory_mb", "billed_time_ms", "gb_seconds", "cost_usd", "cost_estimated", "compute_time_us", "upload_time_us", "download_time_us",
}

func (s *service) exportCSV(ctx context.Context, run string, w io.Writer) error {
	out := csv.NewWriter(w)
	if err := out.Write(csvColumns); err != nil {
		return fmt.Errorf("export %s: %w", run, err)
	}
	err := s.reader.Scan(ctx, run, 0, func(_ int64, r *results.Row) (bool, error) {
		err := out.Write([]string{
			r.Run, r.Function, r.Phase, integer(r.Sequence), integer(int64(r.Attempt)), r.Invoker, r.Trigger, r.RequestID,
			strconv.FormatBool(r.ColdStart), strconv.FormatBool(r.Failure), r.ErrorClass, r.ErrorMessage,
			integer(int64(r.HTTPStatus)), integer(r.ScheduledUnixNS), integer(r.StartedUnixNS), integer(r.FinishedUnixNS), integer(r.ClientUS),
			optionalInteger(r.BenchmarkUS), optionalInteger(r.InitializationUS), optionalNumber(r.HTTPStartupSeconds),
			optionalNumber(r.HTTPFirstByteReturnSeconds), optionalInteger(r.ProviderExecutionUS), optionalInteger(r.ProviderInitializationUS),
			optionalNumber(r.MemoryUsedMB), optionalInteger(r.BilledMemoryMB), optionalInteger(r.BilledTimeMS), optionalNumber(r.GBSeconds),
			optionalNumber(r.CostUSD), strconv.FormatBool(r.CostEstimated), optionalNumber(r.ComputeTimeUS), optionalNumber(r.UploadTimeUS),
			optionalNumber(r.DownloadTimeUS),
		})
		if err != nil {
			return false, fmt.Errorf("export %s: %w", run, err)
		}
		return true, nil
	})
	out.Flush()
	return errors.Join(err, out.Error())
}

func integer(i int64) string { return strconv.FormatInt(i, 10) }

func optionalInteger(i *int64) string {
	if i == nil {
		return ""
	}
	return integer(*i)
}

func optionalNumber(f *float64) string {
	if f == nil {
		return ""
	}
	return strconv.FormatFloat(*f, 'g', -1, 64)
}

// entry tells where in the scratch file an invocation lies.
type entry struct {
	function, key string
	offset        int64
	length        int
}

// exportSeBS writes experiments.json. Its keys are sorted, so the records go to a scratch file first and only their places stay in memory.
func (s *service) exportSeBS(ctx context.Context, run string, manifest *results.Manifest, a about, w io.Writer) (err error) {
	file, err := os.CreateTemp(s.scratch, "export-*.jsonl")
	if err != nil {
		return fmt.Errorf("export %s: %w", run, err)
	}
	defer func() { err = errors.Join(err, file.Close(), os.Remove(file.Name())) }()
	index, begin, end, err := s.spill(ctx, run, file)
	if err != nil {
		return err
	}
	slices.SortFunc(index, func(a, b entry) int {
		if c := strings.Compare(a.function, b.function); c != 0 {
			return c
		}
		return strings.Compare(a.key, b.key)
	})
	out := sebsformat.NewWriter(w)
	function := ""
	for i, e := range index {
		if i == 0 || e.function != function {
			if err := out.Function(e.function); err != nil {
				return err
			}
			function = e.function
		}
		raw := make([]byte, e.length)
		if _, err := file.ReadAt(raw, e.offset); err != nil {
			return fmt.Errorf("export %s: %w", run, err)
		}
		inv, err := sebsformat.ReadInvocation(raw, sebsformat.ReadOptions{})
		if err != nil {
			return fmt.Errorf("export %s: %w", run, err)
		}
		if err := out.Invocation(e.key, inv); err != nil {
			return err
		}
	}
	return out.Finish(header(manifest, a, begin, end))
}

// spill writes the run's invocations to a scratch file and returns their places, and the first start and last end in seconds.
func (s *service) spill(ctx context.Context, run string, file io.Writer) (index []entry, begin, end float64, err error) {
	out := &counter{w: bufio.NewWriterSize(file, 1<<20)}
	keys := newKeys()
	err = s.reader.Scan(ctx, run, 0, func(_ int64, row *results.Row) (bool, error) {
		if row.Phase == phaseWarmUp {
			return true, nil
		}
		record := row.Record()
		if row.OutputRef != "" {
			output, err := s.referenced(ctx, row.OutputRef)
			if err != nil {
				return false, fmt.Errorf("export %s: %w", run, err)
			}
			record.Result.OutputJson = string(output)
		}
		function := path.Base(row.Function)
		inv := sebsformat.FromRecord(record)
		e := entry{function: function, key: keys.next(function, inv.RequestID), offset: out.n}
		if err := sebsformat.MarshalInvocation(out, inv); err != nil {
			return false, fmt.Errorf("export %s: %w", run, err)
		}
		e.length = int(out.n - e.offset)
		index = append(index, e)
		started, finished := float64(row.StartedUnixNS)/1e9, float64(row.FinishedUnixNS)/1e9
		if begin == 0 || started < begin {
			begin = started
		}
		end = max(end, finished)
		return true, nil
	})
	return index, begin, end, errors.Join(err, out.w.Flush())
}

// keys gives every invocation of a function a key of its own, as SeBS does.
type keys struct {
	taken map[string]map[string]bool
}

func newKeys() *keys { return &keys{taken: make(map[string]map[string]bool)} }

func (k *keys) next(function, requestID string) string {
	taken := k.taken[function]
	if taken == nil {
		taken = make(map[string]bool)
		k.taken[function] = taken
	}
	key := sebsformat.Key(len(taken), requestID, func(key string) bool { return taken[key] })
	taken[key] = true
	return key
}

type counter struct {
	w *bufio.Writer
	n int64
}

// Write writes and counts.
func (c *counter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += int64(n)
	return n, err
}

// header builds everything of experiments.json but the invocations.
func header(manifest *results.Manifest, a about, begin, end float64) *sebsformat.Header {
	h := &sebsformat.Header{Metrics: manifest.Metrics, BeginSeconds: begin, EndSeconds: end}
	if a.run.GetStartTime() != nil {
		h.BeginSeconds = float64(a.run.GetStartTime().AsTime().UnixMicro()) / 1e6
	}
	if a.run.GetEndTime() != nil {
		h.EndSeconds = float64(a.run.GetEndTime().AsTime().UnixMicro()) / 1e6
	}
	c := a.config()
	target := a.run.GetRequest().GetTarget()
	h.Config.Experiments = sebsformat.ExperimentsConfig{
		Architecture: sebsformat.ArchitectureName(c.GetArchitecture()), SystemVariant: sebsformat.SystemVariantName(c.GetSystemVariant()),
		Runtime: sebsformat.RuntimeFromProto(c.GetRuntime()), UpdateCode: target.GetUpdateCode(), UpdateStorage: target.GetUpdateStorage(),
	}
	resources := map[string]any{}
	h.Config.Deployment = map[string]any{"name": a.platform, "region": a.region(), "resources": resources}
	switch a.platform {
	case "local":
		resources["allocated_ports"] = []any{}
	case "aws":
		maps.Copy(resources, awsResources(a))
	}
	if id := a.deployment.GetResourcesId(); id != "" {
		resources["resources_id"] = id
	}
	if key := accountKey(a.platform); key != "" && a.deployment.GetAccount() != "" {
		h.Config.Deployment["credentials"] = map[string]any{key: a.deployment.GetAccount()}
	}
	for _, b := range a.deployment.GetBuckets() {
		if role := strings.ToLower(strings.TrimPrefix(b.GetRole().String(), "BUCKET_ROLE_")); b.GetRole() != typev1.BucketRole_BUCKET_ROLE_UNSPECIFIED {
			h.Config.SetBucket(role, b.GetBucket())
		}
	}
	return h
}

// accountKey is the key under which SeBS writes the account of a platform.
func accountKey(platform string) string {
	switch platform {
	case "aws":
		return "account_id"
	case "azure":
		return "subscription_id"
	case "gcp":
		return "project_id"
	default:
		return ""
	}
}

// referenced reads an output that travels by reference.
func (s *service) referenced(ctx context.Context, ref string) (_ []byte, err error) {
	bucket, key, ok := strings.Cut(ref, refSeparator)
	if !ok || !strings.HasPrefix(bucket, suiteDeployment+"/buckets/") {
		return nil, errs.DataLoss("OUTPUT_REF_INVALID", "%q names no object of the suite's own store", ref)
	}
	r, err := s.store.open(ctx, bucket, key)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	return io.ReadAll(io.LimitReader(r, maxOutputBytes))
}

// maxOutputBytes bounds an output that is fetched by its reference.
const maxOutputBytes = 64 << 20
