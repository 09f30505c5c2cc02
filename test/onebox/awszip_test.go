package onebox_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"cloud.google.com/go/longrunning/autogen/longrunningpb"
	"google.golang.org/protobuf/proto"

	builderv1 "github.com/sebs-suite/sebs/gen/go/sebs/builder/v1"
	storagev1 "github.com/sebs-suite/sebs/gen/go/sebs/storage/v1"
	typev1 "github.com/sebs-suite/sebs/gen/go/sebs/type/v1"
	"github.com/sebs-suite/sebs/internal/operations"
	"github.com/sebs-suite/sebs/platform/faas/driver"
	localdriver "github.com/sebs-suite/sebs/platform/faas/local"
)

const awsZipDeployment = "platforms/local/deployments/local-a5a5a5a5"

// TestArchivesForAWSRunHere deploys the very archives that are built for AWS Lambda to the local platform. Their functions
// find the stores as on AWS, by Lambda's own variables, with the embedded ones in place of S3 and DynamoDB.
func TestArchivesForAWSRunHere(t *testing.T) {
	t.Parallel()
	b := start(t)
	d := localdriver.New(b.Conn("local"))
	caps, err := d.Capabilities(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	// One after another: the embedded store and the machine's cores are shared.
	for _, benchmark := range []string{"110.dynamic-html", "120.uploader", "130.crud-api", "210.thumbnailer", "311.compression"} {
		for _, language := range []string{"python", "nodejs"} {
			t.Run(benchmark+" "+language, func(t *testing.T) {
				at := slices.IndexFunc(caps.Runtimes, func(r driver.Runtime) bool {
					return r.Language == language && slices.Contains([]string{"3.9", "3.10", "3.11", "20", "22", "24"}, r.Version)
				})
				if at < 0 {
					t.Skipf("needs an interpreter of %s in a version that AWS has", language)
				}
				if _, err := exec.LookPath("npm"); err != nil {
					t.Skip("needs npm, for the dependencies of functions or for the table store")
				}
				ctx, cancel := context.WithTimeout(t.Context(), limit)
				defer cancel()
				b.runArchiveForAWS(ctx, t, d, benchmark, caps.Runtimes[at], caps.Architectures[0])
			})
		}
	}
}

// finished waits for an operation and decodes its result.
func finished[M proto.Message](ctx context.Context, b *box, service string, op *longrunningpb.Operation, err error, into M) (M, error) {
	if err != nil {
		return into, err
	}
	done, err := operations.Wait(ctx, longrunningpb.NewOperationsClient(b.Conn(service)), op, nil)
	if err != nil {
		return into, err
	}
	return into, operations.Result(done, into)
}

func (b *box) runArchiveForAWS(ctx context.Context, t *testing.T, d *localdriver.Driver, benchmark string, runtime driver.Runtime, architecture string) {
	t.Helper()
	builds := builderv1.NewBuilderServiceClient(b.Conn("builder"))
	source := &builderv1.BenchmarkSource{Benchmark: benchmark}
	language := typev1.Language(typev1.Language_value["LANGUAGE_"+strings.ToUpper(runtime.Language)])
	op, err := builds.CreatePackage(ctx, &builderv1.CreatePackageRequest{
		Source: source, Platform: "aws", Runtime: &typev1.Runtime{Language: language, Version: runtime.Version}, Architecture: driver.ArchitectureProto(architecture),
	})
	pkg, err := finished(ctx, b, "builder", op, err, &builderv1.Package{})
	if err != nil {
		t.Fatal(err)
	}
	op, err = builds.PrepareInput(ctx, &builderv1.PrepareInputRequest{Parent: awsZipDeployment, Source: source, Size: "test"})
	input, err := finished(ctx, b, "builder", op, err, &builderv1.BenchmarkInput{})
	if err != nil {
		t.Fatal(err)
	}
	environment, secrets := b.environmentAsOnAWS(ctx, t, benchmark, input)
	name := "aws-zip-" + strings.ReplaceAll(benchmark, ".", "-") + "-" + runtime.Language
	_, err = d.CreateFunction(ctx, driver.FunctionSpec{
		Name: name, Deployment: "local-a5a5a5a5", Benchmark: benchmark,
		Config: driver.Config{
			Runtime: runtime, Architecture: architecture, MemoryMB: int(max(pkg.GetMemoryMb(), 256)), Timeout: time.Duration(pkg.GetTimeoutSeconds()) * time.Second,
			Handler: pkg.GetHandler(), Environment: environment, Secrets: secrets,
		},
		Code: driver.Code{
			Digest: pkg.GetDigest(), ContentSHA256: pkg.GetArchiveSha256(), SizeBytes: pkg.GetSizeBytes(),
			Open: func(ctx context.Context) (io.ReadCloser, error) {
				content, err := b.archive(ctx, pkg)
				return io.NopCloser(bytes.NewReader(content)), err
			},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	trigger, err := d.CreateTrigger(ctx, name, driver.TriggerSpec{Type: driver.TriggerHTTP})
	if err != nil {
		t.Fatal(err)
	}
	called, err := d.Invoke(ctx, driver.Call{Function: name, Payload: []byte(input.GetPayloadJson())})
	if err != nil || called.FunctionError != "" {
		t.Fatalf("called directly: %v, %s: %.1000s", err, called.FunctionError, called.Payload)
	}
	b.checkAnswerOfAWS(ctx, t, builds, source, language, input, called.Payload, true)
	b.checkAnswerOfAWS(ctx, t, builds, source, language, input, post(ctx, t, trigger.URL, input.GetPayloadJson()), false)
}

// environmentAsOnAWS is what a function on AWS would have: variables of Lambda, here with the address and the account of the
// embedded stores, and the names of its tables.
func (b *box) environmentAsOnAWS(ctx context.Context, t *testing.T, benchmark string, input *builderv1.BenchmarkInput) (environment map[string]string, secrets []string) {
	t.Helper()
	answer, err := storagev1.NewStorageServiceClient(b.Conn("storage")).GetFunctionEnvironment(ctx, &storagev1.GetFunctionEnvironmentRequest{
		Parent: awsZipDeployment, Benchmark: benchmark, UsesObjects: input.GetUsesObjects(), UsesTables: input.GetUsesTables(),
	})
	if err != nil {
		t.Fatal(err)
	}
	environment = map[string]string{"AWS_REGION": "us-east-1", "AWS_ACCESS_KEY_ID": "none", "AWS_SECRET_ACCESS_KEY": "none"}
	for _, v := range answer.GetVariables() {
		switch v.GetName() {
		case "MINIO_ADDRESS":
			environment["AWS_ENDPOINT_URL_S3"] = "http://" + v.GetValue()
		case "MINIO_ACCESS_KEY":
			environment["AWS_ACCESS_KEY_ID"] = v.GetValue()
		case "MINIO_SECRET_KEY":
			environment["AWS_SECRET_ACCESS_KEY"] = v.GetValue()
		case "NOSQL_STORAGE_ENDPOINT":
			environment["AWS_ENDPOINT_URL_DYNAMODB"] = "http://" + v.GetValue()
		default:
			if strings.HasPrefix(v.GetName(), "NOSQL_STORAGE_TABLE_") {
				environment[v.GetName()] = v.GetValue()
			}
		}
	}
	return environment, []string{"AWS_SECRET_ACCESS_KEY"}
}

// archive reads a package's archive from the suite's store.
func (b *box) archive(ctx context.Context, pkg *builderv1.Package) ([]byte, error) {
	stream, err := storagev1.NewStorageServiceClient(b.Conn("storage")).DownloadObject(ctx, &storagev1.DownloadObjectRequest{
		Bucket: pkg.GetBucket(), Key: pkg.GetObjectKey(),
	})
	if err != nil {
		return nil, err
	}
	var content []byte
	for {
		part, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return content, nil
		}
		if err != nil {
			return nil, err
		}
		content = append(content, part.GetChunk()...)
	}
}

func post(ctx context.Context, t *testing.T, url, payload string) []byte {
	t.Helper()
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, url, strings.NewReader(payload))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Content-Type", "application/json")
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(response.Body)
	if err := errors.Join(err, response.Body.Close()); err != nil || response.StatusCode != http.StatusOK {
		t.Fatalf("called by HTTP: status %d, %v: %.1000s", response.StatusCode, err, body)
	}
	return body
}

// checkAnswerOfAWS takes the answer out of the HTTP response that functions on AWS make, if the front has not done so, and
// validates it.
func (b *box) checkAnswerOfAWS(ctx context.Context, t *testing.T, builds builderv1.BuilderServiceClient, source *builderv1.BenchmarkSource, language typev1.Language, input *builderv1.BenchmarkInput, raw []byte, cold bool) {
	t.Helper()
	var response struct {
		StatusCode int
		Body       *string
	}
	if err := json.Unmarshal(raw, &response); err != nil {
		t.Fatalf("answer %.500s: %v", raw, err)
	}
	if response.Body != nil {
		if response.StatusCode != http.StatusOK {
			t.Errorf("status %d", response.StatusCode)
		}
		raw = []byte(*response.Body)
	}
	var answer struct {
		IsCold    *bool           `json:"is_cold"`
		RequestID string          `json:"request_id"`
		Result    json.RawMessage `json:"result"`
	}
	if err := json.Unmarshal(raw, &answer); err != nil || answer.IsCold == nil || *answer.IsCold != cold || answer.RequestID == "" {
		t.Fatalf("answer %.500s, want one with is_cold %v: %v", raw, cold, err)
	}
	verdict, err := builds.ValidateOutput(ctx, &builderv1.ValidateOutputRequest{
		Parent: awsZipDeployment, Source: source, PayloadJson: input.GetPayloadJson(), OutputJson: string(answer.Result), Language: language,
	})
	if err != nil || !verdict.GetValid() {
		t.Error(fmt.Errorf("not valid: %s (%w)", verdict.GetReason(), err))
	}
}
