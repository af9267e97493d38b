// SPDX-License-Identifier: Apache-2.0

package authentiq

// credentials_test.go hands tokens to applications that asked for them, and to nobody
// else.

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/authentiq/caddy-authentiq/authentiqtest"
	"github.com/authentiq/caddy-authentiq/internal/testrig"
)

const handsOn = "header Authorization {access_token}\nheader X-Token-Expires {access_token_expires_at}\nheader X-Id-Token {id_token}\n"

// handed records the tokens that the provider hands out.
type handed struct {
	mu      sync.Mutex
	answers []map[string]any
}

func (h *handed) last() map[string]any {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.answers[len(h.answers)-1]
}

// recorded has the provider's tokens written down.
func (s *street) recorded(hooks authentiqtest.Hooks) *handed {
	h := new(handed)
	inner := hooks.TokenResponse
	hooks.TokenResponse = func(m map[string]any) {
		if inner != nil {
			inner(m)
		}
		h.mu.Lock()
		defer h.mu.Unlock()
		h.answers = append(h.answers, m)
	}
	s.Provider.SetHooks(hooks)
	return h
}

func TestAnApplicationGetsTheTokensThatHeadersName(t *testing.T) {
	for name, jwt := range map[string]bool{"tokens that mean nothing": false, "tokens that an API can read": true} {
		t.Run(name, func(t *testing.T) {
			s := newStreet(t, testrig.GateBlock(handsOn+"header X-Raw {access_token}\nsession_endpoint full\nsession {\ntokens on\n}"), func(c *authentiqtest.Config) { c.JWTAccessTokens = jwt })
			h := s.recorded(authentiqtest.Hooks{})
			before := time.Now().Unix()
			b := s.signedIn()
			got := b.Get(s.URL("/")).Seen(t)
			access, id := h.last()["access_token"].(string), h.last()["id_token"].(string)
			if jwt && len(access) < 1024 {
				t.Fatalf("the token has %d bytes", len(access))
			}
			if value := got.Value(t, "Authorization"); value != "Bearer "+access {
				t.Errorf("Authorization is %.60q", value)
			}
			if value := got.Value(t, "X-Raw"); value != access {
				t.Errorf("X-Raw is %.60q", value)
			}
			if value := got.Value(t, "X-Id-Token"); value != id {
				t.Errorf("X-Id-Token is %.60q", value)
			}
			if expires, err := strconv.ParseInt(got.Value(t, "X-Token-Expires"), 10, 64); err != nil || expires < before+600 || expires > before+660 {
				t.Errorf("X-Token-Expires is %d", expires)
			}
			// It is told to nobody else.
			for _, address := range []string{"/authentiq/session", "/authentiq/nothing", "/authentiq/sign-in"} {
				if a := b.Step(s.URL(address)); strings.Contains(fmt.Sprint(a.Header, a.Body), access) {
					t.Errorf("%s tells the token", address)
				}
			}
			for _, c := range ourCookies(b, s.URL("/authentiq/session")) {
				if decoded, _ := base64.URLEncoding.DecodeString(c.Value); strings.Contains(c.Value+string(decoded), access) {
					t.Errorf("%s can be read", c.Name)
				}
			}
		})
	}
}

// Attacks 10, 20 to 22: without being asked for, a token stays; and what a client says
// in the name of a header is taken away, in every spelling and on every path.
func TestNoApplicationGetsATokenThatNobodyAskedFor(t *testing.T) {
	for name, options := range map[string]string{
		"tokens off":                     "session_endpoint full\nheaders oidc-claim remote-user x-forwarded x-auth-request",
		"tokens on, and no header names": "session_endpoint full\nheaders oidc-claim remote-user x-forwarded x-auth-request\nsession {\ntokens on\n}",
	} {
		t.Run(name, func(t *testing.T) {
			s := newStreet(t, testrig.GateBlock(options))
			h := s.recorded(authentiqtest.Hooks{})
			b := s.signedIn()
			a := b.Get(s.URL("/"))
			for _, which := range []string{"access_token", "id_token"} {
				if strings.Contains(a.Body, h.last()[which].(string)) {
					t.Errorf("the application has the %s: %s", which, a.Body)
				}
			}
		})
	}
}

