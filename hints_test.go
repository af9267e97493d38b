// SPDX-License-Identifier: Apache-2.0

package authentiq

// hints_test.go: the provider is told who is likely to sign in, by nobody but that
// person's own browser, and what it makes of that never decides who comes in.

import (
	"encoding/base64"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/authentiq/caddy-authentiq/authentiqtest"
	"github.com/authentiq/caddy-authentiq/internal/claims"
	"github.com/authentiq/caddy-authentiq/internal/testrig"
)

const aliceAddress = "alice@example.com"

// sentWith begins a sign-in at an address, and returns what the provider is asked.
func (b *browser) sentWith(s *street, address string, header ...string) url.Values {
	b.T.Helper()
	a := b.Step(address, header...)
	if a.StatusCode != http.StatusSeeOther || !strings.HasPrefix(a.Header.Get("Location"), s.Issuer) {
		b.T.Fatalf("%s leads to %d %q", address, a.StatusCode, a.Header.Get("Location"))
	}
	q := flowQueryOf(b.T, a.Header.Get("Location"))
	for name, values := range q {
		if len(values) != 1 {
			b.T.Errorf("%s is there %d times", name, len(values))
		}
	}
	return q
}

// hinted fails the test unless exactly this hint goes to the provider; "" is none.
func (b *browser) hinted(s *street, address, want string) {
	b.T.Helper()
	q := b.sentWith(s, address)
	if q.Get("login_hint") != want || q.Has("login_hint") != (want != "") || q.Has("id_token_hint") {
		b.T.Errorf("%s: the provider is asked with %q, want the hint %q alone", address, q, want)
	}
}

// without takes cookies away, as a browser does when their time is over.
func (b *browser) without(s *street, fits func(name string) bool) {
	b.T.Helper()
	for _, path := range []string{"/", "/authentiq/x"} {
		u, err := url.Parse(s.URL(path))
		if err != nil {
			b.T.Fatal(err)
		}
		for _, c := range ourCookies(b, s.URL(path)) {
			if fits(c.Name) {
				for _, at := range []string{"/", "/authentiq"} {
					b.Client.Jar.SetCookies(u, []*http.Cookie{{Name: c.Name, Path: at, MaxAge: -1}})
				}
			}
		}
	}
}

// who is the cookie that says who it was.
func who(b *browser, s *street) *http.Cookie {
	for _, c := range b.Cookies(s.URL("/")) {
		if c.Name == plainCookie+whoSuffix {
			return c
		}
	}
	return nil
}

func TestWhoseSessionHasEndedIsNamedAtTheNextSignIn(t *testing.T) {
	for name, end := range map[string]func(t *testing.T, s *street, clock *both, b *browser){
		"its lifetime is over": func(t *testing.T, s *street, clock *both, b *browser) { s.pass(clock, 12*time.Hour) },
		"the browser has dropped it": func(t *testing.T, s *street, clock *both, b *browser) {
			s.pass(clock, 29*24*time.Hour)
			b.without(s, testrig.SessionName.MatchString)
		},
		"its user was away":       func(t *testing.T, s *street, clock *both, b *browser) { s.pass(clock, 2*time.Hour) },
		"signed out from afar":    func(t *testing.T, s *street, clock *both, b *browser) { s.ends(s.LogoutToken("", b.sid(s))) },
		"his phone, all sessions": func(t *testing.T, s *street, clock *both, b *browser) { s.ends(s.LogoutToken(authentiqtest.Alice, "")) },
		"the provider no longer vouches for it": func(t *testing.T, s *street, clock *both, b *browser) {
			s.Provider.SetHooks(authentiqtest.Hooks{Handler: tokenError(400, `{"error":"invalid_grant"}`)})
			s.pass(clock, 10*time.Minute)
		},
	} {
		t.Run(name, func(t *testing.T) {
			s, clock := refreshing(t, "")
			s.pass(clock, 0)
			b := s.signedIn()
			end(t, s, clock, b)
			b.hinted(s, s.URL("/deep?x=1"), aliceAddress)
			s.Provider.SetHooks(authentiqtest.Hooks{})
			b.hinted(s, s.URL("/authentiq/sign-in?return_to=/deep"), aliceAddress)
			s.pass(clock, 2*time.Second) // what begins in the second of a logout token ends with it
			if sub := b.Get(s.URL("/deep")).Seen(t).Value(t, "X-Authentiq-Subject"); sub != authentiqtest.Alice {
				t.Errorf("%q came in", sub)
			}
		})
	}
}

