package web_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"dialtone/internal/account"
	"dialtone/internal/passkey"
	"dialtone/internal/secret"
	"dialtone/internal/session"
	"dialtone/internal/test/passkeytest"
)

// pageOf returns the page of a tenant, for an authenticator.
func (s *testServer) pageOf(host string) passkeytest.Page {
	return passkeytest.Page{Origin: s.At(host).Tenant.PublicURL}
}

// proveForm sends both requests of a form that needs the password.
func (v *visitor) proveForm(t testing.TB, who person, path, body string, headers ...string) answer {
	t.Helper()
	c := v.do(t, "POST", path, "", "X-Requested-With", "fetch", "Authorization", "X-Digest").challenge(t)
	proof := c.proof(who.user, who.password, "POST", path, nil)
	headers = append([]string{"Content-Type", formType, "Authorization", proof}, headers...)
	return v.do(t, "POST", path, body, headers...)
}

// newKeyOptions returns the options for a new passkey.
func (v *visitor) newKeyOptions(t testing.TB, who person) string {
	t.Helper()
	a := v.proveForm(t, who, "/passkey-new.ashx", "")
	a.wantJSON(t, 200)
	return a.body
}

func (v *visitor) keyOptions(t testing.TB) string {
	t.Helper()
	a := v.get(t, "/passkey-options.ashx")
	a.wantJSON(t, 200)
	return a.body
}

func (v *visitor) changeKeys(t testing.TB, fields url.Values, headers ...string) answer {
	t.Helper()
	return v.postForm(t, "/passkeys.ashx", fields.Encode(), headers...)
}

// addKey adds a passkey to an account.
func (s *testServer) addKey(t testing.TB, who person, k *passkeytest.Key) {
	t.Helper()
	v := s.visitor(who.host)
	response := k.Create(t, v.newKeyOptions(t, who), s.pageOf(who.host))
	v.changeKeys(t, url.Values{"do": {"add"}, "name": {"Key"}, "response": {response}}).wantJSON(t, 200)
}

func (v *visitor) sendKey(t testing.TB, response string, headers ...string) answer {
	t.Helper()
	return v.postForm(t, "/passkey.ashx", url.Values{"response": {response}}.Encode(), headers...)
}

// useKey signs in with a passkey.
func (v *visitor) useKey(t testing.TB, k *passkeytest.Key, headers ...string) answer {
	t.Helper()
	return v.sendKey(t, k.Get(t, v.keyOptions(t), v.s.pageOf(v.host)), headers...)
}

func wantRule(t testing.TB, a answer, status int, rule string) {
	t.Helper()
	if got := a.header.Get("Dialtone-Rule"); a.status != status || got != rule {
		t.Errorf("got %d, rule %q, want %d, %q: %s", a.status, got, status, rule, a.body)
	}
}

type listedKey struct {
	ID, Name       string
	Added          time.Time
	Used           *time.Time
	Synced, Usable bool
}

func (v *visitor) keys(t testing.TB, cookies string) (list []listedKey) {
	t.Helper()
	a := v.get(t, "/passkeys.ashx", "Cookie", cookies)
	a.wantJSON(t, 200)
	if err := json.Unmarshal([]byte(a.body), &list); err != nil {
		t.Fatal(err)
	}
	return list
}

