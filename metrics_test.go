// SPDX-License-Identifier: Apache-2.0

package authentiq

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/authentiq/caddy-authentiq/internal/provider"
	"github.com/authentiq/caddy-authentiq/internal/store"
)

// gathered are the metrics of a gate's app, by `name{values of labels}` without the
// issuer: what was counted, how often it was measured, and the sum of that.
func gathered(t *testing.T, g *Gate) map[string]float64 {
	t.Helper()
	registry := prometheus.NewPedanticRegistry()
	if err := registry.Register(collector{g.app}); err != nil {
		t.Fatal(err)
	}
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	all := make(map[string]float64)
	for _, family := range families {
		for _, m := range family.Metric {
			var values []string
			for _, l := range m.Label {
				if l.GetName() != "issuer" {
					values = append(values, l.GetValue())
				}
			}
			key := strings.TrimPrefix(family.GetName(), metricPrefix) + "{" + strings.Join(values, ",") + "}"
			all[key] += m.GetCounter().GetValue() + m.GetGauge().GetValue() + float64(m.GetHistogram().GetSampleCount())
			all["sum "+key] += m.GetHistogram().GetSampleSum()
		}
	}
	return all
}

// What is logged is counted, in the same place, and nothing else is.
func TestWhatIsLoggedIsCountedInTheSamePlace(t *testing.T) {
	counted := map[string]string{
		"eventSignInStarted": "counts.signInStarted(", "eventSignIn": "counts.signedIn(", "eventRefused": "counts.signInRefused(", "eventDenied": "counts.denied(",
		"eventSignOut": "counts.signedOut(", "eventRemoteSignOut": "counts.signedOutRemotely(", "eventLogoutRefused": "counts.logoutRefused(",
		"eventHandSignOut": "metrics.signedOutByHand(", "eventSessionEnded": "counts.refreshEnded(", "eventNotRechecked": "counts.refreshEnded(",
		"eventStreamEnded": "counts.streamsEnded",
	}
	logs := make(map[string]*regexp.Regexp)
	for event := range counted {
		logs[event] = regexp.MustCompile(`\b(?:Info|log)\(` + event + `,`)
	}
	logs["eventNotRechecked"] = regexp.MustCompile(`Error\(eventNotRechecked,`)
	seen := make(map[string]int)
	names, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		if strings.HasSuffix(name, "_test.go") || name == "metrics.go" {
			continue
		}
		lines := strings.Split(document(t, name), "\n")
		for i, line := range lines {
			for event, call := range counted {
				if logs[event].MatchString(line) {
					if seen[event]++; !strings.Contains(lines[i-1], call) {
						t.Errorf("%s:%d: %s is logged and not counted", name, i+1, event)
					}
				}
				if strings.Contains(line, call) && call != "counts.refreshEnded(" && !strings.Contains(lines[i+1], event) {
					t.Errorf("%s:%d: %s is counted and not logged", name, i+1, event)
				}
			}
		}
	}
	for event := range counted {
		if seen[event] != 1 {
			t.Errorf("%s is logged in %d places", event, seen[event])
		}
	}
}

