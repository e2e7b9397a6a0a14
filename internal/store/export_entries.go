package store

import (
	"errors"
	"fmt"

	"dialtone/internal/account"
	"dialtone/internal/digest"
	"dialtone/internal/phone"
	"dialtone/internal/tenant"
)

// bring has the directory follow a subject.
func bring(tx transaction, open opener, s subject) error {
	if s == tenantsSubject {
		return bringDomains(tx)
	}
	p, err := readPage(tx, open, `uid = $1`, []byte(s))
	if err != nil {
		return err
	}
	if len(p) == 0 {
		_, err := tx.exec(`DELETE FROM dialtone_directory.entry WHERE uid = $1`, []byte(s))
		return err
	}
	return putEntry(tx, p[0])
}

// readPage reads the accounts that phone servers may know of, as entries.
func readPage(q querier, open opener, where string, args ...any) (list []phone.Listing, err error) {
	err = q.each(func(row scanner) error {
		var realm string
		a, err := scanAccount(prefixed{row, []any{&realm}})
		if err != nil || !phone.Listed(a) {
			return err
		}
		if open == nil {
			return errNoKeys
		}
		c, err := open(a)
		if err != nil {
			return fmt.Errorf("account %s: %w", a.User, err)
		}
		list = append(list, phone.Listing{UID: a.UID, User: a.User, Realm: realm, Role: a.Role, Credential: c})
		return nil
	}, `SELECT (SELECT realm FROM tenant t WHERE t.id = account.tenant), `+accountColumns+` FROM account WHERE closed IS NULL
		AND activated IS NOT NULL AND NOT held AND `+where, args...)
	return list, err
}

const entryColumns = `uid, realm, username, address, role, ha1, ha1b, ha1_sha256`

func putEntry(tx transaction, e phone.Listing) error {
	var b, sha256 string
	if e.HA1B != nil {
		b = e.HA1B.Hex()
	}
	if e.SHA256 != nil {
		sha256 = e.SHA256.Hex()
	}
	_, err := tx.exec(`INSERT INTO dialtone_directory.entry (`+entryColumns+`) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
		ON CONFLICT (uid) DO UPDATE SET realm = excluded.realm, username = excluded.username, address = excluded.address, role = excluded.role,
		ha1 = excluded.ha1, ha1b = excluded.ha1b, ha1_sha256 = excluded.ha1_sha256`,
		e.UID[:], e.Realm, e.User, e.Address(), string(e.Role), e.HA1.Hex(), b, sha256)
	return err
}

// scanEntry reads an entry. One that nobody here has written is damaged.
func scanEntry(row scanner) (e phone.Listing, damaged bool, err error) {
	var uid []byte
	var address, role, ha1, b, sha256 string
	if err := row.Scan(&uid, &e.Realm, &e.User, &address, &role, &ha1, &b, &sha256); err != nil {
		return e, false, err
	}
	copy(e.UID[:], uid)
	e.Role = account.Role(role)
	var bad [3]error
	e.HA1, bad[0] = digest.ParseHA1(ha1)
	if b != "" {
		e.HA1B = new(digest.HA1)
		*e.HA1B, bad[1] = digest.ParseHA1(b)
	}
	if sha256 != "" {
		e.SHA256 = new(digest.HA1SHA256)
		*e.SHA256, bad[2] = digest.ParseHA1SHA256(sha256)
	}
	return e, errors.Join(bad[:]...) != nil || address != e.Address() || len(uid) != len(e.UID), nil
}

// domains are those that there should be, and those that there are, by name.
func domains(q querier) (should, are map[string]phone.Domain, err error) {
	var tenants []tenant.Tenant
	err = q.each(func(row scanner) error {
		var t tenant.Tenant
		err := row.Scan(&t.ID, &t.Host, &t.Realm)
		tenants = append(tenants, t)
		return err
	}, `SELECT id, host, realm FROM tenant ORDER BY id`)
	if err != nil {
		return nil, nil, err
	}
	should, are = make(map[string]phone.Domain), make(map[string]phone.Domain)
	for _, d := range phone.Domains(tenants) {
		should[d.Name] = d
	}
	err = q.each(func(row scanner) error {
		var d phone.Domain
		err := row.Scan(&d.Name, &d.Realm, &d.Tenant)
		are[d.Name] = d
		return err
	}, `SELECT domain, realm, tenant FROM dialtone_directory.realm`)
	return should, are, err
}

// bringDomains has the directory follow the tenants. The entries of those that are gone go with them.
func bringDomains(tx transaction) error {
	should, are, err := domains(tx)
	if err != nil {
		return err
	}
	live := make(map[int64]bool)
	for _, d := range should {
		live[d.Tenant] = true
	}
	for name, d := range are {
		if !live[d.Tenant] {
			if _, err := tx.exec(`DELETE FROM dialtone_directory.entry WHERE realm = $1`, d.Realm); err != nil {
				return err
			}
		}
		if should[name] != d {
			if _, err := tx.exec(`DELETE FROM dialtone_directory.realm WHERE domain = $1`, name); err != nil {
				return err
			}
		}
	}
	for name, d := range should {
		if are[name] != d {
			if _, err := tx.exec(`INSERT INTO dialtone_directory.realm (domain, realm, tenant) VALUES ($1, $2, $3)`, d.Name, d.Realm, d.Tenant); err != nil {
				return err
			}
		}
	}
	return nil
}
