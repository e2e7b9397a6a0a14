// Package kamailio notifies Kamailio by JSON-RPC over HTTP (module jsonrpcs).
//
// A notification about an account makes Kamailio drop the credentials that it cached for the user
// and, where the event calls for it, end the user's registrations. A notification about a tenant
// makes it reload its list of domains. Data or modules that Kamailio does not have are not a
// failure, except the registrar: a Kamailio without ul.rm cannot end registrations.
package kamailio

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"

	"dialtone/internal/fault"
	"dialtone/internal/hook"
	"dialtone/internal/hook/httpclient"
	"dialtone/internal/redact"
)

var _ hook.Transport = (*Transport)(nil)

// Transport calls Kamailio servers. It is safe for concurrent use.
type Transport struct {
	client *httpclient.Client
}

// New returns a Transport.
func New(client *httpclient.Client) *Transport { return &Transport{client: client} }

// BearerSecret returns the secret of a hook whose Kamailio expects a bearer token: the value of the
// Authorization header.
func BearerSecret(token string) (hook.Secret, error) {
	if token == "" || strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r >= 0x7f }) {
		return hook.Secret{}, fault.Field("bearer",
			"a bearer token is one word of ASCII characters; give a file that contains the token alone")
	}
	return redact.New("Bearer " + token), nil
}

// BasicSecret returns the secret of a hook whose Kamailio expects Basic authentication by
// "user:password": the value of the Authorization header.
func BasicSecret(pair string) (hook.Secret, error) {
	user, _, ok := strings.Cut(pair, ":")
	if !ok || user == "" || strings.ContainsFunc(pair, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		return hook.Secret{}, fault.Field("basic",
			"give a file that contains user:password on one line and nothing else")
	}
	return redact.New("Basic " + base64.StdEncoding.EncodeToString([]byte(pair))), nil
}

// RPC methods of Kamailio (modules usrloc, htable, domain and the core), and the names of tables in
// deploy/kamailio.
const (
	removeContacts = "ul.rm"         // parameters: table, AOR
	deleteCached   = "htable.delete" // parameters: table, key
	reloadDomains  = "domain.reload"
	listMethods    = "system.listMethods"

	locationTable = "location"
	// credentialTable caches the results of look-ups. Its keys are the user name of the phone's
	// Authorization header, "@" and the domain.
	credentialTable = "ha1"
)

// rpcRequest and rpcResponse are JSON-RPC 2.0, sections 4 and 5. Module jsonrpcs uses the code of
// an error as the HTTP status too.
type rpcRequest struct {
	Version string   `json:"jsonrpc"`
	ID      int      `json:"id"`
	Method  string   `json:"method"`
	Params  []string `json:"params,omitempty"`
}

type rpcResponse struct {
	Version string          `json:"jsonrpc"`
	Result  json.RawMessage `json:"result"`
	Error   *rpcError       `json:"error"`
}

type rpcError struct {
	Code    int    `json:"code"`
	Message string `json:"message"`
}

func (e *rpcError) hasPrefix(text string) bool {
	return strings.HasPrefix(strings.ToLower(e.Message), text)
}

// unknownMethod reports whether Kamailio does not know the method, because it has not loaded the
// module. Kamailio 5.6 uses a different code for this; later versions use the one of JSON-RPC.
func (e *rpcError) unknownMethod() bool {
	return e.Code == -32601 || e.hasPrefix("method not found")
}

// call calls a method. rpcErr is an error that Kamailio responded with.
func (t *Transport) call(
	ctx context.Context, h hook.Hook, s hook.Secret, method string, params ...string,
) (result json.RawMessage, rpcErr *rpcError, err error) {
	body, err := json.Marshal(rpcRequest{Version: "2.0", ID: 1, Method: method, Params: params})
	if err != nil {
		return nil, nil, err
	}
	header := http.Header{}
	if authorization := s.Reveal(); authorization != "" {
		header.Set("Authorization", authorization)
	}
	resp, text, err := t.client.Post(ctx, h, header, body)
	if err != nil {
		return nil, nil, err
	}
	var r rpcResponse
	if err := json.Unmarshal(text, &r); err != nil || r.Version != "2.0" {
		if err := httpclient.CheckStatus(resp); err != nil {
			return nil, nil, fmt.Errorf("%w, without JSON-RPC", err)
		}
		return nil, nil, fmt.Errorf("%w: it responded without JSON-RPC", hook.ErrUnavailable)
	}
	return r.Result, r.Error, nil
}

