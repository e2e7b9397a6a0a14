package web_test

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/textproto"
	"strconv"
	"strings"
	"testing"
)

// These tests send bytes that no ordinary client sends. Requests that net/http refuses get its
// plain text answer instead of the contract's JSON: no handler sees them.

// exchange writes bytes on a new connection, closes it for writing, and returns all responses.
func (v *visitor) exchange(t testing.TB, text string) []answer {
	t.Helper()
	return responses(t, text, v.raw(t, text))
}

func (v *visitor) raw(t testing.TB, text string) string {
	t.Helper()
	conn := v.dial(t)
	defer conn.Close()
	// The server may close early. Its response is still read.
	io.WriteString(conn, text)
	conn.(*net.TCPConn).CloseWrite()
	back, err := io.ReadAll(conn)
	if err != nil && len(back) == 0 {
		t.Fatalf("%.60q: %v", text, err)
	}
	return string(back)
}

// responses parses the final responses. Each must be complete.
func responses(t testing.TB, request, back string) (list []answer) {
	t.Helper()
	r := bufio.NewReader(strings.NewReader(back))
	method, _, _ := strings.Cut(request, " ") // a response to HEAD has no body
	for {
		if _, err := r.Peek(1); errors.Is(err, io.EOF) {
			return list
		}
		response, err := http.ReadResponse(r, &http.Request{Method: method})
		if err != nil {
			t.Fatalf("not a response: %q", back)
		}
		body, err := io.ReadAll(response.Body)
		if err != nil {
			t.Fatalf("not a complete response: %q", back)
		}
		if response.StatusCode >= 200 {
			list = append(list, answer{response.StatusCode, response.Header, string(body)})
		}
	}
}

