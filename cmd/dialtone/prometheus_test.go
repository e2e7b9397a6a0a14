package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"dialtone/internal/test/process"
)

// promtool runs Debian's promtool, which must succeed.
func promtool(t *testing.T, stdin []byte, args ...string) {
	t.Helper()
	cmd := exec.Command(process.Find(t, "promtool"), args...)
	cmd.Stdin = bytes.NewReader(stdin)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("promtool %q: %v\n%s", args, err, out)
	}
}

// prometheusAPI is the API of a running Prometheus.
type prometheusAPI struct {
	t    *testing.T
	base string
}

// get returns the data of an answer of Prometheus' API.
func (p prometheusAPI) get(path string, data any) error {
	resp, err := http.Get(p.base + path)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	answer := struct {
		Status, Error string
		Data          any
	}{Data: data}
	if err := json.Unmarshal(text, &answer); err != nil || answer.Status != "success" {
		return fmt.Errorf("%s: %v: %s", path, err, text)
	}
	return nil
}

// series returns the number of series of an expression.
func (p prometheusAPI) series(expr string) (int, error) {
	var data struct{ Result []any }
	err := p.get("/api/v1/query?query="+url.QueryEscape(expr), &data)
	return len(data.Result), err
}

// dashboardQueries returns the queries of the dashboard by panel, with the variables replaced.
func dashboardQueries(t *testing.T) map[string][]string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, "deploy", "grafana", "dialtone.json"))
	if err != nil {
		t.Fatal(err)
	}
	var board struct {
		SchemaVersion int
		Templating    struct{ List []struct{ Name, Type string } }
		Panels        []struct {
			Title, Type string
			Targets     []struct{ Expr string }
		}
	}
	if err := json.Unmarshal(text, &board); err != nil {
		t.Fatal(err)
	}
	var variables []string
	for _, v := range board.Templating.List {
		variables = append(variables, v.Name)
	}
	if board.SchemaVersion < 38 || !slices.Equal(variables, []string{"datasource", "tenant", "instance"}) {
		t.Errorf("schema %d, variables %q", board.SchemaVersion, variables)
	}
	replace := strings.NewReplacer("$tenant", ".*", "$instance", ".*", "$__rate_interval", "1m")
	queries := make(map[string][]string)
	for _, panel := range board.Panels {
		for _, target := range panel.Targets {
			expr := replace.Replace(target.Expr)
			if strings.Contains(expr, "$") {
				t.Errorf("%s has an unknown variable: %s", panel.Title, expr)
			}
			queries[panel.Title] = append(queries[panel.Title], expr)
		}
		if panel.Type != "row" && len(panel.Targets) == 0 {
			t.Errorf("%s has no query", panel.Title)
		}
	}
	return queries
}

// comparison matches the condition of an alert, which yields nothing while all is well.
var comparison = regexp.MustCompile(` (==|<|>) ([0-9.]+)$`)

