package awsstand

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"regexp"
	"strings"

	"google.golang.org/grpc/codes"

	localv1 "github.com/sebs-suite/sebs/gen/go/sebs/local/v1"
	typev1 "github.com/sebs-suite/sebs/gen/go/sebs/type/v1"
	"github.com/sebs-suite/sebs/internal/errs"
)

const (
	// chunkBytes is the largest piece of an archive in one message to the host.
	chunkBytes = 1 << 20
	// syncPayload and asyncPayload are the largest events that Lambda takes.
	syncPayload  = 6 << 20
	asyncPayload = 1 << 20
)

// invocation is what came of one run of a function.
type invocation struct {
	requestID string
	payload   []byte
	failed    bool
	// lines are the log as Lambda writes it; tail is its end.
	tail   string
	record *localv1.LocalInvocation
}

// Invocations is how often a function was run.
func (s *Stand) Invocations(function string) int {
	fn := s.lambda.find(function)
	if fn == nil {
		return 0
	}
	fn.mu.Lock()
	defer fn.mu.Unlock()
	return fn.invocations
}

// invoke answers Lambda's Invoke.
func (s *Stand) invoke(w http.ResponseWriter, q *request, fn *function, at route) *refusal {
	kind := q.Header.Get("X-Amz-Invocation-Type")
	event := kind == "Event"
	limit := syncPayload
	if event {
		limit = asyncPayload
	}
	switch {
	case len(q.body) > limit:
		return refuse(http.StatusRequestEntityTooLarge, "RequestEntityTooLargeException", "Request must be smaller than %d bytes for the InvokeFunction operation", limit)
	case len(q.body) > 0 && !json.Valid(q.body):
		return refuse(http.StatusBadRequest, "InvalidRequestContentException", "Could not parse request body into json: it is not valid JSON")
	}
	snap, no := s.runnable(fn, at.qualifier)
	if no != nil {
		return no
	}
	switch {
	case kind == "DryRun":
		w.WriteHeader(http.StatusNoContent)
		return nil
	case event:
		return s.invokeEvent(w, fn, at.qualifier, snap, q.body)
	}
	leave, no := fn.enter()
	if no != nil {
		return no
	}
	defer leave()
	out, no := s.run(q.Context(), fn, snap, q.body)
	if no != nil {
		return no
	}
	h := w.Header()
	h.Set("X-Amzn-Requestid", out.requestID)
	h.Set("X-Amz-Executed-Version", snap.config.Version)
	h.Set("Content-Type", "application/json")
	if out.failed {
		h.Set("X-Amz-Function-Error", "Unhandled")
	}
	if q.Header.Get("X-Amz-Log-Type") == "Tail" {
		h.Set("X-Amz-Log-Result", base64.StdEncoding.EncodeToString([]byte(out.tail)))
	}
	w.WriteHeader(http.StatusOK)
	_, _ = w.Write(out.payload)
	return nil
}

// runnable is what a qualifier means, where Lambda would run it.
func (s *Stand) runnable(fn *function, qualifier string) (*snapshot, *refusal) {
	snap, ok := fn.pick(qualifier)
	if !ok {
		return nil, functionNotFound(s.arn(fn.name + ":" + qualifier))
	}
	fn.mu.Lock()
	defer fn.mu.Unlock()
	if fn.created && fn.pendingLocked() {
		return nil, s.conflict(fn)
	}
	return snap, nil
}

// enter counts an invocation against the function's reserved concurrency.
func (f *function) enter() (leave func(), no *refusal) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.reserved != nil && f.busy >= *f.reserved {
		no := refuse(http.StatusTooManyRequests, "TooManyRequestsException", "Rate Exceeded.")
		no.reason = "ReservedFunctionConcurrentInvocationLimitExceeded"
		return nil, no
	}
	f.busy++
	f.invocations++
	return func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.busy--
	}, nil
}

