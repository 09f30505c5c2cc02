package statedir_test

import (
	"context"
	"errors"
	"os"
	"testing"
	"time"

	"github.com/sebs-suite/sebs/internal/statedir"
)

func TestOneOwnerAndItsClients(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	owner, ok, err := statedir.Own(dir)
	if err != nil || !ok {
		t.Fatalf("Own = %v, %v; want the directory", ok, err)
	}
	if _, ok, err := statedir.Own(dir); err != nil || ok {
		t.Fatalf("second Own = %v, %v; want no owner and no error", ok, err)
	}
	if err := owner.Publish(statedir.Info{PID: 7, Address: "127.0.0.1:1"}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	member, info, err := statedir.Join(ctx, dir)
	if err != nil || info.PID != 7 || info.Address != "127.0.0.1:1" {
		t.Fatalf("Join = %+v, %v", info, err)
	}
	if joined, err := owner.HasClients(); err != nil || !joined {
		t.Fatalf("HasClients = %v, %v; want true", joined, err)
	}
	left := make(chan error, 1)
	go func() { left <- owner.WaitForClients(ctx) }()
	if err := member.Leave(); err != nil {
		t.Fatal(err)
	}
	if err := <-left; err != nil {
		t.Fatalf("WaitForClients = %v", err)
	}
	if err := owner.Release(); err != nil {
		t.Fatal(err)
	}
	if _, err := statedir.Read(dir); !errors.Is(err, os.ErrNotExist) {
		t.Fatalf("Read after Release = %v; want os.ErrNotExist", err)
	}
	if _, ok, err := statedir.Own(dir); err != nil || !ok {
		t.Fatalf("Own after Release = %v, %v", ok, err)
	}
}

func TestJoinEndsWithItsContext(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, _, err := statedir.Join(ctx, t.TempDir()); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("Join without a suite = %v; want a deadline error", err)
	}
}
