package postgrestest

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
)

// places are where PostgreSQL's programs are, if not in PATH: Debian's, and Homebrew's. tools/need looks there too.
var places = []string{"/usr/lib/postgresql/*/bin", "/opt/homebrew/opt/postgresql@*/bin", "/usr/local/opt/postgresql@*/bin"}

// missing is what a test fails with where there is no PostgreSQL. It is not skipped: then nobody would notice.
var missing = "PostgreSQL is not installed: no initdb and postgres in " + strings.Join(places, ", ") +
	" or PATH. `make test` installs it."

// installation is PostgreSQL as the system has it.
type installation struct {
	bin   string
	major int
	as    *syscall.Credential // whom it runs as; ourselves where nil
}

// find finds the newest installation of places, or that of PATH.
var find = sync.OnceValues(func() (installation, error) {
	var found []installation
	for _, place := range places {
		bins, err := filepath.Glob(place)
		if err != nil {
			return installation{}, err
		}
		for _, bin := range bins {
			if i, err := at(bin); err == nil { // a client alone has a folder as well
				found = append(found, i)
			}
		}
	}
	if path, err := exec.LookPath("postgres"); len(found) == 0 && err == nil {
		i, err := at(filepath.Dir(path))
		if err != nil {
			return installation{}, err
		}
		found = append(found, i)
	}
	if len(found) == 0 {
		return installation{}, errors.New(missing)
	}
	newest := slices.MaxFunc(found, func(a, b installation) int { return cmp.Compare(a.major, b.major) })
	var err error
	newest.as, err = unprivileged()
	return newest, err
})

var versionLine = regexp.MustCompile(`\(PostgreSQL\) (\d+)`)

// at is the installation in a folder.
func at(bin string) (installation, error) {
	if _, err := os.Stat(filepath.Join(bin, "initdb")); err != nil {
		return installation{}, err
	}
	line, err := exec.Command(filepath.Join(bin, "postgres"), "--version").Output()
	if err != nil {
		return installation{}, err
	}
	m := versionLine.FindSubmatch(line)
	if m == nil {
		return installation{}, fmt.Errorf("postgres of %s says of its version %q", bin, line)
	}
	major, err := strconv.Atoi(string(m[1]))
	return installation{bin: bin, major: major}, err
}

// unprivileged is whom PostgreSQL runs as where we are root.
func unprivileged() (*syscall.Credential, error) {
	if os.Geteuid() != 0 {
		return nil, nil
	}
	u, err := user.Lookup("postgres")
	if err != nil {
		if u, err = user.Lookup("nobody"); err != nil {
			return nil, fmt.Errorf("PostgreSQL does not run as root, and there is no other: %w", err)
		}
	}
	uid, err := strconv.ParseUint(u.Uid, 10, 32)
	if err != nil {
		return nil, err
	}
	gid, err := strconv.ParseUint(u.Gid, 10, 32)
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, err
}

// give makes a file that of whom PostgreSQL runs as.
func (i installation) give(path string) error {
	if i.as == nil {
		return nil
	}
	return os.Chown(path, int(i.as.Uid), int(i.as.Gid))
}

// command is one of PostgreSQL's programs. Nothing of our environment gets to it: PGPORT and the like would mislead it.
func (i installation) command(dir, program string, args ...string) *exec.Cmd {
	cmd := exec.Command(filepath.Join(i.bin, program), args...)
	cmd.Dir = dir
	cmd.Env = []string{"LC_ALL=C", "TZ=Pacific/Auckland", "PATH=" + os.Getenv("PATH")}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: i.as}
	return cmd
}

// process is a server that was started.
type process struct {
	cmd   *exec.Cmd
	ended chan struct{}
}

// start starts a server that ends when we do.
func start(cmd *exec.Cmd) (*process, error) {
	endWithUs(cmd.SysProcAttr)
	p := &process{cmd: cmd, ended: make(chan struct{})}
	started := make(chan error)
	go func() {
		// To the system, we have ended when the thread has that started the server. So that thread stays, and waits.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			cmd.Wait()
			close(p.ended)
		}
	}()
	return p, <-started
}
