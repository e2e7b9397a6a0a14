package fault

// Remedy tells what has to happen before a program that has failed with an error can work.
//
// An error has a remedy if it, or an error that it wraps, has a method Remedy() Remedy. RemedyOf finds it. Such errors
// are Internal: people who send requests cannot do anything about them.
type Remedy int

// The remedies. If an error contains several, the last of them counts.
const (
	// Unknown is the remedy of all other errors.
	Unknown Remedy = iota
	// Correction means that an operator has to correct the configuration, the keys or the store. Until then, the
	// program fails in the same way whenever it is started.
	Correction
	// Restart means that starting the program again can help.
	Restart
	// CorrectionFirst is Correction in spite of a Restart: before an operator has looked, the program must not be
	// started again.
	CorrectionFirst
)

// Needs returns an error with a remedy. It is for variables that callers compare with errors.Is.
func Needs(r Remedy, text string) error { return &needs{r, text} }

type needs struct {
	remedy Remedy
	text   string
}

func (e *needs) Error() string  { return e.text }
func (e *needs) Remedy() Remedy { return e.remedy }

// RemedyOf returns the remedy of an error.
func RemedyOf(err error) (r Remedy) {
	if e, ok := err.(interface{ Remedy() Remedy }); ok {
		r = e.Remedy()
	}
	switch e := err.(type) {
	case interface{ Unwrap() error }:
		r = max(r, RemedyOf(e.Unwrap()))
	case interface{ Unwrap() []error }:
		for _, part := range e.Unwrap() {
			r = max(r, RemedyOf(part))
		}
	}
	return r
}
