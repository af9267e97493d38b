// SPDX-License-Identifier: Apache-2.0

package authentiq

// signout_test.go is about the way out: who may ask for it, what is over
// afterwards, and where it leads.

import (
	"html"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/authentiq/caddy-authentiq/authentiqtest"
	"github.com/authentiq/caddy-authentiq/internal/testrig"
)

func TestSignOutEndsTheSessionForEveryCopyOfItsCookie(t *testing.T) {
	s := newStreet(t, testrig.GateBlock(""))
	for _, test := range []struct {
		name, method string
		header       []string
	}{
		{"a form of this site", http.MethodPost, []string{"Sec-Fetch-Site", "same-origin"}},
		{"a link of this site", http.MethodGet, []string{"Sec-Fetch-Site", "same-origin"}},
		{"a script of this site", http.MethodPost, []string{"Sec-Fetch-Site", "same-origin", "Sec-Fetch-Mode", "cors", "Sec-Fetch-Dest", "empty", "Accept", "*/*"}},
		{"an older browser's form", http.MethodPost, []string{"Origin", "http://127.0.0.1:PORT"}},
		{"a browser that tells only where it was", http.MethodPost, []string{"Referer", "http://127.0.0.1:PORT/a/page?x=1"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			b, bystander := s.signedIn(), s.signedIn()
			kept := b.CookieHeader(s.URL("/"))
			req := testrig.PageRequest(t, s.URL("/authentiq/sign-out"))
			req.Method = test.method
			if strings.HasPrefix(test.name, "an older") || strings.HasPrefix(test.name, "a browser") {
				req.Header.Del("Sec-Fetch-Mode")
				req.Header.Del("Sec-Fetch-Dest")
			}
			for i := 0; i+1 < len(test.header); i += 2 {
				req.Header.Set(test.header[i], s.Fill(test.header[i+1]))
			}
			b.Client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
			a := b.Do(req)
			if !strings.HasPrefix(a.Header.Get("Location"), s.Provider.EndpointURL(authentiqtest.EndSession)+"?") {
				t.Errorf("leads to %q", a.Header.Get("Location"))
			}
			if a.StatusCode != http.StatusSeeOther || a.Header.Get("Clear-Site-Data") != `"cache"` || a.Header.Get("Cache-Control") != "no-store" {
				t.Errorf("%d %q", a.StatusCode, a.Header)
			}
			if names := flowSession(b, s.URL("/")); len(names) > 0 {
				t.Errorf("cookies are left: %q", names)
			}
			if page := b.Get(s.URL("/authentiq/signed-out")); page.StatusCode != http.StatusOK || !strings.Contains(page.Body, "You are signed out") {
				t.Errorf("%d %.300s", page.StatusCode, page.Body)
			}
			hits := s.Echo.Count()
			s.Denied(newBrowser(t).Step(s.URL("/"), "Cookie", kept), hits)
			s.flowLoad(t, testrig.GateBlock("require email")) // a reload brings nothing back
			s.Denied(newBrowser(t).Step(s.URL("/"), "Cookie", kept), hits)
			// The user's other sessions are his own affair, and a new one works at once.
			bystander.Get(s.URL("/")).Seen(t)
			s.signedIn()
		})
	}
}

func TestSignOutIsAskedForByAPageOfThisSiteOrConfirmed(t *testing.T) {
	s := newStreet(t, testrig.GateBlock(""))
	older := []string{"Sec-Fetch-Mode", "", "Sec-Fetch-Dest", ""}
	for _, test := range []struct {
		name, method string
		header       []string
	}{
		{"a link on another site", http.MethodGet, []string{"Sec-Fetch-Site", "cross-site"}},
		{"a form on another site", http.MethodPost, []string{"Sec-Fetch-Site", "cross-site"}},
		{"a sibling host", http.MethodPost, []string{"Sec-Fetch-Site", "same-site"}},
		{"a typed address", http.MethodGet, []string{"Sec-Fetch-Site", "none"}},
		{"another site that claims our origin", http.MethodPost, []string{"Sec-Fetch-Site", "cross-site", "Origin", "http://127.0.0.1:PORT", "Referer", "http://127.0.0.1:PORT/"}},
		{"an image of this site", http.MethodGet, []string{"Sec-Fetch-Site", "same-origin", "Sec-Fetch-Mode", "no-cors", "Sec-Fetch-Dest", "image"}},
		{"a frame of this site", http.MethodGet, []string{"Sec-Fetch-Site", "same-origin", "Sec-Fetch-Dest", "iframe"}},
		{"a prefetch of this site", http.MethodGet, []string{"Sec-Fetch-Site", "same-origin", "Sec-Purpose", "prefetch"}},
		{"an odd value", http.MethodPost, []string{"Sec-Fetch-Site", "Same-Origin"}},
		{"two values", http.MethodPost, []string{"Sec-Fetch-Site", "same-origin, cross-site"}},
		{"nothing said, GET", http.MethodGet, older},
		{"nothing said, POST", http.MethodPost, older},
		{"an origin of null", http.MethodPost, append(older, "Origin", "null")},
		{"another origin", http.MethodPost, append(older, "Origin", "http://evil.example")},
		{"another port", http.MethodPost, append(older, "Origin", "http://127.0.0.1:1")},
		{"another scheme", http.MethodPost, append(older, "Origin", "https://127.0.0.1:PORT")},
		{"an origin that goes on", http.MethodPost, append(older, "Origin", "http://127.0.0.1:PORT.evil.example")},
		{"an origin with our name before its own", http.MethodPost, append(older, "Referer", "http://127.0.0.1:PORT@evil.example/")},
		{"another origin that says where it was", http.MethodPost, append(older, "Origin", "http://evil.example", "Referer", "http://127.0.0.1:PORT/")},
		{"our origin in its path", http.MethodPost, append(older, "Referer", "http://evil.example/http://127.0.0.1:PORT/")},
		{"a broken referer", http.MethodPost, append(older, "Referer", "http://[::1")},
		{"a referer without a scheme", http.MethodPost, append(older, "Referer", "//127.0.0.1:PORT/")},
		{"a forged host", http.MethodPost, append(older, "Origin", "http://evil.example", "X-Forwarded-Host", "evil.example")},
	} {
		t.Run(test.name, func(t *testing.T) {
			b := s.signedIn()
			req := testrig.PageRequest(t, s.URL("/authentiq/sign-out?return_to=%2Fbye%3Fx%3D%22%26y"))
			req.Method = test.method
			for i := 0; i+1 < len(test.header); i += 2 {
				if req.Header.Set(test.header[i], s.Fill(test.header[i+1])); test.header[i+1] == "" {
					req.Header.Del(test.header[i])
				}
			}
			a := b.Do(req)
			if a.StatusCode != http.StatusOK || len(a.Cookies()) > 0 || a.Header.Get("Clear-Site-Data") != "" || a.Header.Get("Cache-Control") != "no-store" || !strings.Contains(a.Header.Get("Content-Security-Policy"), "frame-ancestors 'none'") {
				t.Fatalf("%d %q", a.StatusCode, a.Header)
			}
			if b.Get(s.URL("/")).Seen(t).Value(t, "X-Authentiq-Subject") != authentiqtest.Alice {
				t.Error("signed out")
			}
			if test.name != "a link on another site" {
				return
			}
			form := regexp.MustCompile(`<form method="post" action="([^"]*)">`).FindStringSubmatch(a.Body)
			if form == nil {
				t.Fatalf("no button: %s", a.Body)
			}
			asked := s.Asked(authentiqtest.EndSession)
			b.Client.Transport = signoutStop{b.Client.Transport, s.URL("/bye")}
			a = goOn(t, b.Post(s.URL(html.UnescapeString(form[1]))), b.Get)
			if last := b.Visited[len(b.Visited)-1]; last != s.URL(`/bye?x=%22&y`) || len(flowSession(b, s.URL("/"))) > 0 || s.Asked(authentiqtest.EndSession) != asked+1 {
				t.Errorf("the button: %d %q", a.StatusCode, b.Visited)
			}
		})
	}
}