func TestPasskeys(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	who := s.active(t, "a.test")
	v := s.visitor("a.test")
	k := passkeytest.New(t)
	k.Flags |= passkeytest.BackupEligible

	options := v.newKeyOptions(t, who)
	response := k.Create(t, options, s.pageOf("a.test"))
	add := url.Values{"do": {"add"}, "name": {" My  key "}, "response": {response}}
	a := v.changeKeys(t, add)
	a.wantJSON(t, 200)
	if want := fmt.Sprintf(`{"ok":true,"id":"%s","name":"My key"}`+"\n", k.Text()); a.body != want {
		t.Errorf("got %s, want %s", a.body, want)
	}
	wantRule(t, v.changeKeys(t, add), 409, "passkey_stale") // the options were used
	if uid := s.find(t, who).UID; string(k.Handle) != string(uid[:]) {
		t.Errorf("the handle is %x", k.Handle)
	}

	a = v.useKey(t, k)
	a.wantJSON(t, 200)
	if want := fmt.Sprintf(`{"ok":true,"user":%q,"role":"guest"}`+"\n", who.user); a.body != want {
		t.Errorf("got %s, want %s", a.body, want)
	}
	cookies := a.cookies()
	if !v.signedIn(t, cookies) || !strings.Contains(cookies, "__Host-dialtone-device=") {
		t.Errorf("the cookies are %q", cookies)
	}
	list := v.keys(t, cookies)
	if len(list) != 1 || list[0].ID != k.Text() || list[0].Name != "My key" || list[0].Used == nil ||
		!list[0].Synced || !list[0].Usable {
		t.Errorf("listed are %+v", list)
	}
	if got := s.Log.Count(`"signin","outcome":"ok"`); got == 0 {
		t.Log(s.Log)
	}

	// Renaming needs the session, and no proof.
	rename := url.Values{"do": {"rename"}, "id": {k.Text()}, "name": {"Other"}}
	v.changeKeys(t, rename).wantError(t, 401, "unauthorized")
	v.changeKeys(t, rename, "Cookie", cookies).wantJSON(t, 200)
	rename.Set("name", strings.Repeat("x", 65))
	wantRule(t, v.changeKeys(t, rename, "Cookie", cookies), 400, "name.long")
	rename.Set("name", "\u202e")
	wantRule(t, v.changeKeys(t, rename, "Cookie", cookies), 400, "name.hidden")
	if got := v.keys(t, cookies)[0].Name; got != "Other" {
		t.Errorf("the name is %q", got)
	}

	// Removing needs a separate proof, of the password or of a passkey.
	id := "id=" + k.Text()
	v.postForm(t, "/passkey-remove.ashx", id, "Cookie", cookies).challenge(t)
	v.changeKeys(t, url.Values{"do": {"remove"}, "id": {k.Text()}}, "Cookie", cookies).
		wantError(t, 400, "invalid_request")
	second := passkeytest.New(t)
	s.addKey(t, who, second)
	response = k.Get(t, v.keyOptions(t), s.pageOf("a.test"))
	removal := url.Values{"do": {"remove"}, "id": {k.Text()}, "response": {response}}
	thief := s.visitor("a.test").useKey(t, k).cookies()
	response = k.Get(t, v.keyOptions(t), s.pageOf("a.test"))
	removal.Set("response", response)
	a = v.changeKeys(t, removal, "Cookie", cookies)
	a.wantJSON(t, 200)
	if v.signedIn(t, thief) || v.signedIn(t, cookies) || !v.signedIn(t, a.cookies()) {
		t.Error("other sessions continue, or the own one does not")
	}
	wantRule(t, v.changeKeys(t, removal), 409, "passkey_stale")
	wantRule(t, v.useKey(t, k), 401, "passkey")
	wantRule(t, v.proveForm(t, who, "/passkey-remove.ashx", id), 400, "id.gone")
	// Without a session there is none to continue.
	if a := v.proveForm(t, who, "/passkey-remove.ashx", "id="+second.Text()); a.status != 200 || a.cookies() != "" {
		t.Errorf("%d with the cookies %q", a.status, a.cookies())
	}
	cookies = v.signIn(t, who.user, who.password).cookies()
	if list := v.keys(t, cookies); len(list) != 0 {
		t.Errorf("listed are %+v", list)
	}
	if got := s.find(t, who).Factors; got != 0 {
		t.Errorf("the factors are %d", got)
	}
}

