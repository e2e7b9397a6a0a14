package finding

import (
	"fmt"
	"path/filepath"

	"dialtone/internal/shellword"
)

// ReadRemedy tells how to make a file readable for a user. at is what prevents that by its owner and mode:
// the file, or a directory above it.
func ReadRemedy(user, path, at string) string {
	if at == path {
		if link := Link("files", path); link != nil {
			return link.Cause + "; " + link.Next
		}
		return fmt.Sprintf("run as root: chown %s %s && chmod 600 %[2]s", shellword.Quote(user), shellword.Path(path))
	}
	return fmt.Sprintf("correct owner and mode of %s, or move the file to a directory that this user may pass", at)
}

// PickupRemedy tells how to create the pickup directory dir and the directory badmail next to it for a user and its
// group, or how to make existing ones usable.
func PickupRemedy(user, group, dir string) string {
	if link := Link("mail", dir); link != nil {
		return link.Cause + "; " + link.Next
	}
	return fmt.Sprintf("run as root: install -d -o %s -g %s -m 2770 %s %s; or correct mail.pickup_dir",
		shellword.Quote(user), shellword.Quote(group), shellword.Path(dir),
		shellword.Path(filepath.Join(filepath.Dir(dir), "badmail")))
}
