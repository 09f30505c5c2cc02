package errs_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/sebs-suite/sebs/internal/errs"
)

func TestCategoriesSurviveTheWire(t *testing.T) {
	t.Parallel()
	made := map[codes.Code]error{
		codes.NotFound:           errs.NotFound("A_REASON", "m %d", 1),
		codes.InvalidArgument:    errs.InvalidArgument("A_REASON", "m %d", 1),
		codes.FailedPrecondition: errs.FailedPrecondition("A_REASON", "m %d", 1),
		codes.AlreadyExists:      errs.AlreadyExists("A_REASON", "m %d", 1),
		codes.Aborted:            errs.Aborted("A_REASON", "m %d", 1),
		codes.OutOfRange:         errs.OutOfRange("A_REASON", "m %d", 1),
		codes.Unimplemented:      errs.Unimplemented("A_REASON", "m %d", 1),
		codes.ResourceExhausted:  errs.ResourceExhausted(time.Second, "A_REASON", "m %d", 1),
		codes.Unavailable:        errs.Unavailable("A_REASON", "m %d", 1),
		codes.PermissionDenied:   errs.PermissionDenied("A_REASON", "m %d", 1),
		codes.Unauthenticated:    errs.Unauthenticated("A_REASON", "m %d", 1),
		codes.DeadlineExceeded:   errs.DeadlineExceeded("A_REASON", "m %d", 1),
		codes.Canceled:           errs.Canceled("A_REASON", "m %d", 1),
		codes.DataLoss:           errs.DataLoss("A_REASON", "m %d", 1),
	}
	for code, err := range made {
		t.Run(code.String(), func(t *testing.T) {
			t.Parallel()
			wrapped := fmt.Errorf("do it: %w", err)
			if got := errs.Code(wrapped); got != code {
				t.Fatalf("Code = %v, want %v", got, code)
			}
			back := errs.FromStatus(errs.ToStatus(wrapped).Err())
			if !errs.Is(back, code) || errs.Reason(back) != "A_REASON" || back.Error() != "do it: m 1" {
				t.Errorf("after the wire: code %v, reason %q, message %q", errs.Code(back), errs.Reason(back), back)
			}
		})
	}
}

func TestDetailsSurviveTheWire(t *testing.T) {
	t.Parallel()
	err := errs.ResourceExhausted(3*time.Second, "THROTTLED", "slow down").
		With("function", "f").Resource("sebs.Function", "f").
		Detail(&errdetails.DebugInfo{Detail: "first"}).Detail(&errdetails.DebugInfo{Detail: "the log"})
	back := errs.FromStatus(errs.ToStatus(err).Err())
	if d, ok := errs.RetryDelay(back); !ok || d != 3*time.Second {
		t.Errorf("RetryDelay = %v, %v", d, ok)
	}
	if got := errs.Metadata(back, "function"); got != "f" {
		t.Errorf("Metadata(function) = %q", got)
	}
	details := errs.Details(back)
	if len(details) != 1 || details[0].(*errdetails.DebugInfo).GetDetail() != "the log" {
		t.Errorf("Details = %v", details)
	}
	again := errs.ToStatus(back)
	if len(again.Details()) != len(errs.ToStatus(err).Details()) {
		t.Errorf("details after two hops: %v", again.Details())
	}
}

func TestCausesStayInside(t *testing.T) {
	t.Parallel()
	cause := errors.New("password=hunter2 rejected")
	for name, err := range map[string]error{
		"wrapped":      fmt.Errorf("op: %w", errs.Unavailable("STORE_DOWN", "the store is down").Wrap(cause)),
		"internal":     errs.Internal(cause),
		"unclassified": fmt.Errorf("op: %w", cause),
	} {
		st := errs.ToStatus(err)
		if strings.Contains(st.Message(), "hunter2") {
			t.Errorf("%s: the cause reaches clients: %q", name, st.Message())
		}
		if !strings.Contains(err.Error(), "hunter2") || !errors.Is(err, cause) {
			t.Errorf("%s: the cause is lost for the log: %v", name, err)
		}
	}
	shown := errs.NotFound("FILE_NOT_FOUND", "open x: %v", fs.ErrNotExist)
	if !errors.Is(shown, fs.ErrNotExist) || shown.Error() != "open x: file does not exist" {
		t.Errorf("an argument that is an error: %v", shown)
	}
}

func TestWithDoesNotChangeTheOriginal(t *testing.T) {
	t.Parallel()
	base := errs.NotFound("X", "m").With("a", "1")
	_ = base.With("a", "2").With("b", "3")
	if errs.Metadata(base, "a") != "1" || errs.Metadata(base, "b") != "" {
		t.Error("With changed the error it was called on")
	}
}

func TestFields(t *testing.T) {
	t.Parallel()
	if err := errs.Fields(nil, nil); err != nil {
		t.Fatalf("Fields of nothing = %v", err)
	}
	first := errs.Field("memory_mb", "must be between %d and %d; set --memory", 128, 10240)
	second := errs.Field("name", "is empty; set a name")
	err := errs.Fields(nil, first, errors.Join(second, errs.Fields(errs.Field("x", "y"))))
	back := errs.FromStatus(errs.ToStatus(err).Err())
	got := errs.Violations(back)
	want := []errs.Violation{
		{Field: "memory_mb", Description: "must be between 128 and 10240; set --memory"},
		{Field: "name", Description: "is empty; set a name"},
		{Field: "x", Description: "y"},
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("violations = %v, want %v", got, want)
	}
	if !errs.Is(back, codes.InvalidArgument) || errs.Reason(back) != errs.ReasonInvalidFields {
		t.Errorf("category = %v, reason %q", errs.Code(back), errs.Reason(back))
	}
	other := errs.Unavailable("DOWN", "down")
	if got := errs.Fields(first, other); !errors.Is(got, other) {
		t.Errorf("an error with its own category became %v", got)
	}
}

func TestForeignErrors(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		err  error
		want codes.Code
	}{
		{nil, codes.OK},
		{errors.New("x"), codes.Internal},
		{fmt.Errorf("op: %w", context.Canceled), codes.Canceled},
		{fmt.Errorf("op: %w", context.DeadlineExceeded), codes.DeadlineExceeded},
		{fmt.Errorf("op: %w", status.Error(codes.NotFound, "n")), codes.NotFound},
	} {
		if got := errs.Code(c.err); got != c.want {
			t.Errorf("Code(%v) = %v, want %v", c.err, got, c.want)
		}
		if got := errs.ToStatus(c.err).Code(); got != c.want {
			t.Errorf("ToStatus(%v) = %v, want %v", c.err, got, c.want)
		}
	}
	canceled := errs.FromStatus(status.Error(codes.Canceled, "stop"))
	if !errors.Is(canceled, context.Canceled) {
		t.Error("a cancelled call is not context.Canceled at the client")
	}
	if errs.FromStatus(nil) != nil || errs.FromProto(nil) != nil || errs.FromProto(errs.ToStatus(canceled).Proto()) == nil {
		t.Error("FromStatus or FromProto got nil wrong")
	}
}
