package awsstand

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
)

// serveGateway answers API Gateway's control plane: moto does, but for the quick creation that comes with a target.
func (s *Stand) serveGateway(w http.ResponseWriter, q *request) *refusal {
	var in struct{ Target, RouteKey string }
	if q.Method != http.MethodPost || strings.TrimSuffix(q.URL.Path, "/") != "/v2/apis" || json.Unmarshal(q.body, &in) != nil || in.Target == "" {
		s.pass.ServeHTTP(w, q.Request)
		return nil
	}
	a, no := s.relay(w, q, q.body)
	if a == nil {
		return no
	}
	var made struct {
		APIID string `json:"apiId"`
	}
	doc, no := read(a, &made)
	if no != nil {
		return no
	}
	if err := s.quickCreate(q.Context(), made.APIID, in.Target, in.RouteKey); err != nil {
		return refuse(http.StatusInternalServerError, "InternalServerException", "%v", err)
	}
	doc["apiEndpoint"] = s.apiEndpoint(made.APIID)
	give(w, a.status, doc)
	return nil
}

func (s *Stand) apiEndpoint(id string) string {
	return s.Endpoint + strings.TrimSuffix(apiPath, "/") + "/" + id
}

// quickCreate makes integration, catch-all route and deployed default stage of an API.
// https://docs.aws.amazon.com/apigatewayv2/latest/api-reference/apis.html (target)
func (s *Stand) quickCreate(ctx context.Context, api, target, key string) error {
	var integration struct {
		IntegrationID string `json:"integrationId"`
	}
	if err := s.gateway(ctx, http.MethodPost, "/v2/apis/"+api+"/integrations", map[string]any{
		"integrationType": "AWS_PROXY", "integrationUri": target, "payloadFormatVersion": "2.0", "connectionType": "INTERNET",
	}, &integration); err != nil {
		return err
	}
	if key == "" {
		key = "$default"
	}
	if err := s.gateway(ctx, http.MethodPost, "/v2/apis/"+api+"/routes", map[string]any{
		"routeKey": key, "target": "integrations/" + integration.IntegrationID,
	}, nil); err != nil {
		return err
	}
	return s.gateway(ctx, http.MethodPost, "/v2/apis/"+api+"/stages", map[string]any{"stageName": "$default", "autoDeploy": true}, nil)
}

// gateway asks moto's API Gateway.
func (s *Stand) gateway(ctx context.Context, method, path string, in, out any) error {
	var body []byte
	if in != nil {
		var err error
		if body, err = json.Marshal(in); err != nil {
			return err
		}
	}
	a, err := s.moto.ask(ctx, "apigateway", method, path, http.Header{"Content-Type": {"application/json"}}, body)
	if err != nil {
		return err
	}
	if a.status/100 != 2 {
		return fmt.Errorf("%s %s: moto answers %d: %s", method, path, a.status, a.body)
	}
	if out == nil {
		return nil
	}
	return json.Unmarshal(a.body, out)
}

// rewriteGateway turns the addresses in moto's answers into those of the stand.
func (s *Stand) rewriteGateway(response *http.Response) error {
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return err
	}
	_ = response.Body.Close()
	var doc map[string]any
	if json.Unmarshal(body, &doc) == nil {
		list, _ := doc["items"].([]any)
		for _, item := range append(list, doc) {
			if api, ok := item.(map[string]any); ok && api["apiEndpoint"] != nil {
				api["apiEndpoint"] = s.apiEndpoint(fmt.Sprint(api["apiId"]))
			}
		}
		if body, err = json.Marshal(doc); err != nil {
			return err
		}
	}
	response.Body, response.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
	response.Header.Set("Content-Length", fmt.Sprint(len(body)))
	return nil
}

// httpAPI is an HTTP API as moto knows it.
type httpAPI struct {
	Routes struct {
		Items []struct{ RouteKey, Target string }
	}
	Stages struct {
		Items []struct{ StageName string }
	}
}

// serveAPI answers a call of an HTTP API.
func (s *Stand) serveAPI(w http.ResponseWriter, r *http.Request, id, path string) {
	var api httpAPI
	ctx := r.Context()
	err := s.gateway(ctx, http.MethodGet, "/v2/apis/"+id+"/routes", nil, &api.Routes)
	if err == nil {
		err = s.gateway(ctx, http.MethodGet, "/v2/apis/"+id+"/stages", nil, &api.Stages)
	}
	deployed := false
	for _, stage := range api.Stages.Items {
		deployed = deployed || stage.StageName == "$default"
	}
	key, target := api.route(r.Method, path)
	if err != nil || !deployed || target == "" {
		message(w, http.StatusNotFound, "", "Not Found")
		return
	}
	var integration struct{ IntegrationURI, PayloadFormatVersion string }
	if err := s.gateway(ctx, http.MethodGet, "/v2/apis/"+id+"/"+target, nil, &integration); err != nil {
		message(w, http.StatusInternalServerError, "", "Internal Server Error")
		return
	}
	uri := strings.TrimSuffix(integration.IntegrationURI, "/invocations")
	name, qualifier := splitName(uri, "")
	fn := s.lambda.find(name)
	where := "$default/" + strings.ReplaceAll(key, " ", "")
	facts := map[string]string{"AWS:SourceArn": fmt.Sprintf("arn:aws:execute-api:%s:%s:%s/%s", s.Region, s.Account, id, where), "AWS:SourceAccount": s.Account}
	if fn == nil || integration.PayloadFormatVersion != "2.0" || !fn.permits(qualifier, "lambda:InvokeFunction", "apigateway.amazonaws.com", facts) {
		message(w, http.StatusInternalServerError, "", "Internal Server Error")
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 10<<20))
	if err != nil {
		message(w, http.StatusRequestEntityTooLarge, "", "Request Entity Too Large")
		return
	}
	event := proxyEvent(r, body, path, id, s.Account)
	event["routeKey"] = key
	w.Header().Set("Apigw-Requestid", requestID())
	s.answerWeb(w, r, fn, qualifier, event, func(status int) {
		text := "Internal Server Error"
		if status == http.StatusTooManyRequests || status == http.StatusBadGateway {
			status = http.StatusInternalServerError
		}
		message(w, status, "", text)
	})
}

// route finds the route of a request: the one of its method and path, one of any method, or the default one.
func (a *httpAPI) route(method, path string) (key, target string) {
	targets := make(map[string]string)
	for _, item := range a.Routes.Items {
		targets[item.RouteKey] = item.Target
	}
	for _, key := range []string{method + " " + path, "ANY " + path, method + " /{proxy+}", "ANY /{proxy+}", "$default"} {
		if target := targets[key]; target != "" {
			return key, target
		}
	}
	return "", ""
}
