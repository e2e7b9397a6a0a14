package serve

import (
	"context"
	"log/slog"

	"dialtone/cmd/dialtone/internal/installation"
	"dialtone/internal/account"
	"dialtone/internal/secret/keyfile"
)

// bindNames binds the credentials of a store that a server of an earlier version wrote to their user names, and reopens
// the store with a strict key. The caller holds the lock of the data directory, so no other server uses the store.
// Servers that share a store need the command keys bind.
func bindNames(ctx context.Context, in *installation.Installation, log *slog.Logger) error {
	if in.Seal.IsStrict() {
		return nil
	}
	const hint = "anyone who can write to the database could exchange the user names of two accounts; "
	if in.Shared() {
		log.Warn("credentials may not be bound to their user names",
			"hint", hint+"when all servers run this version, run dialtone keys bind on one of them")
		return nil
	}
	binding, err := in.Store.Binding(ctx)
	if err != nil {
		return err
	}
	if binding != account.Bound {
		done, err := account.Bind(ctx, in.Store, in.Seal, nil)
		if err != nil {
			return err
		}
		log.Info("credentials bound to their user names", "accounts", done.Accounts, "damaged", done.Damaged)
	}
	if in.KeySources.Seal.FromEnv() {
		log.Warn("seal key accepts credentials that are not bound to their user names",
			"hint", hint+"run dialtone keys bind, and set DIALTONE_KEYS_SEAL to what it prints")
		return nil
	}
	strict := in.Seal.Strict()
	if err := keyfile.Replace(in.KeySources.Seal.Path, strict); err != nil {
		log.Warn("seal key accepts credentials that are not bound to their user names", "err", err,
			"hint", hint+"make the file writable once, or write v2 instead of v1 at the start of its lines")
		return nil
	}
	return in.Reopen(ctx, strict)
}

// refreshOldForm updates oldForm from the store.
func (s *server) refreshOldForm(ctx context.Context) error {
	if !s.oldForm.Load() {
		return nil // it never becomes true again
	}
	binding, err := s.Store.Binding(ctx)
	if err == nil {
		s.oldForm.Store(binding == account.Unbound)
	}
	return err
}