// TestRequestSmuggling sends requests about whose end two parsers may disagree. The bytes after the
// first possible end are another request, which must not be handled: there is at most one response
// and one call of the handler.
func TestRequestSmuggling(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	const hidden = "GET /captcha.ashx HTTP/1.1\r\nHost: a.test\r\n\r\n"
	const start = "POST /signup.ashx HTTP/1.1\r\nHost: a.test\r\nContent-Type: " + formType + "\r\n"
	size := strconv.Itoa(len(hidden))
	chunk := fmt.Sprintf("%x\r\n%s\r\n0\r\n\r\n", len(hidden), hidden)
	ended := "0\r\n\r\n" + hidden
	te := func(line string) string {
		return start + "Content-Length: " + strconv.Itoa(len(ended)) + "\r\n" + line + "\r\n\r\n" + ended
	}
	cl := func(line string) string { return start + line + "\r\n\r\n" + hidden }
	chunked := func(body string) string { return start + "Transfer-Encoding: chunked\r\n\r\n" + body }
	for _, row := range []struct{ name, text string }{
		{"a length with chunks, ended early", te("Transfer-Encoding: chunked")},
		{"a short length with chunks", start + "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n" + chunk},
		{
			"chunks before a length",
			start + "Transfer-Encoding: chunked\r\nContent-Length: " + strconv.Itoa(len(ended)) + "\r\n\r\n" + ended,
		},
		{
			"a zero length with chunks",
			start + "Content-Length: 0\r\nTransfer-Encoding: chunked\r\n\r\n" + ended,
		},
		{"chunks in capitals", te("TRANSFER-ENCODING: CHUNKED")},
		{"chunks twice", te("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked")},
		{"chunks twice in a line", te("Transfer-Encoding: chunked, chunked")},
		{"chunks and identity", te("Transfer-Encoding: chunked, identity")},
		{"identity and chunks", te("Transfer-Encoding: identity, chunked")},
		{"identity and chunks in two lines", te("Transfer-Encoding: identity\r\nTransfer-Encoding: chunked")},
		{"identity", te("Transfer-Encoding: identity")},
		{"gzip and chunks", te("Transfer-Encoding: gzip, chunked")},
		{"a coding like chunks", te("Transfer-Encoding: xchunked")},
		{"chunks with a parameter", te("Transfer-Encoding: chunked;q=1")},
		{"chunks in quotes", te(`Transfer-Encoding: "chunked"`)},
		{"chunks behind a tab", te("Transfer-Encoding:\tchunked")},
		{"chunks behind a vertical tab", te("Transfer-Encoding:\vchunked")},
		{"chunks before a NUL", te("Transfer-Encoding: chunked\x00")},
		{"chunks behind a space before the colon", te("Transfer-Encoding : chunked")},
		{"chunks behind a space before the name", te(" Transfer-Encoding: chunked")},
		{"chunks on a folded line", te("Transfer-Encoding:\r\n chunked")},
		{"chunks behind a bare line feed", te("X: y\nTransfer-Encoding: chunked")},
		{"chunks behind a bare carriage return", te("X: y\rTransfer-Encoding: chunked")},
		{"an empty coding", te("Transfer-Encoding:")},
		{"a comma before chunks", te("Transfer-Encoding: ,chunked")},
		{"two lengths", cl("Content-Length: 0\r\nContent-Length: " + size)},
		{"two lengths the other way", cl("Content-Length: " + size + "\r\nContent-Length: 0")},
		{"two lengths in a line", cl("Content-Length: 0, " + size)},
		{"one length twice in a line", cl("Content-Length: " + size + ", " + size)},
		{"a length with a plus", cl("Content-Length: +" + size)},
		{"a negative length", cl("Content-Length: -1")},
		{"a length in hex", cl("Content-Length: 0x10")},
		{"a length with a space in it", cl("Content-Length: 0 " + size)},
		{"a length with an exponent", cl("Content-Length: 0e1")},
		{"a length above 64 bits", cl("Content-Length: 18446744073709551616")},
		{"a length with an underscore", cl("Content-Length: 1_0")},
		{"an empty length", cl("Content-Length:")},
		{"a length before a NUL", cl("Content-Length: 0\x00" + size)},
		{"a length behind a space before the colon", cl("Content-Length : " + size)},
		{"a length on a folded line", cl("Content-Length:\r\n " + size)},
		{"a length named by Connection", cl("Connection: Content-Length\r\nContent-Length: " + size)},
		{"a body behind an expectation", cl("Expect: 100-continue\r\nContent-Length: " + size)},
		{
			"a body behind an upgrade",
			cl("Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n" +
				"HTTP2-Settings: AAMAAABkAAQAAP__\r\nContent-Length: " + size),
		},
		{"a chunk size with a line feed alone", chunked("0\n\n" + hidden)},
		{"a chunk size with 0x", chunked("0x0\r\n\r\n" + hidden)},
		{"a chunk size with a plus", chunked("+0\r\n\r\n" + hidden)},
		{"a negative chunk size", chunked("-1\r\n\r\n" + hidden)},
		{"a chunk size above 64 bits", chunked("ffffffffffffffff1\r\n" + hidden)},
		{"an empty chunk size", chunked("\r\n\r\n" + hidden)},
		{"a line feed in a chunk's extension", chunked("1;a\nb\r\nx\r\n0\r\n\r\n" + hidden)},
		{"a chunk longer than its size", chunked("1\r\nxx\r\n0\r\n\r\n" + hidden)},
		{"a chunk that ends in a line feed", chunked("1\r\nx\n0\r\n\r\n" + hidden)},
		{"a last chunk of many zeros", chunked(strings.Repeat("0", 40) + "\r\n\r\n" + hidden)},
		{"a trailer with a length", chunked("0\r\nContent-Length: " + size + "\r\n\r\n" + hidden)},
		{"a trailer with a chunk", chunked("0\r\nTransfer-Encoding: chunked\r\n\r\n" + hidden)},
		{
			"chunks in HTTP/1.0",
			strings.Replace(te("Connection: keep-alive\r\nTransfer-Encoding: chunked"), "HTTP/1.1", "HTTP/1.0", 1),
		},
		{
			"chunks alone in HTTP/1.0",
			strings.Replace(start, "HTTP/1.1", "HTTP/1.0", 1) +
				"Connection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n" + ended,
		},
		{"HTTP/1.2", strings.Replace(cl("Content-Length: "+size), "HTTP/1.1", "HTTP/1.2", 1)},
		{"HTTP/2.0 in the clear", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + hidden},
		{"HTTP/0.9", "GET /captcha.ashx\r\n" + hidden},
		{"no version of HTTP", strings.Replace(cl("Content-Length: 0"), " HTTP/1.1", " HTTP/1.1 HTTP/1.0", 1)},
		{
			"a GET with a body",
			"GET /captcha.ashx HTTP/1.1\r\nHost: a.test\r\nContent-Length: " + size + "\r\n\r\n" + hidden,
		},
		{
			"a GET with chunks",
			"GET /captcha.ashx HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n" + chunk,
		},
		{
			"a HEAD with a body",
			"HEAD /captcha.ashx HTTP/1.1\r\nHost: a.test\r\n" +
				"Connection: close\r\nContent-Length: " + size + "\r\n\r\n" + hidden,
		},
		{
			"an OPTIONS with a body",
			"OPTIONS * HTTP/1.1\r\nHost: a.test\r\nContent-Length: " + size + "\r\n\r\n" + hidden,
		},
		{
			"a wrong method with chunks",
			"PUT /signup.ashx HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n" + chunk,
		},
		{
			"an unknown path with a body",
			"POST /x HTTP/1.1\r\nHost: a.test\r\nContent-Length: " + size + "\r\n\r\n" + hidden,
		},
		{
			"an unknown host with a body",
			"POST / HTTP/1.1\r\nHost: evil.test\r\nContent-Length: " + size + "\r\n\r\n" + hidden,
		},
		{"two hosts", "POST / HTTP/1.1\r\nHost: a.test\r\nHost: b.test\r\nContent-Length: 0\r\n\r\n" + hidden},
		{
			"a host with a space before the colon",
			"POST / HTTP/1.1\r\nHost : a.test\r\nContent-Length: 0\r\n\r\n" + hidden,
		},
		{"a header without a colon", cl("nonsense\r\nContent-Length: 0")},
		{"a NUL in a header's name", cl("X\x00: y\r\nContent-Length: 0")},
		{
			"a target with a space",
			strings.Replace(cl("Content-Length: 0"), "/signup.ashx", "/signup.ashx HTTP/1.1 x", 1),
		},
	} {
		t.Run(row.name, func(t *testing.T) {
			before := s.handled.Load()
			list := s.visitor("a.test").exchange(t, row.text)
			if n := s.handled.Load() - before; len(list) > 1 || n > 1 {
				t.Errorf("%d answers to one request, and %d calls of the handler: %v", len(list), n, list)
			}
			for _, a := range list {
				if strings.Contains(a.body, `"token":`) && !strings.HasPrefix(row.text, "GET") {
					t.Errorf("the hidden request was answered: %+v", a)
				}
			}
		})
	}
	t.Run("two requests on one connection have two answers", func(t *testing.T) {
		if list := s.visitor("a.test").exchange(t, hidden+hidden); len(list) != 2 {
			t.Errorf("%d answers", len(list))
		}
	})
}

