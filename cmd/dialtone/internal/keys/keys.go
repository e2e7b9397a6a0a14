// Package keys replaces keys while servers use them, for the commands keys rotate, keys bind and turn secret.
//
// What an earlier key has signed stays valid for as long as it was meant to, unless the earlier key is revoked. If the
// environment contains a key, only an operator can replace it: the functions then return the new content and write
// nothing.
//
// RotateSign and RotateTURN make new keys. A Binding seals all credentials of a store again, bound to their user
// names.
//
// Package keyfile lets running servers read the new keys.
package keys

import (
	"errors"
	"time"

	"dialtone/cmd/dialtone/internal/installation"
	"dialtone/internal/datadir"
	"dialtone/internal/secret"
	"dialtone/internal/secret/keyfile"
	"dialtone/internal/session"
	"dialtone/internal/tenant"
)

// File is the place of one key.
type File struct {
	Name   string // of the file, also if the key is in the environment
	Source keyfile.Source
}

// Files returns the places of all keys.
func Files(k *datadir.Keys) []File {
	return []File{{"seal.key", k.Seal}, {"sign.key", k.Sign}, {"turn.key", k.TURN}}
}

// SignRotation returns the rotation of the signing key. It keeps an older key while sessions that it signed are valid.
// Servers that share the key file read it again within seconds, but an environment has to be changed for each server.
func SignRotation(fromEnv, revoke bool) secret.Rotation {
	return secret.Rotation{Life: session.Life, Delayed: fromEnv, Revoke: revoke}
}

// TURNRotation returns the rotation of the TURN key. It keeps an older secret while credentials that were made with it
// are valid.
func TURNRotation(revoke bool) secret.Rotation {
	return secret.Rotation{Life: tenant.MaxTURNLife, Delayed: true, Revoke: revoke}
}

// RotateSign makes a new signing key and returns the key with those that it replaces. created means that there was no
// key, and that one was created, even if there is an error later.
func RotateSign(
	in *installation.Installation, revoke bool, now time.Time,
) (ring *secret.Ring, created bool, err error) {
	source := in.KeySources.Sign
	err = in.InKeys(func() error {
		ring, err = source.Read()
		if errors.Is(err, keyfile.ErrMissing) && !in.Shared() {
			ring, err = in.KeySources.CreateSign(now)
			created = err == nil
		}
		if err != nil {
			return err
		}
		ring = SignRotation(source.FromEnv(), revoke).Apply(ring, now)
		return replace(source, ring)
	})
	return ring, created, err
}

// TURN returns the TURN key, with those that it has replaced. If there is none, it creates one.
func TURN(in *installation.Installation, now time.Time) (ring *secret.Ring, err error) {
	err = in.InKeys(func() error {
		ring, err = in.KeySources.TURN.Read()
		if errors.Is(err, keyfile.ErrMissing) {
			ring, err = in.KeySources.CreateTURN(now)
		}
		return err
	})
	return ring, err
}

// RotateTURN makes a new TURN key and returns the key with those that it replaces.
func RotateTURN(in *installation.Installation, revoke bool, now time.Time) (*secret.Ring, error) {
	ring, err := TURN(in, now)
	if err != nil {
		return nil, err
	}
	ring = TURNRotation(revoke).Apply(ring, now)
	return ring, in.InKeys(func() error { return replace(in.KeySources.TURN, ring) })
}

// replace writes a key, unless it is in the environment.
func replace(source keyfile.Source, ring *secret.Ring) error {
	if source.FromEnv() {
		return nil
	}
	return keyfile.Replace(source.Path, ring)
}
