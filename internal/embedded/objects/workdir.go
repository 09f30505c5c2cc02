package objects

import (
	"errors"
	"fmt"
	"os"
)

// restoreWorkingDirectory calls a function and returns to the working directory of before.
func restoreWorkingDirectory(f func() error) error {
	before, err := os.Getwd()
	if err != nil {
		return fmt.Errorf("find the working directory: %w", err)
	}
	err = f()
	if back := os.Chdir(before); back != nil {
		return errors.Join(fmt.Errorf("return to the working directory: %w", back), err)
	}
	return err
}
