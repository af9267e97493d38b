// SPDX-License-Identifier: Apache-2.0

package authentiq

// forwardauth_test.go asks the gate as a server in front of it does, and as those do
// who would like to be one.

import (
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/authentiq/caddy-authentiq/authentiqtest"
	"github.com/authentiq/caddy-authentiq/internal/testrig"
)

// forwardStreet is a street whose gate another server asks: everything on it but the
// gate's own addresses is a question.
func forwardStreet(t *testing.T, options string) *street {
	t.Helper()
	op, err := authentiqtest.NewServer(authentiqtest.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(op.Close)
	op.SignInAs(authentiqtest.Alice)
	s := emptyStreet(t)
	s.Provider, s.Issuer, s.ClientID, s.ClientSecret = op, op.Issuer, op.ClientID(), op.ClientSecret()
	forwardLoad(s, options)
	return s
}

func forwardLoad(s *street, options string) {
	s.T.Helper()
	s.Global = trustLoopback
	s.LoadCaddyfile("http://:PORT {\nlog\nauthentiq {" + testrig.SiteOptions + "forward_auth on\n" + options + "\n}\nrespond \"past the gate\"\n}")
}

// describes is how a server in front asks about a request.
func describes(s *street, method, uri string) []string {
	return []string{
		"X-Forwarded-Method: " + method, "X-Forwarded-Proto: http", "X-Forwarded-Host: 127.0.0.1:" + s.Port, "X-Forwarded-Uri: " + uri,
		"Accept: text/html", "Sec-Fetch-Mode: navigate", "Sec-Fetch-Dest: document",
	}
}

func forwardAsk(s *street, cookie string, lines ...string) testrig.Answer {
	return hdrSend(s, "GET /anything HTTP/1.1\r\nHost: gate.internal:8080\r\n"+forwardCookie(cookie)+strings.Join(lines, "\r\n")+"\r\n\r\n")
}

func forwardCookie(cookie string) string {
	if cookie == "" {
		return ""
	}
	return "Cookie: " + cookie + "\r\n"
}

// forwardSignIn walks a sign-in as a browser does through the server in front.
func forwardSignIn(s *street) (b *browser, cookie string) {
	s.T.Helper()
	b = newBrowser(s.T)
	b.Get(s.URL("/authentiq/sign-in?return_to=/authentiq/signed-out"))
	if cookie = ourLine(b, s.URL("/")); !strings.Contains(cookie, "authentiq=") && !strings.Contains(cookie, "authentiq_0=") {
		s.T.Fatalf("not signed in: %q\n%s", b.Visited, s.Logged())
	}
	return b, cookie
}

// refusedWith fails the test unless nobody would be let in by a, and the log says why.
func refusedWith(t *testing.T, s *street, a testrig.Answer, status int, check string) {
	t.Helper()
	if a.StatusCode != status {
		t.Errorf("status %d, want %d: %.200s", a.StatusCode, status, a.Body)
	}
	for name := range a.Header {
		if xAuthentiq.has(name) || name == "Cookie" {
			t.Errorf("a refusal has %s", name)
		}
	}
	if a.Header.Get("Cache-Control") != "no-store" {
		t.Errorf("Cache-Control %q", a.Header.Get("Cache-Control"))
	}
	if strings.Contains(a.Body, "past the gate") {
		t.Error("what comes after the gate was reached")
	}
	all := s.Events(eventRefused)
	if len(all) == 0 || all[len(all)-1]["check"] != check {
		t.Errorf("the log does not name the check %s: %v", check, all)
	}
}

func TestAServerInFrontIsToldWhoTheUserIs(t *testing.T) {
	s := forwardStreet(t, "headers remote-user oidc-claim\nheader X-Team email")
	_, cookie := forwardSignIn(s)
	a := forwardAsk(s, "a=1; "+cookie+"; b=2", describes(s, "POST", "/private?x=1&y=2")...)
	if a.StatusCode != http.StatusNoContent || a.Body != "" || a.Header.Get("Cache-Control") != "no-store" {
		t.Errorf("%d %q, Cache-Control %q", a.StatusCode, a.Body, a.Header.Get("Cache-Control"))
	}
	// What the application gets of a gate that stands before it itself.
	s.Load("authentiq {" + testrig.SiteOptions + "headers remote-user oidc-claim\nheader X-Team email\n}\nreverse_proxy UPSTREAM\n")
	seen := hdrSend(s, hdrRequest(s, "GET /private", "a=1; "+cookie+"; b=2")).Seen(t)
	owner := &ownedNames{prefixes: []string{ownedPrefix, "remote-", "oidc-claim-", "x-team"}}
	want := make(map[string]string)
	for _, h := range seen.Headers {
		if owner.has(h[0]) || h[0] == "Cookie" {
			want[h[0]] = h[1]
		}
	}
	got := make(map[string]string)
	for name, values := range a.Header {
		if owner.has(name) || name == "Cookie" {
			got[name] = strings.Join(values, "|")
		}
	}
	// Names as the client's library writes them.
	canonicalWant := make(map[string]string)
	for name, value := range want {
		canonicalWant[http.CanonicalHeaderKey(name)] = value
	}
	if !maps.Equal(got, canonicalWant) || got["X-Authentiq-Subject"] != authentiqtest.Alice || got["Cookie"] != "a=1; b=2" {
		t.Errorf("told:\n%q\nwant:\n%q", got, canonicalWant)
	}
}

func TestAServerInFrontThatIsNotTrustedIsToldNothing(t *testing.T) {
	s := forwardStreet(t, "")
	_, cookie := forwardSignIn(s)
	for name, globals := range map[string]string{"nobody is trusted": "", "somebody else is": "servers {\ntrusted_proxies static 192.0.2.0/24\n}"} {
		t.Run(name, func(t *testing.T) {
			s.Global = globals
			s.LoadCaddyfile("http://:PORT {\nauthentiq {" + testrig.SiteOptions + "forward_auth on\nunauthenticated pass\n}\n}")
			for _, who := range []string{cookie, ""} {
				refusedWith(t, s, forwardAsk(s, who, append(describes(s, "GET", "/"), "X-Forwarded-For: 127.0.0.1")...), http.StatusForbidden, "proxy")
				// Nor is the question taken for a request of its own.
				refusedWith(t, s, forwardAsk(s, who, "Accept: text/html"), http.StatusForbidden, "proxy")
			}
		})
	}
}

func TestARequestHasToBeDescribedOnceAndWholly(t *testing.T) {
	s := forwardStreet(t, "unauthenticated pass")
	_, cookie := forwardSignIn(s)
	host := "127.0.0.1:" + s.Port
	all := map[string]string{"Method": "GET", "Proto": "http", "Host": host, "Uri": "/private"}
	ask := func(change map[string][]string) testrig.Answer {
		var lines []string
		for name, value := range all {
			values, changed := change[name]
			if !changed {
				values = []string{value}
			}
			for _, v := range values {
				lines = append(lines, "X-Forwarded-"+name+": "+v)
			}
		}
		return forwardAsk(s, cookie, append(lines, "Accept: text/html")...)
	}
	if a := ask(nil); a.StatusCode != http.StatusNoContent {
		t.Fatalf("as it has to be: %d", a.StatusCode)
	}
	for name, value := range all {
		for what, values := range map[string][]string{
			"missing": nil, "empty": {""}, "twice": {value, value}, "twice, one forged": {"/evil", value}, "twice, one empty": {"", value}, "a list": {value + ", " + value},
		} {
			a := ask(map[string][]string{name: values})
			t.Run(name+" "+what, func(t *testing.T) { refusedWith(t, s, a, http.StatusBadRequest, "described") })
		}
	}
	for name, values := range map[string][]string{
		"Method": {"GET, POST", "G ET", "GET/1", "\xc3\x9c", "GET;"},
		"Proto":  {"evil", "https,http", "https://", "javascript", "httpss"},
		"Host":   {"a, b", host + "/", "evil@" + host, "a b", "a\\b", "a?b", "a#b", "[::1", ":80", "a:b", "a:1234567", strings.Repeat("a", 300)},
		"Uri": {
			"private", "https://127.0.0.1/private", "http:/private", "*", "?x", "#x", "\\private", "/a b", "/%zz", "/%", "/a\tb", "127.0.0.1:80",
		},
	} {
		for _, value := range values {
			a := ask(map[string][]string{name: {value}})
			t.Run(fmt.Sprintf("%s %.40q", name, value), func(t *testing.T) { refusedWith(t, s, a, http.StatusBadRequest, "described") })
		}
	}
	for _, uri := range []string{ // what the gate itself would be asked for on a site of its own
		"/authentiq", "/authentiq/", "/authentiq/session", "/authentiq/sign-out?return_to=/", "/authentiq/callback?code=s3cret&state=x", "/authentiq/nothing",
		"/x/../authentiq/session", "//authentiq/session", "/authentiq/./session", "/%61uthentiq/session", "/./authentiq/callback",
	} {
		a := ask(map[string][]string{"Uri": {uri}})
		t.Run("our own "+uri, func(t *testing.T) { refusedWith(t, s, a, http.StatusBadRequest, "described") })
	}
	if strings.Contains(s.Logged(), "s3cret") {
		t.Error("the code of a callback is in the log")
	}
	// What an application may be asked for. The gate decides nothing by it.
	for _, uri := range []string{
		"/", "//evil.example/x", "//", "///", "/\\evil.example", "/a,b", "/a;b", "/a?b#c", "/a#b", "/?", "/a%00b", "/a%0d%0ab", "/%2e%2e/x", "/ü", "/a?x=%zz", "/" + strings.Repeat("a", 8<<10),
	} {
		if a := ask(map[string][]string{"Uri": {uri}}); a.StatusCode != http.StatusNoContent || a.Header.Get("X-Authentiq-Subject") != authentiqtest.Alice {
			t.Errorf("%.60q: %d", uri, a.StatusCode)
		}
	}
	if a := ask(map[string][]string{"Uri": {"/" + strings.Repeat("a", 20<<10)}}); a.StatusCode < 400 {
		t.Errorf("20 kB: %d", a.StatusCode)
	}
}

// A server in front that has not removed them may hand them on.
func TestARequestThatBringsTheGatesOwnNamesIsRefused(t *testing.T) {
	s := forwardStreet(t, "headers remote-user oidc-claim\nheader X-Team email\nunauthenticated pass")
	_, cookie := forwardSignIn(s)
	for _, line := range []string{
		"X-Authentiq-Subject: admin", "x-authentiq-groups: admin", "X-Authentiq-Email:", "Remote-User: admin", "Remote-Groups: admin",
		"OIDC-CLAIM-sub: admin", "X-Team: admin", "Upgrade: h2c", "Upgrade: websocket, H2C", // underscores and dots Caddy drops itself
	} {
		a := forwardAsk(s, cookie, append(describes(s, "GET", "/private"), line)...)
		t.Run(line, func(t *testing.T) { refusedWith(t, s, a, http.StatusForbidden, "described") })
	}
	for _, line := range []string{"Authorization: Bearer of-the-application", "Upgrade: websocket", "X-Teams: admin"} {
		if a := forwardAsk(s, cookie, append(describes(s, "GET", "/private"), line)...); a.StatusCode != http.StatusNoContent {
			t.Errorf("%s: %d", line, a.StatusCode)
		}
	}
	forwardLoad(s, "session {\ntokens on\n}\nheader Authorization {access_token}")
	_, cookie = forwardSignIn(s)
	a := forwardAsk(s, cookie, append(describes(s, "GET", "/private"), "Authorization: Bearer forged")...)
	if a.StatusCode != http.StatusNoContent || a.Header.Get("Authorization") == "" || strings.Contains(a.Header.Get("Authorization"), "forged") {
		t.Errorf("%d %.60q", a.StatusCode, a.Header.Get("Authorization"))
	}
}

func TestNobodyIsLetInWithoutASession(t *testing.T) {
	s := forwardStreet(t, "")
	page := describes(s, "GET", "/private?a=b&c=d%26e")
	forwardTo := func(a testrig.Answer) *url.URL {
		t.Helper()
		to, err := a.Location()
		if err != nil || a.StatusCode != http.StatusSeeOther || !strings.HasPrefix(to.String(), s.Issuer) {
			t.Fatalf("%d to %v, want the provider", a.StatusCode, to)
		}
		return to
	}
	to := forwardTo(forwardAsk(s, "", page...))
	if got, want := to.Query().Get("redirect_uri"), s.URL("/authentiq/callback"); got != want {
		t.Errorf("redirect_uri %q, want %q", got, want)
	}
	forwardTo(forwardAsk(s, "authentiq=forged", page...))
	for what, lines := range map[string][]string{
		"a form":        describes(s, "POST", "/private"),
		"a preflight":   append(describes(s, "OPTIONS", "/private")[:4], "Origin: https://evil.example", "Access-Control-Request-Method: GET"),
		"a script's":    append(describes(s, "GET", "/private")[:4], "Sec-Fetch-Mode: cors", "Accept: */*"),
		"a WebSocket":   append(describes(s, "GET", "/private")[:4], "Connection: Upgrade", "Upgrade: websocket"),
		"without words": describes(s, "GET", "/private")[:4],
	} {
		if a := forwardAsk(s, "", lines...); a.StatusCode != http.StatusUnauthorized || a.Header.Get("WWW-Authenticate") != challengeHeader || a.Header.Get("Cache-Control") != "no-store" {
			t.Errorf("%s: %d %q", what, a.StatusCode, a.Header.Get("WWW-Authenticate"))
		}
	}
	// The method of the question says nothing.
	for _, method := range []string{"GET", "HEAD", "POST", "PUT", "OPTIONS", "PROPFIND"} {
		a := hdrSend(s, method+" / HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n"+strings.Join(page, "\r\n")+"\r\n\r\n")
		forwardTo(a)
	}

	_, cookie := forwardSignIn(s)
	for _, method := range []string{"GET", "HEAD", "POST", "OPTIONS"} {
		a := hdrSend(s, method+" / HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n"+forwardCookie(cookie)+strings.Join(page, "\r\n")+"\r\n\r\n")
		if a.StatusCode != http.StatusNoContent || a.Header.Get("X-Authentiq-Subject") != authentiqtest.Alice {
			t.Errorf("%s, signed in: %d", method, a.StatusCode)
		}
	}
	// A session is for its host, whatever host is asked about.
	other := slices.Clone(page)
	other[2] = "X-Forwarded-Host: other.localhost:" + s.Port
	if got := forwardTo(forwardAsk(s, cookie, other...)).Query().Get("redirect_uri"); got != "http://other.localhost:"+s.Port+"/authentiq/callback" {
		t.Errorf("redirect_uri %q", got)
	}
	// Nor is the Host of the question what is asked about.
	own := strings.Join(page, "\r\n") + "\r\n\r\n"
	if a := hdrSend(s, "GET / HTTP/1.1\r\nHost: other.localhost:"+s.Port+"\r\n"+forwardCookie(cookie)+own); a.StatusCode != http.StatusNoContent {
		t.Errorf("another Host of the question: %d", a.StatusCode)
	}
}

func TestReturningToWhatWasAskedFor(t *testing.T) {
	s := forwardStreet(t, "")
	for uri, want := range map[string]string{
		"/private?a=b&c=d%26e%23f":           "/private?a=b&c=d%26e%23f",
		"/a%2Fb?x":                           "/a%2Fb?x",
		"//evil.example/":                    "/",
		"/\\evil.example":                    "/%5Cevil.example",
		"/%2f%2fevil.example":                "/%2f%2fevil.example",
		"/a#b":                               "/a%23b",
		"/" + strings.Repeat("a", 3000):      "/",
		"/\xc3\xbc?q=\"<>":                   "/%C3%BC?q=%22%3C%3E",
		"/a?b=https://evil.example&return=/": "/a?b=https://evil.example&return=/",
	} {
		b := newBrowser(t)
		a := forwardAsk(s, "", describes(s, "GET", uri)...)
		for _, c := range a.Cookies() {
			u, _ := url.Parse(s.URL("/"))
			b.Client.Jar.SetCookies(u, []*http.Cookie{c})
		}
		back := b.ToCallback(a.Header.Get("Location"))
		if got := b.Step(back).Header.Get("Location"); got != want {
			t.Errorf("%q: back to %q, want %q", uri, got, want)
		}
	}
}

func TestRulesDecideForAServerInFront(t *testing.T) {
	s := forwardStreet(t, "require email *@nowhere.example")
	_, cookie := forwardSignInAnyway(s)
	page := describes(s, "GET", "/private")
	if a := forwardAsk(s, cookie, page...); a.StatusCode != http.StatusForbidden || !strings.Contains(a.Body, "can’t enter here") || a.Header.Get("X-Authentiq-Subject") != "" {
		t.Errorf("a rule: %d %.200s", a.StatusCode, a.Body)
	}
	forwardLoad(s, "require email *@nowhere.example\nunauthenticated pass")
	if a := forwardAsk(s, cookie, page...); a.StatusCode != http.StatusNoContent || a.Header.Get("X-Authentiq-Subject") != "" {
		t.Errorf("pass: %d %q", a.StatusCode, a.Header.Get("X-Authentiq-Subject"))
	}
	forwardLoad(s, "unauthenticated deny")
	if a := forwardAsk(s, "", page...); a.StatusCode != http.StatusUnauthorized {
		t.Errorf("deny: %d", a.StatusCode)
	}
	forwardLoad(s, "require_fresh 10m")
	s.setClock(time.Now().Add(20 * time.Minute))
	a := forwardAsk(s, cookie, page...)
	if to, err := a.Location(); err != nil || to.Query().Get("max_age") != "600" {
		t.Errorf("require_fresh: %d to %v", a.StatusCode, to)
	}
	if a := forwardAsk(s, cookie, describes(s, "POST", "/private")...); a.StatusCode != http.StatusUnauthorized || !strings.Contains(a.Header.Get("WWW-Authenticate"), "insufficient_user_authentication") {
		t.Errorf("require_fresh, a form: %d %q", a.StatusCode, a.Header.Get("WWW-Authenticate"))
	}
}

// A server in front asks at one address about one part of a site, and at another about
// the rest.
func TestAnAddressHasItsRules(t *testing.T) {
	s := forwardStreet(t, "")
	_, cookie := forwardSignIn(s)
	shown := blocks(t, "caddyfile", "docs/forward-auth.md")
	i := slices.IndexFunc(shown, func(b block) bool { return strings.Contains(b.text, "handle /staff") })
	if i < 0 {
		t.Fatal("docs/forward-auth.md does not show several gates")
	}
	site := shown[i].text[strings.Index(shown[i].text, "http://:9080"):]
	s.LoadCaddyfile(strings.NewReplacer(":9080", ":PORT", "client_id {env.AUTHENTIQ_KEY}", testrig.SiteOptions, "client_secret {env.AUTHENTIQ_SECRET}", "").Replace(site))
	for address, want := range map[string]int{
		"/": http.StatusNoContent, "/?x": http.StatusNoContent,
		"/staff": http.StatusForbidden, "/staff/": http.StatusForbidden, "/staff/x": http.StatusForbidden, "/staff?x": http.StatusForbidden, "/STAFF/x": http.StatusForbidden,
		"/staffs": http.StatusForbidden, "/%73taff/x": http.StatusForbidden, "//staff/x": http.StatusForbidden, "/x/../staff/x": http.StatusForbidden,
		"/x": http.StatusNotFound, "/staf": http.StatusNotFound, "/x/staff": http.StatusNotFound, "//": http.StatusNoContent,
	} {
		for _, uri := range []string{"/", "/staff", "/staff/../x"} { // what is asked about chooses nothing
			a := hdrSend(s, "GET "+address+" HTTP/1.1\r\nHost: x\r\n"+forwardCookie(cookie)+strings.Join(describes(s, "GET", uri), "\r\n")+"\r\n\r\n")
			if a.StatusCode != want {
				t.Errorf("%s about %s: %d, want %d", address, uri, a.StatusCode, want)
			}
		}
	}
}

// A server in front that forwards what it takes for one of the gate's addresses, and the
// gate does not, has not described anything: the client has.
func TestAQuestionAtWhatLooksLikeTheGatesOwnAddressIsRefused(t *testing.T) {
	s := forwardStreet(t, "callback_url http://127.0.0.1:PORT/signed/In")
	_, cookie := forwardSignIn(s)
	ask := func(address string) testrig.Answer {
		t.Helper()
		return hdrSend(s, "GET "+address+" HTTP/1.1\r\nHost: x\r\n"+forwardCookie(cookie)+strings.Join(describes(s, "GET", "/private"), "\r\n")+"\r\n\r\n")
	}
	for _, address := range []string{
		"/AUTHENTIQ", "/AUTHENTIQ/", "/Authentiq/x?code=s3cret", "/AUTHENTIQ/session", "/authenti%51/x", "/AUTHENTIQ%2Fx", "/AUTHENTIQ%252Fx", "/%2541uthentiq/x", "//AUTHENTIQ/x",
		"/x/../AUTHENTIQ/x", "/AUTHENTIQ/../x", "/AUTHENTIQ/./x", "/%2e/AUTHENTIQ/x", "/AUTHENTIQ;a/x", "/\\AUTHENTIQ/x", "/AUTHENTIQ?x", "/AUTHENTIQ%3fx", "/SIGNED/in?code=s3cret", "//signed/in",
		"http://x/AUTHENTIQ/x",
	} {
		t.Run(address, func(t *testing.T) { refusedWith(t, s, ask(address), http.StatusBadRequest, "described") })
	}
	if strings.Contains(s.Logged(), "s3cret") {
		t.Error("the code of a callback is in the log")
	}
	for _, address := range []string{"/authentiq-question", "/authentiqs", "/x/AUTHENTIQ", "/x?AUTHENTIQ/", "/signed"} {
		if a := ask(address); a.StatusCode != http.StatusNoContent {
			t.Errorf("%s: %d", address, a.StatusCode)
		}
	}
}

// forwardSignInAnyway signs in where no rule keeps anybody out, and comes back.
func forwardSignInAnyway(s *street) (*browser, string) {
	config := s.Config
	forwardLoad(s, "")
	b, cookie := forwardSignIn(s)
	before, err := testrig.Adapt(config)
	if err == nil {
		err = testrig.LoadCaddy(before)
	}
	if err != nil {
		s.T.Fatal(err)
	}
	return b, cookie
}

func TestASignOutCountsForAServerInFront(t *testing.T) {
	s := forwardStreet(t, "")
	b, cookie := forwardSignIn(s)
	b.Post(s.URL("/authentiq/sign-out"))
	if a := forwardAsk(s, cookie, describes(s, "GET", "/private")...); a.StatusCode != http.StatusSeeOther || a.Header.Get("X-Authentiq-Subject") != "" {
		t.Errorf("a kept cookie: %d", a.StatusCode)
	}
}

func TestBeingThereIsToldThroughAServerInFront(t *testing.T) {
	s := forwardStreet(t, "session {\nidle 16m\n}")
	_, cookie := forwardSignIn(s)
	page := describes(s, "GET", "/private")
	if a := forwardAsk(s, cookie, page...); len(a.Cookies()) > 0 {
		t.Errorf("a cookie too soon: %q", a.Header["Set-Cookie"])
	}
	s.setClock(time.Now().Add(10 * time.Minute))
	picture := append(slices.Clone(page[:4]), "Sec-Fetch-Mode: no-cors", "Sec-Fetch-Dest: image")
	if a := forwardAsk(s, cookie, picture...); a.StatusCode != http.StatusNoContent || len(a.Cookies()) > 0 {
		t.Errorf("a picture, which others may be given a copy of: %d %q", a.StatusCode, a.Header["Set-Cookie"])
	}
	a := forwardAsk(s, cookie, page...)
	lines := a.Header["Set-Cookie"]
	if len(lines) != 1 || a.Header.Get("Authentiq-Set-Cookie-1") != lines[0] || a.Header.Get("Authentiq-Set-Cookie-2") != "" {
		t.Fatalf("Set-Cookie %q, and again %q", lines, a.Header.Get("Authentiq-Set-Cookie-1"))
	}
	s.setClock(time.Now().Add(20 * time.Minute))
	if again := forwardAsk(s, cookie, page...); again.StatusCode != http.StatusSeeOther {
		t.Errorf("the old cookie, idle: %d", again.StatusCode)
	}
	if again := forwardAsk(s, lines[0][:strings.Index(lines[0], ";")], page...); again.StatusCode != http.StatusNoContent {
		t.Errorf("the new cookie: %d", again.StatusCode)
	}
	// One that takes several cookies comes whole, or the browser would have parts of two.
	s.Provider.SetHooks(authentiqtest.Hooks{IDTokenClaims: func(c map[string]any) { c["picture"] = strings.Repeat("x", 3000) }})
	s.setClock(time.Now())
	_, cookie = forwardSignIn(s)
	s.setClock(time.Now().Add(10 * time.Minute))
	a = forwardAsk(s, cookie, page...)
	if lines = a.Header["Set-Cookie"]; len(lines) < 2 || len(lines) > answerCookies {
		t.Fatalf("%d lines of Set-Cookie", len(lines))
	}
	for i, line := range lines {
		if got := a.Header.Get(fmt.Sprint("Authentiq-Set-Cookie-", i+1)); got != line {
			t.Errorf("line %d is told as %.60q", i+1, got)
		}
	}
	// In Caddy's access log these would be in plain sight, with all that is told of a user.
	if log := s.Logged(); strings.Contains(log, `"Authentiq-Set-Cookie`) || strings.Contains(log, `"X-Authentiq-Subject"`) {
		t.Error("the log has a cookie, or who a user is, of each request")
	}
}

func TestWhatCantGoWithForwardAuthIsRefused(t *testing.T) {
	for _, c := range []struct {
		what    string
		options options
		want    []string
	}{
		{"an unset variable", options{"forward_auth": "{env.AUTHENTIQ_UNSET}"}, []string{"forward_auth", "unset"}},
		{"an unknown word", options{"forward_auth": "yes"}, []string{`forward_auth "yes"`, "off or on"}},
		{"a matcher", options{"forward_auth": "on", "match": []any{options{"path": []string{"/private/*"}}}}, []string{"forward_auth", "handle"}},
		{"error pages of the site", options{"forward_auth": "on", "pages": "off"}, []string{"forward_auth", "pages on"}},
		{"a header that steers nginx", options{"forward_auth": "on", "header": []any{options{"name": "X-Accel-Redirect", "claim": "name"}}}, []string{"X-Accel-Redirect", "steers"}},
		{"a header that redirects", options{"forward_auth": "on", "header": []any{options{"name": "location", "claim": "name"}}}, []string{"location", "steers"}},
		{"a header that describes a request", options{"forward_auth": "on", "header": []any{options{"name": "x_forwarded-METHOD", "claim": "name"}}}, []string{"x_forwarded-METHOD", "describes"}},
		{"another header that describes a request", options{"forward_auth": "on", "header": []any{options{"name": "X-Forwarded-Uri", "claim": "name"}}}, []string{"X-Forwarded-Uri", "describes"}},
		{"a header that sets a cookie the old way", options{"forward_auth": "on", "header": []any{options{"name": "Set-Cookie2", "claim": "name"}}}, []string{"Set-Cookie2", "steers"}},
		{"a header that lets other origins read", options{"forward_auth": "on", "header": []any{options{"name": "Access_Control-Allow-Origin", "claim": "name"}}}, []string{"Access_Control-Allow-Origin", "steers"}},
		{"a header that is a status", options{"forward_auth": "on", "header": []any{options{"name": "status", "claim": "name"}}}, []string{"status", "steers"}},
		{"a header that fetches something else", options{"forward_auth": "on", "header": []any{options{"name": "X-Reproxy-URL", "claim": "name"}}}, []string{"X-Reproxy-URL", "steers"}},
		{"a header that sets a cookie", options{"forward_auth": "on", "header": []any{options{"name": "Authentiq_Set-Cookie-1", "claim": "name"}}}, []string{"Set-Cookie-1", "steers"}},
	} {
		t.Run(c.what, func(t *testing.T) {
			err := validate(t, options{"client_id": "app", "client_secret": randomSecret()}.with(c.options).inConfig(t, t.TempDir()))
			if err == nil {
				t.Fatal("was taken")
			}
			for _, want := range c.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%v: does not say %q", err, want)
				}
			}
		})
	}
}
