// SPDX-License-Identifier: Apache-2.0

package authentiq

// answers_test.go is about what people, programs and operators are told when
// the answer is not the application's.

import (
	"encoding/json"
	"fmt"
	"html"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/authentiq/caddy-authentiq/authentiqtest"
	"github.com/authentiq/caddy-authentiq/internal/testnet"
	"github.com/authentiq/caddy-authentiq/internal/testrig"
)

var (
	answersLink      = regexp.MustCompile(`<a href="([^"]*)">([^<]*)</a>`)
	answersReference = regexp.MustCompile(`Reference: <code>([0-9a-f]{12})</code>`)
)

// answersLoad replaces the configuration for browsers that have been here: a
// connection of theirs could still lead to the server that is going.
func answersLoad(t *testing.T, s *street, block string, browsers ...*browser) {
	t.Helper()
	s.flowLoad(t, block)
	for _, b := range browsers {
		b.Client.CloseIdleConnections()
	}
}

// answersLinks returns the links of a page by what they say.
func answersLinks(a testrig.Answer) map[string]string {
	links := make(map[string]string)
	for _, m := range answersLink.FindAllStringSubmatch(a.Body, -1) {
		links[html.UnescapeString(m[2])] = html.UnescapeString(m[1])
	}
	return links
}

// answersQuery returns what the provider would be asked after address.
func answersQuery(t *testing.T, b *browser, address string) url.Values {
	t.Helper()
	a := b.Step(address)
	to, err := a.Location()
	if err != nil {
		t.Fatalf("%s: %d %v", address, a.StatusCode, err)
	}
	return to.Query()
}

// answersInert fails the test unless a is one of our pages, which nothing of a
// stranger's can do anything in.
func answersInert(t *testing.T, what string, a testrig.Answer) {
	t.Helper()
	for name, want := range map[string]string{
		"Content-Type": "text/html; charset=utf-8", "X-Content-Type-Options": "nosniff", "Cache-Control": "no-store", "Referrer-Policy": "no-referrer",
	} {
		if got := a.Header.Values(name); len(got) != 1 || got[0] != want {
			t.Errorf("%s: %s is %q", what, name, got)
		}
	}
	csp := a.Header.Get("Content-Security-Policy")
	if !strings.HasPrefix(csp, "default-src 'none'; ") || !strings.Contains(csp, "frame-ancestors 'none'") || strings.Contains(csp, "script-src") || strings.Contains(csp, "unsafe") {
		t.Errorf("%s: policy %q", what, csp)
	}
	lower := strings.ToLower(a.Body)
	for _, mark := range []string{"<script", "<img", "<svg", "<iframe", "<b>", "</pre>", "javascript:", "data:", `"onerror`, " onerror=", "evil.example"} {
		if strings.Contains(lower, mark) {
			t.Errorf("%s: the page has %s: %s", what, mark, a.Body)
		}
	}
}

func TestWhoMayNotEnterIsToldWhatIsMissingAndWhatToDo(t *testing.T) {
	keys := "\nsession {\nkeys " + sessionKey() + "\n}"
	s := newStreet(t, testrig.GateBlock(keys))
	b := s.signedIn()
	block := func(scope, options string) string {
		return strings.Replace(testrig.GateBlock(options+keys), "aq:name email phone address aq:location", scope, 1)
	}
	for _, test := range []struct {
		name, scope, options string
		says                 []string
		share                bool
		missing              string
	}{
		{"a scope that was not shared", "email aq:username~r aq:zoneinfo", "require nothing_here", []string{"Your user name has to be shared.", "“nothing_here” is missing."}, true, "[scope aq:username: missing require nothing_here: missing]"},
		{"another address", "email", "require email *@example.org", []string{"Your email address does not let you in here."}, false, "[require email: another value]"},
		{"several things", "email", "require groups staff\nrequire department\nrequire locale de_DE", []string{"“groups” is missing.", "“department” is missing.", "Your language does not let you in here."}, false, "[require groups: missing require department: missing require locale: another value]"},
		{"the same asked for twice", "email", "require department it\nrequire groups\nrequire department", []string{"“department” is missing.", "“groups” is missing."}, true, "[require department: missing require groups: missing require department: missing]"},
		{"a claim with markup in its name", "email", "require <b>x</b> 1", []string{"“&lt;b&gt;x&lt;/b&gt;” is missing."}, true, "[require <b>x</b>: missing]"},
	} {
		t.Run(test.name, func(t *testing.T) {
			answersLoad(t, s, block(test.scope, test.options), b)
			mark, hits := s.flowMark(), s.Echo.Count()
			a := b.Step(s.URL("/deep?a=b&c=%26"))
			if a.StatusCode != http.StatusForbidden || s.Echo.Count() != hits {
				t.Fatalf("%d", a.StatusCode)
			}
			answersInert(t, "the page", a)
			var said []string
			for _, m := range regexp.MustCompile(`<li>([^\n]*)</li>`).FindAllStringSubmatch(a.Body, -1) {
				said = append(said, m[1])
			}
			if !slices.Equal(said, test.says) {
				t.Errorf("says %q, want %q", said, test.says)
			}
			links := answersLinks(a)
			if share := links[labelShare]; (share != "") != test.share || links[labelOther] == "" {
				t.Fatalf("offers %q", links)
			}
			for label, prompt := range map[string]string{labelShare: "consent", labelOther: "login"} {
				if links[label] == "" {
					continue
				}
				if q := answersQuery(t, b, s.URL(links[label])); len(q["prompt"]) != 1 || q.Get("prompt") != prompt {
					t.Errorf("%s: prompt %q", label, q["prompt"])
				}
			}
			events, ref := s.flowEvents(eventDenied, mark), answersReference.FindStringSubmatch(a.Body)
			if len(events) != 1 || ref == nil || events[0]["reference"] != ref[1] || fmt.Sprint(events[0]["missing"]) != test.missing || events[0]["sub"] != authentiqtest.Alice || events[0]["client_ip"] != "127.0.0.1" || events[0]["level"] != "info" {
				t.Errorf("logged %v, the page says %q", events, ref)
			}
			// A program reads the same.
			p := whoamiGet(t, b, s.URL("/api"))
			var problem map[string]any
			if err := json.Unmarshal([]byte(p.Body), &problem); err != nil || p.StatusCode != http.StatusForbidden || !strings.Contains(fmt.Sprint(problem["detail"]), html.UnescapeString(test.says[0])) || problem["status"] != 403.0 {
				t.Errorf("%d %s", p.StatusCode, p.Body)
			}
		})
	}
}