func TestSignOutReturnsOnlyToThisSite(t *testing.T) {
	s := newStreet(t, testrig.GateBlock(""))
	stay := func(b *browser) {
		b.Client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	}
	b := newBrowser(t)
	stay(b)
	escape := url.QueryEscape
	for query, want := range map[string]string{
		"":                                      "/authentiq/signed-out",
		"return_to=/bye":                        "/bye",
		"return_to=" + escape("/bye?a=b#c"):     "/bye?a=b#c",
		"return_to=" + escape(`/\evil.example`): "/", "return_to=" + escape(`\\evil.example`): "/", "return_to=//evil.example": "/",
		"return_to=///evil.example": "/", "return_to=" + escape("/\t/evil.example"): "/", "return_to=" + escape("/\n/evil.example"): "/",
		"return_to=" + escape("/\x00/evil.example"): "/", "return_to=https://evil.example/": "/", "return_to=HTTPS:evil.example": "/",
		"return_to=javascript:alert(1)": "/", "return_to=" + escape("data:text/html,x"): "/", "return_to=" + escape(" //evil.example"): "/",
		"return_to=evil.example": "/", "return_to=@evil.example": "/", "return_to=": "/", "return_to=.evil.example": "/",
		"return_to=/authentiq/sign-out": "/", "return_to=/authentiq/sign-in": "/", "return_to=/authentiq/callback": "/", "return_to=" + escape("/./authentiq/sign-out"): "/",
		"return_to=" + escape("/x/../authentiq/sign-out"): "/", "return_to=/%61uthentiq/sign-out": "/", "return_to=" + escape("/%61uthentiq/sign-out"): "/",
		"return_to=/" + strings.Repeat("a", 4000): "/",
		"return_to=/a&return_to=//evil.example":   "/authentiq/signed-out",
		"rd=//evil.example":                       "/authentiq/signed-out",
		"RETURN_TO=//evil.example":                "/authentiq/signed-out",
		"post_logout_redirect_uri=https://evil.example&state=https://evil.example&logout=https://evil.example&redirect=//evil.example": "/authentiq/signed-out",
	} {
		a := b.Post(s.URL("/authentiq/sign-out?" + query))
		if location := signoutEnd(t, b, a); location != want {
			t.Errorf("%q leads to %q, want %q", query, location, want)
		}
		// The page that asks first keeps no stranger's address either.
		if a := b.Get(s.URL("/authentiq/sign-out?"+query), "Sec-Fetch-Site", "cross-site"); a.StatusCode != http.StatusOK || strings.Contains(a.Body, `href="//`) || strings.Contains(a.Body, `href="http`) || strings.Contains(a.Body, `action="//`) {
			t.Errorf("%q asks with %d %s", query, a.StatusCode, a.Body)
		}
	}
	for _, query := range []string{"return_to=/%zz", "a=1;return_to=//evil.example", strings.Repeat("a&", 5000)} {
		if a := b.Post(s.URL("/authentiq/sign-out?" + query)); a.StatusCode != http.StatusBadRequest && a.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
			t.Errorf("%.20q: %d", query, a.StatusCode)
		}
	}
	for _, state := range []string{"https://evil.example", "//evil.example"} {
		if a := b.Get(s.URL("/authentiq/signed-out?state=" + escape(state) + "&return_to=" + escape(state))); a.StatusCode != http.StatusOK || strings.Contains(a.Body, "evil") {
			t.Errorf("signed-out: %d %s", a.StatusCode, a.Body)
		}
	}
}

