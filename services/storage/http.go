package storage

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/sebs-suite/sebs/internal/authn"
	"github.com/sebs-suite/sebs/internal/errs"
	"github.com/sebs-suite/sebs/platform/object"

	storagev1 "github.com/sebs-suite/sebs/gen/go/sebs/storage/v1"
)

// contentRoute is where raw bodies of objects are read and written; the gateway has the same route.
const contentRoute = "/v1/content/platforms/{platform}/deployments/{deployment}/buckets/{bucket}/{key...}"

// httpContent answers raw bodies: GET (with Range: bytes=a-b, bytes=a- or bytes=-n), HEAD and PUT (optional headers
// Content-Length, Content-Type, X-Sebs-Sha256, If-None-Match: *).
type httpContent struct {
	service *Service
	log     *slog.Logger
	// authorize tells whether a caller may call a gRPC method; a route is open to whom its method is.
	authorize func(caller authn.Principal, fullMethod string) error
}

// handlers lists the routes with their patterns.
func (h *httpContent) handlers() map[string]http.Handler {
	return map[string]http.Handler{
		"GET " + contentRoute: h.allowed(storagev1.StorageService_DownloadObject_FullMethodName, h.get), // HEAD as well
		"PUT " + contentRoute: h.allowed(storagev1.StorageService_UploadObject_FullMethodName, h.put),
	}
}

func (h *httpContent) allowed(method string, next http.HandlerFunc) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		caller, ok := authn.FromContext(r.Context())
		if !ok {
			h.fail(w, r, errs.Unauthenticated(authn.ReasonNoCredential, "this needs a caller; send a bearer token"))
			return
		}
		if err := h.authorize(caller, method); err != nil {
			h.fail(w, r, err)
			return
		}
		next(w, r)
	})
}

func where(r *http.Request) (d deployment, bucket, key string, err error) {
	d, err = parseDeployment("path", "platforms/"+r.PathValue("platform")+"/deployments/"+r.PathValue("deployment"))
	return d, r.PathValue("bucket"), r.PathValue("key"), err
}

func (h *httpContent) put(w http.ResponseWriter, r *http.Request) {
	d, bucket, key, err := where(r)
	if err != nil {
		h.fail(w, r, err)
		return
	}
	u := upload{
		deployment: d, bucket: bucket, key: key, sizeBytes: r.ContentLength, contentType: r.Header.Get("Content-Type"),
		sha256: r.Header.Get("X-Sebs-Sha256"), keep: r.Header.Get("If-None-Match") == "*",
	}
	o, skipped, err := h.service.put(r.Context(), u, r.Body)
	if err != nil {
		h.fail(w, r, err)
		return
	}
	describeObject(w, o)
	switch {
	case skipped:
		w.WriteHeader(http.StatusPreconditionFailed)
	default:
		w.WriteHeader(http.StatusCreated)
	}
}

func (h *httpContent) get(w http.ResponseWriter, r *http.Request) {
	d, bucket, key, err := where(r)
	if err != nil {
		h.fail(w, r, err)
		return
	}
	asked := r.Header.Get("Range")
	if asked == "" && r.Method != http.MethodHead {
		body, o, err := h.service.get(r.Context(), d, bucket, key, object.Range{})
		if err != nil {
			h.fail(w, r, err)
			return
		}
		h.send(w, r, o, object.Range{LengthBytes: o.SizeBytes}, body, http.StatusOK)
		return
	}
	o, err := h.service.stat(r.Context(), d, bucket, key)
	if err != nil {
		h.fail(w, r, err)
		return
	}
	rng, partial, err := parseRange(asked, o.SizeBytes)
	if err != nil {
		w.Header().Set("Content-Range", fmt.Sprintf("bytes */%d", o.SizeBytes))
		h.fail(w, r, err)
		return
	}
	status := http.StatusOK
	if partial {
		status = http.StatusPartialContent
		w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", rng.OffsetBytes, rng.OffsetBytes+rng.LengthBytes-1, o.SizeBytes))
	}
	if r.Method == http.MethodHead || rng.LengthBytes == 0 {
		h.send(w, r, o, rng, io.NopCloser(strings.NewReader("")), status)
		return
	}
	body, again, err := h.service.get(r.Context(), d, bucket, key, rng)
	if err != nil {
		h.fail(w, r, err)
		return
	}
	if again.ETag != o.ETag {
		err := errs.Aborted("OBJECT_CHANGED", "object %q changed while it was read; read it again", key)
		h.fail(w, r, errors.Join(err, body.Close()))
		return
	}
	h.send(w, r, o, rng, body, status)
}

