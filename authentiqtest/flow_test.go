// SPDX-FileCopyrightText: 2026 The caddy-authentiq authors
// SPDX-License-Identifier: Apache-2.0

// This file walks the authorization code flow: what comes back to the client, and what is refused on the way.

package authentiqtest_test

import (
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/authentiq/caddy-authentiq/authentiqtest"
)

// clock is a time that the test moves.
type clock struct{ offset atomic.Int64 }

func (c *clock) now() time.Time {
	return time.Date(2026, 3, 14, 12, 0, 0, 0, time.UTC).Add(time.Duration(c.offset.Load()))
}
func (c *clock) advance(d time.Duration) { c.offset.Add(int64(d)) }

func TestWholeFlow(t *testing.T) {
	var c clock
	op := newServer(t, authentiqtest.Config{Now: c.now})
	op.SignInAs(authentiqtest.Alice)
	b := newBrowser(t, op)

	q := b.back(b.get(authentiqtest.Authorize, b.ask("acr_values", "gold silver")))
	for name, want := range map[string]string{"state": "the state", "iss": op.Issuer, "app": "1"} {
		if got := q.Get(name); got != want {
			t.Errorf("%s = %q, want %q", name, got, want)
		}
	}
	a := b.post(authentiqtest.Token, b.exchange(q.Get("code")))
	if a.StatusCode != http.StatusOK || a.Header.Get("Cache-Control") != "no-store" {
		t.Fatalf("token: %d, Cache-Control %q: %s", a.StatusCode, a.Header.Get("Cache-Control"), a.body)
	}
	tokens := a.json(t)
	equal(t, tokens, "token_type", "Bearer")
	equal(t, tokens, "expires_in", 600.0)
	equal(t, tokens, "expires_at", float64(c.now().Unix()+600))
	equal(t, tokens, "scope", "openid aq:name email address")
	absent(t, tokens, "refresh_token")

	access := tokens["access_token"].(string)
	sum := sha256.Sum256([]byte(access))
	claims := payload(t, tokens["id_token"].(string))
	now := float64(c.now().Unix())
	for name, want := range map[string]any{
		"iss": op.Issuer, "sub": authentiqtest.Alice, "aud": op.ClientID(), "iat": now, "exp": now + 300, "auth_time": now,
		"nonce": "the nonce", "acr": "gold", "at_hash": base64.RawURLEncoding.EncodeToString(sum[:16]),
		"scope": "openid aq:name email address", "name": "Alice Jane Whitfield", "email_verified": true,
		"locale": "en_US", "zoneinfo": "America/New_York",
	} {
		equal(t, claims, name, want)
	}
	for _, name := range []string{"sid", "jti"} {
		if text, _ := claims[name].(string); len(text) < 20 {
			t.Errorf("%s = %v", name, claims[name])
		}
	}
	absent(t, claims, "phone_number", "aq:location", "preferred_username")
	if address := claims["address"].(map[string]any); !strings.Contains(address["formatted"].(string), "\n") || address["state"] != "Maine" {
		t.Errorf("address %v", address)
	}

	for _, get := range []func() answer{
		func() answer {
			req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, op.EndpointURL(authentiqtest.Userinfo), nil)
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("Authorization", "bearer "+access)
			return b.do(req)
		},
		func() answer { return b.post(authentiqtest.Userinfo, nil, "Authorization", "Bearer "+access) },
		func() answer { return b.post(authentiqtest.Userinfo, url.Values{"access_token": {access}}) },
	} {
		info := get().json(t)
		equal(t, info, "sub", authentiqtest.Alice)
		equal(t, info, "email", "alice@example.com")
		absent(t, info, "iss", "sid", "phone_number")
	}
}

