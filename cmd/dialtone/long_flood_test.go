//go:build long

package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"
)

const (
	slowSenders = 2000
	slowReaders = 500
	// cutWithin is the time within which the server closes a connection that sends too slowly.
	cutWithin = 16 * time.Second
	// readersCutWithin is longer, because each answer may take 15 s, and the kernel buffers several
	// answers.
	readersCutWithin = 2 * cutWithin
	// memoryLimit is how much memory the program may use, in kB, under any load with goMemory.
	memoryLimit = 160 << 10
	goMemory    = "GOMEMLIMIT=64MiB"
)

func TestLongFlood(t *testing.T) {
	if !ownMounts(t) {
		return
	}
	t.Run("slow connections", testSlowConnections)
	t.Run("overload", testOverload)
}

// Thousands of slow connections are closed after a time, and do not slow down others.
func testSlowConnections(t *testing.T) {
	w := newWatchedServer(t, t.TempDir(), "", goMemory)
	host := "localhost" + w.address[strings.LastIndexByte(w.address, ':'):]
	before := w.files(t)
	others := watchCaptchas(t, w.address)
	var all sync.WaitGroup
	var mu sync.Mutex
	var longest time.Duration
	var failure error
	note := func(took time.Duration, err error) {
		mu.Lock()
		defer mu.Unlock()
		longest = max(longest, took)
		if err != nil {
			failure = err
		}
	}
	var readers []net.Conn
	path := large(t, w.address)
	for range slowReaders {
		c, err := slowReader(w.address, host, path)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		readers = append(readers, c)
	}
	since := time.Now()
	for i := range slowSenders {
		text := "GET /captcha.ashx HTTP/1.1\r\nHost: " + host + "\r\nX-Slow: " + strings.Repeat("x", 100)
		at := len("GET /captcha")
		if i%2 == 0 {
			text = "POST /signup.ashx HTTP/1.1\r\nHost: " + host +
				"\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: " +
				"1000\r\n\r\nuser=" + strings.Repeat("x", 100)
			at = strings.Index(text, "user=")
		}
		all.Go(func() { note(sendSlowly(w.address, text, at)) })
	}
	var most, memory int
	var signups int
	for deadline := since.Add(2 * readersCutWithin); ; {
		n := w.files(t)
		most, memory = max(most, n), max(memory, w.status(t, "VmHWM"))
		if n <= before+16 { // for instance those of the captcha probe
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d descriptors are open after %v, %d before", n, 2*readersCutWithin, before)
		}
		v, form := w.next()
		w.nothingLeft(v, form)
		v.leave()
		signups++
		<-time.After(200 * time.Millisecond)
	}
	took := time.Since(since)
	all.Wait()
	n, p99 := others.done()
	if failure != nil {
		t.Error(failure)
	}
	if longest > cutWithin || took > readersCutWithin {
		t.Errorf("the last slow sender is disconnected after %v, the last slow reader after %v; want at most "+
			"%v and %v", longest, took, cutWithin, readersCutWithin)
	}
	if most < before+(slowSenders+slowReaders)*9/10 {
		t.Errorf("only %d connections were open at one time", most-before)
	}
	if memory > memoryLimit {
		t.Errorf("%d MB of memory", memory>>10)
	}
	w.consistent()
	verified(t, w.data, w.pickup)
	w.noPanic(t)
	w.mustStop(t)
	t.Logf("%d senders of a byte a second and %d readers that do not read, at most %d connections at a "+
		"time: the last sender disconnected after %v, the last reader after %v; "+
		"meanwhile %d captchas, p99 %v, and %d signups, all answered 200; at most %d MB of memory with "+goMemory,
		slowSenders, len(readers), most-before, longest.Round(10*time.Millisecond),
		took.Round(10*time.Millisecond), n, p99.Round(100*time.Microsecond), signups, memory>>10)
}

// sendSlowly sends the beginning of a text at once and the rest at one byte per second. It returns
// how long the server kept the connection.
func sendSlowly(address, text string, at int) (time.Duration, error) {
	dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(nextAddress())}, Timeout: 10 * time.Second}
	c, err := dialer.Dial("tcp", address)
	if err != nil {
		return 0, err
	}
	defer c.Close()
	begin := time.Now()
	if _, err := io.WriteString(c, text[:at]); err != nil {
		return 0, err
	}
	cut := make(chan error, 1)
	go func() {
		c.SetReadDeadline(begin.Add(2 * cutWithin))
		_, err := io.Copy(io.Discard, c)
		cut <- err
	}()
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	for {
		select {
		case err := <-cut:
			took := time.Since(begin)
			if errors.Is(err, os.ErrDeadlineExceeded) {
				return took, errors.New("a slow sender was not disconnected")
			}
			return took, nil
		case <-ticker.C:
			if at < len(text) {
				io.WriteString(c, text[at:at+1]) // if this fails, the goroutine above notices it too
				at++
			}
		}
	}
}

