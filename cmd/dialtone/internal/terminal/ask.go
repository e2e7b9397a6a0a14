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

// ReadLine returns the next line that a person types, without the white space around it. Like ReadString, it returns
// io.EOF at the end. It fails at once when ctx ends, such as by Ctrl-C, and then writes a line break to the terminal.
// The read itself cannot be interrupted, and blocks its goroutine until the process ends.
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
		fmt.Fprintln(to) // the next text begins after what the terminal shows for Ctrl-C
		return "", fault.New(fault.Conflict, "the program was told to end")
	}
}
