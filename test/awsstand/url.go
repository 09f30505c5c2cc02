package awsstand

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"strings"
	"time"
)

// Paths below which the stand serves the URLs of functions and HTTP APIs, which on AWS have hosts of their own.
const (
	urlPath = "/_url/"
	apiPath = "/_api/"
)

// Kinds of access to a function URL.
const (
	authNone = "NONE"
	authIAM  = "AWS_IAM"
)

// functionURL is the URL of a function or of one of its aliases.
type functionURL struct {
	id, qualifier, auth, mode string
	created, modified         time.Time
}

// stamp is Lambda's form of a time.
func stamp(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000+0000") }

func (s *Stand) describeURL(fn *function, u *functionURL) map[string]any {
	return map[string]any{
		"FunctionUrl": s.Endpoint + urlPath + u.id + "/", "FunctionArn": s.qualified(fn, u.qualifier), "AuthType": u.auth, "InvokeMode": u.mode,
		"CreationTime": stamp(u.created), "LastModifiedTime": stamp(u.modified),
	}
}

func (s *Stand) putURL(w http.ResponseWriter, q *request, fn *function, at route) *refusal {
	var in struct{ AuthType, InvokeMode string }
	if no := parse(q, &in); no != nil {
		return no
	}
	u, status := fn.urls[at.qualifier], http.StatusOK
	switch {
	case in.AuthType != "" && in.AuthType != authNone && in.AuthType != authIAM:
		return refuse(http.StatusBadRequest, "ValidationException", "Value '%s' at 'authType' failed to satisfy constraint: Member must satisfy enum value set: [NONE, AWS_IAM]", in.AuthType)
	case at.operation == "UpdateFunctionUrlConfig" && u == nil:
		return noResource()
	case at.operation == "CreateFunctionUrlConfig" && u != nil:
		return refuse(http.StatusConflict, "ResourceConflictException", "Failed to create function url config for [functionArn = %s]. Error message:  FunctionUrlConfig exists for this Lambda function", s.qualified(fn, at.qualifier))
	case u == nil && at.qualifier != "" && fn.aliases[at.qualifier] == "":
		return refuse(http.StatusBadRequest, "ValidationException", "Value '%s' at 'qualifier' failed to satisfy constraint: it has to be an alias", at.qualifier)
	case u == nil:
		u, status = &functionURL{id: strings.ToLower(rand.Text()), qualifier: at.qualifier, mode: "BUFFERED", created: time.Now()}, http.StatusCreated
		fn.urls[at.qualifier] = u
	}
	if in.AuthType != "" {
		u.auth = in.AuthType
	}
	u.modified = time.Now()
	give(w, status, s.describeURL(fn, u))
	return nil
}

func (s *Stand) getURL(w http.ResponseWriter, fn *function, at route) *refusal {
	if at.operation == "ListFunctionUrlConfigs" {
		list := []any{}
		for _, u := range fn.urls {
			list = append(list, s.describeURL(fn, u))
		}
		give(w, http.StatusOK, map[string]any{"FunctionUrlConfigs": list})
		return nil
	}
	u := fn.urls[at.qualifier]
	if u == nil {
		return noResource()
	}
	give(w, http.StatusOK, s.describeURL(fn, u))
	return nil
}

func (s *Stand) deleteURL(w http.ResponseWriter, fn *function, at route) *refusal {
	if fn.urls[at.qualifier] == nil {
		return noResource()
	}
	delete(fn.urls, at.qualifier)
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// findURL finds the function of a URL.
func (s *Stand) findURL(id string) (*function, functionURL, bool) {
	s.lambda.mu.Lock()
	defer s.lambda.mu.Unlock()
	for _, fn := range s.lambda.byName {
		fn.mu.Lock()
		for _, u := range fn.urls {
			if u.id == id {
				out := *u
				fn.mu.Unlock()
				return fn, out, true
			}
		}
		fn.mu.Unlock()
	}
	return nil, functionURL{}, false
}

// serveWeb answers requests for the URLs of functions and HTTP APIs; false means that it is none.
func (s *Stand) serveWeb(w http.ResponseWriter, r *http.Request) bool {
	if rest, ok := strings.CutPrefix(r.URL.Path, urlPath); ok {
		id, path, _ := strings.Cut(rest, "/")
		s.serveURL(w, r, id, "/"+path)
		return true
	}
	if rest, ok := strings.CutPrefix(r.URL.Path, apiPath); ok {
		id, path, _ := strings.Cut(rest, "/")
		s.serveAPI(w, r, id, "/"+path)
		return true
	}
	return false
}

// message writes an error of a front of functions.
func message(w http.ResponseWriter, status int, kind, text string) {
	if kind != "" {
		w.Header().Set("X-Amzn-Errortype", kind)
	}
	// The two fronts spell the name differently.
	name := "message"
	if kind != "" {
		name = "Message"
	}
	give(w, status, map[string]string{name: text})
}

// serveURL answers a call of a function URL. Since October 2025 a public URL takes two statements.
// https://docs.aws.amazon.com/lambda/latest/dg/urls-auth.html
func (s *Stand) serveURL(w http.ResponseWriter, r *http.Request, id, path string) {
	fn, u, ok := s.findURL(id)
	if !ok {
		message(w, http.StatusNotFound, "ResourceNotFoundException", "Not Found")
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, syncPayload))
	if err != nil {
		message(w, http.StatusRequestEntityTooLarge, "RequestEntityTooLargeException", "Request must be smaller than 6291456 bytes for the InvokeFunction operation")
		return
	}
	const forbidden = "Forbidden. For troubleshooting Function URL authorization issues, see: https://docs.aws.amazon.com/lambda/latest/dg/urls-auth.html"
	account := "anonymous"
	switch u.auth {
	case authNone:
		facts := map[string]string{"lambda:FunctionUrlAuthType": authNone, "lambda:InvokedViaFunctionUrl": "true"}
		if !fn.permits(u.qualifier, "lambda:InvokeFunctionUrl", "", facts) || !fn.permits(u.qualifier, "lambda:InvokeFunction", "", facts) {
			message(w, http.StatusForbidden, "AccessDeniedException", forbidden)
			return
		}
	default:
		if text := s.unsigned(r, body); text != "" {
			message(w, http.StatusForbidden, "AccessDeniedException", text)
			return
		}
		account = s.Account
	}
	event := proxyEvent(r, body, path, u.id, account)
	s.answerWeb(w, r, fn, u.qualifier, event, func(status int) {
		text, kind := "Internal Server Error", "InternalServerErrorException"
		if status == http.StatusTooManyRequests {
			text, kind = "Rate Exceeded.", "TooManyRequestsException"
		}
		message(w, status, kind, text)
	})
}

// unsigned says why the signature of a call is not good; empty means that it is.
func (s *Stand) unsigned(r *http.Request, body []byte) string {
	sig, ok := parseSignature(r)
	if !ok {
		return "Forbidden. For troubleshooting Function URL authorization issues, see: https://docs.aws.amazon.com/lambda/latest/dg/urls-auth.html"
	}
	id, known := s.keys.find(sig.accessKey)
	switch {
	case sig.service != "lambda":
		return "Credential should be scoped to correct service: 'lambda'."
	case sig.region != s.Region:
		return "Credential should be scoped to a valid region."
	case !known || sig.token != id.token:
		return "The security token included in the request is invalid."
	case id.expired:
		return "The security token included in the request is expired"
	case id.role != "":
		return "Forbidden. For troubleshooting Function URL authorization issues, see: https://docs.aws.amazon.com/lambda/latest/dg/urls-auth.html"
	case !sig.matches(r, id.secret, body):
		return "The request signature we calculated does not match the signature you provided. Check your AWS Secret Access Key and signing method. Consult the service documentation for details."
	}
	return ""
}

// proxyEvent is a request in Lambda's payload format 2.0.
// https://docs.aws.amazon.com/lambda/latest/dg/urls-invocation.html#urls-payloads
func proxyEvent(r *http.Request, body []byte, path, id, account string) map[string]any {
	headers := map[string]string{"host": r.Host}
	for name, values := range r.Header {
		headers[strings.ToLower(name)] = strings.Join(values, ",")
	}
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		host = r.RemoteAddr
	}
	now := time.Now().UTC()
	event := map[string]any{
		"version": "2.0", "routeKey": "$default", "rawPath": path, "rawQueryString": r.URL.RawQuery, "headers": headers,
		"requestContext": map[string]any{
			"accountId": account, "apiId": id, "domainName": r.Host, "domainPrefix": id, "requestId": requestID(), "routeKey": "$default",
			"stage": "$default", "time": now.Format("02/Jan/2006:15:04:05 -0700"), "timeEpoch": now.UnixMilli(),
			"http": map[string]string{"method": r.Method, "path": path, "protocol": r.Proto, "sourceIp": host, "userAgent": r.UserAgent()},
		},
		"isBase64Encoded": false,
	}
	if len(r.URL.RawQuery) > 0 {
		query := map[string]string{}
		for name, values := range r.URL.Query() {
			query[name] = strings.Join(values, ",")
		}
		event["queryStringParameters"] = query
	}
	switch {
	case len(body) == 0:
	case isText(r.Header.Get("Content-Type")):
		event["body"] = string(body)
	default:
		event["body"], event["isBase64Encoded"] = base64.StdEncoding.EncodeToString(body), true
	}
	return event
}