func TestATokenHeaderOfTheClientsOwnIsRemoved(t *testing.T) {
	s := newStreet(t, "authentiq /app/* {"+testrig.SiteOptions+handsOn+"\nsession {\ntokens on\n}\n}\nreverse_proxy UPSTREAM")
	h := s.recorded(authentiqtest.Hooks{})
	b := newBrowser(t)
	b.Get(s.URL("/app/")).Seen(t)
	forged := []string{"Authorization", "Bearer forged", "X-Id-Token", "forged", "X_id_token", "forged", "X.Id.Token", "forged", "X-Token-Expires", "forged", "x-TOKEN_expires", "forged"}
	for path, want := range map[string]int{"/app/": 1, "/public": 0} {
		got := b.Get(s.URL(path), forged...).Seen(t)
		for _, name := range []string{"Authorization", "X-Id-Token", "X-Token-Expires"} {
			values := got.Values(name)
			if len(values) != want || strings.Contains(strings.Join(values, " "), "forged") {
				t.Errorf("%s at %s: %.80q", name, path, values)
			}
		}
	}
	if got := b.Get(s.URL("/app/"), "Connection", "close, Authorization, X-Id-Token").Seen(t); got.Value(t, "Authorization") != "Bearer "+h.last()["access_token"].(string) {
		t.Error("it was named as hop-by-hop, and is gone")
	}
}

func TestATokenThatIsOverIsNotHandedOn(t *testing.T) {
	for name, test := range map[string]struct {
		answer func(m map[string]any)
		later  time.Duration
		there  bool
		said   bool // until when
	}{
		"while it lasts":                 {func(map[string]any) {}, 9 * time.Minute, true, true},
		"when it is over":                {func(map[string]any) {}, 10*time.Minute + time.Second, false, false},
		"by expires_in alone":            {func(m map[string]any) { delete(m, "expires_at") }, 11 * time.Minute, false, false},
		"by expires_at alone":            {func(m map[string]any) { delete(m, "expires_in") }, 11 * time.Minute, false, false},
		"expires_at alone, and it lasts": {func(m map[string]any) { delete(m, "expires_in") }, 9 * time.Minute, true, true},
		"where nobody says until when":   {func(m map[string]any) { delete(m, "expires_in"); delete(m, "expires_at") }, 50 * time.Minute, true, false},
		"a text is a number too":         {func(m map[string]any) { m["expires_in"] = "120" }, 3 * time.Minute, false, false},
		"one that was over when it came": {func(m map[string]any) { m["expires_in"] = -5 }, time.Second, false, false},
	} {
		t.Run(name, func(t *testing.T) {
			clock := new(both)
			s := newStreet(t, testrig.GateBlock(handsOn+"session {\ntokens on\nidle 0\n}"), func(c *authentiqtest.Config) { c.Now = clock.now })
			s.pass(clock, 0)
			s.recorded(authentiqtest.Hooks{TokenResponse: test.answer})
			b := s.signedIn()
			s.pass(clock, test.later)
			got := b.Get(s.URL("/"), "Authorization", "Bearer forged").Seen(t)
			if values := got.Values("Authorization"); (len(values) == 1) != test.there || strings.Contains(fmt.Sprint(values), "forged") {
				t.Errorf("Authorization is %q", values)
			}
			if values := got.Values("X-Token-Expires"); (len(values) == 1) != test.said {
				t.Errorf("X-Token-Expires is %q", values)
			}
			// An ID token has its own end, of five minutes.
			if values := got.Values("X-Id-Token"); (len(values) == 1) != (test.later < 5*time.Minute) {
				t.Errorf("X-Id-Token: %d", len(values))
			}
		})
	}
}

