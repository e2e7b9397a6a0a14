package main

import (
	"context"
	"errors"
	"strings"

	"dialtone/cmd/dialtone/internal/installation"
	"dialtone/internal/account"
	"dialtone/internal/fault"
	"dialtone/internal/operator"
	"dialtone/internal/tenant"
)

// with opens the installation, calls do, and closes the installation. It fails if there is no store.
func (p *program) with(do func(*installation.Installation) error) error {
	return p.withStore(installation.Never, do)
}

// withStore is with for a command that may create a store.
func (p *program) withStore(create installation.Creation, do func(*installation.Installation) error) (err error) {
	c, err := p.settings()
	if err != nil {
		return err
	}
	var lost []installation.LostPart
	if create >= installation.IfNamed {
		lost = installation.LostParts(p.ctx, c, create)
	}
	in, err := installation.Open(p.ctx, c, installation.Options{Create: create})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, in.Close()) }()
	installation.LogLost(p.logger(c.Log), lost)
	return do(in)
}

// tenantOrOnly returns the tenant of a host name, or the only tenant if host is empty.
func tenantOrOnly(ctx context.Context, in *installation.Installation, host string) (*tenant.Tenant, error) {
	if host != "" {
		return in.TenantOf(ctx, host)
	}
	list, _, err := in.Store.Tenants(ctx)
	switch {
	case err != nil:
		return nil, err
	case len(list) == 0:
		return nil, fault.New(fault.NotFound, "there is no tenant; add one with: dialtone tenant add HOST")
	case len(list) == 1:
		return &list[0], nil
	}
	hosts := make([]string, len(list))
	for i, t := range list {
		hosts[i] = t.Host
	}
	return nil, usageError{fault.New(fault.Invalid, "there are several tenants; name one of: %s",
		strings.Join(hosts, ", "))}
}

// accounts returns the account service of a command.
func (p *program) accounts(in *installation.Installation) *account.Service {
	return in.Accounts(p.logger(in.Log))
}

// operators returns the operator service of a command. Its Flush must be called before the store is closed.
func (p *program) operators(in *installation.Installation) *operator.Service {
	return in.Operators(p.logger(in.Log), p.stderr)
}

// configFile returns the path of the configuration file, or "".
func (p *program) configFile() string {
	if p.line.Config != "" {
		return p.line.Config
	}
	for _, entry := range p.environ {
		if path, ok := strings.CutPrefix(entry, "DIALTONE_CONFIG="); ok {
			return path
		}
	}
	return ""
}
