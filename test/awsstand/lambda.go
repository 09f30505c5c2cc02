package awsstand

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// settleLimit is how long a function is pending at most, when nobody polls.
const settleLimit = 10 * time.Second

// configuration is the part of a function's configuration that the stand needs.
type configuration struct {
	FunctionArn   string
	FunctionName  string
	Version       string
	Runtime       string
	Handler       string
	Role          string
	MemorySize    int
	Timeout       int
	PackageType   string
	Architectures []string
	Environment   struct{ Variables map[string]string }
}

// artefact is code as it was uploaded.
type artefact struct {
	archive []byte
	image   string
}

// snapshot is code and configuration at one moment: what a version is, and what runs.
type snapshot struct {
	config configuration
	code   artefact
	// local is the function on the host, which it is deployed to by the first invocation.
	local    string
	mu       sync.Mutex
	deployed bool
}

// function is a function of the account.
type function struct {
	name string

	mu     sync.Mutex
	latest *snapshot
	// next takes the place of latest when the update is through.
	next     *snapshot
	versions map[string]*snapshot
	aliases  map[string]string
	// polls are those that still see the function pending, hidden those that do not find it; settles is when it is through
	// without any.
	polls, hidden int
	created       bool
	settles       time.Time
	reserved      *int
	busy          int
	invocations   int
	// The maps below are by qualifier; the function itself has the empty one.
	policies    map[string]*resourcePolicy
	urls        map[string]*functionURL
	outcomes    map[string]*outcomeConfig
	provisioned map[string]*provisionedConfig
}

// functions are all functions of the account.
type functions struct {
	mu     sync.Mutex
	byName map[string]*function
}

func newFunctions() *functions { return &functions{byName: make(map[string]*function)} }

func (f *functions) find(name string) *function {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.byName[name]
}

func (f *functions) put(fn *function) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.byName[fn.name] = fn
}

func (f *functions) remove(name string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.byName, name)
}

// route is what a path of Lambda's API means.
type route struct {
	operation, name, qualifier string
	// rest is what follows the name of a sub-resource, such as the name of an alias.
	rest string
}

// lambdaOperations name the operations by method and sub-resource of a function.
var lambdaOperations = map[string]string{
	"POST ": "CreateFunction", "GET ": "GetFunction", "DELETE ": "DeleteFunction",
	"GET configuration": "GetFunctionConfiguration", "PUT configuration": "UpdateFunctionConfiguration",
	"PUT code": "UpdateFunctionCode", "POST invocations": "Invoke", "POST versions": "PublishVersion", "GET versions": "ListVersionsByFunction",
	"POST aliases": "CreateAlias", "GET aliases": "ListAliases", "GET aliases/": "GetAlias", "PUT aliases/": "UpdateAlias", "DELETE aliases/": "DeleteAlias",
	"POST url": "CreateFunctionUrlConfig", "GET url": "GetFunctionUrlConfig", "PUT url": "UpdateFunctionUrlConfig", "DELETE url": "DeleteFunctionUrlConfig",
	"GET urls": "ListFunctionUrlConfigs", "GET event-invoke-config/": "ListFunctionEventInvokeConfigs",
	"POST policy": "AddPermission", "GET policy": "GetPolicy", "DELETE policy/": "RemovePermission",
	"PUT concurrency": "PutFunctionConcurrency", "GET concurrency": "GetFunctionConcurrency", "DELETE concurrency": "DeleteFunctionConcurrency",
	"PUT provisioned-concurrency": "PutProvisionedConcurrencyConfig", "GET provisioned-concurrency": "GetProvisionedConcurrencyConfig",
	"DELETE provisioned-concurrency": "DeleteProvisionedConcurrencyConfig",
	"PUT event-invoke-config":        "PutFunctionEventInvokeConfig", "POST event-invoke-config": "UpdateFunctionEventInvokeConfig",
	"GET event-invoke-config": "GetFunctionEventInvokeConfig", "DELETE event-invoke-config": "DeleteFunctionEventInvokeConfig",
}

