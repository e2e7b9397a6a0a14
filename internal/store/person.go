package store

import (
	"context"
	"math"
	"strings"
	"time"

	"dialtone/internal/account"
	"dialtone/internal/audit"
	"dialtone/internal/hook"
	"dialtone/internal/mailmsg"
	"dialtone/internal/store/admission"
	"dialtone/internal/store/engine"
	"dialtone/internal/store/phonetables"
)

var _ account.PersonStore = (*Store)(nil)

// SetPassword implements account.PersonStore.
func (s *Store) SetPassword(ctx context.Context, c account.PasswordChange,
	now time.Time) (a account.Account, err error) {
	action := audit.PasswordChange
	if c.Link != nil {
		action = audit.PasswordReset
	}
	event, e, stays := account.NewUID(now), entry(ctx, action, now), entry(ctx, audit.AccountStay, now)
	defer s.signalAdded()
	err = s.writeTables(ctx, func(tx engine.Tx) ([]phonetables.Subject, error) {
		if a, err = lockAccount(tx, c.Account.Tenant, c.Account.User, now); err != nil {
			return nil, err
		}
		switch {
		case a.UID != c.Account.UID:
			return nil, errNoAccount
		case tx.Repeated() && string(a.Sealed) == string(c.Account.Sealed):
			return nil, nil
		case a.Held && (c.Link == nil || a.State() == account.Disabled):
			return nil, account.ErrHeld
		case a.Pending() && !c.First:
			return nil, errNoAccount
		}
		if c.Link == nil {
			if err := checkProved(a, c.Account); err != nil {
				return nil, err
			}
		}
		was := a
		if err := tx.Lock(append(placeKeys(c.Allowances), addressKey(a))...); err != nil {
			return nil, err
		}
		// unsent selects the reset links without a message that this change removes. A change
		// without a link, which may be a thief's, removes none.
		confirmed, limits, unsent := ``, c.Allowances, noUnsent
		if c.Link != nil {
			mailed, emails, err := findResetLink(tx, a, *c.Link, now)
			switch {
			case err != nil:
				return nil, err
			case mailed:
				confirmed, unsent = `confirmed = COALESCE(confirmed, $4), `, a.Emails
				if a.Pending() {
					confirmed += `activated = $4, `
				}
			default:
				limits, unsent = nil, emails
			}
		}
		if err := checkAndTake(tx, limits, c.Message, now, account.PasswordRefusal); err != nil {
			return nil, err
		}
		if c.Link != nil {
			if n, err := tx.Exec(`DELETE FROM link WHERE token = $1`, c.Link[:]); err != nil {
				return nil, err
			} else if n == 0 {
				return nil, account.ErrLinkUsed
			}
		}
		if a, err = scanAccount(tx.Row(`UPDATE account SET credential = $2, has_sha256 = $3, `+confirmed+`
			password_n = password_n + 1, password_at = $4, epoch = epoch + 1 WHERE uid = $1 RETURNING `+accountColumns,
			a.UID[:], c.Account.Sealed, c.Account.HasSHA256, engine.Micros(now))); err != nil {
			return nil, err
		}
		if err := removeResetLinks(tx, a, unsent); err != nil {
			return nil, err
		}
		if err := removeEmailLinks(tx, a); err != nil {
			return nil, err
		}
		if _, err := tx.Exec(`DELETE FROM session WHERE account = $1`, a.UID[:]); err != nil {
			return nil, err
		}
		if err := forgetBrowsers(tx, a.UID); err != nil {
			return nil, err
		}
		before := a.State()
		if before == account.Leaving {
			if a, err = stay(tx, a, stays); err != nil {
				return nil, err
			}
			c.Detail = mailmsg.Stays
		}
		if !c.First {
			if err := s.addNotice(tx, a, c.Notice); err != nil {
				return nil, err
			}
		}
		changes := append(changesOf(was, a), hook.AccountPassword)
		if err := insertAccountNotifications(tx, event, a.UID[:], now, changes...); err != nil {
			return nil, err
		}
		if before == account.Leaving {
			if err := stays.of(a).values(string(before), stateOf(a)).add(tx); err != nil {
				return nil, err
			}
		}
		return []phonetables.Subject{phonetables.Account(a.UID)}, e.of(a).add(tx)
	})
	return a, err
}

