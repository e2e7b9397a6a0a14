package main

import (
	"database/sql"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"dialtone/internal/certificate"
	"dialtone/internal/secret/keyfile"
)

// Root writes a certificate for another server into a directory owned by root, from a data
// directory of the server's user. The command does not follow a link in place of the file.
func TestCertificateForPhoneServer(t *testing.T) {
	s := newService(t)
	s.command("tenant", "add", "phone.test")
	ring, err := keyfile.Read(filepath.Join(s.dir, "keys", "seal.key"))
	s.must(err)
	db, err := sql.Open("sqlite", filepath.Join(s.dir, "dialtone.db"))
	s.must(err)
	_, err = db.Exec(`INSERT INTO certificate (tenant, authority, issued, not_before, not_after, chain, sealed, tried,
			lease)
		SELECT id, 'ca', 1, 1, 1, ?, ?, 1, 0 FROM tenant`, []byte("chain\n"),
		certificate.NewKeys(ring).Seal(1, "phone.test", []byte("key")))
	s.must(err)
	s.must(db.Close())

	private := filepath.Join(filepath.Dir(s.dir), "private")
	s.must(os.Mkdir(private, 0o700))
	file := filepath.Join(private, "phone.pem")
	// With the capabilities of the unit.
	_, list, _ := strings.Cut(deployText(t, "kamailio/dialtone-certificate.service"), "\nCapabilityBoundingSet=")
	list, _, _ = strings.Cut(list, "\n")
	capabilities := strings.ToLower("-all,+" + strings.ReplaceAll(strings.ReplaceAll(list, "CAP_", ""), " ", ",+"))
	write := []string{"tenant", "certificate", "phone.test", "--to", file, "--group", "daemon"}
	for _, want := range []string{"wrote ", file + " is up to date"} {
		run := exec.Command("setpriv", append([]string{"--no-new-privs", "--bounding-set", capabilities, binary(t)},
			append(write, "--data", s.dir)...)...)
		if out, err := run.CombinedOutput(); err != nil || !strings.HasPrefix(string(out), want) {
			t.Errorf("it prints %s, %v, want %s", out, err, want)
		}
		info, err := os.Stat(file)
		s.must(err)
		if owner := info.Sys().(*syscall.Stat_t); owner.Uid != 0 || owner.Gid != 1 || info.Mode().Perm() != 0o640 {
			t.Errorf("the file belongs to user %d and group %d, with the mode %o", owner.Uid, owner.Gid,
				info.Mode().Perm())
		}
	}
	target := filepath.Join(private, "target")
	s.must(os.Rename(file, target))
	s.must(os.Chmod(target, 0o600))
	s.must(os.Symlink(target, file))
	if status, _, _ := runCommand(t, []string{}, append(write, "--data", s.dir)...); status == 0 {
		t.Error("a link in place of the file is followed")
	}
	if info, err := os.Stat(target); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the target of the link has the mode %v, %v", info.Mode(), err)
	}
	s.owned()
}