// run executes a snapshot once.
func (s *Stand) run(ctx context.Context, fn *function, snap *snapshot, event []byte) (*invocation, *refusal) {
	if err := s.deploy(ctx, snap); err != nil {
		return nil, hostError(err)
	}
	answer, err := s.host.InvokeFunction(ctx, &localv1.InvokeFunctionRequest{FunctionId: snap.local, Payload: event, LogTail: true})
	if err != nil {
		return nil, hostError(err)
	}
	return s.conclude(fn, snap, &invocation{
		requestID: answer.GetRequestId(), payload: answer.GetPayload(), failed: answer.GetFunctionError() != "",
		tail: answer.GetLogTail(), record: answer.GetInvocation(),
	}), nil
}

// versionInStart is where the host writes its own version of the function.
var versionInStart = regexp.MustCompile(`(?m)^(START RequestId: \S+ Version: )\d+$`)

// conclude puts an invocation into Lambda's words and its log into CloudWatch Logs.
func (s *Stand) conclude(fn *function, snap *snapshot, out *invocation) *invocation {
	out.tail = versionInStart.ReplaceAllString(out.tail, "${1}"+strings.ReplaceAll(snap.config.Version, "$", "$$"))
	if out.failed {
		out.payload = failure(out)
	}
	s.logs.add(fn.name, snap, out)
	return out
}

// failure is the document that Lambda answers for a function that failed. What the host adds to it is left out.
func failure(out *invocation) []byte {
	var doc struct {
		ErrorType    string   `json:"errorType"`
		ErrorMessage string   `json:"errorMessage"`
		RequestID    string   `json:"requestId,omitempty"`
		StackTrace   []string `json:"stackTrace,omitempty"`
	}
	if err := json.Unmarshal(out.payload, &doc); err != nil {
		return out.payload
	}
	if strings.HasPrefix(doc.ErrorType, "Runtime.") || strings.HasPrefix(doc.ErrorType, "Sandbox.") {
		doc.ErrorMessage, doc.RequestID = "RequestId: "+out.requestID+" Error: "+doc.ErrorMessage, ""
	}
	raw, err := json.Marshal(doc)
	if err != nil {
		return out.payload
	}
	return raw
}

// hostError is what Lambda answers where the host could not run a function.
func hostError(err error) *refusal {
	switch errs.Code(err) {
	case codes.ResourceExhausted:
		no := refuse(http.StatusTooManyRequests, "TooManyRequestsException", "Rate Exceeded.")
		no.reason = "ConcurrentInvocationLimitExceeded"
		return no
	case codes.NotFound:
		return refuse(http.StatusNotFound, "ResourceNotFoundException", "%v", err)
	case codes.InvalidArgument, codes.FailedPrecondition, codes.Unimplemented:
		return refuse(http.StatusBadRequest, "InvalidParameterValueException", "the host of the stand refuses the function: %v", err)
	default:
		return refuse(http.StatusInternalServerError, "ServiceException", "the host of the stand: %v", err)
	}
}

// deploy puts a snapshot on the host, once. That ends the sandboxes of the one before.
func (s *Stand) deploy(ctx context.Context, snap *snapshot) error {
	snap.mu.Lock()
	defer snap.mu.Unlock()
	if snap.deployed {
		return nil
	}
	config, err := s.localConfiguration(snap)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), startLimit)
	defer cancel()
	if snap.code.image != "" {
		err = s.deployImage(ctx, snap, config)
	} else {
		err = s.deployArchive(ctx, snap, config)
	}
	snap.deployed = err == nil
	return err
}

