package installation

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"os"

	"dialtone/internal/config"
)

// LostPart describes a part of an installation that a server or command creates though the
// installation is not new.
type LostPart struct {
	Event string // what is logged
	Hint  string // what to do
	File  string // empty for PostgreSQL
}

// LogLost logs the parts that were created though the installation is not new.
func LogLost(log *slog.Logger, lost []LostPart) {
	for _, part := range lost {
		if part.File == "" {
			log.Warn(part.Event, "hint", part.Hint)
			continue
		}
		log.Warn(part.Event, "file", part.File, "hint", part.Hint)
	}
}

// LostParts returns the parts that Open is about to create though other parts exist. It leaves errors to Open.
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
