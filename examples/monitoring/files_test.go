// SPDX-License-Identifier: Apache-2.0

package monitoring

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
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

	"github.com/authentiq/caddy-authentiq/authentiqtest"
	"github.com/authentiq/caddy-authentiq/internal/testnet"
	"github.com/authentiq/caddy-authentiq/internal/testrig"
)

const (
	page      = "../../docs/monitoring.md"
	dashboard = "grafana-dashboard.json"
	alerts    = "alerts.yaml"
)

// busy is a Caddy to which all has happened that makes a metric, so that all are there.
func busy(t *testing.T) *rig {
	t.Helper()
	r := newRig(t, "metrics", refreshing())
	b := r.signedIn()
	testrig.Await(t, "a recheck", func() bool {
		b.Get(r.url("/"))
		return r.series()[`refreshes_total{check="",result="renewed"}`] > 0
	})
	b.Post(r.url("/authentiq/sign-out"))
	r.post("/authentiq/backchannel-logout", r.logoutToken(authentiqtest.Bob))
	return r
}

// inPage are the rows of the page's table of metrics, split at their bars.
func inPage(t *testing.T) map[string][]string {
	t.Helper()
	rows := make(map[string][]string)
	for _, m := range regexp.MustCompile("(?m)^\\| `(caddy_authentiq_\\w+)` \\|(.*)\\|$").FindAllStringSubmatch(document(t, page), -1) {
		if rows[m[1]] != nil {
			t.Errorf("%s has two rows", m[1])
		}
		for cell := range strings.SplitSeq(m[2], " | ") {
			rows[m[1]] = append(rows[m[1]], strings.TrimSpace(cell))
		}
	}
	return rows
}

// labelsOf are those of all series of a metric.
func labelsOf(family *dto.MetricFamily) []string {
	names := make(map[string]bool)
	for _, m := range family.Metric {
		for _, l := range m.Label {
			names[l.GetName()] = true
		}
	}
	return slices.Sorted(maps.Keys(names))
}

func TestThePageNamesEveryMetricAsItIs(t *testing.T) {
	r := busy(t)
	exported, rows := families(t, r.exposition(r.adminMetrics())), inPage(t)
	if len(exported) < 20 {
		t.Fatalf("exported are %q", slices.Sorted(maps.Keys(exported)))
	}
	for name, family := range exported {
		row := rows[name]
		if len(row) < 3 {
			t.Errorf("%s has no row", name)
			continue
		}
		if kind := strings.ToLower(family.GetType().String()); row[0] != kind {
			t.Errorf("%s is a %s, and documented as %s", name, kind, row[0])
		}
		var labels []string
		for _, m := range regexp.MustCompile("`(\\w+)`").FindAllStringSubmatch(row[1], -1) {
			labels = append(labels, m[1])
		}
		slices.Sort(labels)
		if !slices.Equal(labels, labelsOf(family)) {
			t.Errorf("%s has the labels %q, and documented are %q", name, labelsOf(family), labels)
		}
	}
	for name := range rows {
		if exported[name] == nil {
			t.Errorf("%s is documented and not exported", name)
		}
	}
	// Values of labels whose words are this page's.
	text := document(t, page)
	for name, label := range map[string]string{
		"sessions_refused_total": "reason", "handler_duration_seconds": "answer", "sign_ins_total": "result", "refreshes_total": "result",
		"remote_sign_outs_total": "way", "provider_requests_total": "endpoint", "store_errors_total": "operation",
	} {
		for _, m := range exported["caddy_authentiq_"+name].Metric {
			for _, l := range m.Label {
				if l.GetName() == label && !strings.Contains(text, "`"+l.GetValue()+"`") {
					t.Errorf("%s: %s %q is not documented", name, label, l.GetValue())
				}
			}
		}
	}
	// No label has anything of whoever was here.
	for name, family := range exported {
		for _, m := range family.Metric {
			for _, l := range m.Label {
				known := l.GetValue() == r.provider.Issuer || l.GetValue() == "storage" || strings.Trim(l.GetValue(), "abcdefghijklmnopqrstuvwxyz_ -'I") == ""
				if !known {
					t.Errorf("%s: %s is %q", name, l.GetName(), l.GetValue())
				}
			}
		}
	}
}

