package phonetest

import "syscall"

// endWithUs has a server end when we do.
func endWithUs(a *syscall.SysProcAttr) { a.Pdeathsig = syscall.SIGTERM }