func TestARefreshRenewsTheAccessToken(t *testing.T) {
	for name, test := range map[string]struct {
		later time.Duration
		hooks func(m map[string]any)
	}{
		"when the claims are due":               {6 * time.Minute, func(map[string]any) {}},
		"when the token is nearly over, before": {9*time.Minute + 55*time.Second, func(map[string]any) {}},
		"when the token is over":                {20 * time.Minute, func(map[string]any) {}},
		"and no new ID token":                   {20 * time.Minute, func(m map[string]any) { delete(m, "id_token") }},
	} {
		t.Run(name, func(t *testing.T) {
			clock := new(both)
			recheck := "recheck 2h"
			if test.later < 8*time.Minute {
				recheck = "recheck 5m"
			}
			s := newStreet(t, testrig.GateBlock(handsOn+"session {\ntokens on\nrefresh on\n"+recheck+"\n}"), func(c *authentiqtest.Config) {
				c.Now, c.RefreshTokens, c.JWTAccessTokens = clock.now, true, true
			})
			s.pass(clock, 0)
			h := s.recorded(authentiqtest.Hooks{})
			b := s.signedIn()
			first := h.last()["access_token"].(string)
			b.Get(s.URL("/")).Seen(t)
			if s.refreshes() != 0 {
				t.Fatal("asked before it was time")
			}
			s.recordedAgain(h, test.hooks)
			s.pass(clock, test.later)
			got := b.Get(s.URL("/")).Seen(t)
			access, _ := h.last()["access_token"].(string)
			if s.refreshes() != 1 || access == first {
				t.Fatalf("%d refreshes", s.refreshes())
			}
			if value := got.Value(t, "Authorization"); value != "Bearer "+access {
				t.Errorf("Authorization is %.80q", value)
			}
			if id, there := h.last()["id_token"].(string); there && got.Value(t, "X-Id-Token") != id {
				t.Error("X-Id-Token is another")
			} else if !there && len(got.Values("X-Id-Token")) != 0 {
				t.Error("X-Id-Token is one that is over")
			}
			// The cookie has it now, and nobody asks again.
			if got := b.Get(s.URL("/")).Seen(t); got.Value(t, "Authorization") != "Bearer "+access || s.refreshes() != 1 {
				t.Errorf("%d refreshes", s.refreshes())
			}
			// A late request with the cookie of before gets the new one too.
			s.Provider.Down()
			s.pass(clock, 11*time.Minute)
			if a := b.Get(s.URL("/")); a.StatusCode != http.StatusOK || len(a.Seen(t).Values("Authorization")) != 0 {
				t.Errorf("while the provider is away: %d %q", a.StatusCode, a.Body)
			}
		})
	}
}

// What a refresh brings and nobody could verify is not told the application.
func TestAnIDTokenThatCouldNotBeVerifiedIsNotHandedOn(t *testing.T) {
	clock := new(both)
	s := newStreet(t, testrig.GateBlock("signing_alg RS256\n"+handsOn+"session {\ntokens on\nrefresh on\n}"), func(c *authentiqtest.Config) {
		c.Now, c.RefreshTokens, c.SigningAlg = clock.now, true, "RS256"
	})
	s.pass(clock, 0)
	h := s.recorded(authentiqtest.Hooks{})
	b := s.signedIn()
	s.Provider.RotateKeys()
	s.Provider.SetHooks(authentiqtest.Hooks{
		Handler: func(e authentiqtest.Endpoint, next http.Handler) http.Handler {
			if e != authentiqtest.Keys {
				return next
			}
			return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) })
		},
		TokenResponse: func(m map[string]any) {
			h.mu.Lock()
			defer h.mu.Unlock()
			h.answers = append(h.answers, m)
		},
	})
	s.pass(clock, 6*time.Minute)
	got := b.Get(s.URL("/")).Seen(t)
	if s.refreshes() != 1 || len(s.Events(eventNotRechecked)) != 1 {
		t.Fatalf("%d refreshes\n%s", s.refreshes(), s.Logged())
	}
	if value := got.Values("X-Id-Token"); slices.Contains(value, h.last()["id_token"].(string)) {
		t.Error("it was")
	}
	// The access token is the provider's own business, and good.
	if value := got.Value(t, "Authorization"); value != "Bearer "+h.last()["access_token"].(string) {
		t.Errorf("Authorization is %q", value)
	}
}

// recordedAgain changes what the provider answers, and goes on writing down.
func (s *street) recordedAgain(h *handed, change func(map[string]any)) {
	s.Provider.SetHooks(authentiqtest.Hooks{TokenResponse: func(m map[string]any) {
		change(m)
		h.mu.Lock()
		defer h.mu.Unlock()
		h.answers = append(h.answers, m)
	}})
}

func TestASignOutGivesTheAccessTokenBackToo(t *testing.T) {
	for name, test := range map[string]struct {
		session string
		kinds   string
	}{
		"with refresh":      {"tokens on\nrefresh on", "access_token refresh_token"},
		"without":           {"tokens on", "access_token"},
		"none that is kept": {"refresh on", "refresh_token"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStreet(t, testrig.GateBlock("session {\n"+test.session+"\n}"), func(c *authentiqtest.Config) { c.RefreshTokens = true })
			h := s.recorded(authentiqtest.Hooks{})
			s.signedIn().leaves(s)
			kinds := strings.Fields(test.kinds)
			testrig.Await(t, "they are given back", func() bool { return len(s.Provider.Revoked()) == len(kinds) })
			for _, kind := range kinds {
				if !slices.Contains(s.Provider.Revoked(), h.last()[kind].(string)) {
					t.Errorf("the %s is not: %q", kind, s.Provider.Revoked())
				}
			}
			var hints []string
			for _, r := range s.Provider.Requests(authentiqtest.Revocation) {
				hints = append(hints, r.Form.Get("token_type_hint"))
			}
			if slices.Sort(hints); strings.Join(hints, " ") != test.kinds {
				t.Errorf("said to be %q", hints)
			}
			if n := len(s.Events(eventNotGivenBack)); n != 0 {
				t.Errorf("%d complaints", n)
			}
		})
	}
}

