// SPDX-FileCopyrightText: 2026 The caddy-authentiq authors
// SPDX-License-Identifier: Apache-2.0

// This file tests scopes beside Authentiq's own, and access tokens that an API can read.

package authentiqtest_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/authentiq/caddy-authentiq/authentiqtest"
)

func TestScopesOfAnotherProvidersAreConsentedToAndShared(t *testing.T) {
	users := authentiqtest.DemoUsers()
	users[0].Claims["employee_number"], users[0].Claims["team"] = "4711", "ops"
	op := newServer(t, authentiqtest.Config{Users: users, Scopes: map[string][]string{"staff": {"employee_number"}}})
	b := newBrowser(t, op)
	page := b.get(authentiqtest.Authorize, b.ask("scope", "aq:name staff"))
	if !isPage(page) || !strings.Contains(page.body, "your employee_number") {
		t.Fatalf("the page: %.900s", page.body)
	}
	without := payload(t, b.post(authentiqtest.Token, b.exchange(b.back(b.press(page, "allow", authentiqtest.Alice, "aq:name")).Get("code"))).json(t)["id_token"].(string))
	absent(t, without, "employee_number")
	equal(t, without, "team", "ops") // belongs to no scope
	op.SignInAs(authentiqtest.Alice)
	equal(t, newBrowser(t, op).claims("scope", "staff"), "employee_number", "4711")
	absent(t, newBrowser(t, op).claims("scope", "aq:name"), "employee_number")
	for _, name := range []string{"email", "openid"} {
		if s, err := authentiqtest.NewServer(authentiqtest.Config{Scopes: map[string][]string{name: {"x"}}}); err == nil {
			s.Close()
			t.Errorf("%s can be changed", name)
		}
	}
}

func TestAccessTokensThatAnAPICanRead(t *testing.T) {
	op := newServer(t, authentiqtest.Config{JWTAccessTokens: true})
	op.SignInAs(authentiqtest.Alice)
	b := newBrowser(t, op)
	code := b.back(b.get(authentiqtest.Authorize, b.ask())).Get("code")
	token := b.post(authentiqtest.Token, b.exchange(code)).json(t)["access_token"].(string)
	if len(token) < 1500 {
		t.Errorf("%d bytes", len(token))
	}
	equal(t, payload(t, token), "sub", authentiqtest.Alice)
	req, err := http.NewRequest(http.MethodGet, op.EndpointURL(authentiqtest.Userinfo), nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+token)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Errorf("userinfo: %d", resp.StatusCode)
	}
}
