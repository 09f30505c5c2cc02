package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path"
	"path/filepath"
	"time"

	deployerv1 "github.com/sebs-suite/sebs/gen/go/sebs/deployer/v1"
	experimentsv1 "github.com/sebs-suite/sebs/gen/go/sebs/experiments/v1"
	metricsv1 "github.com/sebs-suite/sebs/gen/go/sebs/metrics/v1"
	storagev1 "github.com/sebs-suite/sebs/gen/go/sebs/storage/v1"
	typev1 "github.com/sebs-suite/sebs/gen/go/sebs/type/v1"
	"github.com/sebs-suite/sebs/internal/sebsformat"
)

// writeExperiment writes the results of a run as SeBS does.
func (a *app) writeExperiment(ctx context.Context, s *session, run *experimentsv1.Run, set *settings, file string) error {
	experiment := &sebsformat.Experiment{
		Header: sebsformat.Header{
			Metrics:      map[string]json.RawMessage{},
			BeginSeconds: seconds(run.GetStartTime().AsTime()),
			EndSeconds:   seconds(run.GetEndTime().AsTime()),
		},
		Invocations: map[string]map[string]*sebsformat.Invocation{},
	}
	deployment, err := deployerv1.NewDeployerServiceClient(s.conn).GetDeployment(ctx, &deployerv1.GetDeploymentRequest{Name: run.GetDeployment()})
	if err != nil {
		return fmt.Errorf("read the deployment for %s: %w", file, err)
	}
	experiment.Config = resultConfig(run, deployment, set)
	if set.platform == "local" {
		store, err := storeBlock(ctx, s, deployment.GetName())
		if err != nil {
			return fmt.Errorf("describe the object store for %s: %w", file, err)
		}
		resources, _ := experiment.Config.Deployment["resources"].(map[string]any)
		resources["storage"] = store
	}
	client := metricsv1.NewMetricsServiceClient(s.conn)
	for token := ""; ; {
		page, err := client.ListInvocations(ctx, &metricsv1.ListInvocationsRequest{Parent: run.GetName(), PageSize: 1000, PageToken: token})
		if err != nil {
			return fmt.Errorf("read the results for %s: %w", file, err)
		}
		for _, record := range page.GetRecords() {
			result := record.GetResult()
			if ref := result.GetOutputRef(); ref != "" && result.GetOutputJson() == "" {
				content, err := readReference(ctx, s, ref)
				if err != nil {
					return fmt.Errorf("read an answer for %s: %w", file, err)
				}
				result.OutputJson = string(content)
			}
			experiment.Add(path.Base(record.GetFunction()), sebsformat.FromResult(result, time.Local))
		}
		if token = page.GetNextPageToken(); token == "" {
			break
		}
	}
	return writeFile(file, func(w io.Writer) error { return sebsformat.Write(w, experiment) })
}

// resultConfig makes the `config` object of a result file.
func resultConfig(run *experimentsv1.Run, deployment *typev1.Deployment, set *settings) sebsformat.Config {
	resources := map[string]any{"resources_id": deployment.GetResourcesId()}
	config := sebsformat.Config{
		Deployment: map[string]any{"name": set.platform, "region": deployment.GetRegion(), "resources": resources},
	}
	if set.platform == "local" {
		resources["allocated_ports"] = []any{}
	}
	if account := deployment.GetAccount(); account != "" && set.platform != "local" {
		config.Deployment["credentials"] = map[string]any{"account_id": account}
	}
	if set.platform == "aws" {
		var functions []*typev1.Function
		for _, f := range run.GetFunctions() {
			functions = append(functions, f.GetFunction())
		}
		maps.Copy(resources, sebsformat.AWSResources(deployment, deployment.GetRegion(), functions))
	}
	for _, b := range deployment.GetBuckets() {
		config.SetBucket(nameOf(b.GetRole(), bucketRoles), b.GetBucket())
	}
	target := run.GetRequest().GetTarget()
	functionConfig := &typev1.FunctionConfig{Runtime: target.GetRuntime(), Architecture: target.GetArchitecture(), SystemVariant: target.GetSystemVariant()}
	if functions := run.GetFunctions(); len(functions) > 0 {
		functionConfig = functions[0].GetFunction().GetConfig()
	}
	runtime := functionConfig.GetRuntime()
	config.Experiments = sebsformat.ExperimentsConfig{
		Architecture:  nameOf(functionConfig.GetArchitecture(), architectureNames),
		Experiments:   set.config.Experiments.Blocks,
		Flags:         set.config.Experiments.Flags,
		SystemVariant: firstOf(nameOf(functionConfig.GetSystemVariant(), variantNames), "package"),
		UpdateCode:    target.GetUpdateCode(),
		UpdateStorage: target.GetUpdateStorage(),
		Runtime: sebsformat.Runtime{
			Language: nameOf(runtime.GetLanguage(), languageNames), Version: runtime.GetVersion(),
			Variant: firstOf(runtime.GetVariant(), "default"),
		},
	}
	return config
}

// storeBlock describes the object store of a deployment as SeBS's self-hosted storage block does. Keys are never in it.
func storeBlock(ctx context.Context, s *session, deployment string) (map[string]any, error) {
	store, err := storagev1.NewStorageServiceClient(s.conn).GetObjectStorage(ctx, &storagev1.GetObjectStorageRequest{Parent: deployment})
	if err != nil {
		return nil, err
	}
	return map[string]any{
		"type": "minio", "address": hostPort(store.GetEndpoint()), "access_key": sebsformat.Redacted, "secret_key": sebsformat.Redacted,
		"input_buckets": []any{}, "output_buckets": []any{}, "instance_id": "", "mapped_port": -1, "version": "", "data_volume": "",
		"remove_containers": false,
	}, nil
}

func seconds(t time.Time) float64 { return float64(t.UnixMicro()) / 1e6 }

// writeFile writes a file as a whole or not at all.
func writeFile(name string, write func(w io.Writer) error) (err error) {
	temporary, err := os.CreateTemp(filepath.Dir(name), "."+filepath.Base(name)+"-*")
	if err != nil {
		return fmt.Errorf("create %s: %w", name, err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(temporary.Name()))
		}
	}()
	if err := errors.Join(write(temporary), temporary.Chmod(0o644), temporary.Close()); err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	if err := os.Rename(temporary.Name(), name); err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	return nil
}