func TestAProviderNeedNotTakeAccessTokensBack(t *testing.T) {
	for code, complaints := range map[string]int{"unsupported_token_type": 0, "invalid_client": 1} {
		s := newStreet(t, testrig.GateBlock("session {\ntokens on\n}"))
		s.Provider.SetHooks(authentiqtest.Hooks{Handler: func(e authentiqtest.Endpoint, next http.Handler) http.Handler {
			if e != authentiqtest.Revocation {
				return next
			}
			return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", "application/json")
				w.WriteHeader(http.StatusBadRequest)
				fmt.Fprintf(w, `{"error":%q}`, code)
			})
		}})
		s.signedIn().leaves(s)
		testrig.Await(t, "it is asked", func() bool { return len(s.givenBack()) == 1 })
		testrig.StopCaddy() // waits for it
		if n := len(s.Events(eventNotGivenBack)); n != complaints {
			t.Errorf("%s: %d complaints, want %d", code, n, complaints)
		}
	}
}

// The callback is the first gate's, and the header the second one's.
func TestASignInKeepsTheTokensThatTheGateWantsWhichBeganIt(t *testing.T) {
	s := newStreet(t, "authentiq /app/* {"+testrig.SiteOptions+"}\nauthentiq /api/* {"+testrig.SiteOptions+handsOn+"session {\ntokens on\n}\n}\nreverse_proxy UPSTREAM")
	h := s.recorded(authentiqtest.Hooks{})
	b := newBrowser(t)
	got := b.Get(s.URL("/api/")).Seen(t)
	if got.Value(t, "Authorization") != "Bearer "+h.last()["access_token"].(string) || got.Value(t, "X-Id-Token") != h.last()["id_token"].(string) {
		t.Errorf("the application got %q", got.Headers)
	}
	// The first gate's application gets none of it.
	if got := b.Get(s.URL("/app/")).Seen(t); len(got.Values("X-Id-Token")) != 0 || strings.Contains(fmt.Sprint(got.Headers), h.last()["access_token"].(string)) {
		t.Errorf("the other application got %q", got.Headers)
	}
	// A session from there has none.
	other := newBrowser(t)
	other.Get(s.URL("/app/")).Seen(t)
	if got := other.Get(s.URL("/api/")).Seen(t); len(got.Values("Authorization")) != 0 {
		t.Errorf("the application got %q", got.Headers)
	}
}

func TestOnlyBearerTokensAreKept(t *testing.T) {
	for kind, status := range map[string]int{"Bearer": 200, "bearer": 200, "mac": 502, "DPoP": 502} {
		s := newStreet(t, testrig.GateBlock(handsOn+"session {\ntokens on\n}"))
		s.Provider.SetHooks(authentiqtest.Hooks{TokenResponse: func(m map[string]any) { m["token_type"] = kind }})
		if a := newBrowser(t).Get(s.URL("/")); a.StatusCode != status {
			t.Errorf("%s: %d, want %d", kind, a.StatusCode, status)
		}
		s.Load(testrig.GateBlock(""))
		if a := newBrowser(t).Get(s.URL("/")); a.StatusCode != 200 {
			t.Errorf("%s, and nobody wants it: %d", kind, a.StatusCode)
		}
	}
}

// large are tokens of some size, which userinfo does not take.
func largeAccess(size int) authentiqtest.Hooks {
	token := base64.RawURLEncoding.EncodeToString(randomBytes(size * 3 / 4))
	return authentiqtest.Hooks{
		IDTokenClaims: func(c map[string]any) { delete(c, "at_hash") },
		TokenResponse: func(m map[string]any) { m["access_token"] = token },
	}
}