func TestWhoSharesWhatIsMissingGoesOnToWhereHeWasGoing(t *testing.T) {
	s := newStreet(t, testrig.GateBlock("require phone_number"))
	s.Provider.SignInAs(authentiqtest.Alice, "phone")
	b := newBrowser(t)
	a := b.Get(s.URL("/deep?a=b&c=%26"))
	if a.StatusCode != http.StatusForbidden || !strings.Contains(a.Body, "<li>Your phone number has to be shared.</li>") {
		t.Fatalf("%d %s", a.StatusCode, a.Body)
	}
	// A reload of the page asks nobody and loops nowhere.
	for range 3 {
		if again := b.Step(b.Visited[len(b.Visited)-1]); again.StatusCode == http.StatusOK {
			t.Fatalf("a reload lets in: %d", again.StatusCode)
		}
	}
	s.Provider.SignInAs(authentiqtest.Alice)
	if got := b.Get(s.URL(answersLinks(a)[labelShare])).Seen(t).Line; got != "GET /deep?a=b&c=%26 HTTP/1.1" {
		t.Errorf("landed at %q", got)
	}
}

func TestAStrangersLinkChoosesNoPromptButTheTwoThatAreOffered(t *testing.T) {
	s := newStreet(t, "respond 204\n")
	for _, test := range []struct {
		name, options, query string
		want                 []string
	}{
		{"nothing", "", "", nil},
		{"share", "", "again=share", []string{"consent"}},
		{"someone else", "", "again=other", []string{"login"}},
		{"a prompt of his own", "", "prompt=none", nil},
		{"another word", "", "again=none", nil},
		{"the prompt itself", "", "again=consent", nil},
		{"both words", "", "again=share+other", nil},
		{"another case", "", "again=Share", nil},
		{"a prompt beside it", "", "again=share&prompt=none", []string{"consent"}},
		{"more in it", "", "again=share%26prompt%3Dnone", nil},
		{"what the site allows", "allow_param prompt", "prompt=select_account", []string{"select_account"}},
		{"what the site allows, twice", "allow_param prompt", "prompt=none&prompt=login", nil},
		{"what the site demands stays", "auth_param prompt login", "", []string{"login"}},
		{"share takes nothing away", "auth_param prompt login", "again=share", []string{"login consent"}},
		{"someone else adds nothing twice", "auth_param prompt login", "again=other", []string{"login"}},
		{"someone else takes nothing away", "auth_param prompt \"consent select_account\"", "again=other", []string{"consent select_account login"}},
		{"none stands alone", "auth_param prompt none", "again=other", []string{"login"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			s.flowLoad(t, testrig.GateBlock(test.options))
			q := answersQuery(t, newBrowser(t), s.URL("/authentiq/sign-in?"+test.query))
			if !slices.Equal(q["prompt"], test.want) {
				t.Errorf("prompt %q, want %q", q["prompt"], test.want)
			}
			if q.Has("again") || q.Has("return_to") {
				t.Errorf("the provider sees %q", q)
			}
			for name, values := range q {
				if len(values) != 1 {
					t.Errorf("%s: %q", name, values)
				}
			}
		})
	}
}

