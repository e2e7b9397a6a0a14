package audit

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"dialtone/internal/secret"
)

// signer makes and checks codes.
type signer struct {
	newest string
	keys   map[string]signerKey
}

type signerKey struct{ change, checkpoint, state *secret.MAC }

func newSigner(r *secret.Ring) *signer {
	s := &signer{keys: make(map[string]signerKey)}
	for i, id := range r.IDs() {
		if i == 0 {
			s.newest = id.String()
		}
		one := r.Only(id)
		s.keys[id.String()] = signerKey{
			secret.NewMAC(one, "audit change"), secret.NewMAC(one, "audit checkpoint"),
			secret.NewMAC(one, "audit state"),
		}
	}
	return s
}

func number(n int64) []byte { return binary.BigEndian.AppendUint64(nil, uint64(n)) }

// erased returns what remains of a change after the store has erased its account.
func erased(c Change) Change {
	switch c.Action {
	case PasswordNotMe:
		c.Before, c.After = "", ""
	case PasskeyAdd, PasskeyRename, PasskeyRemove:
		c.Subject = ""
	}
	if c.Actor.Kind == Person {
		c.Net = NetworkOf(c.Net)
	}
	return c
}

// code returns the code of a change.
func (k signerKey) code(c Change) []byte {
	full := k.change.Sum(number(c.ID), number(c.At.UnixMicro()), []byte(c.Action), []byte(c.Outcome), []byte(c.Tenant),
		[]byte(c.Account), []byte(c.User), []byte(c.Subject), []byte(c.Before), []byte(c.After),
		[]byte(c.Actor.Kind), []byte(c.Actor.Name), []byte(c.Actor.ID), []byte(c.Actor.Sudo), []byte(c.Reason),
		[]byte(c.Net), []byte(c.Request))
	return full[:codeSize]
}

// tag returns the tag of a change.
func (k signerKey) tag(c Change) []byte {
	return slices.Concat(number(c.ID), k.code(c), k.code(erased(c)))
}

// matches reports whether a tag belongs to a change, or to the change as it was before its account was erased.
func (k signerKey) matches(tag []byte, c Change) bool {
	code := k.code(c)
	return bytes.Equal(tag[8:8+codeSize], code) || c == erased(c) && bytes.Equal(tag[8+codeSize:], code)
}

func (c Checkpoint) signed(before []byte) [][]byte {
	return [][]byte{before, number(c.ID), number(c.At.UnixMicro()), []byte(c.Node), number(c.First), number(c.Through),
		number(int64(c.Changes)), c.Tags, []byte(c.Seal)}
}

func (s state) signed() [][]byte {
	return [][]byte{number(s.At.UnixMicro()), number(s.Oldest), number(s.Newest), number(s.First), number(s.Through),
		s.Base, s.Top, number(s.Began.UnixMicro()), number(s.Unproved), []byte(s.Seal)}
}

// text signs a state and returns its stored form.
func (s *signer) text(st state) string {
	st.Seal = s.newest
	mac := s.keys[st.Seal].state.Sum(st.signed()...)
	st.MAC = mac[:]
	b, err := json.Marshal(st)
	if err != nil {
		panic("audit: a state is JSON: " + err.Error())
	}
	return string(b)
}

// parse returns the state in a text. An empty text is the state without checkpoints.
func (s *signer) parse(text string) (st state, err error) {
	if text == "" {
		return state{Oldest: 1}, nil
	}
	if err := json.Unmarshal([]byte(text), &st); err != nil {
		return st, errState
	}
	if st.Seal == "" {
		return st, errState
	}
	k, ok := s.keys[st.Seal]
	if !ok {
		return st, fmt.Errorf("the state of the audit trail is signed with the key %q, which seal.key lacks", st.Seal)
	}
	if len(st.MAC) != 32 || !k.state.Verify(st.MAC, st.signed()...) {
		return st, errState
	}
	return st, nil
}

var errState = errors.New("the signed state of the audit trail was edited; run dialtone verify")