func TestEveryScopeSharesItsClaims(t *testing.T) {
	op := newServer(t, authentiqtest.Config{Users: []authentiqtest.User{{
		ID:     "someone",
		Claims: withClaims(authentiqtest.DemoUsers()[0].Claims, "groups", []string{"staff"}, "sub", "forged", "exp", 1),
	}}})
	op.SignInAs("someone")
	always := []string{"groups", "locale", "zoneinfo"}
	names := []string{"name", "family_name", "given_name", "middle_name", "nickname"}
	tests := map[string][]string{
		"openid":      nil,
		"unknown":     nil,
		"aq:push":     nil,
		"profile":     append(slices.Clone(names), "preferred_username"),
		"email~s":     {"email", "email_verified"},
		"phone~sr":    {"phone_number", "phone_number_verified", "phone_type"},
		"address":     {"address"},
		"aq:name":     names,
		"aq:location": {"aq:location"},
		"aq:username": {"preferred_username"},
		"aq:locale":   nil,
		"aq:zoneinfo": nil,
	}
	protocol := []string{"iss", "sub", "aud", "exp", "iat", "auth_time", "nonce", "sid", "at_hash", "jti", "scope"}
	for scope, want := range tests {
		t.Run(scope, func(t *testing.T) {
			claims := newBrowser(t, op).claims("scope", scope)
			equal(t, claims, "sub", "someone")
			var got []string
			for name := range claims {
				if !slices.Contains(protocol, name) {
					got = append(got, name)
				}
			}
			want := append(slices.Clone(want), always...)
			slices.Sort(got)
			slices.Sort(want)
			if !slices.Equal(got, want) {
				t.Errorf("got  %v\nwant %v", got, want)
			}
		})
	}
}

func withClaims(claims map[string]any, change ...any) map[string]any {
	for i := 0; i < len(change); i += 2 {
		claims[change[i].(string)] = change[i+1]
	}
	return claims
}

func TestUserLeavesOutWhatIsOptional(t *testing.T) {
	op := newServer(t, authentiqtest.Config{})
	op.SignInAs(authentiqtest.Bob, "aq:name", "email~r") // email is required, and stays
	claims := newBrowser(t, op).claims()
	equal(t, claims, "scope", "openid email address")
	equal(t, claims, "email_verified", false)
	equal(t, claims, "locale", "da-DK")
	absent(t, claims, "name", "given_name")
}

func TestUnknownClientOrRedirectURINeverRedirects(t *testing.T) {
	listed := newServer(t, authentiqtest.Config{RedirectURIs: []string{"https://app.example.com/callback"}})
	open := newServer(t, authentiqtest.Config{})
	tests := map[string]struct {
		op     *authentiqtest.Server
		change []string
	}{
		"no client":             {open, []string{"client_id", ""}},
		"another client":        {open, []string{"client_id", "other"}},
		"no redirect URI":       {open, []string{"redirect_uri", ""}},
		"relative":              {open, []string{"redirect_uri", "/callback"}},
		"another scheme":        {open, []string{"redirect_uri", "ftp://localhost/"}},
		"not on loopback":       {open, []string{"redirect_uri", "https://example.com/"}},
		"loopback in the name":  {open, []string{"redirect_uri", "https://localhost.example.com/"}},
		"loopback as user":      {open, []string{"redirect_uri", "https://localhost@example.com/"}},
		"user on loopback":      {open, []string{"redirect_uri", "https://me@localhost/"}},
		"with a fragment":       {open, []string{"redirect_uri", "https://localhost/#"}},
		"loopback, but a list":  {listed, []string{"redirect_uri", "http://localhost/callback"}},
		"not by the character":  {listed, []string{"redirect_uri", "https://app.example.com/callback/"}},
		"not by the upper case": {listed, []string{"redirect_uri", "https://APP.example.com/callback"}},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			b := newBrowser(t, tc.op)
			a := b.get(authentiqtest.Authorize, b.ask(tc.change...))
			if a.StatusCode != http.StatusBadRequest || a.Header.Get("Location") != "" || !strings.Contains(a.body, "<h1>") {
				t.Errorf("%d, Location %q", a.StatusCode, a.Header.Get("Location"))
			}
		})
	}
	t.Run("two redirect URIs", func(t *testing.T) {
		b := newBrowser(t, open)
		q := b.ask()
		q.Add("redirect_uri", callback)
		if a := b.get(authentiqtest.Authorize, q); a.StatusCode != http.StatusBadRequest {
			t.Errorf("%d", a.StatusCode)
		}
	})
	for _, uri := range []string{"http://127.3.2.1:80/x", "https://[::1]:1/", "http://localhost", "http://App.LOCALHOST/"} {
		t.Run(uri, func(t *testing.T) {
			b := newBrowser(t, open)
			if a := b.get(authentiqtest.Authorize, b.ask("redirect_uri", uri)); a.StatusCode != http.StatusOK {
				t.Errorf("%d: %s", a.StatusCode, a.body)
			}
		})
	}
}