func TestNobodyIsNamedWhoIsNotLikelyToSignIn(t *testing.T) {
	end := func(s *street, clock *both) { s.pass(clock, 2*time.Hour) }
	for _, test := range []struct {
		name, options string
		before        func(s *street, clock *both, b *browser)
		path          string
		query         url.Values // what is asked
	}{
		{"nobody was here", "", func(s *street, _ *both, b *browser) { b.without(s, func(string) bool { return true }) }, "/", nil},
		{"he has signed out", "", func(s *street, _ *both, b *browser) { b.Post(s.URL("/authentiq/sign-out")) }, "/", nil},
		{"he has signed out after his session ended", "", func(s *street, clock *both, b *browser) {
			end(s, clock)
			b.Step(s.URL("/"))
			b.Post(s.URL("/authentiq/sign-out"))
		}, "/", nil},
		{"he has signed out at the provider, in this browser", "", func(s *street, _ *both, b *browser) {
			b.framed(s, url.Values{"iss": {s.Issuer}, "sid": {b.sid(s)}})
		}, "/", nil},
		{"it was too long ago", "", func(s *street, clock *both, b *browser) { s.pass(clock, 12*time.Hour+whoAfter) }, "/", nil},
		{"somebody else wants to", "", func(s *street, clock *both, b *browser) { end(s, clock) }, "/authentiq/sign-in?again=other", url.Values{"prompt": {"login"}}},
		{"somebody else wanted to, and has gone", "", func(s *street, clock *both, b *browser) {
			end(s, clock)
			b.Step(s.URL("/authentiq/sign-in?again=other"))
		}, "/", nil},
		{"an account is to be chosen", "auth_param prompt select_account", func(s *street, clock *both, b *browser) { end(s, clock) }, "/", url.Values{"prompt": {"select_account"}}},
		{"a link has one chosen", "allow_param prompt", func(s *street, clock *both, b *browser) { end(s, clock) }, "/authentiq/sign-in?prompt=consent+select_account", url.Values{"prompt": {"consent select_account"}}},
		{"it is turned off", "login_hint off", func(s *street, clock *both, b *browser) { end(s, clock) }, "/", nil},
		{"it was turned off since", "", func(s *street, clock *both, b *browser) {
			s.Load(testrig.GateBlock("login_hint off"))
			s.pass(clock, 2*time.Hour)
		}, "/", nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			s, clock := signedOutStreet(t, test.options)
			b := s.signedIn()
			if kept := who(b, s) != nil; kept != (test.options != "login_hint off") {
				t.Errorf("it is remembered: %t", kept)
			}
			test.before(s, clock, b)
			q := b.sentWith(s, s.URL(test.path))
			if q.Has("login_hint") || q.Has("id_token_hint") {
				t.Errorf("the provider is asked with %q", q)
			}
			for name, values := range test.query {
				if !slices.Equal(q[name], values) {
					t.Errorf("%s is %q, want %q", name, q[name], values)
				}
			}
		})
	}
}

func TestWhoIsNamedOtherwiseIsWhoIsMeant(t *testing.T) {
	for name, test := range map[string]struct{ options, path, want string }{
		"by the configuration":           {"auth_param login_hint bob@example.net", "/", "bob@example.net"},
		"by a link that may":             {"allow_param login_hint", "/authentiq/sign-in?login_hint=bob@example.net", "bob@example.net"},
		"by a link that may, and is not": {"allow_param login_hint", "/authentiq/sign-in", aliceAddress},
		"by a link that may not":         {"", "/authentiq/sign-in?login_hint=bob@example.net", aliceAddress},
		"by a link that may, twice":      {"allow_param login_hint", "/authentiq/sign-in?login_hint=bob@example.net&login_hint=x", aliceAddress},
	} {
		t.Run(name, func(t *testing.T) {
			s, clock := signedOutStreet(t, test.options)
			b := s.signedIn()
			s.pass(clock, 2*time.Hour)
			b.hinted(s, s.URL(test.path), test.want)
		})
	}
}

func TestTheHintIsWhatTheProviderIsSureOf(t *testing.T) {
	for name, test := range map[string]struct {
		claims          claims.Claims
		authentiq, oidc string
	}{
		"a verified address":                         {claims.Claims{"sub": "1", "email": "a@b.c", "email_verified": true, "preferred_username": "a"}, "a@b.c", "a@b.c"},
		"an address that may be somebody else's":     {claims.Claims{"sub": "1", "email": "a@b.c", "email_verified": false, "preferred_username": "a"}, "1", "a"},
		"an address that is verified in other words": {claims.Claims{"sub": "1", "email": "a@b.c", "email_verified": "true"}, "1", ""},
		"no address":                     {claims.Claims{"sub": "1"}, "1", ""},
		"an address of another kind":     {claims.Claims{"sub": "1", "email": []any{"a@b.c"}, "email_verified": true}, "1", ""},
		"a line break in it":             {claims.Claims{"sub": "1", "email": "a@b.c\r\nx", "email_verified": true}, "", ""},
		"more than an address can be":    {claims.Claims{"sub": "1", "email": strings.Repeat("a", maxWho) + "@", "email_verified": true}, "", ""},
		"exactly as much as that can be": {claims.Claims{"sub": "1", "email": strings.Repeat("a", maxWho), "email_verified": true}, strings.Repeat("a", maxWho), strings.Repeat("a", maxWho)},
	} {
		for dialect, want := range map[string]string{dialectAuthentiq: test.authentiq, dialectOIDC: test.oidc} {
			if got := newTestGate(t, options{"dialect": dialect}).loginHint(test.claims); got != want {
				t.Errorf("%s: %s is told %q, want %q", name, dialect, got, want)
			}
		}
	}
}

