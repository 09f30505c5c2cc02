//go:build !linux

package docker

import "strconv"

// memoryReader is nil: containers run in a virtual machine, whose control groups cannot be seen from here.
func memoryReader(int, string) func() (int64, error) { return nil }

func highWater(int) int64 { return 0 }

func signalName(n int) string {
	if n == 9 {
		return "killed"
	}
	return "signal " + strconv.Itoa(n)
}