// The endpoints are the first gate's, and what is missing is the second's.
func TestSharingWhatASecondGateWantsAsksForThat(t *testing.T) {
	common := "issuer ISSUER\ndialect authentiq\nclient_id CLIENT\nclient_secret SECRET\n"
	s := newStreet(t, "authentiq /app/* {\n"+common+"scope aq:name phone\n}\nauthentiq /admin/* {\n"+common+"scope email~rs phone~r\n}\nreverse_proxy UPSTREAM\n")
	b := newBrowser(t)
	b.Get(s.URL("/app/")).Seen(t)
	a := b.Get(s.URL("/admin/x?y=1"))
	if a.StatusCode != http.StatusForbidden {
		t.Fatalf("without an address: %d", a.StatusCode)
	}
	share := s.URL(answersLinks(a)[labelShare])
	q := answersQuery(t, newBrowser(t), share)
	if got := q.Get("scope"); got != "openid email~rs phone~r aq:name" || q.Get("prompt") != "consent" || len(q["scope"]) != 1 {
		t.Errorf("the provider is asked for %q, prompt %q", q["scope"], q["prompt"])
	}
	if seen := b.Get(share).Seen(t); seen.Line != "GET /admin/x?y=1 HTTP/1.1" || seen.Value(t, "X-Authentiq-Email-Verified") != "true" {
		t.Errorf("the upstream saw %q", seen)
	}

	sealed, err := url.Parse(share)
	if err != nil {
		t.Fatal(err)
	}
	good := sealed.Query().Get("scope")
	for name, scope := range map[string]string{
		"a scope as it is": "address", "nothing": "", "a changed one": good[:len(good)-4] + "AAAA", "a cookie's": b.Cookies(s.URL("/"))[0].Value,
	} {
		q := answersQuery(t, newBrowser(t), s.URL("/authentiq/sign-in?"+url.Values{"again": {"share"}, "scope": {scope}}.Encode()))
		if !slices.Equal(q["scope"], []string{"openid aq:name phone"}) {
			t.Errorf("%s: a stranger's link asks for %q", name, q["scope"])
		}
	}
	if q := answersQuery(t, newBrowser(t), s.URL("/authentiq/sign-in?scope="+url.QueryEscape(good))); q.Get("scope") != "openid aq:name phone" {
		t.Errorf("without a page that offers it: %q", q.Get("scope"))
	}
}

func TestATabThatComesLateIsToldThatAllIsDone(t *testing.T) {
	s := newStreet(t, testrig.GateBlock(""))
	b := newBrowser(t)
	callback := b.ToCallback(s.URL("/deep?x=%22"))
	login := callbackSlot(t, b, callback)
	b.Get(callback).Seen(t)
	asked, mark := s.Asked(authentiqtest.Token), s.flowMark()
	for name, want := range map[string]string{"": "/", login.Name + "=" + login.Value + "; " + b.CookieHeader(s.URL("/")): `/deep?x=%22`} {
		var header []string
		if name != "" {
			header = []string{"Cookie", name}
		}
		a := b.Step(callback, header...)
		if a.StatusCode != http.StatusBadRequest || !strings.Contains(a.Body, "<h1>You are signed in already</h1>") || answersLinks(a)[labelGoOn] != want {
			t.Errorf("%d %q %s", a.StatusCode, answersLinks(a), a.Body)
		}
		answersInert(t, "the page", a)
	}
	if events := s.flowEvents(eventRefused, mark); len(events) != 2 || events[0]["check"] != "state" || s.Asked(authentiqtest.Token) != asked {
		t.Errorf("logged %v", events)
	}
	b.Get(s.URL("/")).Seen(t)
	// Whoever is not signed in is not told so.
	if a := newBrowser(t).Step(callback); strings.Contains(a.Body, "signed in already") || a.StatusCode != http.StatusBadRequest {
		t.Errorf("%d %s", a.StatusCode, a.Body)
	}
}

func TestAProfileThatIsTooLargeIsAPageAndNoSession(t *testing.T) {
	s := newStreet(t, testrig.GateBlock(""))
	cookiesGrow(s, 20_000)
	b := newBrowser(t)
	a := s.callbackRefused(t, b, b.ToCallback(s.URL("/deep")), http.StatusBadGateway, "size", "the largest, as JSON: ")
	answersInert(t, "the page", a)
	if !strings.Contains(a.Body, "Your profile is larger than this site can keep.") || signoutHint(b, s.URL("/authentiq/x")) != nil {
		t.Errorf("%s", a.Body)
	}
}

func TestAProviderThatIsAwayIsSaidToBeInTheAnswerAndInTheLog(t *testing.T) {
	s := newStreet(t, testrig.GateBlock(""))
	s.Provider.Down()
	s.flowRediscover(t, testrig.GateBlock(""))
	mark := s.flowMark()
	b := newBrowser(t)
	a := b.Step(s.URL("/"))
	answersInert(t, "the page", a)
	ref := answersReference.FindStringSubmatch(a.Body)
	events := s.flowEvents(eventRefused, mark)
	if a.StatusCode != http.StatusServiceUnavailable || a.Header.Get("Retry-After") == "" || ref == nil || len(events) != 1 || events[0]["reference"] != ref[1] || events[0]["check"] != "discovery" || events[0]["level"] != "error" || events[0]["status"] != 503.0 {
		t.Errorf("%d %q %v", a.StatusCode, a.Header, events)
	}
	if strings.Contains(a.Body, s.Provider.Issuer) || strings.Contains(a.Body, "refused") {
		t.Errorf("the page tells why: %s", a.Body)
	}
	if trouble := s.Events(eventProviderTrouble); len(trouble) == 0 || trouble[len(trouble)-1]["effect"] == nil || !strings.Contains(fmt.Sprint(trouble[len(trouble)-1]["error"]), s.Provider.Issuer) {
		t.Errorf("logged %v", trouble)
	}
	ready := len(s.Events(eventProviderReady))
	if err := s.Provider.Up(); err != nil {
		t.Fatal(err)
	}
	testrig.Await(t, "the recovery is logged", func() bool { return len(s.Events(eventProviderReady)) == ready+1 })
	b.Get(s.URL("/")).Seen(t)
}

