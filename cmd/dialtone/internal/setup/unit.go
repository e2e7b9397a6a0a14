package setup

import (
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"dialtone/cmd/dialtone/internal/installation"
	"dialtone/cmd/dialtone/internal/owner"
	"dialtone/deploy"
	"dialtone/internal/config"
)

// lowPorts reports whether a server listens on a port below 1024, which requires a capability.
func lowPorts(c config.Config) bool {
	return slices.ContainsFunc([]string{c.Listen, c.TLS.RedirectListen, c.Ops.Listen}, lowPort)
}

// lowPort reports whether the port of an address is below 1024.
func lowPort(address string) bool {
	_, port, err := net.SplitHostPort(address)
	number, err2 := strconv.Atoi(port)
	return err == nil && err2 == nil && number > 0 && number < 1024
}

// The lines of the packaged unit that set the user and the data directory.
const (
	unitUser  = "User=dialtone\nGroup=dialtone\n"
	unitState = "StateDirectory=dialtone\nStateDirectoryMode=0751\n"
)

// packagedUnit reports whether the packaged unit fits the installation, possibly together with low-ports.conf.
func packagedUnit(c config.Config, path string, u owner.User) bool {
	return path == DefaultConfig && u.Name == defaultUser && slices.Equal(writtenDirs(c), []string{DefaultData})
}

// serverUnit returns a unit for the user, the directories and the ports of an installation.
func serverUnit(unit string, c config.Config, path string, u owner.User) string {
	unit = strings.Replace(unit, unitUser, "User="+u.Name+"\nGroup="+u.Group+"\n", 1)
	var more []string
	for _, dir := range writtenDirs(c) {
		if dir != DefaultData {
			more = append(more, inUnit(dir))
		}
	}
	if c.Data != DefaultData {
		unit = strings.Replace(unit, unitState, "", 1)
		unit = strings.Replace(unit, "below /var/lib/dialtone.", "below the directories of ReadWritePaths=.", 1)
		unit = strings.Replace(unit, "add ReadWritePaths= in a drop-in.", "add another such line.", 1)
	}
	if len(more) > 0 {
		unit = strings.Replace(unit, "\nProtectSystem=strict\n",
			"\nProtectSystem=strict\nReadWritePaths="+strings.Join(more, " ")+"\n", 1)
	}
	if lowPorts(c) {
		_, capabilities, _ := strings.Cut(deploy.LowPorts, "[Service]\n")
		unit = strings.Replace(unit, "CapabilityBoundingSet=\n", capabilities, 1)
	}
	return shown(unit, c, path)
}

// certificateUnit returns the unit that gives Kamailio a certificate, for the directories of an installation.
func certificateUnit(unit string, c config.Config, path string) string {
	dirs := ""
	for _, dir := range writtenDirs(c) {
		dirs += " " + inUnit("-"+dir)
	}
	return shown(strings.Replace(unit, " -"+DefaultData+"\n", dirs+"\n", 1), c, path)
}

// writtenDirs returns the directories that the server writes to: the data directory, and those outside of it.
func writtenDirs(c config.Config) []string {
	dirs := []string{filepath.Clean(c.Data)}
	all := []string{c.Keys.Dir}
	if c.Mail.Relay == "" {
		all = append(all, c.Mail.PickupDir)
	}
	for _, h := range c.Export.Htdigest {
		all = append(all, filepath.Dir(h.File))
	}
	for _, dir := range all {
		inside := func(above string) bool { return installation.IsWithin(dir, above) }
		if filepath.IsAbs(dir) && !slices.ContainsFunc(dirs, inside) {
			dirs = append(dirs, filepath.Clean(dir))
		}
	}
	return dirs
}

// shown relaxes the sandbox of a unit if files of the installation are below /home or /tmp, so that its processes see
// them.
func shown(unit string, c config.Config, path string) string {
	paths := append(writtenDirs(c), path, executable())
	for _, f := range installation.ConfiguredFiles(c) {
		paths = append(paths, f.Path)
	}
	for _, hides := range []struct {
		setting, instead string
		dirs             []string
	}{
		{"\nProtectHome=yes\n", "\nProtectHome=read-only\n", []string{"/home", "/root", "/run/user"}},
		{"\nPrivateTmp=yes\n", "\nPrivateTmp=no\n", []string{"/tmp", "/var/tmp"}},
	} {
		hidden := func(p string) bool {
			return slices.ContainsFunc(hides.dirs, func(dir string) bool { return installation.IsWithin(p, dir) })
		}
		if slices.ContainsFunc(paths, hidden) {
			unit = strings.Replace(unit, hides.setting, hides.instead, 1)
		}
	}
	return unit
}

// inUnit escapes and quotes a path for a systemd unit.
func inUnit(path string) string {
	path = strings.ReplaceAll(path, "%", "%%")
	if strings.ContainsAny(path, " \t\"'\\") {
		return strconv.Quote(path)
	}
	return path
}

// executable returns the path of this program.
func executable() string {
	path, err := os.Executable()
	if err != nil {
		return "/usr/bin/dialtone"
	}
	return path
}