func TestSignOutTakesNoOtherMethod(t *testing.T) {
	s := newStreet(t, testrig.GateBlock(""))
	b := s.signedIn()
	for _, method := range []string{http.MethodHead, http.MethodPut, http.MethodDelete, http.MethodOptions, "FOO"} {
		req := testrig.PageRequest(t, s.URL("/authentiq/sign-out"), "Sec-Fetch-Site", "same-origin")
		req.Method = method
		if a := b.Do(req); a.StatusCode != http.StatusMethodNotAllowed || a.Header.Get("Allow") != "GET, POST" || len(a.Cookies()) > 0 {
			t.Errorf("%s: %d %q", method, a.StatusCode, a.Header)
		}
	}
	b.Get(s.URL("/")).Seen(t)
}

func TestSignOutWorksWhileTheProviderIsDown(t *testing.T) {
	s := newStreet(t, testrig.GateBlock(""))
	b := s.signedIn()
	kept := b.CookieHeader(s.URL("/"))
	s.Provider.Down()
	s.flowRediscover(t, testrig.GateBlock(""))
	b.Client.CloseIdleConnections()
	if a := b.Post(s.URL("/authentiq/sign-out")); a.StatusCode != http.StatusOK || !strings.HasSuffix(b.Visited[len(b.Visited)-1], "/authentiq/signed-out") {
		t.Errorf("%d at %q", a.StatusCode, b.Visited)
	}
	hits := s.Echo.Count()
	if a := newBrowser(t).Step(s.URL("/"), "Cookie", kept); a.StatusCode != http.StatusServiceUnavailable || s.Echo.Count() != hits {
		t.Errorf("the copy: %d", a.StatusCode)
	}
	if err := s.Provider.Up(); err != nil {
		t.Fatal(err)
	}
	testrig.Await(t, "sign-in again", func() bool { return b.Get(s.URL("/")).StatusCode == http.StatusOK })
}

// signoutStop answers at one address itself: what is behind it would begin a
// new sign-in, and hide where the journey ended.
type signoutStop struct {
	http.RoundTripper
	at string
}

func (s signoutStop) RoundTrip(req *http.Request) (*http.Response, error) {
	if strings.HasPrefix(req.URL.String(), s.at) {
		return &http.Response{StatusCode: http.StatusOK, Header: http.Header{}, Body: http.NoBody, Request: req}, nil
	}
	return s.RoundTripper.RoundTrip(req)
}

// onward returns where a page goes on to by itself, a local address; empty if it
// stays.
func onward(a testrig.Answer) string {
	m := regexp.MustCompile(`<meta http-equiv="refresh" content="0;url=(/(?:[^/"][^"]*)?)">`).FindStringSubmatch(a.Body)
	if m == nil {
		return ""
	}
	return html.UnescapeString(m[1])
}

// goOn does with a page what a browser does by itself: it loads what the page
// goes on to.
func goOn(t *testing.T, a testrig.Answer, load func(address string, header ...string) testrig.Answer) testrig.Answer {
	t.Helper()
	address := onward(a)
	if a.StatusCode != http.StatusOK || address == "" {
		t.Fatalf("the page does not go on: %d %.500s", a.StatusCode, a.Body)
	}
	to, err := a.Request.URL.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	return load(to.String(), "Sec-Fetch-Site", "same-origin")
}

// signoutEnd returns where a sign-out without the provider ends, which answered
// with a: where it leads to at once, or where the signed-out page goes on to.
func signoutEnd(t *testing.T, b *browser, a testrig.Answer) string {
	t.Helper()
	at, err := a.Location()
	if err != nil || a.StatusCode != http.StatusSeeOther {
		t.Fatalf("%d %v %.300s", a.StatusCode, err, a.Body)
	}
	location := a.Header.Get("Location")
	if !strings.HasPrefix(location, "/authentiq/signed-out?") {
		return location
	}
	if q := at.Query(); q.Get("state") == "" || len(q) != 1 {
		t.Errorf("leads to %q", location)
	}
	a = goOn(t, b.Step(at.String()), b.Step)
	if a.StatusCode != http.StatusSeeOther || a.Header.Get("Clear-Site-Data") != `"cache"` {
		t.Errorf("%d %q", a.StatusCode, a.Header)
	}
	return a.Header.Get("Location")
}

// signoutHint returns the cookie that holds the ID token, as our endpoints get it.
func signoutHint(b *browser, address string) *http.Cookie {
	for _, c := range b.Cookies(address) {
		if strings.HasSuffix(c.Name, hintSuffix) {
			return c
		}
	}
	return nil
}

// signoutStep signs out without following to the provider, and returns the
// parameters that it would be asked with; nil if it would not be asked.
func signoutStep(t *testing.T, b *browser, s *street, query string) (testrig.Answer, url.Values) {
	t.Helper()
	follow := b.Client.CheckRedirect
	b.Client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	defer func() { b.Client.CheckRedirect = follow }()
	a := b.Post(s.URL("/authentiq/sign-out" + query))
	at, err := a.Location()
	if err != nil || a.StatusCode != http.StatusSeeOther {
		t.Fatalf("%d %v %.300s", a.StatusCode, err, a.Body)
	}
	if !strings.HasPrefix(at.String(), s.Provider.EndpointURL(authentiqtest.EndSession)+"?") {
		return a, nil
	}
	return a, at.Query()
}

