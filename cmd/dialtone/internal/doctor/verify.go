package doctor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"time"

	"dialtone/cmd/dialtone/internal/installation"
	"dialtone/cmd/dialtone/internal/runas"
	"dialtone/internal/account"
	"dialtone/internal/audit"
	"dialtone/internal/certificate"
	"dialtone/internal/delivery"
	"dialtone/internal/hook"
	"dialtone/internal/mail/dkim"
	"dialtone/internal/mail/pickup"
	"dialtone/internal/secret/keyfile"
	"dialtone/internal/tenant"
)

// VerifyReport is the result of Verify.
type VerifyReport struct {
	account.Report
	hook.VerifyReport
	audit.Verified
}

// Verify checks the data directory and every row of the store. Faults are in the report; Verify returns an error only
// if it cannot complete the check.
func Verify(ctx context.Context, in *installation.Installation) (r VerifyReport, err error) {
	dir, err := pickup.Open(in.Mail.PickupDir)
	if err != nil {
		return r, installation.InPickupDir(in.Config, err)
	}
	if r.Report, err = account.Verify(ctx, in.Store, dir, in.Seal); err != nil {
		return r, err
	}
	addFault := func(s string) { r.Faults = append(r.Faults, s) }
	r.VerifyReport, err = hook.Verify(ctx, in.Store, in.Seal, addFault)
	if err != nil {
		return r, err
	}
	if err := verifyKeys(ctx, in, addFault); err != nil {
		return r, err
	}
	now := time.Now()
	seen, err := in.Dir.TrailFile().Load()
	if err != nil {
		return r, runas.InDataDir(err)
	}
	numbers, err := in.Store.Numbers(ctx)
	if err != nil {
		return r, err
	}
	r.Verified, err = audit.Verify(ctx, audit.VerifyDeps{
		Store: in.Store, Ring: in.Seal, Seen: seen, Numbers: numbers,
		Before: now.AddDate(0, 0, -in.Log.AuditDays), Now: now,
	}, addFault, func(s string) { r.Notes = append(r.Notes, s) })
	if err != nil {
		return r, err
	}
	lost, err := lostMessages(ctx, in, dir)
	if err != nil {
		return r, err
	}
	r.Faults = append(r.Faults, lost...)
	if err := missingKeys(ctx, in, addFault); err != nil {
		return r, err
	}
	return r, nil
}

// verifyKeys calls report for each private key in the store that cannot be decrypted.
func verifyKeys(ctx context.Context, in *installation.Installation, report func(string)) error {
	tenants, _, err := in.Store.Tenants(ctx)
	if err != nil {
		return err
	}
	hosts, keys := make(map[int64]string, len(tenants)), dkim.NewKeys(in.Store, in.Seal)
	for _, t := range tenants {
		hosts[t.ID] = t.Host
		err := keys.Verify(ctx, t.ID, func(text string) { report("tenant " + t.Host + ": " + text) })
		if err != nil {
			return err
		}
	}
	return certificate.Verify(ctx, in.Store, hosts, in.Seal, report)
}

// lostMessages returns a sentence for each unsent message of this server whose file is missing.
func lostMessages(ctx context.Context, in *installation.Installation, dir *pickup.Dir) ([]string, error) {
	node := ""
	if in.Shared() {
		var err error
		if node, err = in.Dir.Node(); errors.Is(err, fs.ErrNotExist) {
			return nil, nil // no server has run here
		}
		if err != nil {
			return nil, err
		}
	}
	return delivery.Verify(ctx, in.Store, dir, node)
}

// missingKeys calls report with a sentence for each missing key that the installation needs. It does not check
// seal.key, without which the store cannot be opened.
func missingKeys(ctx context.Context, in *installation.Installation, report func(string)) error {
	if _, err := in.KeySources.Sign.Read(); errors.Is(err, keyfile.ErrMissing) {
		report(fmt.Sprintf("%s is missing: unless it is restored, the next server creates a new one, everybody has to "+
			"sign in again, and links for phones stop working", in.KeySources.Sign.Path))
	} else if err != nil {
		return err
	}
	tenants, _, err := in.Store.Tenants(ctx)
	if err != nil {
		return err
	}
	if !slices.ContainsFunc(tenants, func(t tenant.Tenant) bool { return len(t.TURNURIs) > 0 }) {
		return nil
	}
	if _, err := in.KeySources.TURN.Read(); errors.Is(err, keyfile.ErrMissing) {
		report(fmt.Sprintf("%s is missing although tenants have TURN servers: phones in browsers get no credentials; "+
			"restore it, or create one with dialtone turn secret and give the secret to the TURN servers",
			in.KeySources.TURN.Path))
	} else if err != nil {
		return err
	}
	return nil
}
