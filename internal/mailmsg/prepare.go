package mailmsg

import (
	"sync"
	"time"

	"dialtone/internal/i18n"
	"dialtone/internal/secret"
	"dialtone/internal/tenant"
)

// Bytes returns the same bytes as Compose followed by Message.Bytes. It composes the built-in
// message of a signup only once for all signups at a tenant with the same language whose links
// expire in the same minute.
func (ts Templates) Bytes(t *tenant.Tenant, tag i18n.Tag, id ID, to string, link Link) ([]byte, error) {
	tag = i18n.In(tag).Tag
	if link.Kind != Activation || link.Resent || ts.replaced[tag] != nil {
		m, err := ts.Compose(t, tag, id, to, link)
		if err != nil {
			return nil, err
		}
		return m.Bytes()
	}
	p, err := activation{t, tag, link.Expires.Truncate(time.Minute).Unix()}.prepared()
	if err != nil {
		return nil, err
	}
	return p.fill(id, to, link.Made, link.Token.Text())
}

// activation identifies a prepared message of signups. A *Tenant is immutable: when settings
// change, a tenant.Table gets another one.
type activation struct {
	tenant  *tenant.Tenant
	tag     i18n.Tag
	expires int64 // Unix time of the minute
}

// cache contains prepared messages of about 10 kB each.
var cache = struct {
	sync.Mutex
	prepared map[activation]*prepared
}{prepared: make(map[activation]*prepared)}

// maxPrepared is the maximum number of messages in cache.
const maxPrepared = 64

func (a activation) prepared() (*prepared, error) {
	cache.Lock()
	defer cache.Unlock()
	if p := cache.prepared[a]; p != nil {
		return p, nil
	}
	token := secret.NewToken()
	m, err := Templates{}.Compose(a.tenant, a.tag, ID{}, "", Link{Token: token, Expires: time.Unix(a.expires, 0)})
	if err != nil {
		return nil, err
	}
	p, err := m.prepare(token.Text())
	if err != nil {
		return nil, err
	}
	if len(cache.prepared) >= maxPrepared {
		clear(cache.prepared)
	}
	cache.prepared[a] = p
	return p, nil
}
