package awsstand

import (
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// statement is a statement of a resource policy. Principal is "*" or an object such as {"Service": "s3.amazonaws.com"}.
type statement struct {
	Sid       string
	Effect    string
	Principal any
	Action    string
	Resource  string
	Condition map[string]map[string]string `json:",omitempty"`
}

// resourcePolicy is who may call a function, or one of its versions.
type resourcePolicy struct {
	statements []statement
	revision   string
}

// qualified is the ARN of a function with a qualifier.
func (s *Stand) qualified(fn *function, qualifier string) string {
	if qualifier == "" {
		return s.arn(fn.name)
	}
	return s.arn(fn.name + ":" + qualifier)
}

func (s *Stand) addPermission(w http.ResponseWriter, q *request, fn *function, at route) *refusal {
	var in struct {
		StatementID           string `json:"StatementId"`
		Action, Principal     string
		SourceArn             string
		SourceAccount         string
		FunctionURLAuthType   string `json:"FunctionUrlAuthType"`
		InvokedViaFunctionURL *bool  `json:"InvokedViaFunctionUrl"`
	}
	if no := parse(q, &in); no != nil {
		return no
	}
	invalid := func(format string, args ...any) *refusal {
		return refuse(http.StatusBadRequest, "InvalidParameterValueException", format, args...)
	}
	switch {
	case in.StatementID == "" || in.Action == "" || in.Principal == "":
		return refuse(http.StatusBadRequest, "ValidationException", "StatementId, Action and Principal must not be null")
	case in.FunctionURLAuthType != "" && in.Action != "lambda:InvokeFunctionUrl":
		return invalid("FunctionUrlAuthType is only supported for lambda:InvokeFunctionUrl action")
	case in.Principal == "*" && in.Action == "lambda:InvokeFunctionUrl" && in.FunctionURLAuthType == "":
		return invalid("FunctionUrlAuthType is required for lambda:InvokeFunctionUrl action")
	}
	st := statement{Sid: in.StatementID, Effect: "Allow", Action: in.Action, Resource: s.qualified(fn, at.qualifier), Principal: "*"}
	switch {
	case strings.HasSuffix(in.Principal, ".amazonaws.com"):
		st.Principal = map[string]string{"Service": in.Principal}
	case in.Principal != "*":
		st.Principal = map[string]string{"AWS": in.Principal}
	}
	st.condition("ArnLike", "AWS:SourceArn", in.SourceArn)
	st.condition("StringEquals", "AWS:SourceAccount", in.SourceAccount)
	st.condition("StringEquals", "lambda:FunctionUrlAuthType", in.FunctionURLAuthType)
	if in.InvokedViaFunctionURL != nil && *in.InvokedViaFunctionURL {
		st.condition("Bool", "lambda:InvokedViaFunctionUrl", "true")
	}
	policy := fn.policies[at.qualifier]
	if policy == nil {
		policy = &resourcePolicy{}
		fn.policies[at.qualifier] = policy
	}
	if slices.ContainsFunc(policy.statements, func(have statement) bool { return have.Sid == st.Sid }) {
		return refuse(http.StatusConflict, "ResourceConflictException", "The statement id (%s) provided already exists. Please provide a new statement id, or remove the existing statement.", st.Sid)
	}
	policy.statements, policy.revision = append(policy.statements, st), requestID()
	text, err := json.Marshal(st)
	if err != nil {
		return refuse(http.StatusInternalServerError, "ServiceException", "%v", err)
	}
	give(w, http.StatusCreated, map[string]string{"Statement": string(text)})
	return nil
}

func (st *statement) condition(operator, key, value string) {
	if value == "" {
		return
	}
	if st.Condition == nil {
		st.Condition = make(map[string]map[string]string)
	}
	if st.Condition[operator] == nil {
		st.Condition[operator] = make(map[string]string)
	}
	st.Condition[operator][key] = value
}

func noResource() *refusal {
	return refuse(http.StatusNotFound, "ResourceNotFoundException", "The resource you requested does not exist.")
}

func (s *Stand) getPolicy(w http.ResponseWriter, fn *function, at route) *refusal {
	policy := fn.policies[at.qualifier]
	if policy == nil || len(policy.statements) == 0 {
		return noResource()
	}
	text, err := json.Marshal(map[string]any{"Version": "2012-10-17", "Id": "default", "Statement": policy.statements})
	if err != nil {
		return refuse(http.StatusInternalServerError, "ServiceException", "%v", err)
	}
	give(w, http.StatusOK, map[string]string{"Policy": string(text), "RevisionId": policy.revision})
	return nil
}

func (s *Stand) removePermission(w http.ResponseWriter, fn *function, at route) *refusal {
	policy := fn.policies[at.qualifier]
	if policy == nil {
		return noResource()
	}
	sid, err := url.PathUnescape(at.rest)
	if err != nil {
		sid = at.rest
	}
	left := slices.DeleteFunc(slices.Clone(policy.statements), func(have statement) bool { return have.Sid == sid })
	if len(left) == len(policy.statements) {
		return refuse(http.StatusNotFound, "ResourceNotFoundException", "Statement %s is not found in resource policy.", sid)
	}
	policy.statements, policy.revision = left, requestID()
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// permits says whether the policy of the function, or of a qualifier of it, lets a principal do something under the given
// conditions. An empty principal is anybody.
func (f *function) permits(qualifier, action, principal string, facts map[string]string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	policy := f.policies[qualifier]
	return policy != nil && slices.ContainsFunc(policy.statements, func(st statement) bool {
		return st.Action == action && st.names(principal) && st.holds(facts)
	})
}

func (st *statement) names(principal string) bool {
	switch p := st.Principal.(type) {
	case string:
		return p == "*"
	case map[string]string:
		return principal != "" && p["Service"] == principal
	default:
		return false
	}
}

func (st *statement) holds(facts map[string]string) bool {
	for operator, wanted := range st.Condition {
		for key, value := range wanted {
			have, known := facts[key]
			if !known || (operator == "ArnLike" && !wildcard(value, have)) || (operator != "ArnLike" && value != have) {
				return false
			}
		}
	}
	return true
}

// wildcard matches text with a pattern in which * stands for any text and ? for one character.
func wildcard(pattern, text string) bool {
	at, star, back := 0, -1, 0
	for i := 0; i < len(text); {
		switch {
		case at < len(pattern) && pattern[at] == '*':
			star, back = at, i
			at++
		case at < len(pattern) && (pattern[at] == '?' || pattern[at] == text[i]):
			at++
			i++
		case star >= 0:
			back++
			at, i = star+1, back
		default:
			return false
		}
	}
	return strings.Trim(pattern[at:], "*") == ""
}