// Send implements hook.Transport. It drops cached credentials before registrations, so that a phone
// that registers in between is looked up again.
func (t *Transport) Send(ctx context.Context, h hook.Hook, s hook.Secret, n hook.Notification) error {
	if n.User == "" {
		_, rpcErr, err := t.call(ctx, h, s, reloadDomains)
		if rpcErr != nil && !rpcErr.unknownMethod() {
			err = fmt.Errorf("%s: %s (%d)", reloadDomains, rpcErr.Message, rpcErr.Code)
		}
		return err
	}
	domains := domainsOf(n)
	for _, domain := range domains {
		// A phone can authenticate with either of these names.
		for _, name := range []string{n.User, n.User + "@" + n.Realm} {
			if err := t.dropCredential(ctx, h, s, name+"@"+domain); err != nil {
				return err
			}
		}
	}
	if !n.Type.EndsRegistrations() {
		return nil
	}
	for _, domain := range domains {
		if err := t.endRegistrations(ctx, h, s, n.User+"@"+domain); err != nil {
			return err
		}
	}
	return nil
}

// domainsOf returns the domains that phones of a tenant can register in: its host, and its realm if
// that is another host name.
func domainsOf(n hook.Notification) []string {
	realm := strings.ToLower(n.Realm)
	if realm == n.Host || strings.Trim(realm, "abcdefghijklmnopqrstuvwxyz0123456789-.") != "" {
		return []string{n.Host}
	}
	return []string{n.Host, realm}
}

func (t *Transport) dropCredential(ctx context.Context, h hook.Hook, s hook.Secret, key string) error {
	_, rpcErr, err := t.call(ctx, h, s, deleteCached, credentialTable, key)
	if rpcErr == nil || rpcErr.unknownMethod() || rpcErr.Code == http.StatusNotFound ||
		rpcErr.hasPrefix("no such htable") {
		return err
	}
	return fmt.Errorf("%s %s: %s (%d)", deleteCached, credentialTable, rpcErr.Message, rpcErr.Code)
}

func (t *Transport) endRegistrations(ctx context.Context, h hook.Hook, s hook.Secret, aor string) error {
	_, rpcErr, err := t.call(ctx, h, s, removeContacts, locationTable, aor)
	if rpcErr == nil || rpcErr.Code == http.StatusNotFound || rpcErr.hasPrefix("aor not found") {
		return err
	}
	return fmt.Errorf("%s %s: %s (%d)", removeContacts, locationTable, rpcErr.Message, rpcErr.Code)
}

// Test implements hook.Transport. It asks Kamailio which methods it has.
func (t *Transport) Test(ctx context.Context, h hook.Hook, s hook.Secret) (string, error) {
	result, rpcErr, err := t.call(ctx, h, s, listMethods)
	if err != nil {
		return "", err
	}
	if rpcErr != nil {
		return "", fmt.Errorf("%s: %s (%d)", listMethods, rpcErr.Message, rpcErr.Code)
	}
	var methods []string
	if err := json.Unmarshal(result, &methods); err != nil {
		return "", fmt.Errorf("%s did not return a list", listMethods)
	}
	has := make(map[string]bool)
	for _, m := range methods {
		has[m] = true
	}
	if !has[removeContacts] {
		return "", fmt.Errorf("it does not have %s and cannot end registrations; load the module usrloc",
			removeContacts)
	}
	report := "it responds, and can end registrations (" + removeContacts + ")"
	for _, m := range []struct{ name, can, cannot string }{
		{deleteCached, "drop cached credentials", "it does not cache credentials in an htable"},
		{reloadDomains, "reload domains", "it does not keep a list of domains"},
	} {
		if has[m.name] {
			report += ", " + m.can + " (" + m.name + ")"
		} else {
			report += "; " + m.cannot + " (no " + m.name + ")"
		}
	}
	return report, nil
}