func lambdaRoute(r *http.Request) route {
	parts := strings.Split(strings.Trim(r.URL.EscapedPath(), "/"), "/")
	for i := range parts {
		if plain, err := url.PathUnescape(parts[i]); err == nil {
			parts[i] = plain
		}
	}
	if len(parts) < 2 {
		return route{operation: r.Method + " " + r.URL.Path}
	}
	switch {
	case parts[1] == "tags":
		return route{operation: map[string]string{"GET": "ListTags", "POST": "TagResource", "DELETE": "UntagResource"}[r.Method]}
	case parts[1] == "account-settings":
		return route{operation: "GetAccountSettings"}
	case parts[1] != "functions":
		return route{operation: r.Method + " " + r.URL.Path}
	case len(parts) == 2 && r.Method == http.MethodGet:
		return route{operation: "ListFunctions"}
	case len(parts) == 2:
		return route{operation: "CreateFunction"}
	}
	out := route{qualifier: r.URL.Query().Get("Qualifier")}
	out.name, out.qualifier = splitName(parts[2], out.qualifier)
	kind := ""
	if len(parts) > 3 {
		kind = parts[3]
	}
	if len(parts) > 4 {
		kind += "/"
		out.rest = parts[4]
	}
	out.operation = lambdaOperations[r.Method+" "+kind]
	return out
}

// splitName reads a name, a whole or a partial ARN, each with or without a qualifier.
func splitName(text, qualifier string) (name, q string) {
	if _, after, ok := strings.Cut(text, ":function:"); ok {
		text = after
	}
	name, q, _ = strings.Cut(text, ":")
	if q == "" {
		q = qualifier
	}
	return name, q
}

func (s *Stand) arn(name string) string {
	return fmt.Sprintf("arn:aws:lambda:%s:%s:function:%s", s.Region, s.Account, name)
}

// serveLambda answers Lambda's API.
func (s *Stand) serveLambda(w http.ResponseWriter, q *request) *refusal {
	at := lambdaRoute(q.Request)
	fn := s.lambda.find(at.name)
	if fn == nil && at.name != "" {
		return functionNotFound(s.arn(at.name))
	}
	switch at.operation {
	case "CreateFunction":
		return s.createFunction(w, q)
	case "ListFunctions":
		return s.listFunctions(w, q)
	case "GetFunction", "GetFunctionConfiguration":
		return s.getFunction(w, q, fn, at)
	case "UpdateFunctionCode", "UpdateFunctionConfiguration":
		return s.updateFunction(w, q, fn, at)
	case "PublishVersion":
		return s.publishVersion(w, q, fn)
	case "CreateAlias", "UpdateAlias", "DeleteAlias":
		return s.changeAlias(w, q, fn, at)
	case "DeleteFunction":
		return s.deleteFunction(w, q, fn, at)
	case "Invoke":
		return s.invoke(w, q, fn, at)
	case "PutFunctionConcurrency", "DeleteFunctionConcurrency":
		return s.limitConcurrency(w, q, fn)
	}
	if fn == nil {
		s.pass.ServeHTTP(w, q.Request)
		return nil
	}
	if at.qualifier == "$LATEST" {
		at.qualifier = ""
	}
	if _, ok := fn.pick(at.qualifier); !ok {
		return functionNotFound(s.arn(fn.name + ":" + at.qualifier))
	}
	return s.serveBelow(w, q, fn, at)
}

