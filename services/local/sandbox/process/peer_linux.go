package process

import (
	"encoding/binary"
	"fmt"
	"net"

	"golang.org/x/sys/unix"
)

// connects tells whether a connection to the Runtime API comes from this sandbox: from this machine and, where sandboxes have
// users of their own, from its user. Every sandbox can reach every loopback port, so the address alone says little.
func (h *handle) connects(c net.Conn) bool {
	if !fromLoopback(c) {
		return false
	}
	if h.uid == 0 {
		return true
	}
	uid, err := socketOwner(c)
	if err != nil {
		h.system.log.Debug("owner of a connection is unknown, it is let through", "error", err)
		return true
	}
	return uid == h.uid
}

// Sizes and places in the kernel's socket diagnosis messages (linux/inet_diag.h).
const (
	requestSize    = 56
	headerSize     = unix.SizeofNlMsghdr
	diagByFamily   = 20 // SOCK_DIAG_BY_FAMILY
	ownerOffset    = 64
	noCookie       = ^uint32(0)
	anyState       = ^uint32(0)
	addressOffset  = 12
	addressLength  = 16
	cookieOffset   = 48
	responseLength = headerSize + ownerOffset + 4
)

// socketOwner asks the kernel which user has the other end of a connection on this machine.
func socketOwner(c net.Conn) (int, error) {
	remote, ok1 := c.RemoteAddr().(*net.TCPAddr)
	local, ok2 := c.LocalAddr().(*net.TCPAddr)
	if !ok1 || !ok2 || remote.IP.To4() == nil || local.IP.To4() == nil {
		return 0, fmt.Errorf("no IPv4 connection: %v", c.RemoteAddr())
	}
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, unix.NETLINK_SOCK_DIAG)
	if err != nil {
		return 0, fmt.Errorf("open socket diagnosis: %w", err)
	}
	defer func() { _ = unix.Close(fd) }()
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 1}); err != nil {
		return 0, fmt.Errorf("limit socket diagnosis: %w", err)
	}
	message := make([]byte, headerSize+requestSize)
	native := binary.NativeEndian
	native.PutUint32(message[0:], uint32(len(message)))
	native.PutUint16(message[4:], diagByFamily)
	native.PutUint16(message[6:], unix.NLM_F_REQUEST)
	request := message[headerSize:]
	request[0], request[1] = unix.AF_INET, unix.IPPROTO_TCP
	native.PutUint32(request[4:], anyState)
	// The socket asked about is the other end: its source is our remote address.
	binary.BigEndian.PutUint16(request[8:], uint16(remote.Port))
	binary.BigEndian.PutUint16(request[10:], uint16(local.Port))
	copy(request[addressOffset:], remote.IP.To4())
	copy(request[addressOffset+addressLength:], local.IP.To4())
	native.PutUint32(request[cookieOffset:], noCookie)
	native.PutUint32(request[cookieOffset+4:], noCookie)
	if err := unix.Sendto(fd, message, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return 0, fmt.Errorf("ask socket diagnosis: %w", err)
	}
	answer := make([]byte, 4096)
	n, _, err := unix.Recvfrom(fd, answer, 0)
	if err != nil {
		return 0, fmt.Errorf("read socket diagnosis: %w", err)
	}
	if n < responseLength || native.Uint16(answer[4:]) != diagByFamily {
		return 0, fmt.Errorf("socket diagnosis does not know the connection of %v", remote)
	}
	return int(native.Uint32(answer[headerSize+ownerOffset:])), nil
}
