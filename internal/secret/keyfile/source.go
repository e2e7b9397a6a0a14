package keyfile

import (
	"fmt"

	"dialtone/internal/fault"
	"dialtone/internal/redact"
	"dialtone/internal/secret"
)

// ErrUnusable means that keys cannot be read or created: they are missing, damaged, or unprotected.
var ErrUnusable = fault.Needs(fault.Correction, "keys")

// Source is where a ring comes from: an environment variable or a file.
type Source struct {
	// Path is the path of the file.
	Path string
	// Variable is the name of the environment variable.
	Variable string
	// Text is the value of the variable, which has the form of a key file. If it is empty, the
	// ring is in the file.
	Text redact.Of[string]
}

// FromEnv reports whether the ring is in the environment. Then it does not change while the
// process runs.
func (s Source) FromEnv() bool { return s.Text.Reveal() != "" }

// Read reads the ring. Its errors wrap ErrUnusable, and ErrMissing if there is no file.
func (s Source) Read() (*secret.Ring, error) {
	var ring *secret.Ring
	var err error
	if s.FromEnv() {
		if ring, err = secret.ParseRing(s.Text.Reveal()); err != nil {
			err = fmt.Errorf("%s:%w; set it to the content of a key file", s.Variable, err)
		}
	} else {
		ring, err = Read(s.Path)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnusable, err)
	}
	return ring, nil
}