// Whoever signs in is who he is: nothing of the one who was expected is his.
func TestSomebodyElseWhoSignsInIsSomebodyElse(t *testing.T) {
	s, clock := signedOutStreet(t, "headers remote-user")
	b := s.signedIn()
	s.pass(clock, 2*time.Hour)
	s.Provider.SignInAs(authentiqtest.Bob)
	got := b.Get(s.URL("/")).Seen(t)
	if last := s.asked(); last[len(last)-1].Get("login_hint") != aliceAddress {
		t.Fatalf("Alice was not expected: %q", last)
	}
	if sub := got.Value(t, "X-Authentiq-Subject"); sub != authentiqtest.Bob {
		t.Errorf("%q came in", sub)
	}
	if text := strings.ToLower(strings.Join(slices.Concat(got.Headers...), " ")); strings.Contains(text, "alice") || strings.Contains(text, strings.ToLower(authentiqtest.Alice)) {
		t.Errorf("the application is told of Alice: %q", got.Headers)
	}
	s.pass(clock, 2*time.Hour)
	b.hinted(s, s.URL("/"), authentiqtest.Bob) // whose address nobody has verified
}

func TestWhoIsKeptOutMayShareMoreAsHimself(t *testing.T) {
	s := newStreet(t, testrig.GateBlock("require email *@example.net"))
	b := newBrowser(t)
	s.Provider.SetHooks(callbackWithout("email"))
	a := b.Get(s.URL("/x"))
	if a.StatusCode != http.StatusForbidden || who(b, s) == nil {
		t.Fatalf("%d, cookies %q", a.StatusCode, b.CookieHeader(s.URL("/")))
	}
	if share := b.sentWith(s, s.URL(answersLinks(a)[labelShare])); share.Get("login_hint") != authentiqtest.Alice || share.Get("prompt") != "consent" {
		t.Errorf("sharing asks %q", share)
	}
	if other := b.sentWith(s, s.URL(answersLinks(a)[labelOther])); other.Has("login_hint") || other.Get("prompt") != "login" {
		t.Errorf("someone else asks %q", other)
	}
	// He never was signed in, so that he can't sign out: it is for now.
	b.Get(s.URL("/x"))
	s.setClock(time.Now().Add(loginLifetime))
	b.hinted(s, s.URL("/x"), "")
}

func TestTheStepUpNamesWhoIsSignedIn(t *testing.T) {
	s, clock := stepUpStreet(t, partOfSite("require_fresh 10m"))
	b := s.signedIn()
	s.pass(clock, 11*time.Minute)
	if q := b.sentWith(s, s.URL("/admin/x")); q.Get("login_hint") != aliceAddress || q.Get("max_age") != "600" {
		t.Errorf("it asks %q", q)
	}
}

// takesNoHints has the provider answer with an error to whoever is named, or to all.
func takesNoHints(code string, all bool) authentiqtest.Hooks {
	return authentiqtest.Hooks{Handler: at(authentiqtest.Authorize, func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		q := r.URL.Query()
		if !all && !q.Has("login_hint") && !q.Has("id_token_hint") {
			next.ServeHTTP(w, r)
			return
		}
		http.Redirect(w, r, q.Get("redirect_uri")+"?"+url.Values{"error": {code}, "state": {q.Get("state")}, "iss": {"http://" + r.Host + "/"}}.Encode(), http.StatusSeeOther)
	})}
}

