// SPDX-License-Identifier: Apache-2.0

package authentiq

// unauthenticated_test.go asks without a session, in every way that browsers and
// programs ask, under each word of `unauthenticated`.

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/authentiq/caddy-authentiq/authentiqtest"
	"github.com/authentiq/caddy-authentiq/internal/testrig"
)

// modes are three sites, and three more whose rules keep Alice out. One session
// is good for all of them.
const modes = `
http://signin.app.localhost:PORT {
	GATE sign_in
	END
}
http://deny.app.localhost:PORT {
	GATE deny
	END
}
http://pass.app.localhost:PORT {
	GATE pass
	END
}
http://signin-staff.app.localhost:PORT {
	GATE sign_in
	require email *@staff.example
	END
}
http://deny-staff.app.localhost:PORT {
	GATE deny
	require email *@staff.example
	END
}
http://pass-staff.app.localhost:PORT {
	GATE pass
	require email *@staff.example
	END
}
`

// modesStreet serves modes; matcher goes behind the directive's name.
func modesStreet(t *testing.T, matcher string, options ...string) *street {
	t.Helper()
	s := newStreet(t, testrig.GateBlock(""))
	s.loadWith("", strings.NewReplacer(
		"GATE", "authentiq "+matcher+" {"+testrig.SiteOptions+"session {\ndomain app.localhost\n}\n"+strings.Join(options, "\n")+"\nunauthenticated",
		"END", "}\nreverse_proxy UPSTREAM",
	).Replace(modes))
	return s
}

// sessionAt signs in at host and returns the Cookie line of the session alone.
func (s *street) sessionAt(host string) string {
	s.T.Helper()
	a := s.finish(s.Raw(rawPage("/authentiq/sign-in", host)))
	if a.StatusCode != http.StatusSeeOther {
		s.T.Fatalf("signing in at %s: %d %.300s", host, a.StatusCode, a.Body)
	}
	var pairs []string
	for _, c := range a.Cookies() {
		if testrig.SessionName.MatchString(c.Name) && c.MaxAge >= 0 {
			pairs = append(pairs, c.Name+"="+c.Value)
		}
	}
	if len(pairs) == 0 {
		s.T.Fatalf("no session: %q", a.Header["Set-Cookie"])
	}
	return "Cookie: " + strings.Join(pairs, "; ")
}