// TestPasskeyRefused checks the responses that are refused.
func TestPasskeyRefused(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	who := s.active(t, "a.test")
	v, page := s.visitor("a.test"), s.pageOf("a.test")
	k := passkeytest.New(t)
	s.addKey(t, who, k)
	k.Counts, k.Counter = true, 1

	try := func(status int, rule, response string) {
		t.Helper()
		a := v.sendKey(t, response)
		wantRule(t, a, status, rule)
		if a.cookies() != "" {
			t.Errorf("the cookies are %q", a.cookies())
		}
		if status == 401 && a.header.Get("WWW-Authenticate") != "Passkey" {
			t.Errorf("the challenge is %q", a.header.Get("WWW-Authenticate"))
		}
	}
	t.Run("malformed", func(t *testing.T) {
		for _, body := range []string{"", "{}", "null", "[]", `{"id":"AA"}`, strings.Repeat("[", 5000)} {
			try(400, "", body)
		}
		v.do(t, "POST", "/passkey.ashx", "{}", "Content-Type", "application/json").wantError(t, 400, "invalid_request")
		v.postForm(t, "/passkey.ashx", "response=x&response=y").wantError(t, 400, "invalid_request")
		v.postForm(t, "/passkey.ashx?response=x", "").wantError(t, 400, "invalid_request")
	})
	t.Run("used, old and foreign challenges", func(t *testing.T) {
		response := k.Get(t, v.keyOptions(t), page)
		v.sendKey(t, response).wantJSON(t, 200)
		try(409, "passkey_stale", response)
		old := v.keyOptions(t)
		s.Advance(session.ChallengeLife)
		try(409, "passkey_stale", k.Get(t, old, page))
		try(409, "passkey_stale", k.Get(t, v.at("b.test").keyOptions(t), page))
		own := page
		own.Challenge = "MDEyMzQ1Njc4OWFiY2RlZg"
		try(409, "passkey_stale", k.Get(t, v.keyOptions(t), own))
		// The challenge of the options for a new passkey is a different permission.
		try(409, "passkey_stale", k.Get(t, v.newKeyOptions(t, who), page))
	})
	t.Run("once at the same time", func(t *testing.T) {
		response := k.Get(t, v.keyOptions(t), page)
		var mu sync.Mutex
		got := map[int]int{}
		atOnce(8, func(int) {
			a := s.visitor("a.test").sendKey(t, response)
			mu.Lock()
			defer mu.Unlock()
			got[a.status]++
		})
		if got[200] != 1 || got[409] != 7 {
			t.Errorf("got %v", got)
		}
	})
	t.Run("another tenant, key, page or account", func(t *testing.T) {
		b := s.visitor("b.test")
		wantRule(t, b.sendKey(t, k.Get(t, b.keyOptions(t), s.pageOf("b.test"))), 401, "passkey")
		try(401, "passkey", passkeytestWithHandle(t, k).Get(t, v.keyOptions(t), page))
		unknown := *k
		unknown.ID = []byte("unknown unknown!")
		try(401, "passkey", unknown.Get(t, v.keyOptions(t), page))
		try(401, "passkey", k.Get(t, v.keyOptions(t), s.pageOf("b.test")))
		unverified := *k
		unverified.Flags = passkeytest.Present
		try(401, "passkey", unverified.Get(t, v.keyOptions(t), page))
		for _, handle := range [][]byte{[]byte("x"), make([]byte, 16)} {
			other := *k
			other.Handle = handle
			try(401, "passkey", other.Get(t, v.keyOptions(t), page))
		}
		stranger := s.active(t, "a.test")
		other := *k
		uid := s.find(t, stranger).UID
		other.Handle = uid[:]
		try(401, "passkey", other.Get(t, v.keyOptions(t), page))
	})
	t.Run("a copy", func(t *testing.T) {
		copied := *k
		v := s.visitor("a.test")
		v.useKey(t, k).wantJSON(t, 200)
		wantRule(t, v.useKey(t, &copied), 401, "passkey_counter")
		if s.Log.Count(`"detail":"passkey_counter"`) != 1 {
			t.Error("the copy is not in the log")
		}
		v.useKey(t, k).wantJSON(t, 200)
	})
	t.Run("a disabled account", func(t *testing.T) {
		v := s.visitor("a.test")
		s.At("a.test").Disable(who.user)
		wantRule(t, v.useKey(t, k), 401, "passkey")
		s.At("a.test").Enable(who.user)
		v.useKey(t, k).wantJSON(t, 200)
	})
	t.Run("pages of other sites", func(t *testing.T) {
		v := s.visitor("a.test")
		for _, h := range [][]string{{"Sec-Fetch-Site", "cross-site"}, {"Origin", "https://evil.test"}} {
			v.get(t, "/passkey-options.ashx", h...).wantError(t, 400, "invalid_request")
			v.useKey(t, k, h...).wantError(t, 400, "invalid_request")
			v.changeKeys(t, url.Values{"do": {"rename"}}, h...).wantError(t, 400, "invalid_request")
			v.get(t, "/passkeys.ashx", h...).wantError(t, 400, "invalid_request")
			for _, path := range []string{"/passkey-new.ashx", "/passkey-remove.ashx"} {
				v.do(t, "POST", path, "", h...).wantError(t, 400, "invalid_request")
			}
		}
	})
}

