package installation

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"time"

	"dialtone/cmd/dialtone/internal/terminal"
	"dialtone/internal/account"
	"dialtone/internal/audit"
	"dialtone/internal/operator"
	"dialtone/internal/outbox"
)

// Accounts returns the account service of a command. Servers write the messages that it queues.
func (in *Installation) Accounts(log *slog.Logger) *account.Service {
	return account.NewService(account.Deps{
		Store:    in.Store,
		SealRing: in.Seal,
		Outbox:   outbox.New(outbox.Deps{SealRing: in.Seal, Now: time.Now}), // seals links only
		Log:      log,
		Now:      time.Now,
	})
}

// Operators returns the operator service of a command. Its Flush must be called before the store is closed. If a
// checkpoint of the audit trail cannot be written, it prints a warning to stderr.
func (in *Installation) Operators(log *slog.Logger, stderr io.Writer) *operator.Service {
	return operator.NewService(operator.Deps{
		Accounts: in.Accounts(log), Store: in.Store, Now: time.Now, CoverTrail: in.CoverTrail(stderr),
	})
}

// Caller returns the user of a command, the actor of ctx, as an operator with all permissions.
func Caller(ctx context.Context) operator.Caller {
	return operator.Caller{Actor: audit.CauseOf(ctx).Actor, Scopes: operator.Scopes}
}

// CoverTrail returns a function that writes a checkpoint of the audit trail. If that fails, it prints a warning to
// stderr, and the command does not fail: servers write checkpoints, too.
func (in *Installation) CoverTrail(stderr io.Writer) func(context.Context) {
	keeper := in.Keeper("", slog.New(slog.DiscardHandler))
	return func(ctx context.Context) {
		if err := keeper.CoverNow(ctx); err != nil {
			fmt.Fprintln(terminal.To(stderr), "warning: no checkpoint of the audit trail written:", err)
		}
	}
}
