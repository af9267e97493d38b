// SPDX-License-Identifier: Apache-2.0

package authentiq

import (
	"context"
	"encoding/base64"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// fullProfile is everything that an Authentiq user can share.
const fullProfile = `{
	"sub": "E1YcKg143eO6Z-e-3vK1GBJEGpKlIpX1-BbeA3GY6II",
	"sid": "q7Zt0xUe5nWm_Rk2VbYcLh8sDfJpAo4GiTw3ENu-9Qk",
	"name": "Alice Beatrice Carpenter",
	"given_name": "Alice",
	"middle_name": "Beatrice",
	"family_name": "Carpenter",
	"nickname": "alice",
	"preferred_username": "alice",
	"email": "alice.carpenter@example.com",
	"email_verified": true,
	"phone_number": "+15417543010",
	"phone_number_verified": true,
	"phone_type": "mobile",
	"locale": "en_US",
	"zoneinfo": "America/Los_Angeles",
	"address": {
		"country": "United States",
		"formatted": "1234 Market Street\nSan Francisco\n94103\nCalifornia\nUnited States",
		"locality": "San Francisco",
		"postal_code": "94103",
		"state": "California",
		"street_address": "1234 Market Street"
	},
	"aq:location": {
		"accuracy": 20.509,
		"altitude": 0.0,
		"latitude": 55.340157,
		"longitude": -30.555491,
		"speed": 0.0,
		"address": {
			"country": "Netherlands",
			"formatted": "Prinsengracht 263\nAmsterdam\n1016 GV\nNoord-Holland\nNetherlands",
			"locality": "Amsterdam",
			"postal_code": "1016 GV",
			"state": "Noord-Holland",
			"street_address": "Prinsengracht 263"
		}
	},
	"auth_time": 1763856000
}`

// maxCookie is what the cookie of a full profile may take, name and all.
const maxCookie = 1000

func TestTheCookieOfAFullProfileIsSmall(t *testing.T) {
	g := loneGate(t)
	line := cookieLine(sealedFor(t, g, "https://app.example.com/", profileClaims(t))...)
	t.Logf("%d bytes", len(line))
	if len(line) >= maxCookie {
		t.Errorf("the cookie takes %d bytes, want fewer than %d", len(line), maxCookie)
	}
}

const benchPage = "https://app.example.com/page?q=1"

// benchmarkGate measures what the gate itself costs a request. Making the
// request is not its cost, so the same one is put back in order each time.
func benchmarkGate(b *testing.B, g *Gate, cookie string, before func()) {
	passed := 0
	next := caddyhttp.HandlerFunc(func(http.ResponseWriter, *http.Request) error { passed++; return nil })
	r := prepared(benchPage)
	r.Header.Set("Accept", "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8")
	r.Header.Set("Accept-Language", "en")
	r.Header.Set("User-Agent", "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0")
	vars := r.Context().Value(caddyhttp.VarsCtxKey).(map[string]any)
	w := httptest.NewRecorder()
	lines := []string{"theme=dark; " + cookie}
	b.ReportAllocs()
	b.ResetTimer()
	for range b.N {
		delete(vars, visitVar)
		r.Header["Cookie"] = lines
		before()
		// One request's placeholders must not be kept for the next.
		r := r.WithContext(context.WithValue(r.Context(), caddy.ReplacerCtxKey, caddy.NewEmptyReplacer()))
		if err := g.ServeHTTP(w, r, next); err != nil {
			b.Fatal(err)
		}
	}
	b.StopTimer()
	if passed != b.N {
		b.Fatalf("%d of %d requests passed", passed, b.N)
	}
}

// BenchmarkGateRemembered is a request whose session was opened before.
func BenchmarkGateRemembered(b *testing.B) {
	g := loneGate(b)
	cookie := cookieLine(sealedFor(b, g, benchPage, profileClaims(b))...)
	benchmarkGate(b, g, cookie, func() {})
	b.ReportMetric(float64(len(cookie)), "cookie-B")
}

// BenchmarkGateOpens is the first request of a session here.
func BenchmarkGateOpens(b *testing.B) {
	g := loneGate(b)
	cookie := cookieLine(sealedFor(b, g, benchPage, profileClaims(b))...)
	benchmarkGate(b, g, cookie, g.sessions.entries.Purge)
}

// BenchmarkGateUnmatched is a request that match does not select: no session is
// looked at, but nothing forged may pass.
func BenchmarkGateUnmatched(b *testing.B) {
	g := loneGate(b)
	cookie := cookieLine(sealedFor(b, g, benchPage, profileClaims(b))...)
	none := caddyhttp.MatchMethod{"PURGE"}
	g.matchers = caddyhttp.MatcherSets{{none}}
	benchmarkGate(b, g, cookie, func() {})
}

// ringSizes are how many keys there may be; a session is under the oldest.
var ringSizes = []int{1, 3, 10}

// withKeys is a gate with as many keys, and the ring of the oldest alone.
func withKeys(b *testing.B, count int) (g *Gate, oldest *keyring) {
	b.Helper()
	var texts []string
	for range count {
		texts = append(texts, sessionKey())
	}
	g = loneGate(b, func(o *Options) { o.Session.Keys = texts })
	oldest, err := parseKeys(texts[count-1:])
	if err != nil {
		b.Fatal(err)
	}
	return g, oldest
}

// benchmarked are sessions without a refresh token, and with those that providers
// make.
func benchmarked(b *testing.B) map[string]*session {
	b.Helper()
	all := make(map[string]*session)
	for name, token := range map[string]string{
		"none": "", "43B": base64.RawURLEncoding.EncodeToString(randomBytes(32)),
		"jwt1KB": "eyJhbGciOiJSUzI1NiJ9." + base64.RawURLEncoding.EncodeToString(randomBytes(500)) + "." + base64.RawURLEncoding.EncodeToString(randomBytes(256)),
	} {
		s := newSession(profileClaims(b), nil, time.Now(), defaultLifetime)
		if token != "" {
			s.grant = grant{refresh: token, nonce: base64.RawURLEncoding.EncodeToString(randomBytes(secretLength))}
		}
		all[name] = s
	}
	return all
}

func BenchmarkOpenSession(b *testing.B) {
	o := origin{"https", "app.example.com"}
	for _, count := range ringSizes {
		sessions := benchmarked(b)
		for _, name := range slices.Sorted(maps.Keys(sessions)) {
			s := sessions[name]
			b.Run(fmt.Sprintf("keys=%d/refresh=%s", count, name), func(b *testing.B) {
				g, oldest := withKeys(b, count)
				cookies, refused := g.sealSession(oldest, o, s)
				if refused != nil {
					b.Fatal(refused.cause)
				}
				value := assemble(hostCookie, cookies)[0]
				b.ReportAllocs()
				for b.Loop() {
					g.sessions.entries.Purge()
					if s, err := g.openSession(b.Context(), "app.example.com", value); s == nil || err != nil {
						b.Fatal(s, err)
					}
				}
			})
		}
	}
}

func BenchmarkSealSession(b *testing.B) {
	o := origin{"https", "app.example.com"}
	for _, count := range ringSizes {
		sessions := benchmarked(b)
		for _, name := range slices.Sorted(maps.Keys(sessions)) {
			s := sessions[name]
			b.Run(fmt.Sprintf("keys=%d/refresh=%s", count, name), func(b *testing.B) {
				g, _ := withKeys(b, count)
				b.ReportAllocs()
				size := 0
				for b.Loop() {
					cookies, refused := g.sealSession(g.keys, o, s)
					if refused != nil {
						b.Fatal(refused.cause)
					}
					size = len(cookieLine(cookies...))
				}
				b.ReportMetric(float64(size), "cookie-B")
			})
		}
	}
}
