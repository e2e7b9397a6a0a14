//go:build !linux

package postgrestest

import "syscall"

// endsWithUs says whether a server ends when we are killed. Only Linux tells a process that its parent has ended.
const endsWithUs = false

func endWithUs(*syscall.SysProcAttr) {}
