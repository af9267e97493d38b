// SPDX-License-Identifier: Apache-2.0

package authentiq

// initiated_test.go has other sites ask for sign-ins: the provider's, and anybody's.

import (
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/authentiq/caddy-authentiq/authentiqtest"
	"github.com/authentiq/caddy-authentiq/internal/testrig"
)

// formOf is a form of another site's, sent as browsers do, at the front door.
func initiationForm(t *testing.T, address string, form url.Values, header ...string) *http.Request {
	t.Helper()
	req := testrig.PageRequest(t, address, append([]string{"Content-Type", "application/x-www-form-urlencoded", "Sec-Fetch-Site", "cross-site", "Origin", "https://portal.example"}, header...)...)
	req.Method, req.Body = http.MethodPost, io.NopCloser(strings.NewReader(form.Encode()))
	return req
}

func (s *street) initiation(query ...string) string {
	q := url.Values{"iss": {s.Issuer}}
	for i := 0; i+1 < len(query); i += 2 {
		q.Add(query[i], query[i+1])
	}
	return s.URL("/authentiq/sign-in?" + q.Encode())
}

func TestAnotherSiteCanAskForASignIn(t *testing.T) {
	s := newStreet(t, testrig.GateBlock(""))
	target := s.URL("/reports/7?x=1&y=%2F")
	for name, journey := range map[string]func(b *browser) testrig.Answer{
		"by a link": func(b *browser) testrig.Answer {
			return b.Get(s.initiation(targetParam, target), "Sec-Fetch-Site", "cross-site")
		},
		"by a link, in another order of letters": func(b *browser) testrig.Answer {
			return b.Get(s.initiation(targetParam, strings.Replace(target, "http://", "HTTP://", 1)))
		},
		"by a form": func(b *browser) testrig.Answer {
			return b.Do(initiationForm(t, s.URL("/authentiq/sign-in"), url.Values{issParam: {s.Issuer}, targetParam: {target}}))
		},
		"by a form that says more": func(b *browser) testrig.Answer {
			return b.Do(initiationForm(t, s.URL("/authentiq/sign-in?return_to=/elsewhere&iss=x"), url.Values{issParam: {s.Issuer}, targetParam: {target}, "prompt": {"login"}, "scope": {"x"}, "return_to": {"/elsewhere"}}))
		},
	} {
		t.Run(name, func(t *testing.T) {
			s.Provider.ResetRequests()
			got := journey(newBrowser(t)).Seen(t)
			if got.Line != "GET /reports/7?x=1&y=%2F HTTP/1.1" || got.Value(t, "X-Authentiq-Subject") != authentiqtest.Alice {
				t.Errorf("arrived at %q", got.Line)
			}
			if asked := s.asked(); len(asked) != 1 || asked[0].Has("prompt") || asked[0].Has("login_hint") || asked[0].Has("iss") || asked[0].Has(targetParam) || asked[0].Get("scope") != "openid aq:name email phone address aq:location" {
				t.Errorf("the provider was asked %q", asked)
			}
		})
	}
}