// addressKey returns the key of the lock for reset links to an account's address.
func addressKey(a account.Account) int64 {
	return admission.Key("address", a.Tenant, []byte(strings.ToLower(a.Email)))
}

// noUnsent makes removeResetLinks keep all links without a message.
const noUnsent int64 = math.MaxInt64

// removeResetLinks removes the reset links that went to the account's address, and the account's
// link of mailmsg.SetPassword. It also removes the account's reset links without a message that
// were created after at least unsent changes of its address. Nobody can remove those by knowing the
// password, by requesting another link, or by having moved the account to another mailbox since.
func removeResetLinks(tx engine.Tx, a account.Account, unsent int64) error {
	if _, err := tx.Exec(`DELETE FROM link WHERE kind = $1 AND account = $2`,
		string(mailmsg.SetPassword), a.UID[:]); err != nil {
		return err
	}
	// Accounts that wait have no links of mailmsg.Reset.
	if _, err := tx.Exec(`DELETE FROM link WHERE kind = $1 AND email <> '' AND account IN
		(SELECT uid FROM account
			WHERE tenant = $2 AND lower(email) = lower($3) AND closed IS NULL AND activated IS NOT NULL)`,
		string(mailmsg.Reset), a.Tenant, a.Email); err != nil || unsent == noUnsent {
		return err
	}
	_, err := tx.Exec(`DELETE FROM link WHERE kind = $1 AND email = '' AND account = $2 AND email_n >= $3`,
		string(mailmsg.Reset), a.UID[:], unsent)
	return err
}

// addNotice adds the link of a message to the account's address and, unless the message is zero,
// its outbox entry. A link without a message has no address. An account without an address gets
// neither message nor link. addNotice is idempotent.
func (s *Store) addNotice(tx engine.Tx, a account.Account, n account.Notice) error {
	if n.Message == (mailmsg.ID{}) {
		a.Email = ""
	} else if a.Email == "" {
		return nil
	}
	if _, err := tx.Exec(`INSERT INTO link (token, account, kind, email, email_n, made, until)
		VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT DO NOTHING`,
		n.Token[:], a.UID[:], linkKind(n), a.Email, a.Emails, engine.Micros(n.Made),
		engine.Micros(n.Until)); err != nil {
		return err
	}
	if n.Message == (mailmsg.ID{}) {
		return nil
	}
	kind, detail := storedKind(n.Kind, n.Detail)
	_, err := tx.Exec(`INSERT INTO outbox (account, message, token, node, made, turn, kind, address, until, net,
			detail)
		VALUES ($1, $2, $3, $4, $5, 0, $6, $7, $8, $9, $10) ON CONFLICT DO NOTHING`,
		a.UID[:], n.Message[:], n.SealedToken, s.nodeName(), engine.Micros(n.Made), kind, a.Email,
		engine.Micros(n.Until), n.Net, detail)
	return err
}

// firstPassword is the detail of mailmsg.Reset that stands for mailmsg.SetPassword in the table
// outbox. Servers of earlier versions, which may share the store, panic on an unknown kind, but
// ignore an unknown detail and write the kind's usual message. Kinds that are added later must be
// stored in this way, too.
const firstPassword = "first"

// storedKind returns the kind and the detail of a message as the table outbox stores them.
func storedKind(kind mailmsg.Kind, detail string) (string, string) {
	if kind == mailmsg.SetPassword {
		return string(mailmsg.Reset), firstPassword
	}
	return string(kind), detail
}

// messageKind is the inverse of storedKind.
func messageKind(kind, detail string) (mailmsg.Kind, string) {
	if kind == string(mailmsg.Reset) && detail == firstPassword {
		return mailmsg.SetPassword, ""
	}
	return mailmsg.Kind(kind), detail
}

// codesReplaced is the kind in the table link of a message mailmsg.FactorChanged about replaced
// recovery codes. Its link removes more than that of other changes. A version that does not know
// this kind refuses the link.
const codesReplaced = string(mailmsg.FactorChanged) + "." + mailmsg.CodesReplaced

// linkKind returns the kind of a message in the table link.
func linkKind(n account.Notice) string {
	if n.Kind == mailmsg.FactorChanged && n.Detail == mailmsg.CodesReplaced {
		return codesReplaced
	}
	return string(n.Kind)
}
