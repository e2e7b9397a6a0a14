package setup

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"dialtone/cmd/dialtone/internal/owner"
	"dialtone/deploy"
	"dialtone/internal/config"
	"dialtone/internal/tenant"
)

// otherUser is a user and a group other than root.
const otherUser = 65534

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// directoryOfAnother returns a directory that belongs to a user other than root, inside a directory of root that
// everybody can search.
func directoryOfAnother(t *testing.T) string {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root, to give directories to another user")
	}
	above := t.TempDir()
	for _, dir := range []string{above, filepath.Dir(above)} {
		must(t, os.Chmod(dir, 0o755))
	}
	dir := filepath.Join(above, "data")
	must(t, os.Mkdir(dir, 0o751))
	must(t, os.Chown(dir, otherUser, otherUser))
	return dir
}

// The unit that init writes contains the user, the directories and the ports of the answers, and systemd accepts it.
func TestInitUnit(t *testing.T) {
	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Skip("systemd-analyze is not installed; tools/need systemd-analyze installs it on Debian")
	}
	unit := func(c config.Config, path string, u owner.User) string {
		text := strings.Replace(deploy.Unit, "/usr/bin/dialtone", "/bin/true", 1)
		return serverUnit(text, c, path, u)
	}
	usual := owner.User{Name: defaultUser, Group: defaultUser}
	standard := config.Config{
		Data: DefaultData, Listen: "127.0.0.1:8080", Keys: config.KeyFiles{Dir: DefaultData + "/keys"},
		Mail: config.Mail{PickupDir: DefaultData + "/pickup"},
	}
	if !packagedUnit(standard, DefaultConfig, usual) {
		t.Error("the unit of the packages does not fit what they install")
	}
	for what, c := range map[string]struct {
		change func(*config.Config)
		user   owner.User
		has    []string
		lacks  string
	}{
		"another user": {func(*config.Config) {}, owner.User{Name: "daemon", Group: "daemon"},
			[]string{"User=daemon\nGroup=daemon\n", "StateDirectory=dialtone\n"}, "ReadWritePaths=/"},
		"another directory": {func(c *config.Config) {
			c.Data, c.Keys.Dir, c.Mail.PickupDir = "/srv/a b%", "/srv/a b%/keys", "/srv/p"
		}, usual, []string{"\nReadWritePaths=\"/srv/a b%%\" /srv/p\n"}, "StateDirectory"},
		"a home": {func(c *config.Config) { c.Data, c.Keys.Dir = "/home/ann/data", "/home/ann/data/keys" }, usual,
			[]string{"ProtectHome=read-only\n", "ReadWritePaths=/home/ann/data "}, "ProtectHome=yes"},
		"ports": {func(c *config.Config) { c.Listen = ":443" }, usual,
			[]string{"AmbientCapabilities=CAP_NET_BIND_SERVICE\nCapabilityBoundingSet=CAP_NET_BIND_SERVICE\n"},
			"CapabilityBoundingSet=\n"},
	} {
		conf := standard
		c.change(&conf)
		text := unit(conf, DefaultConfig, c.user)
		for _, want := range c.has {
			if !strings.Contains(text, want) {
				t.Errorf("%s: no %q in %s", what, want, text)
			}
		}
		if strings.Contains(text, c.lacks) {
			t.Errorf("%s: %q in %s", what, c.lacks, text)
		}
		if what != "ports" && packagedUnit(conf, DefaultConfig, c.user) {
			t.Errorf("%s: the unit of the packages seems to fit", what)
		}
		file := filepath.Join(t.TempDir(), "dialtone.service")
		text = strings.Replace(text, "Documentation=man:dialtone(1) ", "Documentation=", 1)
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		if out, err := exec.Command(analyze, "verify", file).CombinedOutput(); err != nil || len(out) > 0 {
			t.Errorf("%s: systemd-analyze verify: %v\n%s", what, err, out)
		}
	}
}

// The unit that gives Kamailio a certificate may read the directories of the installation.
func TestCertificateUnit(t *testing.T) {
	c := config.Config{Data: "/srv/a b", Keys: config.KeyFiles{Dir: "/srv/keys"},
		Mail: config.Mail{Relay: "smtp://relay"}}
	unit := certificateUnit(deploy.CertificateService, c, DefaultConfig)
	if want := "\nReadWritePaths=/etc/kamailio \"-/srv/a b\" -/srv/keys\n"; !strings.Contains(unit, want) {
		t.Errorf("no %s in %s", want, unit)
	}
}

