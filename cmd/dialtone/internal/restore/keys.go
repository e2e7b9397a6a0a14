package restore

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"dialtone/cmd/dialtone/internal/keys"
	"dialtone/cmd/dialtone/internal/runas"
	"dialtone/internal/archive"
	"dialtone/internal/datadir"
	"dialtone/internal/fault"
	"dialtone/internal/secret"
	"dialtone/internal/secret/keyfile"
	"dialtone/internal/shellword"
)

// rings holds the keys of the restored installation. sign and turn are nil if there is no such key.
type rings struct{ seal, sign, turn *secret.Ring }

// sameDir reports whether two paths name the same directory.
func sameDir(a, b string) bool {
	if a == "" || b == "" {
		return false
	}
	x, errX := os.Stat(a)
	y, errY := os.Stat(b)
	if errX != nil || errY != nil {
		return filepath.Clean(a) == filepath.Clean(b)
	}
	return os.SameFile(x, y)
}

// checkKeyPlaces fails if there are other keys at the places where the restore puts those of the archive.
func (r *restore) checkKeyPlaces() error {
	if sameDir(r.KeysDir, r.conf.Keys.Dir) {
		return nil
	}
	for _, k := range keys.Files(r.keys) {
		if k.Source.FromEnv() {
			continue
		}
		if _, err := os.Lstat(k.Source.Path); err == nil {
			return fault.New(fault.Conflict, "%s exists; move it away, or use it for the restore with --keys-dir %s",
				k.Source.Path, shellword.Path(filepath.Dir(k.Source.Path)))
		} else if !errors.Is(err, fs.ErrNotExist) {
			return runas.InDataDir(err)
		}
	}
	return nil
}

// loadKeys reads the keys from the environment, from --keys-dir or from the archive.
func (r *restore) loadKeys() error {
	from := r.KeysDir
	if from == "" {
		from = r.staging.Path(archive.KeysDir)
	}
	for _, k := range []struct {
		name   string
		source keyfile.Source
		ring   **secret.Ring
	}{
		{"seal.key", r.keys.Seal, &r.rings.seal}, {"sign.key", r.keys.Sign, &r.rings.sign},
		{"turn.key", r.keys.TURN, &r.rings.turn},
	} {
		var err error
		if k.source.FromEnv() {
			*k.ring, err = k.source.Read()
		} else {
			*k.ring, err = keyfile.Read(filepath.Join(from, k.name))
		}
		if errors.Is(err, keyfile.ErrMissing) {
			err = nil
		}
		if err != nil {
			return fmt.Errorf("%w: %w", keyfile.ErrUnusable, err)
		}
	}
	if r.rings.seal == nil && r.KeysDir != "" {
		return fmt.Errorf("%w: there is no seal.key in %s", keyfile.ErrUnusable, r.KeysDir)
	} else if r.rings.seal == nil {
		return fmt.Errorf("%w: the backup contains no keys; give the directory with a copy of its seal.key: "+
			"--keys-dir DIR", keyfile.ErrUnusable)
	}
	return nil
}

// renewKeys replaces the keys that sign sessions, links and TURN credentials. Keys in the environment become tasks of
// the operator.
func (r *restore) renewKeys() {
	if r.keys.Sign.FromEnv() {
		r.tasks = append(r.tasks, "the signing key is in the environment: before you start a server, replace "+
			"DIALTONE_KEYS_SIGN with what dialtone keys rotate --revoke prints; until then, open forms stay valid")
	} else if r.rings.sign == nil {
		r.rings.sign = secret.NewRing(r.now)
	} else {
		r.rings.sign = keys.SignRotation(false, true).Apply(r.rings.sign, r.now)
	}
	switch {
	case r.rings.turn == nil:
	case r.keys.TURN.FromEnv():
		r.tasks = append(r.tasks, "the key of the TURN servers is in the environment: replace DIALTONE_KEYS_TURN with "+
			"what dialtone turn secret --rotate --revoke prints, and give the new secret to the TURN servers")
	default:
		r.rings.turn = keys.TURNRotation(true).Apply(r.rings.turn, r.now)
		r.tasks = append(r.tasks, "the TURN servers need the new secret, which dialtone turn secret prints; until "+
			"they have it, they accept credentials from before the restore, and none from after it")
	}
}

const newKeysDir = "new-keys"

// stageKeys writes the keys to the staging directory, and adds them to the plan.
func (r *restore) stageKeys() error {
	if err := r.staging.Mkdir(newKeysDir); err != nil {
		return err
	}
	for _, k := range []struct {
		name   string
		source keyfile.Source
		ring   *secret.Ring
	}{
		{"seal.key", r.keys.Seal, r.rings.seal}, {"sign.key", r.keys.Sign, r.rings.sign},
		{"turn.key", r.keys.TURN, r.rings.turn},
	} {
		if k.ring == nil || k.source.FromEnv() {
			continue
		}
		from := filepath.Join(newKeysDir, k.name)
		if err := keyfile.Create(r.staging.Path(from), k.ring); err != nil {
			return err
		}
		r.plan = append(r.plan, datadir.Move{From: from, To: k.source.Path})
	}
	return nil
}

// replaceKeys replaces the signing keys in place.
func (r *restore) replaceKeys() (err error) {
	for _, k := range []struct {
		source keyfile.Source
		ring   **secret.Ring
	}{{r.keys.Sign, &r.rings.sign}, {r.keys.TURN, &r.rings.turn}} {
		if *k.ring, err = k.source.Read(); err != nil && !errors.Is(err, keyfile.ErrMissing) {
			return err
		}
	}
	hadSign := r.rings.sign != nil
	r.renewKeys()
	write := func(source keyfile.Source, ring *secret.Ring, exists bool) error {
		if ring == nil || source.FromEnv() {
			return nil
		}
		if exists {
			return keyfile.Replace(source.Path, ring)
		}
		return keyfile.Create(source.Path, ring)
	}
	return errors.Join(write(r.keys.Sign, r.rings.sign, hadSign), write(r.keys.TURN, r.rings.turn, true))
}
