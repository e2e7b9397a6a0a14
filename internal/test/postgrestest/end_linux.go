package postgrestest

import "syscall"

// endsWithUs says whether a server ends when we are killed.
const endsWithUs = true

// endWithUs has the system crash the server when we have ended. The server then ends what it has started.
func endWithUs(a *syscall.SysProcAttr) { a.Pdeathsig = syscall.SIGQUIT }
