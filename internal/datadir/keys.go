package datadir

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"dialtone/internal/atomicfile"
	"dialtone/internal/redact"
	"dialtone/internal/secret"
	"dialtone/internal/secret/keyfile"
)

// Keys are the keys of an installation, which package secret describes. Each is in an environment
// variable or in a file of one directory.
type Keys struct {
	Seal, Sign, TURN keyfile.Source

	dir string
}

// KeyTexts are the keys that the environment holds. The others are empty.
type KeyTexts struct{ Seal, Sign, TURN redact.Of[string] }

// NewKeys returns the keys of a directory, except those that the environment holds. It reads
// nothing.
func NewKeys(dir string, env KeyTexts) *Keys {
	source := func(file, variable string, text redact.Of[string]) keyfile.Source {
		return keyfile.Source{Path: filepath.Join(dir, file), Variable: variable, Text: text}
	}
	return &Keys{
		Seal: source("seal.key", "DIALTONE_KEYS_SEAL", env.Seal),
		Sign: source("sign.key", "DIALTONE_KEYS_SIGN", env.Sign),
		TURN: source("turn.key", "DIALTONE_KEYS_TURN", env.TURN),
		dir:  dir,
	}
}

// Store is what Open has to know about the store.
type Store struct {
	// Shared is set if other servers use the store.
	Shared bool
	// KeepKeys is set if no key may be created. Then sign.key may be missing from a store that is
	// not shared.
	KeepKeys bool
	// Sealed reports whether something in the store has been sealed.
	Sealed func() (bool, error)
}

// Open reads seal.key and sign.key, creates them if they are missing (unless Store.KeepKeys is set),
// and returns the keys that seal the store. Its errors wrap keyfile.ErrUnusable, except those of
// Store.Sealed.
//
// It does not create a key that must exist already. A new seal.key could not open what is in the
// store. A new sign.key would not accept what other servers have signed.
func (k *Keys) Open(s Store, now time.Time) (*secret.Ring, error) {
	const lostSeal = "what is in the store cannot be read without it; restore it from a backup"
	if err := mustExist(k.Seal, s, lostSeal); err != nil {
		return nil, err
	}
	if s.Shared {
		const lostSign = "other servers of this database sign with it; copy it from one of them"
		if err := mustExist(k.Sign, s, lostSign); err != nil {
			return nil, err
		}
	}
	for _, source := range []keyfile.Source{k.Seal, k.Sign} {
		if source.FromEnv() || s.KeepKeys {
			continue
		}
		if _, err := k.readOrCreate(source, now); err != nil {
			return nil, err
		}
	}
	seal, err := k.Seal.Read()
	if err != nil {
		return nil, err
	}
	_, err = k.Sign.Read()
	if s.KeepKeys && !s.Shared && errors.Is(err, keyfile.ErrMissing) {
		err = nil // the next server creates it
	}
	return seal, err
}

// mustExist returns an error if a key is missing although the store is sealed.
func mustExist(source keyfile.Source, s Store, advice string) error {
	if source.FromEnv() {
		return nil
	}
	if _, err := os.Stat(source.Path); !errors.Is(err, fs.ErrNotExist) {
		return nil // readOrCreate reports any other error
	}
	sealed, err := s.Sealed()
	if err == nil && sealed {
		err = fmt.Errorf("%w: %s is missing, and %s", keyfile.ErrUnusable, source.Path, advice)
	}
	return err
}

// CreateTURN reads turn.key, creating it first if it is missing. Open does not create it: TURN
// servers would not know the key, and servers that share a database would create different ones.
func (k *Keys) CreateTURN(now time.Time) (*secret.Ring, error) { return k.readOrCreate(k.TURN, now) }

// CreateSign reads sign.key, creating it first if it is missing.
func (k *Keys) CreateSign(now time.Time) (*secret.Ring, error) { return k.readOrCreate(k.Sign, now) }

func (k *Keys) readOrCreate(source keyfile.Source, now time.Time) (*secret.Ring, error) {
	// The parent is not created. If it is missing, a volume may not be mounted.
	if err := atomicfile.Mkdir(k.dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, fmt.Errorf("%w: the directory of the keys cannot be created: %w; "+
			"mount or create its parent, or correct keys.dir", keyfile.ErrUnusable, err)
	}
	open := keyfile.ReadOrCreate
	if source.Path == k.Seal.Path {
		open = keyfile.ReadOrCreateStrict // a new store has no values of an older form
	}
	ring, err := open(source.Path, now)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", keyfile.ErrUnusable, err)
	}
	return ring, nil
}
