package process

import (
	"net"
	"os"
	"testing"
)

func TestSocketOwner(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	client, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = client.Close() }()
	server, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = server.Close() }()
	uid, err := socketOwner(server)
	if err != nil {
		t.Skipf("needs socket diagnosis in the kernel: %v", err)
	}
	if uid != os.Getuid() {
		t.Errorf("the connection belongs to user %d, not to %d", uid, os.Getuid())
	}
	mine := &handle{uid: os.Getuid() + 1}
	if mine.connects(server) {
		t.Error("a connection of another user was let through")
	}
}
