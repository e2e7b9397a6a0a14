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

// printOrigin prints where the backup comes from, and what proves that.
func (r *restore) printOrigin(tenants, accounts int64) {
	m := r.manifest
	r.printf("according to its manifest, the backup was made at %s on %s; it contains %s and %s, and the ID of its "+
		"seal.key is %s",
		m.Made.Format(time.RFC3339), m.Host, terminal.Counted(tenants, "tenant"), terminal.Counted(accounts, "account"),
		r.rings.seal.IDs()[0])
	if r.KeysDir == "" && !r.keys.Seal.FromEnv() {
		r.printf("nothing proves that it is from your server, because it also contains the keys; if others can write " +
			"to the place where it was kept, restore it with --keys-dir and your own copy of seal.key, which does " +
			"not fit a forged backup")
	}
}

// conclude fills the exported tables, and prints what was restored and what to do next.
func (r *restore) conclude() error {
	m := r.manifest
	r.printf("restored the backup of %s from %s, with %s and %s", m.Made.Format(time.RFC3339), m.Host,
		terminal.Counted(m.Tenants, "tenant"), terminal.Counted(m.Accounts, "account"))
	if m.Engine == "postgresql" {
		r.printf("the database is not in the backup: restore it with pg_restore or from its base backup, and then " +
			"run dialtone restore --after-database")
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

// printOwner warns if the data directory belongs to root.
func (r *restore) printOwner() error {
	info, err := os.Stat(r.conf.Data)
	if err != nil || os.Geteuid() != 0 || info.Sys().(*syscall.Stat_t).Uid != 0 {
		return err
	}
	dirs := shellword.Path(r.conf.Data)
	if keys, err := filepath.Rel(r.conf.Data, r.conf.Keys.Dir); err != nil || !filepath.IsLocal(keys) {
		dirs += " " + shellword.Path(r.conf.Keys.Dir)
	}
	r.printf("%s belongs to root, so a server that runs as another user cannot use it; if yours does, give everything "+
		"to its user first: chown -R USER: %s", r.conf.Data, dirs)
	return nil
}

// concludeEpoch prints the consequences of the new epoch, and the remaining tasks of the operator.
func (r *restore) concludeEpoch() {
	r.printf("everybody has to sign in again, with the same passwords; phones keep registering")
	if r.epoch.Waiting > 0 {
		r.printf("%s for activation, and the links have ended: people can ask for a new message on the sign-in page, "+
			"or you can send one with dialtone account resend",
			terminal.Plural(r.epoch.Waiting, "account waits", "accounts wait"))
	}
	if r.epoch.Withdrawn > 0 {
		r.printf("%s ended: dialtone mail list --all lists them", terminal.Plural(r.epoch.Withdrawn,
			"waiting message is not sent, because its link has",
			"waiting messages are not sent, because their links have"))
	}
	for _, task := range r.tasks {
		r.printf("%s", task)
	}
}
