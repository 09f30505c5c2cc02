package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"math"
	"net/http"
	"strconv"
	"strings"

	"cloud.google.com/go/longrunning/autogen/longrunningpb"
	"github.com/google/uuid"
	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	openapi "github.com/sebs-suite/sebs/gen"
	"github.com/sebs-suite/sebs/internal/authn"
	"github.com/sebs-suite/sebs/internal/errs"
	"github.com/sebs-suite/sebs/internal/version"
)

// remoteHeader tells services where a REST call came from.
const remoteHeader = "x-forwarded-for"

// requestIDHeader names a call in logs and answers.
const requestIDHeader = "X-Request-Id"

func incomingHeader(key string) (string, bool) {
	switch strings.ToLower(key) {
	case "authorization", "x-request-id", "traceparent", "tracestate":
		return strings.ToLower(key), true
	}
	return "", false
}

// outgoingHeader lets no header of a service through: the one that matters, the request's id, is set before the call.
func outgoingHeader(string) (string, bool) { return "", false }

// routes puts what is not a method of a service beside the methods.
func (g *gateway) routes(methods http.Handler) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		writeJSON(w, http.StatusOK, map[string]string{"status": "ok"})
	})
	mux.HandleFunc("GET /version", func(w http.ResponseWriter, _ *http.Request) { writeJSON(w, http.StatusOK, version.Get()) })
	mux.HandleFunc("GET /openapi.json", func(w http.ResponseWriter, _ *http.Request) {
		raw, err := fs.ReadFile(openapi.OpenAPI, openapi.OpenAPIFile)
		if err != nil {
			writeError(w, errs.Internal(err))
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(raw)
	})
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		writeJSON(w, http.StatusOK, map[string]string{"name": "sebs", "version": version.Get().Version, "openapi": "/openapi.json"})
	})
	mux.HandleFunc("PUT /v1/content/", g.identified(g.putObject))
	mux.HandleFunc("GET /v1/content/", g.identified(g.getObject))
	mux.HandleFunc("PUT /v1/sources/{benchmark}", g.identified(g.putSource))
	limited := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body := &boundedBody{ReadCloser: http.MaxBytesReader(w, r.Body, g.config.MaxBodyBytes)}
		r = r.WithContext(context.WithValue(r.Context(), bodyKey{}, body))
		r.Body = body
		methods.ServeHTTP(w, r)
	})
	mux.Handle("/v1/", g.identified(limited.ServeHTTP))
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) { writeError(w, routeNotFound(r)) })
	return mux
}

func routeNotFound(r *http.Request) error {
	return errs.NotFound("ROUTE_NOT_FOUND", "no route %s %s; /openapi.json lists them", r.Method, r.URL.Path)
}

type bodyKey struct{}

// boundedBody remembers that a body was over the limit: the decoders of the methods keep only the text of its error.
type boundedBody struct {
	io.ReadCloser
	tooLarge *http.MaxBytesError
}

// Read reads the body up to the limit.
func (b *boundedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	errors.As(err, &b.tooLarge)
	return n, err
}

// methodFailed answers the error of a method, or of the request for it.
func methodFailed(_ context.Context, _ *runtime.ServeMux, _ runtime.Marshaler, w http.ResponseWriter, r *http.Request, err error) {
	if body, ok := r.Context().Value(bodyKey{}).(*boundedBody); ok && body.tooLarge != nil {
		writeError(w, body.tooLarge)
		return
	}
	if s := status.Convert(err); s.Code() == codes.InvalidArgument && len(s.Details()) == 0 {
		// Not from a service, which would name a reason: the request could not be read.
		// The library varies the space behind its prefix.
		text, _ := strings.CutPrefix(s.Message(), "proto:")
		err = errs.InvalidArgument("REQUEST_INVALID", "%s; /openapi.json describes the request", strings.TrimLeft(text, "\u00a0 "))
	}
	writeError(w, err)
}

// routeFailed answers a request whose path or HTTP method no method of a service has.
func routeFailed(_ context.Context, _ *runtime.ServeMux, _ runtime.Marshaler, w http.ResponseWriter, r *http.Request, code int) {
	switch code {
	case http.StatusMethodNotAllowed:
		writeErrorAs(w, code, errs.Unimplemented("METHOD_NOT_ALLOWED", "%s does not take %s; /openapi.json lists the routes", r.URL.Path, r.Method))
	case http.StatusNotFound:
		writeError(w, routeNotFound(r))
	default:
		writeErrorAs(w, code, errs.InvalidArgument("REQUEST_INVALID", "the request cannot be understood; /openapi.json describes it"))
	}
}

