package process

import (
	"errors"
	"os"
	"sync"
	"syscall"

	"github.com/sebs-suite/sebs/services/local/sandbox"
)

// output carries what a runtime prints from its pipe to the sink.
type output struct {
	pipe *os.File
	sink sandbox.Output
	done chan struct{}
	mu   sync.Mutex // orders reading and delivering between the reader and sync
	buf  []byte
}

func newOutput(pipe *os.File, sink sandbox.Output) *output {
	return &output{pipe: pipe, sink: sink, done: make(chan struct{}), buf: make([]byte, 32<<10)}
}

// run delivers until every writer has closed its end or close is called.
func (o *output) run() {
	defer close(o.done)
	conn, err := o.pipe.SyscallConn()
	if err != nil {
		return
	}
	for {
		var readErr error
		var n int
		err := conn.Read(func(fd uintptr) bool {
			n, readErr = o.step(fd)
			return !errors.Is(readErr, syscall.EAGAIN)
		})
		if err != nil || (readErr != nil && !errors.Is(readErr, syscall.EINTR)) || (readErr == nil && n == 0) {
			return
		}
	}
}

// sync delivers what is already in the pipe.
func (o *output) sync() {
	if !pollable {
		return
	}
	conn, err := o.pipe.SyscallConn()
	if err != nil {
		return
	}
	_ = conn.Control(func(fd uintptr) {
		for {
			if n, err := o.step(fd); err != nil || n == 0 {
				return
			}
		}
	})
}

// step reads once without waiting and delivers before anybody else may read.
func (o *output) step(fd uintptr) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	n, err := readFD(fd, o.buf)
	if n > 0 {
		_, _ = o.sink.Write(o.buf[:n]) // a sink that fails must not stop the runtime from printing
	}
	return n, err
}

func (o *output) close() {
	_ = o.pipe.Close()
	<-o.done
}
