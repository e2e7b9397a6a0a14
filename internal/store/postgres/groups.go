package postgres

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"dialtone/internal/account"
	"dialtone/internal/fault"
	"dialtone/internal/store/admission"
	"dialtone/internal/store/engine"
)

// signup is a signup in the queue, and its time.
type signup struct {
	account.Signup
	now time.Time
}

type job = engine.Job[signup]

// Create implements admission.Grouper: it runs a signup in a group with others.
func (e *Engine) Create(a account.Signup, now time.Time) error {
	if err := e.breaker.open(); err != nil {
		return err
	}
	return e.queue.Run(&job{Work: signup{a, now}, Keys: admission.Keys(a)})
}

// admitAll commits a group and sets the error of each job.
func (e *Engine) admitAll(group []*job) {
	ctx, cancel := context.WithTimeout(context.Background(), operationTimeout)
	defer cancel()
	for n := 1; ; n++ {
		if err := e.breaker.open(); err != nil {
			failAll(group, err)
			return
		}
		decisions, what, err := e.tryGroup(ctx, group)
		switch {
		case what == done:
			for i, j := range group {
				j.Err = decisions[i].Refusal
			}
		case what == unknown:
			e.breaker.probeNow()
			e.settleDoubt(group, decisions)
		case ctx.Err() == nil && n < maxAttempts && (lost(err) || len(group) == 1) && e.retryable(err):
			pause(ctx, n)
			continue
		case !lost(err) && len(group) > 1:
			// One signup makes the group fail. The signups are run one by one, so that only that
			// one gets the error.
			for _, j := range group {
				e.admitAll([]*job{j})
			}
		default:
			failAll(group, e.asFault(err))
		}
		return
	}
}

// failAll sets the error of every job in a group.
func failAll(group []*job, err error) {
	for _, j := range group {
		j.Err = err
	}
}

// tryGroup runs a group once, in one transaction of two round trips: the first takes the locks and
// reads the facts, the second writes the rows and commits.
func (e *Engine) tryGroup(ctx context.Context, group []*job) ([]admission.Decision, outcome, error) {
	ctx, cancel := e.breaker.withCancel(ctx)
	defer cancel()
	conn, err := e.pool.Acquire(ctx)
	if err != nil {
		return nil, nothing, err
	}
	defer release(conn)
	list, err := e.gatherAll(ctx, conn.Conn(), group)
	if err != nil {
		rollback(conn.Conn())
		return nil, nothing, err
	}
	decisions := make([]admission.Decision, len(group))
	writes := &writes{}
	for i, j := range group {
		decisions[i] = list[i].Decide(j.Work.Signup)
		writes.add(decisions[i], j)
	}
	if writes.empty() {
		rollback(conn.Conn())
		return decisions, done, nil
	}
	committed, err := writes.send(ctx, conn.Conn(), e.name)
	switch {
	case committed:
		return decisions, done, nil
	case answered(err) != nil:
		rollback(conn.Conn())
		return nil, nothing, err
	default:
		return decisions, unknown, err
	}
}

