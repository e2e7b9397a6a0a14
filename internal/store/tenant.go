package store

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"time"

	"dialtone/internal/account"
	"dialtone/internal/audit"
	"dialtone/internal/digest"
	"dialtone/internal/fault"
	"dialtone/internal/hook"
	"dialtone/internal/store/admission"
	"dialtone/internal/store/engine"
	"dialtone/internal/store/phonetables"
	"dialtone/internal/tenant"
)

var _ tenant.Store = (*Store)(nil)

// tenantsLock is the key of the lock under which tenants are added and changed.
var tenantsLock = admission.Key("tenants", 0, nil)

// allTenants is the subject of a change of a tenant: the exported domains depend on all tenants.
var allTenants = []phonetables.Subject{phonetables.Tenants}

// AddTenant implements tenant.Store.
func (s *Store) AddTenant(ctx context.Context, t tenant.Tenant) (tenant.Tenant, error) {
	event, e := account.NewUID(t.Created), entry(ctx, audit.TenantAdd, t.Created)
	defer s.signalAdded()
	err := s.tables.Write(func(tx engine.Tx) (_ []phonetables.Subject, err error) {
		if err := tx.Lock(tenantsLock); err != nil {
			return nil, err
		}
		if tx.Repeated() {
			err := tx.Row(`SELECT id FROM tenant WHERE host = $1 AND realm = $2 AND created = $3`,
				t.Host, t.Realm, engine.Micros(t.Created)).Scan(&t.ID)
			if !errors.Is(err, sql.ErrNoRows) {
				return allTenants, err
			}
		}
		if t.ID, err = addTenant(tx, t); err == nil {
			err = insertTenantNotifications(tx, hook.TenantAdded, event, t.ID, t.Created)
		}
		if err == nil {
			e.Tenant = t.Host
			err = e.add(tx)
		}
		return allTenants, err
	})
	return t, err
}

// checkHostAndRealmFree fails with fault.Conflict if another tenant has the host or the realm of t.
func checkHostAndRealmFree(q engine.Querier, t tenant.Tenant) error {
	var one int
	err := q.Row(`SELECT 1 FROM tenant WHERE host = $1`, t.Host).Scan(&one)
	if err == nil {
		return fault.New(fault.Conflict,
			"there is a tenant %s already; change it with: dialtone tenant set %s", t.Host, t.Host)
	} else if !errors.Is(err, sql.ErrNoRows) {
		return err
	}
	return checkRealmFree(q, t)
}

// AddFirstTenant implements tenant.Store.
func (s *Store) AddFirstTenant(ctx context.Context, t tenant.Tenant) error {
	e := entry(ctx, audit.TenantAdd, t.Created)
	return s.tables.Write(func(tx engine.Tx) ([]phonetables.Subject, error) {
		if err := tx.Lock(tenantsLock); err != nil {
			return nil, err
		}
		var one int
		err := tx.Row(`SELECT 1 FROM tenant LIMIT 1`).Scan(&one)
		if !errors.Is(err, sql.ErrNoRows) {
			return nil, err
		}
		if _, err = addTenant(tx, t); err == nil {
			e.Tenant = t.Host
			err = e.add(tx)
		}
		return allTenants, err
	})
}

func addTenant(tx engine.Tx, t tenant.Tenant) (int64, error) {
	if err := checkHostAndRealmFree(tx, t); err != nil {
		return 0, err
	}
	settings, err := json.Marshal(t.Settings)
	if err != nil {
		return 0, err
	}
	var id int64
	err = tx.Row(`INSERT INTO tenant (host, realm, public_url, settings, created, logo_type, logo)
		VALUES ($1, $2, $3, $4, $5, $6, $7) RETURNING id`, t.Host, t.Realm, t.PublicURL, string(settings),
		engine.Micros(t.Created), t.Logo.Type, logoData(t)).Scan(&id)
	if err != nil {
		return 0, err
	}
	return id, tenantsChanged(tx)
}

// logoData returns the bytes of a tenant's logo. They are not nil, which would be stored as NULL.
func logoData(t tenant.Tenant) []byte { return append([]byte{}, t.Logo.Data...) }

// checkRealmFree fails with fault.Conflict if another tenant has the realm of t.
func checkRealmFree(q engine.Querier, t tenant.Tenant) error {
	var host string
	err := q.Row(`SELECT host FROM tenant WHERE lower(realm) = lower($1) AND id <> $2`, t.Realm, t.ID).Scan(&host)
	if err == nil {
		return fault.New(fault.Conflict, "the realm %q is that of the tenant %s; two tenants with one realm would "+
			"share their passwords' hashes, so choose another", t.Realm, host)
	} else if !errors.Is(err, sql.ErrNoRows) {
		return err
	}
	return nil
}

// tenantsChanged increments the version of the tenants.
func tenantsChanged(tx engine.Tx) error {
	_, err := tx.Exec(`UPDATE revision SET n = n + 1 WHERE subject = 'tenant'`)
	return err
}

