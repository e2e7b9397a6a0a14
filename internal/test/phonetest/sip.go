package phonetest

import (
	"bufio"
	"crypto/md5"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"net"
	"net/textproto"
	"strconv"
	"strings"
	"testing"
	"time"
)

// Phone is a SIP phone over UDP (RFC 3261), as far as registering and asking for a call go.
type Phone struct {
	Server *Server
	// User and Domain are the address-of-record.
	User, Domain string
	// Digest is the digest user name; User where empty.
	Digest   string
	Password string
	// Authorization, where it is set, is sent as it is.
	Authorization string
	// Sent is the last one that was.
	Sent string
}

// Response is what a server answered.
type Response struct {
	Status int
	Reason string
	Header textproto.MIMEHeader
}

func (r Response) String() string { return fmt.Sprintf("%d %s", r.Status, r.Reason) }

// Register registers and gives the last answer: to the request with credentials, where the server asks for those.
func (p *Phone) Register() (Response, error) {
	return p.ask("REGISTER", "sip:"+p.Domain, p.User+"@"+p.Domain)
}

// Call asks for a call to an address.
func (p *Phone) Call(to string) (Response, error) { return p.ask("MESSAGE", "sip:"+to, to) }

func (p *Phone) ask(method, uri, to string) (r Response, err error) {
	conn, err := net.Dial("udp", net.JoinHostPort("127.0.0.1", strconv.Itoa(p.Server.Port)))
	if err != nil {
		return r, err
	}
	defer conn.Close()
	call := token()
	p.Sent = p.Authorization
	r, err = p.send(conn, method, uri, to, call, 1, "Authorization", p.Authorization)
	for header, answer := range map[string]string{"Www-Authenticate": "Authorization", "Proxy-Authenticate": "Proxy-Authorization"} {
		challenge := r.Header.Get(header)
		if err == nil && challenge != "" && p.Authorization == "" {
			p.Sent = p.answer(challenge, method, uri)
			return p.send(conn, method, uri, to, call, 2, answer, p.Sent)
		}
	}
	return r, err
}

func token() string {
	var b [12]byte
	rand.Read(b[:])
	return hex.EncodeToString(b[:])
}

// send sends a request and waits for its final answer. It sends it again as RFC 3261 §17.1.2 says.
func (p *Phone) send(conn net.Conn, method, uri, to, call string, number int, header, credentials string) (r Response, err error) {
	local := conn.LocalAddr().String()
	branch := "z9hG4bK" + token()
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s SIP/2.0\r\nVia: SIP/2.0/UDP %s;branch=%s;rport\r\nMax-Forwards: 70\r\n", method, uri, local, branch)
	fmt.Fprintf(&b, "From: <sip:%s@%s>;tag=%s\r\nTo: <sip:%s>\r\nCall-ID: %s\r\nCSeq: %d %s\r\n", p.User, p.Domain, call[:8], to, call, number, method)
	fmt.Fprintf(&b, "Contact: <sip:%s@%s>\r\nExpires: 60\r\n", p.User, local)
	if credentials != "" {
		fmt.Fprintf(&b, "%s: %s\r\n", header, credentials)
	}
	b.WriteString("Content-Length: 0\r\n\r\n")
	wait := 500 * time.Millisecond
	for end := time.Now().Add(patience); time.Now().Before(end); wait = min(2*wait, 4*time.Second) {
		if _, err := conn.Write([]byte(b.String())); err != nil {
			return r, err
		}
		conn.SetReadDeadline(time.Now().Add(wait))
		for {
			packet := make([]byte, 8192)
			n, err := conn.Read(packet)
			if err != nil {
				if e, ok := err.(net.Error); ok && e.Timeout() {
					break
				}
				return r, err
			}
			r, err := parse(string(packet[:n]))
			if err != nil {
				return r, err
			}
			if strings.Contains(r.Header.Get("Via"), branch) && r.Status >= 200 {
				return r, nil
			}
		}
	}
	return r, fmt.Errorf("no answer to %s %s", method, uri)
}

func parse(packet string) (r Response, err error) {
	line, rest, _ := strings.Cut(packet, "\r\n")
	words := strings.SplitN(line, " ", 3)
	if len(words) != 3 || words[0] != "SIP/2.0" {
		return r, fmt.Errorf("not an answer: %q", line)
	}
	if r.Status, err = strconv.Atoi(words[1]); err != nil {
		return r, err
	}
	r.Reason = words[2]
	r.Header, err = textproto.NewReader(bufio.NewReader(strings.NewReader(rest))).ReadMIMEHeader()
	return r, err
}

// answer is the response to a challenge by MD5 and qop=auth (RFC 7616 §3.4), reckoned here and by nothing of what is tested.
func (p *Phone) answer(challenge, method, uri string) string {
	value := func(name string) string {
		_, rest, ok := strings.Cut(challenge, name+`="`)
		if !ok {
			return ""
		}
		value, _, _ := strings.Cut(rest, `"`)
		return value
	}
	h := func(text string) string { return fmt.Sprintf("%x", md5.Sum([]byte(text))) }
	user := p.Digest
	if user == "" {
		user = p.User
	}
	realm, nonce, cnonce := value("realm"), value("nonce"), token()
	response := h(h(user+":"+realm+":"+p.Password) + ":" + nonce + ":00000001:" + cnonce + ":auth:" + h(method+":"+uri))
	return fmt.Sprintf(`Digest username="%s", realm="%s", nonce="%s", uri="%s", response="%s", algorithm=MD5, cnonce="%s", qop=auth, nc=00000001`,
		user, realm, nonce, uri, response, cnonce)
}

// Registers wants a status of a registration.
func (p *Phone) Registers(t testing.TB, want int) Response {
	t.Helper()
	r, err := p.Register()
	if err != nil {
		t.Fatal(err)
	}
	if r.Status != want {
		t.Errorf("%s@%s registers: %s, want %d", p.User, p.Domain, r, want)
	}
	return r
}
