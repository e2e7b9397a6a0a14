package installation

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"dialtone/internal/datadir"
	"dialtone/internal/doctor"
	"dialtone/internal/regularfile"
	"dialtone/internal/shellword"
)

// UnreadableBy returns what keeps a user from reading a file, or "". If this process is not root's, the user is its
// own.
func UnreadableBy(o *datadir.Owner, path string) (at string) {
	if os.Geteuid() == 0 {
		return o.Denied(path)
	}
	f, err := regularfile.Open(path)
	if err == nil {
		f.Close()
	}
	if errors.Is(err, fs.ErrPermission) {
		return path
	}
	return ""
}

// LetRead says how to let a user read a file.
func LetRead(user, path, at string) string {
	if at == path {
		if link := doctor.Link("files", path); link != nil {
			return link.Cause + "; " + link.Next
		}
		return fmt.Sprintf("run as root: chown %s %s && chmod 600 %[2]s", shellword.Quote(user), shellword.Path(path))
	}
	return fmt.Sprintf("correct owner and mode of %s, or move the file to a directory that this user may pass", at)
}