// identified puts the caller into the request's context and gives the request an id.
func (g *gateway) identified(next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get(requestIDHeader) == "" {
			r.Header.Set(requestIDHeader, uuid.NewString())
		}
		w.Header().Set(requestIDHeader, r.Header.Get(requestIDHeader))
		caller, err := g.authn.HTTP(r)
		if err != nil {
			writeError(w, err)
			return
		}
		next(w, r.WithContext(authn.WithPrincipal(r.Context(), caller)))
	}
}

func noCredential() error {
	return errs.Unauthenticated(authn.ReasonNoCredential, "this suite asks who calls; send the header Authorization: Bearer TOKEN")
}

func unknownMethod(method string) error {
	return errs.Unimplemented("METHOD_UNKNOWN", "the suite has no method %s", method)
}

// operationRoutes serves google.longrunning.Operations, for which no REST code is generated.
func (g *gateway) operationRoutes(mux *runtime.ServeMux) error {
	client := longrunningpb.NewOperationsClient(g.checked(operationsService))
	routes := []struct {
		method, pattern string
		call            func(r *http.Request, params map[string]string) (proto.Message, error)
	}{
		{http.MethodGet, "/v1/operations", func(r *http.Request, _ map[string]string) (proto.Message, error) {
			query := r.URL.Query()
			return client.ListOperations(r.Context(), &longrunningpb.ListOperationsRequest{Name: "operations", Filter: query.Get("filter"), PageToken: query.Get("pageToken")})
		}},
		{http.MethodGet, "/v1/{name=operations/*}", func(r *http.Request, params map[string]string) (proto.Message, error) {
			return client.GetOperation(r.Context(), &longrunningpb.GetOperationRequest{Name: params["name"]})
		}},
		{http.MethodPost, "/v1/{name=operations/*}:cancel", func(r *http.Request, params map[string]string) (proto.Message, error) {
			return client.CancelOperation(r.Context(), &longrunningpb.CancelOperationRequest{Name: params["name"]})
		}},
		{http.MethodPost, "/v1/{name=operations/*}:wait", func(r *http.Request, params map[string]string) (proto.Message, error) {
			return client.WaitOperation(r.Context(), &longrunningpb.WaitOperationRequest{Name: params["name"]})
		}},
		{http.MethodDelete, "/v1/{name=operations/*}", func(r *http.Request, params map[string]string) (proto.Message, error) {
			return client.DeleteOperation(r.Context(), &longrunningpb.DeleteOperationRequest{Name: params["name"]})
		}},
	}
	for _, route := range routes {
		err := mux.HandlePath(route.method, route.pattern, func(w http.ResponseWriter, r *http.Request, params map[string]string) {
			answer, err := route.call(r, params)
			if err != nil {
				writeError(w, err)
				return
			}
			raw, err := protojson.MarshalOptions{EmitDefaultValues: true}.Marshal(answer)
			if err != nil {
				writeError(w, errs.Internal(err))
				return
			}
			w.Header().Set("Content-Type", "application/json")
			_, _ = w.Write(raw)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func writeJSON(w http.ResponseWriter, code int, value any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(value)
}

// writeError answers an error as the JSON form of google.rpc.Status, as the methods do.
func writeError(w http.ResponseWriter, err error) {
	var tooLarge *http.MaxBytesError
	if errors.As(err, &tooLarge) {
		writeErrorAs(w, http.StatusRequestEntityTooLarge,
			errs.InvalidArgument("BODY_TOO_LARGE", "the body is over %d bytes; send objects to /v1/content/…", tooLarge.Limit))
		return
	}
	writeErrorAs(w, runtime.HTTPStatusFromCode(errs.ToStatus(err).Code()), err)
}

// writeErrorAs is writeError with a status of HTTP of its own.
func writeErrorAs(w http.ResponseWriter, code int, err error) {
	failure := errs.ToStatus(err)
	raw, marshalErr := protojson.Marshal(failure.Proto())
	if marshalErr != nil {
		raw = []byte(`{"code":13,"message":"the error cannot be encoded"}`)
	}
	w.Header().Set("Content-Type", "application/json")
	if failure.Code() == codes.Unauthenticated {
		w.Header().Set("WWW-Authenticate", "Bearer")
	}
	if wait, ok := errs.RetryDelay(err); ok {
		w.Header().Set("Retry-After", strconv.Itoa(int(math.Ceil(wait.Seconds()))))
	}
	w.WriteHeader(code)
	_, _ = w.Write(raw)
}