// With pages off the site's own error pages say it.
func TestWithPagesOffErrorsReachTheSitesOwnPages(t *testing.T) {
	keys := "\nsession {\nkeys " + sessionKey() + "\n}"
	site := func(options string) string {
		return testrig.GateBlock("pages off\n"+options+keys) + "handle_errors {\nheader X-Site yes\nrespond \"{err.status_code}|{err.message}|{uri}\"\n}\n"
	}
	s := newStreet(t, site(""))
	b := s.signedIn()
	answersLoad(t, s, site("require email *@example.org"), b)
	check := func(t *testing.T, a testrig.Answer, status int, message string) string {
		t.Helper()
		parts := strings.SplitN(a.Body, "|", 3)
		if a.StatusCode != status || len(parts) != 3 || parts[0] != fmt.Sprint(status) || a.Header.Get("X-Site") != "yes" || a.Header.Get("Cache-Control") != "no-store" {
			t.Fatalf("%d %q %q", a.StatusCode, a.Header, a.Body)
		}
		m := regexp.MustCompile(`^(.*?)(?: \(reference ([0-9a-f]{12})\))?$`).FindStringSubmatch(parts[1])
		if m[1] != message {
			t.Errorf("message %q, want %q", m[1], message)
		}
		if strings.Contains(parts[2], "code=") || strings.Contains(parts[2], "state=") {
			t.Errorf("the error page sees %q", parts[2])
		}
		return m[2]
	}
	mark := s.flowMark()
	ref := check(t, b.Step(s.URL("/deep")), http.StatusForbidden, "you can’t enter here")
	if events := s.flowEvents(eventDenied, mark); ref == "" || len(events) != 1 || events[0]["reference"] != ref {
		t.Errorf("%q: logged %v", ref, events)
	}
	other := newBrowser(t)
	a := whoamiGet(t, other, s.URL("/api"))
	check(t, a, http.StatusUnauthorized, "please sign in")
	if a.Header.Get("WWW-Authenticate") != "Authentiq" {
		t.Errorf("%q", a.Header)
	}
	check(t, other.Step(s.URL("/authentiq/none")), http.StatusNotFound, "nothing is here")

	// At the callback too, and there the query stays out of every log.
	callback := other.ToCallback(s.URL("/deep"))
	mark = s.flowMark()
	ref = check(t, other.Step(callback), http.StatusForbidden, "you can’t enter here")
	if events := s.flowEvents(eventDenied, mark); ref == "" || len(events) != 1 || events[0]["reference"] != ref {
		t.Errorf("%q: logged %v", ref, events)
	}
	mark = s.flowMark()
	ref = check(t, other.Step(callback), http.StatusBadRequest, "this sign-in can’t be finished here")
	if events := s.flowEvents(eventRefused, mark); ref == "" || len(events) != 1 || events[0]["reference"] != ref {
		t.Errorf("%q: logged %v", ref, events)
	}
	s.Provider.SetHooks(callbackText(authentiqtest.Token, http.StatusInternalServerError, "text/plain", "no"))
	failing := other.ToCallback(s.URL("/authentiq/sign-in"))
	check(t, other.Step(failing), http.StatusBadGateway, "sign-in did not work")
	check(t, other.Step(strings.Replace(failing, "/callback?", "/callback/?", 1)), http.StatusNotFound, "nothing is here")
	s.Provider.SetHooks(authentiqtest.Hooks{})

	s.Provider.Down()
	s.flowRediscover(t, site(""))
	a = newBrowser(t).Step(s.URL("/"))
	check(t, a, http.StatusServiceUnavailable, "nobody can sign in right now")
	if a.Header.Get("Retry-After") == "" {
		t.Errorf("%q", a.Header)
	}

	// Error routes that fail, and sites without any: the status, and no log either.
	last := strings.Replace(failing, "code=", "code=x", 1)
	for name, block := range map[string]string{
		"none":              testrig.GateBlock("pages off" + keys),
		"one that fails":    testrig.GateBlock("pages off"+keys) + "handle_errors {\nerror \"again\" 418\n}\n",
		"of another status": testrig.GateBlock("pages off"+keys) + "handle_errors 500 {\nrespond \"other\"\n}\n",
	} {
		s.flowLoad(t, block)
		if a := newBrowser(t).Step(last); a.StatusCode != http.StatusBadRequest || a.Body != "" || a.Header.Get("Cache-Control") != "no-store" {
			t.Errorf("%s: %d %q %q", name, a.StatusCode, a.Header, a.Body)
		}
	}
	log := s.Logged()
	for _, address := range []string{callback, failing, last} {
		for name, value := range flowQueryOf(t, address) {
			if name != "iss" && strings.Contains(log, value[0]) {
				at := strings.Index(log, value[0])
				t.Errorf("the log has the %s: %s", name, log[max(0, at-300):at])
			}
		}
	}
}