// isText says whether Lambda passes a body of the type as it is.
func isText(kind string) bool {
	kind, _, _ = strings.Cut(kind, ";")
	switch kind {
	case "application/json", "application/javascript", "application/xml":
		return true
	default:
		return strings.HasPrefix(kind, "text/")
	}
}

// answerWeb runs the function and unpacks its answer, as the fronts of Lambda do. Where there is none, broken writes the
// error.
func (s *Stand) answerWeb(w http.ResponseWriter, r *http.Request, fn *function, qualifier string, event map[string]any, broken func(status int)) {
	raw, err := json.Marshal(event)
	if err != nil {
		broken(http.StatusBadGateway)
		return
	}
	snap, no := s.runnable(fn, qualifier)
	if no != nil {
		broken(http.StatusBadGateway)
		return
	}
	leave, no := fn.enter()
	if no != nil {
		broken(http.StatusTooManyRequests)
		return
	}
	defer leave()
	out, no := s.run(r.Context(), fn, snap, raw)
	if no != nil {
		s.t.Logf("awsstand: function %s: %s", fn.name, no.message)
		broken(no.status)
		return
	}
	w.Header().Set("X-Amzn-Requestid", out.requestID)
	if out.failed {
		broken(http.StatusBadGateway)
		return
	}
	unpack(w, out.payload, broken)
}