func TestSignOutEndsTheSessionAtTheProviderToo(t *testing.T) {
	s := newStreet(t, testrig.GateBlock(""))
	var issued string
	s.Provider.SetHooks(authentiqtest.Hooks{IDToken: func(compact string) string { issued = compact; return compact }})
	b := s.signedIn()
	a, q := signoutStep(t, b, s, "")
	for name, want := range map[string]string{
		"client_id": s.Provider.ClientID(), "id_token_hint": issued, "post_logout_redirect_uri": s.URL("/authentiq/signed-out"),
	} {
		if got := q[name]; len(got) != 1 || got[0] != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	if len(q) != 3 {
		t.Errorf("parameters %q", q)
	}
	if a.Header.Get("Referrer-Policy") != "no-referrer" || a.Header.Get("Cache-Control") != "no-store" {
		t.Errorf("%q", a.Header)
	}
	s.Provider.SignInAs("") // the provider asks who it is, unless it still knows
	to, _ := a.Location()
	if page := b.Get(to.String()); page.StatusCode != http.StatusOK || !strings.Contains(page.Body, "You are signed out") || b.Visited[len(b.Visited)-1] != s.URL("/authentiq/signed-out") {
		t.Errorf("%d at %q", page.StatusCode, b.Visited)
	}
	if page := b.Get(s.URL("/")); strings.Contains(page.Body, testrig.EchoMark) {
		t.Error("the provider still knew who it was")
	}
	// Signing in again at once works.
	s.Provider.SignInAs(authentiqtest.Alice)
	b.Get(s.URL("/")).Seen(t)
}

func TestTheIDTokenIsKeptForTheEndpointsOnlyAndReplacedWithTheSession(t *testing.T) {
	s := newStreet(t, testrig.GateBlock(""))
	b := newBrowser(t)
	callback := b.ToCallback(s.URL("/"))
	a := b.Step(callback)
	var hint *http.Cookie
	for _, c := range a.Cookies() {
		if c.Name == "authentiq-hint" {
			hint = c
		}
	}
	if hint == nil || hint.Path != "/authentiq" || !hint.HttpOnly || hint.SameSite != http.SameSiteLaxMode || hint.MaxAge != int(defaultLifetime/time.Second) || hint.Domain != "" {
		t.Fatalf("the cookie: %v", hint)
	}
	for _, part := range []string{"eyJ", authentiqtest.Alice} {
		if strings.Contains(hint.Value, part) {
			t.Errorf("it can be read: %s", hint.Value)
		}
	}
	for _, path := range []string{"/", "/authentiqx", "/authenti", "/app/authentiq"} {
		if signoutHint(b, s.URL(path)) != nil {
			t.Errorf("it is sent to %s", path)
		}
	}
	// Somebody who sends it by hand does not get it through either.
	if got := b.Get(s.URL("/"), "Cookie", "a=b; authentiq-hint="+hint.Value+"; __Secure-authentiq-hint=x; authentiq-return=y; "+b.CookieHeader(s.URL("/"))).Seen(t).Values("Cookie"); len(got) != 1 || strings.Contains(got[0], "hint") || strings.Contains(got[0], "return") || !strings.Contains(got[0], "a=b") {
		t.Errorf("the upstream sees %q", got)
	}

	first := signoutHint(b, s.URL("/authentiq/sign-out")).Value
	s.Provider.SignInAs(authentiqtest.Bob)
	b.Get(s.URL("/authentiq/sign-in?again=other"))
	second := signoutHint(b, s.URL("/authentiq/sign-out"))
	if second == nil || second.Value == first {
		t.Fatal("the hint is still that of the session before")
	}
	// A token that is too large leaves none behind, least of all the old one.
	s.Provider.SetHooks(authentiqtest.Hooks{IDTokenHeader: func(h map[string]any) { h["x"] = noisy(5000) }})
	b.Get(s.URL("/authentiq/sign-in"))
	b.Get(s.URL("/")).Seen(t)
	if left := signoutHint(b, s.URL("/authentiq/sign-out")); left != nil {
		t.Errorf("an old hint is left")
	}
	if _, q := signoutStep(t, b, s, ""); q == nil || q.Has("id_token_hint") || q.Get("client_id") == "" {
		t.Errorf("without a hint: %q", q)
	}
	// A sign-in that fails takes it away as it does the session.
	s.Provider.SetHooks(authentiqtest.Hooks{})
	b.Get(s.URL("/"))
	if signoutHint(b, s.URL("/authentiq/sign-out")) == nil {
		t.Fatal("no hint")
	}
	s.Provider.SetHooks(callbackClaim("nonce", "x"))
	b.Get(s.URL("/authentiq/sign-in"))
	if signoutHint(b, s.URL("/authentiq/sign-out")) != nil {
		t.Error("a hint is left after a sign-in that failed")
	}
	s.Provider.SetHooks(authentiqtest.Hooks{})
	b.Get(s.URL("/")).Seen(t)
	signoutStep(t, b, s, "")
	if left := b.CookieHeader(s.URL("/authentiq/sign-out")); left != "" && !strings.HasPrefix(left, "authentiqtest") {
		t.Errorf("left after sign-out: %q", left)
	}
}

// A callback outside path_prefix never sees the hint; an old one must not
// outlive its session all the same.
func TestAHintThatTheCallbackCanNotSeeIsReplacedToo(t *testing.T) {
	s := newStreet(t, testrig.GateBlock("callback_url http://127.0.0.1:PORT/elsewhere/cb"))
	b := s.signedIn()
	if signoutHint(b, s.URL("/authentiq/sign-out")) == nil || signoutHint(b, s.URL("/elsewhere/cb")) != nil {
		t.Fatal("no hint, or in the wrong place")
	}
	s.Provider.SetHooks(authentiqtest.Hooks{IDTokenHeader: func(h map[string]any) { h["x"] = noisy(5000) }})
	s.Provider.SignInAs(authentiqtest.Bob)
	b.Get(s.URL("/authentiq/sign-in")).Seen(t)
	if signoutHint(b, s.URL("/authentiq/sign-out")) != nil {
		t.Error("the hint of the user before is left")
	}
}

func TestTheHintOfAnotherPlaceDoesNotOpen(t *testing.T) {
	key := sessionKey()
	options := "session {\nkeys " + key + "\n}"
	s := newStreet(t, testrig.GateBlock(options))
	b := s.signedIn()
	hint, session := signoutHint(b, s.URL("/authentiq/sign-out")).Value, b.Cookies(s.URL("/"))
	var sessionValue string
	for _, c := range session {
		if c.Name == plainCookie {
			sessionValue = c.Value
		}
	}
	stranger := func(name, value, host string) url.Values {
		req := testrig.PageRequest(t, s.URL("/authentiq/sign-out"), "Sec-Fetch-Site", "same-origin", "Cookie", name+"="+value)
		req.Method = http.MethodPost
		if host != "" {
			req.Host = host
		}
		other := newBrowser(t)
		other.Client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
		to, err := other.Do(req).Location()
		if err != nil {
			t.Fatal(err)
		}
		return to.Query()
	}
	if q := stranger("authentiq-hint", hint, ""); q.Get("id_token_hint") == "" {
		t.Fatal("the hint does not work at all")
	}
	if q := stranger("authentiq-hint", hint, "other.localhost:"+s.Port); q.Has("id_token_hint") {
		t.Error("it opens for another host")
	}
	for name, value := range map[string]string{"the session": sessionValue, "nothing": "", "a changed one": flipped(hint, len(hint)/2), "half of it": hint[:len(hint)/2]} {
		if q := stranger("authentiq-hint", value, ""); q.Has("id_token_hint") {
			t.Errorf("%s opens as a hint", name)
		}
	}
	if q := stranger("authentiq-return", hint, ""); q.Has("id_token_hint") {
		t.Error("it opens from another cookie")
	}
	s.flowLoad(t, strings.ReplaceAll(testrig.GateBlock(options), "CLIENT", "another"))
	if q := stranger("authentiq-hint", hint, ""); q.Has("id_token_hint") {
		t.Error("it opens for another client")
	}
}

func TestAfterSignOutTheUserGoesWhereHeWantedByHisStateOnly(t *testing.T) {
	s := newStreet(t, testrig.GateBlock(""))
	ready := func(t *testing.T) (b *browser, back string) {
		b = s.signedIn()
		a, q := signoutStep(t, b, s, "?return_to=/bye%3Fa%3Db%26c")
		state := q.Get("state")
		if len(q["state"]) != 1 || len(state) < 20 || strings.Contains(state, "/bye") {
			t.Fatalf("state %q", q["state"])
		}
		var cookie *http.Cookie
		for _, c := range a.Cookies() {
			if c.Name == "authentiq-return" {
				cookie = c
			}
		}
		if cookie == nil || cookie.Path != "/authentiq" || !cookie.HttpOnly || cookie.SameSite != http.SameSiteLaxMode || cookie.MaxAge != 600 || strings.Contains(cookie.Value, "/bye") { // letters alone come up by chance
			t.Fatalf("the cookie: %v", cookie)
		}
		return b, s.URL("/authentiq/signed-out?state=" + state)
	}
	page := func(t *testing.T, a testrig.Answer) {
		t.Helper()
		if a.StatusCode != http.StatusOK || a.Header.Get("Location") != "" || !strings.Contains(a.Body, "You are signed out") || strings.Contains(a.Body, "evil") || len(a.Cookies()) > 0 {
			t.Errorf("%d %q", a.StatusCode, a.Header)
		}
		if links := answersLinks(a); onward(a) != "/authentiq/signed-out?clear" || len(links) != 1 || links[labelSignInAgain] == "" {
			t.Errorf("goes on to %q, or to %q", onward(a), links)
		}
	}
	b, back := ready(t)
	kept := b.CookieHeader(back)
	a := b.Step(back, "Sec-Fetch-Site", "cross-site")
	// Who follows no refresh has a link.
	if links := answersLinks(a); a.StatusCode != http.StatusOK || len(a.Cookies()) > 0 || a.Header.Get("Clear-Site-Data") != "" || a.Header.Get("Referrer-Policy") != "no-referrer" || len(links) != 1 || links[labelGoOn] != onward(a) {
		t.Errorf("%d %q %q", a.StatusCode, a.Header, links)
	}
	cleared := onward(a)
	a = goOn(t, a, b.Step)
	if a.StatusCode != http.StatusSeeOther || a.Header.Get("Location") != "/bye?a=b&c" || a.Header.Get("Cache-Control") != "no-store" || a.Header.Get("Referrer-Policy") != "no-referrer" || a.Header.Get("Clear-Site-Data") != `"cache"` {
		t.Errorf("%d %q", a.StatusCode, a.Header)
	}
	page(t, b.Step(back)) // once
	if a := b.Step(s.URL(cleared)); a.StatusCode != http.StatusOK || a.Header.Get("Location") != "" || onward(a) != "" || answersLinks(a)[labelGoOn] != "" {
		t.Errorf("used before: %d %q %s", a.StatusCode, a.Header, a.Body)
	}
	if hits := s.Echo.Count(); true {
		s.Denied(b.Step(s.URL("/")), hits)
	}

	for name, change := range map[string]func(string) string{
		"no state":             func(string) string { return s.URL("/authentiq/signed-out") },
		"an empty state":       func(string) string { return s.URL("/authentiq/signed-out?state=") },
		"an address as state":  func(string) string { return s.URL("/authentiq/signed-out?state=https%3A%2F%2Fevil.example") },
		"another state":        func(string) string { return s.URL("/authentiq/signed-out?state=AAAAAAAAAAAAAAAAAAAAAA") },
		"a state that goes on": func(back string) string { return back + "A" },
		"a state in another case": func(back string) string {
			at := strings.Index(back, "state=") + 6
			return back[:at] + strings.ToUpper(back[at:]) + strings.ToLower(back[at:])
		},
		"under another name": func(back string) string { return strings.Replace(back, "state=", "STATE=", 1) },
		"with a return_to":   func(string) string { return s.URL("/authentiq/signed-out?return_to=//evil.example") },
		"a broken query":     func(back string) string { return back + "&%zz" },
		"a long query":       func(back string) string { return back + "&a=" + strings.Repeat("a", 9000) },
	} {
		t.Run(name, func(t *testing.T) {
			b, back := ready(t)
			page(t, b.Step(change(back)))
			hits := s.Echo.Count()
			s.Denied(b.Step(s.URL("/")), hits) // whatever the state, the session is gone
		})
	}
	t.Run("in another browser", func(t *testing.T) {
		_, back := ready(t)
		page(t, newBrowser(t).Step(back))
	})
	t.Run("with the cookie of another state", func(t *testing.T) {
		_, back := ready(t)
		page(t, newBrowser(t).Step(back, "Cookie", kept))
	})
	t.Run("on another host", func(t *testing.T) {
		b, back := ready(t)
		page(t, newBrowser(t).Step(strings.Replace(back, "127.0.0.1", "other.localhost", 1), "Cookie", b.CookieHeader(back)))
	})
	t.Run("too late, and too early", func(t *testing.T) {
		b, back := ready(t)
		cookies, now := b.CookieHeader(back), time.Now()
		defer s.flowLoad(t, testrig.GateBlock(""))
		s.setClock(now.Add(loginLifetime + time.Second))
		page(t, newBrowser(t).Step(back, "Cookie", cookies))
		s.setClock(now.Add(-time.Minute))
		page(t, newBrowser(t).Step(back, "Cookie", cookies))
		s.setClock(now.Add(loginLifetime - 5*time.Second))
		late := func(address string, header ...string) testrig.Answer {
			return newBrowser(t).Step(address, append(header, "Cookie", cookies)...)
		}
		if a := goOn(t, late(back), late); a.Header.Get("Location") != "/bye?a=b&c" {
			t.Errorf("in time: %d %q", a.StatusCode, a.Header)
		}
	})
	if a := s.signedIn().Step(s.URL("/authentiq/signed-out")); a.StatusCode != http.StatusOK || len(a.Cookies()) > 0 {
		t.Errorf("a visit there changes something: %q", a.Header)
	}
	for _, method := range []string{http.MethodPost, http.MethodPut, http.MethodOptions} {
		req := testrig.PageRequest(t, s.URL("/authentiq/signed-out"))
		req.Method = method
		if a := b.Do(req); a.StatusCode != http.StatusMethodNotAllowed || a.Header.Get("Allow") != "GET, HEAD" {
			t.Errorf("%s: %d %q", method, a.StatusCode, a.Header)
		}
	}
}

func TestSignOutWithAProviderThatHasNoWayOutEndsHere(t *testing.T) {
	s := newStreet(t, testrig.GateBlock(""))
	s.Provider.SetHooks(authentiqtest.Hooks{Discovery: func(doc map[string]any) { delete(doc, "end_session_endpoint") }})
	s.flowRediscover(t, testrig.GateBlock(""))
	for query, want := range map[string]string{"": "/authentiq/signed-out", "?return_to=/bye%3Fx": "/bye?x", "?return_to=//evil.example": "/"} {
		b := s.signedIn()
		a, q := signoutStep(t, b, s, query)
		if q != nil || signoutEnd(t, b, a) != want || len(flowSession(b, s.URL("/"))) > 0 || signoutHint(b, s.URL("/authentiq/x")) != nil {
			t.Errorf("%q: %q", query, a.Header)
		}
		if page := b.Get(s.URL("/authentiq/sign-out"), "Sec-Fetch-Site", "cross-site"); !strings.Contains(page.Header.Get("Content-Security-Policy"), "form-action 'self';") {
			t.Errorf("%q", page.Header)
		}
	}
}

func TestAPublicClientSignsOutAtTheProvider(t *testing.T) {
	s := newStreet(t, flowSite("issuer ISSUER\nclient_id CLIENT"), func(c *authentiqtest.Config) { c.PublicClient = true })
	b := s.signedIn()
	if a := b.Post(s.URL("/authentiq/sign-out")); a.StatusCode != http.StatusOK || s.Asked(authentiqtest.EndSession) != 1 || b.Visited[len(b.Visited)-1] != s.URL("/authentiq/signed-out") {
		t.Errorf("%d at %q", a.StatusCode, b.Visited)
	}
	if q := s.flowLast(t, authentiqtest.EndSession).Query; q.Get("id_token_hint") == "" || q.Has("client_secret") {
		t.Errorf("%q", q)
	}
}

// The session here may have ended long before that at the provider.
func TestSignOutAfterTheSessionHasExpiredStillEndsThatAtTheProvider(t *testing.T) {
	s := newStreet(t, testrig.GateBlock(""))
	b := s.signedIn()
	s.setClock(time.Now().Add(defaultLifetime + time.Minute))
	if _, q := signoutStep(t, b, s, ""); q.Get("id_token_hint") == "" {
		t.Errorf("the provider is not asked: %q", q)
	}
	if _, q := signoutStep(t, newBrowser(t), s, ""); q != nil {
		t.Errorf("a stranger is sent to the provider with %q", q)
	}
}

func TestThePageThatAsksMayLeadToTheProviderAndNowhereElse(t *testing.T) {
	s := newStreet(t, testrig.GateBlock(""))
	op, err := url.Parse(s.Provider.Issuer)
	if err != nil {
		t.Fatal(err)
	}
	b := s.signedIn()
	a := b.Get(s.URL("/authentiq/sign-out?return_to=/bye"), "Sec-Fetch-Site", "cross-site")
	if want := "; form-action 'self' http://" + op.Host + "; "; !strings.Contains(a.Header.Get("Content-Security-Policy"), want) {
		t.Errorf("%q, want %q", a.Header.Get("Content-Security-Policy"), want)
	}
	for address, want := range map[string]string{
		"https://op.example/logout?x=y":          "form-action 'self' https://op.example;",
		"https://OP.example:443/logout":          "form-action 'self' https://op.example;",
		"https://op.example;script-src+*/logout": "form-action 'self';",
		"https://op.example,default-src/logout":  "form-action 'self';",
		"https://*.example/logout":               "form-action 'self';",
	} {
		s.Provider.SetHooks(authentiqtest.Hooks{Discovery: func(doc map[string]any) { doc["end_session_endpoint"] = address }})
		s.flowRediscover(t, testrig.GateBlock(""))
		a := newBrowser(t).Get(s.URL("/authentiq/sign-out"), "Sec-Fetch-Site", "cross-site")
		if csp := a.Header.Get("Content-Security-Policy"); a.StatusCode != http.StatusOK || !strings.Contains(csp, want) || strings.Contains(csp, "script-src") {
			t.Errorf("%s: %d %q", address, a.StatusCode, csp)
		}
	}
	// What the endpoint's own query says does not stand beside ours.
	s.Provider.SetHooks(authentiqtest.Hooks{Discovery: func(doc map[string]any) {
		doc["end_session_endpoint"] = doc["end_session_endpoint"].(string) + "?tenant=7&post_logout_redirect_uri=https://evil.example&client_id=evil"
	}})
	s.flowRediscover(t, testrig.GateBlock(""))
	_, q := signoutStep(t, s.signedIn(), s, "?post_logout_redirect_uri=https://evil.example&state=evil&id_token_hint=evil&logout=evil")
	if q.Get("tenant") != "7" || len(q["client_id"]) != 1 || len(q["post_logout_redirect_uri"]) != 1 || strings.Contains(q.Encode(), "evil") || q.Has("state") || len(q) != 4 {
		t.Errorf("%q", q)
	}
}

// One address is enough to register, however many hosts share the session.
func TestSignOutOnAnyHostOfTheSessionComesBackThroughTheOneThatIsRegistered(t *testing.T) {
	s := newStreet(t, "respond 204\n")
	s.LoadCaddyfile("http://app.team.localhost:PORT, http://auth.team.localhost:PORT, http://evil.localhost:PORT {\n" +
		testrig.GateBlock("callback_url http://auth.team.localhost:PORT/authentiq/callback\nsession {\ndomain team.localhost\n}") + "}")
	s.flowSettle(t)
	on := func(host, path string) string { return "http://" + host + ".localhost:" + s.Port + path }
	for _, host := range []string{"app.team", "auth.team"} {
		b := newBrowser(t)
		testrig.Await(t, "the new site answers", func() bool { return b.Get(on(host, "/")).StatusCode == http.StatusOK })
		b.Client.Transport = signoutStop{b.Client.Transport, on(host, "/bye")}
		a := b.Post(on(host, "/authentiq/sign-out?return_to=/bye"))
		// The host that he signed out on is the one to clear.
		if came := a.Request.URL.String(); !strings.HasPrefix(came, on(host, "/authentiq/signed-out?state=")) || a.Header.Get("Clear-Site-Data") != "" {
			t.Errorf("%s: came back to %s", host, came)
		}
		if via := a.Request.Response; host == "app.team" && (via == nil || via.Request.URL.Host != "auth.team.localhost:"+s.Port || via.Header.Get("Clear-Site-Data") != `"cache"`) {
			t.Errorf("%s: came by way of %q", host, b.Visited)
		}
		goOn(t, a, b.Get)
		if uri := s.flowLast(t, authentiqtest.EndSession).Query.Get("post_logout_redirect_uri"); uri != on("auth.team", "/authentiq/signed-out") {
			t.Errorf("%s: post_logout_redirect_uri %q", host, uri)
		}
		if last := b.Visited[len(b.Visited)-1]; last != on(host, "/bye") {
			t.Errorf("%s: ended at %q", host, b.Visited)
		}
		if left := b.CookieHeader(on(host, "/authentiq/x")); left != "" {
			t.Errorf("%s: left %q", host, left)
		}
		// Without a page of the application's to return to, he stays on that host.
		b.Get(on(host, "/"))
		a = b.Post(on(host, "/authentiq/sign-out"))
		if came := a.Request.URL; came.Host != host+".localhost:"+s.Port || came.Path != "/authentiq/signed-out" || onward(a) != "/authentiq/signed-out?clear" || answersLinks(a)[labelSignInAgain] == "" {
			t.Errorf("%s: came back to %s: %s", host, came, a.Body)
		}
		if a = goOn(t, a, b.Get); a.StatusCode != http.StatusOK || a.Header.Get("Clear-Site-Data") != `"cache"` || onward(a) != "" || len(b.Visited) != 1 {
			t.Errorf("%s: %d %q at %q", host, a.StatusCode, a.Header, b.Visited)
		}
		if left := b.CookieHeader(on(host, "/authentiq/x")); left != "" {
			t.Errorf("%s: left %q", host, left)
		}
	}
}

// Who signs out under a host that he made up gets that sealed, in a cookie that
// opens on every host of the domain.
func TestNobodyIsSentToAHostThatIsNotOfTheSession(t *testing.T) {
	s := newStreet(t, "respond 204\n")
	options := "session {\ndomain team.localhost\n}"
	for name, options := range map[string]string{"with a callback": "callback_url http://auth.team.localhost:PORT/authentiq/callback\n" + options, "without": options} {
		t.Run(name, func(t *testing.T) {
			s.LoadCaddyfile("http://:PORT {\n" + testrig.GateBlock(options) + "}")
			s.flowSettle(t)
			team := "auth.team.localhost:" + s.Port
			for _, host := range []string{"evil.example", "evil.example:" + s.Port, "team.localhost.evil.example", "xteam.localhost", "localhost", "127.0.0.1:" + s.Port} {
				out := s.Raw(rawPage("/authentiq/sign-out?return_to=/bye", host, "Sec-Fetch-Site: same-origin"))
				state := out.Header.Get("Location")
				if !strings.HasPrefix(state, "/authentiq/signed-out?state=") {
					t.Fatalf("%s: %d %q", host, out.StatusCode, out.Header)
				}
				for _, path := range []string{state, state + "&clear"} {
					if a := s.Raw(rawPage(path, team, cookiePairs(out))); a.StatusCode != http.StatusOK || a.Header.Get("Location") != "" || strings.Contains(a.Body, "evil") || answersLinks(a)[labelGoOn] != "" {
						t.Errorf("%s: %d %q %s", host, a.StatusCode, a.Header, a.Body)
					}
				}
			}
			// A host of the session is one that people are sent to.
			app := "app.team.localhost:" + s.Port
			out := s.Raw(rawPage("/authentiq/sign-out?return_to=/bye", app, "Sec-Fetch-Site: same-origin"))
			to := out.Header.Get("Location")
			if a := s.Raw(rawPage(to+"&x=evil", team, cookiePairs(out))); a.StatusCode != http.StatusSeeOther || a.Header.Get("Location") != "http://"+app+to {
				t.Errorf("%d %q", a.StatusCode, a.Header)
			}
		})
	}
}

// A refresh comes without a Referer, so nothing tells older browsers' own from
// what another site asks for.
func TestABrowserThatDoesNotTellWhereItWasReturnsAllTheSame(t *testing.T) {
	s := newStreet(t, testrig.GateBlock(""))
	b := s.signedIn()
	_, q := signoutStep(t, b, s, "?return_to=/bye")
	for _, method := range []string{http.MethodHead, http.MethodGet} {
		req := testrig.PageRequest(t, s.URL("/authentiq/signed-out?state="+q.Get("state")+"&clear"), "Cookie", b.CookieHeader(s.URL("/authentiq/signed-out")))
		req.Method = method
		req.Header.Del("Sec-Fetch-Mode")
		req.Header.Del("Sec-Fetch-Dest")
		other := newBrowser(t)
		other.Client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
		if a := other.Do(req); a.StatusCode != http.StatusSeeOther || a.Header.Get("Location") != "/bye" || a.Header.Get("Clear-Site-Data") != "" {
			t.Errorf("%s: %d %q", method, a.StatusCode, a.Header)
		}
	}
	req := testrig.PageRequest(t, s.URL("/authentiq/signed-out?state="+q.Get("state")))
	req.Method = http.MethodHead
	if a := b.Do(req); a.StatusCode != http.StatusOK || a.Body != "" || len(a.Cookies()) > 0 {
		t.Errorf("HEAD: %d %q", a.StatusCode, a.Header)
	}
}

func TestACookieNameThatEndsAsTheHintsDoesIsStillTheSessions(t *testing.T) {
	for _, name := range []string{"app-hint", "app-return"} {
		s := newStreet(t, testrig.GateBlock("session {\ncookie "+name+"\n}"))
		b := s.signedIn()
		b.Get(s.URL("/deep")).Seen(t)
		if hint := signoutHint(b, s.URL("/authentiq/sign-out")); hint == nil {
			t.Error("no hint")
		}
	}
}

func TestTheIDTokenLeavesNoTraceAtSignOut(t *testing.T) {
	s := newStreet(t, testrig.GateBlock(""))
	b := s.signedIn()
	a, q := signoutStep(t, b, s, "?return_to=/bye")
	referers := make(chan string, 8)
	s.Provider.SetHooks(authentiqtest.Hooks{Handler: func(_ authentiqtest.Endpoint, next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			referers <- r.Referer()
			next.ServeHTTP(w, r)
		})
	}})
	to, _ := a.Location()
	back := b.Step(to.String())
	if a := goOn(t, b.Step(back.Header.Get("Location")), b.Step); a.Header.Get("Location") != "/bye" {
		t.Errorf("%d %q", a.StatusCode, a.Header)
	}
	b.Step(back.Header.Get("Location")) // again, and for nothing
	for what, value := range map[string]string{"hint": q.Get("id_token_hint"), "payload": strings.Split(q.Get("id_token_hint"), ".")[1], "state": q.Get("state")} {
		if value == "" || strings.Contains(s.Logged(), value) {
			t.Errorf("the log has the %s, or there was none", what)
		}
	}
	if len(s.Events(eventSignOut)) != 1 || s.Events(eventSignOut)[0]["reason"] != "asked for" {
		t.Errorf("logged %v", s.Events(eventSignOut))
	}
}

