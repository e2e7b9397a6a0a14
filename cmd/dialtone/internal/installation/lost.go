package installation

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"os"

	"dialtone/internal/config"
)

// LostPart is a part of an installation, such as the store or a key, that was created although other parts existed. The
// earlier part may have been lost.
type LostPart struct {
	Event string // name of the log event
	Hint  string // what to do
	File  string // empty for a store in PostgreSQL
}

// LogLost logs a warning for each part.
func LogLost(log *slog.Logger, lost []LostPart) {
	for _, part := range lost {
		if part.File == "" {
			log.Warn(part.Event, "hint", part.Hint)
			continue
		}
		log.Warn(part.Event, "file", part.File, "hint", part.Hint)
	}
}

// LostParts returns the parts that Open is going to create although other parts exist. It ignores errors, which Open
// reports.
func LostParts(ctx context.Context, c config.Config, create Creation) (list []LostPart) {
	in := New(c)
	exists, err := in.HasStore(ctx)
	if err != nil {
		return nil
	}
	missing := func(path string) bool {
		_, err := os.Stat(path)
		return errors.Is(err, fs.ErrNotExist)
	}
	if !exists && !in.KeySources.Seal.FromEnv() && !missing(in.KeySources.Seal.Path) {
		file := in.Dir.Database()
		if in.Shared() {
			file = ""
		}
		list = append(list, LostPart{
			Event: "store created though there are keys of an earlier one", File: file,
			Hint: "if accounts are missing, stop the server and restore the database, or correct data or database",
		})
	}
	if exists && create == Always && !in.KeySources.Sign.FromEnv() && missing(in.KeySources.Sign.Path) {
		list = append(list, LostPart{
			Event: "signing key created for a store that is not new", File: in.KeySources.Sign.Path,
			Hint: "everyone has to sign in again, and links for phones do not work, unless the file is restored",
		})
	}
	return list
}
