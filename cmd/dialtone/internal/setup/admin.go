package setup

import (
	"errors"
	"time"

	"dialtone/cmd/dialtone/internal/installation"
	"dialtone/internal/account"
	"dialtone/internal/operator"
	"dialtone/internal/tenant"
)

// addTenant adds the tenant unless it exists.
func (s *setup) addTenant(in *installation.Installation) error {
	if s.tenant != nil {
		return s.printf("the tenant %s exists", s.tenant.Host)
	}
	// The store keeps microseconds.
	t := tenant.Tenant{Host: s.Host, Realm: s.Realm, Created: time.Now().UTC().Truncate(time.Microsecond)}
	t.Product = s.Product
	t, err := tenant.New(t)
	if err != nil {
		return err
	}
	if t, err = in.Store.AddTenant(s.ctx, t); err != nil {
		return err
	}
	s.tenant = &t
	return s.printf("added the tenant %s with the realm %s", t.Host, t.Realm)
}

// addAdmin adds the account of the operator, who chooses the password by a link.
func (s *setup) addAdmin(in *installation.Installation, o *operator.Service) error {
	n := account.NewAccount{
		User: s.Admin, Name: s.Admin, Email: s.Email, Role: account.Admin, Active: s.Link, NoMessage: s.Link,
	}
	if s.exists {
		return s.printExists()
	}
	a, err := o.Add(s.ctx, installation.Caller(s.ctx), s.tenant, n, "")
	if errors.Is(err, account.ErrTaken) {
		return s.printExists()
	}
	if err != nil {
		return account.NameField(err)
	}
	if !s.Link {
		if s.conf.Mail.Relay == "" {
			return s.printf("added the operator %s; once the server runs, it writes a message for %s with a link to "+
				"choose the password into %s, where your mail server has to collect it", a.User, a.Email,
				s.conf.Mail.PickupDir)
		}
		return s.printf("added the operator %s; once the server runs, it sends a message with a link to choose the "+
			"password to %s", a.User, a.Email)
	}
	if s.tenant.PublicURL == "" {
		s.tenant.PublicURL = in.DefaultURL(s.tenant.Host)
	}
	link, until, err := o.ResetLink(s.ctx, installation.Caller(s.ctx), s.tenant, s.Admin, "", account.MaxResetLife)
	if err != nil {
		return err
	}
	return s.printf("added the operator %s, who gets no message\nthis link to choose the password works once, until "+
		"%s:\n  %s", a.User, until.Format(time.RFC3339), link)
}

// printExists prints that the operator already has an account.
func (s *setup) printExists() error {
	return s.printf("the account %s exists; for another link, run: dialtone account reset-link %s --tenant %s",
		s.Admin, s.Admin, s.tenant.Host)
}