// answersHostile is text that would do something where it is taken for more.
var answersHostile = []string{
	"<script>alert(1)</script>", `"><img src=x onerror=alert(1)>`, `' onerror=alert(1) x='`, "</pre><script>x", "javascript:alert(1)//evil.example",
	"</style><svg onload=alert(1)>", "{{.Style}}<b>", "data:text/html,<script>x</script>", "\"><base href=//evil.example>", "+ADw-script+AD4-evil.example",
}

func TestNothingOfAStrangersIsEverPartOfAPage(t *testing.T) {
	s := newStreet(t, testrig.GateBlock("require badge"))
	escape := url.QueryEscape
	for _, text := range answersHostile {
		b := newBrowser(t)
		callback := b.ToCallback(s.URL("/authentiq/sign-in"))
		in := flowQueryOf(t, callback)
		header := []string{"Referer", strings.NewReplacer("\r", "", "\n", "").Replace(text), "User-Agent", text, "X-Forwarded-Host", text, "Accept-Language", text}
		for _, path := range []string{
			"/authentiq/callback?error=" + escape(text) + "&error_description=" + escape(text) + "&error_uri=" + escape(text) + "&state=" + escape(in.Get("state")) + "&iss=" + escape(in.Get("iss")),
			"/authentiq/callback?error=access_denied&error_description=" + escape(text) + "&error_uri=" + escape(text) + "&state=x",
			"/authentiq/callback?error=" + escape(text),
			"/authentiq/callback?code=" + escape(text) + "&state=" + escape(text) + "&iss=" + escape(text),
			"/authentiq/callback?" + escape(text) + "=" + escape(text),
			"/authentiq/" + url.PathEscape(text),
			"/authentiq/sign-out?return_to=" + escape("//evil.example/"+text),
			"/authentiq/signed-out?state=" + escape(text) + "&return_to=" + escape(text),
		} {
			answersInert(t, path, b.Step(s.URL(path), header...))
		}
		// Local paths are kept, but as text.
		a := b.Step(s.URL("/authentiq/sign-out?return_to=" + escape("/"+strings.ReplaceAll(text, "evil.example", "x"))))
		for _, mark := range []string{"<script", "<img", "<svg", "<base", "<b>", "' onerror", `" onerror`, `"><`} {
			if strings.Contains(strings.ReplaceAll(a.Body, "\">\n<", ""), mark) && mark != `"><` || a.StatusCode != http.StatusOK {
				t.Errorf("%q: the page has %s: %d %s", text, mark, a.StatusCode, a.Body)
			}
		}
		// And so is what the provider says of the user.
		s.Provider.SetHooks(authentiqtest.Hooks{IDTokenClaims: func(c map[string]any) {
			for _, name := range []string{"name", "email", "sid", "locale", "department"} {
				c[name] = text
			}
		}})
		answersInert(t, "claims", newBrowser(t).Get(s.URL("/")))
		s.Provider.SetHooks(authentiqtest.Hooks{})
	}
	for _, host := range []string{"<script>", "evil.example\"><b>", "a'onerror=x"} {
		a := s.Raw("GET /authentiq/sign-in HTTP/1.1\r\nHost: " + host + "\r\nAccept: text/html\r\nConnection: close\r\n\r\n")
		if a.StatusCode != http.StatusBadRequest && a.StatusCode != http.StatusOK || strings.Contains(a.Body, host) {
			t.Errorf("%s: %d %s", host, a.StatusCode, a.Body)
		}
	}
}

