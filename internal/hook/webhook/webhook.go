// Package webhook notifies servers by signed webhooks, as Standard Webhooks
// (https://www.standardwebhooks.com) specifies them.
//
// Each attempt is signed with the secret of the hook and the time of the attempt. The message
// ID is the same for all attempts at one notification, so that a receiver can drop duplicates.
package webhook

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"

	"dialtone/internal/account"
	"dialtone/internal/hook"
	"dialtone/internal/hook/httpclient"
	"dialtone/internal/redact"
)

var _ hook.Transport = (*Transport)(nil)

// Transport sends webhooks. It is safe for concurrent use.
type Transport struct {
	client *httpclient.Client
	now    func() time.Time
}

// New returns a Transport. now returns the time for signatures.
func New(client *httpclient.Client, now func() time.Time) *Transport {
	return &Transport{client: client, now: now}
}

const (
	// secretPrefix precedes the key in a secret (Standard Webhooks, "Signature scheme").
	secretPrefix = "whsec_"
	keySize      = 32
)

// NewSecret returns a random secret: "whsec_" and the base64 of a key of 32 bytes.
func NewSecret() hook.Secret {
	var key [keySize]byte
	rand.Read(key[:])
	return redact.New(secretPrefix + base64.StdEncoding.EncodeToString(key[:]))
}

// keyOf returns the signing key in a secret.
func keyOf(s hook.Secret) ([]byte, error) {
	text, ok := strings.CutPrefix(s.Reveal(), secretPrefix)
	key, err := base64.StdEncoding.DecodeString(text)
	if !ok || err != nil || len(key) != keySize {
		return nil, errors.New("the secret of the hook is not a webhook secret; " +
			"remove the hook and add it again")
	}
	return key, nil
}

// message is the body of a webhook (Standard Webhooks, "Payload structure").
type message struct {
	Type      string    `json:"type"`
	Timestamp time.Time `json:"timestamp"`
	Data      data      `json:"data"`
}

type data struct {
	Tenant string `json:"tenant,omitempty"`
	Realm  string `json:"realm,omitempty"`
	User   string `json:"user,omitempty"`
	ID     string `json:"id,omitempty"` // the UID of the account
	Hook   string `json:"hook,omitempty"`
}

// Send implements hook.Transport.
func (t *Transport) Send(ctx context.Context, h hook.Hook, s hook.Secret, n hook.Notification) error {
	d := data{Tenant: n.Host, Realm: n.Realm, User: n.User}
	if n.Account != (account.UID{}) {
		d.ID = n.Account.String()
	}
	return t.post(ctx, h, s, n.ID(), message{Type: string(n.Type), Timestamp: n.At.UTC(), Data: d})
}

// Test implements hook.Transport with a message of the type "hook.test".
func (t *Transport) Test(ctx context.Context, h hook.Hook, s hook.Secret) (string, error) {
	m := message{
		Type:      "hook.test",
		Timestamp: t.now().UTC().Truncate(time.Second),
		Data:      data{Hook: h.Name},
	}
	if err := t.post(ctx, h, s, "msg_test_"+strings.ToLower(rand.Text()), m); err != nil {
		return "", err
	}
	return "it accepted a message of the type " + m.Type, nil
}

// post sends a signed message. The signature is "v1," and the base64 of the HMAC-SHA256 of the id,
// the time of this attempt and the body, joined with dots (Standard Webhooks, "Signature scheme").
func (t *Transport) post(ctx context.Context, h hook.Hook, s hook.Secret, id string, m message) error {
	key, err := keyOf(s)
	if err != nil {
		return err
	}
	body, err := json.Marshal(m)
	if err != nil {
		return err
	}
	at := strconv.FormatInt(t.now().Unix(), 10)
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(id + "." + at + "."))
	mac.Write(body)
	header := http.Header{}
	header.Set("webhook-id", id)
	header.Set("webhook-timestamp", at)
	header.Set("webhook-signature", "v1,"+base64.StdEncoding.EncodeToString(mac.Sum(nil)))
	resp, _, err := t.client.Post(ctx, h, header, body)
	if err != nil {
		return err
	}
	return httpclient.CheckStatus(resp)
}
