package restore

import (
	"fmt"
	"os"
	"path/filepath"

	"dialtone/cmd/dialtone/internal/keys"
	"dialtone/cmd/dialtone/internal/runas"
	"dialtone/internal/shellword"
)

// restoredDir is the directory in the data directory for files that a restore does not use: the configuration and the
// waiting messages.
const restoredDir = "restored"

// places returns the paths outside of the data directory to which a restore may write. The first is a directory, the
// others are key files.
func (r *restore) places() []string {
	list := []string{r.badmail()}
	for _, k := range keys.Files(r.keys) {
		if !k.Source.FromEnv() {
			list = append(list, k.Source.Path)
		}
	}
	return list
}

// checkPlaces fails if root would write keys or messages to a directory that another user can replace. If the data
// directory belongs to another user, the restore does not run as root, and there is nothing to check.
func (r *restore) checkPlaces() error {
	if owner, err := runas.OwnerOf(r.conf.Data); err != nil || owner != nil || os.Geteuid() != 0 {
		return err
	}
	dirs := []string{r.badmail()}
	for _, path := range r.places()[1:] {
		dirs = append(dirs, filepath.Dir(path))
	}
	for _, dir := range dirs {
		w, err := runas.WalkTo(dir)
		if err != nil {
			return err
		}
		// The directory may belong to the user of the server, but this user must not be able to replace it.
		own := w.NonRoot == w.End && !w.Missing
		if w.NonRoot != "" && !own {
			return fmt.Errorf("%w: root would write to %s, but the user %d, to whom %s belongs, can replace it; give "+
				"the data directory to that user, or move %[2]s to a directory of root", runas.ErrDataDir, dir,
				w.NonRootUID, w.NonRoot)
		} else if w.Writable != "" && (w.Writable != w.End || w.Missing) {
			return fmt.Errorf("%w: root would write to %s, but other users can replace it, since %s has the mode "+
				"%04o; run: chmod g-w,o-w %s", runas.ErrDataDir, dir, w.Writable, w.Mode, shellword.Path(w.Writable))
		}
	}
	return nil
}

// badmail returns the directory of messages that could not be sent.
func (r *restore) badmail() string {
	return filepath.Join(filepath.Dir(r.conf.Mail.PickupDir), "badmail")
}
