package callout

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"

	"dialtone/internal/hook"
)

// The commands of Kamailio (modules usrloc, htable and domain), and the names that deploy/kamailio gives to tables.
const (
	removeContacts = "ul.rm"         // table, user@domain: all that is registered there
	deleteCached   = "htable.delete" // table, key
	reloadDomains  = "domain.reload"
	listCommands   = "system.listMethods"

	locationTable   = "location"
	credentialTable = "ha1" // what look-ups were answered, by digest user name and domain
)

// rpcRequest and rpcAnswer are JSON-RPC 2.0, §4 and §5, as module jsonrpcs has it. It answers an error with its code as the HTTP
// status too.
type rpcRequest struct {
	Version string   `json:"jsonrpc"`
	ID      int      `json:"id"`
	Method  string   `json:"method"`
	Params  []string `json:"params,omitempty"`
}

type rpcAnswer struct {
	Version string          `json:"jsonrpc"`
	Result  json.RawMessage `json:"result"`
	Error   *rpcError       `json:"error"`
}

type rpcError struct {
	Code    int    `json:"code"`
	Message string `json:"message"`
}

func (e *rpcError) is(text string) bool { return strings.HasPrefix(strings.ToLower(e.Message), text) }

// unknown is a command of a module that the server does not have. 5.6 has a code of its own for that, later ones that of JSON-RPC.
func (e *rpcError) unknown() bool { return e.Code == -32601 || e.is("method not found") }

// rpc runs a command. refused is the server's own error.
func (c *Client) rpc(ctx context.Context, h hook.Hook, s hook.Secret, method string, params ...string) (result json.RawMessage, refused *rpcError, err error) {
	body, err := json.Marshal(rpcRequest{"2.0", 1, method, params})
	if err != nil {
		return nil, nil, err
	}
	header := http.Header{}
	if s != "" {
		header.Set("Authorization", s.Reveal())
	}
	resp, text, err := c.post(ctx, h, header, body)
	if err != nil {
		return nil, nil, err
	}
	var a rpcAnswer
	if err := json.Unmarshal(text, &a); err != nil || a.Version != "2.0" {
		if err := status(resp); err != nil {
			return nil, nil, fmt.Errorf("%w, and no JSON-RPC", err)
		}
		return nil, nil, fmt.Errorf("%w: what answers there is no JSON-RPC", hook.ErrUnavailable)
	}
	return a.Result, a.Error, nil
}

// tellKamailio first drops what look-ups were answered and then what is registered: a phone that registers anew in between is
// looked up.
func (c *Client) tellKamailio(ctx context.Context, h hook.Hook, s hook.Secret, n hook.Notification) error {
	if n.User == "" {
		_, refused, err := c.rpc(ctx, h, s, reloadDomains)
		if refused != nil && !refused.unknown() {
			err = fmt.Errorf("%s: %s (%d)", reloadDomains, refused.Message, refused.Code)
		}
		return err
	}
	domains := domainsOf(n)
	for _, domain := range domains {
		for _, name := range []string{n.User, n.User + "@" + n.Realm} { // either of which a phone may give
			if err := c.forget(ctx, h, s, name+"@"+domain); err != nil {
				return err
			}
		}
	}
	if !n.Type.EndsRegistrations() {
		return nil
	}
	for _, domain := range domains {
		if err := c.unregister(ctx, h, s, n.User+"@"+domain); err != nil {
			return err
		}
	}
	return nil
}

// domainsOf are the domains that a tenant's phones may register in: its host, and its realm where that is another host name.
func domainsOf(n hook.Notification) []string {
	realm := strings.ToLower(n.Realm)
	if realm == n.Host || strings.Trim(realm, "abcdefghijklmnopqrstuvwxyz0123456789-.") != "" {
		return []string{n.Host}
	}
	return []string{n.Host, realm}
}

func (c *Client) forget(ctx context.Context, h hook.Hook, s hook.Secret, key string) error {
	_, refused, err := c.rpc(ctx, h, s, deleteCached, credentialTable, key)
	if refused != nil && !refused.unknown() && refused.Code != http.StatusNotFound && !refused.is("no such htable") {
		err = fmt.Errorf("%s %s: %s (%d)", deleteCached, credentialTable, refused.Message, refused.Code)
	}
	return err
}

func (c *Client) unregister(ctx context.Context, h hook.Hook, s hook.Secret, address string) error {
	_, refused, err := c.rpc(ctx, h, s, removeContacts, locationTable, address)
	if refused != nil && refused.Code != http.StatusNotFound && !refused.is("aor not found") {
		err = fmt.Errorf("%s %s: %s (%d)", removeContacts, locationTable, refused.Message, refused.Code)
	}
	return err
}

// tryKamailio asks which of the commands it knows.
func (c *Client) tryKamailio(ctx context.Context, h hook.Hook, s hook.Secret) (string, error) {
	result, refused, err := c.rpc(ctx, h, s, listCommands)
	if err != nil {
		return "", err
	}
	var methods []string
	if refused != nil {
		return "", fmt.Errorf("%s: %s (%d)", listCommands, refused.Message, refused.Code)
	}
	if err := json.Unmarshal(result, &methods); err != nil {
		return "", fmt.Errorf("%s gives no list", listCommands)
	}
	knows := make(map[string]bool)
	for _, m := range methods {
		knows[m] = true
	}
	if !knows[removeContacts] {
		return "", fmt.Errorf("it has no %s, and so cannot be told to end a registration; load the module usrloc", removeContacts)
	}
	said := "it answers, and can end registrations (" + removeContacts + ")"
	for _, m := range []struct{ name, has, lacks string }{
		{deleteCached, "forget what it looked up", "it keeps nothing that it looked up in an htable"},
		{reloadDomains, "read domains anew", "it keeps no list of domains"},
	} {
		if knows[m.name] {
			said += ", " + m.has + " (" + m.name + ")"
		} else {
			said += "; " + m.lacks + " (no " + m.name + ")"
		}
	}
	return said, nil
}