// serveBelow answers for what belongs to a function and is kept here, because moto keeps it for functions without a
// qualifier only, or not at all.
func (s *Stand) serveBelow(w http.ResponseWriter, q *request, fn *function, at route) *refusal {
	fn.mu.Lock()
	defer fn.mu.Unlock()
	switch at.operation {
	case "AddPermission":
		return s.addPermission(w, q, fn, at)
	case "GetPolicy":
		return s.getPolicy(w, fn, at)
	case "RemovePermission":
		return s.removePermission(w, fn, at)
	case "CreateFunctionUrlConfig", "UpdateFunctionUrlConfig":
		return s.putURL(w, q, fn, at)
	case "GetFunctionUrlConfig", "ListFunctionUrlConfigs":
		return s.getURL(w, fn, at)
	case "DeleteFunctionUrlConfig":
		return s.deleteURL(w, fn, at)
	case "PutFunctionEventInvokeConfig", "UpdateFunctionEventInvokeConfig":
		return s.putOutcome(w, q, fn, at)
	case "GetFunctionEventInvokeConfig":
		return s.getOutcome(w, fn, at)
	case "DeleteFunctionEventInvokeConfig":
		return s.deleteOutcome(w, fn, at)
	case "PutProvisionedConcurrencyConfig":
		return s.putProvisioned(w, q, fn, at)
	case "GetProvisionedConcurrencyConfig":
		return s.getProvisioned(w, fn, at)
	case "DeleteProvisionedConcurrencyConfig":
		return s.deleteProvisioned(w, fn, at)
	default:
		s.pass.ServeHTTP(w, q.Request)
		return nil
	}
}

// relay gives the request to moto and returns the answer when it is a good one; any other one has been written.
func (s *Stand) relay(w http.ResponseWriter, q *request, body []byte) (*answer, *refusal) {
	a, err := s.moto.hand(q.Request, body)
	if err != nil {
		return nil, refuse(http.StatusInternalServerError, "ServiceException", "%v", err)
	}
	if a.status/100 != 2 {
		a.give(w)
		return nil, nil
	}
	return a, nil
}

// uploaded is where a request says the code is.
type uploaded struct {
	ZipFile, S3Bucket, S3Key, ImageURI string
}

// code fetches what was uploaded; nil means that the request carries none.
func (s *Stand) code(q *request, u uploaded) (artefact, *refusal) {
	switch {
	case u.ImageURI != "":
		if no := s.imagePresent(q, u.ImageURI); no != nil {
			return artefact{}, no
		}
		return artefact{image: u.ImageURI}, nil
	case u.S3Bucket != "":
		a, err := s.moto.ask(q.Context(), "s3", http.MethodGet, "/"+u.S3Bucket+"/"+(&url.URL{Path: u.S3Key}).EscapedPath(), nil, nil)
		if err != nil {
			return artefact{}, refuse(http.StatusInternalServerError, "ServiceException", "%v", err)
		}
		if a.status != http.StatusOK {
			return artefact{}, refuse(http.StatusBadRequest, "InvalidParameterValueException",
				"Error occurred while GetObject. S3 Error Code: NoSuchKey. S3 Error Message: The specified key does not exist.")
		}
		return artefact{archive: a.body}, checkArchive(a.body)
	default:
		raw, err := base64.StdEncoding.DecodeString(u.ZipFile)
		if err != nil {
			return artefact{}, refuse(http.StatusBadRequest, "SerializationException", "ZipFile is not base64: %v", err)
		}
		if len(raw) > directLimit {
			return artefact{}, refuse(http.StatusRequestEntityTooLarge, "RequestEntityTooLargeException", "Request must be smaller than 70167211 bytes for the CreateFunction operation")
		}
		return artefact{archive: raw}, checkArchive(raw)
	}
}

