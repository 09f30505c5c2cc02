package app_test

import (
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	authv1 "github.com/sebs-suite/sebs/gen/go/sebs/auth/v1"
	"github.com/sebs-suite/sebs/internal/app/apptest"
)

// BenchmarkCall measures what a call through the process skeleton costs, all interceptors included.
func BenchmarkCall(b *testing.B) {
	r := apptest.Start(b, setup("one"))
	conn, err := grpc.NewClient(r.GRPCAddr(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	for name, client := range map[string]authv1.TokenServiceClient{
		"inside":   authv1.NewTokenServiceClient(r.Conn("auth")),
		"loopback": authv1.NewTokenServiceClient(conn),
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := client.WhoAmI(b.Context(), &authv1.WhoAmIRequest{}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
