package confine

import "syscall"

// endWithParent has the kernel kill the process when the thread that started it ends, as it does when this process is
// killed. Run keeps its thread until the process is done.
func endWithParent(attributes *syscall.SysProcAttr) { attributes.Pdeathsig = syscall.SIGKILL }
