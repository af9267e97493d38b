// SPDX-FileCopyrightText: 2026 The caddy-authentiq authors
// SPDX-License-Identifier: Apache-2.0

// This file tests the user's session at the provider: when it is silent, when it isn't enough, and how it ends.

package authentiqtest_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/authentiq/caddy-authentiq/authentiqtest"
)

func isPage(a answer) bool { return a.StatusCode == http.StatusOK && strings.Contains(a.body, "<form") }

func TestSecondSignInIsSilent(t *testing.T) {
	var c clock
	op := newServer(t, authentiqtest.Config{Now: c.now})
	b := newBrowser(t, op)
	first := b.back(b.press(b.get(authentiqtest.Authorize, b.ask()), "allow", authentiqtest.Alice, "aq:name"))
	before := payload(t, b.post(authentiqtest.Token, b.exchange(first.Get("code"))).json(t)["id_token"].(string))
	c.advance(time.Minute)

	// The same scopes in another order are the same request; what was left out stays left out.
	silent := b.claims("scope", "address email~r aq:name openid", "nonce", "another")
	equal(t, silent, "sid", before["sid"])
	equal(t, silent, "auth_time", before["auth_time"])
	equal(t, silent, "nonce", "another")
	absent(t, silent, "address")
	b.claims("prompt", "none")

	for name, change := range map[string][]string{
		"more scopes":    {"scope", "aq:name email~r address phone"},
		"other marks":    {"scope", "aq:name email~r address~r"},
		"login":          {"prompt", "login"},
		"consent":        {"prompt", "consent"},
		"select account": {"prompt", "select_account"},
		"too long ago":   {"max_age", "59"},
		"max_age 0":      {"max_age", "0"},
	} {
		if a := b.get(authentiqtest.Authorize, b.ask(change...)); !isPage(a) {
			t.Errorf("%s: %d, no page", name, a.StatusCode)
		}
	}
	if a := b.get(authentiqtest.Authorize, b.ask("max_age", "60")); isPage(a) {
		t.Error("max_age 60: a page")
	}
	if q := b.back(b.get(authentiqtest.Authorize, b.ask("prompt", "none", "scope", "phone"))); q.Get("error") != "consent_required" {
		t.Errorf("none with other scopes: %v", q)
	}
	if q := b.back(b.get(authentiqtest.Authorize, b.ask("prompt", "none", "max_age", "1"))); q.Get("error") != "login_required" {
		t.Errorf("none, too long ago: %v", q)
	}
	if q := b.back(newBrowser(t, op).get(authentiqtest.Authorize, b.ask("prompt", "none"))); q.Get("error") != "login_required" {
		t.Errorf("none in another browser: %v", q)
	}
}

func TestSessionIDs(t *testing.T) {
	var c clock
	op := newServer(t, authentiqtest.Config{Now: c.now})
	op.SignInAs(authentiqtest.Alice)
	b := newBrowser(t, op)
	first := b.claims()
	c.advance(time.Minute)
	again := b.claims("prompt", "login")
	equal(t, again, "sid", first["sid"])
	equal(t, again, "auth_time", first["auth_time"].(float64)+60)

	if other := newBrowser(t, op).claims(); other["sid"] == first["sid"] {
		t.Error("two browsers share a sid")
	}
	op.SignInAs(authentiqtest.Bob)
	if q := b.back(b.get(authentiqtest.Authorize, b.ask("prompt", "none"))); !q.Has("code") {
		t.Errorf("none goes by the session, which is Alice's: %v", q)
	}
	bob := b.claims()
	equal(t, bob, "sub", authentiqtest.Bob)
	if bob["sid"] == first["sid"] {
		t.Error("two users share a sid")
	}
	op.SignInAs(authentiqtest.Alice)
	if back := b.claims(); back["sid"] == first["sid"] {
		t.Error("the first session came back")
	}
}

