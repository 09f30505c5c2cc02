package awsstand

import (
	"bytes"
	"context"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
)

// Inventory lists everything that lies in the account, each as kind and name, such as "function f" or "bucket b": functions,
// roles, log groups, repositories, buckets, tables, queues, and APIs with their ids. What goes with one of them is not listed.
func (s *Stand) Inventory(ctx context.Context) ([]string, error) {
	var all []string
	add := func(kind string, names []string) {
		for _, name := range names {
			all = append(all, kind+" "+name)
		}
	}
	s.lambda.mu.Lock()
	for name := range s.lambda.byName {
		all = append(all, "function "+name)
	}
	s.lambda.mu.Unlock()
	var roles struct {
		Names []string `xml:"ListRolesResult>Roles>member>RoleName"`
	}
	if err := s.iam(ctx, url.Values{"Action": {"ListRoles"}}, &roles); err != nil {
		return nil, err
	}
	add("role", roles.Names)
	a, err := s.moto.ask(ctx, "s3", http.MethodGet, "/", nil, nil)
	if err != nil {
		return nil, err
	}
	var buckets struct {
		Names []string `xml:"Buckets>Bucket>Name"`
	}
	if err := xml.Unmarshal(a.body, &buckets); err != nil {
		return nil, fmt.Errorf("list buckets: %w", err)
	}
	add("bucket", buckets.Names)
	for _, list := range []struct{ kind, service, operation, in, items, name string }{
		{"log group", "logs", "Logs_20140328.DescribeLogGroups", "{}", "logGroups", "logGroupName"},
		{"repository", "ecr", "AmazonEC2ContainerRegistry_V20150921.DescribeRepositories", "{}", "repositories", "repositoryName"},
		{"queue", "sqs", "AmazonSQS.ListQueues", "{}", "QueueUrls", ""},
		{"table", "dynamodb", "DynamoDB_20120810.ListTables", "{}", "TableNames", ""},
	} {
		raw, err := s.list(ctx, list.service, list.operation, list.in)
		if err != nil {
			return nil, err
		}
		names, err := namesIn(raw, list.items, list.name)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", list.operation, err)
		}
		add(list.kind, names)
	}
	var apis struct {
		Items []struct {
			Name string
			ID   string `json:"apiId"`
		}
	}
	if err := s.gateway(ctx, http.MethodGet, "/v2/apis", nil, &apis); err != nil {
		return nil, err
	}
	for _, api := range apis.Items {
		all = append(all, "API "+api.Name+" "+api.ID)
	}
	slices.Sort(all)
	return all, nil
}

// list asks a service of the JSON protocol for a list.
func (s *Stand) list(ctx context.Context, service, operation, in string) ([]byte, error) {
	if service == "dynamodb" && s.tables != nil {
		request, err := http.NewRequestWithContext(ctx, http.MethodPost, s.Endpoint+"/", bytes.NewReader([]byte(in)))
		if err != nil {
			return nil, err
		}
		request.Header.Set("X-Amz-Target", operation)
		request.Header.Set("Content-Type", "application/x-amz-json-1.0")
		request.Header.Set("Authorization", "AWS4-HMAC-SHA256 Credential=x/20260101/"+s.Region+"/dynamodb/aws4_request, SignedHeaders=host, Signature=0")
		out := httptest.NewRecorder()
		s.tables.ServeHTTP(out, request)
		return out.Body.Bytes(), nil
	}
	a, err := s.moto.target(ctx, service, operation, []byte(in))
	if err != nil {
		return nil, err
	}
	return a.body, nil
}

// namesIn reads the names out of a list; without a key the items are the names.
func namesIn(raw []byte, items, key string) ([]string, error) {
	var doc map[string]json.RawMessage
	if err := json.Unmarshal(raw, &doc); err != nil {
		return nil, err
	}
	if len(doc[items]) == 0 {
		return nil, nil
	}
	if key == "" {
		var names []string
		err := json.Unmarshal(doc[items], &names)
		for i, name := range names {
			names[i] = name[strings.LastIndex(name, "/")+1:]
		}
		return names, err
	}
	var list []map[string]any
	if err := json.Unmarshal(doc[items], &list); err != nil {
		return nil, err
	}
	var names []string
	for _, item := range list {
		names = append(names, fmt.Sprint(item[key]))
	}
	return names, nil
}

// Grant is a statement of a role's policy: actions that are allowed, or denied, on resources.
type Grant struct {
	Effect           string
	Action, Resource []string
}

// Grants lists what the inline policies of a role say.
func (s *Stand) Grants(ctx context.Context, role string) ([]Grant, error) {
	list, err := s.policies(ctx, role)
	if err != nil {
		return nil, err
	}
	var all []Grant
	for _, g := range list {
		all = append(all, Grant{Effect: g.Effect, Action: g.Action, Resource: g.Resource})
	}
	return all, nil
}