// ask sends a request byte for byte and reads the first answer to it, also one
// without a body or a provisional one.
func (s *street) ask(method, target, host string, header []string, body string) testrig.Answer {
	s.T.Helper()
	conn, err := net.Dial("tcp", "127.0.0.1:"+s.Port)
	if err != nil {
		s.T.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
	lines := append([]string{method + " " + target + " HTTP/1.1", "Host: " + s.Fill(host)}, header...)
	if body != "" {
		lines = append(lines, fmt.Sprintf("Content-Length: %d", len(body)))
	}
	if !slices.ContainsFunc(header, func(line string) bool { return strings.HasPrefix(line, "Connection:") }) {
		lines = append(lines, "Connection: close")
	}
	if _, err := io.WriteString(conn, strings.Join(lines, "\r\n")+"\r\n\r\n"+body); err != nil {
		s.T.Fatal(err)
	}
	r := bufio.NewReader(conn)
	resp, err := http.ReadResponse(r, &http.Request{Method: method})
	if err != nil {
		s.T.Fatalf("no answer to %s %.100q: %v", method, target, err)
	}
	defer resp.Body.Close()
	var text []byte
	if resp.StatusCode == http.StatusSwitchingProtocols {
		text, _ = r.ReadBytes('\n') // what comes after is no body
	} else {
		text, _ = io.ReadAll(resp.Body)
	}
	return testrig.Answer{Response: resp, Body: string(text)}
}

// What somebody without a session is, to the gate.
const (
	asPageLoad   = "page load"
	asNavigation = "navigation"
	asProgram    = "program"
)

// theSecret is in the body of every form; nobody but the application may have it.
const theSecret = "hunter2-0b7e"

type asking struct {
	name, method string
	header       []string
	body         string
	as           string
}

var socketHeader = []string{"Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==", "Origin: http://evil.example"}

func askings() []asking {
	page := []string{"Accept: text/html,application/xhtml+xml", "Sec-Fetch-Site: none", "Sec-Fetch-Mode: navigate", "Sec-Fetch-Dest: document"}
	form := []string{"Content-Type: application/x-www-form-urlencoded", "Sec-Fetch-Site: same-origin", "Sec-Fetch-Mode: navigate", "Sec-Fetch-Dest: document"}
	filled := "secret=" + theSecret
	return []asking{
		{"a page load", "GET", page, "", asPageLoad},
		{"a page load from another site", "GET", []string{"Sec-Fetch-Site: cross-site", "Sec-Fetch-Mode: navigate", "Sec-Fetch-Dest: document"}, "", asPageLoad},
		{"a page load of an old browser", "GET", []string{"Accept: text/html;q=0.9,*/*;q=0.8"}, "", asPageLoad},
		{"a page load with a body", "GET", page, filled, asPageLoad},
		{"a page's header", "HEAD", page, "", asPageLoad},
		{"a page's header for an old browser", "HEAD", []string{"Accept: text/html"}, "", asPageLoad},
		{"a form after the session has ended", "POST", form, filled, asNavigation},
		{"a form of an old browser", "POST", []string{"Accept: text/html", "Content-Type: application/x-www-form-urlencoded"}, filled, asNavigation},
		{"a form with a file that asks first", "POST", append(slices.Clone(form), "Expect: 100-continue"), filled, asNavigation},
		{"a frame", "GET", []string{"Accept: text/html", "Sec-Fetch-Mode: navigate", "Sec-Fetch-Dest: iframe"}, "", asNavigation},
		{"an old frame", "GET", []string{"Accept: text/html", "Sec-Fetch-Mode: navigate", "Sec-Fetch-Dest: frame"}, "", asNavigation},
		{"an embedded document", "GET", []string{"Sec-Fetch-Mode: navigate", "Sec-Fetch-Dest: embed"}, "", asNavigation},
		{"a navigation without a destination", "GET", []string{"Accept: text/html", "Sec-Fetch-Mode: navigate"}, "", asNavigation},
		{"a prefetch", "GET", append(slices.Clone(page), "Sec-Purpose: prefetch"), "", asNavigation},
		{"a prerender", "GET", append(slices.Clone(page), "Sec-Purpose: prefetch;prerender"), "", asNavigation},
		{"a prefetch of an old browser", "GET", []string{"Accept: text/html", "Sec-Purpose: prefetch"}, "", asNavigation},
		{"a fetch", "GET", []string{"Accept: application/json", "Sec-Fetch-Mode: cors", "Sec-Fetch-Dest: empty"}, "", asProgram},
		{"a fetch that wants HTML", "GET", []string{"Accept: text/html", "Sec-Fetch-Mode: same-origin", "Sec-Fetch-Dest: empty"}, "", asProgram},
		{"a fetch that sends", "POST", []string{"Content-Type: application/json", "Sec-Fetch-Mode: cors"}, `{"secret":"` + theSecret + `"}`, asProgram},
		{"a fetch without an answer", "GET", []string{"Sec-Fetch-Mode: no-cors", "Sec-Fetch-Dest: empty"}, "", asProgram},
		{"an XMLHttpRequest", "GET", []string{"Accept: text/html, */*", "X-Requested-With: XMLHttpRequest"}, "", asProgram},
		{"an XMLHttpRequest that sends", "POST", []string{"Accept: text/html", "X-Requested-With: XMLHttpRequest"}, filled, asProgram},
		{"a WebSocket", "GET", socketHeader, "", asProgram},
		{"a WebSocket of a browser", "GET", append(slices.Clone(socketHeader), "Sec-Fetch-Mode: websocket", "Sec-Fetch-Dest: empty"), "", asProgram},
		{"a WebSocket that wants HTML", "GET", append(slices.Clone(socketHeader), "Accept: text/html"), "", asProgram},
		{"a stream of events", "GET", []string{"Accept: text/event-stream", "Sec-Fetch-Mode: cors", "Sec-Fetch-Dest: empty"}, "", asProgram},
		{"a stream of events of an old browser", "GET", []string{"Accept: text/event-stream", "Last-Event-ID: 7"}, "", asProgram},
		{"a preflight", "OPTIONS", []string{"Origin: http://evil.example", "Access-Control-Request-Method: PUT", "Access-Control-Request-Headers: authorization", "Sec-Fetch-Mode: cors"}, "", asProgram},
		{"a preflight of an old browser", "OPTIONS", []string{"Origin: http://evil.example", "Access-Control-Request-Method: DELETE"}, "", asProgram},
		{"a script's look at a header", "HEAD", []string{"Sec-Fetch-Mode: cors"}, "", asProgram},
		{"an image", "GET", []string{"Accept: image/*", "Sec-Fetch-Mode: no-cors", "Sec-Fetch-Dest: image"}, "", asProgram},
		{"a script's source", "GET", []string{"Accept: */*", "Sec-Fetch-Mode: no-cors", "Sec-Fetch-Dest: script"}, "", asProgram},
		{"PUT", "PUT", []string{"Content-Type: text/plain"}, theSecret, asProgram},
		{"DELETE", "DELETE", nil, "", asProgram},
		{"PATCH", "PATCH", []string{"Content-Type: application/merge-patch+json"}, `{"a":"` + theSecret + `"}`, asProgram},
		{"PUT that asks first", "PUT", []string{"Expect: 100-continue"}, theSecret, asProgram},
		{"curl", "GET", []string{"User-Agent: curl/8.5.0", "Accept: */*"}, "", asProgram},
		{"curl without headers", "GET", nil, "", asProgram},
		{"a range of a file", "GET", []string{"Range: bytes=0-9"}, "", asProgram},
		{"a page that may not have changed", "GET", []string{`If-None-Match: "x"`, "If-Modified-Since: Thu, 01 Jan 2026 00:00:00 GMT"}, "", asProgram},
		{"a health check", "GET", []string{"User-Agent: GoogleHC/1.0"}, "", asProgram},
		{"a probe", "GET", []string{"User-Agent: kube-probe/1.29"}, "", asProgram},
		{"a header that overrides the method", "POST", []string{"X-HTTP-Method-Override: OPTIONS"}, filled, asProgram},
		{"TRACE", "TRACE", nil, "", asProgram},
		{"a method that nobody knows", "FOO", nil, "", asProgram},
		{"a method in lower case", "get", nil, "", asProgram},
	}
}

// refusedKind checks an answer that keeps somebody from the application and says
// which of them it is.
func refusedKind(t *testing.T, s *street, c asking, a testrig.Answer) string {
	t.Helper()
	if strings.Contains(fmt.Sprint(a.Header)+a.Body, theSecret) {
		t.Errorf("what was sent is in the answer: %v", a.Header)
	}
	kind := fmt.Sprint(a.StatusCode)
	switch a.StatusCode {
	case http.StatusSeeOther:
		if !strings.HasPrefix(a.Header.Get("Location"), s.Provider.EndpointURL(authentiqtest.Authorize)+"?") {
			t.Errorf("Location %q", a.Header.Get("Location"))
		}
		return kind
	case http.StatusTemporaryRedirect, http.StatusPermanentRedirect:
		t.Errorf("%d sends the body on", a.StatusCode)
	case http.StatusUnauthorized:
		if got := a.Header["Www-Authenticate"]; len(got) != 1 || got[0] != "Authentiq" {
			t.Errorf("WWW-Authenticate %q", got)
		}
		if len(a.Cookies()) > 0 {
			t.Errorf("401 with cookies: %q", a.Header["Set-Cookie"])
		}
	}
	if a.Header.Get("Location") != "" || a.Header.Get("X-Content-Type-Options") != "nosniff" {
		t.Errorf("headers %v", a.Header)
	}
	media, _, _ := strings.Cut(a.Header.Get("Content-Type"), ";")
	switch media {
	case "text/html":
		if c.method != "HEAD" && a.StatusCode == http.StatusUnauthorized && !strings.Contains(a.Body, `href="/authentiq/sign-in?return_to=%2Fdeep%3Fx%3Dy"`) {
			t.Errorf("no link to sign in: %s", a.Body)
		}
		kind += " page"
	case "application/problem+json":
		kind += " problem"
		if c.method == "HEAD" {
			break
		}
		var problem map[string]any
		if err := json.Unmarshal([]byte(a.Body), &problem); err != nil {
			t.Fatalf("%v: %s", err, a.Body)
		}
		// RFC 9457 section 3.1.
		title, _ := problem["title"].(string)
		if problem["type"] != "about:blank" || title == "" || problem["status"] != float64(a.StatusCode) {
			t.Errorf("problem %s", a.Body)
		}
		if signIn := problem["sign_in"]; a.StatusCode == http.StatusUnauthorized && signIn != "/authentiq/sign-in" {
			t.Errorf("sign_in %q", signIn)
		}
	default:
		t.Errorf("Content-Type %q", media)
	}
	if c.method == "HEAD" && a.Body != "" {
		t.Errorf("HEAD with a body: %s", a.Body)
	}
	return kind
}

var forgedHere = []string{
	"X-Authentiq-Subject: admin", "X_Authentiq_Subject: admin", "x-authentiq-email: admin@example.com", "X-Authentiq-Email-Verified: true", "X.Authentiq.Sid: x", "X-Authentiq-Whatever: x",
}

func TestWithoutASessionEveryWayOfAskingGetsItsOwnAnswer(t *testing.T) {
	s := modesStreet(t, "")
	want := map[string]map[string]string{
		"signin": {asPageLoad: "303", asNavigation: "401 page", asProgram: "401 problem"},
		"deny":   {asPageLoad: "401 page", asNavigation: "401 page", asProgram: "401 problem"},
	}
	for _, c := range askings() {
		for _, mode := range []string{"signin", "deny", "pass"} {
			if mode == "pass" && slices.Contains(c.header, "Expect: 100-continue") {
				continue // the first answer is the provisional one
			}
			t.Run(mode+"/"+c.name, func(t *testing.T) {
				s.T = t
				hits := s.Echo.Count()
				a := s.ask(c.method, "/deep?x=y", mode+".app.localhost:PORT", append(slices.Clone(c.header), forgedHere...), c.body)
				if mode == "pass" {
					s.passed(a, c, hits, "")
					return
				}
				s.Denied(a, hits)
				if kind := refusedKind(t, s, c, a); kind != want[mode][c.as] {
					t.Errorf("%s, want %s: %.200s", kind, want[mode][c.as], a.Body)
				}
			})
		}
	}
	s.T = t
	if strings.Contains(s.Logged(), theSecret) {
		t.Error("the log has what a form was sent with")
	}
	for _, r := range s.Provider.Requests(authentiqtest.Authorize) {
		if strings.Contains(fmt.Sprint(r), theSecret) {
			t.Error("the provider was sent a form's content")
		}
	}
}

// passed fails the test unless the application was reached once and was told of
// user, or of nobody.
func (s *street) passed(a testrig.Answer, c asking, hits int, user string) {
	s.T.Helper()
	if c.method == "TRACE" && s.Echo.Count() == hits {
		return // Go's transport sends no TRACE for reverse_proxy in some versions
	}
	if s.Echo.Count() != hits+1 || a.StatusCode >= 300 && a.StatusCode != http.StatusContinue {
		s.T.Fatalf("did not pass: %d, the upstream was asked %d times", a.StatusCode, s.Echo.Count()-hits)
	}
	last := s.Echo.Latest()
	if last.Body != c.body {
		s.T.Errorf("the upstream got the body %q", last.Body)
	}
	owned := owned(last)
	if user == "" && len(owned) > 0 {
		s.T.Errorf("the upstream was told %q of somebody without a session", owned)
	}
	if user != "" && last.Value(s.T, "X-Authentiq-Subject") != user {
		s.T.Errorf("the upstream was told %q", owned)
	}
	for _, cookie := range last.Values("Cookie") {
		if strings.Contains(cookie, "authentiq") {
			s.T.Errorf("the upstream got our cookie")
		}
	}
}

func TestWithASessionEveryWayOfAskingReachesTheApplicationAsTheUser(t *testing.T) {
	s := modesStreet(t, "")
	session := s.sessionAt("signin.app.localhost:" + s.Port)
	for _, c := range askings() {
		for _, mode := range []string{"signin", "deny", "pass"} {
			if slices.Contains(c.header, "Expect: 100-continue") {
				continue // the first answer is the provisional one
			}
			t.Run(mode+"/"+c.name, func(t *testing.T) {
				s.T = t
				hits := s.Echo.Count()
				a := s.ask(c.method, "/deep?x=y", mode+".app.localhost:PORT", append(append(slices.Clone(c.header), session), forgedHere...), c.body)
				s.passed(a, c, hits, authentiqtest.Alice)
			})
			t.Run(mode+"-staff/"+c.name, func(t *testing.T) {
				s.T = t
				hits := s.Echo.Count()
				a := s.ask(c.method, "/deep?x=y", mode+"-staff.app.localhost:PORT", append(append(slices.Clone(c.header), session), forgedHere...), c.body)
				if mode == "pass" { // whom the rules keep out is anonymous
					s.passed(a, c, hits, "")
					return
				}
				s.Denied(a, hits)
				want := "403 page"
				if c.as == asProgram {
					want = "403 problem"
				}
				if kind := refusedKind(t, s, c, a); kind != want {
					t.Errorf("%s, want %s", kind, want)
				}
				if a.Header.Get("WWW-Authenticate") != "" {
					t.Errorf("403 with WWW-Authenticate")
				}
			})
		}
	}
	s.T = t
}

func TestACookieThatOpensToNothingIsNobody(t *testing.T) {
	s := modesStreet(t, "")
	host := "signin.app.localhost:" + s.Port
	session := s.sessionAt(host)
	other := s.sessionAt(host)
	pair := strings.TrimPrefix(session, "Cookie: ")
	for name, line := range map[string]string{
		"empty":           "Cookie: authentiq=",
		"noise":           "Cookie: authentiq=" + strings.Repeat("A", 600),
		"cut off":         session[:len(session)-4],
		"changed":         session[:len(session)-6] + "AAAA" + session[len(session)-2:],
		"chunks of one":   "Cookie: authentiq_0=20abcdefghxx; authentiq_2=22abcdefghxx",
		"two that differ": "Cookie: " + pair + "; " + strings.TrimPrefix(other, "Cookie: "),
	} {
		for _, mode := range []string{"pass", "deny"} { // what is two sessions here ends both, so pass goes first
			t.Run(mode+"/"+name, func(t *testing.T) {
				s.T = t
				hits := s.Echo.Count()
				c := asking{method: "GET"}
				a := s.ask("GET", "/", mode+".app.localhost:PORT", append([]string{line}, forgedHere...), "")
				if mode == "pass" {
					s.passed(a, c, hits, "")
					return
				}
				s.Denied(a, hits)
				if a.StatusCode != http.StatusUnauthorized {
					t.Errorf("%d", a.StatusCode)
				}
				for _, cookie := range a.Cookies() {
					if cookie.MaxAge >= 0 {
						t.Errorf("a 401 sets %s", cookie)
					}
				}
			})
		}
	}
	s.T = t
}

func TestOnlyWhatMatchSelectsIsAskedForASession(t *testing.T) {
	s := modesStreet(t, "/private*")
	session := s.sessionAt("signin.app.localhost:" + s.Port)
	for _, mode := range []string{"signin", "deny", "pass", "signin-staff", "deny-staff", "pass-staff"} {
		for _, c := range askings() {
			if slices.Contains(c.header, "Expect: 100-continue") {
				continue
			}
			t.Run(mode+"/"+c.name, func(t *testing.T) {
				s.T = t
				host := mode + ".app.localhost:PORT"
				hits := s.Echo.Count()
				a := s.ask(c.method, "/public?x=y", host, append(append(slices.Clone(c.header), session), forgedHere...), c.body)
				s.passed(a, c, hits, "")
				hits = s.Echo.Count()
				a = s.ask(c.method, "/private?x=y", host, append(slices.Clone(c.header), forgedHere...), c.body)
				if strings.HasPrefix(mode, "pass") {
					s.passed(a, c, hits, "")
					return
				}
				s.Denied(a, hits)
			})
		}
	}
	s.T = t
}

// A problem document is the same for everybody: it says nothing of who asked.
func TestAProblemDocumentSaysWhereToSignInAndNothingElse(t *testing.T) {
	s := modesStreet(t, "", "path_prefix /sso")
	for _, mode := range []string{"signin", "deny"} {
		a := s.ask("GET", "/private/page?token=x", mode+".app.localhost:PORT", []string{"Referer: http://evil.example/<b>"}, "")
		var problem map[string]any
		if err := json.Unmarshal([]byte(a.Body), &problem); err != nil {
			t.Fatal(err)
		}
		if names := sorted(slices.Collect(maps.Keys(problem))); !slices.Equal(names, []string{"detail", "sign_in", "status", "title", "type"}) {
			t.Errorf("%s: members %q", mode, names)
		}
		if problem["sign_in"] != "/sso/sign-in" {
			t.Errorf("%s: sign_in %q", mode, problem["sign_in"])
		}
		if strings.Contains(a.Body, "token") || strings.Contains(a.Body, "evil") || strings.Contains(a.Body, "private/") {
			t.Errorf("%s: repeats the request: %s", mode, a.Body)
		}
	}
}
