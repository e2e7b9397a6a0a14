package installation

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"golang.org/x/sys/unix"

	"dialtone/cmd/dialtone/internal/finding"
	"dialtone/cmd/dialtone/internal/owner"
	"dialtone/cmd/dialtone/internal/runas"
	"dialtone/internal/config"
	"dialtone/internal/fault"
)

// ErrPickupDir means that this process may not use the pickup directory, which lies outside the data directory.
var ErrPickupDir = fault.Needs(fault.Correction, "the pickup directory (mail.pickup_dir) cannot be used by this user")

// InPickupDir wraps an error about a missing permission like runas.InDataDir, for the pickup directory of a
// configuration.
func InPickupDir(c config.Config, err error) error {
	if IsWithin(c.Mail.PickupDir, c.Data) || !errors.Is(err, fs.ErrPermission) && !errors.Is(err, unix.EROFS) {
		return runas.InDataDir(err)
	}
	me := owner.Me()
	return fmt.Errorf("%w: %s: %w; %s", ErrPickupDir, c.Mail.PickupDir, err,
		finding.PickupRemedy(me.Name, me.Group, c.Mail.PickupDir))
}

// IsWithin reports whether path is dir or lies below it. It compares the paths and does not follow links.
func IsWithin(path, dir string) bool {
	rel, err := filepath.Rel(dir, path)
	return err == nil && filepath.IsLocal(rel)
}
