package terminal

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"dialtone/internal/fault"
)

// Interactive reports whether standard input is a terminal, so that a person can be asked.
func Interactive(stdin io.Reader) bool {
	f, ok := stdin.(*os.File)
	return ok && isTerminal(f)
}

// isTerminal reports whether a file is a terminal.
func isTerminal(f *os.File) bool {
	_, err := unix.IoctlGetWinsize(int(f.Fd()), unix.TIOCGWINSZ)
	return err == nil
}

// ReadLine returns the next line that a person types, without surrounding white space. Like ReadString, it returns
// io.EOF at the end of the input. It fails as soon as ctx ends, for instance by Ctrl-C, and then writes a line break to
// the terminal. The read itself cannot be interrupted: its goroutine stays blocked until the process exits.
func ReadLine(ctx context.Context, in *bufio.Reader, to io.Writer) (string, error) {
	var text string
	var err error
	done := make(chan struct{})
	go func() {
		defer close(done)
		text, err = in.ReadString('\n')
	}()
	select {
	case <-done:
		return strings.TrimSpace(text), err
	case <-ctx.Done():
		fmt.Fprintln(to) // the terminal may show ^C on this line
		return "", fault.New(fault.Conflict, "the program was interrupted")
	}
}
