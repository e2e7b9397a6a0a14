package store

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"dialtone/internal/account"
	"dialtone/internal/fault"
	"dialtone/internal/secret"
	"dialtone/internal/store/engine"
	"dialtone/internal/store/migrations"
)

var _ account.BindingStore = (*Store)(nil)

// bindingVersion is the first schema version whose programs open credentials that are bound to user
// names.
const bindingVersion = 13

// ErrUnbound is returned by SealCheck for a store with credentials in the older form, when the keys
// are strict.
var ErrUnbound = fault.Needs(fault.Correction,
	"the credentials in the store are not bound to their user names, although seal.key requires "+
		"it; if you have restored a backup and trust its user names, run: dialtone keys bind")

// Binding implements account.BindingStore.
func (s *Store) Binding(ctx context.Context) (account.Binding, error) {
	return binding(s.engine.Reads(ctx))
}

func binding(q engine.Querier) (account.Binding, error) {
	n, err := engine.Count(q, `SELECT n FROM revision WHERE subject = 'binding'`)
	return account.Binding(n), err
}

// RaiseBinding raises what Binding returns, and never lowers it. Above account.Unbound it keeps older
// programs out of the store.
func RaiseBinding(tx engine.Tx, to account.Binding) error {
	_, err := tx.Exec(`UPDATE revision SET n = $1 WHERE subject = 'binding' AND n < $1`, int64(to))
	if err != nil || to == account.Unbound {
		return err
	}
	return migrations.KeepOut(tx, bindingVersion)
}

// BeginBinding implements account.BindingStore.
func (s *Store) BeginBinding(context.Context) error {
	return s.engine.Write(func(tx engine.Tx) error {
		if old, err := s.olderNodes(tx); err != nil {
			return err
		} else if len(old) > 0 {
			return fault.New(fault.Conflict, "these servers run an older version, which could no longer sign anyone "+
				"in: %s (the node.id of each); restart them with this version. If one is gone for good, run "+
				"the command again two minutes after it stopped, while another server runs", strings.Join(old, ", "))
		}
		return RaiseBinding(tx, account.Begun)
	})
}

// olderNodes returns the nodes whose last heartbeat is by a program that cannot open bound
// credentials.
func (s *Store) olderNodes(q engine.Querier) (list []string, err error) {
	if s.node == nil {
		return nil, nil
	}
	err = q.Each(func(row engine.Scanner) error {
		var id string
		err := row.Scan(&id)
		list = append(list, id)
		return err
	}, `SELECT id FROM node WHERE binding_beat <> beat ORDER BY id`)
	return list, err
}

// EndBinding implements account.BindingStore.
func (s *Store) EndBinding(context.Context) error {
	return s.engine.Write(func(tx engine.Tx) error { return RaiseBinding(tx, account.Bound) })
}

// resealed is a credential that was sealed again.
type resealed struct {
	uid      account.UID
	old, new []byte
}

// resealChunk is how many credentials one statement changes.
const resealChunk = 100

// Reseal implements account.BindingStore.
func (s *Store) Reseal(ctx context.Context, after account.UID, limit int,
	reseal func(account.Account) []byte) (last account.UID, err error) {
	var changes []resealed
	err = s.engine.Reads(ctx).Each(func(row engine.Scanner) error {
		a, err := scanAccount(row)
		if err != nil {
			return err
		}
		last = a.UID
		if sealed := reseal(a); sealed != nil {
			changes = append(changes, resealed{a.UID, a.Sealed, sealed})
		}
		return nil
	}, `SELECT `+accountColumns+` FROM account WHERE uid > $1 AND closed IS NULL ORDER BY uid LIMIT $2`,
		after[:], limit)
	if err != nil || len(changes) == 0 {
		return last, err
	}
	return last, s.engine.Write(func(tx engine.Tx) error {
		for chunk := range slices.Chunk(changes, resealChunk) {
			if err := storeResealed(tx, chunk); err != nil {
				return err
			}
		}
		return nil
	})
}

// storeResealed changes credentials, except those that were changed since they were read.
func storeResealed(tx engine.Tx, list []resealed) error {
	var cases strings.Builder
	var uids, olds []string
	var args []any
	for i, c := range list {
		fmt.Fprintf(&cases, " WHEN $%d THEN $%d", 3*i+1, 3*i+2)
		uids = append(uids, fmt.Sprintf("$%d", 3*i+1))
		olds = append(olds, fmt.Sprintf("$%d", 3*i+3))
		args = append(args, c.uid[:], c.new, c.old)
	}
	_, err := tx.Exec(`UPDATE account SET credential = CASE uid`+cases.String()+` ELSE credential END
		WHERE uid IN (`+strings.Join(uids, ", ")+`) AND closed IS NULL
			AND credential IN (`+strings.Join(olds, ", ")+`)`, args...)
	return err
}

// checkBinding checks that the form of the credentials in a store is one that ring opens. In a new
// store, all credentials will have the newer form.
func checkBinding(tx engine.Tx, ring *secret.Ring, isNew bool) error {
	if isNew {
		return errors.Join(RaiseBinding(tx, account.Bound), SetLinkOrder(tx, orderedLinks))
	}
	b, err := binding(tx)
	if err == nil && b < account.Bound && ring.IsStrict() {
		err = ErrUnbound
	}
	return err
}