func TestNothingThatTheGateSaysIsKeptByACache(t *testing.T) {
	s := newStreet(t, testrig.GateBlock("require email"))
	b := s.signedIn()
	stranger := newBrowser(t)
	callback := stranger.ToCallback(s.URL("/"))
	method := func(b *browser, method, path string) testrig.Answer {
		req := testrig.PageRequest(t, s.URL(path), "Sec-Fetch-Site", "same-origin")
		req.Method = method
		follow := b.Client.CheckRedirect
		b.Client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
		defer func() { b.Client.CheckRedirect = follow }()
		return b.Do(req)
	}
	for name, a := range map[string]testrig.Answer{
		"the way to the provider": newBrowser(t).Step(s.URL("/")), "a form": method(newBrowser(t), "POST", "/"), "a script": whoamiGet(t, newBrowser(t), s.URL("/")),
		"sign-in": newBrowser(t).Step(s.URL("/authentiq/sign-in")), "sign-in by a script": whoamiGet(t, newBrowser(t), s.URL("/authentiq/sign-in")),
		"a callback of nobody's": newBrowser(t).Step(callback), "a callback": stranger.Step(callback), "a late callback": stranger.Step(callback),
		"session": b.Step(s.URL("/authentiq/session")), "no session": newBrowser(t).Step(s.URL("/authentiq/session")),
		"the snippet": b.Step(s.URL("/authentiq/authentiq.js")), "signed-out": b.Step(s.URL("/authentiq/signed-out")), "asked": b.Step(s.URL("/authentiq/sign-out"), "Sec-Fetch-Site", "none"),
		"nothing": b.Step(s.URL("/authentiq/none")), "the prefix": b.Step(s.URL("/authentiq")), "a broken query": b.Step(s.URL("/authentiq/sign-in?%zz")),
		"POST session": method(b, "POST", "/authentiq/session"), "PUT callback": method(b, "PUT", "/authentiq/callback"), "POST sign-in": method(b, "POST", "/authentiq/sign-in"),
		"HEAD": method(newBrowser(t), "HEAD", "/"), "OPTIONS": method(newBrowser(t), "OPTIONS", "/"), "sign-out": method(b, "POST", "/authentiq/sign-out"),
	} {
		if cc := a.Header.Values("Cache-Control"); len(cc) != 1 || cc[0] != "no-store" {
			t.Errorf("%s: %d Cache-Control %q", name, a.StatusCode, cc)
		}
	}
}

func TestAnErrorOfTheProvidersEndsItsOwnSignInAndNoOther(t *testing.T) {
	s := newStreet(t, testrig.GateBlock(""))
	b := newBrowser(t)
	first, second := b.ToCallback(s.URL("/one")), b.ToCallback(s.URL("/two"))
	state := flowQueryOf(t, first).Get("state")
	left := func() (n int) {
		for _, c := range b.Cookies(s.URL("/")) {
			if strings.Contains(c.Name, loginInfix) {
				n++
			}
		}
		return n
	}
	answer := func(pairs ...string) testrig.Answer {
		q := url.Values{"iss": {s.Provider.Issuer}}
		for i := 0; i+1 < len(pairs); i += 2 {
			q.Set(pairs[i], pairs[i+1])
		}
		a := b.Step(s.URL("/authentiq/callback?" + q.Encode()))
		if a.Header.Get("Location") != "" || strings.Contains(a.Body, "refresh") {
			t.Errorf("%q leads on", pairs)
		}
		return a
	}
	for range 20 {
		if a := answer("error", "login_required", "state", "0unknown"); a.StatusCode != http.StatusBadRequest {
			t.Errorf("%d", a.StatusCode)
		}
		answer("error", "access_denied")
		answer()
	}
	if left() != 2 {
		t.Errorf("%d sign-ins are left", left())
	}
	asked := s.Asked(authentiqtest.Token)
	if a := answer("error", "login_required", "code", "x", "state", state); a.StatusCode != http.StatusForbidden || left() != 1 || s.Asked(authentiqtest.Token) != asked || answersLinks(a)[labelSignInAgain] != "/authentiq/sign-in?return_to=%2Fone" {
		t.Errorf("%d, %d left, %q", a.StatusCode, left(), answersLinks(a))
	}
	for range 20 {
		answer("error", "login_required", "state", state)
	}
	if got := b.Get(second).Seen(t).Line; got != "GET /two HTTP/1.1" {
		t.Errorf("the other tab landed at %q", got)
	}
}