func (h *httpContent) send(w http.ResponseWriter, r *http.Request, o object.Object, rng object.Range, body io.ReadCloser, status int) {
	defer func() { _ = body.Close() }() // only read
	describeObject(w, o)
	w.Header().Set("Accept-Ranges", "bytes")
	w.Header().Set("Content-Length", strconv.FormatInt(rng.LengthBytes, 10))
	w.WriteHeader(status)
	if r.Method == http.MethodHead {
		return
	}
	if n, err := io.CopyN(w, body, rng.LengthBytes); err != nil {
		h.log.DebugContext(r.Context(), "object content cut short", "key", o.Key, "sent_bytes", n, "error", err)
	}
}

func describeObject(w http.ResponseWriter, o object.Object) {
	header := w.Header()
	if o.ETag != "" {
		header.Set("ETag", `"`+o.ETag+`"`)
	}
	if o.ContentType != "" {
		header.Set("Content-Type", o.ContentType)
	}
	// What users stored is theirs to interpret: a browser must neither guess a type nor run it.
	header.Set("X-Content-Type-Options", "nosniff")
	header.Set("Content-Security-Policy", "sandbox; default-src 'none'")
	if !o.Modified.IsZero() {
		header.Set("Last-Modified", o.Modified.UTC().Format(http.TimeFormat))
	}
	if o.CRC32C != "" {
		header.Set("X-Sebs-Crc32c", o.CRC32C)
	}
	if sum := o.Metadata[digestMetadata]; sum != "" {
		header.Set("X-Sebs-Sha256", sum)
	}
}

// parseRange reads a Range header of one range. A header of another form is ignored, as HTTP allows.
func parseRange(header string, size int64) (r object.Range, partial bool, err error) {
	whole := object.Range{LengthBytes: size}
	spec, ok := strings.CutPrefix(header, "bytes=")
	if !ok || strings.Contains(spec, ",") {
		return whole, false, nil
	}
	from, to, ok := strings.Cut(spec, "-")
	if !ok {
		return whole, false, nil
	}
	var first int64
	last := size - 1
	if from == "" {
		n, err := strconv.ParseInt(to, 10, 64)
		if err != nil || n < 0 {
			return whole, false, nil
		}
		first = max(size-n, 0)
	} else {
		if first, err = strconv.ParseInt(from, 10, 64); err != nil || first < 0 {
			return whole, false, nil
		}
		if to != "" {
			asked, err := strconv.ParseInt(to, 10, 64)
			if err != nil || asked < first {
				return whole, false, nil
			}
			last = min(asked, last)
		}
	}
	if first >= size {
		return object.Range{}, false, errs.OutOfRange("OBJECT_RANGE", "the range %q starts behind the end of the object, which has %d bytes", header, size)
	}
	return object.Range{OffsetBytes: first, LengthBytes: last - first + 1}, true, nil
}

// httpStatus are the statuses that differ from 500.
var httpStatus = map[codes.Code]int{
	codes.InvalidArgument:    http.StatusBadRequest,
	codes.FailedPrecondition: http.StatusConflict,
	codes.NotFound:           http.StatusNotFound,
	codes.AlreadyExists:      http.StatusConflict,
	codes.Aborted:            http.StatusConflict,
	codes.OutOfRange:         http.StatusRequestedRangeNotSatisfiable,
	codes.PermissionDenied:   http.StatusForbidden,
	codes.Unauthenticated:    http.StatusUnauthorized,
	codes.ResourceExhausted:  http.StatusTooManyRequests,
	codes.Unavailable:        http.StatusServiceUnavailable,
	codes.Unimplemented:      http.StatusNotImplemented,
	codes.DeadlineExceeded:   http.StatusGatewayTimeout,
}

// fail answers an error as JSON: code, reason and message, like the REST gateway's.
func (h *httpContent) fail(w http.ResponseWriter, r *http.Request, err error) {
	status := errs.ToStatus(err)
	code, ok := httpStatus[status.Code()]
	if !ok {
		code = http.StatusInternalServerError
		h.log.ErrorContext(r.Context(), "object request failed", "path", r.URL.Path, "error", err)
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Date", time.Now().UTC().Format(http.TimeFormat))
	w.WriteHeader(code)
	body := map[string]any{"code": int(status.Code()), "reason": errs.Reason(err), "message": status.Message()}
	if err := json.NewEncoder(w).Encode(body); err != nil {
		h.log.DebugContext(r.Context(), "error answer not sent", "error", err)
	}
}
