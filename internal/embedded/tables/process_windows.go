package tables

import "os/exec"

// ownGroup does nothing: the command has no children.
func ownGroup(*exec.Cmd) {}

// terminate ends the command; the system has no gentler way for programs without a window.
func terminate(cmd *exec.Cmd) error { return cmd.Process.Kill() }

// killGroup ends the command.
func killGroup(cmd *exec.Cmd) error { return cmd.Process.Kill() }
