// SPDX-License-Identifier: Apache-2.0

package authentiq

// remotesignout_test.go: who signs out elsewhere is signed out here, and nobody
// else is.

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"mime/multipart"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/authentiq/caddy-authentiq/authentiqtest"
	"github.com/authentiq/caddy-authentiq/internal/testrig"
)

// logoutTokenAs makes one with another header, by another algorithm.
func (s *street) logoutTokenAs(alg string, header map[string]any, sub, sid string) string {
	s.T.Helper()
	payload, err := json.Marshal(payloadOf(s.T, s.LogoutToken(sub, sid)))
	if err != nil {
		s.T.Fatal(err)
	}
	token, err := s.Provider.Sign(alg, header, payload)
	if err != nil {
		s.T.Fatal(err)
	}
	return token
}

// tells posts a form to one of our addresses, as a provider does: no cookies, no
// headers of a browser.
func (s *street) tells(path string, form url.Values, header ...string) testrig.Answer {
	s.T.Helper()
	return s.tellsRaw(http.MethodPost, path, "application/x-www-form-urlencoded", form.Encode(), header...)
}

func (s *street) tellsRaw(method, path, mediaType, body string, header ...string) testrig.Answer {
	s.T.Helper()
	req, err := http.NewRequest(method, s.URL(path), strings.NewReader(body))
	if err != nil {
		s.T.Fatal(err)
	}
	if mediaType != "" {
		req.Header.Set("Content-Type", mediaType)
	}
	for i := 0; i+1 < len(header); i += 2 {
		if req.Header.Set(header[i], header[i+1]); header[i] == "Host" {
			req.Host = header[i+1]
		}
	}
	b := newBrowser(s.T)
	b.Client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return b.Do(req)
}

const backchannel = "/authentiq/backchannel-logout"

// ends posts a good token and fails the test unless it is taken.
func (s *street) ends(token string) {
	s.T.Helper()
	a := s.tells(backchannel, url.Values{"logout_token": {token}})
	if s.plain(a); a.StatusCode != http.StatusOK || a.Body != "" {
		s.T.Errorf("%d %s", a.StatusCode, a.Body)
	}
}

// plain fails the test if an answer has more than a program may be told.
func (s *street) plain(a testrig.Answer) {
	s.T.Helper()
	if a.Header.Get("Cache-Control") != "no-store" || len(a.Header["Set-Cookie"])+len(a.Header["Location"])+len(a.Header["Clear-Site-Data"]) > 0 || strings.Contains(a.Body, "<") {
		s.T.Errorf("%d %q %.300s", a.StatusCode, a.Header, a.Body)
	}
}

// sid is that of the session that a browser has.
func (b *browser) sid(s *street) string {
	b.T.Helper()
	sid := b.Step(s.URL("/")).Seen(b.T).Value(b.T, "X-Authentiq-Sid")
	if sid == "" {
		b.T.Fatal("no sid")
	}
	return sid
}

// in reports whether a browser is signed in.
func (b *browser) in(s *street) bool {
	b.T.Helper()
	hits := s.Echo.Count()
	a := b.Step(s.URL("/"))
	if a.StatusCode != http.StatusOK {
		s.Denied(a, hits)
	}
	return a.StatusCode == http.StatusOK
}

func TestARemoteSignOutEndsTheSessionsThatItIsAbout(t *testing.T) {
	for _, alg := range []string{"HS256", "RS256"} {
		for _, path := range []string{backchannel, "/authentiq/callback"} {
			t.Run(alg+" "+path, func(t *testing.T) {
				s := newStreet(t, testrig.GateBlock("signing_alg "+alg), func(c *authentiqtest.Config) { c.SigningAlg = alg })
				one, two, other := s.signedIn(), s.signedIn(), newBrowser(t)
				s.Provider.SignInAs(authentiqtest.Bob)
				other.Get(s.URL("/")).Seen(t)
				take := func(token string) {
					t.Helper()
					form := url.Values{"logout_token": {token}, "ignored_parameter": {"x"}}
					a := s.tells(path, form)
					if s.plain(a); a.StatusCode != http.StatusOK || a.Body != "" {
						t.Errorf("%d %s", a.StatusCode, a.Body)
					}
				}
				sid := one.sid(s)
				take(s.LogoutToken(authentiqtest.Alice, sid))
				if one.in(s) || !two.in(s) || !other.in(s) {
					t.Errorf("by sid: %v %v %v", one.in(s), two.in(s), other.in(s))
				}
				event := s.Events(eventRemoteSignOut)
				if len(event) != 1 || event[0]["level"] != "info" || event[0]["sub"] != authentiqtest.Alice || event[0]["sid"] != sid {
					t.Errorf("the log has %v", event)
				}
				take(s.LogoutToken("", two.sid(s)))
				if two.in(s) || !other.in(s) {
					t.Error("by sid alone")
				}
				three, four := s.browserOf(authentiqtest.Alice), s.browserOf(authentiqtest.Alice)
				if !three.in(s) || !four.in(s) {
					t.Error("another session of the same user has ended")
				}
				take(s.LogoutToken(authentiqtest.Alice, ""))
				if three.in(s) || four.in(s) || !other.in(s) {
					t.Errorf("by sub: %v %v %v", three.in(s), four.in(s), other.in(s))
				}
				take(s.LogoutToken("nobody", "of nothing")) // 200 too
				if !other.in(s) {
					t.Error("somebody else's token has ended a session")
				}
			})
		}
	}
}

// browserOf is one that has signed in as a user.
func (s *street) browserOf(user string) *browser {
	s.T.Helper()
	s.Provider.SignInAs(user)
	return s.signedIn()
}

