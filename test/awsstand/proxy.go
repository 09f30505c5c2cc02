package awsstand

import (
	"cmp"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

// maxBody is the largest request that is read whole: a code archive of 50 MB in base64.
const maxBody = 80 << 20

// request is one request to a service.
type request struct {
	*http.Request
	caller    identity
	service   string
	operation string
	// target says that the operation stood in the header X-Amz-Target.
	target bool
	// body is the whole body; nil for S3, whose bodies pass through.
	body []byte
}

// recorder notes what was answered.
type recorder struct {
	http.ResponseWriter
	status int
	code   string
}

// WriteHeader notes the status.
func (r *recorder) WriteHeader(status int) {
	if r.status == 0 {
		r.status = status
	}
	r.ResponseWriter.WriteHeader(status)
}

// Unwrap lets http.ResponseController reach the connection.
func (r *recorder) Unwrap() http.ResponseWriter { return r.ResponseWriter }

// ServeHTTP takes a request for any service, or for a function by its URL.
func (s *Stand) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if s.serveWeb(w, r) {
		return
	}
	q := &request{Request: r, service: serviceOf(r)}
	out := &recorder{ResponseWriter: w}
	if no := s.serve(out, q); no != nil {
		out.code = no.code
		no.give(out, q.service, q.target)
	}
	s.calls.add(Call{
		Time: time.Now(), Service: q.service, Operation: q.operation, Status: cmp.Or(out.status, http.StatusOK), Code: out.code,
		AccessKey: q.caller.accessKey,
	})
}

// serve answers, or says with which error to answer.
func (s *Stand) serve(w http.ResponseWriter, q *request) *refusal {
	if no := s.read(w, q); no != nil {
		return no
	}
	if no := s.admit(q); no != nil {
		return no
	}
	if t := s.script.throttles(q.service, q.operation); t != nil {
		no := throttled(q.service)
		no.retryAfter = t.RetryAfter
		return no
	}
	if no := s.authorize(q); no != nil {
		return no
	}
	switch q.service {
	case "lambda":
		return s.serveLambda(w, q)
	case "apigateway":
		return s.serveGateway(w, q)
	case "s3":
		return s.serveObjects(w, q)
	case "iam":
		// Whatever is changed, roles are looked at again.
		defer s.roles.forget()
		s.pass.ServeHTTP(w, q.Request)
		return nil
	case "logs":
		return s.serveLogs(w, q)
	case "ecr":
		return s.serveECR(w, q)
	case "dynamodb":
		if s.tables != nil {
			s.tables.ServeHTTP(w, q.Request)
			return nil
		}
	}
	s.pass.ServeHTTP(w, q.Request)
	return nil
}

// throttled is the error of a service that gets too many requests.
func throttled(service string) *refusal {
	switch service {
	case "lambda":
		no := refuse(http.StatusTooManyRequests, "TooManyRequestsException", "Rate exceeded")
		no.reason = "CallerRateLimitExceeded"
		return no
	case "apigateway":
		return refuse(http.StatusTooManyRequests, "TooManyRequestsException", "Too Many Requests")
	case "s3":
		return refuse(http.StatusServiceUnavailable, "SlowDown", "Please reduce your request rate.")
	case "iam", "sts":
		return refuse(http.StatusBadRequest, "Throttling", "Rate exceeded")
	default:
		return refuse(http.StatusBadRequest, "ThrottlingException", "Rate exceeded")
	}
}

// serviceOf tells the service from the scope of the signature.
func serviceOf(r *http.Request) string {
	if sig, ok := parseSignature(r); ok {
		return sig.service
	}
	if target := r.Header.Get("X-Amz-Target"); target != "" {
		name, _, _ := strings.Cut(target, "_")
		return strings.ToLower(name)
	}
	return "s3" // unsigned requests are refused; what looks like none of the other services gets the error of this one
}

// read takes in the body, where it is read whole, and names the operation.
func (s *Stand) read(w http.ResponseWriter, q *request) *refusal {
	if q.service != "s3" {
		body, err := io.ReadAll(http.MaxBytesReader(w, q.Body, maxBody))
		if err != nil {
			return refuse(http.StatusRequestEntityTooLarge, "RequestEntityTooLargeException", "the request cannot be read: %v", err)
		}
		q.body = body
		q.Request.Body = io.NopCloser(strings.NewReader(string(body)))
		q.ContentLength = int64(len(body))
	}
	q.operation, q.target = operationOf(q)
	return nil
}

func operationOf(q *request) (name string, target bool) {
	if header := q.Header.Get("X-Amz-Target"); header != "" {
		_, name, _ := strings.Cut(header, ".")
		return name, true
	}
	switch q.service {
	case "lambda":
		return lambdaRoute(q.Request).operation, false
	case "s3":
		names := make([]string, 0, 1)
		for name := range q.URL.Query() {
			if !strings.HasPrefix(name, "X-Amz-") && name != "x-id" {
				names = append(names, name)
			}
		}
		slices.Sort(names)
		if len(names) > 0 {
			return q.Method + " ?" + names[0], false
		}
		return q.Method, false
	case "apigateway":
		return q.Method + " " + q.URL.Path, false
	default:
		form, err := url.ParseQuery(string(q.body))
		if err != nil {
			return "", false
		}
		return form.Get("Action"), false
	}
}

// admit refuses requests that are not signed, or not with a key that the stand handed out.
func (s *Stand) admit(q *request) *refusal {
	sig, ok := parseSignature(q.Request)
	if !ok {
		if q.service == "s3" {
			return refuse(http.StatusForbidden, "AccessDenied", "Access Denied")
		}
		return refuse(http.StatusForbidden, "MissingAuthenticationToken", "Request is missing Authentication Token")
	}
	id, known := s.keys.find(sig.accessKey)
	switch {
	case !known || sig.token != id.token:
		return unknownKey(q.service)
	case id.expired:
		return expiredKey(q.service)
	case !sig.matches(q.Request, id.secret, q.body):
		code := "SignatureDoesNotMatch"
		if q.service == "lambda" || q.target {
			code = "InvalidSignatureException"
		}
		return refuse(http.StatusForbidden, code, "The request signature we calculated does not match the signature you provided. Check your AWS Secret Access Key and signing method.")
	}
	q.caller = id
	return nil
}

func unknownKey(service string) *refusal {
	switch service {
	case "s3":
		return refuse(http.StatusForbidden, "InvalidAccessKeyId", "The AWS Access Key Id you provided does not exist in our records.")
	case "iam", "sts":
		return refuse(http.StatusForbidden, "InvalidClientTokenId", "The security token included in the request is invalid.")
	default:
		return refuse(http.StatusForbidden, "UnrecognizedClientException", "The security token included in the request is invalid.")
	}
}

func expiredKey(service string) *refusal {
	switch service {
	case "s3":
		return refuse(http.StatusBadRequest, "ExpiredToken", "The provided token has expired.")
	case "iam", "sts":
		return refuse(http.StatusForbidden, "ExpiredToken", "The security token included in the request is expired")
	default:
		return refuse(http.StatusForbidden, "ExpiredTokenException", "The security token included in the request is expired")
	}
}

// rewrite turns addresses in moto's answers into those of the stand.
func (s *Stand) rewrite(response *http.Response) error {
	if sig, ok := parseSignature(response.Request); ok && sig.service == "apigateway" {
		return s.rewriteGateway(response)
	}
	return nil
}
