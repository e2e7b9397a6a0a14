package sqlite

import (
	"context"
	"errors"
	"io/fs"
	"os"

	"dialtone/internal/store/engine"
)

// Measures implements engine.Measurer.
func (e *Engine) Measures() engine.Measures { return e.writer.Measures() }

// Load implements engine.Measurer. The sizes are those of the files.
func (e *Engine) Load(context.Context) (l engine.Load, err error) {
	l.Waiting = e.writer.Waiting()
	if l.Database, err = size(e.path); err != nil {
		return l, err
	}
	l.WAL, err = size(e.path + "-wal")
	return l, err
}

// size returns the size of a file, or 0 if it does not exist.
func size(path string) (int64, error) {
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}
