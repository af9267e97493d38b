// SPDX-FileCopyrightText: 2026 The caddy-authentiq authors
// SPDX-License-Identifier: Apache-2.0

// This file tests the pages: the form that a person fills in, and what their browser may do with it.

package authentiqtest_test

import (
	"crypto/sha256"
	"encoding/base64"
	"html"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"

	"github.com/authentiq/caddy-authentiq/authentiqtest"
)

// press posts the sign-in form.
func (b *browser) press(page answer, action, user string, scopes ...string) answer {
	b.t.Helper()
	return b.post(authentiqtest.Authorize, url.Values{
		"request": {form(b.t, page)}, "user": {user}, "scope": scopes, "action": {action},
	})
}

func TestSignInPage(t *testing.T) {
	op := newServer(t, authentiqtest.Config{ClientID: `<i>"app"`})
	b := newBrowser(t, op)
	a := b.get(authentiqtest.Authorize, b.ask("scope", "openid aq:name email~rs phone~s"))
	if a.StatusCode != http.StatusOK || a.Header.Get("Cache-Control") != "no-store" || !strings.HasPrefix(a.Header.Get("Content-Type"), "text/html") {
		t.Errorf("%d %v", a.StatusCode, a.Header)
	}
	for _, want := range []string{
		"Test provider.", "localhost:9999", "Alice Whitfield", "Łukasiewicz", `&lt;i&gt;`,
		`value="` + authentiqtest.Alice + `" required checked`,
		`name="scope" value="aq:name" checked> <span>your name</span>`,
		`name="scope" value="email" checked disabled> <span>your email address, verified <small>(required by the app)</small></span>`,
		`name="scope" value="phone" checked> <span>your phone number, verified</span>`,
		`value="allow">Sign in</button>`, `value="deny"`,
	} {
		if !strings.Contains(a.body, want) {
			t.Errorf("page lacks %s", want)
		}
	}
	for _, unwanted := range []string{"<script", "<i>", `value="openid"`, "ZgotmplZ"} {
		if strings.Contains(a.body, unwanted) {
			t.Errorf("page has %s", unwanted)
		}
	}
	checkPolicy(t, a)
}

// checkPolicy compares the hashes in the policy with what is on the page, as a browser does.
func checkPolicy(t *testing.T, a answer) {
	t.Helper()
	policy := a.Header.Get("Content-Security-Policy")
	for _, tag := range []string{"style", "script"} {
		found := regexp.MustCompile(`(?s)<` + tag + `>(.*?)</` + tag + `>`).FindStringSubmatch(a.body)
		if found == nil {
			if strings.Contains(policy, tag+"-src") {
				t.Errorf("policy allows a %s that isn't there", tag)
			}
			continue
		}
		sum := sha256.Sum256([]byte(found[1]))
		if want := tag + "-src 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'"; !strings.Contains(policy, want) {
			t.Errorf("policy %q lacks %s", policy, want)
		}
	}
	// Browsers apply form-action to the redirect after the form too, and would never get back to the app.
	if strings.Contains(policy, "form-action") || !strings.Contains(policy, "default-src 'none'") {
		t.Errorf("policy %q", policy)
	}
}

func TestPageLetsTheUserChoose(t *testing.T) {
	op := newServer(t, authentiqtest.Config{})
	b := newBrowser(t, op)
	open := func() answer { return b.get(authentiqtest.Authorize, b.ask("prompt", "login")) }

	// Of "openid aq:name email~r address" address is ticked. email is required, phone was never asked for.
	q := b.back(b.press(open(), "allow", authentiqtest.Bob, "address", "phone"))
	claims := payload(t, b.post(authentiqtest.Token, b.exchange(q.Get("code"))).json(t)["id_token"].(string))
	equal(t, claims, "sub", authentiqtest.Bob)
	equal(t, claims, "scope", "openid email address")
	equal(t, claims, "email", "bob@example.net")
	absent(t, claims, "name", "phone_number")

	if q := b.back(b.press(open(), "deny", "")); q.Get("error") != "access_denied" || q.Get("state") != "the state" || q.Get("iss") != op.Issuer {
		t.Errorf("cancel: %v", q)
	}

	page := open()
	b.press(page, "deny", "")
	if a := b.press(page, "allow", authentiqtest.Alice); a.StatusCode != http.StatusBadRequest || !strings.Contains(a.body, "already used") {
		t.Errorf("a page used twice: %d", a.StatusCode)
	}
	for name, a := range map[string]answer{
		"no user":        b.press(open(), "allow", ""),
		"unknown user":   b.press(open(), "allow", "nobody"),
		"unknown button": b.press(open(), "maybe", authentiqtest.Alice),
	} {
		if a.StatusCode != http.StatusBadRequest || !strings.Contains(a.body, `role="alert"`) {
			t.Errorf("%s: %d", name, a.StatusCode)
		}
		if q := b.back(b.press(a, "allow", authentiqtest.Alice)); !q.Has("code") {
			t.Errorf("%s: the page doesn't go on: %v", name, q)
		}
	}
}

func TestPageChoosesTheUserBeforehand(t *testing.T) {
	op := newServer(t, authentiqtest.Config{})
	b := newBrowser(t, op)
	chosen := func(id string, change ...string) {
		t.Helper()
		if a := b.get(authentiqtest.Authorize, b.ask(change...)); !strings.Contains(a.body, `value="`+id+`" required checked`) {
			t.Errorf("%v: %s isn't chosen", change, id)
		}
	}
	chosen(authentiqtest.Alice)
	chosen(authentiqtest.Bob, "login_hint", "bob@example.net")
	chosen(authentiqtest.Bob, "login_hint", authentiqtest.Bob)
	chosen(authentiqtest.Alice, "login_hint", "nobody")
	op.SignInAs(authentiqtest.Bob)
	b.code()
	op.SignInAs("")
	chosen(authentiqtest.Bob, "prompt", "consent")
	chosen(authentiqtest.Alice, "prompt", "consent", "login_hint", "alice")
}

func TestResponseModes(t *testing.T) {
	op := newServer(t, authentiqtest.Config{})
	op.SignInAs(authentiqtest.Alice)
	b := newBrowser(t, op)

	a := b.get(authentiqtest.Authorize, b.ask("response_mode", "fragment"))
	at, fragment, _ := strings.Cut(a.Header.Get("Location"), "#")
	q, err := url.ParseQuery(fragment)
	if at != callback || err != nil || !q.Has("code") || q.Get("state") != "the state" {
		t.Errorf("fragment: %s", a.Header.Get("Location"))
	}

	a = b.get(authentiqtest.Authorize, b.ask("response_mode", "form_post", "state", `"><script>`))
	if a.StatusCode != http.StatusOK || !strings.Contains(a.body, `action="`+callback+`"`) {
		t.Fatalf("form_post: %d %s", a.StatusCode, a.body)
	}
	checkPolicy(t, a)
	fields := url.Values{}
	for _, m := range regexp.MustCompile(`name="([^"]+)" value="([^"]*)"`).FindAllStringSubmatch(a.body, -1) {
		fields.Add(m[1], html.UnescapeString(m[2]))
	}
	if fields.Get("state") != `"><script>` || fields.Get("iss") != op.Issuer {
		t.Errorf("form_post fields %v", fields)
	}
	if a := b.post(authentiqtest.Token, b.exchange(fields.Get("code"))); a.StatusCode != http.StatusOK {
		t.Errorf("form_post code: %d %s", a.StatusCode, a.body)
	}
}
