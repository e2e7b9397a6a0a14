package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/coder/websocket"
)

// firefox drives one tab of a real Firefox by WebDriver BiDi (https://www.w3.org/TR/webdriver-bidi/):
// commands, their results, and events are JSON messages on a WebSocket.
type firefox struct {
	ctx  context.Context
	conn *websocket.Conn
	tab  string // the tab's browsing context

	typed map[string]bool // the texts that were typed

	mu      sync.Mutex
	last    int // the id of the last command
	results map[int]chan bidiMessage
}

// bidiMessage is the result of a command, or an event.
type bidiMessage struct {
	ID     int             `json:"id"` // 0 for events
	Type   string          `json:"type"`
	Method string          `json:"method"`
	Params json.RawMessage `json:"params"`
	Result json.RawMessage `json:"result"`
	Error  string          `json:"error"`
	Text   string          `json:"message"`
}

// firefoxPreferences keep Firefox from contacting Mozilla's servers, from starting processes in advance and from
// drawing more frames than a test needs, and make animations end at once.
const firefoxPreferences = `
user_pref("app.normandy.enabled", false);
user_pref("app.update.disabledForTesting", true);
user_pref("browser.aboutwelcome.enabled", false);
user_pref("browser.safebrowsing.malware.enabled", false);
user_pref("browser.safebrowsing.phishing.enabled", false);
user_pref("browser.shell.checkDefaultBrowser", false);
user_pref("browser.sessionstore.interval", 600000);
user_pref("browser.startup.page", 0);
user_pref("datareporting.policy.dataSubmissionEnabled", false);
user_pref("dom.ipc.processCount", 1);
user_pref("dom.ipc.processPrelaunch.enabled", false);
user_pref("dom.security.https_first", false);
user_pref("extensions.update.enabled", false);
user_pref("intl.locale.requested", "en-US");
user_pref("layout.frame_rate", 10);
user_pref("media.gmp-manager.url", "");
user_pref("network.captive-portal-service.enabled", false);
user_pref("network.connectivity-service.enabled", false);
user_pref("network.prefetch-next", false);
user_pref("services.settings.server", "http://127.0.0.1:1/");
user_pref("signon.rememberSignons", false);
user_pref("toolkit.telemetry.enabled", false);
user_pref("ui.prefersReducedMotion", 1);
`