func (s *Stand) createFunction(w http.ResponseWriter, q *request) *refusal {
	var in struct {
		FunctionName, Role string
		Code               struct {
			ZipFile, S3Bucket, S3Key string
			ImageURI                 string `json:"ImageUri"`
		}
		Publish bool
	}
	if no := parse(q, &in); no != nil {
		return no
	}
	name, _ := splitName(in.FunctionName, "")
	if s.lambda.find(name) != nil {
		return refuse(http.StatusConflict, "ResourceConflictException", "Function already exist: %s", name)
	}
	if no := checkConfiguration(q, name); no != nil {
		return no
	}
	if s.script.refusesRole(in.Role) {
		return refuse(http.StatusBadRequest, "InvalidParameterValueException", "The role defined for the function cannot be assumed by Lambda.")
	}
	code, no := s.code(q, uploaded(in.Code))
	if no != nil {
		return no
	}
	a, no := s.relay(w, q, q.body)
	if a == nil {
		return no
	}
	snap := &snapshot{code: code, local: name}
	doc, no := read(a, &snap.config)
	if no != nil {
		return no
	}
	faults := s.script.get()
	fn := &function{
		name: name, latest: snap, versions: make(map[string]*snapshot), aliases: make(map[string]string), created: true, hidden: faults.HiddenPolls,
		policies: make(map[string]*resourcePolicy), urls: make(map[string]*functionURL), outcomes: make(map[string]*outcomeConfig),
		provisioned: make(map[string]*provisionedConfig),
	}
	fn.unsettle(faults)
	if in.Publish {
		fn.versions[snap.config.Version] = snap.version(snap.config.Version)
	}
	s.lambda.put(fn)
	fn.show(doc)
	give(w, http.StatusCreated, doc)
	return nil
}

// read decodes an answer of moto twice: whole, and the part that matters here.
func read(a *answer, into any) (map[string]any, *refusal) {
	doc := make(map[string]any)
	err := json.Unmarshal(a.body, &doc)
	if err == nil {
		err = json.Unmarshal(a.body, into)
	}
	if err != nil {
		return nil, refuse(http.StatusInternalServerError, "ServiceException", "moto's answer: %v", err)
	}
	return doc, nil
}

// version copies the snapshot for a published version, which runs by itself.
func (s *snapshot) version(number string) *snapshot {
	out := &snapshot{config: s.config, code: s.code, local: s.local + "." + number}
	out.config.Version = number
	return out
}

func (f *function) unsettle(faults Faults) {
	f.polls = faults.PendingPolls
	if f.polls == 0 {
		f.polls = 1
	}
	f.settles = time.Now().Add(settleLimit)
}

// pendingLocked says whether a creation or an update is under way, and ends it when it is due.
func (f *function) pendingLocked() bool {
	if f.polls > 0 && time.Now().Before(f.settles) {
		return true
	}
	f.polls, f.created = 0, false
	if f.next != nil {
		f.latest, f.next = f.next, nil
	}
	return false
}

// show writes the state of the function into a configuration that moto answered.
func (f *function) show(doc map[string]any) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.showLocked(doc)
}

func (f *function) showLocked(doc map[string]any) {
	pending := f.pendingLocked()
	newest := f.latest
	if f.next != nil {
		newest = f.next
	}
	if doc["Version"] == "$LATEST" {
		doc["Architectures"] = newest.config.Architectures
	}
	doc["State"], doc["LastUpdateStatus"] = "Active", "Successful"
	switch {
	case pending && f.created:
		doc["State"], doc["StateReason"], doc["StateReasonCode"] = "Pending", "The function is being created.", "Creating"
		delete(doc, "LastUpdateStatus")
	case pending && doc["Version"] == "$LATEST":
		doc["LastUpdateStatus"], doc["LastUpdateStatusReason"], doc["LastUpdateStatusReasonCode"] = "InProgress", "The function is being updated.", "Updating"
	}
}

func (s *Stand) getFunction(w http.ResponseWriter, q *request, fn *function, at route) *refusal {
	fn.mu.Lock()
	hidden := fn.hidden > 0
	if hidden {
		fn.hidden--
	}
	fn.mu.Unlock()
	if hidden {
		return functionNotFound(s.arn(at.name + ":" + at.qualifier))
	}
	a, no := s.relay(w, q, q.body)
	if a == nil {
		return no
	}
	doc, no := read(a, &struct{}{})
	if no != nil {
		return no
	}
	inner := doc
	if at.operation == "GetFunction" {
		config, ok := doc["Configuration"].(map[string]any)
		if !ok {
			return refuse(http.StatusInternalServerError, "ServiceException", "moto answers without Configuration")
		}
		inner = config
		fn.mu.Lock()
		if fn.reserved != nil {
			doc["Concurrency"] = map[string]any{"ReservedConcurrentExecutions": *fn.reserved}
		}
		fn.mu.Unlock()
	}
	fn.show(inner)
	fn.mu.Lock()
	fn.polls = max(0, fn.polls-1)
	fn.mu.Unlock()
	give(w, http.StatusOK, doc)
	return nil
}

