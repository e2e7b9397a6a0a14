package dkim_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"dialtone/internal/fault"
	"dialtone/internal/mail/dkim"
	"dialtone/internal/secret"
	"dialtone/internal/store"
	"dialtone/internal/tenant"
	"dialtone/internal/test/teststore"
)

var noon = time.Date(2026, time.March, 1, 12, 0, 0, 0, time.UTC)

const message = "Date: Sun, 01 Mar 2026 12:00:00 +0000\r\nFrom: =?utf-8?q?B=C3=BCro?= <no-reply@phone.test>\r\nTo: ann@mail.test\r\n" +
	"Subject: =?utf-8?q?B=C3=BCrotelefon?=\r\n =?utf-8?q?_a?=\r\nMessage-ID: <1@phone.test>\r\nMIME-Version: 1.0\r\nContent-Language: de\r\n" +
	"Content-Type: text/plain; charset=utf-8\r\n\r\nA line  with spaces \r\n.\r\n\r\nThe end.\r\n"

func opened(t *testing.T) (*store.Store, *secret.Ring, int64) {
	t.Helper()
	ring := secret.NewRing(noon)
	s, err := teststore.Open(t.Context(), filepath.Join(t.TempDir(), "x.db"), ring)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	added, err := s.AddTenant(t.Context(), tenant.Tenant{Host: "phone.test", Realm: "phone.test", Created: noon})
	if err != nil {
		t.Fatal(err)
	}
	return s, ring, added.ID
}

// checker is Debian's dkimpy, which shares nothing with what signs here: it prints for each signature whether it holds.
const checker = `
import dkim, json, sys
given = json.load(sys.stdin)
def dns(name, timeout=5):
    return given["dns"].get(name.decode().rstrip("."), "").encode()
d = dkim.DKIM(given["message"].encode())
n = len([h for h in d.headers if h[0].lower() == b"dkim-signature"])
def holds(i):
    try:
        return d.verify(idx=i, dnsfunc=dns)
    except dkim.DKIMException as e:
        return False
print(json.dumps([holds(i) for i in range(n)]))
`

func holds(t *testing.T, message []byte, keys []dkim.Public, domain string) (list []bool) {
	t.Helper()
	dns := make(map[string]string)
	for _, k := range keys {
		dns[k.Selector+"._domainkey."+domain] = k.Record
	}
	in, err := json.Marshal(map[string]any{"message": string(message), "dns": dns})
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("/usr/bin/python3", "-c", checker)
	cmd.Stdin = bytes.NewReader(in)
	var said, wrong bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &wrong
	if err := cmd.Run(); err != nil {
		t.Fatalf("%v: %s", err, &wrong)
	}
	if err := json.Unmarshal(said.Bytes(), &list); err != nil {
		t.Fatal(err)
	}
	return list
}

func TestSignaturesHold(t *testing.T) {
	if err := exec.Command("/usr/bin/python3", "-c", "import dkim, nacl").Run(); err != nil {
		t.Skip("dkimpy is not installed; tools/need dkimverify does that")
	}
	s, ring, home := opened(t)
	keys := dkim.NewKeys(s, ring)
	var public []dkim.Public
	for _, c := range []struct {
		selector string
		a        dkim.Algorithm
	}{{"one", dkim.RSA}, {"two.2026", dkim.Ed25519}} {
		k, err := keys.Add(t.Context(), home, c.selector, c.a, noon)
		if err != nil {
			t.Fatal(err)
		}
		public = append(public, k)
	}
	signed, err := dkim.NewSigner(keys, time.Now).Sign(t.Context(), home, []byte(message))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.HasSuffix(signed, []byte(message)) || bytes.Count(signed, []byte("\n")) != bytes.Count(signed, []byte("\r\n")) {
		t.Errorf("the message is another:\n%s", signed)
	}
	if got := holds(t, signed, public, "phone.test"); fmt.Sprint(got) != "[true true]" {
		t.Errorf("the signatures hold: %v\n%s", got, signed)
	}
	for what, changed := range map[string]string{
		"another text":        strings.Replace(string(signed), "The end", "An end", 1),
		"another subject":     strings.Replace(string(signed), "rotelefon", "rotelexon", 1),
		"a second subject":    strings.Replace(string(signed), "From: ", "Subject: Win\r\nFrom: ", 1),
		"a second sender":     strings.Replace(string(signed), "Date: ", "From: a@evil.test\r\nDate: ", 1),
		"a recipient besides": strings.Replace(string(signed), "Date: ", "To: b@mail.test\r\nDate: ", 1),
		"an answer elsewhere": strings.Replace(string(signed), "Date: ", "Reply-To: b@evil.test\r\nDate: ", 1),
	} {
		if changed == string(signed) {
			t.Fatalf("%s: nothing was changed", what)
		}
		if got := holds(t, []byte(changed), public, "phone.test"); fmt.Sprint(got) != "[false false]" {
			t.Errorf("with %s the signatures hold: %v", what, got)
		}
	}
}