// All that can be a check of a sign-in, of a logout token or of a recheck is there as 0,
// and counts.
func TestEveryCheckIsCounted(t *testing.T) {
	g := loneGate(t)
	g.counts = g.app.state.metrics.counts(g.Issuer, true)
	_, table, _ := strings.Cut(checksTable(t), "\nEvery `check`:\n")
	all := checks(t)
	begun := gathered(t, g)
	for _, check := range all {
		if regexp.MustCompile("(?m)^\\| [^|]*`" + check + "`[^|]* \\| \\d{3}").MatchString(table) {
			if _, there := begun["sign_ins_total{"+check+",refused}"]; !there {
				if _, there := begun["remote_sign_outs_total{"+check+",refused,backchannel}"]; !there && !slices.Contains(questionChecks, check) {
					t.Errorf("%s is not there before it has happened", check)
				}
			}
		}
	}
	for _, check := range slices.Concat(signInChecks, questionChecks) {
		if !slices.Contains(all, check) && check != "id_token" {
			t.Errorf("%s is no check any more", check)
		}
		r := prepared("https://app.example.com/")
		if err := g.refuse(httptest.NewRecorder(), r, refusal{status: http.StatusBadRequest, check: check, cause: errors.New("a test"), page: pageBroken}); err != nil {
			t.Fatal(err)
		}
	}
	for _, check := range logoutChecks {
		if !slices.Contains(all, check) {
			t.Errorf("%s is no check any more", check)
		}
		if err := g.refuseLogout(httptest.NewRecorder(), prepared("https://app.example.com/authentiq/backchannel-logout"), check, errors.New("a test")); err != nil {
			t.Fatal(err)
		}
	}
	now := gathered(t, g)
	for _, check := range signInChecks {
		if key := "sign_ins_total{" + check + ",refused}"; now[key] != 1 {
			t.Errorf("%s is %v", key, now[key])
		}
	}
	for _, check := range questionChecks {
		key := "questions_refused_total{" + check + "}"
		if was, there := begun[key]; !there || was != 0 || now[key] != 1 {
			t.Errorf("%s is %v, and was %v (%v)", key, now[key], was, there)
		}
		if n := now["sign_ins_total{"+check+",refused}"]; n != 0 {
			t.Errorf("a question with %s counts as %v sign-ins", check, n)
		}
	}
	for _, check := range logoutChecks {
		if key := "remote_sign_outs_total{" + check + "," + logoutResult(check) + ",backchannel}"; now[key] != 1 {
			t.Errorf("%s is %v", key, now[key])
		}
	}
	// Of rechecks, what the code names.
	text := document(t, "refresh.go")
	for pattern, known := range map[string][]string{`g\.end\(ctx, key, s, "([^"]+)"`: endChecks, `g\.postpone\(ctx, s, "([^"]+)"`: failChecks} {
		var named []string
		for _, m := range regexp.MustCompile(pattern).FindAllStringSubmatch(text, -1) {
			named = append(named, m[1])
		}
		slices.Sort(named)
		if !slices.Equal(slices.Compact(named), sorted(known)) {
			t.Errorf("rechecks name %q, and %q are there before they happen", named, known)
		}
	}
}

// checksTable is the document that has the table of checks.
func checksTable(t *testing.T) string {
	t.Helper()
	names, err := filepath.Glob("docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range append(names, "README.md") {
		if text := document(t, name); strings.Contains(text, "\nEvery `check`:\n") {
			return text
		}
	}
	t.Fatal("no document has it")
	return ""
}

// Why a session counts for nothing, each way once.
func TestASessionThatCountsForNothingIsCountedByWhy(t *testing.T) {
	const page = "https://app.example.com/page"
	for why, spoil := range map[lost]func(g *Gate, line string) string{
		lostUnopened: func(_ *Gate, line string) string { return line[:len(line)-4] + "AAAA" },
		lostLifetime: func(g *Gate, line string) string {
			g.app.now.Set(func() time.Time { return time.Now().Add(13 * time.Hour) })
			return line
		},
		lostIdle: func(g *Gate, line string) string {
			g.app.now.Set(func() time.Time { return time.Now().Add(2 * time.Hour) })
			return line
		},
		lostRules: func(g *Gate, line string) string {
			g.rules = append(g.rules, rule{claim: "email", values: []string{"eve@example.com"}})
			return line
		},
		lostUnknown: func(g *Gate, line string) string {
			g.denyUnknown = true
			j, err := g.app.state.revocations.Journal("another")
			if err != nil {
				t.Fatal(err)
			}
			g.signOuts = j // which nobody reads
			return line
		},
	} {
		t.Run(lostNames[why], func(t *testing.T) {
			g := loneGate(t)
			line := spoil(g, cookieLine(sealedFor(t, g, page, profileClaims(t))...))
			r := prepared(page)
			r.Header.Set("Cookie", line)
			r.Header.Set("Sec-Fetch-Mode", "cors")
			if err := g.ServeHTTP(httptest.NewRecorder(), r, caddyhttp.HandlerFunc(func(http.ResponseWriter, *http.Request) error { t.Error("passed"); return nil })); err != nil {
				t.Fatal(err)
			}
			now := gathered(t, g)
			for name := notLost + 1; name < losts; name++ {
				want := 0.0
				if name == why {
					want = 1
				}
				if key := "sessions_refused_total{" + lostNames[name] + "}"; now[key] != want {
					t.Errorf("%s is %v, want %v", key, now[key], want)
				}
			}
		})
	}
	t.Run("none", func(t *testing.T) {
		g := loneGate(t)
		r := prepared(page)
		if err := g.ServeHTTP(httptest.NewRecorder(), r, caddyhttp.HandlerFunc(func(http.ResponseWriter, *http.Request) error { return nil })); err != nil {
			t.Fatal(err)
		}
		for name := notLost + 1; name < losts; name++ {
			if key := "sessions_refused_total{" + lostNames[name] + "}"; gathered(t, g)[key] != 0 {
				t.Errorf("somebody without a session counts as %s", lostNames[name])
			}
		}
	})
}

