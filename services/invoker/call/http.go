package call

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/netip"
	"net/url"
	"syscall"
	"time"

	"go.opentelemetry.io/otel/propagation"

	typev1 "github.com/sebs-suite/sebs/gen/go/sebs/type/v1"
	"github.com/sebs-suite/sebs/internal/errs"
	"github.com/sebs-suite/sebs/platform/faas/driver"
)

// HTTP calls functions by their URL.
type HTTP struct {
	fresh, kept *http.Client
	maxAnswer   int64
	signers     map[string]Signer
}

// Signer signs requests with a credential, for triggers that let only known callers in.
type Signer interface {
	// Sign adds to a request with the given body what proves who sends it.
	Sign(ctx context.Context, scope driver.Scope, request *http.Request, body []byte) error
}

// Signed tells whether a trigger takes signed requests only.
func Signed(trigger *typev1.Trigger) bool { return trigger.GetAttributes()[attributeAuth] == authIAM }

// The attribute of an HTTP trigger that says who may call it, and its value for signed requests.
const (
	attributeAuth = "auth_type"
	authIAM       = "AWS_IAM"
)

// HTTPOptions adjust an [HTTP] caller.
type HTTPOptions struct {
	// MaxAnswerBytes bounds an answer; 0 means [DefaultMaxAnswerBytes].
	MaxAnswerBytes int64
	// MaxConnections bounds idle connections that are kept to one host; 0 means 256.
	MaxConnections int
	// TLS is used for https URLs; nil means the system's defaults.
	TLS *tls.Config
	// Signers sign requests for triggers that ask for it, by platform.
	Signers map[string]Signer
}

// errLinkLocal is the reason why an address is not connected to.
var errLinkLocal = errors.New("link-local addresses are refused, since machines keep their metadata service there")

// NewHTTP returns a caller over HTTP. Proxies from the environment are not used and redirects not followed: both would
// measure something else, and lead to places that are not recorded.
func NewHTTP(options HTTPOptions) *HTTP {
	if options.MaxAnswerBytes <= 0 {
		options.MaxAnswerBytes = DefaultMaxAnswerBytes
	}
	if options.MaxConnections <= 0 {
		options.MaxConnections = 256
	}
	client := func(keep bool) *http.Client {
		dialer := &net.Dialer{Timeout: 30 * time.Second, ControlContext: refuseLinkLocal}
		return &http.Client{
			Transport: &http.Transport{
				DialContext:         dialer.DialContext,
				TLSClientConfig:     options.TLS.Clone(),
				TLSHandshakeTimeout: 30 * time.Second,
				DisableKeepAlives:   !keep,
				DisableCompression:  true,
				MaxIdleConns:        4 * options.MaxConnections,
				MaxIdleConnsPerHost: options.MaxConnections,
				IdleConnTimeout:     90 * time.Second,
				ForceAttemptHTTP2:   false,
			},
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		}
	}
	return &HTTP{fresh: client(false), kept: client(true), maxAnswer: options.MaxAnswerBytes, signers: options.Signers}
}

// Close drops connections that are kept.
func (h *HTTP) Close() {
	h.fresh.CloseIdleConnections()
	h.kept.CloseIdleConnections()
}

// CheckURL refuses what is no http or https URL with a host, and link-local addresses.
func CheckURL(raw string) error {
	parsed, err := url.Parse(raw)
	if err != nil {
		return fmt.Errorf("the trigger's URL cannot be read: %w", err)
	}
	if parsed.Scheme != "http" && parsed.Scheme != "https" || parsed.Host == "" {
		return fmt.Errorf("the trigger's URL %q is not of the form http://host/path or https://host/path", raw)
	}
	if address, err := netip.ParseAddr(parsed.Hostname()); err == nil && linkLocal(address) {
		return fmt.Errorf("the trigger's URL %q: %w", raw, errLinkLocal)
	}
	return nil
}

func linkLocal(address netip.Addr) bool {
	address = address.Unmap()
	return address.IsLinkLocalUnicast() || address.IsLinkLocalMulticast() || address == ec2MetadataIPv6()
}

// ec2MetadataIPv6 is a metadata service that has a unique local address.
func ec2MetadataIPv6() netip.Addr {
	return netip.AddrFrom16([16]byte{0xfd, 0x00, 0x0e, 0xc2, 14: 0x02, 15: 0x54})
}

// refuseLinkLocal sees the address after names were resolved, so a name that points there is refused too.
func refuseLinkLocal(_ context.Context, _, address string, _ syscall.RawConn) error {
	if to, err := netip.ParseAddrPort(address); err == nil && linkLocal(to.Addr().WithZone("")) {
		return errLinkLocal
	}
	return nil
}