var styles = regexp.MustCompile(`/static/[^"]+\.css`)

// large returns the path of a large file.
func large(t *testing.T, address string) string {
	t.Helper()
	v := newVisitor(address, "")
	defer v.leave()
	_, text, err := v.send("GET", "/signup.html", nil, "")
	path := styles.FindString(string(text))
	if err != nil || path == "" {
		t.Fatalf("the page has no style sheet: %v\n%s", err, text)
	}
	return path
}

// slowReader requests more than all buffers on the way can hold, and reads nothing.
func slowReader(address, host, path string) (net.Conn, error) {
	dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(nextAddress())}, Timeout: 10 * time.Second}
	c, err := dialer.Dial("tcp", address)
	if err != nil {
		return nil, err
	}
	if err := c.(*net.TCPConn).SetReadBuffer(4096); err != nil {
		return nil, err
	}
	request := "GET " + path + " HTTP/1.1\r\nHost: " + host + "\r\n\r\n"
	_, err = io.WriteString(c, strings.Repeat(request, 600))
	return c, err
}

// If there are more signups than a slow disk can handle, the others get 503 with Retry-After.
func testOverload(t *testing.T) {
	w := newWatchedServer(t, t.TempDir(), "", goMemory)
	const people = 3000
	type person struct {
		v    *visitor
		form url.Values
		answer
		err  error
		took time.Duration
	}
	list := make([]*person, people)
	var all sync.WaitGroup
	for part := range 8 {
		all.Go(func() {
			for i := part; i < people; i += 8 {
				p := &person{v: newVisitor(w.address, "")}
				p.v.http.Timeout = time.Minute
				p.form, p.err = p.v.form(fmt.Sprintf("many-%d", i))
				list[i] = p
			}
		})
	}
	all.Wait()
	for _, p := range list {
		if p.err != nil {
			t.Fatal(p.err)
		}
		defer p.v.leave()
	}
	stop := inject(t, w.serverProcess, syncs, "delay_enter=700000", w.wal())
	others := watchCaptchas(t, w.address)
	for _, p := range list {
		all.Go(func() {
			begin := time.Now()
			p.answer, p.err = p.v.post(p.form)
			p.took = time.Since(begin)
		})
	}
	all.Wait()
	close(others.end) // not checked: strace slows down all system calls
	others.all.Wait()
	stop()
	memory := w.status(t, "VmHWM")
	var answered, surplus int
	var slowest time.Duration
	for _, p := range list {
		switch {
		case p.err != nil:
			t.Fatal(p.err)
		case p.Status == 200:
			answered++
		case p.Status == 503 && p.Error == "overloaded" && p.RetryAfter != "":
			surplus++
			slowest = max(slowest, p.took)
		default:
			t.Fatalf("%s: %s", p.form.Get("user"), p.answer)
		}
	}
	if surplus == 0 || answered == 0 {
		t.Errorf("%d signups answered 200, %d with 503: there was no overload", answered, surplus)
	}
	if slowest > 15*time.Second { // 5 s in the queue; strace and 3,000 clients take the rest
		t.Errorf("a signup was refused only after %v", slowest)
	}
	if memory > memoryLimit {
		t.Errorf("%d MB of memory", memory>>10)
	}
	w.consistent()
	if n := len(shownAccounts(t, w.data)); n != answered+1 {
		t.Errorf("%d accounts, %d signups answered", n-1, answered)
	}
	for part := range 8 {
		all.Go(func() {
			for i := part; i < people; i += 8 {
				if p := list[i]; p.Status == 503 {
					p.answer, p.err = p.v.post(p.form)
				}
			}
		})
	}
	all.Wait()
	for _, p := range list {
		if p.err != nil || p.Status != 200 {
			t.Fatalf("%s, afterwards: %v, %v", p.form.Get("user"), p.answer, p.err)
		}
	}
	w.ready.wait(true, time.Now())
	w.consistent()
	verified(t, w.data, w.pickup)
	w.noPanic(t)
	w.mustStop(t)
	t.Logf("%d signups at once on a disk that takes 0.7 s for each sync: %d answered 200, %d refused "+
		"with 503 and Retry-After, the last after %v, 0 saved in part; "+
		"the refused sent the same forms again: all answered 200; captcha p99 %v under strace; at most %d "+
		"MB of memory with "+goMemory,
		people, answered, surplus, slowest.Round(10*time.Millisecond), percentile(others.times,
			0.99).Round(time.Millisecond), memory>>10)
}
