package gateway

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/metadata"

	"github.com/sebs-suite/sebs/internal/errs"
)

// forwarded are the headers that reach the services. Others are the client's own matter.
var forwarded = []string{"authorization", "x-request-id", "traceparent", "tracestate", "sebs-operation-revision"}

// frame is a message that the gateway passes on without reading it.
type frame struct{ data mem.BufferSlice }

// rawCodec hands messages through as they are.
type rawCodec struct{}

func (rawCodec) Marshal(v any) (mem.BufferSlice, error) {
	f, ok := v.(*frame)
	if !ok {
		return nil, fmt.Errorf("gateway codec: cannot send a %T", v)
	}
	return f.data, nil
}

func (rawCodec) Unmarshal(data mem.BufferSlice, v any) error {
	f, ok := v.(*frame)
	if !ok {
		return fmt.Errorf("gateway codec: cannot receive a %T", v)
	}
	data.Ref()
	f.data = data
	return nil
}

// Name is that of the default codec: the messages are protobuf, only nobody looks.
func (rawCodec) Name() string { return "proto" }

// ServiceOf returns the short name of the service that a method belongs to, such as `builder` for
// /sebs.builder.v1.BuilderService/GetPackage.
func ServiceOf(fullMethod string) (string, error) {
	parts := strings.Split(strings.TrimPrefix(fullMethod, "/"), ".")
	if len(parts) == 4 && parts[0] == "sebs" {
		return parts[1], nil
	}
	if strings.HasPrefix(fullMethod, "/google.longrunning.Operations/") {
		return operationsService, nil
	}
	return "", errs.Unimplemented("METHOD_UNKNOWN", "the suite has no method %s", fullMethod)
}

// proxy passes one call of any kind on to its service.
func (g *gateway) proxy(_ any, down grpc.ServerStream) error {
	method, ok := grpc.MethodFromServerStream(down)
	if !ok {
		return errs.ToStatus(errs.Internal(errors.New("a call without a method"))).Err()
	}
	if err := g.pass(method, down); err != nil {
		return errs.ToStatus(err).Err()
	}
	return nil
}

func (g *gateway) pass(method string, down grpc.ServerStream) error {
	ctx, err := g.authorizeGRPC(down.Context(), method)
	if err != nil {
		return err
	}
	conn, err := g.connTo(method)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(forwardHeaders(ctx))
	defer cancel()
	up, err := conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}, method, grpc.ForceCodecV2(rawCodec{}))
	if err != nil {
		return err
	}
	sent := make(chan error, 1)
	go func() { sent <- forwardUp(down, up) }()
	err = forwardDown(up, down)
	cancel()
	// The upward half ends with the call: its receive fails when this handler's stream is over, so waiting for it
	// here would hold a call whose client still sends. Its result matters only when it ended first with a failure.
	select {
	case sendErr := <-sent:
		if err == nil && sendErr != nil {
			err = sendErr
		}
	default:
	}
	return err
}

// forwardHeaders copies the headers of the incoming call that services want to see.
func forwardHeaders(ctx context.Context) context.Context {
	in, ok := metadata.FromIncomingContext(ctx)
	if !ok {
		return ctx
	}
	out := metadata.MD{}
	for _, key := range forwarded {
		if values := in.Get(key); len(values) > 0 {
			out.Set(key, values...)
		}
	}
	return metadata.NewOutgoingContext(ctx, out)
}

// forwardUp passes the client's messages on until it has no more.
func forwardUp(down grpc.ServerStream, up grpc.ClientStream) error {
	for {
		f := &frame{}
		err := down.RecvMsg(f)
		if errors.Is(err, io.EOF) {
			return up.CloseSend()
		}
		if err != nil {
			return err
		}
		if err := up.SendMsg(f); err != nil {
			// The reason comes with the receiving half.
			return nil
		}
	}
}

// forwardDown passes the service's headers, messages, trailers and status on.
func forwardDown(up grpc.ClientStream, down grpc.ServerStream) error {
	headers, err := up.Header()
	if err == nil && len(headers) > 0 {
		if err := down.SendHeader(headers); err != nil {
			return err
		}
	}
	for {
		f := &frame{}
		err := up.RecvMsg(f)
		if err != nil {
			down.SetTrailer(up.Trailer())
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
		if err := down.SendMsg(f); err != nil {
			return err
		}
	}
}

// authorizeGRPC tells whether the caller of an incoming call may make it.
func (g *gateway) authorizeGRPC(ctx context.Context, method string) (context.Context, error) {
	if g.policies.For(method).Role == 0 {
		return ctx, nil
	}
	caller, err := g.authn.GRPC(ctx)
	if err != nil {
		return nil, err
	}
	return ctx, g.policies.Authorize(caller, method)
}