// passkeytestWithHandle returns another key with the ID and handle of a key.
func passkeytestWithHandle(t *testing.T, k *passkeytest.Key) *passkeytest.Key {
	t.Helper()
	other := passkeytest.New(t)
	other.ID, other.Handle = k.ID, k.Handle
	return other
}

// TestPasskeyAttempts checks that wrong responses are counted against the network that they come
// from, and not against the owner.
func TestPasskeyAttempts(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	who := s.active(t, "a.test")
	v, page := s.visitor("a.test"), s.pageOf("a.test")
	k := passkeytest.New(t)
	s.addKey(t, who, k)
	owner := v.useKey(t, k).cookies()
	forged := passkeytestWithHandle(t, k)
	limited := false
	for range 200 {
		a := v.sendKey(t, forged.Get(t, v.keyOptions(t), page))
		if limited = a.status == 429; limited {
			break
		}
		wantRule(t, a, 401, "passkey")
	}
	if !limited {
		t.Fatal("nothing limits wrong responses")
	}
	v.useKey(t, k).wantError(t, 429, "rate_limited")
	v.useKey(t, k, "Cookie", owner).wantJSON(t, 200) // by the device token
	other := s.visitor("a.test")
	other.useKey(t, k).wantJSON(t, 200)
	other.signIn(t, who.user, who.password).wantJSON(t, 200)
}