func TestThePagesConfigurationOfPrometheusIsOne(t *testing.T) {
	promtool := testrig.Tool(t, "prometheus", "promtool")
	found := regexp.MustCompile("(?s)```yaml\n(.*?)```").FindStringSubmatch(document(t, page))
	if found == nil {
		t.Fatal("none is there")
	}
	folder := t.TempDir()
	for name, text := range map[string]string{"prometheus.yml": found[1], alerts: document(t, alerts)} {
		if err := os.WriteFile(filepath.Join(folder, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if out, err := exec.Command(promtool, "check", "config", filepath.Join(folder, "prometheus.yml")).CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, out)
	}
}

func TestMetricsAreNamedAsPrometheusWants(t *testing.T) {
	promtool := testrig.Tool(t, "prometheus", "promtool")
	r := busy(t)
	cmd := exec.Command(promtool, "check", "metrics")
	cmd.Stdin = bytes.NewReader(r.exposition(r.adminMetrics()))
	out, _ := cmd.CombinedOutput() // it may have something to say of Caddy's own
	for line := range strings.Lines(string(out)) {
		if strings.Contains(line, "authentiq") || strings.Contains(line, "error") {
			t.Error(line)
		}
	}
}

func TestTheAlertsRingWhenTheyHaveTo(t *testing.T) {
	promtool := testrig.Tool(t, "prometheus", "promtool")
	for _, args := range [][]string{{"check", "rules", "--lint-fatal", alerts}, {"test", "rules", "alerts_test.yaml"}} {
		if out, err := exec.Command(promtool, args...).CombinedOutput(); err != nil {
			t.Errorf("promtool %q: %v\n%s", args, err, out)
		}
	}
	names := regexp.MustCompile(`(?m)^ +- alert: (\w+)$`).FindAllStringSubmatch(document(t, alerts), -1)
	if len(names) < 15 {
		t.Fatalf("alerts: %q", names)
	}
	for _, name := range names {
		if !strings.Contains(document(t, "alerts_test.yaml"), `alertname="`+name[1]+`"`) {
			t.Errorf("%s is not seen to ring", name[1])
		}
	}
	for _, part := range strings.Split(document(t, alerts), "- alert: ")[1:] {
		name, rest, _ := strings.Cut(part, "\n")
		for _, field := range []string{"severity: ", "summary: ", "description: >-\n"} {
			if !strings.Contains(rest, field) {
				t.Errorf("%s has no %q", name, field)
			}
		}
	}
}

// board is what is looked at of a dashboard.
type board struct {
	Title, UID    string
	SchemaVersion int
	Panels        []struct {
		ID                       int
		Type, Title, Description string
		Datasource               struct{ Type, UID string }
		GridPos                  struct{ H, W, X, Y int }
		FieldConfig              struct{ Defaults struct{ Unit string } }
		Targets                  []struct {
			RefID, Expr, LegendFormat string
			Datasource                struct{ UID string }
		}
	}
	Templating struct {
		List []struct {
			Name, Type string
			Query      any
		}
	}
}

func readBoard(t *testing.T) (b board) {
	t.Helper()
	if err := json.Unmarshal([]byte(document(t, dashboard)), &b); err != nil {
		t.Fatal(err)
	}
	return b
}

func TestTheDashboardIsOne(t *testing.T) {
	b := readBoard(t)
	if b.Title == "" || b.UID == "" || b.SchemaVersion < 36 {
		t.Errorf("%q %q %d", b.Title, b.UID, b.SchemaVersion)
	}
	variables := make(map[string]string)
	for _, v := range b.Templating.List {
		variables[v.Name] = v.Type
	}
	if variables["datasource"] != "datasource" || variables["instance"] != "query" {
		t.Errorf("the variables: %v", variables)
	}
	ids, taken := make(map[int]bool), make(map[[2]int]string)
	for _, p := range b.Panels {
		if ids[p.ID] || p.ID == 0 || p.Title == "" {
			t.Errorf("panel %d %q", p.ID, p.Title)
		}
		ids[p.ID] = true
		for x := p.GridPos.X; x < p.GridPos.X+p.GridPos.W; x++ {
			for y := p.GridPos.Y; y < p.GridPos.Y+p.GridPos.H; y++ {
				if other := taken[[2]int{x, y}]; other != "" || x >= 24 {
					t.Fatalf("%s lies over %q, or beside the page", p.Title, other)
				}
				taken[[2]int{x, y}] = p.Title
			}
		}
		if p.Type == "row" {
			continue
		}
		if p.Datasource.UID != "${datasource}" || p.FieldConfig.Defaults.Unit == "" || p.Description == "" || len(p.Targets) == 0 {
			t.Errorf("%s: no data source, unit, description or question", p.Title)
		}
		for _, target := range p.Targets {
			if target.Datasource.UID != "${datasource}" || target.LegendFormat == "" {
				t.Errorf("%s %s: no data source or legend", p.Title, target.RefID)
			}
			for _, selector := range selectors.FindAllStringSubmatch(target.Expr, -1) {
				if !strings.Contains(selector[2], `instance=~"$instance"`) {
					t.Errorf("%s: %s is not of the instance", p.Title, selector[0])
				}
			}
		}
	}
	for name := range inPage(t) {
		if !strings.Contains(document(t, dashboard), name) {
			t.Errorf("%s is in no panel", name)
		}
	}
}

var (
	selectors = regexp.MustCompile(`(caddy_authentiq_\w+)(?:\{([^}]*)\})?`)
	matchers  = regexp.MustCompile(`(\w+)\s*(?:=~|!~|!=|=)\s*"([^"]*)"`)
	grouped   = regexp.MustCompile(`by \(([^)]*)\)`)
)

// What a question names has to be there: Prometheus answers one about nothing with
// nothing, and an alert on it never rings.
func TestDashboardAndAlertsAskForWhatThereIs(t *testing.T) {
	r := busy(t)
	exported := families(t, r.exposition(r.adminMetrics()))
	check := func(where, expr string) {
		t.Helper()
		labels := []string{"instance", "le"}
		names := selectors.FindAllStringSubmatch(expr, -1)
		if len(names) == 0 {
			t.Errorf("%s asks for nothing of ours: %s", where, expr)
		}
		for _, m := range names {
			family := exported[m[1]]
			if family == nil {
				for _, suffix := range []string{"_bucket", "_count", "_sum"} {
					if base, cut := strings.CutSuffix(m[1], suffix); cut && exported[base].GetType() == dto.MetricType_HISTOGRAM {
						family = exported[base]
					}
				}
			}
			if family == nil {
				t.Errorf("%s: there is no %s", where, m[1])
				continue
			}
			labels = append(labels, labelsOf(family)...)
			for _, matcher := range matchers.FindAllStringSubmatch(m[2], -1) {
				if matcher[1] == "instance" {
					continue
				}
				if !slices.Contains(labelsOf(family), matcher[1]) {
					t.Errorf("%s: %s has no label %s", where, m[1], matcher[1])
				}
				for value := range strings.SplitSeq(matcher[2], "|") {
					if !slices.ContainsFunc(family.Metric, func(s *dto.Metric) bool {
						return slices.ContainsFunc(s.Label, func(l *dto.LabelPair) bool { return l.GetName() == matcher[1] && l.GetValue() == value })
					}) {
						t.Errorf("%s: no %s has %s %q", where, m[1], matcher[1], value)
					}
				}
			}
		}
		for _, m := range grouped.FindAllStringSubmatch(expr, -1) {
			for label := range strings.SplitSeq(m[1], ",") {
				if !slices.Contains(labels, strings.TrimSpace(label)) {
					t.Errorf("%s is by %s, which nothing there has", where, label)
				}
			}
		}
	}
	for _, p := range readBoard(t).Panels {
		for _, target := range p.Targets {
			check(p.Title, target.Expr)
		}
	}
	for _, part := range strings.Split(document(t, alerts), "- alert: ")[1:] {
		name, rest, _ := strings.Cut(part, "\n")
		_, expr, _ := strings.Cut(rest, "expr:")
		expr, _, _ = strings.Cut(expr, "labels:\n")
		check(name, expr)
		for _, m := range regexp.MustCompile(`\$labels\.(\w+)`).FindAllStringSubmatch(rest, -1) {
			by := grouped.FindStringSubmatch(expr)
			if by != nil && !strings.Contains(by[1], m[1]) {
				t.Errorf("%s tells of %s, which it does not have", name, m[1])
			}
		}
	}
}

// A real Prometheus, which scrapes a Caddy, has the rules and is asked all that the
// dashboard asks.
func TestPrometheusAnswersAllQuestions(t *testing.T) {
	program := testrig.Tool(t, "prometheus", "prometheus")
	r := busy(t)
	folder, port := t.TempDir(), testnet.Port(t)
	rules, err := filepath.Abs(alerts)
	if err != nil {
		t.Fatal(err)
	}
	config := filepath.Join(folder, "prometheus.yml")
	if err := os.WriteFile(config, fmt.Appendf(nil, "global:\n  scrape_interval: 250ms\n  scrape_timeout: 200ms\n  evaluation_interval: 250ms\nrule_files: [%q]\nscrape_configs:\n  - job_name: caddy\n    static_configs:\n      - targets: [%q]\n", rules, r.admin), 0o600); err != nil {
		t.Fatal(err)
	}
	testrig.Start(t, testrig.Program{
		Path: program, Dir: folder, Listens: "127.0.0.1:" + port,
		Args: []string{"--config.file=" + config, "--storage.tsdb.path=" + filepath.Join(folder, "data"), "--web.listen-address=127.0.0.1:" + port, "--log.level=warn"},
	})
	ask := func(path string, into any) bool {
		resp, err := http.Get("http://127.0.0.1:" + port + path)
		if err != nil {
			return false
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		return err == nil && json.Unmarshal(body, into) == nil
	}
	type answer struct {
		Status, Error string
		Data          struct{ Result []any }
	}
	query := func(expr string) (a answer) {
		ask("/api/v1/query?query="+url.QueryEscape(expr), &a)
		return a
	}
	testrig.Await(t, "it has scraped several times", func() bool {
		a := query(`count_over_time(caddy_authentiq_revocations[1m]) > 4`)
		return a.Status == "success" && len(a.Data.Result) == 1
	})
	quiet := []string{"Rechecks", "Operations that failed"} // where there may be nothing
	for _, p := range readBoard(t).Panels {
		for _, target := range p.Targets {
			expr := strings.NewReplacer("$__rate_interval", "1m", "$instance", ".*").Replace(target.Expr)
			a := query(expr)
			if a.Status != "success" {
				t.Errorf("%s: %s: %s", p.Title, expr, a.Error)
			}
			if len(a.Data.Result) == 0 && !slices.Contains(quiet, p.Title) && !strings.Contains(expr, "_total") {
				t.Errorf("%s: nothing comes of %s", p.Title, expr)
			}
		}
	}
	var loaded struct {
		Data struct {
			Groups []struct {
				Rules []struct{ Name, Health, LastError, State string }
			}
		}
	}
	testrig.Await(t, "all rules were looked at", func() bool {
		if !ask("/api/v1/rules", &loaded) || len(loaded.Data.Groups) != 1 {
			return false
		}
		return !slices.ContainsFunc(loaded.Data.Groups[0].Rules, func(r struct{ Name, Health, LastError, State string }) bool { return r.Health == "unknown" })
	})
	for _, rule := range loaded.Data.Groups[0].Rules {
		if rule.Health != "ok" || rule.State != "inactive" {
			t.Errorf("%s is %s, %s: %s", rule.Name, rule.Health, rule.State, rule.LastError)
		}
	}
}
