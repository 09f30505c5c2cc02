package process

import "syscall"

// pollable tells that a pipe can be read without waiting.
const pollable = false

// readFD waits for output on Windows, where pipes know no polling.
func readFD(fd uintptr, buf []byte) (int, error) { return syscall.Read(syscall.Handle(fd), buf) }