// newFirefox starts Firefox and returns a browser for the site at base.
func newFirefox(t *testing.T, base string) *browser {
	t.Helper()
	path, err := exec.LookPath("firefox-esr")
	if err != nil {
		path, err = exec.LookPath("firefox")
	}
	if err != nil {
		t.Fatal("this test needs Firefox: make test installs it")
	}
	profile := t.TempDir()
	if err := os.WriteFile(filepath.Join(profile, "user.js"), []byte(firefoxPreferences), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	t.Cleanup(cancel)
	cmd := exec.Command(path, "--headless", "--no-remote", "--profile", profile, "--window-size", "1280,900",
		"--remote-debugging-port", "0", "about:blank")
	cmd.Env = append(os.Environ(), "HOME="+profile, "MOZ_CRASHREPORTER_DISABLE=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // it has a process for each kind of work
	output, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	t.Cleanup(func() {
		syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		<-ended
		cmd.Wait()
	})
	address := make(chan string, 1)
	go func() { // reads to the end, so that Firefox never waits for a reader
		defer close(ended)
		lines := bufio.NewScanner(output)
		for lines.Scan() {
			if _, url, ok := strings.Cut(lines.Text(), "WebDriver BiDi listening on "); ok {
				address <- url
			}
		}
	}()
	f := &firefox{ctx: ctx, results: map[int]chan bidiMessage{}, typed: map[string]bool{}}
	select {
	case url := <-address:
		f.conn, _, err = websocket.Dial(ctx, url+"/session", nil)
	case <-ended:
		err = errors.New("it ended at once")
	case <-ctx.Done():
		err = ctx.Err()
	}
	if err != nil {
		t.Fatalf("start Firefox: %v", err)
	}
	t.Cleanup(func() { f.conn.CloseNow() })
	f.conn.SetReadLimit(-1)
	b := &browser{t: t, engine: f, ctx: ctx, base: base}
	go f.read(b)
	if err := f.startSession(); err != nil {
		t.Fatal(err)
	}
	return b
}

func (f *firefox) startSession() error {
	err := f.call("session.new", map[string]any{"capabilities": map[string]any{}}, nil)
	if err != nil {
		return err
	}
	var tree struct {
		Contexts []struct{ Context string }
	}
	if err := f.call("browsingContext.getTree", map[string]any{}, &tree); err != nil {
		return err
	}
	f.tab = tree.Contexts[0].Context
	return errors.Join(
		f.call("session.subscribe", map[string]any{"events": []string{
			"log.entryAdded", "network.authRequired", "browsingContext.userPromptOpened",
		}}, nil),
		f.call("network.addIntercept", map[string]any{"phases": []string{"authRequired"}}, nil))
}

// read hands results to the commands that wait for them, and events to b.
func (f *firefox) read(b *browser) {
	for {
		_, text, err := f.conn.Read(f.ctx)
		var m bidiMessage
		if err == nil {
			err = json.Unmarshal(text, &m)
		}
		if err != nil {
			f.mu.Lock()
			defer f.mu.Unlock()
			for _, result := range f.results {
				result <- bidiMessage{Type: "error", Error: "connection to Firefox", Text: err.Error()}
			}
			f.results = nil
			return
		}
		if m.ID == 0 {
			f.event(b, m)
			continue
		}
		f.mu.Lock()
		result := f.results[m.ID]
		delete(f.results, m.ID)
		f.mu.Unlock()
		if result != nil {
			result <- m
		}
	}
}

func (f *firefox) event(b *browser, m bidiMessage) {
	var e struct {
		Level, Text, Message string
		Request              struct{ Request string }
	}
	if err := json.Unmarshal(m.Params, &e); err != nil {
		b.fault("%s: %v", m.Method, err)
		return
	}
	switch m.Method {
	case "log.entryAdded":
		if e.Level == "error" || e.Level == "warn" {
			b.fault("%s: %s", e.Level, e.Text)
		}
	case "browsingContext.userPromptOpened":
		b.fault("dialog: %s", e.Message)
	case "network.authRequired":
		b.mu.Lock()
		b.asked++
		b.mu.Unlock()
		go f.call("network.continueWithAuth",
			map[string]any{"request": e.Request.Request, "action": "cancel"}, nil)
	}
}

// call runs a command and decodes its result.
func (f *firefox) call(method string, params map[string]any, result any) error {
	done := make(chan bidiMessage, 1)
	f.mu.Lock()
	if f.results == nil {
		f.mu.Unlock()
		return errors.New("the connection to Firefox is closed")
	}
	f.last++
	id := f.last
	f.results[id] = done
	f.mu.Unlock()
	text, err := json.Marshal(map[string]any{"id": id, "method": method, "params": params})
	if err != nil {
		return err
	}
	if err := f.conn.Write(f.ctx, websocket.MessageText, text); err != nil {
		return err
	}
	select {
	case m := <-done:
		if m.Type == "error" {
			return fmt.Errorf("%s: %s: %s", method, m.Error, m.Text)
		}
		if result == nil {
			return nil
		}
		return json.Unmarshal(m.Result, result)
	case <-f.ctx.Done():
		return f.ctx.Err()
	}
}

// bidiValue is the value of an expression.
type bidiValue struct {
	Type, SharedID string
	Value          json.RawMessage
}

func (f *firefox) script(expression string) (bidiValue, error) {
	var answer struct {
		Type             string
		Result           bidiValue
		ExceptionDetails struct{ Text string }
	}
	err := f.call("script.evaluate", map[string]any{
		"expression": expression, "target": map[string]any{"context": f.tab}, "awaitPromise": true,
	}, &answer)
	if err == nil && answer.Type != "success" {
		err = errors.New(answer.ExceptionDetails.Text)
	}
	return answer.Result, err
}

func (f *firefox) evaluate(expression string) (string, error) {
	v, err := f.script(expression)
	if err != nil {
		return "", err
	}
	var text string
	err = json.Unmarshal(v.Value, &text)
	return text, err
}

func (f *firefox) visit(url string) error {
	return f.call("browsingContext.navigate",
		map[string]any{"context": f.tab, "url": url, "wait": "complete"}, nil)
}

// click waits until the element is visible, and clicks it with the mouse.
func (f *firefox) click(selector string) error {
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for {
		v, err := f.script(`(() => {
			const e = document.querySelector(` + quoted(selector) + `);
			if (!e?.checkVisibility()) return null;
			e.scrollIntoView({block: "center", behavior: "instant"});
			return e;
		})()`)
		if err == nil && v.SharedID != "" {
			return f.perform("pointer", []map[string]any{
				{"type": "pointerMove", "x": 0, "y": 0, "origin": map[string]any{
					"type": "element", "element": map[string]any{"sharedId": v.SharedID},
				}},
				{"type": "pointerDown", "button": 0}, {"type": "pointerUp", "button": 0},
			})
		}
		select {
		case <-f.ctx.Done():
			return errors.Join(f.ctx.Err(), err)
		case <-ticker.C:
		}
	}
}

// typeText presses a key for each character. A text that has been typed before is inserted as a whole,
// since each key takes Firefox milliseconds.
func (f *firefox) typeText(text string) error {
	if f.typed[text] {
		_, err := f.script("document.execCommand(`insertText`, false, " + quoted(text) + ")")
		return err
	}
	f.typed[text] = true
	var keys []map[string]any
	for _, r := range text {
		keys = append(keys, map[string]any{"type": "keyDown", "value": string(r)},
			map[string]any{"type": "keyUp", "value": string(r)})
	}
	return f.perform("key", keys)
}

func (f *firefox) perform(kind string, actions []map[string]any) error {
	return f.call("input.performActions", map[string]any{
		"context": f.tab,
		"actions": []map[string]any{{"type": kind, "id": kind, "actions": actions}},
	}, nil)
}

func (f *firefox) resize(width, height int) error {
	return f.call("browsingContext.setViewport", map[string]any{
		"context": f.tab, "viewport": map[string]any{"width": width, "height": height},
	}, nil)
}

// setScheme does nothing: Firefox has the colour scheme that it was started with.
func (f *firefox) setScheme(string) error { return nil }

func (f *firefox) screenshot() ([]byte, error) {
	var picture struct{ Data []byte }
	err := f.call("browsingContext.captureScreenshot",
		map[string]any{"context": f.tab, "origin": "document"}, &picture)
	return picture.Data, err
}