func TestAHintThatTheProviderDoesNotTakeLocksNobodyOut(t *testing.T) {
	for name, path := range map[string]string{
		"a page":                      "/deep?x=1",
		"the sign-in endpoint":        "/authentiq/sign-in?return_to=/deep?x=1",
		"a link that asks for more":   "/authentiq/sign-in?ui_locales=nl&return_to=/deep?x=1",
		"somebody who is to share it": "/authentiq/sign-in?again=share&return_to=/deep?x=1",
	} {
		for _, code := range []string{"login_required", "interaction_required", "account_selection_required", "invalid_request"} {
			t.Run(name+", "+code, func(t *testing.T) {
				s, clock := signedOutStreet(t, "allow_param ui_locales")
				b := s.signedIn()
				s.pass(clock, 2*time.Hour)
				s.Provider.SetHooks(takesNoHints(code, false))
				s.Provider.ResetRequests()
				got := b.Get(s.URL(path)).Seen(t)
				if got.Line != "GET /deep?x=1 HTTP/1.1" || got.Value(t, "X-Authentiq-Subject") != authentiqtest.Alice {
					t.Errorf("arrived at %q", got.Line)
				}
				asked := s.asked()
				if len(asked) != 2 || asked[0].Get("login_hint") != aliceAddress || asked[1].Has("login_hint") {
					t.Fatalf("the provider was asked %q", asked)
				}
				for _, name := range []string{"scope", "prompt", "ui_locales"} {
					if !slices.Equal(asked[0][name], asked[1][name]) {
						t.Errorf("%s was %q, then %q", name, asked[0][name], asked[1][name])
					}
				}
				if events := s.Events(eventHintRefused); len(events) != 1 || events[0]["error"] != code {
					t.Errorf("the log has %v", events)
				}
				// Who has come in is named again next time: the one that he is.
				s.pass(clock, 2*time.Hour)
				b.hinted(s, s.URL("/"), aliceAddress)

				// An answer that has nothing to do with hints is the answer, once and for all.
				s.Provider.SetHooks(takesNoHints(code, true))
				s.Provider.ResetRequests()
				a := b.Get(s.URL(path))
				if a.StatusCode != http.StatusForbidden && a.StatusCode != http.StatusBadRequest || len(s.asked()) != 2 {
					t.Errorf("%d after %q", a.StatusCode, b.Visited)
				}
			})
		}
	}
}

func TestOtherErrorsAreNotTakenForAHints(t *testing.T) {
	for _, code := range []string{"access_denied", "consent_required", "server_error", "temporarily_unavailable", "invalid_scope", "unauthorized_client", "x"} {
		s, clock := signedOutStreet(t, "")
		b := s.signedIn()
		s.pass(clock, 2*time.Hour)
		s.Provider.SetHooks(takesNoHints(code, false))
		s.Provider.ResetRequests()
		if a := b.Get(s.URL("/")); a.StatusCode < 400 || len(s.asked()) != 1 {
			t.Errorf("%s: %d, asked %d times", code, a.StatusCode, len(s.asked()))
		}
	}
	// Nor are those of another provider, or for a sign-in that has been used.
	s, clock := signedOutStreet(t, "")
	b := s.signedIn()
	s.pass(clock, 2*time.Hour)
	callback := b.ToCallback(s.URL("/"))
	foreign := flowQuery(t, callback, func(q url.Values) {
		q.Del("code")
		q.Set("error", "login_required")
		q.Set("iss", "https://evil.example/")
	})
	s.callbackRefused(t, b, foreign, http.StatusBadRequest, "iss", "")
	again := flowQuery(t, foreign, func(q url.Values) { q.Set("iss", s.Issuer) })
	s.callbackRefused(t, b, again, http.StatusBadRequest, "state", "")
}

// An error that is planted must not end a session, no more than a success would
// before it is one.
func TestAHintThatIsNotTakenEndsNoSession(t *testing.T) {
	s := newStreet(t, testrig.GateBlock(""))
	b := s.signedIn()
	s.Provider.SetHooks(takesNoHints("login_required", false))
	callback := b.ToCallback(s.URL("/authentiq/sign-in"))
	if a := b.Step(callback); a.StatusCode != http.StatusSeeOther || !strings.HasPrefix(a.Header.Get("Location"), s.Provider.EndpointURL(authentiqtest.Authorize)) {
		t.Fatalf("%d %q", a.StatusCode, a.Header)
	}
	if !b.in(s) {
		t.Error("signed out")
	}
}

