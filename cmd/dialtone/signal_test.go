package main

import (
	"context"
	"fmt"
	"path/filepath"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// Signals that other programs take as "reload" do not end the server, and are logged.
func TestServerIgnoresSignals(t *testing.T) {
	p := start(t, launch{data: filepath.Join(t.TempDir(), "data")})
	for _, signal := range []syscall.Signal{syscall.SIGHUP, syscall.SIGUSR1, syscall.SIGUSR2} {
		name := unix.SignalName(signal)
		t.Run(name, func(t *testing.T) {
			if err := syscall.Kill(p.Pid(), signal); err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), stopWithin)
			defer cancel()
			err := p.WaitReady(ctx, func() error {
				if p.stderr.Count(`"msg":"signal ignored","signal":"`+name+`"`) == 0 {
					return fmt.Errorf("%s is not logged", name)
				}
				return p.answers()
			})
			if err != nil {
				t.Fatalf("%v\n%s", err, p.stderr)
			}
		})
	}
	p.mustStop(t)
}