// payloadOf decodes the claims of a token.
func payloadOf(t *testing.T, token string) (c map[string]any) {
	t.Helper()
	payload, err := base64.RawURLEncoding.DecodeString(strings.Split(token, ".")[1])
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(payload, &c); err != nil {
		t.Fatal(err)
	}
	return c
}

// signedOutStreet is a street whose clocks tests set.
func signedOutStreet(t *testing.T, options string, change ...func(*authentiqtest.Config)) (*street, *both) {
	t.Helper()
	clock := new(both)
	change = append(change, func(c *authentiqtest.Config) { c.Now = clock.now })
	s := newStreet(t, testrig.GateBlock(options), change...)
	s.pass(clock, 0)
	return s, clock
}

// Attacks 86 and 100 e: a token is about what was there when it was made. One that
// comes late, or again, ends nothing that began since.
func TestALogoutTokenEndsNoSessionThatBeganAfterIt(t *testing.T) {
	for name, about := range map[string]func(sid string) (string, string){
		"a user":               func(string) (string, string) { return authentiqtest.Alice, "" },
		"a session":            func(sid string) (string, string) { return "", sid },
		"a session and a user": func(sid string) (string, string) { return authentiqtest.Alice, sid },
	} {
		t.Run(name, func(t *testing.T) {
			s, clock := signedOutStreet(t, "")
			b := s.signedIn()
			// The user signs in here anew while the session at the provider lasts: same sid.
			again := func() {
				b.Get(s.URL("/authentiq/sign-in"))
				if !b.in(s) {
					t.Fatal("not signed in")
				}
			}
			token := s.LogoutToken(about(b.sid(s)))
			s.pass(clock, 2*time.Second)
			again()
			s.ends(token)
			if !b.in(s) {
				t.Error("an older token has ended a newer session")
			}
			token = s.LogoutToken(about(b.sid(s)))
			s.ends(token)
			if b.in(s) {
				t.Error("the session goes on")
			}
			s.pass(clock, 2*time.Second)
			again()
			for range 3 {
				s.ends(token)
			}
			if !b.in(s) {
				t.Error("a token that came again has ended a session that began since")
			}
		})
	}
}

// Attack 86: sessions without a sid are not all one session, and what is a sub is
// no sid.
func TestARemoteSignOutEndsNobodyElsesSession(t *testing.T) {
	s := newStreet(t, testrig.GateBlock(""))
	hooks := func(sid any) {
		s.Provider.SetHooks(authentiqtest.Hooks{IDTokenClaims: func(c map[string]any) {
			if c["sid"] = sid; sid == nil {
				delete(c, "sid")
			}
		}})
	}
	known := s.signedIn()
	hooks(nil)
	without := s.signedIn()
	hooks("")
	empty := s.signedIn()
	hooks(authentiqtest.Bob) // a provider whose sid is what another's sub is
	odd := s.signedIn()
	everybody := func() bool { return without.in(s) && empty.in(s) && odd.in(s) }
	if !everybody() {
		t.Fatal("not signed in")
	}
	for _, sid := range []any{"", nil, " ", false, []any{""}} {
		for _, sub := range []any{nil, ""} {
			token := s.LogoutToken("x", "", func(c map[string]any) {
				delete(c, "sub")
				if sub != nil {
					c["sub"] = sub
				}
				c["sid"] = sid
			})
			if a := s.tells(backchannel, url.Values{"logout_token": {token}}); a.StatusCode != http.StatusBadRequest {
				t.Errorf("sid %v, sub %v: %d", sid, sub, a.StatusCode)
			}
		}
	}
	s.ends(s.LogoutToken("", authentiqtest.Alice))
	s.ends(s.LogoutToken(authentiqtest.Bob, ""))
	s.ends(s.LogoutToken(strings.ToLower(authentiqtest.Alice), ""))
	if !everybody() {
		t.Error("somebody else's session has ended")
	}
	s.ends(s.LogoutToken("", authentiqtest.Bob))
	if odd.in(s) || !without.in(s) || !empty.in(s) {
		t.Errorf("by sid: %v %v %v", odd.in(s), without.in(s), empty.in(s))
	}
	// Which session of hers that is nobody here can tell: it may be any of these.
	named := s.LogoutToken(authentiqtest.Alice, "of another session")
	s.ends(named)
	if without.in(s) || empty.in(s) {
		t.Errorf("by a sid and sub: %v %v", without.in(s), empty.in(s))
	}
	if !known.in(s) {
		t.Error("a session whose sid is known has ended")
	}
	s.ends(s.LogoutToken(authentiqtest.Alice, ""))
	if known.in(s) {
		t.Error("by sub")
	}
}

