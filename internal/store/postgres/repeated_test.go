package postgres_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"dialtone/internal/account"
	"dialtone/internal/audit"
	"dialtone/internal/mailmsg"
	"dialtone/internal/test/postgrestest"
	"dialtone/internal/throttle"
)

// The connection breaks around the commit of a change that the owner of an account makes. The change is run
// again, is answered as the first run would have been, and is made once: with one message, one entry in the
// trail and one place under its limit.
func TestOwnChangeWithoutAnswer(t *testing.T) {
	proxied, direct, p, tenantID := openBoth(t, postgrestest.Shared(t))
	ctx := t.Context()
	n := byte(0)
	notice := func(kind mailmsg.Kind) account.Notice {
		n++
		return account.Notice{
			Kind: kind, Message: mailmsg.ID{n}, Token: [32]byte{n}, SealedToken: []byte{n}, Made: noon,
			Until: noon.Add(time.Hour),
		}
	}
	limit := func() []throttle.Allowance { // of one place
		n++
		return []throttle.Allowance{{
			Bucket: throttle.Bucket{n}, Rule: throttle.Rule{Limit: 1, Per: time.Hour}, Limit: throttle.LimitFactors,
		}}
	}
	find := func(user string) account.Account {
		a, err := direct.Find(ctx, tenantID, user, noon)
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	for name, lose := range map[string]func(){
		"after the commit":  func() { p.cutResponse = committed },
		"before the commit": func() { p.cutRequest = []byte("COMMIT") },
	} {
		t.Run(name, func(t *testing.T) {
			n++
			user := fmt.Sprint("ann", n)
			must(direct.Create(ctx, newSignup(tenantID, user), noon))
			_, err := direct.EnableNow(ctx, tenantID, user, noon)
			must(err)
			change := func(name string, do func() error) error {
				t.Helper()
				before := p.cuts.Load()
				p.update(lose)
				err := do()
				if p.cuts.Load() == before {
					t.Fatalf("%s: the connection was not cut", name)
				}
				return err
			}
			succeeds := func(name string, do func() error) {
				t.Helper()
				if err := change(name, do); err != nil {
					t.Errorf("%s: %v", name, err)
				}
			}
			wantKinds := func(when string, want ...mailmsg.Kind) {
				t.Helper()
				list, err := proxied.Pending(ctx)
				must(err)
				got := make(map[mailmsg.Kind]int)
				for _, e := range list {
					if e.User == user && e.Kind != mailmsg.Activation {
						got[e.Kind]++
					}
				}
				total := 0
				for _, kind := range want {
					total += got[kind]
					if got[kind] != 1 {
						t.Errorf("%s: the messages are %v, want %v", when, got, want)
					}
				}
				if total != len(want) {
					t.Errorf("%s: the messages are %v, want %v", when, got, want)
				}
			}

			link := account.NewEmailLink{
				Account: find(user), Email: user + "@other.test", Notice: notice(mailmsg.ConfirmEmail),
				Allowances: limit(), Recipient: limit(),
			}
			succeeds("add an e-mail link", func() error {
				sent, err := proxied.AddEmailLink(ctx, link, noon)
				if err == nil && !sent {
					err = errors.New("not sent")
				}
				return err
			})
			changed := notice(mailmsg.EmailChanged)
			succeeds("set the address", func() error {
				a, err := proxied.SetEmail(ctx, tenantID, link.Token, changed, noon)
				if err == nil && a.Email != link.Email {
					err = fmt.Errorf("the address is %s", a.Email)
				}
				return err
			})
			wantKinds("after the change of the address", mailmsg.ConfirmEmail, mailmsg.EmailChanged)

			secret := []byte("secret of " + user)
			must(direct.StartApp(ctx, find(user), secret, noon))
			finish := account.AppChange{
				Account: find(user), Sealed: secret, Step: 10, Codes: [][32]byte{{n, 1}, {n, 2}, {n, 3}},
				Allowances: limit(), Notice: notice(mailmsg.FactorChanged),
			}
			succeeds("finish an app", func() error {
				a, err := proxied.FinishApp(ctx, finish, noon)
				if err == nil && a.Factors != account.FactorApp {
					err = fmt.Errorf("the factors are %v", a.Factors)
				}
				return err
			})
			wantKinds("after FinishApp", mailmsg.ConfirmEmail, mailmsg.EmailChanged, mailmsg.FactorChanged)
			wantApp := func(step int64, codes int) {
				t.Helper()
				app, err := direct.App(ctx, find(user).UID)
				if err != nil || app.Step != step || app.Codes != codes {
					t.Errorf("the app is %+v, %v", app, err)
				}
			}
			wantApp(10, 3)

			use := account.CodeUse{
				ID: [16]byte{n}, Account: find(user), Sealed: secret, Step: 11, Allowances: limit(),
			}
			useCode := func(u account.CodeUse) error { _, err := proxied.UseCode(ctx, u, noon); return err }
			err = change("use a code of the app", func() error { return useCode(use) })
			// The use of an app's code leaves no trace. After a lost answer, the person enters the
			// next one.
			var want error
			if name == "after the commit" {
				want = account.ErrCodeWrong
			}
			if !errors.Is(err, want) {
				t.Errorf("a code of the app: %v", err)
			}
			wantApp(11, 3)
			recovery := account.CodeUse{ID: [16]byte{n, 2}, Account: find(user), Recovery: finish.Codes[:1]}
			succeeds("use a recovery code", func() error {
				left, err := proxied.UseCode(ctx, recovery, noon)
				if err == nil && left != 2 {
					err = fmt.Errorf("%d codes are left", left)
				}
				return err
			})
			recovery.ID = [16]byte{n, 3}
			if err := useCode(recovery); !errors.Is(err, account.ErrCodeWrong) {
				t.Errorf("a recovery code works twice: %v", err)
			}
			wantApp(11, 2)
			wrong := account.CodeUse{ID: [16]byte{n, 4}, Account: find(user), Allowances: limit()}
			wrong.Allowances[0].Rule.Limit = 2
			err = change("use a wrong code", func() error { return useCode(wrong) })
			if !errors.Is(err, account.ErrCodeWrong) {
				t.Errorf("a wrong code: %v", err)
			}
			wrong.ID = [16]byte{n, 5}
			if err := useCode(wrong); !errors.Is(err, account.ErrCodeWrong) {
				t.Errorf("the wrong code before took two places: %v", err)
			}
			renew := account.AppChange{Account: find(user), Codes: [][32]byte{{n, 4}, {n, 5}}}
			succeeds("renew the recovery codes", func() error {
				_, err := proxied.RenewCodes(ctx, renew, noon)
				return err
			})
			wantApp(11, 2)
			succeeds("remove an app", func() error {
				off := account.AppChange{
					Account: find(user), Allowances: limit(), Notice: notice(mailmsg.FactorChanged),
				}
				a, err := proxied.RemoveApp(ctx, off, noon)
				if err == nil && a.Factors != 0 {
					err = fmt.Errorf("the factors are %v", a.Factors)
				}
				return err
			})

			k := account.NewPasskey{
				Account: find(user),
				Passkey: account.Passkey{
					ID: []byte(user), Account: find(user).UID, RP: "phone.test", Name: "Key", Made: noon,
					Sealed: []byte("1"),
				},
				Notice: notice(mailmsg.FactorChanged), Allowances: limit(),
			}
			succeeds("add a passkey", func() error { _, err := proxied.AddPasskey(ctx, k, noon); return err })
			succeeds("use a passkey", func() error { return proxied.UsePasskey(ctx, k.Passkey, []byte("2"), noon) })
			if err := proxied.UsePasskey(ctx, k.Passkey, []byte("3"), noon); err != account.ErrPasskeyChanged {
				t.Errorf("a passkey is used twice in one state: %v", err)
			}
			succeeds("remove a passkey", func() error {
				_, err := proxied.RemovePasskey(ctx, account.PasskeyRemoval{
					Account: find(user), ID: k.Passkey.ID, Notice: notice(mailmsg.FactorChanged), Allowances: limit(),
				}, noon)
				return err
			})

			leave := account.Departure{Account: find(user), Notice: notice(mailmsg.Leaving)}
			leave.Until = noon.Add(account.Grace)
			epoch := find(user).Epoch
			succeeds("leave", func() error {
				a, err := proxied.Leave(ctx, leave, noon)
				if err == nil && (a.State() != account.Leaving || a.Epoch != epoch+1) {
					err = fmt.Errorf("the account is %s, in epoch %d", a.State(), a.Epoch)
				}
				return err
			})
			succeeds("stay", func() error {
				a, err := proxied.Stay(ctx, tenantID, leave.Token, noon)
				if err == nil && a.State() != account.Active {
					err = fmt.Errorf("the account is %s", a.State())
				}
				return err
			})
			leave.Account, leave.Notice = find(user), notice(mailmsg.Leaving)
			leave.Until = noon.Add(account.Grace)
			succeeds("not me", func() error {
				_, err := direct.Leave(ctx, leave, noon)
				must(err)
				undo := notice(mailmsg.Reset)
				undo.Message = mailmsg.ID{}
				a, err := proxied.NotMe(ctx, tenantID, changed.Token, undo, noon)
				if err == nil && (a.State() != account.Active || a.Email != user+"@mail.test") {
					err = fmt.Errorf("the account is %s, with the address %s", a.State(), a.Email)
				}
				return err
			})
			taken := notice(mailmsg.DataTaken)
			succeeds("add the message about data", func() error {
				added, err := proxied.AddDataNotice(ctx, find(user), taken, noon.Add(-time.Hour), noon)
				if err == nil && !added {
					err = errors.New("not added")
				}
				return err
			})
			leave.Account, leave.Notice = find(user), notice(mailmsg.Leaving)
			_, err = direct.Leave(ctx, leave, noon)
			must(err)
			succeeds("erase", func() error {
				erased, err := proxied.EraseOverdue(ctx, leave.Account, leave.Until, noon)
				if err == nil && !erased {
					err = errors.New("not erased")
				}
				return err
			})
			got := make(map[audit.Action]int)
			must(direct.Changes(ctx, audit.Filter{User: user}, func(c audit.Change) error {
				got[c.Action]++
				return nil
			}))
			for action, want := range map[audit.Action]int{
				audit.EmailChange: 1, audit.TwoStepOn: 1, audit.TwoStepRecovery: 1, audit.TwoStepCodes: 1,
				audit.TwoStepOff: 1, audit.PasskeyAdd: 1, audit.PasskeyRemove: 1, audit.AccountLeave: 3,
				audit.AccountStay: 1, audit.AccountData: 1, audit.PasswordNotMe: 1, audit.AccountDelete: 1,
			} {
				if got[action] != want {
					t.Errorf("the trail has %s %d times, want %d", action, got[action], want)
				}
			}
		})
	}
}