// Init follows no link beside the configuration to elsewhere.
func TestLinksBesideConfiguration(t *testing.T) {
	etc, private := t.TempDir(), t.TempDir()
	must(t, os.WriteFile(filepath.Join(private, ".temp-1"), nil, 0o600))
	must(t, os.Symlink(private, filepath.Join(etc, "init")))
	if _, err := openExamples(filepath.Join(etc, "init")); err == nil {
		t.Error("the link is opened")
	}
	if err := removeLeftovers(etc); err == nil {
		t.Error("the link is followed to remove files")
	}
	if _, err := os.Stat(filepath.Join(private, ".temp-1")); err != nil {
		t.Error(err)
	}

	target := filepath.Join(private, "target")
	for what, place := range map[string]func(string, string) error{"link": os.Symlink, "hard link": os.Link} {
		must(t, os.WriteFile(target, nil, 0o644))
		path := filepath.Join(etc, what)
		must(t, place(target, path))
		if err := hideFromOthers(path); err == nil {
			t.Errorf("a %s is changed", what)
		}
		if info, err := os.Stat(target); err != nil || info.Mode().Perm() != 0o644 {
			t.Errorf("%s: %v, %v", what, info.Mode(), err)
		}
	}
}

// Init of root gives no directory away that is behind a link.
func TestCreateDataBehindLink(t *testing.T) {
	above := filepath.Dir(directoryOfAnother(t))
	private := filepath.Join(above, "private")
	must(t, os.Mkdir(private, 0o700))
	link := filepath.Join(above, "link")
	must(t, os.Symlink(private, link))
	user := owner.User{UID: otherUser, GID: otherUser}
	err := (&setup{conf: config.Config{Data: link}, user: user}).createData()
	info, statErr := os.Stat(private)
	must(t, statErr)
	if err == nil || info.Sys().(*syscall.Stat_t).Uid != 0 {
		t.Errorf("a link to a directory of root is given away: %v", err)
	}
}

// Init of root gives no directory of root's to the server's user, who has exchanged a directory above the data
// directory after init has looked at it.
func TestCreateDataWhereWayIsExchanged(t *testing.T) {
	for claim, exists := range map[string]bool{"a directory of root's": true, "nothing": false} {
		t.Run(claim, func(t *testing.T) {
			dir := directoryOfAnother(t)
			victim, home := filepath.Join(filepath.Dir(dir), "victim"), filepath.Join(dir, "x")
			given := filepath.Join(victim, "dialtone")
			must(t, os.Mkdir(victim, 0o755))
			if exists {
				must(t, os.Mkdir(given, 0o755))
			}
			must(t, os.Symlink(victim, home))
			must(t, os.Lchown(home, otherUser, otherUser))
			conf := config.Config{Data: filepath.Join(home, "dialtone")}
			err := (&setup{conf: conf, user: owner.User{UID: otherUser, GID: otherUser}}).createData()
			want := "users other than root can replace it: " + dir + " belongs to "
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("createData: %v", err)
			}
			info, err := os.Stat(given)
			if exists && (err != nil || info.Sys().(*syscall.Stat_t).Uid != 0) {
				t.Errorf("the directory of root's belongs to the user: %v", err)
			} else if !exists && err == nil {
				t.Error("there is a directory of the user in one of root's")
			}
		})
	}
}

// Each place that init replaces in the examples is there: some are found by the text of a comment.
func TestExamplesHavePlaces(t *testing.T) {
	c := config.Config{Data: DefaultData, Listen: "127.0.0.1:18080"}
	c.TLS.ACME = true
	host := tenant.Tenant{Host: "phone.test", Realm: "people.test"}
	for _, place := range []string{"\n##!define SIPS", realmLine, "phone.example.org"} {
		if !strings.Contains(deploy.Kamailio, place) {
			t.Errorf("kamailio.cfg does not contain %q", place)
		}
	}
	files := exampleFiles(c, DefaultConfig, owner.User{Name: defaultUser, Group: defaultUser}, host)
	for _, line := range []string{
		"\n#!define SIPS\n", realmLine + "\n\tif ($avp(realm) == \"phone.test\") { $avp(realm) = \"people.test\"; }\n",
	} {
		if !strings.Contains(files["kamailio.cfg"]+"\n", line) {
			t.Errorf("kamailio.cfg of init does not contain %q", line)
		}
	}
	for name, text := range files {
		if strings.Contains(text, "phone.example.org") {
			t.Errorf("%s contains the host of the example", name)
		}
	}
}
