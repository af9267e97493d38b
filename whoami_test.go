// SPDX-License-Identifier: Apache-2.0

package authentiq

// whoami_test.go is about GET session: what a page learns of its user, and
// what everybody else does.

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/authentiq/caddy-authentiq/authentiqtest"
	"github.com/authentiq/caddy-authentiq/internal/testrig"
)

// whoamiGet asks as a script of the page does.
func whoamiGet(t *testing.T, b *browser, address string, header ...string) testrig.Answer {
	t.Helper()
	return b.Get(address, append([]string{"Accept", "application/json", "Sec-Fetch-Mode", "cors", "Sec-Fetch-Dest", "empty", "Sec-Fetch-Site", "same-origin"}, header...)...)
}

func TestASessionIsToldAsTheAuthHash(t *testing.T) {
	s := newStreet(t, testrig.GateBlock("session_endpoint full"))
	sid := ""
	s.Provider.SetHooks(authentiqtest.Hooks{
		IDTokenClaims: func(c map[string]any) { sid = fmt.Sprint(c["sid"]) },
		IDTokenPayload: func(p []byte) []byte {
			return []byte(strings.NewReplacer(`"latitude":43.6591`, `"latitude":43.65910`, `"speed":0`, `"speed":0.0`, `"accuracy":12`, `"accuracy":1.2E+1`).Replace(string(p)))
		},
	})
	alice := `{"extra":{"email_verified":true,"locale":"en_US","middle_name":"Jane","phone_number_verified":true,"phone_type":"mobile","zoneinfo":"America/New_York"},` +
		`"info":{"email":"alice@example.com","first_name":"Alice","geolocation":{"accuracy":1.2E+1,"address":{"country":"United States","formatted":"1 Commercial Street\nPortland, Maine 04101\nUnited States","locality":"Portland","postal_code":"04101","state":"Maine","street_address":"1 Commercial Street"},` +
		`"altitude":19.5,"latitude":43.65910,"longitude":-70.2568,"speed":0.0},"last_name":"Whitfield","location":{"country":"United States","formatted":"12 Harbor Lane\nPortland, Maine 04101\nUnited States","locality":"Portland","postal_code":"04101","state":"Maine","street_address":"12 Harbor Lane"},` +
		`"name":"Alice Jane Whitfield","phone":"+12075550142"},"provider":"authentiq","sid":"SID","uid":"` + authentiqtest.Alice + `"}`
	a := whoamiGet(t, s.signedIn(), s.URL("/authentiq/session"))
	if want := strings.Replace(alice, "SID", sid, 1); a.StatusCode != http.StatusOK || a.Body != want {
		t.Errorf("%d\n%s, want\n%s", a.StatusCode, a.Body, want)
	}
	for name, want := range map[string]string{
		"Content-Type": "application/json", "Cache-Control": "no-store", "Cross-Origin-Resource-Policy": "same-origin", "X-Content-Type-Options": "nosniff", "Set-Cookie": "",
	} {
		if got := strings.Join(a.Header.Values(name), "|"); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}

	// Of Bob: letters that are not ASCII, a region, a hyphen in the locale, and
	// no name for what was not shared.
	s.Provider.SignInAs(authentiqtest.Bob, "phone")
	a = whoamiGet(t, s.signedIn(), s.URL("/authentiq/session"))
	var bob struct {
		Info, Extra map[string]any
	}
	if err := json.Unmarshal([]byte(a.Body), &bob); err != nil {
		t.Fatal(err)
	}
	location, _ := bob.Info["location"].(map[string]any)
	if bob.Info["name"] != "Søren Łukasiewicz" || location["state"] != "Hovedstaden" || location["region"] != nil || bob.Extra["locale"] != "da_DK" || bob.Extra["email_verified"] != false {
		t.Errorf("%s", a.Body)
	}
	if keys := slices.Sorted(maps.Keys(bob.Info)); !slices.Equal(keys, []string{"email", "first_name", "last_name", "location", "name"}) {
		t.Errorf("info has %q", keys)
	}
	if keys := slices.Sorted(maps.Keys(bob.Extra)); !slices.Equal(keys, []string{"email_verified", "locale", "zoneinfo"}) {
		t.Errorf("extra has %q", keys)
	}
	if strings.Contains(a.Body, "null") || strings.Contains(a.Body, "credentials") || strings.Contains(a.Body, "token") {
		t.Errorf("%s", a.Body)
	}
}