// listFunctions pages through what moto lists at once.
func (s *Stand) listFunctions(w http.ResponseWriter, q *request) *refusal {
	a, no := s.relay(w, q, q.body)
	if a == nil {
		return no
	}
	var all struct{ Functions []map[string]any }
	if _, no := read(a, &all); no != nil {
		return no
	}
	name := func(doc map[string]any) string { return fmt.Sprint(doc["FunctionName"]) }
	slices.SortFunc(all.Functions, func(a, b map[string]any) int { return strings.Compare(name(a), name(b)) })
	const most = 50 // of one page, whatever is asked for
	size, err := strconv.Atoi(q.URL.Query().Get("MaxItems"))
	if err != nil || size < 1 || size > most {
		size = most
	}
	out := map[string]any{}
	var page []map[string]any
	marker := q.URL.Query().Get("Marker")
	for _, doc := range all.Functions {
		if name(doc) <= marker {
			continue
		}
		if len(page) == size {
			out["NextMarker"] = name(page[size-1])
			break
		}
		page = append(page, doc)
	}
	out["Functions"] = append([]map[string]any{}, page...)
	give(w, http.StatusOK, out)
	return nil
}

// conflict is the error of a change while another one is under way.
func (s *Stand) conflict(fn *function) *refusal {
	if fn.created {
		return refuse(http.StatusConflict, "ResourceConflictException", "The operation cannot be performed at this time. The function is currently in the following state: Pending")
	}
	return refuse(http.StatusConflict, "ResourceConflictException", "The operation cannot be performed at this time. An update is in progress for resource: %s", s.arn(fn.name))
}

func (s *Stand) updateFunction(w http.ResponseWriter, q *request, fn *function, at route) *refusal {
	fn.mu.Lock()
	defer fn.mu.Unlock()
	if fn.pendingLocked() {
		return s.conflict(fn)
	}
	var in struct {
		ZipFile, S3Bucket, S3Key string
		ImageURI                 string `json:"ImageUri"`
		Architectures            []string
		Publish                  bool
	}
	if no := parse(q, &in); no != nil {
		return no
	}
	if no := checkConfiguration(q, fn.name); no != nil {
		return no
	}
	next := &snapshot{code: fn.latest.code, local: fn.name}
	if at.operation == "UpdateFunctionCode" {
		var no *refusal
		if next.code, no = s.code(q, uploaded{in.ZipFile, in.S3Bucket, in.S3Key, in.ImageURI}); no != nil {
			return no
		}
		if (next.code.image == "") != (fn.latest.code.image == "") {
			return refuse(http.StatusBadRequest, "InvalidParameterValueException", "Please provide the code in the package type of the function.")
		}
	}
	a, no := s.relay(w, q, q.body)
	if a == nil {
		return no
	}
	doc, no := read(a, &next.config)
	if no != nil {
		return no
	}
	next.config.Architectures = fn.latest.config.Architectures
	if at.operation == "UpdateFunctionCode" && len(in.Architectures) > 0 {
		next.config.Architectures = in.Architectures
	}
	next.config.Version = "$LATEST"
	fn.next = next
	fn.unsettle(s.script.get())
	if in.Publish {
		fn.versions[fmt.Sprint(doc["Version"])] = next.version(fmt.Sprint(doc["Version"]))
	}
	fn.showLocked(doc)
	give(w, http.StatusOK, doc)
	return nil
}

