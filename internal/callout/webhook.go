package callout

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
	"time"

	"dialtone/internal/hook"
)

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
	Hook   string `json:"hook,omitempty"`
}

func (c *Client) tellWebhook(ctx context.Context, h hook.Hook, s hook.Secret, n hook.Notification) error {
	return c.send(ctx, h, s, n.ID(), message{string(n.Type), n.At.UTC(), data{Tenant: n.Host, Realm: n.Realm, User: n.User}})
}

func (c *Client) tryWebhook(ctx context.Context, h hook.Hook, s hook.Secret) (string, error) {
	m := message{"hook.test", c.now().UTC().Truncate(time.Second), data{Hook: h.Name}}
	err := c.send(ctx, h, s, "msg_test_"+strings.ToLower(rand.Text()), m)
	return "it took a message of the type " + m.Type, err
}

// send posts a signed message: of the id, the time of this try and the body, joined with dots, the HMAC-SHA256 as base64 behind
// "v1," (Standard Webhooks, "Signature scheme").
func (c *Client) send(ctx context.Context, h hook.Hook, s hook.Secret, id string, m message) error {
	key, err := s.Key()
	if err != nil {
		return err
	}
	body, err := json.Marshal(m)
	if err != nil {
		return err
	}
	at := strconv.FormatInt(c.now().Unix(), 10)
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(id + "." + at + "."))
	mac.Write(body)
	header := http.Header{}
	header.Set("webhook-id", id)
	header.Set("webhook-timestamp", at)
	header.Set("webhook-signature", "v1,"+base64.StdEncoding.EncodeToString(mac.Sum(nil)))
	resp, _, err := c.post(ctx, h, header, body)
	if err != nil {
		return err
	}
	return status(resp)
}