// The time of an application is its own, however long it answers and however it ends.
func TestTheHandlersOwnTimeIsWithoutWhatComesAfterIt(t *testing.T) {
	const page, long = "https://app.example.com/page", 200 * time.Millisecond
	g := loneGate(t)
	line := cookieLine(sealedFor(t, g, page, profileClaims(t))...)
	stream := func(w http.ResponseWriter, _ *http.Request) error {
		_, _ = w.Write([]byte("begun"))
		<-time.After(long)
		return nil
	}
	ask := func(next caddyhttp.HandlerFunc, header ...string) {
		r := prepared(page)
		r.Header.Set("Cookie", line)
		for i := 0; i+1 < len(header); i += 2 {
			r.Header.Set(header[i], header[i+1])
		}
		defer func() { _ = recover() }()
		_ = g.ServeHTTP(httptest.NewRecorder(), r, next)
	}
	ask(stream)
	ask(func(w http.ResponseWriter, r *http.Request) error { _ = stream(w, r); panic(http.ErrAbortHandler) })
	ask(func(w http.ResponseWriter, r *http.Request) error { _ = stream(w, r); return errors.New("a test") })
	g.matchers = caddyhttp.MatcherSets{{caddyhttp.MatchMethod{"PURGE"}}}
	ask(stream)
	g.matchers, g.Unauthenticated = nil, "pass"
	ask(stream, "Cookie", "")
	now := gathered(t, g)
	for key, times := range map[string]float64{"passed": 3, "public": 1, "anonymous": 1} {
		key = "handler_duration_seconds{" + key + "}"
		if now[key] != times {
			t.Errorf("%s: %v requests, want %v", key, now[key], times)
		}
		if sum := now["sum "+key]; sum <= 0 || sum >= times*long.Seconds() {
			t.Errorf("%s is %v s", key, sum)
		}
	}
	// What the gate writes into the answer is its own.
	g.Unauthenticated = "sign_in"
	g.app.now.Set(func() time.Time { return time.Now().Add(30 * time.Minute) })
	renewed := prepared(page)
	renewed.Header.Set("Cookie", line)
	w := httptest.NewRecorder()
	own := g.ownTime(caddyhttp.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) error { w.WriteHeader(http.StatusOK); return nil }))
	v := g.enter(renewed)
	s, err := g.current(renewed, v)
	if s == nil || err != nil {
		t.Fatal(s, err)
	}
	own.spent = 0
	if err := g.pass(w, renewed, &own, v, s); err != nil || w.Header().Get("Set-Cookie") == "" {
		t.Fatalf("no cookie: %v", err)
	}
	before := own.spent
	own.end()
	if before <= 0 {
		t.Error("writing the cookie took no time")
	}
}

// Two ways to one provider are one provider, and as good as the worse of them.
func TestOneIssuerByTwoWaysIsReportedOnce(t *testing.T) {
	g := loneGate(t)
	away := provider.New(provider.Config{Issuer: g.Issuer, Now: time.Now})
	g.app.providers = map[string]*provider.Provider{"one": g.provider}
	if now := gathered(t, g); now["provider_up{}"] != 1 || now["provider_known{}"] != 1 || now["provider_read_timestamp_seconds{}"] == 0 {
		t.Errorf("by one way: %v", now)
	}
	g.app.providers["other"] = away
	for range 20 { // in whichever order they are looked at
		if now := gathered(t, g); now["provider_up{}"] != 0 || now["provider_known{}"] != 0 || now["provider_read_timestamp_seconds{}"] != 0 {
			t.Fatalf("by two: %v", now)
		}
	}
}