func TestTheCallbackTakesNothingButACodeInTheQuery(t *testing.T) {
	s := newStreet(t, testrig.GateBlock(""))
	var idToken, access string
	s.Provider.SetHooks(authentiqtest.Hooks{TokenResponse: func(m map[string]any) { idToken, access = m["id_token"].(string), m["access_token"].(string) }})
	s.signedIn()
	b := newBrowser(t)
	callback := b.ToCallback(s.URL("/"))
	query := flowQueryOf(t, callback)
	plain, _, _ := strings.Cut(callback, "?")
	asked := s.Asked(authentiqtest.Token)
	for name, send := range map[string]struct{ method, address, kind, body string }{
		"a form":                   {"POST", plain, "application/x-www-form-urlencoded", query.Encode()},
		"a form and a query":       {"POST", callback, "application/x-www-form-urlencoded", query.Encode()},
		"JSON":                     {"POST", plain, "application/json", `{"code":"x"}`},
		"no type":                  {"POST", callback, "", query.Encode()},
		"multipart, a lot of it":   {"POST", callback, "multipart/form-data; boundary=x", "--x\r\nContent-Disposition: form-data; name=\"code\"\r\n\r\n" + strings.Repeat("a", 4<<20)},
		"an ID token to sign out":  {"POST", plain, "application/x-www-form-urlencoded", "logout_token=" + idToken},
		"PUT":                      {"PUT", callback, "", ""},
		"HEAD":                     {"HEAD", callback, "", ""},
		"OPTIONS":                  {"OPTIONS", callback, "", ""},
		"another method by header": {"POST", callback, "", ""},
	} {
		req := testrig.PageRequest(t, send.address, "X-HTTP-Method-Override", "GET")
		body, err := http.NewRequest(send.method, send.address, strings.NewReader(send.body))
		if err != nil {
			t.Fatal(err)
		}
		body.Header = req.Header
		if send.kind != "" {
			body.Header.Set("Content-Type", send.kind)
		}
		a := b.Do(body)
		status := http.StatusMethodNotAllowed
		if name == "an ID token to sign out" { // logout tokens are taken here, and it is none
			status = http.StatusBadRequest
		}
		if a.StatusCode != status || len(a.Cookies()) > 0 || a.Header.Get("Cache-Control") != "no-store" {
			t.Errorf("%s: %d %q", name, a.StatusCode, a.Header)
		}
	}
	// Tokens in the front channel are nobody's: a fragment's, or a stranger's.
	other := newBrowser(t)
	for _, more := range []string{"id_token=" + idToken, "access_token=" + access + "&token_type=Bearer", "response=" + idToken, "id_token=" + idToken + "&access_token=" + access} {
		state := flowQueryOf(t, other.ToCallback(s.URL("/"))).Get("state")
		a := other.Step(plain + "?" + more + "&iss=" + url.QueryEscape(s.Provider.Issuer) + "&state=" + url.QueryEscape(state))
		if a.StatusCode != http.StatusBadRequest || len(flowSession(other, s.URL("/"))) > 0 {
			t.Errorf("%.20s: %d", more, a.StatusCode)
		}
	}
	if s.Asked(authentiqtest.Token) != asked {
		t.Error("a code was redeemed")
	}
	a := b.Step(callback + "&id_token=" + idToken + "x&access_token=stolen&token_type=Bearer&expires_in=9&scope=admin&session_state=x")
	if a.StatusCode != http.StatusSeeOther || b.Get(s.URL("/")).Seen(t).Value(t, "X-Authentiq-Subject") != authentiqtest.Alice {
		t.Errorf("beside a code they are passed over: %d", a.StatusCode)
	}
	if strings.Contains(s.Logged(), idToken) || strings.Contains(s.Logged(), access) {
		t.Error("the log has a token")
	}
}

func TestEventsNameTheUserAndTheAddressThatCaddyTrusts(t *testing.T) {
	s := newStreet(t, "respond 204\n")
	keys := "\nsession {\nkeys " + sessionKey() + "\n}"
	spoof := []string{"X-Forwarded-For", "203.0.113.9", "X-Real-IP", "203.0.113.8", "Forwarded", "for=203.0.113.7", "True-Client-IP", "203.0.113.6", "CF-Connecting-IP", "203.0.113.5"}
	for _, test := range []struct{ name, globals, want string }{
		{"no proxy is trusted", "", "127.0.0.1"},
		{"another proxy is trusted", "servers {\ntrusted_proxies static 192.0.2.0/24\n}", "127.0.0.1"},
		{"the proxy is trusted", "servers {\ntrusted_proxies static 127.0.0.1/32\n}", "203.0.113.9"},
	} {
		t.Run(test.name, func(t *testing.T) {
			s.Port = testnet.Port(t)
			mark := s.flowMark()
			s.loadWith(test.globals, "http://127.0.0.1:PORT {\nlog\n"+testrig.GateBlock(keys)+"}")
			b := newBrowser(t)
			callback := b.ToCallback(s.URL("/"))
			b.Step(callback, spoof...)
			b.Step(callback, spoof...)
			req := testrig.PageRequest(t, s.URL("/authentiq/sign-out"), append(spoof, "Sec-Fetch-Site", "same-origin")...)
			req.Method = http.MethodPost
			b.Client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
			s.Port = testnet.Port(t)
			b.Do(req)
			s.loadWith(test.globals, "http://127.0.0.1:PORT {\nlog\n"+testrig.GateBlock("require badge"+keys)+"}")
			newBrowser(t).Step(newBrowser(t).ToCallback(s.URL("/")), spoof...)
			denied := newBrowser(t)
			denied.Step(denied.ToCallback(s.URL("/")), spoof...)
			for _, event := range []string{eventSignIn, eventRefused, eventSignOut, eventDenied} {
				events := s.flowEvents(event, mark)
				if len(events) == 0 {
					t.Errorf("%s was not logged", event)
				}
				for _, e := range events {
					if e["client_ip"] != test.want {
						t.Errorf("%s: client_ip %v, want %s", event, e["client_ip"], test.want)
					}
					if event != eventRefused && e["sub"] != authentiqtest.Alice {
						t.Errorf("%s: %v", event, e)
					}
					if fmt.Sprint(e["logger"]) != "http.handlers.authentiq" {
						t.Errorf("%s: logger %v", event, e["logger"])
					}
				}
			}
		})
	}
}

