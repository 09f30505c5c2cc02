package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"cloud.google.com/go/longrunning/autogen/longrunningpb"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	builderv1 "github.com/sebs-suite/sebs/gen/go/sebs/builder/v1"
	deployerv1 "github.com/sebs-suite/sebs/gen/go/sebs/deployer/v1"
	typev1 "github.com/sebs-suite/sebs/gen/go/sebs/type/v1"
	"github.com/sebs-suite/sebs/internal/operations"
	"github.com/sebs-suite/sebs/internal/suite"
)

// fullCPUMemoryMB is the memory that comes with one whole vCPU, so that no quota stands between two figures.
const fullCPUMemoryMB = 1769

// bench is a running suite and what the measurements share.
type bench struct {
	dir    string
	folder string
	suite  *suite.Suite
	conn   grpc.ClientConnInterface
	logs   *os.File
	quick  bool
	parent string
}

func newBench(ctx context.Context, dir string, quick bool) (*bench, error) {
	b := &bench{dir: dir, quick: quick, folder: filepath.Join(dir, "benchmarks")}
	if err := b.writeBenchmark(0); err != nil {
		return nil, err
	}
	var err error
	if b.logs, err = os.Create(filepath.Join(dir, "suite.log")); err != nil {
		return nil, err
	}
	b.suite, err = suite.Start(ctx, suite.Options{
		StateDir: filepath.Join(dir, "state"), Sandbox: "auto", LogWriter: b.logs, BenchmarksDirs: []string{b.folder},
	})
	if err != nil {
		return nil, fmt.Errorf("start a suite: %w", err)
	}
	b.conn = b.suite.Conn()
	deployment, err := deployerv1.NewDeployerServiceClient(b.conn).CreateDeployment(ctx, &deployerv1.CreateDeploymentRequest{Parent: "platforms/local"})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("make a deployment: %w", err), b.close())
	}
	b.parent = deployment.GetName()
	return b, nil
}

func (b *bench) close() error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	return errors.Join(b.suite.Close(ctx), b.logs.Close())
}

// count scales the number of measurements.
func (b *bench) count(n int) int {
	if b.quick {
		return max(2, n/10)
	}
	return n
}

// writeBenchmark writes a benchmark that echoes its input and depends on what 110.dynamic-html depends on; revision
// makes its source differ.
func (b *bench) writeBenchmark(revision int) error {
	root := filepath.Join(b.folder, "900.bench-echo")
	files := map[string]string{
		"config.json": `{"timeout": 30, "memory": 1769, "languages": ["python"], "modules": []}`,
		"input.py": "def generate_input(data_dir, size, bucket, inputs, outputs, upload, nosql):\n    return {'value': 1}\n\n\n" +
			"def validate_output(data_dir, event, output, language, storage):\n    return None\n",
		"python/function.py":      fmt.Sprintf("REVISION = %d\n\n\ndef handler(event):\n    return {'result': event.get('value')}\n", revision),
		"python/requirements.txt": "Jinja2==3.1.6\nminio==7.2.20\n",
	}
	for name, content := range files {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// wait follows an operation to its response.
func (b *bench) wait(ctx context.Context, op *longrunningpb.Operation, err error, response proto.Message) error {
	if err != nil {
		return err
	}
	done, err := operations.Wait(ctx, longrunningpb.NewOperationsClient(b.conn), op, nil)
	if err != nil {
		return err
	}
	return done.GetResponse().UnmarshalTo(response)
}

// build makes the package of the echo benchmark.
func (b *bench) build(ctx context.Context, version string) (*builderv1.Package, error) {
	op, err := builderv1.NewBuilderServiceClient(b.conn).CreatePackage(ctx, &builderv1.CreatePackageRequest{
		Source: &builderv1.BenchmarkSource{Benchmark: "900.bench-echo"}, Platform: "local",
		Runtime: &typev1.Runtime{Language: typev1.Language_LANGUAGE_PYTHON, Version: version},
	})
	built := &builderv1.Package{}
	return built, b.wait(ctx, op, err, built)
}

// deploy makes a function of the echo benchmark and returns it with its HTTP trigger.
func (b *bench) deploy(ctx context.Context, name, version string) (*typev1.Function, *typev1.Trigger, error) {
	built, err := b.build(ctx, version)
	if err != nil {
		return nil, nil, err
	}
	op, err := deployerv1.NewDeployerServiceClient(b.conn).EnsureFunction(ctx, &deployerv1.EnsureFunctionRequest{
		Parent: b.parent, FunctionId: name, Package: built.GetName(),
		Config: &typev1.FunctionConfig{
			MemoryMb: fullCPUMemoryMB, TimeoutSeconds: 30,
			Runtime: &typev1.Runtime{Language: typev1.Language_LANGUAGE_PYTHON, Version: version},
		},
		Triggers: []typev1.TriggerType{typev1.TriggerType_TRIGGER_TYPE_HTTP},
	})
	response := &deployerv1.EnsureFunctionResponse{}
	if err := b.wait(ctx, op, err, response); err != nil {
		return nil, nil, err
	}
	for _, t := range response.GetFunction().GetTriggers() {
		if t.GetType() == typev1.TriggerType_TRIGGER_TYPE_HTTP {
			return response.GetFunction(), t, nil
		}
	}
	return nil, nil, errors.New("the function has no HTTP trigger")
}

// post makes a plain HTTP call.
func post(ctx context.Context, client *http.Client, url string, body []byte) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return err
	}
	request.Header.Set("Content-Type", "application/json")
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	defer func() { _ = response.Body.Close() }()
	answer, err := io.ReadAll(response.Body)
	if err != nil {
		return err
	}
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("%s answered %s: %s", url, response.Status, answer)
	}
	return nil
}

// timed measures one step in milliseconds.
func timed(step func() error) (float64, error) {
	start := time.Now()
	err := step()
	return float64(time.Since(start)) / float64(time.Millisecond), err
}

// alternate measures two steps in turn.
func alternate(n int, ours, peer func() error) (a, p []float64, err error) {
	for range n {
		for _, side := range []struct {
			step   func() error
			values *[]float64
		}{{ours, &a}, {peer, &p}} {
			ms, err := timed(side.step)
			if err != nil {
				return a, p, err
			}
			*side.values = append(*side.values, ms)
		}
	}
	return a, p, nil
}