func TestAnIDTokenGoesAlongOnlyWhereNobodyMayBeAsked(t *testing.T) {
	s, clock := signedOutStreet(t, "allow_param prompt")
	b := s.signedIn()
	s.pass(clock, 2*time.Hour)
	for prompt, want := range map[string]bool{"none": true, "login": false, "consent": false, "": false} {
		q := b.sentWith(s, s.URL("/authentiq/sign-in?"+url.Values{"prompt": {prompt}}.Encode()))
		if got := q.Get("id_token_hint"); (got != "") != want || want && payloadOf(t, got)["sub"] != authentiqtest.Alice {
			t.Errorf("prompt %q: %q", prompt, q)
		}
		if q.Get("login_hint") != aliceAddress {
			t.Errorf("prompt %q: %q", prompt, q)
		}
	}
	if q := b.sentWith(s, s.URL("/authentiq/sign-in?prompt=none&again=other")); q.Has("id_token_hint") {
		t.Errorf("somebody else: %q", q)
	}

	// Somebody else is signed in there, whom the provider must not let in by that token.
	silent := s.URL("/authentiq/sign-in?prompt=none&return_to=/x")
	b = s.signedIn()
	s.Provider.SignInAs(authentiqtest.Bob)
	b.Get(s.Issuer + "authorize?" + url.Values{"client_id": {s.ClientID}, "redirect_uri": {s.URL("/")}, "response_type": {"code"}}.Encode())
	s.Provider.ResetRequests()
	if sub := b.Get(silent).Seen(t).Value(t, "X-Authentiq-Subject"); sub != authentiqtest.Bob || len(s.asked()) != 2 {
		t.Errorf("%q came in, by %q", sub, b.Visited)
	}
	if asked := s.asked(); !asked[0].Has("id_token_hint") || asked[1].Has("id_token_hint") || asked[1].Get("prompt") != "none" {
		t.Errorf("the provider was asked %q", asked)
	}

	// A token that the provider has taken back the key of is not shown to it again.
	s, clock = signedOutStreet(t, "signing_alg RS256\nallow_param prompt", func(c *authentiqtest.Config) { c.SigningAlg = "RS256" })
	b = s.signedIn()
	s.Provider.RotateKeys()
	s.signedIn()
	s.pass(clock, 2*time.Hour)
	if q := b.sentWith(s, s.URL("/authentiq/sign-in?prompt=none")); q.Has("id_token_hint") {
		t.Errorf("a disowned token: %q", q)
	}
}

// Rows 36, 44, 45 and 47 of the cookie that says who it was: it can't be read, made,
// moved or doubled, and is no session.
func TestWhoItWasCanNotBeMadeUp(t *testing.T) {
	key := sessionKey()
	options := "session {\nkeys " + key + "\n}"
	s := newStreet(t, testrig.GateBlock(options))
	b := s.signedIn()
	alice := who(b, s)
	s.Provider.SignInAs(authentiqtest.Bob)
	bob := who(s.signedIn(), s)
	if alice == nil || bob == nil {
		t.Fatal("no cookie")
	}
	for value, layer := alice.Value, 0; layer < 3; layer++ {
		if strings.Contains(strings.ToLower(value), "alice") || strings.Contains(value, "example") {
			t.Errorf("it can be read, %d layers deep: %q", layer, value)
		}
		decoded, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(value[min(len(value), keyIDLength*(1-min(layer, 1))):], "="))
		if err != nil {
			break
		}
		value = string(decoded)
	}
	var session, login string
	for _, c := range b.Cookies(s.URL("/")) {
		if c.Name == plainCookie {
			session = c.Value
		}
	}
	stranger := newBrowser(t)
	stranger.Step(s.URL("/"))
	for _, c := range ourCookies(stranger, s.URL("/")) {
		login = c.Value
	}
	const name = plainCookie + whoSuffix
	asked := func(line, host string) url.Values {
		req := testrig.PageRequest(t, s.URL("/"), "Cookie", line)
		req.Host = host
		b := newBrowser(t)
		b.Client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
		a := b.Do(req)
		if a.StatusCode != http.StatusSeeOther {
			t.Fatalf("%.60q: %d", line, a.StatusCode)
		}
		return flowQueryOf(t, a.Header.Get("Location"))
	}
	here := "127.0.0.1:" + s.Port
	for what, line := range map[string]string{
		"as it is": name + "=" + alice.Value, "twice the same": name + "=" + alice.Value + "; " + name + "=" + alice.Value,
		"beside junk": name + "=x; " + name + "=" + alice.Value + "; " + name + "=" + flipped(bob.Value, 30),
	} {
		if q := asked(line, here); q.Get("login_hint") != aliceAddress {
			t.Errorf("%s: %q", what, q)
		}
	}
	for what, line := range map[string]string{
		"of two people":       name + "=" + alice.Value + "; " + name + "=" + bob.Value,
		"changed":             name + "=" + flipped(alice.Value, len(alice.Value)/2),
		"cut":                 name + "=" + alice.Value[:len(alice.Value)/2],
		"empty":               name + "=",
		"as it was written":   name + "=" + aliceAddress,
		"a session":           name + "=" + session,
		"a sign-in under way": name + "=" + login,
		"under a session's name, and a hint's, and another's": plainCookie + "=" + alice.Value + "; authentiq-hint=" + alice.Value + "; authentiq-whom=" + alice.Value + "; x" + name + "=" + alice.Value,
		"over https":                         hostCookie + whoSuffix + "=" + alice.Value,
		"with a space of another kind":       "\u2000" + name + "=" + alice.Value,
		"in letters of another case":         "Authentiq-who=" + alice.Value,
		"with a dollar":                      "$Version=1; $" + name + "=" + alice.Value,
		"a thousand times, none of them his": strings.Repeat(name+"=x; ", 1000),
	} {
		if q := asked(line, here); q.Has("login_hint") {
			t.Errorf("%s: %q", what, q)
		}
	}
	if q := asked(name+"="+alice.Value, "other.localhost:"+s.Port); q.Has("login_hint") {
		t.Errorf("at another host: %q", q)
	}
	hits := s.Echo.Count()
	s.Denied(newBrowser(t).Step(s.URL("/"), "Cookie", plainCookie+"="+alice.Value+"; "+name+"="+alice.Value), hits)
	// The application sees none of it, whoever is signed in.
	line := b.CookieHeader(s.URL("/")) + "; app=1; " + name + "=x; " + hostCookie + whoSuffix + "=y"
	if got := newBrowser(t).Step(s.URL("/"), "Cookie", line).Seen(t).Values("Cookie"); strings.Contains(strings.Join(got, ""), "authentiq-who") || !strings.Contains(strings.Join(got, ""), "app=1") {
		t.Errorf("the application is sent %q", got)
	}
	s.flowLoad(t, strings.ReplaceAll(testrig.GateBlock(options), "CLIENT", "another"))
	if q := asked(name+"="+alice.Value, here); q.Has("login_hint") {
		t.Errorf("for another client: %q", q)
	}
	s.flowLoad(t, testrig.GateBlock("session {\nkeys "+sessionKey()+"\n}"))
	if q := asked(name+"="+alice.Value, here); q.Has("login_hint") {
		t.Errorf("with the key gone: %q", q)
	}
	// A key that is gone keeps nobody from signing in or out, and is not looked for.
	s.flowLoad(t, testrig.GateBlock(""))
	b = newBrowser(t)
	u, err := url.Parse(s.URL("/"))
	if err != nil {
		t.Fatal(err)
	}
	b.Client.Jar.SetCookies(u, []*http.Cookie{{Name: name, Value: alice.Value, Path: "/"}})
	b.Get(s.URL("/")).Seen(t)
	if kept := who(b, s); kept == nil || kept.Value == alice.Value {
		t.Error("the old one is still there")
	}
}

