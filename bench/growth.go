package main

import (
	"context"
	"crypto/rand"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"dialtone/internal/account"
	"dialtone/internal/digest"
	"dialtone/internal/secret/keyfile"
	"dialtone/internal/store/sqlite/conn"
)

// growth prints figures for increasing numbers of accounts.
func growth(ctx context.Context, o options) error {
	const conns = 64
	fmt.Println("| accounts | first answer | memory at start | signups/s | p50 | p99 " +
		"| processor time, each | KiB written, each | sign-ins/s | p50 | p99 | processor time, each | peak memory |")
	fmt.Println("| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |")
	for _, n := range o.accounts {
		data := filepath.Join(o.dir, fmt.Sprintf("growth-%d", n))
		users, err := populate(ctx, o.binary, data, n)
		if err != nil {
			return err
		}
		p, err := startDialtone(ctx, o.binary, data)
		if err != nil {
			return err
		}
		idle := p.memory("VmRSS")
		stock, err := prefetch(p.target, int(12000*o.duration.Seconds()))
		if err != nil {
			return err
		}
		up, err := p.drive(conns, o.duration, signups(stock))
		if err != nil {
			return err
		}
		in, err := p.drive(conns, o.duration, signins(users))
		if err != nil {
			return err
		}
		if up.failed+in.failed > 0 {
			fmt.Printf("failed: %d %v, %d %v\n", up.failed, up.firstFailure, in.failed, in.firstFailure)
		}
		upTook, upWritten := up.each()
		inTook, _ := in.each()
		fmt.Printf("| %d | %s | %.0f MiB | %.0f | %s | %s | %d µs | %.1f | %.0f | %s | %s | %d µs | %.0f MiB |\n",
			n, show(p.first), idle, up.rate, show(up.p50), show(up.p99), upTook.Microseconds(), float64(upWritten)/1024,
			in.rate, show(in.p50), show(in.p99), inTook.Microseconds(), p.memory("VmHWM"))
		if err := p.stop(); err != nil {
			return err
		}
	}
	return nil
}

// populate makes a data directory with n active accounts. It writes them as the program would, sealed
// under the folder's own key, without the cost of a signup for each.
func populate(ctx context.Context, binary, data string, n int) (users []string, err error) {
	p, err := startDialtone(ctx, binary, data)
	if err != nil {
		return nil, err
	}
	if err := p.stop(); err != nil {
		return nil, err
	}
	ring, err := keyfile.Read(filepath.Join(data, "keys", "seal.key"))
	if err != nil {
		return nil, err
	}
	conn, err := conn.Open(filepath.Join(data, "dialtone.db"), conn.Options{})
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	if err := conn.Script(`PRAGMA synchronous = OFF; PRAGMA journal_mode = DELETE;
		PRAGMA foreign_keys = 1; PRAGMA cache_size = -200000; BEGIN`); err != nil {
		return nil, err
	}
	sealer := account.NewSealer(ring)
	at := time.Now().Add(-30 * 24 * time.Hour)
	for i := range n {
		user := fmt.Sprintf("person%08d", i)
		a := account.Account{Tenant: 1, UID: account.NewUID(at.Add(time.Duration(i) * time.Millisecond)), User: user}
		b, sha := digest.ComputeB(user, realm, password), digest.ComputeSHA256(user, realm, password)
		c := digest.Credential{HA1: digest.Compute(user, realm, password), HA1B: &b, SHA256: &sha}
		sealer.Seal(&a, c)
		var token [32]byte
		rand.Read(token[:])
		if _, err := conn.Exec(`INSERT INTO account (uid, tenant, username, name, email, role, held,
			created, expires, activated, epoch, credential, has_sha256, token)
			VALUES ($1, 1, $2, 'Alex Example', $3, 'guest', FALSE, $4, $5, $4, 0, $6, TRUE, $7)`,
			a.UID[:], user, user+"@example.org", at.UnixMicro(), at.Add(account.PendingLife).UnixMicro(),
			a.Sealed, token[:]); err != nil {
			return nil, err
		}
		if i%max(1, n/5000) == 0 {
			users = append(users, user)
		}
	}
	if err := conn.Script(`COMMIT`); err != nil {
		return nil, err
	}
	// The rows were written without syncs. They must be on disk before anything is measured.
	f, err := os.OpenFile(filepath.Join(data, "dialtone.db"), os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return users, f.Sync()
}
