package main

import (
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"dialtone/internal/account"
	"dialtone/internal/audit"
	"dialtone/internal/operator"
	"dialtone/internal/outbox"
	"dialtone/internal/secret/keyfile"
	"dialtone/internal/store"
	"dialtone/internal/test/process"
	"dialtone/internal/test/teststore"
)

// withBots returns the data directory of a server that has stopped, the open store in it, and its tenant, to which it
// has added accounts (addBots).
func withBots(t *testing.T, bots int) (data string, s *store.Store, tn int64) {
	t.Helper()
	data = filepath.Join(t.TempDir(), "data")
	start(t, launch{data: data}).mustStop(t)
	ring, err := keyfile.Read(filepath.Join(data, "keys", "seal.key"))
	if err != nil {
		t.Fatal(err)
	}
	s, err = teststore.Open(t.Context(), filepath.Join(data, "dialtone.db"), ring)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	tenants, _, err := s.Tenants(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	addBots(t, s, tenants[0].ID, bots)
	return data, s, tenants[0].ID
}

// A bulk change continues after the command and the servers that worked on it were killed. It
// changes each account exactly once.
func TestKilledBulkChange(t *testing.T) {
	t.Parallel()
	const bots = 2000
	data, s, tn := withBots(t, bots)

	progress := func() (b operator.Bulk) {
		t.Helper()
		list, err := s.Bulks(t.Context(), tn, 1)
		if err != nil {
			t.Fatal(err)
		}
		if len(list) > 0 {
			b = list[0]
		}
		return b
	}
	// killed kills a process after it has changed some more accounts, long before the end, since a
	// busy machine may check late.
	killed := func(p *process.Process) {
		t.Helper()
		before := progress().Done
		process.Eventually(t, "the bulk change", func() error {
			if b := progress(); b.Done == before {
				return fmt.Errorf("%+v", b)
			}
			return nil
		})
		p.Kill()
		if b := progress(); b.State != operator.BulkRunning || b.Done == bots {
			t.Fatalf("the bulk change was over too soon: %+v", b)
		}
	}
	cmd := exec.Command(binary(t), "account", "bulk", "delete", "--text=bot", fmt.Sprint("--count=", bots),
		"--data", data)
	p, err := process.Start(cmd, syscall.SIGKILL)
	if err != nil {
		t.Fatal(err)
	}
	killed(p)
	for range 2 {
		killed(start(t, launch{data: data}).Process)
	}
	server := start(t, launch{data: data})
	for last := progress(); last.State != operator.BulkDone; last = progress() {
		process.Eventually(t, "more of the bulk change, or its end", func() error {
			if b := progress(); b.State != operator.BulkDone && b.Done == last.Done {
				return fmt.Errorf("%+v", b)
			}
			return nil
		})
	}
	server.mustStop(t)
	if b := progress(); b.Found != bots || b.Done != bots {
		t.Errorf("at the end: %+v", b)
	}
	var left []string
	err = s.List(t.Context(), tn, time.Now(), func(a account.Account) error {
		left = append(left, a.User)
		return nil
	})
	if err != nil || len(left) != 1 || left[0] != "ann" {
		t.Errorf("%d accounts are left, %v", len(left), err)
	}
	deleted := make(map[string]int)
	err = s.Changes(t.Context(), audit.Filter{Action: string(audit.AccountDelete)}, func(c audit.Change) error {
		deleted[c.User]++
		return nil
	})
	if err != nil || len(deleted) != bots {
		t.Errorf("the audit trail has %d deleted accounts, %v", len(deleted), err)
	}
	for user, n := range deleted {
		if n != 1 || !strings.HasPrefix(user, "bot") {
			t.Errorf("%s was deleted %d times", user, n)
		}
	}
}

// addBots adds accounts: bot0 and so on, half of them active, and ann.
func addBots(t *testing.T, s *store.Store, tenant int64, n int) {
	t.Helper()
	var all sync.WaitGroup
	const workers = 64
	errs := make([]error, workers)
	at := time.Now().Add(-time.Minute)
	for w := range workers {
		all.Go(func() {
			for i := w; i <= n && errs[w] == nil; i += workers {
				user := fmt.Sprint("bot", i)
				if i == n {
					user = "ann"
				}
				a := teststore.SignupAt(tenant, user, at)
				errs[w] = s.Create(t.Context(), a, at)
				if errs[w] == nil {
					message := outbox.Ref{Tenant: tenant, Account: a.Account.UID, Message: a.Message}
					_, errs[w] = s.Ack(t.Context(), []outbox.Ref{message}, time.Now())
				}
				if i%2 == 0 && errs[w] == nil {
					_, errs[w] = s.Activate(t.Context(), tenant, a.Token, at)
				}
			}
		})
	}
	all.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

// On a terminal, the number of accounts has to be typed.
func TestBulkOnTerminal(t *testing.T) {
	data, s, tn := withBots(t, 12)
	for _, c := range []struct {
		typed  string
		status int
		says   string
	}{
		{"13\n", exitFailed, "nothing was changed, because the answer was not 12"},
		{"yes\n", exitFailed, "nothing was changed"},
		{"12\n", 0, "disabled 12 accounts"},
	} {
		cmd := exec.Command(binary(t), "account", "bulk", "disable", "--text=bot", "--data", data)
		cmd.Env, cmd.Stdin = []string{}, newTerminal(t, c.typed)
		text, _ := cmd.CombinedOutput()
		status, out := cmd.ProcessState.ExitCode(), string(text)
		for _, says := range []string{
			c.says, "12 accounts found at localhost", "and 2 more",
			"Type the number of accounts, 12, to disable them: ",
		} {
			if status != c.status || !strings.Contains(out, says) {
				t.Errorf("%q: status %d, and this is missing: %s\n%s", c.typed, status, says, out)
			}
		}
	}
	list, err := s.Bulks(t.Context(), tn, 10)
	if err != nil || len(list) != 3 || list[0].State != operator.BulkDone || list[1].State != operator.BulkUnconfirmed {
		t.Errorf("the bulk changes are %+v, %v", list, err)
	}
}
