//go:build !linux

package objects

// keepWorkingDirectory calls a function that changes the working directory, and changes it back.
func keepWorkingDirectory(f func() error) error { return restoreWorkingDirectory(f) }
