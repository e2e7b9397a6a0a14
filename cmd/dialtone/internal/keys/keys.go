// Package keys replaces keys while servers use them.
package keys

import (
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
