package awsstand

import (
	"encoding/json"
	"encoding/xml"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// notifications is the notification configuration of a bucket, as far as functions go.
type notifications struct {
	Functions []struct {
		ID       string   `xml:"Id"`
		Function string   `xml:"CloudFunction"`
		Events   []string `xml:"Event"`
		Rules    []struct {
			Name  string `xml:"Name"`
			Value string `xml:"Value"`
		} `xml:"Filter>S3Key>FilterRule"`
	} `xml:"CloudFunctionConfiguration"`
}

// serveObjects answers S3's API: moto does. What an object sets off happens here.
func (s *Stand) serveObjects(w http.ResponseWriter, q *request) *refusal {
	bucket, key, _ := strings.Cut(strings.TrimPrefix(q.URL.Path, "/"), "/")
	query := q.URL.Query()
	if q.Method == http.MethodPut && key == "" && query.Has("notification") && q.Header.Get("X-Amz-Skip-Destination-Validation") != "true" {
		if no := s.checkNotifications(q, bucket); no != nil {
			return no
		}
	}
	out := &recorder{ResponseWriter: w}
	s.pass.ServeHTTP(out, q.Request)
	if out.status != http.StatusOK || key == "" {
		return nil
	}
	event := ""
	switch {
	case q.Method == http.MethodPost && query.Has("uploadId"):
		event = "CompleteMultipartUpload"
	case q.Method != http.MethodPut || query.Has("uploadId") || query.Has("tagging") || query.Has("acl"):
	case q.Header.Get("X-Amz-Copy-Source") != "":
		event = "Copy"
	default:
		event = "Put"
	}
	if event != "" {
		size := q.Header.Get("X-Amz-Decoded-Content-Length")
		if size == "" {
			size = strconv.FormatInt(max(0, q.ContentLength), 10)
		}
		tag := strings.Trim(out.Header().Get("Etag"), `"`)
		s.running.Go(func() { s.objectCreated(bucket, key, event, size, tag) })
	}
	return nil
}

// checkNotifications refuses a configuration whose functions do not let the bucket call them, as S3 does.
func (s *Stand) checkNotifications(q *request, bucket string) *refusal {
	raw, err := io.ReadAll(io.LimitReader(q.Body, 1<<20))
	if err != nil {
		return refuse(http.StatusBadRequest, "IncompleteBody", "%v", err)
	}
	q.Request.Body = io.NopCloser(strings.NewReader(string(raw)))
	var config notifications
	if err := xml.Unmarshal(raw, &config); err != nil {
		return refuse(http.StatusBadRequest, "MalformedXML", "The XML you provided was not well-formed or did not validate against our published schema")
	}
	for _, f := range config.Functions {
		name, qualifier := splitName(f.Function, "")
		if fn := s.lambda.find(name); fn == nil || !s.bucketMay(fn, qualifier, bucket) {
			return refuse(http.StatusBadRequest, "InvalidArgument", "Unable to validate the following destination configurations")
		}
	}
	return nil
}

func (s *Stand) bucketMay(fn *function, qualifier, bucket string) bool {
	return fn.permits(qualifier, "lambda:InvokeFunction", "s3.amazonaws.com", map[string]string{
		"AWS:SourceArn": "arn:aws:s3:::" + bucket, "AWS:SourceAccount": s.Account,
	})
}

// objectCreated calls the functions that a bucket names for a new object.
func (s *Stand) objectCreated(bucket, key, event, size, tag string) {
	a, err := s.moto.ask(s.ctx, "s3", http.MethodGet, "/"+bucket+"?notification", nil, nil)
	if err != nil || a.status != http.StatusOK {
		return // the bucket or the stand is gone
	}
	var config notifications
	if err := xml.Unmarshal(a.body, &config); err != nil {
		s.t.Logf("awsstand: notifications of %s: %v", bucket, err)
		return
	}
	for _, f := range config.Functions {
		name, qualifier := splitName(f.Function, "")
		fn := s.lambda.find(name)
		wanted := false
		for _, e := range f.Events {
			wanted = wanted || wildcard(e, "s3:ObjectCreated:"+event)
		}
		for _, rule := range f.Rules {
			switch strings.ToLower(rule.Name) {
			case "prefix":
				wanted = wanted && strings.HasPrefix(key, rule.Value)
			case "suffix":
				wanted = wanted && strings.HasSuffix(key, rule.Value)
			}
		}
		if !wanted || fn == nil || !s.bucketMay(fn, qualifier, bucket) {
			continue
		}
		snap, ok := fn.pick(qualifier)
		if !ok {
			continue
		}
		number, _ := strconv.ParseInt(size, 10, 64)
		if _, no := s.queue(fn, qualifier, snap, s.objectEvent(f.ID, bucket, key, event, number, tag)); no != nil {
			s.t.Logf("awsstand: event of object %s: %s", key, no.message)
		}
	}
}

// objectEvent is the message of S3 for a new object.
// https://docs.aws.amazon.com/AmazonS3/latest/userguide/notification-content-structure.html
func (s *Stand) objectEvent(id, bucket, key, event string, size int64, tag string) []byte {
	raw, err := json.Marshal(map[string]any{"Records": []any{map[string]any{
		"eventVersion": "2.1", "eventSource": "aws:s3", "awsRegion": s.Region, "eventName": "ObjectCreated:" + event,
		"eventTime":         time.Now().UTC().Format("2006-01-02T15:04:05.000Z"),
		"userIdentity":      map[string]string{"principalId": "AWS:" + s.Account},
		"requestParameters": map[string]string{"sourceIPAddress": "127.0.0.1"},
		"responseElements":  map[string]string{"x-amz-request-id": requestID(), "x-amz-id-2": requestID()},
		"s3": map[string]any{
			"s3SchemaVersion": "1.0", "configurationId": id,
			"bucket": map[string]any{"name": bucket, "arn": "arn:aws:s3:::" + bucket, "ownerIdentity": map[string]string{"principalId": s.Account}},
			"object": map[string]any{"key": url.QueryEscape(key), "size": size, "eTag": tag, "sequencer": "0055AED6DCD90281E5"},
		},
	}}})
	if err != nil {
		return []byte("{}")
	}
	return raw
}