// gatherAll begins a transaction, takes the locks and reads the facts about each signup.
func (e *Engine) gatherAll(ctx context.Context, conn *pgx.Conn, group []*job) ([]admission.Facts, error) {
	list := make([]admission.Facts, len(group))
	var keys []int64
	var limits struct {
		of     []int32 // index of the signup in the group
		index  []int32 // index of the allowance in the signup
		bucket [][]byte
		since  []int64
		skip   []int64
	}
	var of []int32
	var expires, tenants, nows []int64
	var nonces [][]byte
	var users []string
	for i, j := range group {
		a := &j.Work.Signup
		keys = append(keys, j.Keys...)
		for k, al := range admission.Allowances(*a) {
			limits.of = append(limits.of, int32(i))
			limits.index = append(limits.index, int32(k))
			limits.bucket = append(limits.bucket, al.Bucket[:])
			limits.since = append(limits.since, engine.Micros(j.Work.now.Add(-al.Rule.Per)))
			limits.skip = append(limits.skip, int64(al.Rule.Limit-1))
		}
		of = append(of, int32(i))
		expires = append(expires, engine.Micros(a.Captcha.Expires))
		nonces = append(nonces, a.Captcha.Nonce[:])
		tenants = append(tenants, a.Account.Tenant)
		users = append(users, a.Account.User)
		nows = append(nows, engine.Micros(j.Work.now))
	}
	batch := &pgx.Batch{}
	e.queueBegin(batch)
	batch.Queue(takeLocks, keys)
	// At READ COMMITTED, each of the following statements sees all transactions that held these
	// locks before.
	batch.Queue(`SELECT w.i, w.k, t.at
		FROM unnest($1::int[], $2::int[], $3::bytea[], $4::bigint[], $5::bigint[]) w (i, k, bucket, since, skip)
		CROSS JOIN LATERAL (SELECT at FROM taken WHERE bucket = w.bucket AND at > w.since
			ORDER BY at DESC LIMIT 1 OFFSET w.skip) t`,
		limits.of, limits.index, limits.bucket, limits.since, limits.skip).Query(func(rows pgx.Rows) error {
		return eachRow(rows, nil, func(row engine.Scanner) error {
			var i, k int32
			var at int64
			if err := row.Scan(&i, &k, &at); err != nil {
				return err
			}
			j := group[i]
			wait := admission.WaitSince(engine.FromMicros(at), admission.Allowances(j.Work.Signup)[k], j.Work.now)
			if int(k) < len(j.Work.Signup.Address) {
				list[i].Address = list[i].Address.Max(wait)
			} else {
				list[i].Recipient = list[i].Recipient.Max(wait)
			}
			return nil
		})
	})
	batch.Queue(`SELECT w.i FROM unnest($1::int[], $2::bigint[], $3::bytea[]) w (i, expires, nonce)
		JOIN spent s ON s.expires = w.expires AND s.nonce = w.nonce`,
		of, expires, nonces).Query(func(rows pgx.Rows) error {
		return eachRow(rows, nil, func(row engine.Scanner) error {
			var i int32
			err := row.Scan(&i)
			if err == nil {
				list[i].Used = true
			}
			return err
		})
	})
	batch.Queue(`SELECT w.i, a.uid, a.closed IS NOT NULL OR a.activated IS NOT NULL OR a.expires > w.now
		FROM unnest($1::int[], $2::bigint[], $3::text[], $4::bigint[]) w (i, tenant, username, now)
		JOIN account a ON a.tenant = w.tenant AND a.username = w.username`,
		of, tenants, users, nows).Query(func(rows pgx.Rows) error {
		return eachRow(rows, nil, func(row engine.Scanner) error {
			var i int32
			var uid []byte
			var taken bool
			err := row.Scan(&i, &uid, &taken)
			if err == nil {
				list[i].Holder, list[i].Taken = uid, taken
			}
			return err
		})
	})
	return list, conn.SendBatch(ctx, batch).Close()
}

// writes holds the rows of a group, by table and column.
type writes struct {
	clears [][]byte
	spent  struct {
		expires []int64
		nonce   [][]byte
	}
	taken struct {
		bucket, account [][]byte
		at, until       []int64
	}
	account struct {
		uid, credential, token  [][]byte
		tenant                  []int64
		user, name, email       []string
		role, lang, net         []string
		held, sha256            []bool
		created, expires, epoch []int64
		message, sealedToken    [][]byte
	}
}

// empty reports whether there is nothing to write. Every write spends a captcha.
func (w *writes) empty() bool { return len(w.spent.nonce) == 0 }

// add adds the rows that a decision writes.
func (w *writes) add(v admission.Decision, j *job) {
	a := &j.Work.Signup
	if v.Clears != nil {
		w.clears = append(w.clears, v.Clears)
	}
	if v.Spends {
		w.spent.expires = append(w.spent.expires, engine.Micros(a.Captcha.Expires))
		w.spent.nonce = append(w.spent.nonce, a.Captcha.Nonce[:])
	}
	if !v.Admits {
		return
	}
	c := &a.Account
	for _, al := range admission.Allowances(*a) {
		w.taken.bucket = append(w.taken.bucket, slices.Clone(al.Bucket[:]))
		w.taken.at = append(w.taken.at, engine.Micros(j.Work.now))
		w.taken.account = append(w.taken.account, c.UID[:])
		w.taken.until = append(w.taken.until, engine.Micros(j.Work.now.Add(al.Rule.Per)))
	}
	r := &w.account
	r.uid, r.tenant = append(r.uid, c.UID[:]), append(r.tenant, c.Tenant)
	r.user, r.name, r.email = append(r.user, c.User), append(r.name, c.Name), append(r.email, c.Email)
	r.role, r.held = append(r.role, string(c.Role)), append(r.held, c.Held)
	r.lang, r.net = append(r.lang, string(c.Lang)), append(r.net, c.Net)
	r.created, r.expires = append(r.created, engine.Micros(c.Created)), append(r.expires, engine.Micros(c.Expires))
	r.epoch, r.credential = append(r.epoch, c.Epoch), append(r.credential, c.Sealed)
	r.sha256, r.token = append(r.sha256, c.HasSHA256), append(r.token, a.Token[:])
	r.message, r.sealedToken = append(r.message, a.Message[:]), append(r.sealedToken, a.SealedToken)
}