func TestErrorsGoBackToTheClient(t *testing.T) {
	op := newServer(t, authentiqtest.Config{})
	b := newBrowser(t, op)
	tests := map[string]struct {
		change []string
		want   string
	}{
		"no response type":         {[]string{"response_type", ""}, "invalid_request"},
		"implicit flow":            {[]string{"response_type", "id_token"}, "unsupported_response_type"},
		"unknown response mode":    {[]string{"response_mode", "web_message"}, "invalid_request"},
		"plain PKCE":               {[]string{"code_challenge_method", "plain"}, "invalid_request"},
		"PKCE method left out":     {[]string{"code_challenge_method", ""}, "invalid_request"},
		"PKCE challenge left out":  {[]string{"code_challenge", ""}, "invalid_request"},
		"PKCE challenge too short": {[]string{"code_challenge", "abc"}, "invalid_request"},
		"unknown prompt":           {[]string{"prompt", "dance"}, "invalid_request"},
		"none and login":           {[]string{"prompt", "none login"}, "invalid_request"},
		"max_age isn't a number":   {[]string{"max_age", "-1"}, "invalid_request"},
		"unknown mark":             {[]string{"scope", "email~x"}, "invalid_scope"},
		"empty mark":               {[]string{"scope", "email~"}, "invalid_scope"},
		"request object":           {[]string{"request", "e30.e30."}, "request_not_supported"},
		"request URI":              {[]string{"request_uri", "https://example.com"}, "request_uri_not_supported"},
		"silent without session":   {[]string{"prompt", "none"}, "login_required"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			for _, a := range []answer{
				b.get(authentiqtest.Authorize, b.ask(tc.change...)),
				b.post(authentiqtest.Authorize, b.ask(tc.change...)),
			} {
				q := b.back(a)
				if q.Get("error") != tc.want || q.Get("state") != "the state" || q.Get("iss") != op.Issuer || q.Has("code") {
					t.Errorf("got %v, want error %s", q, tc.want)
				}
			}
		})
	}
	t.Run("a parameter twice", func(t *testing.T) {
		q := b.ask()
		q.Add("nonce", "another")
		if got := b.back(b.get(authentiqtest.Authorize, q)); got.Get("error") != "invalid_request" {
			t.Errorf("%v", got)
		}
	})
	t.Run("no state, none back", func(t *testing.T) {
		if got := b.back(b.get(authentiqtest.Authorize, b.ask("prompt", "none", "state", ""))); got.Has("state") {
			t.Errorf("%v", got)
		}
	})
}