func TestALargeAccessTokenFitsOrIsNamed(t *testing.T) {
	s := newStreet(t, testrig.GateBlock(handsOn+"session {\ntokens on\n}"))
	for size, fits := range map[int]bool{1000: true, 2500: true, 4000: true, 12000: false} {
		h := s.recorded(largeAccess(size))
		b := newBrowser(t)
		a := b.Get(s.URL("/"))
		if fits {
			if got := a.Seen(t).Value(t, "Authorization"); got != "Bearer "+h.last()["access_token"].(string) {
				t.Errorf("%d bytes: %.60q", size, got)
			}
			continue
		}
		if a.StatusCode != http.StatusBadGateway || !strings.Contains(a.Body, "access_token") {
			t.Errorf("%d bytes: %d %.500s", size, a.StatusCode, a.Body)
		}
		refused := s.Events(eventRefused)
		if len(refused) != 1 || refused[0]["check"] != "size" || !strings.Contains(fmt.Sprint(refused[0]["error"]), "access_token (12000 bytes)") || !strings.Contains(fmt.Sprint(refused[0]["error"]), "session tokens") {
			t.Errorf("the log: %v", refused)
		}
		for _, text := range []string{a.Body, s.Logged()} {
			if strings.Contains(text, h.last()["access_token"].(string)[:40]) {
				t.Error("the token is told")
			}
		}
	}
}

// A refresh token that does not fit beside the access token goes to the store.
func TestALargeRefreshTokenGivesWayToTheAccessToken(t *testing.T) {
	clock := new(both)
	s := newStreet(t, testrig.GateBlock(handsOn+"session {\ntokens on\nrefresh on\n}"), func(c *authentiqtest.Config) { c.Now, c.RefreshTokens, c.JWTAccessTokens = clock.now, true, true })
	s.pass(clock, 0)
	hooks := largeTokens()
	enlarge := hooks.TokenResponse
	hooks.IDTokenClaims = nil
	hooks.TokenResponse = func(m map[string]any) {
		access := m["access_token"]
		enlarge(m)
		m["access_token"] = access
	}
	h := s.recorded(hooks)
	b := s.signedIn()
	if len(s.stored()) != 1 {
		t.Fatalf("the store has %d", len(s.stored()))
	}
	first := h.last()["access_token"].(string)
	if got := b.Get(s.URL("/")).Seen(t).Value(t, "Authorization"); got != "Bearer "+first {
		t.Errorf("Authorization is %.60q", got)
	}
	s.forgets()
	s.pass(clock, 6*time.Minute)
	if got := b.Get(s.URL("/")).Seen(t).Value(t, "Authorization"); got == "Bearer "+first || got != "Bearer "+h.last()["access_token"].(string) {
		t.Errorf("after a refresh, Authorization is %.60q", got)
	}
	for name, text := range s.stored() {
		if strings.Contains(text, first) || strings.Contains(text, h.last()["access_token"].(string)) {
			t.Errorf("%s can be read", name)
		}
	}
}

// A token is what a header can carry, or stays.
func TestATokenThatNoHeaderCanCarryIsLeftOut(t *testing.T) {
	s := newStreet(t, testrig.GateBlock(handsOn+"header X-Raw {access_token}\nsession {\ntokens on\n}"))
	for name, token := range map[string]string{"a line break": "a\r\nX-Authentiq-Email: boss@example.com", "white space around it": " a ", "beyond ASCII": "tökén"} {
		hooks := largeAccess(10)
		hooks.TokenResponse = func(m map[string]any) { m["access_token"] = token }
		s.recorded(hooks)
		b := newBrowser(t)
		a := b.Get(s.URL("/"))
		if got := a.Seen(t); len(got.Values("Authorization"))+len(got.Values("X-Raw")) != 0 || strings.Contains(fmt.Sprint(got.Headers), "boss") {
			t.Errorf("%s: %q", name, got.Headers)
		}
	}
	if left := s.Events(eventHeaderLeftOut); len(left) == 0 || strings.Contains(fmt.Sprint(left), "boss") {
		t.Errorf("the log: %v", left)
	}
}

