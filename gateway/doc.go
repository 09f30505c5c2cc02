// Package gateway is the suite's one address for clients: REST and gRPC on the same port.
//
// gRPC calls are passed on, message by message and unread, to the service that their method names. REST calls go
// through grpc-gateway onto the same services, object bytes and benchmark archives as raw bodies onto the streaming
// calls. Both are authenticated and authorised here with one table of roles. The gateway keeps no state.
package gateway
