// Package exporter writes the accounts of a tenant to files that operators name, for the commands account export and
// directory htdigest.
//
// An account whose credential does not open is left out of a file with credentials, and the caller learns its name. A
// file is written as a whole, by the user who started the command, while the store is read by the owner of the data
// (package runas).
//
// The package does not update files while accounts change: the server does (package htdigest).
package exporter

import (
	"context"
	"errors"
	"io"
	"strings"
	"time"

	"dialtone/cmd/dialtone/internal/outfile"
	"dialtone/cmd/dialtone/internal/runas"
	"dialtone/internal/account"
	"dialtone/internal/audit"
	"dialtone/internal/digest"
	"dialtone/internal/export"
	"dialtone/internal/export/htdigest"
	"dialtone/internal/secret"
	"dialtone/internal/tenant"
	"dialtone/internal/userfile"
)

// Source is the tenant whose accounts are exported, with its store and the key of the credentials.
type Source struct {
	Store interface {
		List(ctx context.Context, tenant int64, now time.Time, each func(account.Account) error) error
	}
	Seal   *secret.Ring
	Tenant *tenant.Tenant
}

// each calls do for each account that include selects. With credentials, it passes the credential, and returns the
// accounts whose credentials do not open instead of calling do for them. Otherwise the credential is nil.
func (s Source) each(ctx context.Context, include func(account.Account) bool, credentials bool,
	do func(account.Account, *digest.Credential) error) (left []export.Missing, err error) {
	open := account.Opener(s.Seal)
	err = s.Store.List(ctx, s.Tenant.ID, time.Now(), func(a account.Account) error {
		if !include(a) {
			return nil
		}
		if !credentials {
			return do(a, nil)
		}
		c, err := open(a)
		if err != nil {
			left = append(left, export.Missing{UID: a.UID, ID: a.UID.String(), User: a.User, Tenant: s.Tenant.Host})
			return nil
		}
		return do(a, &c)
	})
	return left, err
}

// Accounts is an export of accounts in the format of another platform.
type Accounts struct {
	Source
	Format      userfile.Format
	States      []account.State
	Credentials bool // whether to write HA1s
}

// Written is what was exported.
type Written struct {
	Accounts int64
	Left     []export.Missing // the accounts that were left out
}

// WriteFile writes the accounts to a file. Without replace, it fails if the file exists.
func (x Accounts) WriteFile(ctx context.Context, path string, replace bool) (w Written, err error) {
	err = outfile.Write(path, replace, func(to io.Writer) error {
		w, err = x.Write(ctx, to)
		return err
	})
	return w, err
}

// Write writes the accounts to a writer.
func (x Accounts) Write(ctx context.Context, to io.Writer) (w Written, err error) {
	out, err := userfile.NewWriter(x.Format, to, "accounts of "+x.Tenant.Host+", by dialtone account export")
	if err != nil {
		return w, err
	}
	states := make(map[account.State]bool)
	for _, s := range x.States {
		states[s] = true
	}
	include := func(a account.Account) bool { return states[a.State()] }
	w.Left, err = x.each(ctx, include, x.Credentials, func(a account.Account, c *digest.Credential) error {
		w.Accounts++
		return out.Write(userfile.Exported{Account: a, Realm: x.Tenant.Realm, Credential: c})
	})
	return w, errors.Join(err, out.Close())
}

// Change returns the change in the audit trail for writing the accounts to a file.
func (x Accounts) Change(file string) audit.Change {
	with := "without credentials"
	if x.Credentials {
		with = "with credentials"
	}
	return audit.Change{
		Action: audit.AccountExport, Tenant: x.Tenant.Host, After: with,
		Subject: string(x.Format) + " " + strings.ToValidUTF8(file, "?"),
	}
}

// WriteHtdigest writes the accounts that phone servers may see to a file for Apache, and replaces an existing one. It
// works without the export of tables, since it opens the credentials itself. It returns the accounts that were left
// out.
func (s Source) WriteHtdigest(ctx context.Context, path string) (left []export.Missing, err error) {
	entries := func(yield func(export.Entry) error) (err error) {
		left, err = s.each(ctx, export.Includes, true, func(a account.Account, c *digest.Credential) error {
			return yield(export.Entry{UID: a.UID, User: a.User, Realm: s.Tenant.Realm, Role: a.Role, Credential: *c})
		})
		return err
	}
	err = runas.AsCaller(func() error {
		_, err := htdigest.Write(path, func(yield func(export.Entry) error) error {
			return runas.AsOwner(func() error { return entries(yield) })
		})
		return err
	})
	return left, err
}