// Prometheus accepts the rules and their tests, the metrics and the dashboard, and every query
// finds something on a real server.
func TestPrometheus(t *testing.T) {
	t.Parallel()
	deploy, err := filepath.Abs(filepath.Join(root, "deploy", "prometheus"))
	if err != nil {
		t.Fatal(err)
	}
	rules := filepath.Join(deploy, "dialtone.rules.yml")
	promtool(t, nil, "check", "rules", rules)
	promtool(t, nil, "test", "rules", filepath.Join(deploy, "dialtone.test.yml"))
	promtool(t, nil, "check", "config", filepath.Join(deploy, "prometheus.yml"))

	dir := t.TempDir()
	data := filepath.Join(dir, "data")
	server := start(t, launch{
		data: data, flags: []string{"--dev", "--mail-relay=smtp://" + process.Address(t)},
	})
	addHook(t, data)
	config, err := os.ReadFile(filepath.Join(deploy, "prometheus.yml"))
	if err != nil {
		t.Fatal(err)
	}
	text := strings.NewReplacer(
		"dialtone.rules.yml", rules, "127.0.0.1:8081", strings.TrimPrefix(server.operators, "http://"),
		"scrape_interval: 15s", "scrape_interval: 300ms", "evaluation_interval: 15s", "evaluation_interval: 1s",
		"scrape_timeout: 5s", "scrape_timeout: 300ms",
	).Replace(string(config))
	file := filepath.Join(dir, "prometheus.yml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	address := process.Address(t)
	cmd := exec.Command(process.Find(t, "prometheus"), "--config.file="+file, "--log.level=warn",
		"--storage.tsdb.path="+filepath.Join(dir, "tsdb"), "--web.listen-address="+address)
	p := prometheusAPI{t, "http://" + address}
	up := func() error {
		if n, err := p.series(`up{job="dialtone"} == 1`); err != nil || n != 1 {
			return fmt.Errorf("%d servers are scraped: %v", n, err)
		}
		return nil
	}
	process.Run(t, cmd, new(process.Log), up)
	exercise(t, server)

	resp, err := http.Get(server.operators + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	scraped, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	promtool(t, scraped, "check", "metrics")

	queries := dashboardQueries(t)
	var loaded struct {
		Groups []struct {
			Rules []struct {
				Name, Query, Health, LastError string
				Annotations                    map[string]string
			}
		}
	}
	if err := p.get("/api/v1/rules", &loaded); err != nil {
		t.Fatal(err)
	}
	manual, err := os.ReadFile(filepath.Join(root, "docs", "operating.md"))
	if err != nil {
		t.Fatal(err)
	}
	alerts := 0
	for _, g := range loaded.Groups {
		for _, r := range g.Rules {
			alerts++
			if !comparison.MatchString(r.Query) {
				t.Errorf("%s compares with no number at its end: %s", r.Name, r.Query)
			}
			queries[r.Name] = append(queries[r.Name], comparison.ReplaceAllString(r.Query, " $1 bool $2"))
			if !bytes.Contains(manual, []byte("| `"+r.Name+"` |")) || r.Annotations["action"] == "" {
				t.Errorf("%s is not in the manual, or has no action", r.Name)
			}
			checkRunbook(t, r.Name, r.Annotations["runbook"])
		}
	}
	if alerts < 13 || len(queries) < 35 {
		t.Errorf("%d alerts, %d queries", alerts, len(queries))
	}
	for name, list := range queries {
		if name == "Connections to PostgreSQL" || name == "DialtoneCertificateExpires" {
			continue // the server of this test has neither; TestTLS has certificates
		}
		for _, expr := range list {
			eventually(t, func() error {
				if n, err := p.series(expr); err != nil || n == 0 {
					return fmt.Errorf("%s: %d series, %v: %s", name, n, err, expr)
				}
				return nil
			})
		}
	}
	eventually(t, func() error {
		if err := p.get("/api/v1/rules", &loaded); err != nil {
			return err
		}
		for _, g := range loaded.Groups {
			for _, r := range g.Rules {
				if r.Health != "ok" {
					return fmt.Errorf("%s is %s: %s", r.Name, r.Health, r.LastError)
				}
			}
		}
		return nil
	})
}

// eventually waits until try returns nil.
func eventually(t *testing.T, try func() error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), startWithin)
	defer cancel()
	if err := process.Poll(ctx, try); err != nil {
		t.Error(err)
	}
}

// checkRunbook checks that the section to which an alert refers exists.
func checkRunbook(t *testing.T, alert, target string) {
	t.Helper()
	file, anchor, hasAnchor := strings.Cut(target, "#")
	text, err := os.ReadFile(filepath.Join(root, file))
	if file == "" || err != nil {
		t.Errorf("%s: %q: %v", alert, target, err)
		return
	}
	heading := regexp.MustCompile(`(?mi)^#+ ` + strings.ReplaceAll(regexp.QuoteMeta(anchor), "-", " ") + `$`)
	if hasAnchor && !heading.Match(text) {
		t.Errorf("%s: there is no heading %s", alert, target)
	}
}
