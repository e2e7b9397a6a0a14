package phonetest

import (
	"bufio"
	"cmp"
	"crypto/md5"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/textproto"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"
)

// answerTimeout is how long a phone repeats a request without an answer.
const answerTimeout = 20 * time.Second

// Phone is a SIP phone over UDP (RFC 3261) that can register and call.
type Phone struct {
	Server *Server
	// User and Domain are the address-of-record.
	User, Domain string
	// DigestUser is the user name in the credentials. If it is empty, User is.
	DigestUser string
	Password   string
	// Authorization, if not empty, is sent as it is.
	Authorization string
	// Sent is the Authorization header of the last request that had one.
	Sent string
}

// Response is a SIP response.
type Response struct {
	Status int
	Reason string
	Header textproto.MIMEHeader
}

func (r Response) String() string { return fmt.Sprintf("%d %s", r.Status, r.Reason) }

// Register registers the phone. If the server asks for credentials, it sends them, and returns the
// response to the second request.
func (p *Phone) Register() (Response, error) {
	return p.exchange("REGISTER", "sip:"+p.Domain, p.User+"@"+p.Domain)
}

// Call sends a request to an address that the server routes as it does a call. It is a MESSAGE, which
// needs no media and no further requests.
func (p *Phone) Call(to string) (Response, error) { return p.exchange("MESSAGE", "sip:"+to, to) }

// exchange sends a request, and sends it with credentials if the server asks for them.
func (p *Phone) exchange(method, uri, to string) (r Response, err error) {
	conn, err := net.Dial("udp", p.Server.address())
	if err != nil {
		return r, err
	}
	defer conn.Close()
	callID := randomHex()
	p.Sent = p.Authorization
	r, err = p.send(conn, method, uri, to, callID, 1, "Authorization", p.Authorization)
	for header, answer := range map[string]string{
		"Www-Authenticate": "Authorization", "Proxy-Authenticate": "Proxy-Authorization",
	} {
		challenge := r.Header.Get(header)
		if err == nil && challenge != "" && p.Authorization == "" {
			p.Sent = p.credentials(challenge, method, uri)
			return p.send(conn, method, uri, to, callID, 2, answer, p.Sent)
		}
	}
	return r, err
}

func randomHex() string {
	var b [12]byte
	rand.Read(b[:])
	return hex.EncodeToString(b[:])
}

// send sends a request and returns its final response. It repeats the request as RFC 3261 section
// 17.1.2 says.
func (p *Phone) send(
	conn net.Conn, method, uri, to, callID string, number int, header, credentials string,
) (r Response, err error) {
	local := conn.LocalAddr().String()
	branch := "z9hG4bK" + randomHex()
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s SIP/2.0\r\nVia: SIP/2.0/UDP %s;branch=%s;rport\r\nMax-Forwards: 70\r\n",
		method, uri, local, branch)
	fmt.Fprintf(&b, "From: <sip:%s@%s>;tag=%s\r\nTo: <sip:%s>\r\nCall-ID: %s\r\nCSeq: %d %s\r\n",
		p.User, p.Domain, callID[:8], to, callID, number, method)
	fmt.Fprintf(&b, "Contact: <sip:%s@%s>\r\nExpires: 60\r\n", p.User, local)
	if credentials != "" {
		fmt.Fprintf(&b, "%s: %s\r\n", header, credentials)
	}
	b.WriteString("Content-Length: 0\r\n\r\n")
	wait := 500 * time.Millisecond
	for end := time.Now().Add(answerTimeout); time.Now().Before(end); wait = min(2*wait, 4*time.Second) {
		if _, err := conn.Write([]byte(b.String())); err != nil {
			return r, err
		}
		conn.SetReadDeadline(time.Now().Add(wait))
		for {
			packet := make([]byte, 8192)
			n, err := conn.Read(packet)
			if errors.Is(err, os.ErrDeadlineExceeded) {
				break
			}
			if err != nil {
				return r, err
			}
			r, err := parseResponse(string(packet[:n]))
			if err != nil {
				return r, err
			}
			if strings.Contains(r.Header.Get("Via"), branch) && r.Status >= 200 {
				return r, nil
			}
		}
	}
	return r, fmt.Errorf("no response to %s %s", method, uri)
}

func parseResponse(packet string) (r Response, err error) {
	line, rest, _ := strings.Cut(packet, "\r\n")
	words := strings.SplitN(line, " ", 3)
	if len(words) != 3 || words[0] != "SIP/2.0" {
		return r, fmt.Errorf("not a SIP response: %q", line)
	}
	if r.Status, err = strconv.Atoi(words[1]); err != nil {
		return r, err
	}
	r.Reason = words[2]
	r.Header, err = textproto.NewReader(bufio.NewReader(strings.NewReader(rest))).ReadMIMEHeader()
	return r, err
}

// credentials answers a challenge by MD5 and qop=auth (RFC 7616 section 3.4). It does not use package
// digest, which is under test.
func (p *Phone) credentials(challenge, method, uri string) string {
	value := func(name string) string {
		_, rest, ok := strings.Cut(challenge, name+`="`)
		if !ok {
			return ""
		}
		value, _, _ := strings.Cut(rest, `"`)
		return value
	}
	h := func(text string) string { return fmt.Sprintf("%x", md5.Sum([]byte(text))) }
	user := cmp.Or(p.DigestUser, p.User)
	realm, nonce, cnonce := value("realm"), value("nonce"), randomHex()
	response := h(h(user+":"+realm+":"+p.Password) + ":" + nonce + ":00000001:" + cnonce + ":auth:" +
		h(method+":"+uri))
	return fmt.Sprintf(`Digest username="%s", realm="%s", nonce="%s", uri="%s", response="%s", `+
		`algorithm=MD5, cnonce="%s", qop=auth, nc=00000001`, user, realm, nonce, uri, response, cnonce)
}

// Registers registers the phone and checks the status of the response.
func (p *Phone) Registers(t testing.TB, want int) Response {
	t.Helper()
	r, err := p.Register()
	if err != nil {
		t.Fatal(err)
	}
	if r.Status != want {
		t.Errorf("%s@%s registers: got %s, want %d", p.User, p.Domain, r, want)
	}
	return r
}