func TestNewPasskeyRefused(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	who := s.active(t, "a.test")
	v, page := s.visitor("a.test"), s.pageOf("a.test")
	add := func(options string, p passkeytest.Page) answer {
		return v.changeKeys(t, url.Values{
			"do": {"add"}, "name": {"Key"}, "response": {passkeytest.New(t).Create(t, options, p)},
		})
	}
	t.Run("without the password", func(t *testing.T) {
		v.do(t, "POST", "/passkey-new.ashx", "").challenge(t)
		wrong := who
		wrong.password = "not the password"
		v.proveForm(t, wrong, "/passkey-new.ashx", "").wantError(t, 401, "unauthorized")
	})
	t.Run("of a pending account", func(t *testing.T) {
		v.proveForm(t, s.pending(t, "a.test"), "/passkey-new.ashx", "").wantError(t, 403, "not_activated")
	})
	t.Run("another page, tenant, or challenge", func(t *testing.T) {
		options := v.newKeyOptions(t, who)
		add(options, s.pageOf("b.test")).wantError(t, 400, "invalid_request")
		b := s.active(t, "b.test")
		wantRule(t, add(v.at("b.test").newKeyOptions(t, b), page), 409, "passkey_stale")
		signIn := page
		var o struct{ PublicKey struct{ Challenge string } }
		if err := json.Unmarshal([]byte(v.keyOptions(t)), &o); err != nil {
			t.Fatal(err)
		}
		signIn.Challenge = o.PublicKey.Challenge
		wantRule(t, add(options, signIn), 409, "passkey_stale")
		v.changeKeys(t, url.Values{"do": {"add"}, "name": {"Key"}, "response": {"{}"}}).
			wantError(t, 400, "invalid_request")
		v.changeKeys(t, url.Values{"do": {"x"}}).wantError(t, 400, "invalid_request")
		unverified := passkeytest.New(t)
		unverified.Flags = passkeytest.Present
		v.changeKeys(t, url.Values{
			"do": {"add"}, "name": {"Key"}, "response": {unverified.Create(t, options, page)},
		}).wantError(t, 400, "invalid_request")
		add(options, page).wantJSON(t, 200) // the refusals did not use it up
	})
	t.Run("a bad name", func(t *testing.T) {
		options := v.newKeyOptions(t, who)
		response := passkeytest.New(t).Create(t, options, page)
		fields := url.Values{"do": {"add"}, "name": {" "}, "response": {response}}
		wantRule(t, v.changeKeys(t, fields), 400, "name.empty")
		fields.Set("name", strings.Repeat("ä", 64))
		v.changeKeys(t, fields).wantJSON(t, 200)
	})
	t.Run("known", func(t *testing.T) {
		k := passkeytest.New(t)
		s.addKey(t, who, k)
		options := v.newKeyOptions(t, who)
		if !strings.Contains(options, k.Text()) {
			t.Errorf("the options do not exclude the passkey: %s", options)
		}
		a := v.changeKeys(t, url.Values{"do": {"add"}, "name": {"Key"}, "response": {k.Create(t, options, page)}})
		wantRule(t, a, 409, "passkey_known")
	})
	t.Run("too late", func(t *testing.T) {
		options := v.newKeyOptions(t, who)
		s.Advance(session.ChallengeLife)
		wantRule(t, add(options, page), 409, "passkey_stale")
	})
	t.Run("from before the first passkey", func(t *testing.T) {
		other := s.active(t, "a.test")
		options := v.newKeyOptions(t, other)
		s.addKey(t, other, passkeytest.New(t))
		wantRule(t, add(options, page), 409, "passkey_stale")
		s.addKey(t, other, passkeytest.New(t))
		if list, err := s.Store.Passkeys(t.Context(), s.find(t, other).UID); err != nil || len(list) != 2 {
			t.Errorf("%d passkeys, %v", len(list), err)
		}
	})
	t.Run("after the password was changed", func(t *testing.T) {
		options := v.newKeyOptions(t, who)
		fresh := s.newPassword(who)
		v.changePassword(t, who, passwordForm(fresh)).wantJSON(t, 200)
		wantRule(t, add(options, page), 409, "passkey_stale")
		who = fresh
	})
	t.Run("after the account was disabled", func(t *testing.T) {
		options := v.newKeyOptions(t, who)
		s.At("a.test").Disable(who.user)
		wantRule(t, add(options, page), 409, "passkey_stale")
		s.At("a.test").Enable(who.user)
		wantRule(t, add(options, page), 409, "passkey_stale")
	})
	t.Run("too many", func(t *testing.T) {
		last := v.newKeyOptions(t, who)
		for len(last) > 0 {
			a := v.proveForm(t, who, "/passkey-new.ashx", "")
			if a.status != 200 {
				wantRule(t, a, 409, "passkeys")
				break
			}
			add(a.body, page).wantJSON(t, 200)
			s.exec(t, `DELETE FROM taken`) // of the limit of changes
		}
		wantRule(t, add(last, page), 409, "passkeys")
		list, err := s.Store.Passkeys(t.Context(), s.find(t, who).UID)
		if err != nil || len(list) != account.MaxPasskeys {
			t.Errorf("%d passkeys, %v", len(list), err)
		}
	})
}