// Attack 96: at any level, and also where Caddy itself writes the headers down that it
// sends on, as it does at debug.
func TestNoTokenIsInTheLog(t *testing.T) {
	clock := new(both)
	s := newStreet(t, testrig.GateBlock("header Authorization {access_token}\nsession_endpoint full\nsession {\ntokens on\nrefresh on\n}"), func(c *authentiqtest.Config) { c.Now, c.RefreshTokens, c.JWTAccessTokens = clock.now, true, true })
	s.pass(clock, 0)
	h := s.recorded(authentiqtest.Hooks{})
	b := s.signedIn()
	b.fetch(s.URL("/authentiq/session"))
	s.pass(clock, 6*time.Minute)
	b.Get(s.URL("/")).Seen(t)
	// An answer that comes after the token is over, a page that refuses, a sign-out.
	s.Load(testrig.GateBlock("header Authorization {access_token}\nrequire groups staff\nsession {\ntokens on\nrefresh on\n}"))
	s.pass(clock, 0)
	b.Client.CloseIdleConnections()
	page := b.Get(s.URL("/"))
	if page.StatusCode != http.StatusForbidden {
		t.Errorf("%d", page.StatusCode)
	}
	b.leaves(s)
	testrig.Await(t, "they are given back", func() bool { return len(s.Provider.Revoked()) == 2 })
	testrig.StopCaddy()
	log := s.Logged()
	if len(h.answers) != 2 || !strings.Contains(log, "upstream roundtrip") {
		t.Fatalf("%d answers, and the log is not that of debug", len(h.answers))
	}
	for _, answer := range h.answers {
		for _, which := range []string{"access_token", "id_token", "refresh_token"} {
			token := answer[which].(string)
			if strings.Contains(log, token) || strings.Contains(page.Body, token) {
				t.Errorf("the %s is told", which)
			}
			if parts := strings.Split(token, "."); len(parts) == 3 && (strings.Contains(log, parts[1]) || strings.Contains(log, parts[2])) {
				t.Errorf("a part of the %s is told", which)
			}
		}
	}
}

// FuzzSessionPayload has sessions without; these are with.
func TestTheCredentialsOfASessionComeBackAsTheyWere(t *testing.T) {
	for _, token := range tokens() {
		for _, id := range []string{"", "a.b.c"} {
			s := newSession(profileClaims(t), nil, time.Unix(1_800_000_000, 0), time.Hour)
			s.grant = grant{refresh: "r", nonce: "n"}
			s.credentials = credentials{access: token, id: id, expires: 1_800_000_600, idExpires: 1_800_000_300}
			if token == "" {
				s.grant = grant{}
			}
			b, err := s.encode()
			if err != nil {
				t.Fatal(err)
			}
			want := *s
			if !s.credentials.there() {
				want.credentials = credentials{}
			}
			if back, err := decodeSession(b); err != nil || !sameSession(&want, back) {
				t.Errorf("%.60q came back as %.60q, %v", token, back.credentials.access, err)
			}
		}
	}
	// Sessions without are written as they always were.
	s := newSession(profileClaims(t), nil, time.Unix(1_800_000_000, 0), time.Hour)
	plain, err := s.encode()
	if err != nil {
		t.Fatal(err)
	}
	s.credentials.access = "x"
	with, err := s.encode()
	if err != nil || len(with) <= len(plain) {
		t.Errorf("%d bytes and %d, %v", len(plain), len(with), err)
	}
}

// One that was over when it came is followed by another like it.
func TestAnAccessTokenThatCameTooLateIsNotRenewedAtEachRequest(t *testing.T) {
	for name, change := range map[string]func(map[string]any){
		"until when":  func(m map[string]any) { delete(m, "expires_in"); m["expires_at"] = time.Now().Unix() - 3600 },
		"how long":    func(m map[string]any) { m["expires_in"] = -5 },
		"nothing yet": func(m map[string]any) { m["expires_in"] = 0 },
	} {
		t.Run(name, func(t *testing.T) {
			s, _ := refreshing(t, "tokens on\n---"+handsOn)
			s.Provider.SetHooks(authentiqtest.Hooks{TokenResponse: change})
			b := s.signedIn()
			for range 5 {
				b.Get(s.URL("/")).Seen(t)
			}
			if n := s.refreshes(); n > 0 {
				t.Errorf("%d refreshes", n)
			}
		})
	}
}

// What a refresh brings may take the room of the hint, which our own endpoints get
// besides: sign-out has to go on being reached.
func TestATokenThatGrowsTakesThePlaceOfTheHint(t *testing.T) {
	s, clock := refreshing(t, "tokens on\n---"+handsOn)
	s.Provider.SetHooks(largeAccess(100))
	s.pass(clock, 0)
	b := s.signedIn()
	if signoutHint(b, s.URL("/authentiq/x")) == nil {
		t.Fatal("there is no hint")
	}
	s.Provider.SetHooks(largeAccess(4000))
	s.pass(clock, 6*time.Minute)
	b.Get(s.URL("/")).Seen(t)
	if signoutHint(b, s.URL("/authentiq/x")) != nil {
		t.Error("the hint is still there")
	}
	b.leaves(s)
}