// timing collects what httptrace tells. The transport calls its hooks from its own goroutines, at most one at a time
// before the answer's headers are returned.
type timing struct {
	got, first time.Time
	reused     bool
}

func (t *timing) trace() *httptrace.ClientTrace {
	return &httptrace.ClientTrace{
		GotConn: func(info httptrace.GotConnInfo) {
			t.got, t.reused = time.Now(), info.Reused
		},
		GotFirstResponseByte: func() { t.first = time.Now() },
	}
}

// into sets the times that are known.
func (t *timing) into(o *Outcome) {
	if !t.got.IsZero() {
		startup := t.got.Sub(o.Begin)
		if t.reused {
			startup = 0
		}
		o.Startup = &startup
	}
	if !t.first.IsZero() {
		first := t.first.Sub(o.Begin)
		o.FirstByte = &first
	}
}

// Call posts the payload to the trigger's URL and reads the whole answer.
func (h *HTTP) Call(ctx context.Context, target Target, input Input) Outcome {
	address := target.Trigger.GetUrl()
	if err := CheckURL(address); err != nil {
		now := time.Now()
		return Outcome{Begin: now, End: now}.fail(typev1.ErrorClass_ERROR_CLASS_PLATFORM,
			err.Error()+"; create the trigger again")
	}
	ctx, cancel := context.WithTimeout(ctx, input.Timeout)
	defer cancel()
	var times timing
	request, err := http.NewRequestWithContext(httptrace.WithClientTrace(ctx, times.trace()), http.MethodPost, address, bytes.NewReader(input.Payload))
	if err != nil {
		now := time.Now()
		return Outcome{Begin: now, End: now}.fail(typev1.ErrorClass_ERROR_CLASS_PLATFORM, "the request cannot be made: "+err.Error())
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("User-Agent", "sebs")
	propagation.TraceContext{}.Inject(ctx, propagation.HeaderCarrier(request.Header))
	if err := h.sign(ctx, target, request, input.Payload); err != nil {
		now := time.Now()
		class, message := apiFailure(ctx, err, target, input)
		return Outcome{Begin: now, End: now}.fail(class, "sign the request: "+message)
	}
	client := h.fresh
	if input.Reuse {
		client = h.kept
	}
	outcome := Outcome{Begin: time.Now()}
	response, err := client.Do(request)
	if err != nil {
		outcome.End = time.Now()
		// After an error the transport may still be connecting on a goroutine of its own, so the times are not read.
		class, message := connectionFailure(ctx, err, target, input)
		return outcome.fail(class, message)
	}
	defer func() { _ = response.Body.Close() }()
	answer, tooLarge, err := readBounded(response.Body, h.maxAnswer)
	outcome.End = time.Now()
	times.into(&outcome)
	outcome.HTTPStatus = response.StatusCode
	outcome.RequestID = cmp.Or(response.Header.Get(requestIDHeader), response.Header.Get(lambdaIDHeader))
	outcome.Cold = response.Header.Get(coldHeader) == "true"
	outcome.Message = outputNote(response.Header, target)
	outcome.Answer = answer
	switch {
	case err != nil:
		class, message := connectionFailure(ctx, err, target, input)
		return outcome.fail(class, "the answer broke off: "+message)
	case tooLarge:
		outcome.Answer = nil
		return outcome.fail(typev1.ErrorClass_ERROR_CLASS_BAD_RESPONSE, fmt.Sprintf(
			"the answer of %s is larger than %d bytes; let the function answer less or raise invoker.max_answer_bytes", address, h.maxAnswer))
	case response.StatusCode != http.StatusOK:
		class, message := statusFailure(response, answer, target)
		return outcome.fail(class, message)
	}
	return outcome
}

// sign signs a request where the trigger asks for it.
func (h *HTTP) sign(ctx context.Context, target Target, request *http.Request, body []byte) error {
	if !Signed(target.Trigger) {
		return nil
	}
	signer := h.signers[target.Platform]
	if signer == nil {
		return errs.Unimplemented("SIGNER_NOT_AVAILABLE",
			"the trigger of function %s takes signed requests only, and this invoker has no credential for platform %s", target.FunctionID, target.Platform)
	}
	return signer.Sign(ctx, target.Scope, request, body)
}

// readBounded reads up to limit bytes and tells whether there were more.
func readBounded(body io.Reader, limit int64) (answer []byte, tooLarge bool, err error) {
	answer, err = io.ReadAll(io.LimitReader(body, limit+1))
	return answer, int64(len(answer)) > limit, err
}