func (s *Stand) deployArchive(ctx context.Context, snap *snapshot, config *localv1.LocalConfiguration) error {
	stream, err := s.host.DeployFunction(ctx)
	if err != nil {
		return fmt.Errorf("deploy to the host: %w", err)
	}
	rest := snap.code.archive
	messages := []*localv1.DeployFunctionRequest{{Part: &localv1.DeployFunctionRequest_Function{Function: &localv1.FunctionSpec{
		FunctionId: snap.local, Configuration: config, ArchiveSha256: digest(rest), ArchiveSizeBytes: int64(len(rest)), ReplaceExisting: true,
	}}}}
	for len(rest) > 0 {
		n := min(len(rest), chunkBytes)
		messages = append(messages, &localv1.DeployFunctionRequest{Part: &localv1.DeployFunctionRequest_Chunk{Chunk: rest[:n]}})
		rest = rest[n:]
	}
	for _, m := range messages {
		if err := stream.Send(m); errors.Is(err, io.EOF) {
			break // the answer tells why
		} else if err != nil {
			return fmt.Errorf("deploy to the host: %w", err)
		}
	}
	_, err = stream.CloseAndRecv()
	return err
}

// withdraw takes a snapshot from the host.
func (s *Stand) withdraw(ctx context.Context, snap *snapshot) {
	snap.mu.Lock()
	defer snap.mu.Unlock()
	if !snap.deployed {
		return
	}
	snap.deployed = false
	_, err := s.host.DeleteLocalFunction(context.WithoutCancel(ctx), &localv1.DeleteLocalFunctionRequest{FunctionId: snap.local})
	if err != nil && !errs.Is(err, codes.NotFound) {
		s.t.Logf("awsstand: function %s stays on the host: %v", snap.local, err)
	}
}

// runtimePattern reads Lambda's names of runtimes.
var runtimePattern = regexp.MustCompile(`^(python|nodejs|java)(\d+(?:\.\d+)?)(?:\.x)?$`)

// localRuntime is the host's word for one of Lambda's runtimes.
func localRuntime(name string) (*typev1.Runtime, error) {
	languages := map[string]typev1.Language{
		"python": typev1.Language_LANGUAGE_PYTHON, "nodejs": typev1.Language_LANGUAGE_NODEJS, "java": typev1.Language_LANGUAGE_JAVA,
	}
	if strings.HasPrefix(name, "provided") {
		return &typev1.Runtime{Language: typev1.Language_LANGUAGE_CPP}, nil
	}
	m := runtimePattern.FindStringSubmatch(name)
	if m == nil {
		return nil, errs.InvalidArgument("RUNTIME_UNKNOWN", "the stand knows no runtime %q", name)
	}
	return &typev1.Runtime{Language: languages[m[1]], Version: m[2]}, nil
}

var localArchitectures = map[string]typev1.Architecture{
	"x86_64": typev1.Architecture_ARCHITECTURE_X64, "arm64": typev1.Architecture_ARCHITECTURE_ARM64,
}

// localConfiguration is the function's configuration with what Lambda adds to the environment.
func (s *Stand) localConfiguration(snap *snapshot) (*localv1.LocalConfiguration, error) {
	c := snap.config
	role := s.keys.issue("ASIA", c.Role)
	kind, endpoint := s.archives, s.Endpoint
	if snap.code.image != "" {
		kind = localv1.SandboxKind_SANDBOX_KIND_DOCKER
	}
	if kind == localv1.SandboxKind_SANDBOX_KIND_DOCKER {
		endpoint = s.containers
	}
	out := &localv1.LocalConfiguration{
		SandboxKind: kind, Handler: c.Handler, TimeoutSeconds: int32(c.Timeout), MemoryMb: int32(c.MemorySize),
		Environment: map[string]string{
			"AWS_REGION": s.Region, "AWS_DEFAULT_REGION": s.Region, "AWS_ENDPOINT_URL": endpoint,
		},
		SecretEnvironment: map[string]string{
			"AWS_ACCESS_KEY_ID": role.accessKey, "AWS_SECRET_ACCESS_KEY": role.secret, "AWS_SESSION_TOKEN": role.token,
		},
	}
	maps.Copy(out.Environment, c.Environment.Variables)
	if len(c.Architectures) > 0 {
		out.Architecture = localArchitectures[c.Architectures[0]]
	}
	if snap.code.image == "" {
		var err error
		if out.Runtime, err = localRuntime(c.Runtime); err != nil {
			return nil, err
		}
	}
	return out, nil
}
