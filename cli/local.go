package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/google/uuid"
	"github.com/spf13/cobra"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/sebs-suite/sebs/cli/display"
	"github.com/sebs-suite/sebs/cli/exitcode"
	deployerv1 "github.com/sebs-suite/sebs/gen/go/sebs/deployer/v1"
	experimentsv1 "github.com/sebs-suite/sebs/gen/go/sebs/experiments/v1"
	localv1 "github.com/sebs-suite/sebs/gen/go/sebs/local/v1"
	typev1 "github.com/sebs-suite/sebs/gen/go/sebs/type/v1"
	"github.com/sebs-suite/sebs/internal/errs"
	"github.com/sebs-suite/sebs/internal/sebsformat"
	"github.com/sebs-suite/sebs/internal/statedir"
)

// backgroundStart bounds how long a background suite may take to come up.
const backgroundStart = 90 * time.Second

type localStartFlags struct {
	simpleFlags
	deployments     int
	storage         []string
	measureInterval int
	removeContainer bool
	architecture    string
}

func (a *app) localCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "local", Short: "Keep functions running on the local platform"}
	cmd.AddCommand(a.localStartCommand(), a.localStopCommand())
	return cmd
}

func (a *app) localStartCommand() *cobra.Command {
	f := &localStartFlags{}
	cmd := &cobra.Command{
		Use:   "start BENCHMARK SIZE OUTPUT",
		Short: "Deploy a benchmark locally and leave it running; OUTPUT takes its addresses and inputs",
		Example: `  sebs local start 110.dynamic-html test out.json --deployments 3 --measure-interval 100
  curl -d @input.json "$(jq -r '.functions[0].url' out.json)"
  sebs local stop out.json`,
		Args: cobra.ExactArgs(3),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.localStart(cmd, f, args[0], args[1], args[2])
		},
	}
	f.simpleFlags.add(cmd, a)
	flags := cmd.Flags()
	flags.IntVar(&f.deployments, "deployments", 1, "number of functions")
	flags.StringArrayVar(&f.storage, "storage-configuration", nil, "JSON file with the object and nosql blocks of a self-hosted storage; may be repeated")
	flags.IntVar(&f.measureInterval, "measure-interval", -1, "pause between memory samples in milliseconds; -1 measures nothing")
	flags.StringVar(&f.architecture, "architecture", "", "x64 or arm64 (default: this machine's)")
	boolFlag(cmd, &f.removeContainer, "remove-containers", true, "accepted as in SeBS; sandboxes are always removed")
	return cmd
}

func (a *app) localStart(cmd *cobra.Command, f *localStartFlags, benchmark, size, file string) error {
	if err := checkSize(size); err != nil {
		return err
	}
	if f.deployments < 1 {
		return exitcode.With(exitcode.Usage, fmt.Errorf("--deployments: %d is not a number of functions; give 1 or more", f.deployments))
	}
	if err := f.prepareOutputDir(); err != nil {
		return err
	}
	ctx := cmd.Context()
	common := &commonFlags{simpleFlags: f.simpleFlags, deployment: "local", architecture: f.architecture}
	options, err := f.connectOptions("local", f.storage...)
	if err != nil {
		return err
	}
	if err := a.ensureBackground(ctx, options); err != nil {
		return err
	}
	// The suite in the background has been told all that; the command joins it.
	options.settings = nil
	return a.with(ctx, options, func(s *session, show *display.Display) error {
		set, err := common.settings(cmd, show)
		if err != nil {
			return err
		}
		source, err := common.source(ctx, s, benchmark)
		if err != nil {
			return err
		}
		run, err := a.createRun(ctx, s, show, &experimentsv1.CreateRunRequest{
			Target: set.target, RequestId: uuid.NewString(),
			Spec: &experimentsv1.CreateRunRequest_Deploy{Deploy: &experimentsv1.DeploySpec{Source: source, Size: size, Count: int32(f.deployments)}},
		})
		if err != nil {
			return err
		}
		if err := runError(run); err != nil {
			return err
		}
		deployment, err := a.describeLocal(ctx, s, run, time.Duration(f.measureInterval)*time.Millisecond)
		if err != nil {
			return err
		}
		if err := writeFile(file, func(w io.Writer) error { return sebsformat.WriteLocalDeployment(w, deployment) }); err != nil {
			return err
		}
		show.Note("%d function(s) running; addresses and inputs in %s", len(deployment.Functions), file)
		return nil
	})
}

// describeLocal starts a sandbox per function and collects what the output file tells.
func (a *app) describeLocal(ctx context.Context, s *session, run *experimentsv1.Run, interval time.Duration) (*sebsformat.LocalDeployment, error) {
	local := localv1.NewLocalServiceClient(s.conn)
	deployment := &sebsformat.LocalDeployment{Extra: map[string]any{
		"deployment": run.GetDeployment(), "state_dir": a.flags.stateDir,
	}}
	if info, err := statedir.Read(a.flags.stateDir); err == nil {
		deployment.Extra["suite_pid"] = info.PID
	}
	var names []string
	for _, f := range run.GetFunctions() {
		function, err := describeFunction(ctx, local, f)
		if err != nil {
			return nil, err
		}
		names = append(names, function.Name)
		deployment.Functions = append(deployment.Functions, function)
		if len(deployment.Inputs) == 0 {
			deployment.Inputs = append(deployment.Inputs, json.RawMessage(f.GetPayloadJson()))
		}
	}
	store, err := storeBlock(ctx, s, run.GetDeployment())
	if err != nil {
		return nil, err
	}
	deployment.Storage = store
	if interval <= 0 {
		return deployment, nil
	}
	measurement, err := local.StartMemoryMeasurement(ctx, &localv1.StartMemoryMeasurementRequest{FunctionIds: names, Interval: durationpb.New(interval)})
	if err != nil {
		return nil, err
	}
	deployment.MemoryMeasurements = &sebsformat.MemoryMeasurements{File: measurement.GetName()}
	return deployment, nil
}

