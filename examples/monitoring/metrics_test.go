// SPDX-License-Identifier: Apache-2.0

package monitoring

import (
	"io"
	"maps"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/authentiq/caddy-authentiq/authentiqtest"
	"github.com/authentiq/caddy-authentiq/internal/testnet"
	"github.com/authentiq/caddy-authentiq/internal/testrig"
)

// refreshing are the two gates with rechecks.
func refreshing() string {
	return strings.ReplaceAll(twoGates, "SESSION", "refresh on\nrecheck 1s")
}

// answers is a hook with which an endpoint answers a status and a body.
func answers(at authentiqtest.Endpoint, status int, body string) authentiqtest.Hooks {
	return authentiqtest.Hooks{Handler: func(e authentiqtest.Endpoint, next http.Handler) http.Handler {
		if e != at {
			return next
		}
		return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(status)
			_, _ = io.WriteString(w, body)
		})
	}}
}

func claim(name string, value any) authentiqtest.Hooks {
	return authentiqtest.Hooks{IDTokenClaims: func(c map[string]any) { c[name] = value }}
}

const refused = `sign_ins_total{check="CHECK",result="refused"}`

func refusedBy(check string) string { return strings.ReplaceAll(refused, "CHECK", check) }

// Each thing that can happen to somebody, and what it counts as. Of what is counted by
// event nothing else may have changed.
func TestWhatHappensIsCountedOnce(t *testing.T) {
	r := newRig(t, "metrics", twoGates)
	r.signedIn() // the provider is known
	tests := map[string]struct {
		do   func(t *testing.T)
		want series
	}{
		"a sign-in": {
			func(t *testing.T) { r.signedIn() },
			series{`sign_ins_started_total{}`: 1, `sign_ins_total{check="",result="signed_in"}`: 1},
		},
		"a wrong nonce": {
			func(t *testing.T) {
				r.provider.SetHooks(claim("nonce", "another"))
				testrig.NewBrowser(t).Get(r.url("/"))
			},
			series{`sign_ins_started_total{}`: 1, refusedBy("nonce"): 1},
		},
		"a token for another client": {
			func(t *testing.T) {
				r.provider.SetHooks(claim("aud", "another"))
				testrig.NewBrowser(t).Get(r.url("/"))
			},
			series{`sign_ins_started_total{}`: 1, refusedBy("aud"): 1},
		},
		"a token of the past": {
			func(t *testing.T) {
				r.provider.SetHooks(claim("exp", time.Now().Add(-time.Hour).Unix()))
				testrig.NewBrowser(t).Get(r.url("/"))
			},
			series{`sign_ins_started_total{}`: 1, refusedBy("exp"): 1},
		},
		"a bad signature": {
			func(t *testing.T) {
				r.provider.SetHooks(authentiqtest.Hooks{IDToken: func(token string) string { return token[:len(token)-6] + "AAAAAA" }})
				testrig.NewBrowser(t).Get(r.url("/"))
			},
			series{`sign_ins_started_total{}`: 1, refusedBy("signature"): 1},
		},
		"a used state": {
			func(t *testing.T) {
				b := testrig.NewBrowser(t)
				address := b.ToCallback(r.url("/"))
				line := b.CookieHeader(r.url("/"))
				b.Step(address)
				testrig.NewBrowser(t).Step(address, "Cookie", line)
			},
			series{`sign_ins_started_total{}`: 1, `sign_ins_total{check="",result="signed_in"}`: 1, refusedBy("state"): 1},
		},
		"a response that nobody asked for": {
			func(t *testing.T) { testrig.NewBrowser(t).Step(r.url("/authentiq/callback?code=x&state=0y")) },
			series{refusedBy("state"): 1},
		},
		"a response with two codes": {
			func(t *testing.T) { testrig.NewBrowser(t).Step(r.url("/authentiq/callback?code=x&code=y&state=0y")) },
			series{refusedBy("query"): 1},
		},
		"a response of another issuer": {
			func(t *testing.T) {
				r.provider.SetHooks(authentiqtest.Hooks{AuthorizationResponse: func(q url.Values) { q.Set("iss", "https://evil.example/") }})
				testrig.NewBrowser(t).Get(r.url("/"))
			},
			series{`sign_ins_started_total{}`: 1, refusedBy("iss"): 1},
		},
		"somebody who cancels": {
			func(t *testing.T) {
				r.provider.SetHooks(authentiqtest.Hooks{AuthorizationResponse: func(q url.Values) { q.Del("code"); q.Set("error", "access_denied") }})
				testrig.NewBrowser(t).Get(r.url("/"))
			},
			series{`sign_ins_started_total{}`: 1, refusedBy("authorization response"): 1},
		},
		"a provider that does not know the client": {
			func(t *testing.T) {
				r.provider.SetHooks(answers(authentiqtest.Token, 401, `{"error":"invalid_client"}`))
				testrig.NewBrowser(t).Get(r.url("/"))
			},
			series{`sign_ins_started_total{}`: 1, refusedBy("token request"): 1},
		},
		"somebody whom the rules keep out": {
			func(t *testing.T) {
				r.provider.SetHooks(authentiqtest.Hooks{IDTokenClaims: func(c map[string]any) { c["email"] = "eve@example.com" }, Userinfo: func(c map[string]any) { c["email"] = "eve@example.com" }})
				testrig.NewBrowser(t).Get(r.url("/"))
			},
			series{`sign_ins_started_total{}`: 1, `sign_ins_total{check="",result="denied"}`: 1},
		},
		"a cookie that somebody made up": {
			func(t *testing.T) {
				testrig.NewBrowser(t).Step(r.url("/"), "Cookie", "authentiq="+strings.Repeat("A", 200), "Sec-Fetch-Mode", "cors")
			},
			series{`sessions_refused_total{reason="unopened"}`: 1},
		},
		"a sign-out, and a copy of its cookie": {
			func(t *testing.T) {
				b := r.signedIn()
				line := b.CookieHeader(r.url("/"))
				b.Post(r.url("/authentiq/sign-out"))
				testrig.NewBrowser(t).Step(r.url("/"), "Cookie", line, "Sec-Fetch-Mode", "cors")
			},
			series{
				`sign_ins_started_total{}`: 1, `sign_ins_total{check="",result="signed_in"}`: 1,
				`sign_outs_total{reason="asked for"}`: 1, `sessions_refused_total{reason="signed_out"}`: 1,
			},
		},
		"two sessions at once": {
			func(t *testing.T) {
				one, other := r.signedIn(), r.signedIn()
				line := one.CookieHeader(r.url("/")) + "; " + other.CookieHeader(r.url("/"))
				testrig.NewBrowser(t).Step(r.url("/"), "Cookie", line, "Sec-Fetch-Mode", "cors")
			},
			series{
				`sign_ins_started_total{}`: 2, `sign_ins_total{check="",result="signed_in"}`: 2,
				`sessions_refused_total{reason="several"}`: 1, `sign_outs_total{reason="several sessions at once"}`: 2,
			},
		},
		"a place that wants a sign-in of late": {
			func(t *testing.T) {
				r.provider.SetHooks(claim("auth_time", time.Now().Add(-time.Hour).Unix()))
				b := r.signedIn()
				b.Step(r.url("/fresh"), "Sec-Fetch-Mode", "cors")
			},
			series{
				`sign_ins_started_total{}`: 1, `sign_ins_total{check="",result="signed_in"}`: 1,
				`sessions_refused_total{reason="fresh"}`: 1,
			},
		},
		"a logout token": {
			func(t *testing.T) { r.post("/authentiq/backchannel-logout", r.logoutToken(authentiqtest.Bob)) },
			series{`remote_sign_outs_total{check="",result="done",way="backchannel"}`: 1},
		},
		"a logout token at the callback": {
			func(t *testing.T) { r.post("/authentiq/callback", r.logoutToken(authentiqtest.Bob)) },
			series{`remote_sign_outs_total{check="",result="done",way="callback"}`: 1},
		},
		"a logout token for another client": {
			func(t *testing.T) {
				r.post("/authentiq/backchannel-logout", r.logoutToken(authentiqtest.Bob, func(c map[string]any) { c["aud"] = "another" }))
			},
			series{`remote_sign_outs_total{check="aud",result="refused",way="backchannel"}`: 1},
		},
		"a form without a logout token": {
			func(t *testing.T) { r.post("/authentiq/backchannel-logout", url.Values{"x": {"y"}}) },
			series{`remote_sign_outs_total{check="form",result="refused",way="backchannel"}`: 1},
		},
		"a sign-out through the browser": {
			func(t *testing.T) {
				b := r.signedIn()
				sid := b.Get(r.url("/")).Seen(t).Value(t, "X-Authentiq-Sid")
				b.Get(r.url("/authentiq/frontchannel-logout?" + url.Values{"iss": {r.provider.Issuer}, "sid": {sid}}.Encode()))
				b.Get(r.url("/authentiq/frontchannel-logout?" + url.Values{"iss": {r.provider.Issuer}, "sid": {sid}}.Encode()))
			},
			series{
				`sign_ins_started_total{}`: 1, `sign_ins_total{check="",result="signed_in"}`: 1, `sign_outs_total{reason="signed out at the provider"}`: 1,
				`remote_sign_outs_total{check="",result="done",way="frontchannel"}`: 1, `remote_sign_outs_total{check="",result="nobody",way="frontchannel"}`: 1,
			},
		},
		"an operator": {
			func(t *testing.T) { r.byHand(`{"sub":"nobody"}`) },
			series{`remote_sign_outs_total{check="",result="done",way="by_hand"}`: 1},
		},
	}
	counted := []string{"sign_ins_started_total", "sign_ins_total", "sessions_refused_total", "sign_outs_total", "remote_sign_outs_total", "refreshes_total"}
	for _, name := range slices.Sorted(maps.Keys(tests)) {
		t.Run(name, func(t *testing.T) {
			r.provider.SetHooks(authentiqtest.Hooks{})
			before := r.series()
			tests[name].do(t)
			got := r.series().since(before)
			maps.DeleteFunc(got, func(key string, _ float64) bool {
				name, _, _ := strings.Cut(key, "{")
				return !slices.Contains(counted, name)
			})
			if !maps.Equal(got, tests[name].want) {
				t.Errorf("counted %v, want %v", got, tests[name].want)
			}
		})
	}
	r.provider.SetHooks(authentiqtest.Hooks{})
}

