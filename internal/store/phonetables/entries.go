package phonetables

import (
	"errors"

	"dialtone/internal/account"
	"dialtone/internal/digest"
	"dialtone/internal/export"
	"dialtone/internal/store/engine"
	"dialtone/internal/tenant"
)

// candidate is an active account, with its entry, or with the reason why it has none.
type candidate struct {
	export.Entry // without the credential if err is set
	err          error
}

// update derives the entries of a subject again.
func update(tx engine.Tx, b backend, open opener, s Subject) error {
	if s == Tenants {
		return updateDomains(tx)
	}
	p, err := readPage(tx, open, `uid = $1`, []byte(s))
	if err != nil {
		return err
	}
	if len(p) == 0 {
		return deleteEntry(tx, []byte(s))
	}
	return put(tx, b, p[0])
}

// put writes the entry of an account. An account whose credential does not open loses its entry and
// is recorded as missing, so that other accounts still get their entries.
func put(tx engine.Tx, b backend, c candidate) error {
	if c.err == nil {
		return putEntry(tx, c.Entry)
	}
	if err := b.prepareMissing(tx); err != nil {
		return err
	}
	_, err := tx.Exec(`INSERT INTO dialtone_directory.missing (uid) VALUES ($1) ON CONFLICT DO NOTHING`, c.UID[:])
	if err != nil {
		return err
	}
	return deleteEntry(tx, c.UID[:])
}

func deleteEntry(tx engine.Tx, uid []byte) error {
	_, err := tx.Exec(`DELETE FROM dialtone_directory.entry WHERE uid = $1`, uid)
	return err
}

// readPage returns the accounts that meet a condition and that phone servers may know.
func readPage(q engine.Querier, open opener, where string, args ...any) (list []candidate, err error) {
	err = q.Each(func(row engine.Scanner) error {
		var a account.Account
		var uid []byte
		var realm, role string
		err := row.Scan(&realm, &uid, &a.Tenant, &a.User, &role, &a.Disabled, &a.Sealed)
		if err != nil || !export.Includes(a) {
			return err
		}
		copy(a.UID[:], uid)
		a.Role = account.Role(role)
		if open == nil {
			return errNoKeys
		}
		c, err := open(a)
		list = append(list, candidate{
			export.Entry{UID: a.UID, User: a.User, Realm: realm, Role: a.Role, Credential: c}, err,
		})
		return nil
	}, `SELECT (SELECT realm FROM tenant t WHERE t.id = account.tenant), uid, tenant, username, role,
		held OR activated IS NULL, credential
		FROM account WHERE closed IS NULL AND activated IS NOT NULL AND NOT held AND `+where, args...)
	return list, err
}

// isMissing is the condition that an account recorded as missing, m, is active and still has no
// entry. So the record need not be removed when that changes.
const isMissing = `EXISTS (SELECT 1 FROM account a
		WHERE a.uid = m.uid AND a.closed IS NULL AND a.activated IS NOT NULL AND NOT a.held)
	AND NOT EXISTS (SELECT 1 FROM dialtone_directory.entry e WHERE e.uid = m.uid)`

// readMissing returns the missing accounts in the order of hosts and user names.
func readMissing(q engine.Querier, b backend) ([]export.Missing, error) {
	list := []export.Missing{}
	if has, err := b.hasMissing(q); err != nil || !has {
		return list, err
	}
	err := q.Each(func(row engine.Scanner) error {
		var m export.Missing
		var uid []byte
		if err := row.Scan(&uid, &m.User, &m.Tenant); err != nil {
			return err
		}
		copy(m.UID[:], uid)
		m.ID = m.UID.String()
		list = append(list, m)
		return nil
	}, `SELECT m.uid, account.username, tenant.host FROM dialtone_directory.missing m
		JOIN account ON account.uid = m.uid JOIN tenant ON tenant.id = account.tenant
		WHERE `+isMissing+` ORDER BY tenant.host, account.username`)
	return list, err
}

// pruneMissing removes the records of accounts that are no longer missing.
func pruneMissing(tx engine.Tx, b backend) error {
	if has, err := b.hasMissing(tx); err != nil || !has {
		return err
	}
	_, err := tx.Exec(`DELETE FROM dialtone_directory.missing WHERE uid NOT IN
		(SELECT uid FROM dialtone_directory.missing m WHERE ` + isMissing + `)`)
	return err
}

const entryColumns = `uid, realm, username, address, role, ha1, ha1b, ha1_sha256`

func putEntry(tx engine.Tx, e export.Entry) error {
	var b, sha256 string
	if e.HA1B != nil {
		b = e.HA1B.Hex()
	}
	if e.SHA256 != nil {
		sha256 = e.SHA256.Hex()
	}
	_, err := tx.Exec(`INSERT INTO dialtone_directory.entry (`+entryColumns+`) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
		ON CONFLICT (uid) DO UPDATE SET realm = excluded.realm, username = excluded.username,
		address = excluded.address, role = excluded.role, ha1 = excluded.ha1,
		ha1b = excluded.ha1b, ha1_sha256 = excluded.ha1_sha256`,
		e.UID[:], e.Realm, e.User, e.Address(), string(e.Role), e.HA1.Hex(), b, sha256)
	return err
}

// scanEntry reads an entry. An entry that this package cannot have written is damaged.
func scanEntry(row engine.Scanner) (e export.Entry, damaged bool, err error) {
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

// domains returns the domains that should be in the tables, and those that are, by name.
func domains(q engine.Querier) (expected, actual map[string]export.Domain, err error) {
	var tenants []tenant.Tenant
	err = q.Each(func(row engine.Scanner) error {
		var t tenant.Tenant
		err := row.Scan(&t.ID, &t.Host, &t.Realm)
		tenants = append(tenants, t)
		return err
	}, `SELECT id, host, realm FROM tenant ORDER BY id`)
	if err != nil {
		return nil, nil, err
	}
	expected, actual = make(map[string]export.Domain), make(map[string]export.Domain)
	for _, d := range export.Domains(tenants) {
		expected[d.Name] = d
	}
	err = q.Each(func(row engine.Scanner) error {
		var d export.Domain
		err := row.Scan(&d.Name, &d.Realm, &d.Tenant)
		actual[d.Name] = d
		return err
	}, `SELECT domain, realm, tenant FROM dialtone_directory.realm`)
	return expected, actual, err
}

// updateDomains derives the domains from the tenants again. It removes the entries of removed
// tenants.
func updateDomains(tx engine.Tx) error {
	expected, actual, err := domains(tx)
	if err != nil {
		return err
	}
	live := make(map[int64]bool)
	for _, d := range expected {
		live[d.Tenant] = true
	}
	for name, d := range actual {
		if !live[d.Tenant] {
			if _, err := tx.Exec(`DELETE FROM dialtone_directory.entry WHERE realm = $1`, d.Realm); err != nil {
				return err
			}
		}
		if expected[name] != d {
			if _, err := tx.Exec(`DELETE FROM dialtone_directory.realm WHERE domain = $1`, name); err != nil {
				return err
			}
		}
	}
	for name, d := range expected {
		if actual[name] != d {
			_, err := tx.Exec(`INSERT INTO dialtone_directory.realm (domain, realm, tenant) VALUES ($1, $2, $3)`,
				d.Name, d.Realm, d.Tenant)
			if err != nil {
				return err
			}
		}
	}
	return nil
}