func TestWhoItWasIsInNoPageAndNoLog(t *testing.T) {
	s, clock := signedOutStreet(t, "pages on")
	b := s.signedIn()
	s.pass(clock, 2*time.Hour)
	for name, a := range map[string]testrig.Answer{
		"a page":        b.Step(s.URL("/x")),
		"a script":      b.fetch(s.URL("/x")),
		"a form":        b.Post(s.URL("/x"), "Sec-Fetch-Site", "same-origin"),
		"a sign-in":     b.Step(s.URL("/authentiq/sign-in")),
		"the session":   b.fetch(s.URL("/authentiq/session")),
		"a sign-out":    b.Step(s.URL("/authentiq/sign-out"), "Sec-Fetch-Site", "none"),
		"nothing":       b.Step(s.URL("/authentiq/nothing")),
		"no such state": b.Step(s.URL("/authentiq/callback?state=x&code=y")),
	} {
		if strings.Contains(a.Body, aliceAddress) || strings.Contains(a.Body, url.QueryEscape(aliceAddress)) {
			t.Errorf("%s tells it: %s", name, a.Body)
		}
	}
	s.Provider.SetHooks(takesNoHints("login_required", false))
	b.Get(s.URL("/")).Seen(t)
	log := s.Logged()
	for _, form := range []string{aliceAddress, url.QueryEscape(aliceAddress)} {
		for _, line := range strings.Split(log, "\n") {
			// What Caddy itself logs at debug of what it sends to the application is not ours.
			if strings.Contains(line, form) && !strings.Contains(line, "upstream roundtrip") {
				t.Errorf("the log tells it: %s", line)
			}
		}
	}
}

// Row 42: what says who it was has its place among the cookies, or is left out.
func TestALargeSessionLeavesNoRoomForWhoItWas(t *testing.T) {
	s := newStreet(t, testrig.GateBlock(""))
	b := s.signedIn()
	if who(b, s) == nil {
		t.Fatal("no cookie")
	}
	left := false
	for size := 4000; size < 5200; size += 32 {
		cookiesGrow(s, size)
		a := b.Get(s.URL("/authentiq/sign-in?return_to=/x"))
		if a.StatusCode != http.StatusOK {
			break
		}
		total := 0
		for _, c := range ourCookies(b, s.URL("/authentiq/x")) {
			total += len(c.Name) + len(c.Value)
		}
		if total > maxChunks*chunkSize+200 { // with what numbers the chunks
			t.Errorf("%d bytes of claims: %d of cookies", size, total)
		}
		left = left || who(b, s) == nil
	}
	if !left {
		t.Error("there was always room")
	}
}

