package restore

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"dialtone/cmd/dialtone/internal/installation"
	"dialtone/cmd/dialtone/internal/runas"
	"dialtone/cmd/dialtone/internal/terminal"
	"dialtone/internal/account"
	"dialtone/internal/audit"
	"dialtone/internal/fault"
	"dialtone/internal/operator"
	"dialtone/internal/operator/opjson"
	"dialtone/internal/store"
	"dialtone/internal/store/engine"
	"dialtone/internal/store/sqlite"
	"dialtone/internal/tenant"
)

// maxLater limits the later changes, which are kept in memory.
const maxLater = 5_000_000

// readTrail returns the changes of the later trail that the restored store lacks. It compares earlier changes with
// those of the store, and refuses the trail of another platform.
func (r *restore) readTrail(in *installation.Installation, facts store.Facts) (later []audit.Change, err error) {
	path := r.Trail
	if path == "" {
		return nil, nil
	}
	own, common := make(map[int64]audit.Change), false
	page, err := in.Store.ChangePage(r.ctx, audit.Filter{Newest: true}, "", 1000)
	if err != nil {
		return nil, err
	}
	for _, c := range page.Changes {
		own[c.ID] = c
	}
	add := func(c audit.Change) error {
		switch mine, ok := own[c.ID]; {
		case c.ID > facts.LastChange:
			if len(later) == maxLater {
				return fmt.Errorf("%s has more than %d later changes", path, maxLater)
			}
			later = append(later, c)
		case ok && (mine.Action != c.Action || !mine.At.Equal(c.At) || mine.User != c.User || mine.Tenant != c.Tenant):
			return fault.New(fault.Conflict, "change %d in %s differs from the one in the restored database: this is "+
				"the trail of another platform, or from after another restore", c.ID, path)
		case ok:
			common = true
		}
		return nil
	}
	f, err := runas.OpenNamed(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	magic := make([]byte, 16)
	n, _ := io.ReadFull(f, magic)
	if string(magic[:n]) == "SQLite format 3\x00" {
		err = r.readDamaged(path, facts.NewestAccount, add)
	} else if _, err = f.Seek(0, io.SeekStart); err == nil {
		err = readExport(path, f, add)
	}
	if err == nil && len(later) > 0 && !common && len(own) > 0 {
		fmt.Fprintf(terminal.To(r.Stderr), "warning: %s begins after the last change of the backup, so nothing shows "+
			"that it is the trail of this platform\n", path)
	}
	return later, err
}

// readExport reads the JSON lines that dialtone audit export prints.
func readExport(path string, from io.Reader, add func(audit.Change) error) error {
	const longest = 1 << 20
	lines := bufio.NewScanner(from)
	lines.Buffer(nil, longest)
	for n := 1; lines.Scan(); n++ {
		line := bytes.TrimSpace(lines.Bytes())
		if len(line) == 0 {
			continue
		}
		var v opjson.Change
		if err := json.Unmarshal(line, &v); err != nil || v.Change <= 0 || v.Action == "" {
			return fault.New(fault.Invalid, "line %d of %s is not a change of dialtone audit export", n, path)
		}
		c := audit.Change{
			ID: v.Change, At: v.Time, Action: v.Action, Outcome: v.Outcome, Tenant: v.Tenant, User: v.User,
			Account: v.Account, Subject: v.Subject, Before: v.Before, After: v.After,
		}
		c.Actor.Kind, c.Actor.Name, c.Reason = v.ActorKind, v.Actor, v.Reason
		if err := add(c); err != nil {
			return err
		}
	}
	return lines.Err()
}

// readDamaged reads the audit trail of a damaged database, and counts the accounts in it that are newer than the newest
// account of the backup. It reads a copy and does not change the database.
func (r *restore) readDamaged(path string, newest time.Time, add func(audit.Change) error) error {
	if err := r.staging.Mkdir("lost"); err != nil {
		return err
	}
	to := r.staging.Path("lost/dialtone.db")
	for _, suffix := range []string{"", "-wal"} {
		if err := copyFile(path+suffix, to+suffix); err != nil && (suffix == "" || !os.IsNotExist(err)) {
			return err
		}
	}
	n := 0
	var refused error
	err := sqlite.Read(to, func(q engine.Querier) error {
		return store.ChangesAfter(q, 0, func(c audit.Change) error {
			n++
			refused = add(c)
			return refused
		})
	})
	countErr := sqlite.Read(to, func(q engine.Querier) (err error) {
		r.lostAccounts, err = store.AccountsAfter(q, newest)
		return err
	})
	if refused != nil {
		return refused
	}
	if err != nil {
		fmt.Fprintf(terminal.To(r.Stderr), "warning: the audit trail in %s cannot be read to its end (%d changes "+
			"could): %v\n", path, n, err)
	}
	if countErr != nil {
		fmt.Fprintf(terminal.To(r.Stderr), "warning: the accounts in %s that the backup lacks cannot be counted: %v\n",
			path, countErr)
	}
	return os.RemoveAll(filepath.Dir(to))
}

// copyFile copies a file that may lie in a directory of the owner of the data.
func copyFile(from, to string) error {
	source, err := runas.OpenAsOwner(from)
	if err != nil {
		return err
	}
	defer source.Close()
	f, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, source)
	return errors.Join(err, f.Close())
}