// SetTenant implements tenant.Store.
func (s *Store) SetTenant(ctx context.Context, t tenant.Tenant, now time.Time) error {
	event, e := account.NewUID(now), entry(ctx, audit.TenantSet, now)
	defer s.signalAdded()
	return s.tables.Write(func(tx engine.Tx) ([]phonetables.Subject, error) {
		return allTenants, setTenant(ctx, tx, t, event, e)
	})
}

func setTenant(ctx context.Context, tx engine.Tx, t tenant.Tenant, event account.UID, e *trailEntry) error {
	now := e.At
	if err := tx.Lock(tenantsLock); err != nil {
		return err
	}
	var realm, url, oldSettings string
	var oldLogo tenant.Logo
	err := tx.Row(`SELECT realm, public_url, settings, logo_type, logo FROM tenant WHERE id = $1`, t.ID).
		Scan(&realm, &url, &oldSettings, &oldLogo.Type, &oldLogo.Data)
	if errors.Is(err, sql.ErrNoRows) {
		return noTenant(t.Host)
	}
	if err != nil {
		return err
	}
	if want, ok := tenant.RequiredVersion(ctx); ok {
		old := tenant.Tenant{ID: t.ID, Host: t.Host, Realm: realm, PublicURL: url}
		if err := json.Unmarshal([]byte(oldSettings), &old.Settings); err != nil {
			return err
		}
		if len(oldLogo.Data) > 0 {
			old.Logo = oldLogo
		}
		if old.Version() != want {
			if tx.Repeated() { // then an earlier run may have made the change
				if added, err := e.added(tx); added || err != nil {
					return err
				}
			}
			return tenant.ErrChanged
		}
	}
	if realm != t.Realm {
		n, err := engine.Count(tx, `SELECT count(*) FROM account WHERE tenant = $2 AND `+live, engine.Micros(now), t.ID)
		if err != nil {
			return err
		}
		if n > 0 {
			return fault.New(fault.Conflict, "the realm of %s cannot change while it has accounts (%d): every "+
				"password's hash contains the realm, and none would match any more", t.Host, n)
		}
		if err := checkRealmFree(tx, t); err != nil {
			return err
		}
	}
	if t.Challenge() == digest.SHA256 {
		n, err := engine.Count(tx, `SELECT count(*) FROM account WHERE tenant = $2 AND NOT has_sha256 AND `+live,
			engine.Micros(now), t.ID)
		if err != nil {
			return err
		}
		if n > 0 {
			return fault.New(fault.Conflict,
				"%s keeps MD5, because accounts without a SHA-256 digest could not sign in: %d; "+
					"the digest is stored at signup where the client sends ha1_sha256", t.Host, n)
		}
	}
	settings, err := json.Marshal(t.Settings)
	if err != nil {
		return err
	}
	_, err = tx.Exec(`UPDATE tenant SET realm = $2, public_url = $3, settings = $4, logo_type = $5, logo = $6
		WHERE id = $1`, t.ID, t.Realm, t.PublicURL, string(settings), t.Logo.Type, logoData(t))
	if err != nil {
		return err
	}
	return tenantSet(tx, t, event, e, tenantValues{realm, url, describeLogo(oldLogo), json.RawMessage(oldSettings)},
		tenantValues{t.Realm, t.PublicURL, describeLogo(t.Logo), settings})
}

// tenantSet adds the notifications and the entry in the trail for a change of a tenant.
func tenantSet(tx engine.Tx, t tenant.Tenant, event account.UID, e *trailEntry, was, is tenantValues) error {
	if err := insertTenantNotifications(tx, hook.TenantChanged, event, t.ID, e.At); err != nil {
		return err
	}
	before, after, err := changedSettings(was, is)
	if err != nil {
		return err
	}
	e.Tenant = t.Host
	if err := e.values(before, after).add(tx); err != nil {
		return err
	}
	return tenantsChanged(tx)
}

// tenantValues holds the values of a tenant that can change.
type tenantValues struct {
	Realm     string          `json:"realm"`
	PublicURL string          `json:"public_url"`
	Logo      string          `json:"logo"` // in words
	Settings  json.RawMessage `json:"-"`    // a JSON object
}

// describeLogo returns a few words that differ for different logos.
func describeLogo(l tenant.Logo) string {
	if len(l.Data) == 0 {
		return ""
	}
	return fmt.Sprintf("%s, %d bytes, SHA-256 %x", l.Type, len(l.Data), sha256.Sum256(l.Data))
}

