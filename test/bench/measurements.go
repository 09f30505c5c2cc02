package main

import (
	"archive/zip"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	builderv1 "github.com/sebs-suite/sebs/gen/go/sebs/builder/v1"
	deployerv1 "github.com/sebs-suite/sebs/gen/go/sebs/deployer/v1"
	invokerv1 "github.com/sebs-suite/sebs/gen/go/sebs/invoker/v1"
	localv1 "github.com/sebs-suite/sebs/gen/go/sebs/local/v1"
	storagev1 "github.com/sebs-suite/sebs/gen/go/sebs/storage/v1"
	typev1 "github.com/sebs-suite/sebs/gen/go/sebs/type/v1"
	"github.com/sebs-suite/sebs/runtimes"
)

var payload = []byte(`{"value": 1}`)

func measurements() []measurement {
	return []measurement{
		{"Invoke over gRPC, warm", "ms", "the same HTTP call made directly", "delta ≤ 0.3 ms", invokeOverhead},
		{"local platform, warm", "ms", "the same runtime called directly", "delta ≤ 0.3 ms", warmOverhead},
		{"local platform, cold, process", "ms", "starting the same bootstrap by hand", "", coldProcess},
		{"local platform, cold, docker", "ms", "docker run to the first response", "ratio ≤ 1.15", coldDocker},
		{"package after a source-only change", "ms", "first build", "ratio ≤ 0.1, < 1,000 ms", repackage},
		{"1,000 objects of 16 KiB, written and read", "ms", "the plain client", "ratio ≤ 1.25", goBenchmark("./services/storage", "BenchmarkSmallObjects", "1x", 5)},
		{"one object of 256 MiB, written and read", "ms", "the plain client", "ratio ≤ 1.25", goBenchmark("./services/storage", "BenchmarkLargeObject", "1x", 3)},
		{"process 10,000 results", "ms", "SeBS, measured elsewhere: 5,700 ms, 344 MB", "", goBenchmark("./services/metrics", "BenchmarkProcess10000Results", "3x", 3)},
		{"results to Parquet, one core", "records/s", "budget", "≥ 100,000", goRate("./services/metrics/results", "BenchmarkIngest", "2s", 3)},
		{"statistics of a run, from Parquet", "records/s", "budget", "≥ 2,000,000 (10 million in 5 s)", goRate("./services/metrics", "BenchmarkRunStatistics", "1x", 3)},
	}
}

func newClient() *http.Client {
	return &http.Client{Timeout: time.Minute, Transport: &http.Transport{MaxIdleConnsPerHost: 4}}
}

func invokeOverhead(ctx context.Context, b *bench) (ours, peer []float64, err error) {
	_, trigger, err := b.deploy(ctx, "bench-invoke", "")
	if err != nil {
		return nil, nil, err
	}
	client := newClient()
	invoker := invokerv1.NewInvokerServiceClient(b.conn)
	if err := post(ctx, client, trigger.GetUrl(), payload); err != nil {
		return nil, nil, err
	}
	return alternate(b.count(1000), func() error {
		response, err := invoker.Invoke(ctx, &invokerv1.InvokeRequest{Trigger: trigger.GetName(), PayloadJson: string(payload), ReuseConnections: true})
		if err == nil && response.GetRecord().GetResult().GetStats().GetFailure() {
			err = errors.New(response.GetRecord().GetErrorMessage())
		}
		return err
	}, func() error { return post(ctx, client, trigger.GetUrl(), payload) })
}

func warmOverhead(ctx context.Context, b *bench) (ours, peer []float64, err error) {
	_, trigger, err := b.deploy(ctx, "bench-warm", "")
	if err != nil {
		return nil, nil, err
	}
	host, err := b.startBare(ctx)
	if err != nil {
		return nil, nil, err
	}
	defer host.stop()
	client := newClient()
	if err := post(ctx, client, trigger.GetUrl(), payload); err != nil {
		return nil, nil, err
	}
	if err := host.invoke(ctx); err != nil {
		return nil, nil, err
	}
	return alternate(b.count(1000), func() error { return post(ctx, client, trigger.GetUrl(), payload) }, func() error { return host.invoke(ctx) })
}

