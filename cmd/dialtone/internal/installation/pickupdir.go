package installation

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"dialtone/cmd/dialtone/internal/finding"
	"dialtone/cmd/dialtone/internal/runas"
	"dialtone/internal/config"
	"dialtone/internal/shellword"
)

// ErrPickupDir means that this process may not use the pickup directory, which lies outside the data directory.
var ErrPickupDir = errors.New("the pickup directory (mail.pickup_dir) cannot be used by this user")

// InPickupDir wraps an error about a missing permission like runas.InDataDir, for the pickup directory of a
// configuration.
func InPickupDir(c config.Config, err error) error {
	if IsWithin(c.Mail.PickupDir, c.Data) || !errors.Is(err, fs.ErrPermission) && !errors.Is(err, unix.EROFS) {
		return runas.InDataDir(err)
	}
	me := UserOf(uint32(os.Geteuid()), uint32(os.Getegid()))
	return fmt.Errorf("%w: %s: %w; %s", ErrPickupDir, c.Mail.PickupDir, err, PickupRemedy(me, c.Mail.PickupDir))
}

// PickupRemedy tells how to create the pickup directory dir and the directory badmail next to it for a user, or how to
// make existing ones usable.
func PickupRemedy(u User, dir string) string {
	if link := finding.Link("mail", dir); link != nil {
		return link.Cause + "; " + link.Next
	}
	return fmt.Sprintf("run as root: install -d -o %s -g %s -m 2770 %s %s; or correct mail.pickup_dir",
		shellword.Quote(u.Name), shellword.Quote(u.Group), shellword.Path(dir),
		shellword.Path(filepath.Join(filepath.Dir(dir), "badmail")))
}

// IsWithin reports whether path is dir or lies below it. It compares the paths and does not follow links.
func IsWithin(path, dir string) bool {
	rel, err := filepath.Rel(dir, path)
	return err == nil && filepath.IsLocal(rel)
}