// send writes the rows and commits. committed is true where the commit is known to have succeeded.
func (w *writes) send(ctx context.Context, conn *pgx.Conn, node string) (committed bool, err error) {
	batch := &pgx.Batch{}
	if len(w.clears) > 0 {
		// An account that was enabled since the check stays, and the INSERT below then fails.
		batch.Queue(`DELETE FROM account
			WHERE uid = ANY ($1::bytea[]) AND activated IS NULL AND closed IS NULL`, w.clears)
	}
	batch.Queue(`INSERT INTO spent (expires, nonce)
			SELECT * FROM unnest($1::bigint[], $2::bytea[]) ON CONFLICT DO NOTHING`,
		w.spent.expires, w.spent.nonce)
	if r := &w.account; len(r.uid) > 0 {
		batch.Queue(`INSERT INTO taken (bucket, at, account, until)
			SELECT * FROM unnest($1::bytea[], $2::bigint[], $3::bytea[], $4::bigint[])`,
			w.taken.bucket, w.taken.at, w.taken.account, w.taken.until)
		batch.Queue(`INSERT INTO account (uid, tenant, username, name, email, role, held, created, expires, epoch,
				credential, has_sha256, token, lang, signup_net, first_signin)
			SELECT w.*, NULL::bigint FROM unnest($1::bytea[], $2::bigint[], $3::text[], $4::text[], $5::text[],
				$6::text[], $7::bool[], $8::bigint[], $9::bigint[], $10::bigint[], $11::bytea[], $12::bool[],
				$13::bytea[], $14::text[], $15::text[]) w`,
			r.uid, r.tenant, r.user, r.name, r.email, r.role, r.held, r.created, r.expires, r.epoch, r.credential,
			r.sha256, r.token, r.lang, r.net)
		batch.Queue(`INSERT INTO outbox (account, message, token, node) SELECT u.account, u.message, u.token, $4
			FROM unnest($1::bytea[], $2::bytea[], $3::bytea[]) u (account, message, token)`,
			r.uid, r.message, r.sealedToken, node)
	}
	batch.Queue(`COMMIT`).Exec(func(tag pgconn.CommandTag) error {
		committed = tag.String() == "COMMIT"
		return nil
	})
	forgetWarning(conn)
	err = conn.SendBatch(ctx, batch).Close()
	switch {
	case err == nil && !committed:
		err = errors.New("the transaction was rolled back")
	case committed:
		err = warning(conn)
		committed = err == nil
	}
	return committed, err
}

// settleDoubt finds out whether a group whose COMMIT was not answered was committed. It runs the
// signups again that were not.
func (e *Engine) settleDoubt(group []*job, decisions []admission.Decision) {
	ctx, cancel := context.WithTimeout(context.Background(), operationTimeout)
	defer cancel()
	var uids [][]byte
	var keys []int64
	for i, j := range group {
		keys = append(keys, j.Keys...)
		if decisions[i].Admits {
			uids = append(uids, j.Work.Signup.Account.UID[:])
		}
	}
	for n := 1; ctx.Err() == nil; n++ {
		e.breaker.wait(ctx)
		exists := make(map[account.UID]bool)
		what, err := e.try(ctx, func(tx engine.Tx) error {
			// Once these locks are held, the transaction in doubt has ended.
			if err := tx.Lock(keys...); err != nil {
				return err
			}
			err := tx.Each(func(row engine.Scanner) error {
				var uid []byte
				err := row.Scan(&uid)
				if err == nil && len(uid) == len(account.UID{}) {
					exists[account.UID(uid)] = true
				}
				return err
			}, `SELECT uid FROM account WHERE uid = ANY ($1::bytea[])`, uids)
			if err != nil {
				return err
			}
			for i, j := range group {
				// A refusal stands. Its captcha is spent now, if it was not before.
				if v := decisions[i]; v.Spends && !v.Admits {
					c := &j.Work.Captcha
					if _, err := tx.Exec(`INSERT INTO spent (expires, nonce) VALUES ($1, $2)
						ON CONFLICT DO NOTHING`, engine.Micros(c.Expires), c.Nonce[:]); err != nil {
						return err
					}
				}
			}
			return nil
		}, true)
		if what != done {
			e.retryable(err)
			pause(ctx, n)
			continue
		}
		for i, j := range group {
			j.Err = decisions[i].Refusal
			if decisions[i].Admits && !exists[j.Work.Signup.Account.UID] {
				e.admitAll([]*job{j})
			}
		}
		return
	}
	for i, j := range group {
		j.Err = fault.ErrInDoubt
		if !decisions[i].Spends {
			j.Err = decisions[i].Refusal
		}
	}
}
