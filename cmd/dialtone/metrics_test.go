package main

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"dialtone/internal/audit"
	"dialtone/internal/test/postgrestest"
	"dialtone/internal/test/process"
)

// scrape returns the metrics of a server by name.
func (p *serverProcess) scrape(t testing.TB) map[string]*dto.MetricFamily {
	t.Helper()
	resp, err := http.Get(p.operators + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("%d, %v: %s", resp.StatusCode, err, text)
	}
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	return families
}

// sample returns the value of the counter or gauge whose labels have the values.
func sample(f *dto.MetricFamily, labels map[string]string) (float64, bool) {
	for _, m := range f.GetMetric() {
		got, matches := labelsOf(m), true
		for name, value := range labels {
			matches = matches && got[name] == value
		}
		if matches {
			n := float64(m.GetHistogram().GetSampleCount())
			return n + m.GetCounter().GetValue() + m.GetGauge().GetValue(), true
		}
	}
	return 0, false
}

func labelsOf(m *dto.Metric) map[string]string {
	labels := make(map[string]string)
	for _, l := range m.GetLabel() {
		labels[l.GetName()] = l.GetValue()
	}
	return labels
}

var metricName = regexp.MustCompile("`(dialtone_[a-z_]+)(?:\\{([a-z,]*)\\})?`")

// documentedMetrics returns the metrics in the table of the manual, with the names of their labels.
func documentedMetrics(t *testing.T) map[string]string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, "docs", "operating.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(text), "\n## Metrics\n")
	section, _, _ = strings.Cut(section, "\n### ")
	documented := make(map[string]string)
	for line := range strings.Lines(section) {
		first, _, _ := strings.Cut(strings.TrimPrefix(line, "| "), " | ")
		for _, m := range metricName.FindAllStringSubmatch(first, -1) {
			documented[m[1]] = m[2]
		}
	}
	return documented
}

// exercise causes each kind of event whose metric appears only after the first event.
func exercise(t testing.TB, p *serverProcess) {
	t.Helper()
	v := newVisitor(p.address, nextAddress())
	defer v.leave()
	if a, err := v.signup("ann"); err != nil || a.Status != http.StatusOK {
		t.Fatal(a, err)
	}
	if _, err := v.signIn("ann", "a wrong password"); err != nil {
		t.Fatal(err)
	}
	form := url.Values{"email": {email("ann")}}
	if _, _, err := v.prove("ann", password("ann"), "POST", "/resend.ashx", form); err != nil {
		t.Fatal(err)
	}
	resp, err := http.Get(p.operators + "/v1/sip/credential?username=ann&realm=localhost")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
}

// Every metric in the manual is published, with its labels, a help text and a type, and no other
// metric is published.
func TestDocumentedMetrics(t *testing.T) {
	t.Parallel()
	data := filepath.Join(t.TempDir(), "data")
	lite := start(t, launch{
		data:  data,
		flags: []string{"--dev", "--mail-relay=smtp://" + process.Address(t), "--trace-endpoint=http://127.0.0.1:1"},
	})
	exercise(t, lite)
	addHook(t, data)
	found := lite.scrape(t)
	shared := start(t, launch{
		data:  filepath.Join(t.TempDir(), "data"),
		flags: []string{"--dev"}, env: []string{"DIALTONE_DATABASE=" + postgrestest.Shared(t).Database(t)},
	})
	for name, f := range shared.scrape(t) {
		if found[name] == nil {
			found[name] = f
		}
	}
	documented := documentedMetrics(t)
	if len(documented) < 35 {
		t.Errorf("only %d metrics are documented", len(documented))
	}
	for name, f := range found {
		if !strings.HasPrefix(name, "dialtone_") {
			continue
		}
		labels, ok := documented[name]
		if !ok {
			t.Errorf("%s is not in the manual", name)
		}
		if f.GetHelp() == "" || f.GetType() == dto.MetricType_UNTYPED {
			t.Errorf("%s has no help text or no type", name)
		}
		for _, m := range f.GetMetric() {
			got := slices.Sorted(maps.Keys(labelsOf(m)))
			want := slices.Sorted(strings.SplitSeq(labels, ","))
			if labels == "" {
				want = nil
			}
			if !slices.Equal(got, want) {
				t.Errorf("%s has the labels %q, and the manual says %q", name, got, want)
				break
			}
		}
	}
	for name := range documented {
		if found[name] == nil && !strings.HasPrefix(name, "dialtone_tls_") { // TestTLS has those
			t.Errorf("%s is in the manual and is not published", name)
		}
	}
	done := map[string]string{"tenant": "localhost", "outcome": "ok"}
	if n, ok := sample(found["dialtone_signups_total"], done); !ok || n != 1 {
		t.Errorf("%v sign-ups (there: %v), want 1", n, ok)
	}
}

// addHook adds a hook whose receiver cannot be reached to the store of a server.
func addHook(t testing.TB, data string) {
	t.Helper()
	cmd := exec.Command(binary(t), "directory", "hook", "add", "crm", "--webhook=http://127.0.0.1:1/", "--data", data)
	cmd.Env = []string{}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}

