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

const message = "Date: Sun, 01 Mar 2026 12:00:00 +0000\r\n" +
	"From: =?utf-8?q?B=C3=BCro?= <no-reply@phone.test>\r\n" +
	"To: ann@mail.test\r\n" +
	"Subject: =?utf-8?q?B=C3=BCrotelefon?=\r\n =?utf-8?q?_a?=\r\n" +
	"Message-ID: <1@phone.test>\r\n" +
	"MIME-Version: 1.0\r\n" +
	"Content-Language: de\r\n" +
	"Content-Type: text/plain; charset=utf-8\r\n" +
	"\r\nA line  with spaces \r\n.\r\n\r\nThe end.\r\n"

// openStore returns a store with one tenant, the store's ring, and the tenant's ID.
func openStore(t *testing.T) (*store.Store, *secret.Ring, int64) {
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

// checker uses Debian's dkimpy, an independent implementation. It prints for each signature whether it
// is valid.
const checker = `
import dkim, json, sys
given = json.load(sys.stdin)
def dns(name, timeout=5):
    return given["dns"].get(name.decode().rstrip("."), "").encode()
d = dkim.DKIM(given["message"].encode())
n = len([h for h in d.headers if h[0].lower() == b"dkim-signature"])
def valid(i):
    try:
        return d.verify(idx=i, dnsfunc=dns)
    except dkim.DKIMException as e:
        return False
print(json.dumps([valid(i) for i in range(n)]))
`

// verify reports for each signature of a message whether it is valid.
func verify(t *testing.T, message []byte, keys []dkim.PublicKey, domain string) (list []bool) {
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
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		t.Fatalf("%v: %s", err, &stderr)
	}
	if err := json.Unmarshal(stdout.Bytes(), &list); err != nil {
		t.Fatal(err)
	}
	return list
}

func TestSignVerifiesWithDkimpy(t *testing.T) {
	if err := exec.Command("/usr/bin/python3", "-c", "import dkim, nacl").Run(); err != nil {
		t.Skip("dkimpy is not installed; install it with tools/need dkimverify")
	}
	s, ring, tenantID := openStore(t)
	keys := dkim.NewKeys(s, ring)
	var public []dkim.PublicKey
	for _, c := range []struct {
		selector string
		a        dkim.Algorithm
	}{{"one", dkim.RSA}, {"two.2026", dkim.Ed25519}} {
		k, err := keys.Add(t.Context(), tenantID, c.selector, c.a, noon)
		if err != nil {
			t.Fatal(err)
		}
		public = append(public, k)
	}
	signed, err := dkim.NewSigner(keys, time.Now).Sign(t.Context(), tenantID, []byte(message))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.HasSuffix(signed, []byte(message)) ||
		bytes.Count(signed, []byte("\n")) != bytes.Count(signed, []byte("\r\n")) {
		t.Errorf("the message was changed:\n%s", signed)
	}
	if got := verify(t, signed, public, "phone.test"); fmt.Sprint(got) != "[true true]" {
		t.Errorf("valid signatures: %v\n%s", got, signed)
	}
	for what, changed := range map[string]string{
		"changed text":        strings.Replace(string(signed), "The end", "An end", 1),
		"changed subject":     strings.Replace(string(signed), "rotelefon", "rotelexon", 1),
		"added subject":       strings.Replace(string(signed), "From: ", "Subject: Win\r\nFrom: ", 1),
		"added sender":        strings.Replace(string(signed), "Date: ", "From: a@evil.test\r\nDate: ", 1),
		"added recipient":     strings.Replace(string(signed), "Date: ", "To: b@mail.test\r\nDate: ", 1),
		"added reply address": strings.Replace(string(signed), "Date: ", "Reply-To: b@evil.test\r\nDate: ", 1),
	} {
		if changed == string(signed) {
			t.Fatalf("%s: the replacement did not match", what)
		}
		if got := verify(t, []byte(changed), public, "phone.test"); fmt.Sprint(got) != "[false false]" {
			t.Errorf("%s: valid signatures: %v", what, got)
		}
	}
}

func TestSignWithoutKeys(t *testing.T) {
	s, ring, tenantID := openStore(t)
	keys := dkim.NewKeys(s, ring)
	if _, err := keys.Add(t.Context(), tenantID, "one", dkim.Ed25519, noon); err != nil {
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

func TestSignerSeesKeyChanges(t *testing.T) {
	s, ring, tenantID := openStore(t)
	keys, now := dkim.NewKeys(s, ring), noon
	signer := dkim.NewSigner(keys, func() time.Time { return now })
	signatures := func() int {
		t.Helper()
		got, err := signer.Sign(t.Context(), tenantID, []byte(message))
		if err != nil {
			t.Fatal(err)
		}
		return bytes.Count(got, []byte("DKIM-Signature:"))
	}
	if n := signatures(); n != 0 {
		t.Errorf("%d signatures without a key", n)
	}
	for _, selector := range []string{"one", "two"} {
		if _, err := keys.Add(t.Context(), tenantID, selector, dkim.Ed25519, noon); err != nil {
			t.Fatal(err)
		}
	}
	now = now.Add(5 * time.Second)
	if n := signatures(); n != 2 {
		t.Errorf("%d signatures with two keys", n)
	}
	if err := s.RemoveSigningKey(t.Context(), tenantID, "one"); err != nil {
		t.Fatal(err)
	}
	now = now.Add(5 * time.Second)
	if n := signatures(); n != 1 {
		t.Errorf("%d signatures with the remaining key", n)
	}
}

func TestKeys(t *testing.T) {
	s, ring, tenantID := openStore(t)
	keys := dkim.NewKeys(s, ring)
	for _, bad := range []string{
		"", "A", "a b", "-a", "a-", "a..b", ".a", "a_b", "ü", strings.Repeat("a", 64), "a\nb",
	} {
		if _, err := keys.Add(t.Context(), tenantID, bad, dkim.RSA, noon); !fault.Is(err, fault.Invalid) {
			t.Errorf("the selector %q: %v", bad, err)
		}
	}
	made, err := keys.Add(t.Context(), tenantID, "one", dkim.RSA, noon)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := keys.Add(t.Context(), tenantID, "one", dkim.Ed25519, noon); !fault.Is(err, fault.Conflict) {
		t.Errorf("the same selector again: %v", err)
	}
	list, err := keys.List(t.Context(), tenantID)
	if err != nil || len(list) != 1 || list[0] != made || made.Algorithm != dkim.RSA ||
		!strings.HasPrefix(made.Record, "v=DKIM1; k=rsa; p=MII") {
		t.Errorf("got %+v, %v", list, err)
	}
	stored, err := s.SigningKeys(t.Context(), tenantID)
	rsaOID := []byte("\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01")
	if err != nil || bytes.Contains(stored[0].Sealed, rsaOID) {
		t.Errorf("the key is stored without encryption, %v", err)
	}
	// A sealed key opens only for its tenant and selector.
	stored[0].Selector = "two"
	if err := s.AddSigningKey(t.Context(), stored[0]); err != nil {
		t.Fatal(err)
	}
	if _, err := keys.List(t.Context(), tenantID); err == nil || !strings.Contains(err.Error(), "two") {
		t.Errorf("a key moved to another selector: %v", err)
	}
	if _, err := dkim.NewSigner(keys, time.Now).Sign(t.Context(), tenantID, []byte(message)); err == nil {
		t.Error("a message was signed although a key could not be opened")
	}
}