func TestRawHost(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	for _, row := range []struct {
		name, text string
		status     int
	}{
		{"absolute URL wins over Host", "GET http://a.test/captcha.ashx HTTP/1.1\r\nHost: evil.test\r\n\r\n", 200},
		{
			"unknown absolute URL with a known Host",
			"GET http://evil.test/captcha.ashx HTTP/1.1\r\nHost: a.test\r\n\r\n", 421,
		},
		{
			"absolute URL with user information",
			"GET http://a.test@evil.test/captcha.ashx HTTP/1.1\r\nHost: a.test\r\n\r\n", 421,
		},
		{"HTTP/1.0 without Host", "GET /captcha.ashx HTTP/1.0\r\n\r\n", 421},
		{"HTTP/1.0 with Host", "GET /captcha.ashx HTTP/1.0\r\nHost: a.test\r\n\r\n", 200},
		{"empty Host", "GET /captcha.ashx HTTP/1.1\r\nHost:\r\n\r\n", 421},
		{"Host of dots", "GET /captcha.ashx HTTP/1.1\r\nHost: ..\r\n\r\n", 421},
		{"OPTIONS * of an unknown host", "OPTIONS * HTTP/1.1\r\nHost: evil.test\r\n\r\n", 421},
		{"OPTIONS * of a tenant", "OPTIONS * HTTP/1.1\r\nHost: a.test\r\n\r\n", 404},
		{"CONNECT to another host", "CONNECT evil.test:443 HTTP/1.1\r\nHost: a.test\r\n\r\n", 421},
		{"CONNECT to a tenant", "CONNECT a.test:443 HTTP/1.1\r\nHost: a.test\r\n\r\n", 404},
	} {
		t.Run(row.name, func(t *testing.T) {
			list := s.visitor("a.test").exchange(t, row.text)
			if len(list) != 1 {
				t.Fatalf("%d answers", len(list))
			}
			list[0].wantJSON(t, row.status)
		})
	}
	t.Run("links do not depend on the request line", func(t *testing.T) {
		who := s.newPerson("a.test")
		body := s.form(t, who).String()
		list := s.visitor("a.test").exchange(t, fmt.Sprintf(
			"POST http://A.TEST.:1337/signup.ashx HTTP/1.1\r\nHost: evil.test\r\n"+
				"Content-Type: %s\r\nContent-Length: %d\r\n\r\n%s",
			formType, len(body), body))
		if len(list) != 1 {
			t.Fatalf("%d answers", len(list))
		}
		list[0].wantStatus(t, 200)
		if origin, _ := s.linkParts(t, who.email); origin != "https://a.test" {
			t.Errorf("the link goes to %s", origin)
		}
	})
	// net/http refuses these.
	for name, header := range map[string]string{
		"no Host": "", "two Hosts": "Host: a.test\r\nHost: a.test\r\n",
		"a Host with user information": "Host: x@a.test\r\n",
		"a Host with a path":           "Host: a.test/x\r\n",
	} {
		t.Run(name+" is refused by net/http", func(t *testing.T) {
			before := s.handled.Load()
			list := s.visitor("a.test").exchange(t, "GET /captcha.ashx HTTP/1.1\r\n"+header+"\r\n")
			if len(list) != 1 || list[0].status != 400 || s.handled.Load() != before {
				t.Errorf("answers %v", list)
			}
		})
	}
}

