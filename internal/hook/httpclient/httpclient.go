// Package httpclient sends the HTTP requests of hooks.
//
// Operators choose the URLs, including ones in their own networks, so no target address is
// refused as such. The package guarantees that:
//
//   - a call goes to the URL of the hook: redirects are not followed, and proxies named in the
//     environment are not used;
//   - a call over plain http connects only to private addresses, unless the hook permits others
//     (hook.Hook.PlainHTTP). The address is checked after the name was resolved, when the
//     connection is made;
//   - a call ends after hook.CallTimeout, and reads a bounded number of bytes.
//
// It knows nothing of the protocols on top of HTTP, which the packages of the transports implement.
package httpclient

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

const (
	connectTimeout = 2 * time.Second
	// idleTimeout is shorter than that of common servers, so that a call rarely starts on a
	// connection that the server is about to close.
	idleTimeout = 3 * time.Second
	// maxBody bounds a response. The longest one expected is Kamailio's list of RPC methods, about
	// 20 KiB.
	maxBody    = 256 << 10
	maxHeaders = 32 << 10
)

// Client sends requests to phone servers. It is safe for concurrent use.
type Client struct {
	privateOnly, unrestricted *http.Client
}

// New returns a Client.
func New() *Client {
	return &Client{privateOnly: newClient(refusePublic), unrestricted: newClient(nil)}
}

func newClient(control func(network, address string, c syscall.RawConn) error) *http.Client {
	dialer := &net.Dialer{Timeout: connectTimeout, Control: control}
	return &http.Client{
		Transport: &http.Transport{
			DialContext:            dialer.DialContext,
			TLSHandshakeTimeout:    connectTimeout,
			IdleConnTimeout:        idleTimeout,
			MaxResponseHeaderBytes: maxHeaders,
			MaxIdleConnsPerHost:    4,
			ForceAttemptHTTP2:      true,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Timeout:       hook.CallTimeout,
	}
}

// refusePublic refuses to connect to an address that is not private. net.Dialer calls it with the
// address that a name was resolved to.
func refusePublic(_, address string, _ syscall.RawConn) error {
	if target, err := netip.ParseAddrPort(address); err != nil || !hook.IsPrivate(target.Addr()) {
		return hook.ErrPlainHTTP
	}
	return nil
}

// Close closes idle connections.
func (c *Client) Close() {
	c.privateOnly.CloseIdleConnections()
	c.unrestricted.CloseIdleConnections()
}

// Post sends a JSON body to the URL of a hook, with headers in addition to the common ones, and returns
// the response and its body. Every status is a response. Post fails with hook.ErrUnavailable if
// there is no response.
func (c *Client) Post(
	ctx context.Context, h hook.Hook, header http.Header, body []byte,
) (*http.Response, []byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, h.URL, bytes.NewReader(body))
	if err != nil {
		return nil, nil, unavailable(err)
	}
	for name, values := range header {
		req.Header[name] = values
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", "Dialtone")
	// The key lets net/http repeat the request if the server has closed an idle connection. Its nil
	// value keeps it out of the request.
	req.Header["X-Idempotency-Key"] = nil
	client := c.unrestricted
	if req.URL.Scheme == "http" && !h.PlainHTTP {
		client = c.privateOnly
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, nil, unavailable(err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, maxBody+1))
	if err == nil && len(answer) > maxBody {
		err = fmt.Errorf("its response is longer than %d bytes", maxBody)
	}
	if err != nil {
		return nil, nil, unavailable(err)
	}
	return resp, answer, nil
}

// unavailable wraps an error of net/http as hook.ErrUnavailable, without the URL, which the
// surrounding log line or message already contains.
func unavailable(err error) error {
	if u, ok := errors.AsType[*url.Error](err); ok {
		err = u.Err
	}
	timeout, ok := errors.AsType[net.Error](err)
	switch {
	case errors.Is(err, hook.ErrPlainHTTP):
		err = hook.ErrPlainHTTP
	case ok && timeout.Timeout() && !errors.Is(err, syscall.ECONNREFUSED):
		err = errors.New("it did not respond in time")
	}
	return fmt.Errorf("%w: %w", hook.ErrUnavailable, err)
}

// CheckStatus returns nil for a status of 2xx. For 400 and 422 it returns an error that
// concerns only this request, and for any other status hook.ErrUnavailable.
func CheckStatus(resp *http.Response) error {
	code := resp.StatusCode
	text := strings.TrimSpace(fmt.Sprintf("it responded with %d %s", code, http.StatusText(code)))
	switch {
	case code >= 200 && code < 300:
		return nil
	case code >= 300 && code < 400:
		return fmt.Errorf("%w: %s; redirects are not followed, so give the hook the final URL",
			hook.ErrUnavailable, text)
	case code == http.StatusBadRequest || code == http.StatusUnprocessableEntity:
		return errors.New(text)
	default:
		return fmt.Errorf("%w: %s", hook.ErrUnavailable, text)
	}
}