func (s *Stand) publishVersion(w http.ResponseWriter, q *request, fn *function) *refusal {
	fn.mu.Lock()
	defer fn.mu.Unlock()
	if fn.pendingLocked() {
		return s.conflict(fn)
	}
	a, no := s.relay(w, q, q.body)
	if a == nil {
		return no
	}
	var config configuration
	doc, no := read(a, &config)
	if no != nil {
		return no
	}
	// Nothing has changed since the last version was published: that one is the answer.
	if _, there := fn.versions[config.Version]; !there {
		fn.versions[config.Version] = fn.latest.version(config.Version)
	}
	doc["Architectures"], doc["State"], doc["LastUpdateStatus"] = fn.latest.config.Architectures, "Active", "Successful"
	give(w, http.StatusCreated, doc)
	return nil
}

func (s *Stand) changeAlias(w http.ResponseWriter, q *request, fn *function, at route) *refusal {
	a, no := s.relay(w, q, q.body)
	if a == nil {
		return no
	}
	fn.mu.Lock()
	defer fn.mu.Unlock()
	if at.operation == "DeleteAlias" {
		delete(fn.aliases, at.rest)
	} else {
		var alias struct{ Name, FunctionVersion string }
		if _, no := read(a, &alias); no != nil {
			return no
		}
		fn.aliases[alias.Name] = alias.FunctionVersion
	}
	a.give(w)
	return nil
}

func (s *Stand) deleteFunction(w http.ResponseWriter, q *request, fn *function, at route) *refusal {
	if at.qualifier != "" {
		return s.deleteVersion(w, q, fn, at.qualifier)
	}
	a, no := s.relay(w, q, q.body)
	if a == nil {
		return no
	}
	fn.mu.Lock()
	gone := []*snapshot{fn.latest}
	for _, v := range fn.versions {
		gone = append(gone, v)
	}
	fn.mu.Unlock()
	s.lambda.remove(fn.name)
	for _, snap := range gone {
		s.withdraw(q.Context(), snap)
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// deleteVersion removes a version. moto keeps it: it would give its number to a later version, which Lambda never does.
func (s *Stand) deleteVersion(w http.ResponseWriter, q *request, fn *function, number string) *refusal {
	fn.mu.Lock()
	gone := fn.versions[number]
	for alias, target := range fn.aliases {
		if target == number {
			fn.mu.Unlock()
			return refuse(http.StatusConflict, "ResourceConflictException",
				"Unable to delete version because the following aliases reference it: [%s]", alias)
		}
	}
	delete(fn.versions, number)
	fn.mu.Unlock()
	if gone == nil {
		return functionNotFound(s.arn(fn.name + ":" + number))
	}
	s.withdraw(q.Context(), gone)
	w.WriteHeader(http.StatusNoContent)
	return nil
}

func (s *Stand) limitConcurrency(w http.ResponseWriter, q *request, fn *function) *refusal {
	a, no := s.relay(w, q, q.body)
	if a == nil {
		return no
	}
	fn.mu.Lock()
	defer fn.mu.Unlock()
	fn.reserved = nil
	if q.Method == http.MethodPut {
		var in struct{ ReservedConcurrentExecutions int }
		if no := parse(q, &in); no != nil {
			return no
		}
		fn.reserved = &in.ReservedConcurrentExecutions
	}
	a.give(w)
	return nil
}

// parse decodes the body of a request.
func parse(q *request, into any) *refusal {
	if err := json.Unmarshal(q.body, into); err != nil {
		return refuse(http.StatusBadRequest, "SerializationException", "%v", err)
	}
	return nil
}

// pick finds what a qualifier means: $LATEST, a version or an alias.
func (f *function) pick(qualifier string) (*snapshot, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	snap := f.pickLocked(qualifier)
	return snap, snap != nil
}

func (f *function) pickLocked(qualifier string) *snapshot {
	f.pendingLocked()
	if qualifier == "" || qualifier == "$LATEST" {
		return f.latest
	}
	if version, ok := f.aliases[qualifier]; ok {
		qualifier = version
		if version == "$LATEST" {
			return f.latest
		}
	}
	return f.versions[qualifier]
}