func TestTokenEndpointRefuses(t *testing.T) {
	op := newServer(t, authentiqtest.Config{})
	op.SignInAs(authentiqtest.Alice)
	b := newBrowser(t, op)
	basic := func(id, secret string) []string {
		return []string{"Authorization", "Basic " + base64.StdEncoding.EncodeToString([]byte(id+":"+secret))}
	}
	tests := map[string]struct {
		ask, change, header []string
		status              int
		want                string
	}{
		"wrong verifier":             {nil, []string{"code_verifier", strings.Repeat("x", 43)}, nil, 400, "invalid_grant"},
		"no verifier":                {nil, []string{"code_verifier", ""}, nil, 400, "invalid_grant"},
		"verifier without challenge": {[]string{"code_challenge", "", "code_challenge_method", ""}, nil, nil, 400, "invalid_grant"},
		"another redirect URI":       {nil, []string{"redirect_uri", "http://localhost/"}, nil, 400, "invalid_grant"},
		"no redirect URI":            {nil, []string{"redirect_uri", ""}, nil, 400, "invalid_grant"},
		"unknown code":               {nil, []string{"code", "x"}, nil, 400, "invalid_grant"},
		"no code":                    {nil, []string{"code", ""}, nil, 400, "invalid_grant"},
		"no grant type":              {nil, []string{"grant_type", ""}, nil, 400, "invalid_request"},
		"password grant":             {nil, []string{"grant_type", "password"}, nil, 400, "unsupported_grant_type"},
		"refresh, but not turned on": {nil, []string{"grant_type", "refresh_token"}, nil, 400, "unsupported_grant_type"},
		"wrong secret":               {nil, []string{"client_secret", "x"}, nil, 401, "invalid_client"},
		"no secret":                  {nil, []string{"client_secret", ""}, nil, 401, "invalid_client"},
		"another client":             {nil, []string{"client_id", "x"}, nil, 401, "invalid_client"},
		"wrong secret by basic":      {nil, []string{"client_secret", "", "client_id", ""}, basic(op.ClientID(), "x"), 401, "invalid_client"},
		"another client by basic":    {nil, []string{"client_secret", "", "client_id", ""}, basic("x", op.ClientSecret()), 401, "invalid_client"},
		"two clients":                {nil, []string{"client_secret", "", "client_id", "x"}, basic(op.ClientID(), op.ClientSecret()), 401, "invalid_client"},
		"basic that isn't encoded":   {nil, []string{"client_secret", "", "client_id", ""}, basic(op.ClientID(), "%zz"), 401, "invalid_client"},
		"two ways at once":           {nil, nil, basic(op.ClientID(), op.ClientSecret()), 400, "invalid_request"},
		"another scheme":             {nil, []string{"client_secret", ""}, []string{"Authorization", "Bearer x"}, 401, "invalid_client"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			a := b.post(authentiqtest.Token, b.exchange(b.code(tc.ask...), tc.change...), tc.header...)
			if got := a.json(t)["error"]; a.StatusCode != tc.status || got != tc.want {
				t.Errorf("%d %v, want %d %s", a.StatusCode, got, tc.status, tc.want)
			}
			if a.Header.Get("Cache-Control") != "no-store" || (a.StatusCode == 401) != (a.Header.Get("WWW-Authenticate") != "") {
				t.Errorf("headers %v", a.Header)
			}
		})
	}
	t.Run("code in the URL", func(t *testing.T) {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost,
			op.EndpointURL(authentiqtest.Token)+"?"+b.exchange(b.code()).Encode(), nil)
		if err != nil {
			t.Fatal(err)
		}
		if a := b.do(req); a.StatusCode != http.StatusUnauthorized {
			t.Errorf("%d", a.StatusCode)
		}
	})
}

