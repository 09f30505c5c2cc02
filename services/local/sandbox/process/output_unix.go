//go:build unix

package process

import "syscall"

// pollable tells that a pipe can be read without waiting.
const pollable = true

func readFD(fd uintptr, buf []byte) (int, error) { return syscall.Read(int(fd), buf) }