func TestTheSignedOutPageHasTheBrowserForgetOnceItShows(t *testing.T) {
	s := newStreet(t, testrig.GateBlock(""))
	for _, test := range []struct {
		name, query, site string
		onward, cleared   bool
	}{
		{"the first time it comes back for it", "", "cross-site", true, false},
		{"with a state that is nobody's", "?state=x", "cross-site", true, false},
		{"the second time it is over", "?clear", "same-origin", false, true},
		{"another site can't have it", "?clear", "cross-site", false, false},
		{"nor a sibling", "?clear", "same-site", false, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			a := newBrowser(t).Get(s.URL("/authentiq/signed-out"+test.query), "Sec-Fetch-Site", test.site)
			if a.StatusCode != http.StatusOK || !strings.Contains(a.Body, "You are signed out") {
				t.Errorf("%d %.300s", a.StatusCode, a.Body)
			}
			if onward := strings.Contains(a.Body, `content="0;url=/authentiq/signed-out?clear"`); onward != test.onward || onward != strings.Contains(a.Body, "http-equiv") {
				t.Errorf("goes on: %t", onward)
			}
			if cleared := a.Header.Get("Clear-Site-Data") == `"cache"`; cleared != test.cleared {
				t.Errorf("clears: %t", cleared)
			}
		})
	}
}
