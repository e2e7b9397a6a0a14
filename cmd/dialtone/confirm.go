package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"

	"dialtone/cmd/dialtone/internal/terminal"
	"dialtone/internal/fault"
)

// confirm asks the person at the terminal to confirm something that cannot be undone. It fails unless the answer is
// yes. Without a terminal it does not ask.
func (p *program) confirm(what string) error {
	if !terminal.Interactive(p.stdin) {
		return nil
	}
	return p.ask("This cannot be undone. Type yes to "+what, "yes")
}

// ask asks the person at the terminal a question, and fails unless the answer is want.
func (p *program) ask(question, want string) error {
	fmt.Fprint(p.stderr, question+": ")
	answer, err := terminal.ReadLine(p.ctx, bufio.NewReader(p.stdin), p.stderr)
	if err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("nothing was changed: %w", err)
	}
	if answer != want {
		return fault.New(fault.Conflict, "nothing was changed, because the answer was not %s", want)
	}
	return nil
}

// printf prints a line about what was done.
func (p *program) printf(format string, args ...any) error {
	_, err := fmt.Fprintf(p.stdout, format+"\n", args...)
	return err
}
