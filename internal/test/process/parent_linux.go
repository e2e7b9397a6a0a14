package process

import "syscall"

// EndsWithParent reports whether a process ends when the process that started it is killed.
const EndsWithParent = true

func signalOnParentExit(a *syscall.SysProcAttr, signal syscall.Signal) { a.Pdeathsig = signal }
