package authn

import (
	"strings"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	typev1 "github.com/sebs-suite/sebs/gen/go/sebs/type/v1"
)

// DefaultTimeout is the deadline of a call that brings none and whose policy names none.
const DefaultTimeout = 30 * time.Second

// Policy is what the interceptors apply to a method.
type Policy struct {
	// Role is the least role that may call it; ROLE_UNSPECIFIED lets everybody call it, without a credential.
	Role typev1.Role
	// Idempotent methods may be repeated by a client on its own.
	Idempotent bool
	// Timeout is the deadline that is set when the caller brings none; 0 means that of [Policy.Deadline].
	Timeout time.Duration
}

// Policies answers the policy of every method that is linked into the process.
type Policies struct {
	known sync.Map // full method → Policy
}

// NewPolicies returns the table.
func NewPolicies() *Policies {
	return &Policies{}
}

// For returns the policy of a method such as "/sebs.builder.v1.BuilderService/GetPackage".
func (p *Policies) For(fullMethod string) Policy {
	if known, ok := p.known.Load(fullMethod); ok {
		return known.(Policy)
	}
	policy, found := find(fullMethod)
	if found {
		// Only methods that exist are kept, so that callers cannot fill the table.
		p.known.Store(fullMethod, policy)
	}
	return policy
}

func find(fullMethod string) (Policy, bool) {
	service, method, _ := strings.Cut(strings.TrimPrefix(fullMethod, "/"), "/")
	switch {
	case strings.HasPrefix(service, "grpc.health."):
		return Policy{}, true
	case strings.HasPrefix(service, "grpc.reflection."):
		return Policy{Role: typev1.Role_ROLE_VIEWER}, true
	case service == "google.longrunning.Operations" && (method == "CancelOperation" || method == "DeleteOperation"):
		return Policy{Role: typev1.Role_ROLE_OPERATOR, Idempotent: true}, true
	case service == "google.longrunning.Operations":
		return Policy{Role: typev1.Role_ROLE_VIEWER, Idempotent: true}, true
	}
	policy := Policy{Role: typev1.Role_ROLE_OPERATOR}
	found, err := protoregistry.GlobalFiles.FindDescriptorByName(protoreflect.FullName(service + "." + method))
	if err != nil {
		return policy, false
	}
	options := found.Options()
	if !proto.HasExtension(options, typev1.E_RpcPolicy) {
		return policy, true
	}
	set, ok := proto.GetExtension(options, typev1.E_RpcPolicy).(*typev1.RpcPolicy)
	if !ok {
		return policy, true
	}
	if set.GetRole() != typev1.Role_ROLE_UNSPECIFIED {
		policy.Role = set.GetRole()
	}
	policy.Idempotent = set.GetIdempotent()
	if s := set.GetDefaultTimeoutSeconds(); s > 0 {
		policy.Timeout = time.Duration(s) * time.Second
	}
	return policy, true
}

// streamTimeout is the deadline of a stream whose policy names none: transfers take their time.
const streamTimeout = time.Hour

// Deadline returns how long a call may take when its caller does not say.
func (p Policy) Deadline(stream bool) time.Duration {
	switch {
	case p.Timeout > 0:
		return p.Timeout
	case stream:
		return streamTimeout
	}
	return DefaultTimeout
}