// Gates of one store share what watches it: stores are compared.
func TestAStoreIsWatchedOnce(t *testing.T) {
	g := loneGate(t)
	disk := &store.Storage{Now: time.Now}
	one, other := g.app.watched(disk, "storage"), g.app.watched(disk, "storage")
	if one != other || g.app.watched(&store.Storage{Now: time.Now}, "another") == one {
		t.Error("a store is watched twice, or two are one")
	}
	if _, err := one.Load(context.Background(), store.Key{Kind: "refresh", Name: "x"}); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("got %v", err)
	}
	if now := gathered(t, g); now["store_errors_total{load,storage}"] != 0 || now["store_operation_duration_seconds{load,storage}"] != 1 {
		t.Error("that there is no such entry counts as an error, or not as an operation")
	}
}

func TestThePageNamesEverySpanAndWhatItSays(t *testing.T) {
	text := document(t, "docs/monitoring.md")
	names := []string{spanOpen, spanRefresh, spanSignOut, spanSigner + "jwks", spanSigner + "claims"}
	for _, endpoint := range provider.Endpoints {
		names = append(names, spanProvider+endpoint)
	}
	for _, operation := range store.Operations {
		if !slices.Contains([]string{"sweep", "append", "follow"}, operation) { // not under a request
			names = append(names, spanStore+operation)
		}
	}
	names = append(names, string(attributeResult), string(attributeCheck), string(attributeReason), string(attributeCode))
	for _, name := range names {
		if !strings.Contains(text, "`"+name+"`") {
			t.Errorf("%s is not there", name)
		}
	}
}

func TestThePageSaysWhatEveryEventIsCountedIn(t *testing.T) {
	_, table, _ := strings.Cut(document(t, "docs/monitoring.md"), "| event of the log | counted in |")
	for _, event := range regexp.MustCompile(`(?m)^\s+event\w+\s+= "([^"]+)"`).FindAllStringSubmatch(sources(t, "."), -1) {
		if !regexp.MustCompile("(?m)^\\| [^|]*`" + event[1] + "`").MatchString(table) {
			t.Errorf("no row has %q", event[1])
		}
	}
}

// The row of an event has every field that goes with it.
func TestTheTableOfEventsNamesEveryField(t *testing.T) {
	var all strings.Builder
	names, err := filepath.Glob("docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range append(names, "README.md") {
		all.WriteString(document(t, name))
	}
	values := make(map[string]string)
	for _, m := range regexp.MustCompile(`(?m)^\s+(event\w+)\s+= "([^"]+)"`).FindAllStringSubmatch(sources(t, "."), -1) {
		values[m[1]] = m[2]
	}
	found := 0
	for name, event := range values {
		rows := strings.Join(regexp.MustCompile("(?m)^\\| `"+event+"` \\| (?:info|warn|error|debug).*$").FindAllString(all.String(), -1), "\n")
		for _, call := range regexp.MustCompile(`\((?:`+name+`), (.*)\)\n`).FindAllStringSubmatch(sources(t, "."), -1) {
			for _, field := range regexp.MustCompile(`zap\.\w+\("(\w+)"|zap\.(Error)\(|\b(clientIP)\(|\b(host)\(`).FindAllStringSubmatch(call[1], -1) {
				word := field[1]
				switch {
				case field[2] != "":
					word = "error"
				case field[3] != "":
					word = "client_ip"
				case field[4] != "":
					word = "host"
				}
				if found++; !strings.Contains(rows, "`"+word+"`") {
					t.Errorf("%q has the field %s, which its row does not name", event, word)
				}
			}
		}
	}
	if found < 60 {
		t.Fatal(fmt.Sprint("fields found: ", found))
	}
}
