package store

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"dialtone/internal/certificate"
	"dialtone/internal/fault"
	"dialtone/internal/operator"
	"dialtone/internal/store/engine"
)

var _ certificate.Store = (*Store)(nil)

const certificateColumns = `tenant, authority, issued, not_before, not_after, due, failures, failure, lease`

func scanCertificate(row engine.Scanner, also ...any) (s certificate.State, err error) {
	var issued sql.NullInt64
	var before, after, due, lease int64
	err = row.Scan(append([]any{&s.Tenant, &s.Authority, &issued, &before, &after, &due, &s.Failures, &s.Failure,
		&lease}, also...)...)
	if issued.Valid {
		s.Issued = engine.FromMicros(issued.Int64)
		s.NotBefore, s.NotAfter = engine.FromMicros(before), engine.FromMicros(after)
	}
	s.Due, s.Lease = engine.FromMicros(due), engine.FromMicros(lease)
	return s, err
}

// CertificateStates implements certificate.Store.
func (s *Store) CertificateStates(ctx context.Context) (list []certificate.State, err error) {
	err = s.engine.Reads(ctx).Each(func(row engine.Scanner) error {
		c, err := scanCertificate(row)
		list = append(list, c)
		return err
	}, `SELECT `+certificateColumns+` FROM certificate ORDER BY tenant`)
	return list, err
}

var errNoCertificate = fault.New(fault.NotFound, "there is no certificate for this tenant")

// CertificateStatuses implements operator.StatsStore.
func (s *Store) CertificateStatuses(ctx context.Context, tenant int64) (list []operator.CertificateStatus, err error) {
	err = s.engine.Reads(ctx).Each(func(row engine.Scanner) error {
		var c operator.CertificateStatus
		var issued sql.NullInt64
		var after int64
		err := row.Scan(&c.Host, &issued, &after, &c.Failures, &c.Failure)
		if issued.Valid {
			c.Expires = engine.FromMicros(after)
		}
		list = append(list, c)
		return err
	}, `SELECT host, issued, not_after, failures, failure FROM certificate JOIN tenant ON id = tenant
		WHERE CAST($1 AS BIGINT) = 0 OR tenant = $1 ORDER BY host`, tenant)
	return list, err
}

// Certificate implements certificate.Store.
func (s *Store) Certificate(ctx context.Context, tenant int64) (c certificate.Certificate, err error) {
	c.State, err = scanCertificate(s.engine.Reads(ctx).Row(`SELECT `+certificateColumns+`, chain, sealed
		FROM certificate WHERE tenant = $1 AND issued IS NOT NULL`, tenant), &c.Chain, &c.Sealed)
	if errors.Is(err, sql.ErrNoRows) {
		err = errNoCertificate
	}
	return c, err
}

// ClaimCertificate implements certificate.Store.
func (s *Store) ClaimCertificate(ctx context.Context, tenant int64, authority string, now, until time.Time) (
	c certificate.State, ok bool, err error,
) {
	// Times that lie too far in the future were written while a clock was ahead.
	err = s.engine.Write(func(tx engine.Tx) (err error) {
		c, err = scanCertificate(tx.Row(`INSERT INTO certificate (tenant, authority, tried, lease)
			SELECT id, CAST($2 AS TEXT), CAST($3 AS BIGINT), CAST($4 AS BIGINT) FROM tenant WHERE id = $1
			ON CONFLICT (tenant) DO UPDATE SET tried = $3, lease = $4
			WHERE (certificate.lease <= $3 OR certificate.lease > $5)
				AND (certificate.due <= $3 OR certificate.authority <> $2 AND certificate.tried <= $6)
			RETURNING `+certificateColumns, tenant, authority, engine.Micros(now), engine.Micros(until),
			engine.Micros(until.Add(maxSkew)), engine.Micros(now.Add(-certificate.ChangeWait))))
		ok = err == nil
		if errors.Is(err, sql.ErrNoRows) {
			err = nil
		}
		return err
	})
	return c, ok && err == nil, err
}

// KeepCertificate implements certificate.Store.
func (s *Store) KeepCertificate(_ context.Context, c certificate.Certificate) error {
	return s.engine.Write(func(tx engine.Tx) error {
		_, err := tx.Exec(`UPDATE certificate SET authority = $3, issued = $4, not_before = $5, not_after = $6,
			chain = $7, sealed = $8, due = $9, failures = 0, failure = '', lease = 0, challenge = ''
			WHERE tenant = $1 AND lease = $2`, c.Tenant, engine.Micros(c.Lease), c.Authority, engine.Micros(c.Issued),
			engine.Micros(c.NotBefore), engine.Micros(c.NotAfter), c.Chain, c.Sealed, engine.Micros(c.Due))
		return err
	})
}

// FailCertificate implements certificate.Store.
func (s *Store) FailCertificate(_ context.Context, c certificate.State) error {
	return s.engine.Write(func(tx engine.Tx) error {
		_, err := tx.Exec(`UPDATE certificate SET authority = $3, due = $4, failures = $5, failure = $6, lease = 0,
			challenge = '' WHERE tenant = $1 AND lease = $2`, c.Tenant, engine.Micros(c.Lease), c.Authority,
			engine.Micros(c.Due), c.Failures, c.Failure)
		return err
	})
}

// SetChallenge implements certificate.Store.
func (s *Store) SetChallenge(_ context.Context, c certificate.State, challenge certificate.Challenge) error {
	return s.engine.Write(func(tx engine.Tx) error {
		n, err := tx.Exec(`UPDATE certificate SET challenge = $3, authority = $4 WHERE tenant = $1 AND lease = $2`,
			c.Tenant, engine.Micros(c.Lease), challenge.Token, challenge.Authority)
		if err == nil && n == 0 {
			err = fault.New(fault.Conflict, "another server orders the certificate")
		}
		return err
	})
}

// ChallengeOf implements certificate.Store.
func (s *Store) ChallengeOf(ctx context.Context, tenant int64) (c certificate.Challenge, err error) {
	err = s.engine.Reads(ctx).Row(`SELECT authority, challenge FROM certificate WHERE tenant = $1
		AND challenge <> ''`, tenant).Scan(&c.Authority, &c.Token)
	if errors.Is(err, sql.ErrNoRows) {
		err = fault.New(fault.NotFound, "no certificate is being ordered for this tenant")
	}
	return c, err
}

// AddAuthorityKey implements certificate.Store.
func (s *Store) AddAuthorityKey(_ context.Context, authority string, sealed []byte, now time.Time) (
	stored []byte, err error,
) {
	err = s.engine.Write(func(tx engine.Tx) error {
		_, err := tx.Exec(`INSERT INTO authority_key (authority, sealed, made) VALUES ($1, $2, $3)
			ON CONFLICT (authority) DO NOTHING`, authority, sealed, engine.Micros(now))
		if err != nil {
			return err
		}
		return tx.Row(`SELECT sealed FROM authority_key WHERE authority = $1`, authority).Scan(&stored)
	})
	return stored, err
}

// AuthorityKey implements certificate.Store.
func (s *Store) AuthorityKey(ctx context.Context, authority string) (sealed []byte, err error) {
	err = s.engine.Reads(ctx).Row(`SELECT sealed FROM authority_key WHERE authority = $1`, authority).Scan(&sealed)
	if errors.Is(err, sql.ErrNoRows) {
		err = fault.New(fault.NotFound, "there is no key for this authority")
	}
	return sealed, err
}