func TestASessionTellsLittleByDefaultAndNothingWhenOff(t *testing.T) {
	for _, options := range []string{"", "session_endpoint basic"} {
		s := newStreet(t, testrig.GateBlock(options))
		s.Provider.SetHooks(authentiqtest.Hooks{IDTokenClaims: func(c map[string]any) { c["sid"] = "the-sid"; c["name"] = "</script><b>é" }})
		a := whoamiGet(t, s.signedIn(), s.URL("/authentiq/session"))
		if want := `{"locale":"en_US","name":"\u003c/script\u003e\u003cb\u003eé","sid":"the-sid","uid":"` + authentiqtest.Alice + `"}`; a.StatusCode != http.StatusOK || a.Body != want {
			t.Errorf("%q: %d %s, want %s", options, a.StatusCode, a.Body, want)
		}
	}
	s := newStreet(t, testrig.GateBlock("session_endpoint off"))
	b := s.signedIn()
	hits := s.Echo.Count()
	if a := whoamiGet(t, b, s.URL("/authentiq/session")); a.StatusCode != http.StatusNotFound || s.Echo.Count() != hits || strings.Contains(a.Body, authentiqtest.Alice) {
		t.Errorf("off: %d %s", a.StatusCode, a.Body)
	}
}

func TestWhoIsNotSignedInGetsAProblemAndNoCookie(t *testing.T) {
	for _, unauthenticated := range []string{"sign_in", "deny", "pass"} {
		s := newStreet(t, testrig.GateBlock("unauthenticated "+unauthenticated))
		for name, cookie := range map[string]string{"nothing": "", "junk": "authentiq=AAAA", "two": "authentiq=AAAA; authentiq=BBBB; authentiq_0=20AAAA; authentiq-login-0=x; authentiq-hint=x"} {
			for _, page := range []bool{false, true} {
				var a testrig.Answer
				if page { // somebody who opens it in a tab gets the same
					a = newBrowser(t).Step(s.URL("/authentiq/session"), "Cookie", cookie)
				} else {
					a = whoamiGet(t, newBrowser(t), s.URL("/authentiq/session"), "Cookie", cookie)
				}
				var problem map[string]any
				if err := json.Unmarshal([]byte(a.Body), &problem); err != nil || problem["status"] != 401.0 || problem["sign_in"] != "/authentiq/sign-in" || problem["type"] != "about:blank" {
					t.Errorf("%s: %v %s", name, err, a.Body)
				}
				if a.StatusCode != http.StatusUnauthorized || a.Header.Get("WWW-Authenticate") != "Authentiq" || a.Header.Get("Content-Type") != "application/problem+json" ||
					a.Header.Get("Cache-Control") != "no-store" || a.Header.Get("Cross-Origin-Resource-Policy") != "same-origin" || len(a.Cookies()) > 0 {
					t.Errorf("%s %s: %d %q", unauthenticated, name, a.StatusCode, a.Header)
				}
			}
		}
	}
}