func TestTheScopeOfOneClickIsAskedForAndGivesNothing(t *testing.T) {
	const warning = "scopes of Authentiq's are asked of another provider, which may not know them; profile, email, phone and address are everybody's"
	for dialect, asked := range map[string]string{"authentiq": "openid aq:name email~rs aq:push", "oidc\nsigning_alg HS256": "openid aq:name email aq:push"} {
		s := newStreet(t, "authentiq {\nissuer ISSUER\ndialect "+dialect+"\nclient_id CLIENT\nclient_secret SECRET\nscope aq:name email~rs aq:push\n}\nreverse_proxy UPSTREAM\n")
		b := newBrowser(t)
		for name, leaveOut := range map[string][]string{"he agrees": nil, "he does not": {"aq:push"}} {
			s.Provider.SignInAs(authentiqtest.Alice, leaveOut...)
			got := owned(b.Get(s.URL("/authentiq/sign-in")).Seen(t))
			delete(got, "X-Authentiq-Issuer")
			delete(got, "X-Authentiq-Sid")
			want := []string{"X-Authentiq-Email", "X-Authentiq-Email-Verified", "X-Authentiq-Family-Name", "X-Authentiq-Given-Name", "X-Authentiq-Locale",
				"X-Authentiq-Middle-Name", "X-Authentiq-Name", "X-Authentiq-Nickname", "X-Authentiq-Phone-Verified", "X-Authentiq-Subject", "X-Authentiq-Zoneinfo"}
			if names := slices.Sorted(maps.Keys(got)); !slices.Equal(names, want) {
				t.Errorf("%s, %s: the application is told %q", dialect, name, names)
			}
		}
		for _, q := range s.asked() {
			if q.Get("scope") != asked {
				t.Errorf("%s: the scope is %q", dialect, q.Get("scope"))
			}
		}
		warned := s.Events(warning)
		if (len(warned) > 0) != (dialect != "authentiq") {
			t.Errorf("%s: warned of %v", dialect, warned)
		}
	}
}

// mixed is a browser that has what one has of the site, and what the other has of the
// provider.
func (s *certifiedStreet) mixed(t *testing.T, ofSite, ofProvider *browser) *browser {
	t.Helper()
	b := newBrowser(t)
	keep := func(from *browser, address, path string) {
		u, err := url.Parse(address)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range from.Cookies(address) {
			at := path
			if strings.HasSuffix(c.Name, hintSuffix) {
				at = "/authentiq"
			}
			b.Client.Jar.SetCookies(u, []*http.Cookie{{Name: c.Name, Value: c.Value, Path: at}})
		}
	}
	keep(ofSite, s.at("app", "/authentiq/x"), "/")
	if ofProvider != nil {
		keep(ofProvider, s.Issuer, "/")
	}
	return b
}

func TestACertifiedProviderTakesHints(t *testing.T) {
	s := newCertifiedStreet(t, certifiedConfig{Settings: certifiedInToken}, map[string]certifiedSite{"app": {options: "allow_param prompt"}})
	alice, _ := s.signsIn(t, "app", "alice")
	bob, _ := s.signsIn(t, "app", "bob")
	s.provider.setClock(2 * time.Hour)
	s.setClock(time.Now().Add(2 * time.Hour))
	silent := s.at("app", "/authentiq/sign-in?prompt=none&return_to=/x")

	t.Run("it offers who was here before, and lets in who comes", func(t *testing.T) {
		for _, account := range []string{"alice", "bob"} {
			b := s.mixed(t, alice, nil)
			page := b.Get(s.at("app", "/deep/link?a=1&b=%2F"))
			if field := b.parse(page).field("login"); field == nil || htmlAttr(field, "value") != aliceAddress {
				t.Fatalf("Alice is not offered: %d at %q", page.StatusCode, b.Visited)
			}
			if a, _ := b.walk(page, account); a.StatusCode != http.StatusOK || a.Seen(t).Value(t, "X-Authentiq-Subject") != account {
				t.Errorf("%s: %d at %q", account, a.StatusCode, b.Visited)
			}
		}
	})
	t.Run("who is signed in there needs no click", func(t *testing.T) {
		b := s.mixed(t, alice, alice)
		if a := b.Get(s.at("app", "/x")); a.StatusCode != http.StatusOK || !strings.Contains(strings.Join(b.Visited, " "), "login_hint=") {
			t.Errorf("%d at %q", a.StatusCode, b.Visited)
		}
	})
	t.Run("somebody else who is signed in there comes in", func(t *testing.T) {
		b := s.mixed(t, alice, bob)
		if sub := b.Get(s.at("app", "/x")).Seen(t).Value(t, "X-Authentiq-Subject"); sub != "bob" {
			t.Errorf("%q came in", sub)
		}
	})
	t.Run("an ID token that is over is taken, where nobody may be asked", func(t *testing.T) {
		b := s.mixed(t, alice, alice)
		if sub := b.Get(silent).Seen(t).Value(t, "X-Authentiq-Subject"); sub != "alice" || len(b.Visited) != 4 || !strings.Contains(b.Visited[1], "id_token_hint=") {
			t.Errorf("%q came in by %q", sub, b.Visited)
		}
	})
	t.Run("somebody else's is not, and the next request is without", func(t *testing.T) {
		b := s.mixed(t, alice, bob)
		sub := b.Get(silent).Seen(t).Value(t, "X-Authentiq-Subject")
		if sub != "bob" || len(b.Visited) != 6 || !strings.Contains(b.Visited[2], "error=login_required") || strings.Contains(b.Visited[3], "_hint=") || !strings.Contains(b.Visited[3], "prompt=none") {
			t.Errorf("%q came in by %q", sub, b.Visited)
		}
	})
	t.Run("nobody is there: that is the answer, after two requests", func(t *testing.T) {
		b := s.mixed(t, alice, nil)
		a := b.Get(silent)
		s.refused(t, a, http.StatusForbidden, "authorization response")
		if n := len(b.Visited); n != 5 {
			t.Errorf("%d addresses: %q", n, b.Visited)
		}
	})
	t.Run("one that it can't verify any more locks nobody out", func(t *testing.T) {
		s.provider.rotate()
		b := s.mixed(t, alice, alice)
		sub := b.Get(silent).Seen(t).Value(t, "X-Authentiq-Subject")
		if sub != "alice" || !strings.Contains(strings.Join(b.Visited, " "), "error=invalid_request") {
			t.Errorf("%q came in by %q", sub, b.Visited)
		}
	})
}

