//go:build !linux

package process

import "syscall"

// EndsWithParent reports whether a process ends when the process that started it is killed. Only
// Linux tells a process that its parent has ended.
const EndsWithParent = false

func signalOnParentExit(*syscall.SysProcAttr, syscall.Signal) {}