// Rows 1 to 8 and 62: it ends on this site, or at its front page.
func TestASignInThatAnotherSiteAsksForEndsOnThisSite(t *testing.T) {
	s := newStreet(t, testrig.GateBlock(""))
	here := s.URL("")
	hostile := []string{
		"", "/x", "x", "//127.0.0.1:" + s.Port + "/x", "https://evil.example/", "//evil.example", "javascript:alert(1)", "data:text/html,x", "https:evil.example",
		"https://127.0.0.1:" + s.Port + "/x", "http://127.0.0.1/x", "http://127.0.0.1:1/x", "http://localhost:" + s.Port + "/x", "http://app.localhost:" + s.Port + "/x",
		here + "@evil.example/", "http://u@127.0.0.1:" + s.Port + "/x", "http://u:p@127.0.0.1:" + s.Port + "/x", here + ".evil.example/x", "http://evil.example#" + here + "/x",
		"http://evil.example/" + here + "/x", "http://evil.example\\@127.0.0.1:" + s.Port + "/x", "http:\\\\127.0.0.1:" + s.Port + "/x", "http:/127.0.0.1:" + s.Port + "/x", "http:///127.0.0.1:" + s.Port + "/x",
		" " + here + "/x", here + "\t/x", "ht\ntp://127.0.0.1:" + s.Port + "/x", here + "/" + strings.Repeat("a", maxReturn), here + "0/x", here + "/x\x00", "ws" + strings.TrimPrefix(here, "http") + "/x",
	}
	for _, path := range hostileReturns {
		if len(path) < 3000 {
			hostile = append(hostile, here+path)
		}
	}
	client := newBrowser(t)
	for _, target := range hostile {
		if strings.HasPrefix(target, here) && slices.Contains([]string{"?", "#"}, target[len(here):min(len(here)+1, len(target))]) {
			continue // the front page, with a query or a part
		}
		for name, query := range map[string][]string{"alone": {targetParam, target}, "among others": {"allowed", "x", targetParam, target}} {
			a := client.Step(s.initiation(query...))
			if a.StatusCode == http.StatusBadRequest && a.Header.Get("Location") == "" {
				continue
			}
			back := s.finish(a).Header.Get("Location")
			if back != "/" && back != "/x" || back == "/x" && target != "" && !strings.Contains(target, here) {
				t.Errorf("%s: %.80q ends at %q", name, target, back)
			}
			staysOutside(t, nil, here+"/", back)
		}
	}
	for target, want := range map[string]string{
		here: "/", here + "/": "/", here + "?x=1": "/?x=1", here + "/a%2Fb?c=d#e": "/a%2Fb?c=d#e", here + "//evil.example/": "/", here + "/\\evil.example": "/",
		here + "/authentiq/sign-out": "/", here + "/x/../authentiq/sign-out": "/", strings.Replace(here, "http", "hTTp", 1) + "/a": "/a",
	} {
		if back := s.finish(client.Step(s.initiation(targetParam, target))).Header.Get("Location"); back != want {
			t.Errorf("%q ends at %q, want %q", target, back, want)
		}
	}
	// Over https and without a port, the port may be said.
	g := newTestGate(t, nil)
	for target, want := range map[string]string{
		"https://app.example.com:443/x": "/x", "https://APP.example.com/x": "/x", "https://app.example.com:80/x": "/", "http://app.example.com/x": "/", "https://app.example.com./x": "/", "https://app.example.com:0443/x": "/",
	} {
		if got := g.ownPath(origin{"https", "app.example.com"}, target); got != want {
			t.Errorf("%q is %q, want %q", target, got, want)
		}
	}
}