// changedSettings returns the values that differ, as two JSON objects.
func changedSettings(before, after tenantValues) (was, is string, err error) {
	a, b := make(map[string]any), make(map[string]any)
	for _, side := range []struct {
		values  tenantValues
		members map[string]any
	}{{before, a}, {after, b}} {
		text, err := json.Marshal(side.values)
		if err != nil {
			return "", "", err
		}
		for _, object := range [][]byte{text, side.values.Settings} {
			if err := json.Unmarshal(object, &side.members); err != nil {
				return "", "", err
			}
		}
	}
	for name, value := range a {
		if other, ok := b[name]; ok && reflect.DeepEqual(value, other) {
			delete(a, name)
			delete(b, name)
		}
	}
	wasText, err := json.Marshal(a)
	if err != nil {
		return "", "", err
	}
	isText, err := json.Marshal(b)
	return string(wasText), string(isText), err
}

func noTenant(host string) error {
	return fault.New(fault.NotFound, "there is no tenant %s; see: dialtone tenant list", host)
}

// RemoveTenant implements tenant.Store.
func (s *Store) RemoveTenant(ctx context.Context, host string, accounts bool, now time.Time) error {
	event, e := account.NewUID(now), entry(ctx, audit.TenantRemove, now)
	defer s.signalAdded()
	return s.tables.Write(func(tx engine.Tx) ([]phonetables.Subject, error) {
		return allTenants, removeTenant(tx, host, accounts, event, e)
	})
}

func removeTenant(tx engine.Tx, host string, accounts bool, event account.UID, e *trailEntry) error {
	now := e.At
	if err := tx.Lock(tenantsLock); err != nil {
		return err
	}
	var id int64
	err := tx.Row(`SELECT id FROM tenant WHERE host = $1`, host).Scan(&id)
	if errors.Is(err, sql.ErrNoRows) {
		if tx.Repeated() {
			return nil
		}
		return noTenant(host)
	}
	if err != nil {
		return err
	}
	n, err := engine.Count(tx, `SELECT count(*) FROM account WHERE tenant = $2 AND `+live, engine.Micros(now), id)
	if err != nil {
		return err
	}
	if n > 0 && !accounts {
		return fault.New(fault.Conflict,
			"the tenant %s has accounts (%d); to remove them too, add --with-accounts", host, n)
	}
	if err := insertRemovalNotifications(tx, event, id, now); err != nil {
		return err
	}
	if err := insertTenantNotifications(tx, hook.TenantRemoved, event, id, now); err != nil {
		return err
	}
	if _, err := tx.Exec(`DELETE FROM hook_tenant WHERE tenant = $1`, id); err != nil {
		return err
	}
	if _, err := tx.Exec(`DELETE FROM account WHERE tenant = $1`, id); err != nil {
		return err
	}
	if err := clearPersonal(tx, id, ""); err != nil {
		return err
	}
	if _, err := tx.Exec(`DELETE FROM tenant WHERE id = $1`, id); err != nil {
		return err
	}
	e.Tenant = host
	if n > 0 {
		e.Before = fmt.Sprintf("%d accounts", n)
	}
	if err := e.add(tx); err != nil {
		return err
	}
	return tenantsChanged(tx)
}

const tenantColumns = `id, host, realm, public_url, settings, created, logo_type, logo`

func scanTenant(row engine.Scanner) (t tenant.Tenant, err error) {
	var settings string
	var created int64
	err = row.Scan(&t.ID, &t.Host, &t.Realm, &t.PublicURL, &settings, &created, &t.Logo.Type, &t.Logo.Data)
	if err != nil {
		return t, err
	}
	if len(t.Logo.Data) == 0 {
		t.Logo = tenant.Logo{}
	}
	t.Created = engine.FromMicros(created)
	return t, json.Unmarshal([]byte(settings), &t.Settings)
}

// Tenant implements operator.Store.
func (s *Store) Tenant(ctx context.Context, id int64) (tenant.Tenant, error) {
	t, err := scanTenant(s.engine.Reads(ctx).Row(`SELECT `+tenantColumns+` FROM tenant WHERE id = $1`, id))
	if errors.Is(err, sql.ErrNoRows) {
		return tenant.Tenant{}, fault.New(fault.NotFound, "there is no such tenant")
	}
	return t, err
}

// Tenants implements tenant.Store.
func (s *Store) Tenants(ctx context.Context) ([]tenant.Tenant, int64, error) {
	// The version is read first: a change between the two reads is then seen twice, and never
	// missed.
	version, err := s.TenantVersion(ctx)
	if err != nil {
		return nil, 0, err
	}
	freeze, err := s.Freeze(ctx)
	if err != nil {
		return nil, 0, err
	}
	var list []tenant.Tenant
	err = s.engine.Reads(ctx).Each(func(row engine.Scanner) error {
		t, err := scanTenant(row)
		t.Freeze = freeze
		list = append(list, t)
		return err
	}, `SELECT `+tenantColumns+` FROM tenant ORDER BY host`)
	if err != nil {
		return nil, 0, err
	}
	return list, version, nil
}

// TenantVersion implements tenant.Store.
func (s *Store) TenantVersion(ctx context.Context) (int64, error) {
	return engine.Count(s.engine.Reads(ctx), `SELECT n FROM revision WHERE subject = 'tenant'`)
}
