// Package callout calls phone servers when something has changed: Kamailio by JSON-RPC over HTTP, whatever else there is by a
// signed webhook.
//
// An operator says which addresses are called, and they may be of one's own network: so nothing is done against that. What is seen
// to is that a call cannot be turned elsewhere (no redirects, no proxies from the environment), that it cannot be read on the way
// (http to private addresses alone, as they are when the connection is made, unless the operator says otherwise), that it ends, and
// that whatever answers is read to a bound and shown as text.
package callout

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"syscall"
	"time"

	"dialtone/internal/hook"
)

var _ hook.Transport = (*Client)(nil)

const (
	connectTime = 2 * time.Second
	// idleTime is shorter than any server's, so that no call is begun on a connection that the server is just closing.
	idleTime = 3 * time.Second
	// maxAnswer bounds an answer. The longest is Kamailio's list of what it can do, of some 20 KiB.
	maxAnswer  = 256 << 10
	maxHeaders = 32 << 10
)

// Client calls phone servers. It is safe for concurrent use.
type Client struct {
	private, open *http.Client
	now           func() time.Time
}

// New makes a Client. now is the clock of signatures.
func New(now func() time.Time) *Client {
	return &Client{private: client(privateOnly), open: client(nil), now: now}
}

func client(control func(network, address string, c syscall.RawConn) error) *http.Client {
	dialer := &net.Dialer{Timeout: connectTime, Control: control}
	return &http.Client{
		Transport: &http.Transport{
			DialContext: dialer.DialContext, TLSHandshakeTimeout: connectTime, IdleConnTimeout: idleTime,
			MaxResponseHeaderBytes: maxHeaders, MaxIdleConnsPerHost: 4, ForceAttemptHTTP2: true,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Timeout:       hook.CallTimeout,
	}
}

// privateOnly refuses to connect to an address that is not private. It is asked when names have been resolved.
func privateOnly(_, address string, _ syscall.RawConn) error {
	if at, err := netip.ParseAddrPort(address); err != nil || !hook.IsPrivate(at.Addr()) {
		return hook.ErrPlainHTTP
	}
	return nil
}

// Close ends idle connections.
func (c *Client) Close() {
	c.private.CloseIdleConnections()
	c.open.CloseIdleConnections()
}

// Call implements hook.Callout.
func (c *Client) Send(ctx context.Context, h hook.Hook, s hook.Secret, n hook.Notification) error {
	if h.Kind == hook.Kamailio {
		return c.tellKamailio(ctx, h, s, n)
	}
	return c.tellWebhook(ctx, h, s, n)
}

// Try calls a server without anything having changed, and says what came of it.
func (c *Client) Test(ctx context.Context, h hook.Hook, s hook.Secret) (string, error) {
	if h.Kind == hook.Kamailio {
		return c.tryKamailio(ctx, h, s)
	}
	return c.tryWebhook(ctx, h, s)
}

// post sends a body and gives the answer, its body read. It fails with hook.ErrAway where there is none.
func (c *Client) post(ctx context.Context, h hook.Hook, header http.Header, body []byte) (*http.Response, []byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, h.URL, bytes.NewReader(body))
	if err != nil {
		return nil, nil, fmt.Errorf("%w: %w", hook.ErrUnavailable, cause(err))
	}
	for name, values := range header {
		req.Header[name] = values
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", "Dialtone")
	// It may be sent again on a new connection where the server has closed an old one.
	req.Header["X-Idempotency-Key"] = nil
	client := c.open
	if req.URL.Scheme == "http" && !h.PlainHTTP {
		client = c.private
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, nil, fmt.Errorf("%w: %w", hook.ErrUnavailable, cause(err))
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	if err == nil && len(answer) > maxAnswer {
		err = errors.New("its answer does not end")
	}
	if err != nil {
		return nil, nil, fmt.Errorf("%w: %w", hook.ErrUnavailable, cause(err))
	}
	return resp, answer, nil
}

// cause is an error of HTTP without the address, which whoever reads it knows.
func cause(err error) error {
	if u, ok := errors.AsType[*url.Error](err); ok {
		err = u.Err
	}
	if errors.Is(err, hook.ErrPlainHTTP) {
		return hook.ErrPlainHTTP
	}
	if timeout, ok := errors.AsType[net.Error](err); ok && timeout.Timeout() && !errors.Is(err, syscall.ECONNREFUSED) {
		return errors.New("it does not answer in time")
	}
	return err
}

// status is what an HTTP status that is no success means, or nil.
func status(resp *http.Response) error {
	code := resp.StatusCode
	said := fmt.Sprintf("it answers %d %s", code, http.StatusText(code))
	switch {
	case code >= 200 && code < 300:
		return nil
	case code >= 300 && code < 400:
		return fmt.Errorf("%w: %s; give the hook the address itself", hook.ErrUnavailable, strings.TrimSpace(said))
	case code == http.StatusBadRequest || code == http.StatusUnprocessableEntity:
		return errors.New(said) // it minds this notice
	default:
		return fmt.Errorf("%w: %s", hook.ErrUnavailable, strings.TrimSpace(said))
	}
}