// enforceCold makes the next call of a function cold, and waits until the old sandboxes are gone: their end is not part
// of the next start.
func (b *bench) enforceCold(ctx context.Context, f *typev1.Function) error {
	_, err := deployerv1.NewDeployerServiceClient(b.conn).EnforceColdStart(ctx, &deployerv1.EnforceColdStartRequest{Parent: b.parent, Functions: []string{f.GetName()}})
	if err != nil {
		return err
	}
	local := localv1.NewLocalServiceClient(b.conn)
	id := f.GetName()[strings.LastIndexByte(f.GetName(), '/')+1:]
	for {
		running, err := local.ListSandboxes(ctx, &localv1.ListSandboxesRequest{FunctionId: id})
		if err != nil || len(running.GetSandboxes()) == 0 {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func coldProcess(ctx context.Context, b *bench) (ours, peer []float64, err error) {
	host, err := localv1.NewLocalServiceClient(b.conn).GetHost(ctx, &localv1.GetHostRequest{})
	if err != nil {
		return nil, nil, err
	}
	if host.GetDefaultSandboxKind() != localv1.SandboxKind_SANDBOX_KIND_PROCESS && !hasProcessRuntime(host) {
		return nil, nil, fmt.Errorf("%w: no process sandboxes", errMissing)
	}
	function, trigger, err := b.deploy(ctx, "bench-cold-process", processVersion(host))
	if err != nil {
		return nil, nil, err
	}
	for range b.count(20) {
		if err := b.enforceCold(ctx, function); err != nil {
			return ours, peer, err
		}
		ms, err := timed(func() error { return post(ctx, newClient(), trigger.GetUrl(), payload) })
		if err != nil {
			return ours, peer, err
		}
		ours = append(ours, ms)
		ms, err = timed(func() error {
			bare, err := b.startBare(ctx)
			if err != nil {
				return err
			}
			defer bare.stop()
			return bare.invoke(ctx)
		})
		if err != nil {
			return ours, peer, err
		}
		peer = append(peer, ms)
	}
	return ours, peer, nil
}

func hasProcessRuntime(host *localv1.Host) bool { return processVersion(host) != "" }

// processVersion returns a Python that only process sandboxes run, so that the kind is certain.
func processVersion(host *localv1.Host) string {
	docker := map[string]bool{}
	version := ""
	for _, r := range host.GetRuntimes() {
		if r.GetSandboxKind() == localv1.SandboxKind_SANDBOX_KIND_DOCKER {
			docker[r.GetRuntime().GetVersion()] = true
		}
	}
	for _, r := range host.GetRuntimes() {
		v := r.GetRuntime().GetVersion()
		supported := strings.Contains(" 3.9 3.10 3.11 3.12 3.13 ", " "+v+" ")
		if r.GetSandboxKind() == localv1.SandboxKind_SANDBOX_KIND_PROCESS && r.GetRuntime().GetLanguage() == typev1.Language_LANGUAGE_PYTHON && !docker[v] && supported {
			version = v
		}
	}
	return version
}

func coldDocker(ctx context.Context, b *bench) (ours, peer []float64, err error) {
	host, err := localv1.NewLocalServiceClient(b.conn).GetHost(ctx, &localv1.GetHostRequest{})
	if err != nil {
		return nil, nil, err
	}
	image, version := "", ""
	for _, r := range host.GetRuntimes() {
		if r.GetSandboxKind() == localv1.SandboxKind_SANDBOX_KIND_DOCKER && r.GetRuntime().GetLanguage() == typev1.Language_LANGUAGE_PYTHON {
			image, version = r.GetProvider(), r.GetRuntime().GetVersion()
		}
	}
	if image == "" {
		return nil, nil, fmt.Errorf("%w: no Docker Engine with a Python image", errMissing)
	}
	function, trigger, err := b.deploy(ctx, "bench-cold-docker", version)
	if err != nil {
		return nil, nil, err
	}
	code, boot, err := b.layOut(ctx)
	if err != nil {
		return nil, nil, err
	}
	for range b.count(20) {
		if err := b.enforceCold(ctx, function); err != nil {
			return ours, peer, err
		}
		ms, err := timed(func() error { return post(ctx, newClient(), trigger.GetUrl(), payload) })
		if err != nil {
			return ours, peer, err
		}
		ours = append(ours, ms)
		ms, err = timed(func() error { return dockerRun(ctx, host.GetDockerStoreHost(), image, code, boot) })
		if err != nil {
			return ours, peer, err
		}
		peer = append(peer, ms)
	}
	return ours, peer, nil
}

// dockerRun starts a container by hand and waits for its first answer.
func dockerRun(ctx context.Context, address, image, code, boot string) error {
	bare, err := newBare(net.JoinHostPort(address, "0"))
	if err != nil {
		return err
	}
	defer bare.stop()
	bare.command = exec.CommandContext(ctx, "docker", "run", "--rm", "--init", "-v", code+":/var/task:ro", "-v", filepath.Dir(boot)+":/boot-files:ro",
		"-e", "AWS_LAMBDA_RUNTIME_API="+bare.address, "-e", "_HANDLER=handler.handler", "-e", "LAMBDA_TASK_ROOT=/var/task",
		"-e", "AWS_LAMBDA_FUNCTION_NAME=bench", image, "python3", "/boot-files/"+filepath.Base(boot))
	if err := bare.command.Start(); err != nil {
		return err
	}
	return bare.invoke(ctx)
}

// layOut unpacks the package of the echo benchmark and the bootstrap, and returns both paths.
func (b *bench) layOut(ctx context.Context) (code, boot string, err error) {
	code, boot = filepath.Join(b.dir, "code"), filepath.Join(b.dir, "boot", "bootstrap.py")
	if _, err := os.Stat(boot); err == nil {
		return code, boot, nil
	}
	built, err := b.build(ctx, "")
	if err != nil {
		return "", "", err
	}
	archive, err := b.read(ctx, built.GetBucket(), built.GetObjectKey())
	if err != nil {
		return "", "", err
	}
	reader, err := zip.NewReader(bytes.NewReader(archive), int64(len(archive)))
	if err != nil {
		return "", "", err
	}
	if err := os.CopyFS(code, reader); err != nil {
		return "", "", err
	}
	catalog, err := runtimes.Load()
	if err != nil {
		return "", "", err
	}
	bootstrap, err := catalog.Bootstrap("python")
	if err != nil {
		return "", "", err
	}
	return code, boot, catalog.Write(bootstrap.Files, filepath.Dir(boot))
}

func (b *bench) read(ctx context.Context, bucket, key string) ([]byte, error) {
	stream, err := storagev1.NewStorageServiceClient(b.conn).DownloadObject(ctx, &storagev1.DownloadObjectRequest{Bucket: bucket, Key: key})
	if err != nil {
		return nil, err
	}
	var content bytes.Buffer
	for {
		part, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return content.Bytes(), nil
		}
		if err != nil {
			return nil, err
		}
		content.Write(part.GetChunk())
	}
}

func repackage(ctx context.Context, b *bench) (ours, peer []float64, err error) {
	for i := range b.count(10) {
		if err := b.writeBenchmark(1000 + i); err != nil {
			return ours, peer, err
		}
		var built *builderv1.Package
		ms, err := timed(func() (err error) {
			built, err = b.build(ctx, "")
			return err
		})
		if err != nil {
			return ours, peer, err
		}
		if !built.GetDependenciesCached() {
			peer = append(peer, ms)
			continue
		}
		ours = append(ours, ms)
	}
	if len(peer) == 0 {
		// The dependencies were installed before this row: another version needs them anew.
		for _, version := range []string{"3.9", "3.10", "3.12"} {
			ms, err := timed(func() error {
				_, err := b.build(ctx, version)
				return err
			})
			if err != nil {
				return ours, peer, err
			}
			peer = append(peer, ms)
		}
	}
	return ours, peer, nil
}
