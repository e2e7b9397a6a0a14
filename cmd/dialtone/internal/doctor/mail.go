package doctor

import (
	"context"
	"net"

	"dialtone/cmd/dialtone/internal/adapter"
	"dialtone/internal/config"
	"dialtone/internal/mail/dkim"
	"dialtone/internal/mail/maildns"
	"dialtone/internal/mailmsg"
	"dialtone/internal/tenant"
)

// CheckSender checks the DNS records of a tenant's sender.
func CheckSender(
	ctx context.Context, m config.Mail, t *tenant.Tenant, keys *dkim.Keys, dns *net.Resolver,
) ([]maildns.Finding, error) {
	public, err := keys.List(ctx, t.ID)
	if err != nil {
		return nil, err
	}
	var list []maildns.Key
	for _, k := range public {
		list = append(list, maildns.Key{Selector: k.Selector, Record: k.Record})
	}
	host, _, _ := net.SplitHostPort(m.Relay.Parts().Address)
	return maildns.Check(ctx, dns, mailmsg.Domain(t.Sender()), host, list), nil
}

// CheckRelay connects to the relay and logs in.
func CheckRelay(ctx context.Context, m config.Mail) maildns.Finding {
	found := maildns.Finding{What: "relay"}
	if m.Relay == "" {
		found.OK = true
		found.Says = "none configured; your mail server must collect messages from " + m.PickupDir
		return found
	}
	r, err := adapter.NewRelay(m)
	if err == nil {
		found.Says, err = r.Check(ctx)
	}
	if err != nil {
		found.Says = err.Error()
		return found
	}
	found.OK = true
	found.Says = "connected and logged in to " + m.Relay.Parts().Address + ": " + found.Says
	return found
}