func TestAutomaticModeStillNeedsASessionForNone(t *testing.T) {
	op := newServer(t, authentiqtest.Config{})
	op.SignInAs(authentiqtest.Alice)
	b := newBrowser(t, op)
	if q := b.back(b.get(authentiqtest.Authorize, b.ask("prompt", "none"))); q.Get("error") != "login_required" {
		t.Errorf("%v", q)
	}
	b.code()
	b.code("prompt", "none", "scope", "phone") // consents by itself
	op.SignInAs("")
	if a := b.get(authentiqtest.Authorize, b.ask("prompt", "login")); !isPage(a) {
		t.Errorf("the page isn't back: %d", a.StatusCode)
	}
}

func TestEndSession(t *testing.T) {
	op := newServer(t, authentiqtest.Config{PostLogoutRedirectURIs: []string{"https://app.example.com/bye?x=1"}})
	op.SignInAs(authentiqtest.Alice)
	b := newBrowser(t, op)
	signedIn := func() bool {
		return b.back(b.get(authentiqtest.Authorize, b.ask("prompt", "none"))).Has("code")
	}
	good := func(change ...string) url.Values {
		return with(url.Values{
			"id_token_hint":            {b.tokens()["id_token"].(string)},
			"client_id":                {op.ClientID()},
			"post_logout_redirect_uri": {"https://app.example.com/bye?x=1"},
			"state":                    {"a&b"},
		}, change...)
	}
	const bye = "https://app.example.com/bye?x=1&state=a%26b"

	for name, send := range map[string]func() answer{
		"GET":             func() answer { return b.get(authentiqtest.EndSession, good()) },
		"POST":            func() answer { return b.post(authentiqtest.EndSession, good()) },
		"hint only":       func() answer { return b.get(authentiqtest.EndSession, good("client_id", "")) },
		"client only":     func() answer { return b.get(authentiqtest.EndSession, good("id_token_hint", "")) },
		"another browser": func() answer { return newBrowser(t, op).get(authentiqtest.EndSession, good()) },
		"after rotation": func() answer {
			q := good()
			op.RotateKeys()
			return b.get(authentiqtest.EndSession, q)
		},
	} {
		if a := send(); a.StatusCode != http.StatusSeeOther || a.Header.Get("Location") != bye {
			t.Errorf("%s: %d, Location %q: %s", name, a.StatusCode, a.Header.Get("Location"), a.body)
		}
		if signedIn() {
			t.Errorf("%s: still signed in", name)
		}
	}
	if a := b.get(authentiqtest.EndSession, good("state", "")); a.Header.Get("Location") != "https://app.example.com/bye?x=1" {
		t.Errorf("without state: %q", a.Header.Get("Location"))
	}
	b.code()
	if a := b.get(authentiqtest.EndSession, nil); a.StatusCode != http.StatusOK || !strings.Contains(a.body, "signed out") || signedIn() {
		t.Errorf("without anything: %d", a.StatusCode)
	}

	foreign, err := op.Sign("HS256", nil, []byte(`{"iss":"`+op.Issuer+`"}`))
	if err != nil {
		t.Fatal(err)
	}
	for name, q := range map[string]url.Values{
		"another URI":                good("post_logout_redirect_uri", "https://app.example.com/"),
		"another client":             good("client_id", "x"),
		"a token that wasn't issued": good("id_token_hint", foreign),
		"a URI from nobody":          good("id_token_hint", "", "client_id", ""),
		"a parameter twice":          {"state": {"a", "b"}},
	} {
		a := b.get(authentiqtest.EndSession, q)
		if a.StatusCode != http.StatusBadRequest || a.Header.Get("Location") != "" {
			t.Errorf("%s: %d, Location %q", name, a.StatusCode, a.Header.Get("Location"))
		}
		if !signedIn() {
			t.Errorf("%s: signed out", name)
		}
	}
}

func TestSignOutReturnsToLoopbackByDefault(t *testing.T) {
	op := newServer(t, authentiqtest.Config{})
	b := newBrowser(t, op)
	for uri, want := range map[string]int{"http://localhost:1/bye": http.StatusSeeOther, "https://example.com/": http.StatusBadRequest} {
		q := url.Values{"client_id": {op.ClientID()}, "post_logout_redirect_uri": {uri}}
		if a := b.get(authentiqtest.EndSession, q); a.StatusCode != want {
			t.Errorf("%s: %d, want %d", uri, a.StatusCode, want)
		}
	}
}