// Requests from strangers do not add series: labels have only their fixed values.
func TestLabelsAfterHostileRequests(t *testing.T) {
	t.Parallel()
	p := start(t, launch{data: filepath.Join(t.TempDir(), "data"), flags: []string{"--dev"}})
	exercise(t, p)
	const mark = "zq9"
	random := func() string { return fmt.Sprintf("%s%x", mark, rand.Uint64()) }
	requests := []func() string{
		func() string {
			return "GET /" + random() + "/" + random() + ".ashx HTTP/1.1\r\nHost: localhost\r\n\r\n"
		},
		func() string { return "GET /static/" + random() + " HTTP/1.1\r\nHost: localhost\r\n\r\n" },
		func() string { return "GET /signup.html HTTP/1.1\r\nHost: " + random() + ".test\r\n\r\n" },
		func() string { return strings.ToUpper(random()) + " /signin.ashx HTTP/1.1\r\nHost: localhost\r\n\r\n" },
		func() string {
			return "GET /signin.ashx HTTP/1.1\r\nHost: localhost\r\nAuthorization: Digest username=\"" + random() +
				"\", realm=\"localhost\", nonce=\"" + random() + "\", uri=\"/signin.ashx\", response=\"" +
				strings.Repeat("0", 32) + "\", qop=auth, nc=00000001, cnonce=\"" + random() + "\"\r\n\r\n"
		},
	}
	send(t, p.address, 9000, func(i int) string { return requests[i%len(requests)]() })
	send(t, strings.TrimPrefix(p.operators, "http://"), 1000, func(int) string {
		return "GET /v1/" + random() + "?username=" + random() + " HTTP/1.1\r\nHost: localhost\r\n" +
			"Authorization: Bearer " + random() + "\r\n\r\n"
	})
	var actions []string
	for _, a := range audit.Counted() {
		actions = append(actions, string(a))
	}
	allowed := map[string][]string{
		"tenant": {"", "localhost"}, "outcome": audit.Outcomes(), "cause": audit.Outcomes(), "action": actions,
		"method": {"read", "write", "other"}, "status": {"2xx", "3xx", "4xx", "5xx"},
		"site":     {"public", "lookup", "admin"},
		"listener": {"public", "ops", "redirect"}, "why": {"refused", "displaced"}, "cached": {"true", "false"},
		"format": {"credential", "freeswitch", "asterisk"}, "directory": {"data", "pickup"},
		"check": {"store", "export", "keys", "pickup", "hooks", "clock", "proxy", "audit trail",
			"relay", "data disk", "pickup disk"},
	}
	allowed["outcome"] = append(allowed["outcome"],
		"found", "not_found", "refused", "limited", "invalid", "unavailable", "error",
		"delivered", "deferred", "abandoned")
	series := 0
	for name, f := range p.scrape(t) {
		for _, m := range f.GetMetric() {
			for label, value := range labelsOf(m) {
				if strings.Contains(strings.ToLower(value), mark) {
					t.Fatalf("%s has the label %s=%q", name, label, value)
				}
				values, fixed := allowed[label]
				if strings.HasPrefix(name, "dialtone_") && fixed && !slices.Contains(values, value) {
					t.Errorf("%s has the label %s=%q", name, label, value)
				}
				if label == "route" && value != "other" && !strings.HasPrefix(value, "/") {
					t.Errorf("%s has the route %q", name, value)
				}
			}
		}
		series += len(f.GetMetric())
	}
	if series > 250 {
		t.Errorf("%d series", series)
	}
	requestsTo := p.scrape(t)["dialtone_http_request_duration_seconds"]
	for _, want := range []struct {
		labels map[string]string
		n      float64
	}{
		{map[string]string{"site": "public", "route": "other", "method": "read", "status": "4xx"}, 3600},
		{map[string]string{"site": "public", "route": "/static/*", "status": "4xx"}, 1800},
		{map[string]string{"site": "public", "route": "/signin.ashx", "method": "other", "status": "4xx"}, 1800},
		{map[string]string{"site": "lookup", "route": "other", "status": "4xx"}, 1000},
	} {
		if n, ok := sample(requestsTo, want.labels); !ok || n != want.n {
			t.Errorf("%v requests with %v (there: %v), want %v", n, want.labels, ok, want.n)
		}
	}
}

// send sends requests over one connection, without waiting for each answer.
func send(t testing.TB, address string, n int, request func(int) string) {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	answers := bufio.NewReaderSize(conn, 64<<10)
	const batch = 20
	for i := 0; i < n; i += batch {
		var text strings.Builder
		for k := range batch {
			text.WriteString(request(i + k))
		}
		if _, err := io.WriteString(conn, text.String()); err != nil {
			t.Fatal(err)
		}
		for range batch {
			resp, err := http.ReadResponse(answers, nil)
			if err != nil {
				t.Fatal(i, err)
			}
			io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
		}
	}
}
