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

// Accounts returns the account service of a command, which writes no messages.
func (in *Installation) Accounts(log *slog.Logger) *account.Service {
	return account.NewService(account.Deps{
		Store:    in.Store,
		SealRing: in.Seal,
		Outbox:   outbox.New(outbox.Deps{SealRing: in.Seal, Now: time.Now}), // seals links, and writes no messages
		Log:      log,
		Now:      time.Now,
	})
}

// Operators returns the changes that operators make by commands. Flush must be called before the store is closed. A
// checkpoint that cannot be written is a warning on stderr.
func (in *Installation) Operators(log *slog.Logger, stderr io.Writer) *operator.Service {
	return operator.NewService(operator.Deps{
		Accounts: in.Accounts(log), Store: in.Store, Now: time.Now, CoverTrail: in.CoverTrail(stderr),
	})
}

// Caller returns the operator who made ctx, and who may do everything: the user of a command.
func Caller(ctx context.Context) operator.Caller {
	return operator.Caller{Actor: audit.CauseOf(ctx).Actor, Scopes: operator.Scopes}
}

// CoverTrail returns a function that writes a checkpoint of the audit trail. Servers write them too, so that a failure
// is a warning on stderr and not a failure of the command.
func (in *Installation) CoverTrail(stderr io.Writer) func(context.Context) {
	keeper := in.Keeper("", slog.New(slog.DiscardHandler))
	return func(ctx context.Context) {
		if err := keeper.CoverNow(ctx); err != nil {
			fmt.Fprintln(terminal.To(stderr), "warning: no checkpoint of the audit trail written:", err)
		}
	}
}