// repeat repeats those later changes that take something away, and lists all later changes.
func (r *restore) repeat(in *installation.Installation, changes []audit.Change) error {
	if r.lostAccounts > 0 {
		r.printf("%s: the owners have to sign up again", terminal.Plural(r.lostAccounts,
			"account that was created after the backup is lost",
			"accounts that were created after the backup are lost"))
	}
	if len(changes) == 0 {
		if r.Trail != "" {
			r.printf("%s has no later changes", r.Trail)
		}
		return nil
	}
	later := operator.SortLater(changes)
	o := in.Operators(r.Log, r.Stderr)
	tenants, _, err := in.Store.Tenants(r.ctx)
	if err != nil {
		return err
	}
	byHost := make(map[string]*tenant.Tenant)
	for i := range tenants {
		byHost[tenants[i].Host] = &tenants[i]
	}
	for _, c := range later.Repeat {
		switch err := r.repeatOne(in, o, byHost[c.Tenant], c); {
		case err == nil:
			r.printf("repeated       %s", laterText(c))
		case fault.Is(err, fault.NotFound), errors.Is(err, errOther):
			r.printf("not applicable %s: not in the backup", laterText(c))
		case fault.KindOf(err) != fault.Internal:
			r.printf("NOT REPEATED   %s: %v", laterText(c), err)
		default:
			return errors.Join(err, o.Flush())
		}
	}
	for _, c := range later.Rest {
		r.printf("not repeated   %s", laterText(c))
	}
	return o.Flush()
}

// errOther means that the user name of a change belongs to another account in the restored store.
var errOther = errors.New("another account has the name")

func (r *restore) repeatOne(
	in *installation.Installation, o *operator.Service, t *tenant.Tenant, c audit.Change,
) error {
	reason := fmt.Sprintf("restore: change %d of %s by %s", c.ID, c.At.Format(time.RFC3339), c.Actor)
	if c.Reason != "" {
		reason += ": " + c.Reason
	}
	const longest = 400
	reason = strings.ToValidUTF8(reason[:min(len(reason), longest)], "")
	if audit.CheckReason(reason) != nil {
		reason = fmt.Sprintf("restore: change %d", c.ID)
	}
	caller := installation.Caller(r.ctx)
	now := time.Now()
	ctx, err := caller.With(r.ctx, reason)
	if err != nil {
		return err
	}
	switch c.Action {
	case audit.TokenRemove:
		return in.Store.RemoveToken(ctx, c.Subject, 0, now)
	case audit.DirectoryTokenRemove:
		return in.Store.RemoveServer(ctx, c.Subject)
	}
	if t == nil {
		return errOther
	}
	a, err := in.Store.Find(ctx, t.ID, c.User, now)
	if err != nil {
		return err
	}
	if a.UID.String() != c.Account {
		return errOther
	}
	switch c.Action {
	case audit.AccountDisable:
		_, err = o.Disable(ctx, caller, t, c.User, reason)
	case audit.AccountRole:
		role := account.Role(c.After)
		if !slices.Contains(account.Roles, role) {
			return fault.New(fault.Invalid, "%q is not a role", c.After)
		}
		_, err = o.SetRole(ctx, caller, t, c.User, reason, role)
	case audit.AccountDelete, audit.AccountDecline:
		_, err = o.Delete(ctx, caller, t, c.User, reason)
	}
	return err
}

// laterText describes a later change on one line.
func laterText(c audit.Change) string {
	words := []string{fmt.Sprintf("change %d of %s: %s", c.ID, c.At.UTC().Format(time.RFC3339), c.Action)}
	if c.User != "" {
		words = append(words, c.User+"@"+c.Tenant)
	} else if c.Tenant != "" {
		words = append(words, c.Tenant)
	}
	if c.Subject != "" {
		words = append(words, c.Subject)
	}
	if c.Action == audit.AccountRole {
		words = append(words, "to "+c.After)
	}
	if c.Actor.String() != "" {
		words = append(words, "by "+c.Actor.String())
	}
	if c.Outcome != audit.OK {
		words = append(words, "("+c.Outcome+")")
	}
	return strings.Join(words, " ")
}
