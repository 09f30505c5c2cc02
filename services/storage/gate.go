package storage

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
)

// gateBodyBytes is more than the largest request that the DynamoDB API allows (16 MiB for a batch).
const gateBodyBytes = 17 << 20

// gateOperations are what a function may do with its tables.
var gateOperations = map[string]bool{
	"PutItem": true, "GetItem": true, "UpdateItem": true, "DeleteItem": true, "Query": true, "Scan": true,
	"BatchGetItem": true, "BatchWriteItem": true, "TransactGetItems": true, "TransactWriteItems": true, "DescribeTable": true,
}

// tableGate passes on requests of the DynamoDB API that name only tables of one deployment.
type tableGate struct {
	prefix    string
	target    target
	transport http.RoundTripper
	log       *slog.Logger
}

// ServeHTTP implements http.Handler.
func (g *tableGate) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodPost {
		g.refuse(w, http.StatusMethodNotAllowed, "UnknownOperationException", "only POST is answered here")
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, gateBodyBytes))
	if err != nil {
		g.refuse(w, http.StatusRequestEntityTooLarge, "ValidationException", "the request is larger than 16 MiB or broken")
		return
	}
	_, operation, _ := strings.Cut(r.Header.Get("X-Amz-Target"), ".")
	if !gateOperations[operation] {
		g.refuse(w, http.StatusBadRequest, "AccessDeniedException", fmt.Sprintf("functions may not call %q", operation))
		return
	}
	names, err := tablesOf(body)
	if err != nil {
		g.refuse(w, http.StatusBadRequest, "SerializationException", err.Error())
		return
	}
	for _, n := range names {
		if !strings.HasPrefix(n, g.prefix) {
			g.refuse(w, http.StatusBadRequest, "AccessDeniedException", fmt.Sprintf("table %q is not one of this deployment's", n))
			return
		}
	}
	g.forward(w, r, body)
}

func (g *tableGate) forward(w http.ResponseWriter, r *http.Request, body []byte) {
	address, err := g.target(r.Context())
	if err != nil {
		g.log.WarnContext(r.Context(), "table store not available", "error", err)
		g.refuse(w, http.StatusServiceUnavailable, "ServiceUnavailable", "the table store is not available")
		return
	}
	out, err := http.NewRequestWithContext(r.Context(), http.MethodPost, "http://"+address+"/", bytes.NewReader(body))
	if err != nil {
		g.refuse(w, http.StatusInternalServerError, "InternalServerError", "the table store's address is wrong")
		return
	}
	for name, values := range r.Header {
		switch name {
		case "Connection", "Keep-Alive", "Proxy-Connection", "Te", "Trailer", "Transfer-Encoding", "Upgrade", "Content-Length":
		default:
			out.Header[name] = values
		}
	}
	out.Host = r.Host // it is part of the request's signature
	answer, err := g.transport.RoundTrip(out)
	if err != nil {
		g.refuse(w, http.StatusServiceUnavailable, "ServiceUnavailable", "the table store does not answer")
		return
	}
	defer func() { _ = answer.Body.Close() }() // only read
	for _, name := range []string{"Content-Type", "X-Amzn-Requestid", "X-Amz-Crc32", "Content-Length"} {
		if v := answer.Header.Get(name); v != "" {
			w.Header().Set(name, v)
		}
	}
	w.WriteHeader(answer.StatusCode)
	if _, err := io.Copy(w, answer.Body); err != nil {
		g.log.DebugContext(r.Context(), "table answer cut short", "error", err)
	}
}

// refuse answers in the API's own form.
func (g *tableGate) refuse(w http.ResponseWriter, status int, kind, message string) {
	body, err := json.Marshal(map[string]string{"__type": "com.amazonaws.dynamodb.v20120810#" + kind, "message": message})
	if err != nil {
		body = nil
	}
	w.Header().Set("Content-Type", "application/x-amz-json-1.0")
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	_, _ = w.Write(body) // the client may be gone
}

// tablesOf finds every table that a request names, at least one. Names are matched exactly as the stores do, so maps
// are used in place of structs, whose fields match in any case.
func tablesOf(body []byte) ([]string, error) {
	var top map[string]json.RawMessage
	if err := json.Unmarshal(body, &top); err != nil {
		return nil, fmt.Errorf("the request is no JSON object")
	}
	var names []string
	if raw, ok := top["TableName"]; ok {
		n, err := text(raw)
		if err != nil {
			return nil, err
		}
		names = append(names, n)
	}
	if raw, ok := top["RequestItems"]; ok {
		var items map[string]json.RawMessage
		if err := json.Unmarshal(raw, &items); err != nil {
			return nil, fmt.Errorf("RequestItems is no object")
		}
		for n := range items {
			names = append(names, n)
		}
	}
	if raw, ok := top["TransactItems"]; ok {
		var items []map[string]map[string]json.RawMessage
		if err := json.Unmarshal(raw, &items); err != nil {
			return nil, fmt.Errorf("TransactItems is no list of operations")
		}
		for _, item := range items {
			for _, op := range item {
				n, err := text(op["TableName"])
				if err != nil {
					return nil, err
				}
				names = append(names, n)
			}
		}
	}
	if len(names) == 0 {
		return nil, fmt.Errorf("the request names no table")
	}
	return names, nil
}

func text(raw json.RawMessage) (string, error) {
	var s string
	if err := json.Unmarshal(raw, &s); err != nil || s == "" {
		return "", fmt.Errorf("TableName is no text")
	}
	return s, nil
}