// Rows 62 and 97: what a browser says chooses no provider, and nothing is asked of one
// that it names.
func TestAnotherProviderIsNotEvenAsked(t *testing.T) {
	s := newStreet(t, testrig.GateBlock("allow_param login_hint"))
	other, err := authentiqtest.NewServer(authentiqtest.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(other.Close)
	b := s.signedIn()
	signedIn := b.CookieHeader(s.URL("/"))
	issuers := []string{
		other.Issuer, "", " ", strings.TrimSuffix(s.Issuer, "/"), s.Issuer + "/", strings.ToUpper(s.Issuer), s.Issuer + "#", s.Issuer + "?", " " + s.Issuer, s.Issuer + "\x00", s.Issuer + "\n",
		strings.Replace(s.Issuer, "http://", "https://", 1), strings.Replace(s.Issuer, "127.0.0.1", "localhost", 1), "https://evil.example/", "file:///etc/passwd", strings.Repeat("x", 5000),
	}
	for _, iss := range issuers {
		for name, ask := range map[string]func() testrig.Answer{
			"a link": func() testrig.Answer {
				return newBrowser(t).Step(s.URL("/authentiq/sign-in?" + url.Values{issParam: {iss}}.Encode()))
			},
			"a link to somebody who is signed in": func() testrig.Answer {
				return b.Step(s.URL("/authentiq/sign-in?" + url.Values{issParam: {iss}, targetParam: {s.URL("/x")}}.Encode()))
			},
			"a form": func() testrig.Answer {
				return newBrowser(t).Do(initiationForm(t, s.URL("/authentiq/sign-in"), url.Values{issParam: {iss}}))
			},
		} {
			if a := ask(); a.StatusCode != http.StatusBadRequest || a.Header.Get("Location") != "" || len(a.Cookies()) > 0 {
				t.Errorf("%s from %.40q: %d %q", name, iss, a.StatusCode, a.Header)
			}
		}
	}
	for name, query := range map[string]url.Values{
		"two issuers":             {issParam: {s.Issuer, s.Issuer}},
		"two issuers, one other":  {issParam: {s.Issuer, other.Issuer}},
		"two issuers, one first":  {issParam: {other.Issuer, s.Issuer}},
		"two targets":             {issParam: {s.Issuer}, targetParam: {s.URL("/x"), s.URL("/y")}},
		"two hints":               {issParam: {s.Issuer}, hintParam: {"a", "b"}},
		"two ways to say where":   {issParam: {s.Issuer}, targetParam: {s.URL("/x")}, "return_to": {"/y"}},
		"our way to say where to": {issParam: {s.Issuer}, "return_to": {"/y"}},
	} {
		if a := newBrowser(t).Step(s.URL("/authentiq/sign-in?" + query.Encode())); a.StatusCode != http.StatusBadRequest || a.Header.Get("Location") != "" || len(a.Cookies()) > 0 {
			t.Errorf("%s: %d %q", name, a.StatusCode, a.Header)
		}
		if name == "our way to say where to" || name == "two ways to say where" {
			continue // which is not read of a form
		}
		if a := newBrowser(t).Do(initiationForm(t, s.URL("/authentiq/sign-in"), query)); a.StatusCode != http.StatusBadRequest {
			t.Errorf("%s, in a form: %d", name, a.StatusCode)
		}
	}
	if n := len(other.Requests("")); n > 0 {
		t.Errorf("the other provider was asked %d times", n)
	}
	if b.CookieHeader(s.URL("/")) != signedIn || !b.in(s) {
		t.Error("somebody was signed out")
	}
}

// Somebody's link must not have a phone ring, but where the configuration says that
// anybody's may.
func TestAnotherSiteNamesNobodyUnlessItMay(t *testing.T) {
	for name, test := range map[string]struct {
		options string
		hint    []string
		want    string
	}{
		"it may not":                           {"", []string{hintParam, "bob@example.net"}, ""},
		"it may":                               {"allow_param login_hint", []string{hintParam, "bob@example.net"}, "bob@example.net"},
		"it may, and does not":                 {"allow_param login_hint", nil, ""},
		"it may something else":                {"allow_param ui_locales", []string{hintParam, "bob@example.net"}, ""},
		"the configuration knows, and it does": {"auth_param login_hint carol@example.org", []string{hintParam, "bob@example.net"}, "carol@example.org"},
	} {
		t.Run(name, func(t *testing.T) {
			s, clock := signedOutStreet(t, test.options)
			b := s.signedIn() // nor is he named who was here last
			s.pass(clock, 2*time.Hour)
			b.hinted(s, s.initiation(test.hint...), test.want)
			form := url.Values{issParam: {s.Issuer}}
			if len(test.hint) > 0 {
				form.Set(hintParam, test.hint[1])
			}
			b.Client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
			to, err := b.Do(initiationForm(t, s.URL("/authentiq/sign-in"), form)).Location()
			if err != nil {
				t.Fatal(err)
			}
			b.hinted(s, to.String(), test.want)
			if strings.Contains(s.Logged(), "bob") {
				t.Error("the log has whom it named")
			}
		})
	}
}

func TestAnotherSiteAsksInAPageOfItsOwnOrNotAtAll(t *testing.T) {
	s := newStreet(t, testrig.GateBlock(""))
	b := s.signedIn()
	before := b.CookieHeader(s.URL("/"))
	for name, header := range map[string][]string{
		"a frame":    {"Sec-Fetch-Dest", "iframe"},
		"a script":   {"Sec-Fetch-Mode", "cors", "Sec-Fetch-Dest", "empty"},
		"an image":   {"Sec-Fetch-Mode", "no-cors", "Sec-Fetch-Dest", "image"},
		"a prefetch": {"Sec-Purpose", "prefetch"},
	} {
		stranger := newBrowser(t)
		stranger.Client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
		for kind, a := range map[string]testrig.Answer{
			"a link": newBrowser(t).Step(s.initiation(), header...),
			"a form": stranger.Do(initiationForm(t, s.URL("/authentiq/sign-in"), url.Values{issParam: {s.Issuer}}, header...)),
		} {
			if a.StatusCode != http.StatusUnauthorized || a.Header.Get("Location") != "" || len(a.Cookies()) > 0 {
				t.Errorf("%s, %s: %d %q", name, kind, a.StatusCode, a.Header)
			}
		}
	}
	for name, req := range map[string]*http.Request{
		"no form at all":           initiationForm(t, s.URL("/authentiq/sign-in"), nil, "Content-Type", ""),
		"a form of another kind":   initiationForm(t, s.URL("/authentiq/sign-in"), url.Values{issParam: {s.Issuer}}, "Content-Type", "multipart/form-data; boundary=x"),
		"JSON":                     initiationForm(t, s.URL("/authentiq/sign-in"), url.Values{issParam: {s.Issuer}}, "Content-Type", "application/json"),
		"a form without an issuer": initiationForm(t, s.URL("/authentiq/sign-in"), url.Values{targetParam: {s.URL("/x")}}),
		"the issuer elsewhere":     initiationForm(t, s.initiation(), url.Values{targetParam: {s.URL("/x")}}),
		"a form without an end":    initiationForm(t, s.URL("/authentiq/sign-in"), url.Values{issParam: {s.Issuer}, "x": {strings.Repeat("x", maxLogoutBody)}}),
	} {
		if a := newBrowser(t).Do(req); a.StatusCode != http.StatusMethodNotAllowed || a.Header.Get("Location") != "" || a.Header.Get("Allow") != "GET" {
			t.Errorf("%s: %d %q", name, a.StatusCode, a.Header)
		}
	}
	if b.CookieHeader(s.URL("/")) != before || !b.in(s) {
		t.Error("somebody was signed out")
	}
}

// Whoever is signed in stays who he is: another site's link is worth no more than one
// to the page.
func TestWhoIsSignedInGoesToTheTargetAtOnce(t *testing.T) {
	s := newStreet(t, testrig.GateBlock(""))
	b := s.signedIn()
	loops := b.Client.CheckRedirect
	b.Client.CheckRedirect = func(req *http.Request, via []*http.Request) error {
		req.Header.Del("Referer") // as browsers do, told so by Referrer-Policy
		return loops(req, via)
	}
	sid := b.sid(s)
	s.Provider.SignInAs(authentiqtest.Bob)
	s.Provider.ResetRequests()
	for name, journey := range map[string]func() testrig.Answer{
		"a link": func() testrig.Answer {
			return b.Get(s.initiation(targetParam, s.URL("/x?y=1"), hintParam, "bob@example.net"), "Sec-Fetch-Site", "cross-site")
		},
		"a form": func() testrig.Answer {
			return b.Do(initiationForm(t, s.URL("/authentiq/sign-in"), url.Values{issParam: {s.Issuer}, targetParam: {s.URL("/x?y=1")}}))
		},
	} {
		got := journey().Seen(t)
		if got.Line != "GET /x?y=1 HTTP/1.1" || got.Value(t, "X-Authentiq-Subject") != authentiqtest.Alice || got.Value(t, "X-Authentiq-Sid") != sid || len(s.asked()) > 0 {
			t.Errorf("%s: %q, and the provider was asked %q", name, got.Line, s.asked())
		}
	}
	if at := strings.Index(s.Logged(), "bob%40example.net"); at >= 0 {
		t.Errorf("the log has whom the other site named: %s", s.Logged()[max(0, at-300):at])
	}
	// One that does not satisfy the gate is kept until a sign-in has brought another.
	s.Load(testrig.GateBlock("require email bob@example.net"))
	if a := b.Step(s.initiation(targetParam, s.URL("/x"))); a.StatusCode != http.StatusSeeOther || !strings.HasPrefix(a.Header.Get("Location"), s.Issuer) {
		t.Errorf("%d %q", a.StatusCode, a.Header)
	}
	s.Load(testrig.GateBlock(""))
	if !b.in(s) || b.sid(s) != sid {
		t.Error("the session has ended")
	}
}

func TestASignInThatAnotherSiteAsksForGoesToTheOriginOfTheCallback(t *testing.T) {
	s := newStreet(t, testrig.GateBlock("callback_url http://app.localhost:PORT/authentiq/callback"))
	app := "http://app.localhost:" + s.Port
	b := newBrowser(t)
	got := b.Get(s.initiation(targetParam, app+"/x")).Seen(t)
	if got.Line != "GET /x HTTP/1.1" || b.Visited[len(b.Visited)-1] != app+"/x" {
		t.Errorf("arrived at %q", b.Visited)
	}
}
