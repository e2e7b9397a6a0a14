package store

import (
	"cmp"
	"database/sql"
	"errors"
	"slices"
	"time"

	"dialtone/internal/account"
	"dialtone/internal/mailmsg"
	"dialtone/internal/session"
	"dialtone/internal/store/engine"
)

// addNewBrowsers adds the notices of records, as described at session.NewBrowser, and returns those
// records.
func (s *Store) addNewBrowsers(tx engine.Tx, list []session.Record) (
	added []session.Noticed, err error) {
	var signedIn []session.Record
	for _, r := range list {
		if r.New != nil {
			signedIn = append(signedIn, r)
		}
	}
	// All servers write in the same order, so that no two transactions deadlock. The first of
	// several sign-ins with the same new browser gets the message.
	slices.SortStableFunc(signedIn, func(a, b session.Record) int {
		return cmp.Or(slices.Compare(a.Account[:], b.Account[:]), cmp.Compare(a.New.Net, b.New.Net),
			cmp.Compare(a.New.Browser, b.New.Browser), a.New.At.Compare(b.New.At))
	})
	for _, r := range signedIn {
		owner, isNew, err := s.addNewBrowser(tx, r)
		if err != nil {
			return nil, err
		}
		if isNew {
			added = append(added, session.Noticed{Record: r, Owner: owner})
		}
	}
	return added, nil
}

// addNewBrowser remembers the browser and network of a sign-in, and adds the notice if they are new.
func (s *Store) addNewBrowser(tx engine.Tx, r session.Record) (a account.Account, added bool, err error) {
	now := r.New.Notice.Made
	until := now.Add(session.KnownLife)
	var known int64
	err = tx.Row(`SELECT until FROM known_browser WHERE account = $1 AND net = $2 AND browser = $3`,
		r.Account[:], r.New.Net, r.New.Browser).Scan(&known)
	isKnown := err == nil && known > engine.Micros(now)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return a, false, err
	}
	if isKnown && !tx.Repeated() {
		if until.Sub(engine.FromMicros(known)) >= 24*time.Hour { // one write a day
			_, err = tx.Exec(`UPDATE known_browser SET until = $4 WHERE account = $1 AND net = $2 AND browser = $3`,
				r.Account[:], r.New.Net, r.New.Browser, engine.Micros(until))
		} else {
			err = nil
		}
		return a, false, err
	}
	// Because of the lock, a concurrent disable or delete either comes before the link or removes
	// it.
	a, err = scanAccount(tx.Row(`UPDATE account SET held = held WHERE uid = $1 AND closed IS NULL
		RETURNING `+accountColumns, r.Account[:]))
	if errors.Is(err, errNoAccount) || err == nil && a.Disabled {
		return a, false, nil
	}
	if err != nil {
		return a, false, err
	}
	if tx.Repeated() { // an earlier run may have been committed
		if done, err := linkExists(tx, r.New.Notice.Token); err != nil || done || isKnown {
			return a, done, err
		}
	}
	n, err := engine.Count(tx, `SELECT count(*) FROM link WHERE account = $1 AND kind = $2 AND made > $3`,
		r.Account[:], string(mailmsg.NewBrowser), engine.Micros(now.Add(-24*time.Hour)))
	if err != nil || n >= session.MaxNotices {
		return a, false, err
	}
	// An expired row may not have been swept yet.
	first, err := tx.Exec(`INSERT INTO known_browser (account, net, browser, until) VALUES ($1, $2, $3, $4)
		ON CONFLICT (account, net, browser) DO UPDATE SET until = excluded.until WHERE known_browser.until <= $5`,
		r.Account[:], r.New.Net, r.New.Browser, engine.Micros(until), engine.Micros(now))
	if err != nil || first == 0 {
		return a, false, err
	}
	if _, err := tx.Exec(`DELETE FROM known_browser WHERE account = $1 AND (net, browser) IN
		(SELECT net, browser FROM known_browser WHERE account = $1 ORDER BY until DESC, net, browser
			LIMIT 100000 OFFSET $2)`, r.Account[:], session.MaxKnown); err != nil {
		return a, false, err
	}
	if now.Sub(a.Activated) < session.SettlingTime || a.Email == "" {
		return a, false, nil
	}
	// A session that ended all others continues under another ID, and began when this one did.
	used, err := engine.Count(tx, `SELECT count(*) FROM session WHERE account = $1 AND net = $2 AND browser = $3
		AND began < $4 AND until > $5`,
		r.Account[:], r.New.Net, r.New.Browser, engine.Micros(r.Began), engine.Micros(now))
	if err != nil || used > 0 {
		return a, false, err
	}
	return a, true, s.addNotice(tx, a, r.New.Notice)
}

// forgetBrowsers removes the browsers and networks that are remembered for an account.
func forgetBrowsers(tx engine.Tx, uid account.UID) error {
	_, err := tx.Exec(`DELETE FROM known_browser WHERE account = $1`, uid[:])
	return err
}