// Why an ID token goes along only with prompt=none: somebody else who is signed in
// there comes in by a login_hint without a click, and has to sign in anew by a token.
func TestACertifiedProviderAsksSomebodyElseByAnIDTokenHint(t *testing.T) {
	s := newCertifiedStreet(t, certifiedConfig{Settings: certifiedInToken}, map[string]certifiedSite{"app": {options: "allow_param prompt"}})
	alice, _ := s.signsIn(t, "app", "alice")
	bob, _ := s.signsIn(t, "app", "bob")
	token := alice.sentWith(s.street, s.at("app", "/authentiq/sign-in?prompt=none")).Get("id_token_hint")
	if token == "" {
		t.Fatal("no ID token")
	}
	b := s.mixed(t, newBrowser(t), bob)
	a := b.Get(flowQuery(t, b.Step(s.at("app", "/")).Header.Get("Location"), func(q url.Values) { q.Set("id_token_hint", token) }))
	if b.parse(a).field("login") == nil {
		t.Errorf("%d at %q: an ID token could go along with every sign-in now", a.StatusCode, b.Visited)
	}
}

// An address that somebody else vouches for, the provider may never have seen.
func TestNobodysAddressIsToldThatOnlyASignerVouchesFor(t *testing.T) {
	hr := signerAt(t)
	s := newStreet(t, testrig.GateBlock(trusting(hr, "email email_verified", endpointOf(hr))))
	s.says(map[string]any{"email": nil, "email_verified": nil}, map[string]string{"email": "a", "email_verified": "a"}, map[string]any{
		"a": hr.Distributed(hr.Sign(map[string]any{"email": "private@hr.example", "email_verified": true})),
	})
	b := s.signedIn()
	if v := b.Get(s.URL("/")).Seen(t).Value(t, "X-Authentiq-Email"); v != "private@hr.example" {
		t.Fatalf("the address is %q", v)
	}
	b.without(s, testrig.SessionName.MatchString)
	b.hinted(s, s.URL("/deep"), authentiqtest.Alice)
}

// A query of the sign-in endpoint may say who somebody is, wherever it leads.
func TestNoAccessLogHasWhoALinkNames(t *testing.T) {
	s := newStreet(t, testrig.GateBlock("callback_url http://app.localhost:PORT/authentiq/callback\nallow_param login_hint"))
	b := newBrowser(t)
	hint := url.Values{"iss": {s.Issuer}, "login_hint": {"marker@example.com"}}.Encode()
	b.Step("http://other.localhost:" + s.Port + "/authentiq/sign-in?" + hint)
	b.fetches("http://app.localhost:" + s.Port + "/authentiq/sign-in?login_hint=marker@example.com")
	b.Step(s.URL("/authentiq/signed-out")) // logged after them
	testrig.Await(t, "the log is written", func() bool { return strings.Contains(s.Logged(), "/authentiq/signed-out") })
	if strings.Contains(s.Logged(), "marker") {
		t.Error("the log has who the link names")
	}
}