// TestForgedPasskeyRow checks that somebody who can write to the database cannot add a passkey.
func TestForgedPasskeyRow(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	victim, attacker := s.active(t, "a.test"), s.active(t, "a.test")
	v := s.visitor("a.test")
	k := passkeytest.New(t)
	s.addKey(t, attacker, k)
	uid := s.find(t, victim).UID
	s.exec(t, fmt.Sprintf(`UPDATE passkey SET account = x'%x'`, uid[:]))
	k.Handle = uid[:]
	a := v.useKey(t, k)
	a.wantError(t, 500, "server_error")
	if a.cookies() != "" {
		t.Error("the attacker is signed in")
	}
	cookies := v.signIn(t, victim.user, victim.password).cookies()
	if list := v.keys(t, cookies); len(list) != 0 {
		t.Errorf("listed are %+v", list)
	}
}

// TestPasskeysOfOtherHost checks the passkeys of a tenant whose host name was changed.
func TestPasskeysOfOtherHost(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	who := s.active(t, "a.test")
	v := s.visitor("a.test")
	k := passkeytest.New(t)
	s.addKey(t, who, k)
	service := account.NewService(account.Deps{Store: s.Store, SealRing: s.SealRing, Now: s.Now})
	moved := *s.At("a.test").Tenant
	moved.Host, moved.PublicURL = "new.test", "https://new.test"
	list, err := service.Passkeys(t.Context(), &moved, s.find(t, who))
	if err != nil || len(list) != 1 || list[0].Usable || list[0].RP != "a.test" {
		t.Errorf("listed are %+v, %v", list, err)
	}
	response, err := passkey.ParseAssertion(k.Get(t, v.keyOptions(t), passkeytest.Page{
		Origin: moved.PublicURL, RP: "new.test",
	}))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := service.UsePasskey(t.Context(), &moved, response); !errors.Is(err, account.ErrNoPasskey) {
		t.Errorf("got %v", err)
	}
	// The RP ID cannot be replaced in the database.
	s.exec(t, `UPDATE passkey SET rp = 'new.test'`)
	if _, err := service.UsePasskey(t.Context(), &moved, response); !errors.Is(err, secret.ErrSeal) {
		t.Errorf("got %v", err)
	}
	wantRule(t, v.useKey(t, k), 401, "passkey")

	// A passkey of an earlier host name is refused with an explanation, and listed as not usable.
	s.exec(t, `DELETE FROM passkey`)
	k = passkeytest.New(t)
	made := k.Create(t, v.newKeyOptions(t, who), s.pageOf("a.test"))
	parsed, err := passkey.ParseCreation(made)
	if err != nil {
		t.Fatal(err)
	}
	party, _ := account.Party(s.At("a.test").Tenant)
	credential, err := parsed.Verify(party)
	if err != nil {
		t.Fatal(err)
	}
	earlier := *s.At("a.test").Tenant
	earlier.Host, earlier.PublicURL = "old.test", "https://old.test"
	if _, err := s.Accounts.AddPasskey(t.Context(), &earlier, s.find(t, who), credential, "Key",
		account.Origin{}); err != nil {
		t.Fatal(err)
	}
	refused := v.useKey(t, k)
	wantRule(t, refused, 401, "passkey")
	if !strings.Contains(refused.body, "sign in with the password") || refused.cookies() != "" {
		t.Errorf("the answer is %s", refused.body)
	}
	cookies := v.signIn(t, who.user, who.password).cookies()
	page := v.get(t, "/passkeys.html", "Cookie", cookies)
	if !strings.Contains(page.body, "It was made for another address of this platform. Remove it and add a new one.") {
		t.Errorf("the page is %s", page.body)
	}
}