func describeFunction(ctx context.Context, local localv1.LocalServiceClient, f *experimentsv1.RunFunction) (sebsformat.LocalFunction, error) {
	id := lastPart(f.GetFunction().GetName())
	warm, err := local.WarmFunction(ctx, &localv1.WarmFunctionRequest{FunctionId: id, Count: 1})
	if err != nil {
		return sebsformat.LocalFunction{}, fmt.Errorf("start a sandbox of %s: %w", id, err)
	}
	running, err := local.GetLocalFunction(ctx, &localv1.GetLocalFunctionRequest{FunctionId: id})
	if err != nil {
		return sebsformat.LocalFunction{}, err
	}
	address := hostPort(running.GetOwnUrl())
	_, portText, err := net.SplitHostPort(address)
	if err != nil {
		return sebsformat.LocalFunction{}, fmt.Errorf("the address of %s: %w", id, err)
	}
	port, err := strconv.Atoi(portText)
	if err != nil {
		return sebsformat.LocalFunction{}, fmt.Errorf("the port of %s: %w", id, err)
	}
	config := f.GetFunction().GetConfig()
	function := sebsformat.LocalFunction{
		Name: id, Benchmark: f.GetFunction().GetBenchmark(), Hash: f.GetFunction().GetCodeHash(), URL: address, Port: port,
		Config: sebsformat.FunctionConfig{
			Architecture: nameOf(config.GetArchitecture(), architectureNames), MemoryMB: int64(config.GetMemoryMb()),
			TimeoutSeconds: int64(config.GetTimeoutSeconds()), Runtime: sebsformat.RuntimeFromProto(config.GetRuntime()),
		},
	}
	if sandboxes := warm.GetSandboxes(); len(sandboxes) > 0 {
		function.InstanceID = sandboxes[0].GetSandboxId()
	}
	for _, t := range f.GetFunction().GetTriggers() {
		if t.GetType() == typev1.TriggerType_TRIGGER_TYPE_HTTP {
			function.Triggers = append(function.Triggers, map[string]any{"type": "HTTP", "url": t.GetUrl()})
		}
	}
	return function, nil
}

// hostPort returns host:port of a URL, as SeBS writes addresses; what is no URL is returned as it is.
func hostPort(address string) string {
	if u, err := url.Parse(address); err == nil && u.Host != "" {
		return u.Host
	}
	return address
}

func (a *app) localStopCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "stop INPUT-JSON [OUTPUT-JSON]",
		Short: "Stop what 'local start' left running and write its memory use",
		Args:  cobra.RangeArgs(1, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			output := "memory_stats.json"
			if len(args) == 2 {
				output = args[1]
			}
			return a.localStop(cmd.Context(), args[0], output)
		},
	}
}

func (a *app) localStop(ctx context.Context, input, outputFile string) error {
	file, err := os.Open(input)
	if err != nil {
		return exitcode.With(exitcode.Usage, fmt.Errorf("INPUT-JSON: %w", err))
	}
	deployment, err := sebsformat.ReadLocalDeployment(file)
	if err = errors.Join(err, file.Close()); err != nil {
		return exitcode.With(exitcode.Usage, fmt.Errorf("INPUT-JSON %s: %w", input, err))
	}
	if dir, ok := deployment.Extra["state_dir"].(string); ok && a.flags.stateDir == a.defaultStateDir() {
		a.flags.stateDir = dir
	}
	err = a.with(ctx, connectOptions{}, func(s *session, show *display.Display) error {
		if err := writeMemory(ctx, s, deployment, outputFile); err != nil {
			return err
		}
		parent, _ := deployment.Extra["deployment"].(string)
		for _, f := range deployment.Functions {
			_, err := deployerv1.NewDeployerServiceClient(s.conn).DeleteFunction(ctx, &deployerv1.DeleteFunctionRequest{
				Name: parent + "/functions/" + f.Name, AllowMissing: true,
			})
			if err != nil && !errs.Is(err, codes.NotFound) {
				return err
			}
		}
		show.Note("stopped %d function(s)", len(deployment.Functions))
		return nil
	})
	if err != nil {
		return err
	}
	return a.stopBackground(ctx)
}

func writeMemory(ctx context.Context, s *session, deployment *sebsformat.LocalDeployment, file string) error {
	if deployment.MemoryMeasurements == nil {
		return nil
	}
	measured, err := localv1.NewLocalServiceClient(s.conn).StopMemoryMeasurement(ctx, &localv1.StopMemoryMeasurementRequest{Name: deployment.MemoryMeasurements.File})
	if err != nil {
		return err
	}
	var profiles []sebsformat.MemoryProfile
	for _, p := range measured.GetProfiles() {
		profiles = append(profiles, sebsformat.MemoryProfile{InstanceID: p.GetSandboxId(), SamplesBytes: p.GetSamplesBytes()})
	}
	return writeFile(file, func(w io.Writer) error {
		return sebsformat.WriteMemoryStatistics(w, profiles, int(measured.GetPrecisionErrors()))
	})
}

// stateDirPath returns the state directory as an absolute path.
func (a *app) stateDirPath() (string, error) {
	dir, err := filepath.Abs(a.flags.stateDir)
	if err != nil {
		return "", exitcode.With(exitcode.Usage, fmt.Errorf("--state-dir: %w", err))
	}
	return dir, nil
}
