//go:build !linux

package docker

import (
	"os"
	"strconv"
)

// memoryReader is nil: containers run in a virtual machine, whose control groups cannot be seen from here.
func memoryReader(int, string) func() (int64, error) { return nil }

func highWater(int) int64 { return 0 }

func signalName(n int) string {
	if n == 9 {
		return "killed"
	}
	return "signal " + strconv.Itoa(n)
}

// writePipe is refused: the streams of containers are in a virtual machine.
func writePipe(int, int, []byte) error { return os.ErrInvalid }

func isFull(error) bool { return false }
