package postgrestest

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"dialtone/internal/test/process"
)

// places are the directories with PostgreSQL's programs on Debian and Homebrew, which are not in
// PATH. tools/need looks there too.
var places = []string{
	"/usr/lib/postgresql/*/bin", "/opt/homebrew/opt/postgresql@*/bin", "/usr/local/opt/postgresql@*/bin",
}

// missing is the message of a test that fails because there is no PostgreSQL. A test that is skipped
// would go unnoticed.
var missing = "PostgreSQL is not installed: no initdb and postgres in " + strings.Join(places, ", ") +
	" or PATH. `make test` installs it."

// installation is a PostgreSQL that is installed on this system.
type installation struct {
	bin   string
	major int
	as    *syscall.Credential // the user that it runs as; nil for the user of this process
}

// find returns the newest installation in places, or else the one in PATH.
var find = sync.OnceValues(func() (installation, error) {
	var found []installation
	for _, place := range places {
		bins, err := filepath.Glob(place)
		if err != nil {
			return installation{}, err
		}
		for _, bin := range bins {
			if i, err := at(bin); err == nil { // packages with only the client have the directory, too
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
	if newest.as, err = process.Unprivileged("postgres", "nobody"); err != nil {
		err = fmt.Errorf("PostgreSQL does not run as root: %w", err)
	}
	return newest, err
})

var versionLine = regexp.MustCompile(`\(PostgreSQL\) (\d+)`)

// at returns the installation in a directory.
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
		return installation{}, fmt.Errorf("the output of %s/postgres --version has no version: %q", bin, line)
	}
	major, err := strconv.Atoi(string(m[1]))
	return installation{bin: bin, major: major}, err
}

// command returns one of PostgreSQL's programs as a command. It has its own environment, since
// variables such as PGPORT would change what the program does.
func (i installation) command(dir, program string, args ...string) *exec.Cmd {
	cmd := exec.Command(filepath.Join(i.bin, program), args...)
	cmd.Dir = dir
	cmd.Env = []string{"LC_ALL=C", "TZ=Pacific/Auckland", "PATH=" + os.Getenv("PATH")}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: i.as}
	return cmd
}

// Program returns the path of one of PostgreSQL's programs, such as pgbench.
func Program(name string) (string, error) {
	i, err := find()
	if err != nil {
		return "", err
	}
	return filepath.Join(i.bin, name), nil
}