func TestASessionIsToldOnlyWhereTheGateWouldLetItPass(t *testing.T) {
	keys := "\nsession {\nkeys " + sessionKey() + "\n}"
	s := newStreet(t, testrig.GateBlock("session_endpoint full"+keys))
	b := s.signedIn()
	kept := b.CookieHeader(s.URL("/"))
	for _, rules := range []string{"require email *@example.org", "require groups staff", "unauthenticated pass\nrequire email *@example.org"} {
		answersLoad(t, s, testrig.GateBlock("session_endpoint full\n"+rules+keys), b)
		a := whoamiGet(t, b, s.URL("/authentiq/session"))
		var problem map[string]any
		_ = json.Unmarshal([]byte(a.Body), &problem)
		if a.StatusCode != http.StatusForbidden || strings.Contains(a.Body, authentiqtest.Alice) || strings.Contains(a.Body, "example.com") || problem["status"] != 403.0 || !strings.HasSuffix(fmt.Sprint(problem["detail"]), ".") || len(a.Cookies()) > 0 {
			t.Errorf("%s: %d %s", rules, a.StatusCode, a.Body)
		}
	}
	answersLoad(t, s, strings.Replace(testrig.GateBlock(keys), " email ", " email~rs ", 1), b)
	if a := whoamiGet(t, b, s.URL("/authentiq/session")); a.StatusCode != http.StatusOK {
		t.Errorf("%d %s", a.StatusCode, a.Body)
	}
	// Whoever the gate does not know, it does not know either.
	s.setClock(time.Now().Add(defaultLifetime + time.Second))
	if a := whoamiGet(t, b, s.URL("/authentiq/session")); a.StatusCode != http.StatusUnauthorized {
		t.Errorf("expired: %d", a.StatusCode)
	}
	answersLoad(t, s, testrig.GateBlock(keys), b)
	other := s.signedIn()
	if a := whoamiGet(t, newBrowser(t), s.URL("/authentiq/session"), "Cookie", kept+"; "+other.CookieHeader(s.URL("/"))); a.StatusCode != http.StatusUnauthorized || len(a.Cookies()) > 0 {
		t.Errorf("two sessions: %d %q", a.StatusCode, a.Header)
	}
	if a := whoamiGet(t, newBrowser(t), s.URL("/authentiq/session"), "X-Authentiq-Subject", "admin", "Remote-User", "admin"); a.StatusCode != http.StatusUnauthorized {
		t.Errorf("forged headers: %d", a.StatusCode)
	}
	b.Post(s.URL("/authentiq/sign-out"))
	if a := whoamiGet(t, newBrowser(t), s.URL("/authentiq/session"), "Cookie", kept); a.StatusCode != http.StatusUnauthorized {
		t.Errorf("signed out: %d", a.StatusCode)
	}
}

func TestASessionIsOnlyRead(t *testing.T) {
	s := newStreet(t, testrig.GateBlock(""))
	b := s.signedIn()
	hits, before := s.Echo.Count(), b.CookieHeader(s.URL("/authentiq/session"))
	full := whoamiGet(t, b, s.URL("/authentiq/session"))
	for _, test := range []struct {
		method string
		status int
	}{
		{http.MethodHead, http.StatusOK},
		{http.MethodPost, http.StatusMethodNotAllowed},
		{http.MethodOptions, http.StatusMethodNotAllowed},
		{http.MethodPut, http.StatusMethodNotAllowed},
		{http.MethodDelete, http.StatusMethodNotAllowed},
	} {
		req := testrig.PageRequest(t, s.URL("/authentiq/session"), "Origin", "https://evil.example", "Access-Control-Request-Method", "GET", "X-HTTP-Method-Override", "GET")
		req.Method = test.method
		a := b.Do(req)
		if a.StatusCode != test.status || a.Body != "" || len(a.Cookies()) > 0 || a.Header.Get("Cache-Control") != "no-store" || a.Header.Get("Access-Control-Allow-Origin") != "" || test.status == http.StatusMethodNotAllowed && a.Header.Get("Allow") != "GET, HEAD" {
			t.Errorf("%s: %d %q %q", test.method, a.StatusCode, a.Header, a.Body)
		}
		if test.method == http.MethodHead && a.Header.Get("Content-Type") != full.Header.Get("Content-Type") {
			t.Errorf("HEAD: %q", a.Header)
		}
	}
	if s.Echo.Count() != hits || b.CookieHeader(s.URL("/authentiq/session")) != before || len(full.Cookies()) > 0 {
		t.Error("something changed")
	}
}