// Alerts are built on these.
func TestTheLogSaysWhatToDoAboutMistakesOfTheConfiguration(t *testing.T) {
	s := newStreet(t, testrig.GateBlock(""))
	for name, c := range map[string]struct {
		hooks       authentiqtest.Hooks
		status      int
		check, want string
	}{
		"another issuer":     {callbackClaim("iss", "https://other.example/"), http.StatusBadGateway, "iss", "issuer has to be"},
		"another client":     {callbackClaim("aud", "other"), http.StatusBadGateway, "aud", "compare client_id"},
		"a clock behind":     {callbackClaim("exp", time.Now().Add(-time.Hour).Unix()), http.StatusBadGateway, "exp", "compare this machine's clock"},
		"a clock ahead":      {callbackClaim("iat", time.Now().Add(time.Hour).Unix()), http.StatusBadGateway, "iat", "compare this machine's clock"},
		"another algorithm":  {callbackHeader("alg", "RS256"), http.StatusBadGateway, "alg", "name in signing_alg"},
		"another secret":     {callbackToken(func(h, p, _ string) string { return h + "." + p + "." + callbackB64(make([]byte, 32)) }), http.StatusBadGateway, "signature", "compare client_secret"},
		"another address":    {callbackText(authentiqtest.Token, 400, "application/json", `{"error":"invalid_grant"}`), http.StatusBadRequest, "token request", "callback address"},
		"no right to redeem": {callbackText(authentiqtest.Token, 400, "application/json", `{"error":"unauthorized_client"}`), http.StatusBadGateway, "token request", "check client_id and client_secret"},
	} {
		t.Run(name, func(t *testing.T) {
			s.Provider.SetHooks(c.hooks)
			defer s.Provider.SetHooks(authentiqtest.Hooks{})
			b := newBrowser(t)
			s.callbackRefused(t, b, b.ToCallback(s.URL("/")), c.status, c.check, c.want)
		})
	}
	t.Run("no cookie", func(t *testing.T) {
		s.callbackRefused(t, newBrowser(t), newBrowser(t).ToCallback(s.URL("/")), http.StatusBadRequest, "state", "its cookie did not come along")
	})
	t.Run("a query that is not read", func(t *testing.T) {
		s.callbackRefused(t, newBrowser(t), s.URL("/authentiq/callback?code=%zz"), http.StatusBadRequest, "query", "malformed")
		s.callbackRefused(t, newBrowser(t), s.URL("/authentiq/callback?"+strings.Repeat("a&", maxParameters)), http.StatusBadRequest, "query", "more than 65")
	})
	t.Run("a target with a host of its own", func(t *testing.T) {
		mark := s.flowMark()
		a := s.Raw("GET http://127.0.0.1:PORT/authentiq/sign-in HTTP/1.1\r\nHost: 127.0.0.1:PORT\r\nAccept: text/html\r\n\r\n")
		events := s.flowEvents(eventRefused, mark)
		if a.StatusCode != http.StatusBadRequest || len(events) != 1 || events[0]["check"] != "host" || !strings.Contains(fmt.Sprint(events[0]["error"]), "X-Forwarded-Host") {
			t.Errorf("%d, logged %v", a.StatusCode, events)
		}
	})
}

func TestAHostThatSessionDomainDoesNotCoverIsNotSentToHTTPS(t *testing.T) {
	s := newStreet(t, testrig.GateBlock("session {\n domain example.com\n}"))
	mark := s.flowMark()
	a := newBrowser(t).Step(s.URL("/"))
	if events := s.flowEvents(eventRefused, mark); len(events) != 1 || events[0]["check"] != "origin" || !strings.Contains(events[0]["error"].(string), "session domain does not cover") {
		t.Errorf("logged %v", events)
	}
	if a.StatusCode != http.StatusBadRequest || strings.Contains(a.Body, "https://") {
		t.Errorf("%d %s", a.StatusCode, a.Body)
	}
}

func TestEventsKeepTheirNames(t *testing.T) {
	for got, want := range map[string]string{
		eventSignIn: "signed in", eventSignInStarted: "sign-in started", eventSignOut: "signed out", eventRefused: "sign-in refused", eventDenied: "access denied",
		eventHeaderLeftOut: "header left out", eventProviderTrouble: "provider unavailable", eventProviderReady: "provider ready", eventKeysTrouble: "session keys unavailable",
	} {
		if got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	s := newStreet(t, testrig.GateBlock(""))
	s.Provider.SetHooks(authentiqtest.Hooks{IDTokenClaims: func(c map[string]any) { c["nickname"] = "a\nb" }})
	b := s.signedIn()
	b.Get(s.URL("/"))
	events := s.Events(eventHeaderLeftOut)
	if len(events) != 1 || fmt.Sprint(events[0]["headers"]) != "[X-Authentiq-Nickname]" || events[0]["sub"] != authentiqtest.Alice {
		t.Errorf("logged %v", events)
	}
	// A new sign-in ends the session before, and says why.
	b.Get(s.URL("/authentiq/sign-in"))
	s.Provider.SetHooks(callbackClaim("nonce", "x"))
	b.Get(s.URL("/authentiq/sign-in"))
	var reasons []string
	for _, e := range s.Events(eventSignOut) {
		reasons = append(reasons, fmt.Sprint(e["reason"]))
	}
	if !slices.Equal(reasons, []string{"signed in anew", "another sign-in failed"}) {
		t.Errorf("reasons %q", reasons)
	}
}