// Attack 86: a token is of one issuer, for one client, and so are those whom it
// signs out, where two gates share everything else.
func TestARemoteSignOutIsOfOneProviderAndOneClient(t *testing.T) {
	other, err := authentiqtest.NewServer(authentiqtest.Config{ClientID: "another"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(other.Close)
	other.SignInAs(authentiqtest.Alice)
	s := newStreet(t, "respond nothing")
	s.LoadCaddyfile("http://127.0.0.1:PORT {\n" + testrig.GateBlock("") + "}\nhttp://other.localhost:PORT {\nauthentiq {\nissuer " + other.Issuer + "\ndialect authentiq\nclient_id another\nclient_secret " + other.ClientSecret() + "\nscope aq:name\n}\nreverse_proxy UPSTREAM\n}\n")
	here, there := s.signedIn(), newBrowser(t)
	elsewhere := "http://other.localhost:" + s.Port
	testrig.Await(t, "the other provider is known", func() bool { return there.Get(elsewhere+"/").StatusCode == http.StatusOK })
	token, err := other.LogoutToken(authentiqtest.Alice, "")
	if err != nil {
		t.Fatal(err)
	}
	if a := s.tells(backchannel, url.Values{"logout_token": {token}}); a.StatusCode != http.StatusBadRequest {
		t.Errorf("another provider's: %d", a.StatusCode)
	}
	host := "other.localhost:" + s.Port
	if a := s.tells(backchannel, url.Values{"logout_token": {s.LogoutToken(authentiqtest.Alice, "")}}, "Host", host); a.StatusCode != http.StatusBadRequest {
		t.Errorf("at another site: %d", a.StatusCode)
	}
	if a := s.tells(backchannel, url.Values{"logout_token": {token}}, "Host", host); a.StatusCode != http.StatusOK {
		t.Errorf("%d %s", a.StatusCode, a.Body)
	}
	if !here.in(s) || there.Step(elsewhere+"/").StatusCode == http.StatusOK {
		t.Error("the wrong one was signed out")
	}
}

// Attack 84 at its address, and 85.
func TestALogoutTokenThatIsNotGoodIsRefusedAndEndsNothing(t *testing.T) {
	for _, alg := range []string{"HS256", "RS256"} {
		s := newStreet(t, testrig.GateBlock("signing_alg "+alg), func(c *authentiqtest.Config) { c.SigningAlg = alg })
		var mu sync.Mutex
		var idToken string
		s.Provider.SetHooks(authentiqtest.Hooks{IDToken: func(compact string) string {
			mu.Lock()
			defer mu.Unlock()
			idToken = compact
			return compact
		}})
		b := s.signedIn()
		sid := b.sid(s)
		with := func(name string, value any) string {
			return s.LogoutToken(authentiqtest.Alice, sid, func(c map[string]any) { c[name] = value })
		}
		without := func(names ...string) string {
			return s.LogoutToken(authentiqtest.Alice, sid, func(c map[string]any) {
				for _, name := range names {
					delete(c, name)
				}
			})
		}
		const event = "http://schemas.openid.net/event/backchannel-logout"
		good := s.LogoutToken(authentiqtest.Alice, sid)
		part := strings.Split(good, ".")
		other := map[string]string{"HS256": "RS256", "RS256": "ES256"}[alg]
		now := time.Now().Unix()
		for name, test := range map[string]struct{ token, check string }{
			"alg none":                    {s.logoutTokenAs("none", nil, authentiqtest.Alice, sid), "alg"},
			"another alg":                 {s.logoutTokenAs(other, nil, authentiqtest.Alice, sid), "alg"},
			"a bad signature":             {part[0] + "." + part[1] + "." + callbackMangled(t, part[2], func(n int) int { return n - 1 }), ""},
			"no signature":                {part[0] + "." + part[1] + ".", ""},
			"another typ":                 {s.logoutTokenAs(alg, map[string]any{"alg": alg, "typ": "at+jwt"}, authentiqtest.Alice, sid), "typ"},
			"another iss":                 {with("iss", "https://other.example/"), "iss"},
			"no iss":                      {without("iss"), "iss"},
			"another aud":                 {with("aud", "other"), "aud"},
			"no aud":                      {without("aud"), "aud"},
			"no events":                   {without("events"), "events"},
			"another event":               {with("events", map[string]any{"x": map[string]any{}}), "events"},
			"an event of null":            {with("events", map[string]any{event: nil}), "events"},
			"an event that is a list":     {with("events", map[string]any{event: []any{}}), "events"},
			"an event that is text":       {with("events", map[string]any{event: "x"}), "events"},
			"events under another case":   {s.LogoutToken(authentiqtest.Alice, sid, func(c map[string]any) { c["EVENTS"] = c["events"]; delete(c, "events") }), "events"},
			"a nonce":                     {with("nonce", "x"), "nonce"},
			"a nonce of null":             {with("nonce", nil), "nonce"},
			"neither sub nor sid":         {without("sub", "sid"), "sid"},
			"exp past":                    {with("exp", now-3600), "exp"},
			"no exp and old":              {s.LogoutToken(authentiqtest.Alice, sid, func(c map[string]any) { delete(c, "exp"); c["iat"] = now - 3600 }), "exp"},
			"no iat":                      {without("iat"), "iat"},
			"iat of the future":           {with("iat", now+3600), "iat"},
			"no jti":                      {without("jti"), "jti"},
			"an ID token":                 {idToken, "events"},
			"encrypted":                   {"eyJhbGciOiJSU0EtT0FFUCIsImVuYyI6IkExMjhHQ00ifQ.a.b.c.d", "decryption"},
			"nothing":                     {"", "format"},
			"what is no token":            {"<script>alert(1)</script>", "format"},
			"a token with a space before": {" " + good, "format"},
			"one that is too large":       {strings.Repeat("A", 64<<10+1), "size"},
		} {
			for _, path := range []string{backchannel, "/authentiq/callback"} {
				logged := s.flowMark()
				a := s.tells(path, url.Values{"logout_token": {test.token}, "ignored_parameter": {"x"}})
				s.plain(a)
				var body map[string]string
				if err := json.Unmarshal([]byte(a.Body), &body); err != nil || a.StatusCode != http.StatusBadRequest || body["error"] != "invalid_request" || body["error_description"] == "" || len(body) != 2 || a.Header.Get("Content-Type") != "application/json" {
					t.Errorf("%s, %s: %d %s", alg, name, a.StatusCode, a.Body)
				}
				if len(a.Body) > 200 || strings.Contains(a.Body, "other") || strings.Contains(a.Body, sid) {
					t.Errorf("%s, %s: it says %s", alg, name, a.Body)
				}
				events := s.flowEvents(eventLogoutRefused, logged)
				if len(events) != 1 || events[0]["level"] != "info" || events[0]["status"] != 400.0 || test.check != "" && events[0]["check"] != test.check {
					t.Errorf("%s, %s: the log has %v, want check %s", alg, name, events, test.check)
				}
			}
		}
		if !b.in(s) {
			t.Errorf("%s: signed out by one of them", alg)
		}
		if log := s.Logged(); strings.Contains(log, part[1]) {
			t.Error("a token is in the log")
		}
		// And a logout token signs nobody in.
		for _, typ := range []string{"logout+jwt", "JWT"} {
			s.Provider.SetHooks(authentiqtest.Hooks{IDToken: func(compact string) string {
				c := payloadOf(t, compact)
				c["events"] = map[string]any{event: map[string]any{}}
				payload, _ := json.Marshal(c)
				token, err := s.Provider.Sign(alg, tokenHeader(t, compact, typ), payload)
				if err != nil {
					t.Error(err)
				}
				return token
			}})
			in := newBrowser(t)
			if a := in.Get(s.URL("/")); a.StatusCode != http.StatusBadGateway || len(flowSession(in, s.URL("/"))) > 0 {
				t.Errorf("a logout token of type %s signs in: %d", typ, a.StatusCode)
			}
		}
		s.ends(good)
		if b.in(s) {
			t.Errorf("%s: the good one has not ended the session", alg)
		}
	}
}

// tokenHeader is that of a token, with another type.
func tokenHeader(t *testing.T, token, typ string) (h map[string]any) {
	t.Helper()
	raw, err := base64.RawURLEncoding.DecodeString(strings.Split(token, ".")[0])
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(raw, &h); err != nil {
		t.Fatal(err)
	}
	h["typ"] = typ
	return h
}

// Only Authentiq's may lack exp.
func TestALogoutTokenWithoutExpiryIsTakenOfAuthentiqOnly(t *testing.T) {
	for dialect, want := range map[string]int{"authentiq": http.StatusOK, "oidc": http.StatusBadRequest} {
		s := newStreet(t, "respond nothing")
		s.Load("authentiq {\nissuer ISSUER\ndialect " + dialect + "\nsigning_alg HS256\nclient_id CLIENT\nclient_secret SECRET\nscope email\n}\nreverse_proxy UPSTREAM\n")
		b := s.signedIn()
		token := s.LogoutToken(authentiqtest.Alice, "", func(c map[string]any) { delete(c, "exp") })
		if a := s.tells(backchannel, url.Values{"logout_token": {token}}); a.StatusCode != want {
			t.Errorf("%s: %d %s", dialect, a.StatusCode, a.Body)
		}
		if b.in(s) != (want != http.StatusOK) {
			t.Errorf("%s: signed in: %v", dialect, b.in(s))
		}
	}
}

// Attack 87.
func TestLogoutTokensComeAsFormsOnly(t *testing.T) {
	s := newStreet(t, testrig.GateBlock(""))
	b := s.signedIn()
	good := s.LogoutToken(authentiqtest.Alice, "")
	form := url.Values{"logout_token": {good}}.Encode()
	const formType = "application/x-www-form-urlencoded"
	var multi bytes.Buffer
	w := multipart.NewWriter(&multi)
	_ = w.WriteField("logout_token", good)
	_ = w.Close()
	cookies := b.CookieHeader(s.URL(backchannel))
	for name, test := range map[string]struct {
		method, path, mediaType, body string
		status                        int // at the address for it
		callback                      int // at the callback
	}{
		"GET":                            {"GET", "?" + form, "", "", 405, 400},
		"HEAD":                           {"HEAD", "?" + form, "", "", 405, 405},
		"PUT":                            {"PUT", "", formType, form, 405, 405},
		"PATCH":                          {"PATCH", "", formType, form, 405, 405},
		"DELETE":                         {"DELETE", "", formType, form, 405, 405},
		"OPTIONS":                        {"OPTIONS", "", formType, form, 405, 405},
		"JSON":                           {"POST", "", "application/json", `{"logout_token":"` + good + `"}`, 400, 405},
		"a form that says it is JSON":    {"POST", "", "application/json", form, 400, 405},
		"a form that is text":            {"POST", "", "text/plain", form, 400, 405},
		"a form without a type":          {"POST", "", "", form, 400, 405},
		"a type that is none":            {"POST", "", ";", form, 400, 405},
		"multipart":                      {"POST", "", w.FormDataContentType(), multi.String(), 400, 405},
		"the token itself":               {"POST", "", "application/jwt", good, 400, 405},
		"10 MB":                          {"POST", "", formType, form + "&x=" + strings.Repeat("x", 10<<20), 400, 405},
		"a little too much":              {"POST", "", formType, form + "&x=" + strings.Repeat("x", maxLogoutBody), 400, 405},
		"no token":                       {"POST", "", formType, "x=y", 400, 405},
		"nothing":                        {"POST", "", formType, "", 400, 405},
		"two tokens":                     {"POST", "", formType, form + "&" + form, 400, 400},
		"a token in the query":           {"POST", "?" + form, formType, "", 400, 405},
		"a token in both":                {"POST", "?" + form, formType, form, 400, 400},
		"a form with a bad escape":       {"POST", "", formType, form + "&x=%zz", 400, 405},
		"a form with a semicolon":        {"POST", "", formType, "x=y;" + form, 400, 405},
		"a token under another case":     {"POST", "", formType, strings.Replace(form, "logout_token", "Logout_Token", 1), 400, 405},
		"a token by another name":        {"POST", "", formType, strings.Replace(form, "logout_token", "logout_token[]", 1), 400, 405},
		"a method in a header, GET":      {"GET", "", formType, form, 405, 400},
		"with a code, and at a callback": {"POST", "?logout_token=x", formType, form + "&code=x", 400, 400},
	} {
		for path, want := range map[string]int{backchannel: test.status, "/authentiq/callback": test.callback} {
			a := s.tellsRaw(test.method, path+test.path, test.mediaType, test.body, "Cookie", cookies, "X-HTTP-Method-Override", "POST", "Sec-Fetch-Mode", "navigate")
			if a.StatusCode != want || len(a.Header["Set-Cookie"]) > 0 || a.Header.Get("Cache-Control") != "no-store" || a.Header.Get("Location") != "" {
				t.Errorf("%s at %s: %d, want %d: %q", name, path, a.StatusCode, want, a.Header)
			}
			if a.StatusCode == 405 && a.Header.Get("Allow") == "" {
				t.Errorf("%s at %s: no Allow", name, path)
			}
		}
	}
	for _, name := range []string{"code", "state", "error", "id_token"} {
		for _, where := range []string{"form", "query"} {
			form, query := url.Values{"logout_token": {good}}, ""
			if where == "form" {
				form.Set(name, "")
			} else {
				query = "?" + name + "=x"
			}
			if a := s.tells("/authentiq/callback"+query, form); a.StatusCode != http.StatusBadRequest {
				t.Errorf("a token with %s in the %s at the callback: %d", name, where, a.StatusCode)
			}
		}
	}
	if !b.in(s) {
		t.Fatal("signed out by one of them")
	}
	if strings.Contains(s.Logged(), strings.Split(good, ".")[1]) {
		t.Error("a token is in the log")
	}
	// Good ones are taken whoever asks, whatever comes along.
	for name, header := range map[string][]string{
		"a charset":           {"Content-Type", "application/x-www-form-urlencoded; charset=UTF-8"},
		"a type in capitals":  {"Content-Type", "Application/X-WWW-Form-Urlencoded"},
		"cookies":             {"Cookie", cookies},
		"another host":        {"Host", "app.localhost:" + s.Port},
		"a browser's headers": {"Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "navigate", "Sec-Fetch-Dest", "document", "Origin", "null", "Accept", "text/html"},
		"the code of others":  {"Authorization", "Bearer x"},
	} {
		a := s.tells(backchannel+"?other=1", url.Values{"logout_token": {good}, "code": {"x"}}, header...)
		if s.plain(a); a.StatusCode != http.StatusOK {
			t.Errorf("%s: %d %s", name, a.StatusCode, a.Body)
		}
	}
	if b.in(s) {
		t.Error("still signed in")
	}
}

// Attack 87: a reload forgets nothing, whatever host and pages are configured.
func TestARemoteSignOutSurvivesAReload(t *testing.T) {
	key := sessionKey()
	options := "session {\nkeys " + key + "\n}\n"
	s := newStreet(t, testrig.GateBlock(options))
	b, other := s.signedIn(), s.signedIn()
	s.ends(s.LogoutToken("", b.sid(s)))
	for _, more := range []string{"pages off", "unauthenticated deny", "callback_url http://app.localhost:PORT/elsewhere/cb"} {
		s.Load(testrig.GateBlock(options + more))
		b.Client.CloseIdleConnections()
		other.Client.CloseIdleConnections()
		if a := b.Step(s.URL("/")); a.StatusCode == http.StatusOK {
			t.Errorf("%s: the session is back", more)
		}
	}
	s.Load(testrig.GateBlock(options + "pages off"))
	other.Client.CloseIdleConnections()
	if a := s.tells(backchannel, url.Values{"logout_token": {"x"}}); a.StatusCode != http.StatusBadRequest || !strings.HasPrefix(a.Body, `{"error":"invalid_request"`) {
		t.Errorf("with pages off: %d %s", a.StatusCode, a.Body)
	}
	s.ends(s.LogoutToken(authentiqtest.Alice, ""))
	if other.Step(s.URL("/")).StatusCode == http.StatusOK {
		t.Error("with pages off: still signed in")
	}
}

// A sign-out lasts as long as any session that it may be about: also those of a
// gate beside, which has keys of its own and lets its sessions last longer.
func TestARemoteSignOutLastsAsLongAsTheLongestSession(t *testing.T) {
	s := newStreet(t, "respond nothing")
	s.LoadCaddyfile("http://127.0.0.1:PORT {\n" + testrig.GateBlock("session {\nlifetime 10m\n}") + "}\nhttp://other.localhost:PORT {\n" + testrig.GateBlock("session {\nlifetime 20d\nkeys "+sessionKey()+"\n}") + "}")
	if got, want := s.app().longestSession, 20*24*time.Hour; got != want {
		t.Errorf("the longest session is %s, want %s", got, want)
	}
	if got, want := s.app().longestKeyed, 10*time.Minute; got != want {
		t.Errorf("the longest that stored keys seal is %s, want %s", got, want)
	}
	here, there := s.signedIn(), newBrowser(t)
	elsewhere := "http://other.localhost:" + s.Port + "/"
	there.Get(elsewhere).Seen(t)
	s.ends(s.LogoutToken(authentiqtest.Alice, ""))
	if here.in(s) || there.Step(elsewhere).StatusCode == http.StatusOK {
		t.Error("still signed in")
	}
	// A lifetime that is shortened may be lengthened again.
	s.Load(testrig.GateBlock("session {\nlifetime 10m\n}"))
	s.ends(s.LogoutToken(authentiqtest.Bob, ""))
	n := 0
	for e := range s.app().state.revocations.Entries() {
		if n++; time.Until(time.Unix(e.Until, 0)) < 20*24*time.Hour {
			t.Errorf("one is kept until %s", time.Unix(e.Until, 0))
		}
	}
	if n != 2 {
		t.Errorf("%d are remembered, want 2", n)
	}
}

// Keys that can't be fetched, and revocations that can't be kept: the provider
// comes again.
func TestALogoutTokenThatCanNotBeTakenNowIsAskedForAgain(t *testing.T) {
	again := func(s *street, a testrig.Answer, check string) {
		t.Helper()
		s.plain(a)
		if a.StatusCode != http.StatusServiceUnavailable || a.Header.Get("Retry-After") == "" || !strings.HasPrefix(a.Body, `{"error":"temporarily_unavailable"`) {
			t.Errorf("%s: %d %q %s", check, a.StatusCode, a.Header, a.Body)
		}
	}
	t.Run("a provider that was never there", func(t *testing.T) {
		s := newStreet(t, testrig.GateBlock("signing_alg RS256"), func(c *authentiqtest.Config) { c.SigningAlg = "RS256" })
		token := s.LogoutToken(authentiqtest.Alice, "")
		s.Provider.Down()
		s.Load("respond 204\n")
		s.Storage = t.TempDir() // where nothing of it is saved
		for _, options := range []string{"signing_alg RS256", "#"} {
			block := testrig.GateBlock(strings.TrimPrefix(options, "#"))
			if options == "#" {
				block = strings.Replace(block, "dialect       authentiq", "dialect oidc", 1)
			}
			s.Load(block)
			again(s, s.tells(backchannel, url.Values{"logout_token": {token}}), options)
		}
		events := s.Events(eventLogoutRefused)
		if len(events) != 2 || events[0]["check"] != "discovery" || events[1]["check"] != "discovery" || events[0]["level"] != "error" || events[0]["status"] != 503.0 {
			t.Errorf("the log has %v", events)
		}
		if err := s.Provider.Up(); err != nil {
			t.Fatal(err)
		}
		testrig.Await(t, "it is taken", func() bool {
			return s.tells(backchannel, url.Values{"logout_token": {token}}).StatusCode == http.StatusOK
		})
	})
	t.Run("a provider whose keys were never there", func(t *testing.T) {
		s := newStreet(t, "respond nothing", func(c *authentiqtest.Config) { c.SigningAlg = "RS256" })
		s.Provider.SetHooks(callbackText(authentiqtest.Keys, http.StatusInternalServerError, "text/plain", "x"))
		s.Load(testrig.GateBlock("signing_alg RS256"))
		again(s, s.tells(backchannel, url.Values{"logout_token": {s.LogoutToken(authentiqtest.Alice, "")}}), "keys")
		if events := s.Events(eventLogoutRefused); len(events) != 1 || events[0]["check"] != "keys" || events[0]["level"] != "error" {
			t.Errorf("the log has %v", events)
		}
	})
	t.Run("a store that keeps nothing", func(t *testing.T) {
		s := newStreet(t, "respond nothing")
		s.loadMoody(testrig.GateBlock(""))
		moodOf(s.Storage).full.Store(true)
		again(s, s.tells(backchannel, url.Values{"logout_token": {s.LogoutToken(authentiqtest.Alice, "")}}), "store")
		if events := s.Events(eventLogoutRefused); len(events) != 1 || events[0]["check"] != "store" || events[0]["level"] != "error" || len(s.Events(eventRemoteSignOut)) != 0 {
			t.Errorf("the log has %v", events)
		}
	})
	t.Run("a secret that needs no provider", func(t *testing.T) {
		s := newStreet(t, testrig.GateBlock(""))
		b := s.signedIn()
		token := s.LogoutToken(authentiqtest.Alice, "")
		s.Provider.Down()
		s.ends(token)
		if a := b.Step(s.URL("/")); a.StatusCode == http.StatusOK {
			t.Error("still signed in")
		}
	})
}

// Attack 89: strangers' tokens must not have us hammer the provider, nor keep
// anybody from signing in.
func TestAFloodOfLogoutTokensHasKeysFetchedOnceAndKeepsNobodyOut(t *testing.T) {
	rs256 := func(c *authentiqtest.Config) { c.SigningAlg = "RS256" }
	forged := func(s *street, kid string) string {
		payload := strings.Split(s.LogoutToken(authentiqtest.Alice, ""), ".")[1]
		header := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"RS256","typ":"logout+jwt","kid":"` + kid + `"}`))
		return header + "." + payload + "." + base64.RawURLEncoding.EncodeToString(make([]byte, 256))
	}
	// flood posts n tokens at once and returns how often each status came.
	flood := func(s *street, n int, token func(i int) string) map[int]int {
		var mu sync.Mutex
		got := make(map[int]int)
		client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 50}, Timeout: 30 * time.Second}
		defer client.CloseIdleConnections()
		var running sync.WaitGroup
		var next atomic.Int64
		for range 50 {
			running.Go(func() {
				for i := int(next.Add(1)); i <= n; i = int(next.Add(1)) {
					resp, err := client.PostForm(s.URL(backchannel), url.Values{"logout_token": {token(i)}})
					if err != nil {
						s.T.Error(err)
						return
					}
					resp.Body.Close()
					mu.Lock()
					got[resp.StatusCode]++
					mu.Unlock()
				}
			})
		}
		running.Wait()
		return got
	}
	keys := func(s *street) int { return s.Asked(authentiqtest.Keys) }

	t.Run("while the keys come slowly", func(t *testing.T) {
		s := newStreet(t, testrig.GateBlock("signing_alg RS256"), rs256)
		b := s.signedIn()
		known := tokenHeader(t, s.LogoutToken("x", ""), "")["kid"].(string)
		h := stalling(authentiqtest.Keys)
		t.Cleanup(h.release)
		s.Provider.SetHooks(h.hooks)
		before := keys(s)
		random := make(chan map[int]int, 1)
		go func() { random <- flood(s, 1000, func(i int) string { return forged(s, fmt.Sprint("random-", i)) }) }()
		<-h.arrived
		// The fetch hangs, and nobody else waits for it.
		if got := flood(s, 1000, func(int) string { return forged(s, known) }); got[http.StatusBadRequest] != 1000 {
			t.Errorf("bad signatures: %v", got)
		}
		s.signedIn()
		s.ends(s.LogoutToken("nobody", ""))
		h.release()
		got := <-random
		if got[http.StatusBadRequest]+got[http.StatusServiceUnavailable] != 1000 {
			t.Errorf("unknown keys: %v", got)
		}
		if n := keys(s) - before; n != 1 {
			t.Errorf("%d fetches, want one", n)
		}
		if !b.in(s) {
			t.Error("signed out")
		}
		for _, event := range s.Events(eventLogoutRefused) {
			if event["level"] != "info" {
				t.Fatalf("a stranger has made an alert: %v", event)
			}
		}
	})
	t.Run("while the keys can not be fetched", func(t *testing.T) {
		s := newStreet(t, testrig.GateBlock("signing_alg RS256"), rs256)
		b := s.signedIn()
		s.Provider.SetHooks(callbackText(authentiqtest.Keys, http.StatusInternalServerError, "text/plain", "x"))
		before := keys(s)
		if got := flood(s, 1000, func(i int) string { return forged(s, fmt.Sprint("random-", i)) }); got[http.StatusServiceUnavailable] != 1000 {
			t.Errorf("unknown keys: %v", got)
		}
		if n := keys(s) - before; n != 1 {
			t.Errorf("%d fetches, want one", n)
		}
		s.signedIn() // the keys that were known are kept
		s.ends(s.LogoutToken(authentiqtest.Alice, b.sid(s)))
		if b.in(s) {
			t.Error("still signed in")
		}
	})
	t.Run("and a rotation is followed", func(t *testing.T) {
		s := newStreet(t, testrig.GateBlock("signing_alg RS256"), rs256)
		for range 3 {
			b := s.signedIn()
			s.Provider.RotateKeys()
			s.ends(s.LogoutToken("", b.sid(s)))
			if b.in(s) {
				t.Fatal("still signed in")
			}
		}
	})
	// One that nobody publishes is no good, and none is worth coming again for.
	t.Run("a key that is not published", func(t *testing.T) {
		s := newStreet(t, testrig.GateBlock("signing_alg RS256"), rs256)
		s.signedIn()
		if a := s.tells(backchannel, url.Values{"logout_token": {forged(s, "random")}}); a.StatusCode != http.StatusBadRequest {
			t.Errorf("%d", a.StatusCode)
		}
		// The next may be one that the provider has just begun to use.
		if a := s.tells(backchannel, url.Values{"logout_token": {forged(s, "another")}}); a.StatusCode != http.StatusServiceUnavailable {
			t.Errorf("while we may not ask again: %d", a.StatusCode)
		}
	})
}

// framed asks as a frame on the provider's page does, with the cookies of a jar.
func (b *browser) framed(s *street, query url.Values) testrig.Answer {
	b.T.Helper()
	return b.Step(s.URL("/authentiq/frontchannel-logout?"+query.Encode()), "Sec-Fetch-Dest", "iframe", "Sec-Fetch-Site", "cross-site", "Referer", s.Issuer)
}

// Attack 88: a frame anywhere in the web may name any session, and ends none but
// that of its own browser.
func TestFrontChannelLogoutEndsTheSessionThatComesAlong(t *testing.T) {
	for _, options := range []string{"", "session {\nsame_site strict\n}", "session {\ncookie mine\n}", "pages off"} {
		s := newStreet(t, testrig.GateBlock(options))
		b, other := newBrowser(t), newBrowser(t)
		for _, each := range []*browser{b, other} {
			each.Get(s.URL("/"))
		}
		sid, otherSID := b.sid(s), other.sid(s)
		good := url.Values{"iss": {s.Issuer}, "sid": {sid}}
		change := func(name string, values ...string) url.Values {
			q := url.Values{"iss": good["iss"], "sid": good["sid"]}
			if q[name] = values; len(values) == 0 {
				delete(q, name)
			}
			return q
		}
		harmless := func(what string, a testrig.Answer) {
			t.Helper()
			h := a.Header
			if a.StatusCode != http.StatusOK || h.Get("Cache-Control") != "no-store" || !strings.HasPrefix(h.Get("Content-Type"), "text/html") || h.Get("X-Frame-Options") != "" || strings.Contains(h.Get("Content-Security-Policy"), "frame-ancestors") || h.Get("Location") != "" || strings.Contains(a.Body, "script") {
				t.Errorf("%s: %d %q %s", what, a.StatusCode, h, a.Body)
			}
		}
		for name, q := range map[string]url.Values{
			"nothing":                    {},
			"another issuer":             change("iss", "https://other.example/"),
			"an issuer without slash":    change("iss", strings.TrimSuffix(s.Issuer, "/")),
			"no issuer":                  change("iss"),
			"an empty issuer":            change("iss", ""),
			"two issuers":                change("iss", s.Issuer, s.Issuer),
			"another browser's session":  change("sid", otherSID),
			"no session":                 change("sid"),
			"an empty session":           change("sid", ""),
			"two sessions":               change("sid", sid, otherSID),
			"a session in another case":  change("sid", strings.ToLower(sid)),
			"a session that begins so":   change("sid", sid+"x"),
			"the user for session":       change("sid", authentiqtest.Alice),
			"names in another case":      {"ISS": good["iss"], "SID": good["sid"]},
			"a query that is too long":   change("x", strings.Repeat("x", maxQuery)),
			"a session with markup":      change("sid", "<script>alert(1)</script>"),
			"what is no logout token":    change("sid", s.LogoutToken(authentiqtest.Alice, sid)),
			"the session and a NUL byte": change("sid", sid+"\x00"),
		} {
			a := b.framed(s, q)
			if harmless(name, a); len(a.Header["Set-Cookie"])+len(a.Header["Clear-Site-Data"]) > 0 {
				t.Errorf("%s: acted: %q", name, a.Header)
			}
		}
		// Without the cookie, or with another's, it is nobody's.
		for _, stranger := range []*browser{newBrowser(t), other} {
			a := stranger.framed(s, good)
			if harmless("a stranger", a); len(a.Header["Set-Cookie"])+len(a.Header["Clear-Site-Data"]) > 0 {
				t.Errorf("%q", a.Header)
			}
		}
		for _, method := range []string{http.MethodPost, http.MethodHead, http.MethodPut} {
			if a := s.tellsRaw(method, "/authentiq/frontchannel-logout?"+good.Encode(), "", "", "Cookie", b.CookieHeader(s.URL(backchannel))); a.StatusCode != http.StatusMethodNotAllowed || a.Header.Get("Allow") != "GET" {
				t.Errorf("%s: %d", method, a.StatusCode)
			}
		}
		if !b.in(s) || !other.in(s) {
			t.Fatal("signed out by one of them")
		}
		if n := s.app().state.revocations.Len(); n != 0 {
			t.Errorf("%d revocations were kept for nothing", n)
		}

		line := ourLine(b, s.URL("/"))
		a := b.framed(s, good)
		if harmless("the good one", a); a.Header.Get("Clear-Site-Data") != `"cache"` {
			t.Errorf("%q", a.Header)
		}
		for _, c := range b.Cookies(s.URL("/authentiq/")) {
			if !strings.HasPrefix(c.Name, "authentiqtest") {
				t.Errorf("%s is left", c.Name)
			}
		}
		hits := s.Echo.Count()
		copied := s.with(line, "/")
		if copied.StatusCode == http.StatusOK || s.Echo.Count() != hits {
			t.Errorf("the copy: %d", copied.StatusCode)
		}
		if !other.in(s) {
			t.Error("another browser's session has ended")
		}
		if events := s.Events(eventSignOut); len(events) != 1 || events[0]["reason"] != "signed out at the provider" || events[0]["sid"] != sid {
			t.Errorf("the log has %v", events)
		}
		testrig.StopCaddy()
	}
}

// A browser drops a cookie only if the answer names it as it was set.
func TestFrontChannelLogoutDeletesCookiesAsTheyWereSet(t *testing.T) {
	s, at := hdrSecure(t, testrig.GateBlock("session {\nsame_site none\n}"))
	b := newBrowser(t)
	set := make(map[string]string)
	shape := func(c *http.Cookie) string {
		return fmt.Sprint(c.Path, " ", c.Domain, " ", c.Secure, " ", c.HttpOnly, " ", c.SameSite)
	}
	for _, c := range b.Step(b.ToCallback(at + "/")).Cookies() {
		if c.MaxAge > 0 {
			set[c.Name] = shape(c)
		}
	}
	sid := b.Step(at+"/").Seen(t).Value(t, "X-Authentiq-Sid")
	a := b.Step(at+"/authentiq/frontchannel-logout?"+url.Values{"iss": {s.Issuer}, "sid": {sid}}.Encode(), "Sec-Fetch-Dest", "iframe", "Sec-Fetch-Site", "cross-site")
	deleted := make(map[string]string)
	for _, c := range a.Cookies() {
		if c.MaxAge < 0 && c.Value == "" {
			deleted[c.Name] = shape(c)
		}
	}
	if len(set) < 2 || set[hostCookie] == "" || !strings.Contains(set[hostCookie], "true true 4") || fmt.Sprint(set) != fmt.Sprint(deleted) {
		t.Errorf("set %v, deleted %v", set, deleted)
	}
	if !slices.Contains(a.Header["Clear-Site-Data"], `"cache"`) {
		t.Errorf("%q", a.Header)
	}
	if b.Step(at+"/").StatusCode == http.StatusOK {
		t.Error("still signed in")
	}
}

// A refresh token is given back here too: the user did not say so at the provider
// himself, an operator may have.
func TestFrontChannelLogoutRevokesTheRefreshToken(t *testing.T) {
	s, _ := refreshing(t, "")
	tokens := tokensOf(s, authentiqtest.Hooks{})
	b := s.signedIn()
	b.framed(s, url.Values{"iss": {s.Issuer}, "sid": {b.sid(s)}})
	testrig.Await(t, "the token is revoked", func() bool { return slices.Equal(s.Provider.Revoked(), tokens()) })
}
