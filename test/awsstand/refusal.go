package awsstand

import (
	"crypto/rand"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/google/uuid"
)

// refusal is an error as AWS answers it.
type refusal struct {
	status  int
	code    string
	message string
	// retryAfter is told to the client when it is more than 0, in whole seconds.
	retryAfter time.Duration
	// reason goes with errors of Lambda that have one.
	reason string
}

func refuse(status int, code, format string, args ...any) *refusal {
	return &refusal{status: status, code: code, message: fmt.Sprintf(format, args...)}
}

// requestID is a new id in AWS's form.
func requestID() string { return uuid.NewString() }

// give writes the error in the protocol of a service.
func (e *refusal) give(w http.ResponseWriter, service string, target bool) {
	id := requestID()
	h := w.Header()
	h.Set("X-Amzn-Requestid", id)
	if e.retryAfter > 0 {
		h.Set("Retry-After", fmt.Sprint(int64((e.retryAfter+time.Second-1)/time.Second)))
	}
	switch {
	case target: // JSON protocols with the operation in a header
		e.json(w, "application/x-amz-json-1.1", map[string]string{"__type": e.code, "message": e.message, "Message": e.message})
	case service == "lambda" || service == "apigateway" || service == "execute-api":
		h.Set("X-Amzn-Errortype", e.code)
		doc := map[string]string{"Type": "User", "message": e.message, "Message": e.message}
		if e.reason != "" {
			doc["Reason"] = e.reason
		}
		e.json(w, "application/json", doc)
	case service == "s3":
		h.Set("X-Amz-Request-Id", rand.Text()[:16])
		e.xml(w, struct {
			XMLName   xml.Name `xml:"Error"`
			Code      string
			Message   string
			RequestID string `xml:"RequestId"`
		}{Code: e.code, Message: e.message, RequestID: id})
	default:
		type inner struct{ Type, Code, Message string }
		e.xml(w, struct {
			XMLName   xml.Name `xml:"ErrorResponse"`
			Error     inner
			RequestID string `xml:"RequestId"`
		}{Error: inner{"Sender", e.code, e.message}, RequestID: id})
	}
}

func (e *refusal) json(w http.ResponseWriter, kind string, doc any) {
	body, err := json.Marshal(doc)
	if err != nil {
		body = []byte("{}")
	}
	w.Header().Set("Content-Type", kind)
	w.WriteHeader(e.status)
	_, _ = w.Write(body)
}

func (e *refusal) xml(w http.ResponseWriter, doc any) {
	body, err := xml.Marshal(doc)
	if err != nil {
		body = []byte("<Error/>")
	}
	w.Header().Set("Content-Type", "text/xml")
	w.WriteHeader(e.status)
	_, _ = w.Write(append([]byte(xml.Header), body...))
}

// give writes a document as a service with a JSON protocol does.
func give(w http.ResponseWriter, status int, doc any) {
	body, err := json.Marshal(doc)
	if err != nil {
		refuse(http.StatusInternalServerError, "ServiceException", "%v", err).give(w, "lambda", false)
		return
	}
	h := w.Header()
	h.Set("Content-Type", "application/json")
	if h.Get("X-Amzn-Requestid") == "" {
		h.Set("X-Amzn-Requestid", requestID())
	}
	w.WriteHeader(status)
	_, _ = w.Write(body)
}

func functionNotFound(arn string) *refusal {
	return refuse(http.StatusNotFound, "ResourceNotFoundException", "Function not found: %s", strings.TrimSuffix(arn, ":"))
}
