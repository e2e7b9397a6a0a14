package installation

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"dialtone/cmd/dialtone/internal/finding"
	"dialtone/internal/datadir"
	"dialtone/internal/regularfile"
	"dialtone/internal/shellword"
)

// ReadDeniedAt returns the path, the file or a directory above it, whose owner and mode prevent o from reading a file,
// or "". A process that is not root's can check only its own user, and ignores o.
func ReadDeniedAt(o *datadir.Owner, path string) (at string) {
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

// ReadRemedy tells how to make a file readable for a user. at is the result of ReadDeniedAt.
func ReadRemedy(user, path, at string) string {
	if at == path {
		if link := finding.Link("files", path); link != nil {
			return link.Cause + "; " + link.Next
		}
		return fmt.Sprintf("run as root: chown %s %s && chmod 600 %[2]s", shellword.Quote(user), shellword.Path(path))
	}
	return fmt.Sprintf("correct owner and mode of %s, or move the file to a directory that this user may pass", at)
}
