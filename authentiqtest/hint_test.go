// SPDX-FileCopyrightText: 2026 The caddy-authentiq authors
// SPDX-License-Identifier: Apache-2.0

// This file tests what a request may say of who signs in: whom the page offers, who is kept out, and who needs one click.

package authentiqtest_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/authentiq/caddy-authentiq/authentiqtest"
)

// idToken signs somebody in in a browser of his own, and returns his ID token.
func idToken(t *testing.T, op *authentiqtest.Server, userID string) string {
	t.Helper()
	b := newBrowser(t, op)
	q := b.back(b.press(b.get(authentiqtest.Authorize, b.ask()), "allow", userID, "aq:name"))
	return b.post(authentiqtest.Token, b.exchange(q.Get("code"))).json(t)["id_token"].(string)
}

func TestIDTokenHintKeepsOthersOut(t *testing.T) {
	var c clock
	op := newServer(t, authentiqtest.Config{Now: c.now})
	hint := idToken(t, op, authentiqtest.Bob)
	c.advance(time.Hour) // it is over

	b := newBrowser(t, op)
	page := b.get(authentiqtest.Authorize, b.ask("id_token_hint", hint))
	if !strings.Contains(page.body, `value="`+authentiqtest.Bob+`" required checked`) {
		t.Errorf("%d, Bob is not offered first", page.StatusCode)
	}
	if q := b.back(b.press(page, "allow", authentiqtest.Alice)); q.Get("error") != "login_required" || q.Has("code") {
		t.Errorf("Alice came in with %v", q)
	}
	if q := b.back(b.press(b.get(authentiqtest.Authorize, b.ask("id_token_hint", hint)), "allow", authentiqtest.Bob)); q.Get("code") == "" {
		t.Errorf("Bob did not come in: %v", q)
	}
	// He is signed in now: of him a token may be had at once, of others not.
	if q := b.back(b.get(authentiqtest.Authorize, b.ask("id_token_hint", hint, "prompt", "none"))); q.Get("code") == "" {
		t.Errorf("Bob, who is there: %v", q)
	}
	other := idToken(t, op, authentiqtest.Alice)
	if q := b.back(b.get(authentiqtest.Authorize, b.ask("id_token_hint", other, "prompt", "none"))); q.Get("error") != "login_required" {
		t.Errorf("Alice's, with Bob signed in: %v", q)
	}
	if a := b.get(authentiqtest.Authorize, b.ask("id_token_hint", other)); !isPage(a) {
		t.Errorf("Alice's, with Bob signed in, who may be asked: %d", a.StatusCode)
	}
	op.SignInAs(authentiqtest.Bob)
	if q := b.back(b.get(authentiqtest.Authorize, b.ask("id_token_hint", other))); q.Get("error") != "login_required" {
		t.Errorf("Alice's, with Bob alone there: %v", q)
	}
	for _, wrong := range []string{"x", hint + "x", "a.b.c"} {
		if q := b.back(b.get(authentiqtest.Authorize, b.ask("id_token_hint", wrong))); q.Get("error") != "invalid_request" {
			t.Errorf("%.10s: %v", wrong, q)
		}
	}
	twice := b.ask("id_token_hint", hint)
	twice.Add("id_token_hint", hint)
	if q := b.back(b.get(authentiqtest.Authorize, twice)); q.Get("error") != "invalid_request" {
		t.Errorf("twice: %v", q)
	}
}

func TestPushLeavesOneClick(t *testing.T) {
	op := newServer(t, authentiqtest.Config{})
	const scopes = "aq:name email~r aq:push"
	granted := func(userID string, chosen ...string) {
		b := newBrowser(t, op)
		b.back(b.press(b.get(authentiqtest.Authorize, b.ask("scope", scopes)), "allow", userID, chosen...))
	}
	onPhone := func(change ...string) (*browser, answer, bool) {
		b := newBrowser(t, op)
		a := b.get(authentiqtest.Authorize, b.ask(append([]string{"scope", scopes}, change...)...))
		return b, a, strings.Contains(a.body, "Confirm on the phone")
	}
	if _, _, pushed := onPhone("login_hint", "alice@example.com"); pushed {
		t.Error("before Alice has agreed to it")
	}
	granted(authentiqtest.Alice, "aq:name", "aq:push")
	granted(authentiqtest.Bob, "aq:name")
	for name, change := range map[string][]string{
		"nobody is named":          nil,
		"somebody else":            {"login_hint", "bob@example.net"},
		"nobody knows the hint":    {"login_hint", "carol"},
		"more is asked for":        {"login_hint", "alice@example.com", "scope", scopes + " phone"},
		"push is not asked for":    {"login_hint", "alice@example.com", "scope", "aq:name email~r"},
		"a sign-in is asked for":   {"login_hint", "alice@example.com", "prompt", "login"},
		"consent is asked for":     {"login_hint", "alice@example.com", "prompt", "consent"},
		"an account is asked for":  {"login_hint", "alice@example.com", "prompt", "select_account"},
		"nobody may be asked":      {"login_hint", "alice@example.com", "prompt", "none"},
		"the ID token of somebody": {"login_hint", "alice@example.com", "id_token_hint", idToken(t, op, authentiqtest.Bob)},
	} {
		if _, _, pushed := onPhone(change...); pushed {
			t.Errorf("%s: one click", name)
		}
	}
	for name, change := range map[string][]string{
		"email": {"login_hint", "alice@example.com"}, "subject": {"login_hint", authentiqtest.Alice}, "ID token": {"id_token_hint", idToken(t, op, authentiqtest.Alice)},
	} {
		b, a, pushed := onPhone(change...)
		if !pushed || a.StatusCode != http.StatusOK || !strings.Contains(a.body, "Alice Whitfield") {
			t.Errorf("%s: %d %s", name, a.StatusCode, a.body)
			continue
		}
		checkPolicy(t, a)
		q := b.back(b.press(a, "allow", authentiqtest.Alice, "aq:name", "aq:push"))
		got := payload(t, b.post(authentiqtest.Token, b.exchange(q.Get("code"))).json(t)["id_token"].(string))
		equal(t, got, "sub", authentiqtest.Alice)
	}
	b, a, _ := onPhone("login_hint", "alice@example.com")
	if a = b.press(a, "other", ""); !strings.Contains(a.body, `name="user" value="`+authentiqtest.Bob) {
		t.Errorf("someone else: %d %s", a.StatusCode, a.body)
	}
	q := b.back(b.press(a, "allow", authentiqtest.Bob))
	equal(t, payload(t, b.post(authentiqtest.Token, b.exchange(q.Get("code"))).json(t)["id_token"].(string)), "sub", authentiqtest.Bob)
}
