package web

import (
	"net/http"
	"time"

	"dialtone/internal/account"
	"dialtone/internal/http/answer"
	"dialtone/internal/sipserver"
)

// listPhones is listPhonesOf for a page of this host.
func (s *Site) listPhones(w http.ResponseWriter, r *request) error {
	if err := ownPage(r); err != nil {
		return err
	}
	a, err := s.signedIn(r)
	if err != nil {
		return signInFirst(w, err, "the list of phone servers is for people who are signed in")
	}
	return s.listPhonesOf(w, r, a, struct{}{})
}

// listPhonesOf answers with the phone servers that asked for an account.
func (s *Site) listPhonesOf(w http.ResponseWriter, r *request, a account.Account, _ struct{}) error {
	list, _, err := s.lookups(r, a)
	if err != nil {
		return err
	}
	type member struct {
		Server string        `json:"server"`
		How    sipserver.How `json:"how"`
		At     time.Time     `json:"at"`
	}
	members := make([]member, len(list))
	for i, l := range list {
		members[i] = member{l.Server, l.How, l.At.UTC().Truncate(time.Second)}
	}
	return answer.JSON(w, http.StatusOK, members)
}

// lookups returns the last look-ups of an account, and whether any phone server may ask for it.
func (s *Site) lookups(r *request, a account.Account) ([]sipserver.Lookup, bool, error) {
	if s.deps.Phones == nil {
		return nil, false, nil
	}
	return s.deps.Phones.LastLookups(r.Context(), a)
}

// phoneLookups is what the account page shows about look-ups. Servers lists the last look-up of each phone server, in
// the order of their names.
type phoneLookups struct {
	Servers []listedPhoneServer
}

type listedPhoneServer struct {
	Name string
	At   time.Time
}

// newPhoneLookups returns the look-ups for the account page, or nil if no phone server may ask for
// the account.
func (s *Site) newPhoneLookups(r *request, a account.Account) (*phoneLookups, error) {
	list, may, err := s.lookups(r, a)
	if err != nil || !may {
		return nil, err
	}
	v := &phoneLookups{}
	for _, l := range list {
		if n := len(v.Servers); n == 0 || v.Servers[n-1].Name != l.Server {
			v.Servers = append(v.Servers, listedPhoneServer{l.Server, l.At})
		} else if last := &v.Servers[n-1]; l.At.After(last.At) {
			last.At = l.At
		}
	}
	return v, nil
}