func TestRequestSize(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	start := "POST /signup.ashx HTTP/1.1\r\nHost: a.test\r\nContent-Type: " + formType + "\r\n"

	t.Run("a gibibyte in chunks is cut off", func(t *testing.T) {
		conn := s.visitor("a.test").dial(t)
		defer conn.Close()
		io.WriteString(conn, start+"Transfer-Encoding: chunked\r\n\r\n")
		chunk := append([]byte("10000\r\n"), append(bytes.Repeat([]byte("x"), 0x10000), "\r\n"...)...)
		sent := 0
		for ; sent < 1<<30; sent += 0x10000 {
			if _, err := conn.Write(chunk); err != nil {
				break
			}
		}
		if sent > 64<<20 { // which fits into the socket buffers
			t.Errorf("%d MiB were taken", sent>>20)
		}
	})
	t.Run("10 MiB refused without reading", func(t *testing.T) {
		conn := s.visitor("a.test").dial(t)
		defer conn.Close()
		fmt.Fprintf(conn, "%sContent-Length: %d\r\n\r\n", start, 10<<20) // without the body
		response, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(response.Body)
		a := answer{response.StatusCode, response.Header, string(body)}
		if got := a.wantError(t, 400, "invalid_request"); !strings.Contains(got, "8 KiB") || !response.Close {
			t.Errorf("the description is %q, headers %v", got, response.Header)
		}
	})
	t.Run("100-continue refused for 10 MiB", func(t *testing.T) {
		back := s.visitor("a.test").raw(t, start+"Expect: 100-continue\r\nContent-Length: 10485760\r\n\r\n")
		if strings.HasPrefix(back, "HTTP/1.1 100") {
			t.Errorf("the server asks for the body: %q", back)
		}
		responses(t, "POST", back)[0].wantError(t, 400, "invalid_request")
	})
	t.Run("truncated body refused", func(t *testing.T) {
		who := s.newPerson("a.test")
		f := s.form(t, who).String()
		s.changesNothing(t, "a.test", who.user, func() {
			list := s.visitor("a.test").
				exchange(t, fmt.Sprintf("%sContent-Length: %d\r\n\r\n%s", start, len(f)+1, f))
			if len(list) != 1 {
				t.Fatalf("%d answers", len(list))
			}
			if got := list[0].wantError(t, 400, "invalid_request"); !strings.Contains(got, "completely") {
				t.Errorf("the description is %q", got)
			}
		})
	})
	t.Run("short form in chunks accepted", func(t *testing.T) {
		f := s.form(t, s.newPerson("a.test")).String()
		text := fmt.Sprintf("%sTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n%x\r\n%s\r\n0\r\n\r\n", start,
			7, f[:7], len(f)-7, f[7:])
		list := s.visitor("a.test").exchange(t, text)
		if len(list) != 1 || list[0].status != 200 {
			t.Errorf("answers %v", list)
		}
	})

	// net/http answers these.
	for name, header := range map[string]string{
		"one header of 64 KiB":       "Cookie: " + strings.Repeat("x", 64<<10) + "\r\n",
		"64 KiB of headers":          strings.Repeat("X-Pad: "+strings.Repeat("x", 90)+"\r\n", 700),
		"ten thousand short headers": strings.Repeat("A: b\r\n", 11000),
	} {
		t.Run(name+" are 431", func(t *testing.T) {
			before := s.handled.Load()
			back := s.visitor("a.test").raw(t, "GET /captcha.ashx HTTP/1.1\r\nHost: a.test\r\n"+header+"\r\n")
			line, _, _ := strings.Cut(back, "\r\n")
			if !strings.HasPrefix(line, "HTTP/1.1 431 ") || s.handled.Load() != before {
				t.Errorf("the answer is %q", line)
			}
		})
	}
	t.Run("a path of 64 KiB is 431", func(t *testing.T) {
		back := s.visitor("a.test").raw(t, "GET /"+strings.Repeat("x", 64<<10)+" HTTP/1.1\r\nHost: a.test\r\n\r\n")
		line, _ := textproto.NewReader(bufio.NewReader(strings.NewReader(back))).ReadLine()
		if !strings.HasPrefix(line, "HTTP/1.1 431 ") {
			t.Errorf("the answer is %q", line)
		}
	})
	t.Run("12 KiB of headers accepted", func(t *testing.T) {
		s.visitor("a.test").get(t, "/captcha.ashx", "X-Pad", strings.Repeat("x", 12<<10)).wantJSON(t, 200)
	})
}

// TestContentLength checks that every response, including those to HEAD, has a Content-Length, set
// by the handler or by net/http.
func TestContentLength(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	who := s.active(t, "a.test")
	v := s.visitor("a.test")
	cookies := v.signIn(t, who.user, who.password).cookies()
	longest := 0
	for _, target := range []string{
		"/captcha.ashx", "/signin.ashx", "/account.html", "/signup.html", "/nothing",
		"/nothing.ashx",
	} {
		get := v.get(t, target, "Accept", "text/html", "Cookie", cookies)
		length := get.header.Get("Content-Length")
		if length != strconv.Itoa(len(get.body)) {
			t.Errorf("GET %s: the length is %q, the body has %d bytes", target, length, len(get.body))
		}
		head := v.do(t, "HEAD", target, "", "Accept", "text/html", "Cookie", cookies).header.Get("Content-Length")
		if head != length && target != "/captcha.ashx" && target != "/account.html" { // their tokens differ each time
			t.Errorf("%s: HEAD says %q, GET %q", target, head, length)
		}
		longest = max(longest, len(get.body))
	}
	if longest <= 2048 {
		t.Errorf("the longest answer has %d bytes, of which net/http counts the length by itself", longest)
	}
}
