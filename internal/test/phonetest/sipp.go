package phonetest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"dialtone/internal/test/process"
)

// Registrations registers phones with sipp, one for each user and 60 at a time, and returns how long
// that took. Each user name is also the password.
func (s *Server) Registrations(t testing.TB, users []string, domain string) time.Duration {
	t.Helper()
	var list strings.Builder
	list.WriteString("SEQUENTIAL\n")
	for _, u := range users {
		fmt.Fprintf(&list, "%s;%s;[authentication username=%[1]s password=%[1]s]\n", u, domain)
	}
	dir := t.TempDir()
	fields := filepath.Join(dir, "users.csv")
	if err := os.WriteFile(fields, []byte(list.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	_, here, _, _ := runtime.Caller(0)
	scenario := filepath.Join(filepath.Dir(here), "testdata", "register.xml")
	cmd := exec.CommandContext(t.Context(), process.Find(t, "sipp"), s.address(), "-i", "127.0.0.1",
		"-sf", scenario, "-inf", fields, "-m", strconv.Itoa(len(users)), "-l", "60", "-r", "100000",
		"-nostdin", "-trace_err", "-error_file", filepath.Join(dir, "errors"))
	cmd.Dir = dir
	start := time.Now()
	out, err := cmd.CombinedOutput()
	took := time.Since(start)
	if err != nil {
		errors, _ := os.ReadFile(filepath.Join(dir, "errors"))
		t.Fatalf("sipp: %v\n%s\n%s", err, out[max(0, len(out)-3000):], errors[:min(len(errors), 2000)])
	}
	return took
}