func TestMessageOfATenantWithoutKeysStaysAsItIs(t *testing.T) {
	s, ring, home := opened(t)
	keys := dkim.NewKeys(s, ring)
	if _, err := keys.Add(t.Context(), home, "one", dkim.Ed25519, noon); err != nil {
		t.Fatal(err)
	}
	other, err := s.AddTenant(t.Context(), tenant.Tenant{Host: "other.test", Realm: "other.test", Created: noon})
	if err != nil {
		t.Fatal(err)
	}
	got, err := dkim.NewSigner(keys, time.Now).Sign(t.Context(), other.ID, []byte(message))
	if err != nil || string(got) != message {
		t.Errorf("%s, %v", got, err)
	}
}

func TestChangesOfKeysAreSeen(t *testing.T) {
	s, ring, home := opened(t)
	keys, now := dkim.NewKeys(s, ring), noon
	signer := dkim.NewSigner(keys, func() time.Time { return now })
	signatures := func() int {
		t.Helper()
		got, err := signer.Sign(t.Context(), home, []byte(message))
		if err != nil {
			t.Fatal(err)
		}
		return bytes.Count(got, []byte("DKIM-Signature:"))
	}
	if n := signatures(); n != 0 {
		t.Errorf("%d signatures without a key", n)
	}
	for _, selector := range []string{"one", "two"} {
		if _, err := keys.Add(t.Context(), home, selector, dkim.Ed25519, noon); err != nil {
			t.Fatal(err)
		}
	}
	now = now.Add(5 * time.Second)
	if n := signatures(); n != 2 {
		t.Errorf("%d signatures by two keys", n)
	}
	if err := s.RemoveSigningKey(t.Context(), home, "one"); err != nil {
		t.Fatal(err)
	}
	now = now.Add(5 * time.Second)
	if n := signatures(); n != 1 {
		t.Errorf("%d signatures by the one that is left", n)
	}
}

func TestKeys(t *testing.T) {
	s, ring, home := opened(t)
	keys := dkim.NewKeys(s, ring)
	for _, bad := range []string{"", "A", "a b", "-a", "a-", "a..b", ".a", "a_b", "ü", strings.Repeat("a", 64), "a\nb"} {
		if _, err := keys.Add(t.Context(), home, bad, dkim.RSA, noon); !fault.Is(err, fault.Invalid) {
			t.Errorf("the selector %q: %v", bad, err)
		}
	}
	made, err := keys.Add(t.Context(), home, "one", dkim.RSA, noon)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := keys.Add(t.Context(), home, "one", dkim.Ed25519, noon); !fault.Is(err, fault.Conflict) {
		t.Errorf("the same selector again: %v", err)
	}
	list, err := keys.List(t.Context(), home)
	if err != nil || len(list) != 1 || list[0] != made || made.Algorithm != dkim.RSA || !strings.HasPrefix(made.Record, "v=DKIM1; k=rsa; p=MII") {
		t.Errorf("got %+v, %v", list, err)
	}
	stored, err := s.SigningKeys(t.Context(), home)
	if err != nil || bytes.Contains(stored[0].Sealed, []byte{0x30, 0x82}) && bytes.Contains(stored[0].Sealed, []byte("\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01")) {
		t.Errorf("the key lies open in the store, %v", err)
	}
	// A sealed key opens for its own tenant and selector alone.
	stored[0].Selector = "two"
	if err := s.AddSigningKey(t.Context(), stored[0]); err != nil {
		t.Fatal(err)
	}
	if _, err := keys.List(t.Context(), home); err == nil || !strings.Contains(err.Error(), "two") {
		t.Errorf("a key that was moved: %v", err)
	}
	if _, err := dkim.NewSigner(keys, time.Now).Sign(t.Context(), home, []byte(message)); err == nil {
		t.Error("a message is signed though a key does not open")
	}
}
