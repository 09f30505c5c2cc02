package awsstand

import (
	"context"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
)

// grant is a statement of a role's policy. Conditions are not understood: a statement with one grants nothing.
type grant struct {
	Effect    string
	Action    texts
	Resource  texts
	Condition map[string]any
}

// texts is a text or a list of texts.
type texts []string

// UnmarshalJSON implements json.Unmarshaler.
func (t *texts) UnmarshalJSON(raw []byte) error {
	var one string
	if json.Unmarshal(raw, &one) == nil {
		*t = texts{one}
		return nil
	}
	var many []string
	if err := json.Unmarshal(raw, &many); err != nil {
		return err
	}
	*t = many
	return nil
}

// statements is one statement or a list of them.
type statements []grant

// UnmarshalJSON implements json.Unmarshaler.
func (s *statements) UnmarshalJSON(raw []byte) error {
	var many []grant
	if json.Unmarshal(raw, &many) == nil {
		*s = many
		return nil
	}
	var one grant
	if err := json.Unmarshal(raw, &one); err != nil {
		return err
	}
	*s = statements{one}
	return nil
}

func (g *grant) covers(action, resource string) bool {
	return slices.ContainsFunc(g.Action, func(p string) bool { return wildcard(strings.ToLower(p), strings.ToLower(action)) }) &&
		slices.ContainsFunc(g.Resource, func(p string) bool { return wildcard(p, resource) })
}

// roles remembers what roles grant, until somebody changes one.
type roles struct {
	mu   sync.Mutex
	know map[string][]grant
}

func (r *roles) forget() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.know = nil
}

// grants says whether the inline policies of a role grant an action on a resource.
func (s *Stand) grants(ctx context.Context, role, action, resource string) bool {
	list, err := s.policies(ctx, role)
	if err != nil {
		if s.ctx.Err() == nil {
			s.t.Logf("awsstand: policies of %s: %v", role, err)
		}
		return false
	}
	allowed := false
	for _, g := range list {
		switch {
		case !g.covers(action, resource):
		case g.Effect == "Deny":
			return false
		default:
			allowed = allowed || len(g.Condition) == 0
		}
	}
	return allowed
}

func (s *Stand) policies(ctx context.Context, role string) ([]grant, error) {
	s.roles.mu.Lock()
	defer s.roles.mu.Unlock()
	if have, ok := s.roles.know[role]; ok {
		return have, nil
	}
	name := role[strings.LastIndex(role, "/")+1:]
	var list struct {
		Names []string `xml:"ListRolePoliciesResult>PolicyNames>member"`
	}
	if err := s.iam(ctx, url.Values{"Action": {"ListRolePolicies"}, "RoleName": {name}}, &list); err != nil {
		return nil, err
	}
	var all []grant
	for _, policy := range list.Names {
		var got struct {
			Document string `xml:"GetRolePolicyResult>PolicyDocument"`
		}
		if err := s.iam(ctx, url.Values{"Action": {"GetRolePolicy"}, "RoleName": {name}, "PolicyName": {policy}}, &got); err != nil {
			return nil, err
		}
		// IAM answers documents encoded as in URLs.
		text, err := url.PathUnescape(got.Document)
		if err != nil {
			text = got.Document
		}
		var doc struct{ Statement statements }
		if err := json.Unmarshal([]byte(text), &doc); err != nil {
			return nil, fmt.Errorf("policy %s: %w", policy, err)
		}
		all = append(all, doc.Statement...)
	}
	if s.roles.know == nil {
		s.roles.know = make(map[string][]grant)
	}
	s.roles.know[role] = all
	return all, nil
}

// iam asks moto's IAM.
func (s *Stand) iam(ctx context.Context, form url.Values, into any) error {
	form.Set("Version", "2010-05-08")
	a, err := s.moto.ask(ctx, "iam", http.MethodPost, "/", http.Header{"Content-Type": {"application/x-www-form-urlencoded"}}, []byte(form.Encode()))
	if err != nil {
		return err
	}
	if a.status != http.StatusOK {
		return fmt.Errorf("%s: moto answers %d: %s", form.Get("Action"), a.status, a.body)
	}
	return xml.Unmarshal(a.body, into)
}

// need is an action on a resource that a request takes.
type need struct{ action, resource string }

