package restore

import (
	"os"
	"path/filepath"
	"syscall"
	"time"

	"dialtone/cmd/dialtone/internal/terminal"
	"dialtone/internal/archive"
	"dialtone/internal/shellword"
)

// printOrigin says where the backup comes from, and what proves that.
func (r *restore) printOrigin(tenants, accounts int64) {
	m := r.manifest
	r.printf("the backup says that it was made at %s on %s; it has %s and %s, and its seal.key has the ID %s",
		m.Made.Format(time.RFC3339), m.Host, terminal.Counted(tenants, "tenant"), terminal.Counted(accounts, "account"),
		r.rings.seal.IDs()[0])
	if r.KeysDir == "" && !r.keys.Seal.FromEnv() {
		r.printf("nothing proves that it is from your server, since its keys are in it too; if others can write to " +
			"where it was kept, restore it with --keys-dir and your own copy of seal.key, which no forged one fits")
	}
}

// conclude prints what was restored, and what is to be done now.
func (r *restore) conclude() error {
	m := r.manifest
	r.printf("restored the backup of %s from %s, which has %s and %s", m.Made.Format(time.RFC3339), m.Host,
		terminal.Counted(m.Tenants, "tenant"), terminal.Counted(m.Accounts, "account"))
	if m.Engine == "postgresql" {
		r.printf("the database is not in the backup: restore it with pg_restore or from its base backup, and then run " +
			"dialtone restore --after-database")
		return nil
	}
	r.fillExport()
	r.concludeEpoch()
	if err := r.printOwner(); err != nil {
		return err
	}
	if m.Has(archive.Configuration) {
		r.printf("the configuration file of the backup is %s; it is not used",
			filepath.Join(r.conf.Data, restoredDir, archive.Configuration))
	}
	r.printf("now run dialtone verify, and start the server")
	return nil
}

// printOwner says that only root can use the data directory, if that is so.
func (r *restore) printOwner() error {
	info, err := os.Stat(r.conf.Data)
	if err != nil || os.Geteuid() != 0 || info.Sys().(*syscall.Stat_t).Uid != 0 {
		return err
	}
	dirs := shellword.Path(r.conf.Data)
	if keys, err := filepath.Rel(r.conf.Data, r.conf.Keys.Dir); err != nil || !filepath.IsLocal(keys) {
		dirs += " " + shellword.Path(r.conf.Keys.Dir)
	}
	r.printf("%s belongs to root, so a server that runs as another user cannot use it; if yours does, give everything to "+
		"its user first: chown -R USER: %s", r.conf.Data, dirs)
	return nil
}

func (r *restore) concludeEpoch() {
	r.printf("everybody has to sign in again, with the same passwords; phones keep registering")
	if r.epoch.Waiting > 0 {
		r.printf("%s for activation, and the links have ended: people ask for a new message on the sign-in page, or run "+
			"dialtone account resend", terminal.Plural(r.epoch.Waiting, "account waits", "accounts wait"))
	}
	if r.epoch.Withdrawn > 0 {
		r.printf("%s ended: dialtone mail list --all shows which", terminal.Plural(r.epoch.Withdrawn,
			"message that waited is not sent, because its link has",
			"messages that waited are not sent, because their links have"))
	}
	for _, task := range r.tasks {
		r.printf("%s", task)
	}
}