// unpack writes the answer of a function: an object with a statusCode is a whole answer, anything else is the body of one.
func unpack(w http.ResponseWriter, payload []byte, broken func(status int)) {
	var doc struct {
		StatusCode      *int           `json:"statusCode"`
		Headers         map[string]any `json:"headers"`
		Body            any            `json:"body"`
		Cookies         []string       `json:"cookies"`
		IsBase64Encoded bool           `json:"isBase64Encoded"`
	}
	h := w.Header()
	h.Set("Content-Type", "application/json")
	if err := json.Unmarshal(payload, &doc); err != nil || doc.StatusCode == nil {
		_, _ = w.Write(payload)
		return
	}
	body, ok := doc.Body.(string)
	if !ok && doc.Body != nil {
		broken(http.StatusBadGateway)
		return
	}
	for name, value := range doc.Headers {
		text, ok := value.(string)
		if !ok {
			raw, err := json.Marshal(value)
			if err != nil {
				continue
			}
			text = string(raw)
		}
		h.Set(name, text)
	}
	for _, cookie := range doc.Cookies {
		h.Add("Set-Cookie", cookie)
	}
	content := []byte(body)
	if doc.IsBase64Encoded {
		decoded, err := base64.StdEncoding.DecodeString(body)
		if err != nil {
			broken(http.StatusBadGateway)
			return
		}
		content = decoded
	}
	h.Del("Content-Length")
	w.WriteHeader(*doc.StatusCode)
	_, _ = w.Write(content)
}