func TestClientSecretBasicIsFormDecoded(t *testing.T) {
	const id, secret = "client: 1", "s%c+r e:t&=/ü"
	op := newServer(t, authentiqtest.Config{ClientID: id, ClientSecret: secret})
	op.SignInAs(authentiqtest.Alice)
	b := newBrowser(t, op)
	credentials := url.QueryEscape(id) + ":" + url.QueryEscape(secret)
	a := b.post(authentiqtest.Token, b.exchange(b.code(), "client_id", "", "client_secret", ""),
		"Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte(credentials)))
	if a.StatusCode != http.StatusOK {
		t.Errorf("%d: %s", a.StatusCode, a.body)
	}
}

func TestCodeWorksOnceAndReuseTakesTheTokensBack(t *testing.T) {
	op := newServer(t, authentiqtest.Config{})
	op.SignInAs(authentiqtest.Alice)
	b := newBrowser(t, op)
	code := b.code()
	access := b.post(authentiqtest.Token, b.exchange(code)).json(t)["access_token"].(string)
	if a := b.post(authentiqtest.Userinfo, url.Values{"access_token": {access}}); a.StatusCode != http.StatusOK {
		t.Fatalf("userinfo: %d", a.StatusCode)
	}
	if a := b.post(authentiqtest.Token, b.exchange(code)); a.json(t)["error"] != "invalid_grant" {
		t.Errorf("second use: %d %s", a.StatusCode, a.body)
	}
	if a := b.post(authentiqtest.Userinfo, url.Values{"access_token": {access}}); a.StatusCode != http.StatusUnauthorized {
		t.Errorf("userinfo after the second use: %d", a.StatusCode)
	}
}

func TestAWrongVerifierUsesTheCodeUp(t *testing.T) {
	op := newServer(t, authentiqtest.Config{})
	op.SignInAs(authentiqtest.Alice)
	b := newBrowser(t, op)
	code := b.code()
	for _, v := range []string{strings.Repeat("x", 50), verifier} {
		if a := b.post(authentiqtest.Token, b.exchange(code, "code_verifier", v)); a.json(t)["error"] != "invalid_grant" {
			t.Errorf("%s: %d %s", v, a.StatusCode, a.body)
		}
	}
}

func TestThingsExpire(t *testing.T) {
	var c clock
	op := newServer(t, authentiqtest.Config{Now: c.now})
	op.SignInAs(authentiqtest.Alice)
	b := newBrowser(t, op)

	fresh, stale := b.code(), b.code()
	c.advance(59 * time.Second)
	a := b.post(authentiqtest.Token, b.exchange(fresh))
	access := a.json(t)["access_token"].(string)
	c.advance(time.Second)
	if a := b.post(authentiqtest.Token, b.exchange(stale)); a.json(t)["error"] != "invalid_grant" {
		t.Errorf("a code of 60 s: %d", a.StatusCode)
	}
	c.advance(10 * time.Minute)
	a = b.post(authentiqtest.Userinfo, url.Values{"access_token": {access}})
	if a.StatusCode != http.StatusUnauthorized || a.Header.Get("WWW-Authenticate") != `Bearer error="invalid_token"` {
		t.Errorf("an old access token: %d, %q", a.StatusCode, a.Header.Get("WWW-Authenticate"))
	}

	op.SignInAs("")
	id := form(t, b.get(authentiqtest.Authorize, b.ask("prompt", "login")))
	c.advance(10 * time.Minute)
	a = b.post(authentiqtest.Authorize, url.Values{"request": {id}, "user": {authentiqtest.Alice}, "action": {"allow"}})
	if a.StatusCode != http.StatusBadRequest {
		t.Errorf("an old page: %d", a.StatusCode)
	}
	c.advance(24 * time.Hour)
	if q := b.back(b.get(authentiqtest.Authorize, b.ask("prompt", "none"))); q.Get("error") != "login_required" {
		t.Errorf("an old session: %v", q)
	}
}

func TestPublicClient(t *testing.T) {
	op := newServer(t, authentiqtest.Config{PublicClient: true})
	op.SignInAs(authentiqtest.Alice)
	b := newBrowser(t, op)
	if op.ClientSecret() != "" {
		t.Error("it has a secret")
	}
	if got := part(t, b.tokens()["id_token"].(string), 0)["alg"]; got != "RS256" {
		t.Errorf("alg %v", got)
	}
	if q := b.back(b.get(authentiqtest.Authorize, b.ask("code_challenge", "", "code_challenge_method", ""))); q.Get("error") != "invalid_request" {
		t.Errorf("without PKCE: %v", q)
	}
	if a := b.post(authentiqtest.Token, b.exchange(b.code(), "client_secret", "x")); a.StatusCode != http.StatusUnauthorized {
		t.Errorf("with a secret: %d", a.StatusCode)
	}
	if err := op.SetSigningAlg("HS512"); err == nil {
		t.Error("HS512 without a secret")
	}
	doc := b.get(authentiqtest.Discovery, nil).json(t)
	if got := doc["token_endpoint_auth_methods_supported"].([]any); len(got) != 1 || got[0] != "none" {
		t.Errorf("client authentication %v", got)
	}
}

func TestRefreshTokens(t *testing.T) {
	op := newServer(t, authentiqtest.Config{RefreshTokens: true})
	op.SignInAs(authentiqtest.Alice)
	b := newBrowser(t, op)
	refresh := func(token string) answer {
		return b.post(authentiqtest.Token, b.exchange("", "grant_type", "refresh_token", "refresh_token", token,
			"redirect_uri", "", "code_verifier", ""))
	}
	first := b.tokens()
	before := payload(t, first["id_token"].(string))

	second := refresh(first["refresh_token"].(string)).json(t)
	after := payload(t, second["id_token"].(string))
	for _, name := range []string{"sub", "sid", "auth_time", "email"} {
		equal(t, after, name, before[name])
	}
	absent(t, after, "nonce")
	if got := refresh(first["refresh_token"].(string)).json(t)["error"]; got != "invalid_grant" {
		t.Errorf("used: %v", got)
	}
	b.get(authentiqtest.EndSession, nil)
	if got := refresh(second["refresh_token"].(string)).json(t)["error"]; got != "invalid_grant" {
		t.Errorf("after sign-out: %v", got)
	}
}

func TestARevokedTokenIsNoGoodAnyMore(t *testing.T) {
	op := newServer(t, authentiqtest.Config{RefreshTokens: true})
	op.SignInAs(authentiqtest.Alice)
	b := newBrowser(t, op)
	client := func(change ...string) url.Values {
		return with(url.Values{"client_id": {op.ClientID()}, "client_secret": {op.ClientSecret()}}, change...)
	}
	revoke := func(change ...string) int { return b.post(authentiqtest.Revocation, client(change...)).StatusCode }
	refresh := func(token string) map[string]any {
		return b.post(authentiqtest.Token, client("grant_type", "refresh_token", "refresh_token", token)).json(t)
	}
	tokens := b.tokens()
	token, access := tokens["refresh_token"].(string), tokens["access_token"].(string)
	for name, tc := range map[string]struct {
		change []string
		status int
	}{
		"no token":       {nil, http.StatusBadRequest},
		"a wrong secret": {[]string{"token", token, "client_secret", "x"}, http.StatusUnauthorized},
		"no client":      {[]string{"token", token, "client_id", ""}, http.StatusUnauthorized},
		"unknown":        {[]string{"token", "x"}, http.StatusOK},
	} {
		if status := revoke(tc.change...); status != tc.status {
			t.Errorf("%s: %d, want %d", name, status, tc.status)
		}
	}
	if got := op.Revoked(); len(got) != 0 {
		t.Fatalf("revoked %q", got)
	}
	next := refresh(token)["refresh_token"].(string)
	if status := revoke("token", token); status != http.StatusOK { // it is used, so there is nothing to revoke
		t.Errorf("%d", status)
	}
	for _, good := range []string{next, access} {
		if status := revoke("token", good, "token_type_hint", "made_up"); status != http.StatusOK {
			t.Errorf("%d", status)
		}
	}
	if got := refresh(next)["error"]; got != "invalid_grant" {
		t.Errorf("a revoked refresh token: %v", got)
	}
	if a := b.post(authentiqtest.Userinfo, url.Values{"access_token": {access}}); a.StatusCode != http.StatusUnauthorized {
		t.Errorf("a revoked access token: %d", a.StatusCode)
	}
	if got := op.Revoked(); len(got) != 2 || got[0] != next || got[1] != access {
		t.Errorf("revoked %q", got)
	}
}

func TestUserinfoNeedsAToken(t *testing.T) {
	op := newServer(t, authentiqtest.Config{})
	b := newBrowser(t, op)
	if a := b.get(authentiqtest.Userinfo, nil); a.StatusCode != http.StatusUnauthorized || a.Header.Get("WWW-Authenticate") != "Bearer" {
		t.Errorf("none: %d %q", a.StatusCode, a.Header.Get("WWW-Authenticate"))
	}
	if a := b.post(authentiqtest.Userinfo, nil, "Authorization", "Basic x"); a.StatusCode != http.StatusUnauthorized {
		t.Errorf("basic: %d", a.StatusCode)
	}
	if a := b.get(authentiqtest.Userinfo, url.Values{"access_token": {"x"}}); a.Header.Get("WWW-Authenticate") != "Bearer" {
		t.Errorf("in the URL: %d %q", a.StatusCode, a.Header.Get("WWW-Authenticate"))
	}
	if a := b.post(authentiqtest.Userinfo, url.Values{"access_token": {"x"}}, "Authorization", "Bearer x"); a.StatusCode != http.StatusBadRequest {
		t.Errorf("twice: %d", a.StatusCode)
	}
}

func TestUsersMayChange(t *testing.T) {
	op := newServer(t, authentiqtest.Config{})
	op.SignInAs(authentiqtest.Alice)
	b := newBrowser(t, op)
	code, access := b.code(), b.tokens()["access_token"].(string)

	claims := map[string]any{"email": "new@example.com"}
	if err := op.SetUsers([]authentiqtest.User{{ID: authentiqtest.Alice, Claims: claims}}); err != nil {
		t.Fatal(err)
	}
	claims["email"] = "later@example.com" // too late
	info := b.post(authentiqtest.Userinfo, url.Values{"access_token": {access}}).json(t)
	equal(t, info, "email", "new@example.com")

	if err := op.SetUsers([]authentiqtest.User{{ID: "else"}}); err != nil {
		t.Fatal(err)
	}
	if a := b.post(authentiqtest.Token, b.exchange(code)); a.json(t)["error"] != "invalid_grant" {
		t.Errorf("the code of someone gone: %d", a.StatusCode)
	}
	if a := b.post(authentiqtest.Userinfo, url.Values{"access_token": {access}}); a.StatusCode != http.StatusUnauthorized {
		t.Errorf("the access token of someone gone: %d", a.StatusCode)
	}
	if a := b.get(authentiqtest.Authorize, b.ask()); a.StatusCode != http.StatusInternalServerError || !strings.Contains(a.body, "SignInAs") {
		t.Errorf("SignInAs someone gone: %d %s", a.StatusCode, a.body)
	}
	if err := op.SetUsers([]authentiqtest.User{{}}); err == nil {
		t.Error("a user without ID")
	}
}

func TestAnIDTokenBesideTheCodeVouchesForIt(t *testing.T) {
	op := newServer(t, authentiqtest.Config{SigningAlg: "RS256"})
	op.SignInAs(authentiqtest.Alice)
	b := newBrowser(t, op)
	back := func(change ...string) url.Values {
		t.Helper()
		a := b.get(authentiqtest.Authorize, b.ask(change...))
		at, fragment, _ := strings.Cut(a.Header.Get("Location"), "#")
		q, err := url.ParseQuery(fragment)
		if err != nil || at != callback {
			t.Fatalf("%d %q: %v", a.StatusCode, a.Header.Get("Location"), err)
		}
		return q
	}
	for _, types := range []string{"code id_token", "id_token code"} {
		q := back("response_type", types)
		front := payload(t, q.Get("id_token"))
		sum := sha256.Sum256([]byte(q.Get("code")))
		equal(t, front, "c_hash", base64.RawURLEncoding.EncodeToString(sum[:16]))
		absent(t, front, "at_hash")
		again := payload(t, b.post(authentiqtest.Token, b.exchange(q.Get("code"))).json(t)["id_token"].(string))
		absent(t, again, "c_hash")
		for _, name := range []string{"iss", "sub", "aud", "nonce", "sid", "email"} {
			equal(t, again, name, front[name])
		}
		equal(t, front, "nonce", "the nonce")
		if front["jti"] == again["jti"] {
			t.Error("it is the same token")
		}
	}
	for name, change := range map[string][]string{
		"without a nonce": {"response_type", "code id_token", "nonce", ""},
		"in the query":    {"response_type", "code id_token", "response_mode", "query"},
	} {
		if q := back(change...); q.Get("error") != "invalid_request" || q.Get("state") != "the state" || q.Has("id_token") || q.Has("code") {
			t.Errorf("%s: %v", name, q)
		}
	}
}