// A provider and a storage that are away, and come back.
func TestProviderAndStoreAreSeenToFail(t *testing.T) {
	r := newRig(t, "", refreshing())
	b := r.signedIn()
	begun := r.series()
	for _, up := range []string{`provider_up{}`, `provider_known{}`, `store_up{}`, `session_keys_up{}`, `session_keys{}`} {
		if begun[up] != 1 {
			t.Errorf("%s is %v at first", up, begun[up])
		}
	}
	for _, at := range []string{`provider_read_timestamp_seconds{}`, `session_key_made_timestamp_seconds{}`} {
		if age := float64(time.Now().Unix()) - begun[at]; age < -2 || age > 600 {
			t.Errorf("%s is %v", at, begun[at])
		}
	}
	if begun[`provider_requests_total{endpoint="token",result="ok"}`] != 1 || begun[`provider_request_duration_seconds{endpoint="token"}`] != 1 {
		t.Errorf("the call for the token: %v", begun)
	}

	grew := func(what string, keys ...string) {
		t.Helper()
		testrig.Await(t, what, func() bool {
			b.Get(r.url("/"), "Sec-Fetch-Mode", "cors")
			now := r.series().since(begun)
			return !slices.ContainsFunc(keys, func(key string) bool { return now[key] <= 0 })
		})
	}
	grew("a recheck", `handler_duration_seconds{answer="rechecked"}`, `refreshes_total{check="",result="renewed"}`, `provider_requests_total{endpoint="refresh",result="ok"}`,
		`store_operation_duration_seconds{operation="lock"}`, `store_operation_duration_seconds{operation="load"}`, `store_operation_duration_seconds{operation="save"}`)
	r.provider.SetHooks(answers(authentiqtest.Token, 400, `{"error":"invalid_grant"}`))
	grew("a recheck that ends the session", `refreshes_total{check="invalid_grant",result="ended"}`, `provider_requests_total{endpoint="refresh",result="error"}`,
		`sessions_refused_total{reason="recheck"}`)
	r.provider.SetHooks(authentiqtest.Hooks{})
	b = r.signedIn()
	r.provider.SetHooks(answers(authentiqtest.Token, 503, ``))
	grew("a recheck that fails", `refreshes_total{check="refresh",result="failed"}`, `provider_requests_total{endpoint="refresh",result="unreachable"}`)
	r.provider.SetHooks(authentiqtest.Hooks{})

	late := testrig.NewBrowser(t)
	callback := late.ToCallback(r.url("/"))
	r.provider.Down()
	late.Step(callback)
	if now := r.series().since(begun); now[refusedBy("token request")] != 1 || now[`provider_requests_total{endpoint="token",result="unreachable"}`] != 1 {
		t.Errorf("a code that can't be redeemed: %v", now)
	}
	testrig.Await(t, "the provider is seen to be down", func() bool { return r.series()[`provider_up{}`] == 0 })
	testrig.Await(t, "nobody is sent there", func() bool {
		testrig.NewBrowser(t).Step(r.url("/"))
		return r.series().since(begun)[refusedBy("discovery")] > 0
	})
	down := r.series()
	if down[`provider_known{}`] != 1 || down.since(begun)[`provider_requests_total{endpoint="discovery",result="unreachable"}`] == 0 {
		t.Errorf("while it is down: %v", down.since(begun))
	}
	if err := r.provider.Up(); err != nil {
		t.Fatal(err)
	}
	testrig.Await(t, "the provider is seen to be back", func() bool {
		testrig.NewBrowser(t).Step(r.url("/"))
		return r.series()[`provider_up{}`] == 1
	})

	// No sign-out can be written, nor listed.
	b = r.signedIn()
	journals := filepath.Join(r.storage, "authentiq", "journals")
	if err := os.Rename(journals, journals+"-away"); err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	if err := os.WriteFile(journals, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	begun = r.series()
	b.Post(r.url("/authentiq/sign-out"))
	r.byHand(`{"sub":"nobody"}`)
	r.post("/authentiq/backchannel-logout", r.logoutToken(authentiqtest.Bob))
	now := r.series()
	if now[`sign_outs_unstored{}`] < 2 {
		t.Errorf("%v sign-outs wait", now[`sign_outs_unstored{}`])
	}
	for _, key := range []string{
		`store_errors_total{operation="append"}`, `sign_outs_total{reason="asked for"}`,
		`remote_sign_outs_total{check="",result="unstored",way="by_hand"}`, `remote_sign_outs_total{check="store",result="postponed",way="backchannel"}`,
	} {
		if now.since(begun)[key] <= 0 {
			t.Errorf("%s: %v", key, now.since(begun))
		}
	}
	if err := os.Remove(journals); err != nil {
		t.Fatal(err)
	}
	testrig.Await(t, "what waited is written", func() bool { return r.series()[`sign_outs_unstored{}`] == 0 })
}

// Counters are about what has happened since Caddy started, whatever the configuration.
func TestCountersGoOnOverReloads(t *testing.T) {
	r := newRig(t, "", twoGates)
	port := testnet.Port(t)
	aside := "\n}\nhttp://127.0.0.1:" + port + " {\nmetrics"
	r.signedIn()
	before := r.series()
	if before[`sign_ins_total{check="",result="signed_in"}`] != 1 {
		t.Fatalf("at first: %v", before)
	}
	for name, load := range map[string]func(){
		"a change":               func() { r.load("", strings.Replace(twoGates, "require_fresh 1m", "require_fresh 2m", 1)) },
		"the option metrics":     func() { r.load("metrics", twoGates) },
		"metrics of each host":   func() { r.load("metrics {\nper_host\n}", twoGates) },
		"a second site":          func() { r.load("", twoGates+"\n}\nhttp://other.localhost:"+r.port+" {\n"+twoGates) },
		"metrics at a site":      func() { r.load("", twoGates+aside) },
		"another way to refresh": func() { r.load("", refreshing()) },
	} {
		load()
		now := r.series()
		for key, value := range before {
			if strings.Contains(key, "_total{") && now[key] < value {
				t.Errorf("after %s: %s was %v and is %v", name, key, value, now[key])
			}
		}
		before = now
		r.signedIn()
		if grown := r.series()[`sign_ins_total{check="",result="signed_in"}`] - before[`sign_ins_total{check="",result="signed_in"}`]; grown != 1 {
			t.Errorf("after %s: a sign-in counts as %v", name, grown)
		}
	}

	r.load("", twoGates+aside)
	if site := seriesOf(families(t, r.exposition("http://127.0.0.1:"+port))); site[`sign_ins_total{check="",result="signed_in"}`] < 6 {
		t.Errorf("at the site: %v", site)
	}
	r.load("", "respond nothing")
	if left := r.series(); len(left) > 0 {
		t.Errorf("without a gate: %v", left)
	}
	r.load("", twoGates)
	if anew := r.series()[`sign_ins_total{check="",result="signed_in"}`]; anew != 0 {
		t.Errorf("gates that came anew have counted %v", anew)
	}
	if log := r.caddy.Logged(); strings.Contains(log, "duplicate metrics") || strings.Contains(log, "panic") {
		t.Errorf("the log:\n%s", log)
	}
}
