//go:build !linux

package docker

import (
	"os"
	"strconv"
)

// machine is what this machine lets the host do with a container beside the Engine: nothing, because containers run in a
// virtual machine.
type machine struct{}

func find(int, string) *machine { return nil }

func (*machine) memory() (int64, error) { return 0, os.ErrInvalid }

func (*machine) throttle(float64) error { return os.ErrInvalid }

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