// authorize refuses requests of functions that their role does not grant. The owner of the account may do everything.
func (s *Stand) authorize(q *request) *refusal {
	if q.caller.role == "" {
		return nil
	}
	for _, n := range s.needs(q) {
		if s.grants(q.Context(), q.caller.role, n.action, n.resource) {
			continue
		}
		name := q.caller.role[strings.LastIndex(q.caller.role, "/")+1:]
		text := fmt.Sprintf("User: arn:aws:sts::%s:assumed-role/%s/function is not authorized to perform: %s on resource: %s because no identity-based policy allows the %s action",
			s.Account, name, n.action, n.resource, n.action)
		switch {
		case q.service == "s3":
			return refuse(http.StatusForbidden, "AccessDenied", "%s", text)
		case q.target:
			return refuse(http.StatusBadRequest, "AccessDeniedException", "%s", text)
		default:
			return refuse(http.StatusForbidden, "AccessDeniedException", "%s", text)
		}
	}
	return nil
}

// needs lists what a request takes. Of services that functions have no business with it is the operation on everything.
func (s *Stand) needs(q *request) []need {
	switch q.service {
	case "s3":
		return objectNeeds(q.Request)
	case "dynamodb":
		return s.tableNeeds(q)
	default:
		return []need{{q.service + ":" + q.operation, "*"}}
	}
}

// objectNeeds follows https://docs.aws.amazon.com/AmazonS3/latest/userguide/using-with-s3-policy-actions.html.
func objectNeeds(r *http.Request) []need {
	path := strings.TrimPrefix(r.URL.Path, "/")
	bucket, key, _ := strings.Cut(path, "/")
	arn := "arn:aws:s3:::" + bucket
	query := r.URL.Query()
	if key == "" {
		switch {
		case bucket == "":
			return []need{{"s3:ListAllMyBuckets", "*"}}
		case r.Method == http.MethodPost && query.Has("delete"):
			return []need{{"s3:DeleteObject", arn + "/*"}}
		case r.Method == http.MethodPut:
			return []need{{"s3:CreateBucket", arn}}
		case r.Method == http.MethodDelete:
			return []need{{"s3:DeleteBucket", arn}}
		default:
			return []need{{"s3:ListBucket", arn}}
		}
	}
	object := arn + "/" + key
	switch r.Method {
	case http.MethodGet, http.MethodHead:
		return []need{{"s3:GetObject", object}}
	case http.MethodDelete:
		if query.Has("uploadId") {
			return []need{{"s3:AbortMultipartUpload", object}}
		}
		return []need{{"s3:DeleteObject", object}}
	default:
		all := []need{{"s3:PutObject", object}}
		if source := r.Header.Get("X-Amz-Copy-Source"); source != "" {
			if plain, err := url.PathUnescape(source); err == nil {
				source = plain
			}
			all = append(all, need{"s3:GetObject", "arn:aws:s3:::" + strings.TrimPrefix(source, "/")})
		}
		return all
	}
}

// tableNeeds names the tables that a request of DynamoDB touches.
func (s *Stand) tableNeeds(q *request) []need {
	type touched struct {
		TableName, IndexName string
	}
	var in struct {
		touched
		RequestItems  map[string]json.RawMessage
		TransactItems []map[string]touched
	}
	action := "dynamodb:" + q.operation
	if err := json.Unmarshal(q.body, &in); err != nil {
		return []need{{action, "*"}}
	}
	table := func(name string) string {
		if strings.HasPrefix(name, "arn:") {
			return name
		}
		return fmt.Sprintf("arn:aws:dynamodb:%s:%s:table/%s", s.Region, s.Account, name)
	}
	var all []need
	if in.TableName != "" {
		resource := table(in.TableName)
		if in.IndexName != "" {
			resource += "/index/" + in.IndexName
		}
		all = append(all, need{action, resource})
	}
	for name := range in.RequestItems {
		all = append(all, need{action, table(name)})
	}
	for _, item := range in.TransactItems {
		for kind, t := range item {
			one := map[string]string{"Put": "PutItem", "Get": "GetItem", "Update": "UpdateItem", "Delete": "DeleteItem", "ConditionCheck": "ConditionCheckItem"}[kind]
			all = append(all, need{"dynamodb:" + one, table(t.TableName)})
		}
	}
	if len(all) == 0 {
		all = append(all, need{action, "*"})
	}
	return all
}
