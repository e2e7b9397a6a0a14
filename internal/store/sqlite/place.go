package sqlite

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"dialtone/internal/fault"
	"dialtone/internal/store/engine"
)

// ErrReplaced is wrapped in the errors of Err and of writes after the file of the open database was
// removed, renamed or replaced. Commits would go to a file that nobody can open again.
var ErrReplaced = fault.Needs(fault.CorrectionFirst,
	"the file of the database was removed or replaced while it was open; put it back or restore a "+
		"backup before you start again")

// fileLost is an engine.ErrFailed without its advice to restart the server, which would not bring
// the file back.
type fileLost struct{ error }

func (e fileLost) Unwrap() []error { return []error{engine.ErrFailed, e.error} }

// placeInterval is how often an engine without writes checks its file.
const placeInterval = time.Second

// watchPlace stops all writing when the path of the database no longer leads to the open file,
// which place describes. The writer checks this after each commit and before it reports success, so
// that no write into a lost file is reported as saved.
func (e *Engine) watchPlace(place os.FileInfo) {
	inPlace := func() error {
		now, err := os.Stat(e.path)
		if err == nil && os.SameFile(place, now) || err != nil && !errors.Is(err, os.ErrNotExist) {
			return nil // any other error says nothing about the file
		}
		return fmt.Errorf("%s: %w", e.path, ErrReplaced)
	}
	e.writer.inPlace = inPlace
	closing, closed := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(closed)
		ticker := time.NewTicker(placeInterval)
		defer ticker.Stop()
		for {
			select {
			case <-closing:
				return
			case <-ticker.C:
				if inPlace() != nil {
					// This write fails, and ends all writing.
					_ = e.Write(func(tx engine.Tx) error { return noopWrite(tx) })
					return
				}
			}
		}
	}()
	e.OnClose(sync.OnceFunc(func() { // an engine may be closed twice
		close(closing)
		<-closed
	}))
}
