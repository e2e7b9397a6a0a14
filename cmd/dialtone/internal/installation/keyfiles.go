package installation

import (
	"dialtone/internal/config"
	"dialtone/internal/datadir"
	"dialtone/internal/secret"
	"dialtone/internal/secret/keyfile"
	"dialtone/internal/session"
	"dialtone/internal/tenant"
)

// KeySources returns the keys of the configuration.
func KeySources(c config.KeyFiles) *datadir.Keys {
	return datadir.NewKeys(c.Dir, datadir.KeyTexts{Seal: c.Seal, Sign: c.Sign, TURN: c.Turn})
}

// KeyFile is one of the keys.
type KeyFile struct {
	Name   string
	Source keyfile.Source
}

// KeyFiles returns the keys with the names of their files.
func KeyFiles(k *datadir.Keys) []KeyFile {
	return []KeyFile{{"seal.key", k.Seal}, {"sign.key", k.Sign}, {"turn.key", k.TURN}}
}

// SignRotation keeps a key as long as sessions that it signed are valid. Servers that share the key
// file read it again within seconds; an environment has to be given to each.
func SignRotation(fromEnv, revoke bool) secret.Rotation {
	return secret.Rotation{Life: session.Life, Delayed: fromEnv, Revoke: revoke}
}

// TURNRotation keeps a secret as long as credentials that were made with it are valid.
func TURNRotation(revoke bool) secret.Rotation {
	return secret.Rotation{Life: tenant.MaxTURNLife, Delayed: true, Revoke: revoke}
}
