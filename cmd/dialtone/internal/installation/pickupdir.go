package installation

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"dialtone/cmd/dialtone/internal/runas"
	"dialtone/internal/config"
	"dialtone/internal/doctor"
	"dialtone/internal/shellword"
)

// ErrPickupDir means that this process may not use the pickup directory, which is not in the data directory.
var ErrPickupDir = errors.New("the pickup directory (mail.pickup_dir) cannot be used by this user")

// InPickupDir is runas.InDataDir for the pickup directory of a configuration.
func InPickupDir(c config.Config, err error) error {
	if Below(c.Mail.PickupDir, c.Data) || !errors.Is(err, fs.ErrPermission) && !errors.Is(err, unix.EROFS) {
		return runas.InDataDir(err)
	}
	me := UserOf(uint32(os.Geteuid()), uint32(os.Getegid()))
	return fmt.Errorf("%w: %s: %w; %s", ErrPickupDir, c.Mail.PickupDir, err, MakePickup(me, c.Mail.PickupDir))
}

// MakePickup says how to make a pickup directory, or one that exists usable, for a user, and badmail beside it.
func MakePickup(u User, dir string) string {
	if link := doctor.Link("mail", dir); link != nil {
		return link.Cause + "; " + link.Next
	}
	return fmt.Sprintf("run as root: install -d -o %s -g %s -m 2770 %s %s; or correct mail.pickup_dir",
		shellword.Quote(u.Name), shellword.Quote(u.Group), shellword.Path(dir),
		shellword.Path(filepath.Join(filepath.Dir(dir), "badmail")))
}

// Below reports whether a path is a directory or is below it, without regard to links.
func Below(path, dir string) bool {
	rel, err := filepath.Rel(dir, path)
	return err == nil && filepath.IsLocal(rel)
}
