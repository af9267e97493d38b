// SPDX-License-Identifier: Apache-2.0

package browsertest

// snippet_test.go is about authentiq.js: as it is handed out, and in Chromium, on
// pages that use it in all the ways that pages do.

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/target"
	"github.com/chromedp/chromedp"

	"github.com/authentiq/caddy-authentiq/authentiqtest"
	"github.com/authentiq/caddy-authentiq/internal/testrig"
)

// TestPagesWithTheSnippet has one Chromium for all walks, as TestInARealBrowser.
func TestPagesWithTheSnippet(t *testing.T) {
	c := startChromium(t)
	for _, walk := range []struct {
		name string
		run  func(*testing.T, *chromium)
	}{
		{"a page behind the gate greets its user and signs him out", snippetGated},
		{"a public page signs in, comes back to where it was, and signs out", snippetPublic},
		{"a page written for AuthentiqJS needs another address of the script, and nothing else", snippetAuthentiqJS},
		{"a sign-in in a window of its own leaves the page as it is", snippetPopup},
		{"a page sees at once what another tab does", snippetTabs},
		{"a page sees a sign-out at the provider, asking now and then", snippetRemote},
		{"a page that nobody looks at asks when somebody does", snippetHidden},
		{"asking keeps nobody from being idle", snippetIdle},
		{"a page that reloads when somebody has signed in does so once", snippetReload},
		{"however it is loaded, and twice", snippetLoads},
		{"without much to tell it tells that, and without a session endpoint nothing", snippetEndpoint},
		{"an outage is an error, once, and signs nobody out", snippetOutage},
		{"another user is a sign-out and a sign-in", snippetOther},
		{"it waits for the page, whose handlers may need what is further down", snippetReady},
		{"what a user calls himself stays text", snippetHostile},
		{"what somebody has typed stays", snippetTyped},
		{"one subscriber does not disturb another", snippetSubscribers},
		{"a page's names do not get in its way", snippetClobbered},
		{"an address that looks like another site's is not one", snippetAddress},
		{"the pages in the documents work", snippetDocuments},
		{"other sites can't load it, and a copy of it does nothing", snippetElsewhere},
	} {
		t.Run(walk.name, func(t *testing.T) { walk.run(t, c) })
	}
}

// snippetPages are an application: pages by path, each with its body, and their
// policy. Below /fake it is a gate of its own, which tells what a test wants.
type snippetPages struct {
	mu      sync.Mutex
	pages   map[string]string // body, or with a whole <html>
	csp     string
	status  int // of /fake/session
	session string
	asked   int // for it
	addr    string
	snippet string // ours, which it has a copy of
}

func newSnippetPages(t *testing.T, csp string, pages map[string]string) *snippetPages {
	t.Helper()
	ours, err := os.ReadFile("../../authentiq.js")
	if err != nil {
		t.Fatal(err)
	}
	p := &snippetPages{pages: pages, csp: csp, status: http.StatusUnauthorized, session: "{}", snippet: string(ours)}
	server := httptest.NewServer(p)
	t.Cleanup(server.Close)
	p.addr = strings.TrimPrefix(server.URL, "http://")
	return p
}

// tell says what /fake/session answers from now on.
func (p *snippetPages) tell(status int, session string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.status, p.session = status, session
}

// count is how often it was asked.
func (p *snippetPages) count() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.asked
}

// snippetScripts are what pages of the tests load. `events` writes down what the
// snippet says; with `fast` nobody waits for longer than a moment, and what he
// would have waited for is written down.
var snippetScripts = map[string]string{
	"/events.js": `window.seen = []
		for (const event of ["profile", "authorized", "authorized:code", "concluded", "error"]) authentiq.subscribe(event, value => {
			seen.push(value === undefined ? event : event + " " + (value.name ?? value.error ?? JSON.stringify(value)))
			if (event == "profile") window.told = value
		})`,
	"/fast.js": `window.waits = []
		const wait = window.setTimeout
		window.setTimeout = (act, time) => { waits.push(time); return wait(act, Math.min(time, 200)) }`,
}

func (p *snippetPages) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/slow.js" {
		// The page is not there yet, for as long as the snippet would need to ask, say
		// what it was told, and ask again.
		for start := time.Now(); p.count() < 2 && time.Since(start) < time.Second; time.Sleep(5 * time.Millisecond) {
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if script := snippetScripts[r.URL.Path]; script != "" || strings.HasSuffix(r.URL.Path, "/authentiq.js") {
		w.Header().Set("Content-Type", "text/javascript")
		if script == "" {
			script = p.snippet
		}
		fmt.Fprint(w, script)
		return
	}
	if strings.HasSuffix(r.URL.Path, "/session") {
		p.asked++
		w.Header().Set("Location", "/fake/signed-out.json") // where the status is one of those
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(p.status)
		fmt.Fprint(w, p.session)
		return
	}
	if r.URL.Path == "/fake/signed-out.json" {
		w.WriteHeader(http.StatusUnauthorized)
		fmt.Fprint(w, "{}")
		return
	}
	body, there := p.pages[r.URL.Path]
	if !there {
		w.WriteHeader(http.StatusNoContent) // the icon
		return
	}
	if p.csp != "" {
		w.Header().Set("Content-Security-Policy", p.csp)
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	if !strings.Contains(body, "<html") {
		body = "<html lang=en><head><meta charset=utf-8><title>Application</title></head><body>" + body + "</body></html>"
	}
	fmt.Fprint(w, "<!doctype html>"+body)
}

// site is one with these pages, whose part below /private needs a session.
func (p *snippetPages) site(options string) string {
	return "https://app.example.test:PORT {\n" + webTLS + "log\n@private path /private/*\nauthentiq @private {\n" + testrig.SiteOptions + options + "\n}\nreverse_proxy " + p.addr + "\n}\n"
}

// awaits waits until an expression on the page is what it should be.
func (b *tab) awaits(expression, want string) {
	b.t.Helper()
	got := ""
	defer func() {
		if b.t.Failed() {
			b.t.Logf("%s is %q, want %q", expression, got, want)
		}
	}()
	testrig.Await(b.t, expression, func() bool {
		ctx, cancel := context.WithTimeout(b.ctx, time.Second)
		defer cancel()
		value, err := chromedp.Run(ctx, chromedp.Evaluate[string](expression))
		if err != nil {
			value = err.Error() // it is between two pages
		}
		got = value
		return got == want
	})
}

// hears waits until the page has heard these events since it was loaded.
func (b *tab) hears(events ...string) {
	b.t.Helper()
	b.awaits(`seen.join(", ")`, strings.Join(events, ", "))
}

// isQuiet fails the test unless a page that is `fast` stops asking by itself.
func (b *tab) isQuiet() {
	b.t.Helper()
	b.script(`wait(() => { waits.length = 0 }, 500); wait(() => { window.quiet = "after " + waits.length }, 1500); ""`)
	b.awaits(`window.quiet ?? ""`, "after 0")
}

// popup returns the window that an act opens.
func (b *tab) popup(act func()) *tab {
	b.t.Helper()
	before := b.windows()
	act()
	var opened target.ID
	testrig.Await(b.t, "a window opens", func() bool {
		for _, id := range b.windows() {
			if !slices.Contains(before, id) {
				opened = id
			}
		}
		return opened != ""
	})
	ctx, cancel := chromedp.NewContext(b.ctx, chromedp.WithTargetID(opened))
	b.t.Cleanup(cancel)
	return b.window.tab(ctx)
}

// windows are the open pages of all windows.
func (b *tab) windows() (ids []target.ID) {
	b.t.Helper()
	targets, err := chromedp.Targets(b.ctx)
	if err != nil {
		b.t.Fatal(err)
	}
	for _, info := range targets {
		if info.Type == "page" {
			ids = append(ids, info.TargetID)
		}
	}
	return ids
}

const (
	snippetTag  = `<script class="authentiq-snippet" src="/authentiq/authentiq.js" data-button="yes"></script><script src="/events.js"></script>`
	snippetFake = `<script class="authentiq-snippet" src="/fake/authentiq.js" data-button="yes"></script><script src="/events.js"></script>`
	snippetBind = `<p id="name" data-authentiq-profile-bind="name">somebody</p><p id="email" data-authentiq-profile-bind="email"></p>`

	aliceName = "Alice Jane Whitfield"
	bobName   = "Søren Łukasiewicz"

	buttonText = `document.querySelector(".authentiq-button")?.textContent ?? "none"`
	boundText  = `[...document.querySelectorAll("[data-authentiq-profile-bind]")].map(element => element.value ?? element.textContent).join("|")`
)

func snippetGated(t *testing.T, c *chromium) {
	// Nothing but what comes from the site itself: no inline script, no style.
	p := newSnippetPages(t, "default-src 'self'; form-action 'none'", map[string]string{
		"/private/page": `<h1>Private</h1>` + snippetTag + snippetBind +
			`<p data-authentiq-profile-bind="given_name"></p><p data-authentiq-profile-bind="address.country"></p><p data-authentiq-profile-bind="aq:location.address.locality"></p>
			<p data-authentiq-profile-bind="address"></p><p data-authentiq-profile-bind="email_verified"></p><p data-authentiq-profile-bind="aq:location.latitude"></p><p data-authentiq-profile-bind="nothing.at.all"></p>`,
	})
	s := c.street(t, p.site("session_endpoint full"))
	b := c.window(t, "status of 401") // of the question whether the page needs a session
	b.open(s.web("app", "/private/page"))
	b.signIn(s, authentiqtest.Alice)
	b.sees(s.web("app", "/private/page"), http.StatusOK, "Private", "Sign out", aliceName)
	b.hears("authorized {}", "profile "+aliceName)
	b.awaits(boundText, aliceName+"|alice@example.com|Alice|United States|Portland|12 Harbor Lane\nPortland, Maine 04101\nUnited States|true|43.6591|")
	b.awaits(`Object.keys(told).sort().join(" ")`, "address aq:location email email_verified family_name given_name locale middle_name name phone_number phone_number_verified phone_type sid sub zoneinfo")
	b.awaits(`[told.sub, told.family_name, told.phone_number, told.locale, told.zoneinfo, told.address.state].join("|")`, authentiqtest.Alice+"|Whitfield|+12075550142|en_US|America/New_York|Maine")
	b.awaits(`[authentiq.Provider.isSignedIn(), authentiq.Provider.profile().email].join(" ")`, "true alice@example.com")
	b.awaits(`((button) => [button.tagName, button.type, button.previousElementSibling.tagName, button.className].join(" "))(document.querySelector(".authentiq-button"))`, "BUTTON button SCRIPT authentiq-button authentiq-signed-in")
	// It loads again, and nothing has happened meanwhile.
	b.reload()
	b.hears("profile " + aliceName)
	// Back to here would be in again: so it ends on the gate's page.
	b.press("Sign out")
	b.signedOut(s, "app")
	b.open(s.web("app", "/private/page"))
	b.atProvider(s)
}

func snippetPublic(t *testing.T, c *chromium) {
	// Under a policy that knows scripts by a nonce, and takes no form.
	body := strings.ReplaceAll(snippetTag, "<script", `<script nonce="n"`) + snippetBind
	p := newSnippetPages(t, "script-src 'nonce-n' 'strict-dynamic'; object-src 'none'; base-uri 'none'; form-action 'none'; require-trusted-types-for 'script'", map[string]string{"/page": body, "/private/": body})
	s := c.street(t, p.site("session_endpoint full"))
	b := c.window(t, "status of 401")
	here := s.web("app", "/page?x=1&y=a%20b#part")
	b.open(here)
	b.sees(here, http.StatusOK, "Sign in", "somebody")
	b.awaits(`[authentiq.Provider.isSignedIn(), authentiq.Provider.profile() ?? "nobody"].join(" ")`, "false nobody")
	b.hears()
	b.press("Sign in")
	b.signIn(s, authentiqtest.Bob)
	b.sees(here, http.StatusOK, "Sign out", bobName, "bob@example.net")
	b.hears("authorized {}", "profile "+bobName)
	b.press("Sign out")
	b.sees(here, http.StatusOK, "Sign in", "somebody")
	b.hears("concluded")
	b.reload()
	b.sees(here, http.StatusOK, "Sign in")
	b.hears()
	if n := s.Asked(authentiqtest.EndSession); n != 1 {
		t.Errorf("the provider was asked to sign out %d times", n)
	}
	// The button is more than the mouse's.
	b.script(`document.querySelector(".authentiq-button").focus(); ""`)
	b.do(chromedp.KeyEvent("\r"))
	b.signIn(s, authentiqtest.Alice)
	b.sees(here, http.StatusOK, "Sign out", aliceName)
}

func snippetAuthentiqJS(t *testing.T, c *chromium) {
	// In the head, as such pages have it: their handlers call what is defined below.
	p := newSnippetPages(t, "", map[string]string{"/page": `<html><head><title>Application</title>
		<script src="/authentiq/authentiq.js" class="authentiq-snippet" data-client-id="somebody-elses" data-scope="openid aq:name email~rs phone address aq:push" data-button="no"
			data-display="page" data-response-type="code id_token" data-response-mode="fragment" data-redirect-uri="https://elsewhere.test/callback" data-sign-out-claim="given_name" data-theme="orange"
			data-provider-uri="https://elsewhere.test/authorize" data-state="s"></script>
		<script>
			window.seen = []
			authentiq.subscribe('authorized', function(token) { debug('authorized', token) });
			authentiq.subscribe('authorized:id_token', function(token) { debug('authorized:id_token', token) });
			authentiq.subscribe('authorized:code', function(code) { debug('authorized:code', code) });
			authentiq.subscribe('profile', function(profile) { debug('profile', profile.email) });
			authentiq.subscribe('concluded', function() { debug('concluded', '') });
			authentiq.subscribe('error', function(error) { debug('error', error.error) });
		</script></head><body>
		<button class="authentiq-button"><img alt="" src="/logo"> Sign in using your phone</button>
		<form><input data-authentiq-profile-bind="name"><input type=email data-authentiq-profile-bind="email"><textarea data-authentiq-profile-bind="phone_number"></textarea>
			<button class="authentiq-button" data-theme="none" data-sign-in-text="In" data-sign-out-text="Out" data-sign-out-claim="email"></button></form>
		<script>function debug(event, value) { seen.push(event + " " + JSON.stringify(value)) }</script>
		</body></html>`})
	s := c.street(t, p.site("session_endpoint full"))
	b := c.window(t, "status of 401", "Cookie", "FormLabelForNameError", "FormEmptyIdAndNameAttributesForInputError", "FormInputWithNoLabelError", "FormFieldMissing", "GenericIssue")
	here := s.web("app", "/page")
	buttons := `[...document.querySelectorAll(".authentiq-button")].map(button => button.innerHTML.trim() + " " + button.className).join("|")`
	b.open(here)
	b.awaits(buttons, `<img alt="" src="/logo"> Sign in using your phone authentiq-button authentiq-orange|In authentiq-button authentiq-none`)
	b.press("In") // in a form, and sends none
	b.signIn(s, authentiqtest.Alice)
	b.awaits(buttons, `Sign out Alice authentiq-button authentiq-orange authentiq-signed-in|Out alice@example.com authentiq-button authentiq-none authentiq-signed-in`)
	b.awaits(`seen.join(", ")`, `authorized {}, profile "alice@example.com"`)
	b.awaits(boundText, aliceName+"|alice@example.com|+12075550142")
	if asked := s.Provider.Requests(authentiqtest.Authorize)[0].Query; asked.Get("client_id") != s.ClientID || asked.Get("response_mode") != "" || asked.Get("response_type") != "code" || strings.Contains(asked.Get("scope"), "aq:push") || !strings.HasSuffix(asked.Get("redirect_uri"), "/authentiq/callback") {
		t.Errorf("the page has decided what only the gate does: %q", asked)
	}
	b.press("Sign out Alice")
	b.awaits(buttons, `<img alt="" src="/logo"> Sign in using your phone authentiq-button authentiq-orange|In authentiq-button authentiq-none`)
	b.awaits(`seen.join(", ")`, `concluded ""`)
}

func snippetPopup(t *testing.T, c *chromium) {
	p := newSnippetPages(t, "default-src 'self'", map[string]string{"/page": strings.Replace(snippetTag, "data-button", `data-display="modal" data-button`, 1) + snippetBind})
	s := c.street(t, p.site("session_endpoint full\nallow_param display"))
	b := c.window(t, "status of 401", "Scripts may close only the windows that were opened by them")
	here := s.web("app", "/page?x=1#part")
	b.open(here)
	b.sees(here, http.StatusOK, "Sign in")
	b.script(`window.name = "the page"; ""`)
	windows := len(b.windows())
	popup := b.popup(func() { b.press("Sign in") })
	popup.atProvider(s)
	popup.awaits(`String(window.opener)`, "null")
	if display := s.Provider.Requests(authentiqtest.Authorize)[0].Query.Get("display"); display != "popup" {
		t.Errorf("display %q", display)
	}
	popup.signIn(s, authentiqtest.Alice)
	b.sees(here, http.StatusOK, "Sign out", aliceName)
	b.hears("authorized {}", "profile "+aliceName)
	b.awaits("window.name", "the page") // the same that it was
	testrig.Await(t, "the window is closed", func() bool { return len(b.windows()) == windows })
	// The address that it comes back to closes no tab of somebody's.
	b.open(s.web("app", "/page?x=2#authentiq-popup"))
	b.sees(s.web("app", "/page?x=2"), http.StatusOK, "Sign out")
	b.hears("profile " + aliceName)
}

func snippetTabs(t *testing.T, c *chromium) {
	p := newSnippetPages(t, "default-src 'self'", map[string]string{"/page": snippetTag + snippetBind})
	s := c.street(t, p.site("session_endpoint full"))
	b := c.window(t, "status of 401")
	here := s.web("app", "/page")
	b.open(here)
	b.sees(here, http.StatusOK, "Sign in")
	other := b.another()
	other.open(here)
	other.press("Sign in")
	other.signIn(s, authentiqtest.Alice)
	other.hears("authorized {}", "profile "+aliceName)
	b.hears("authorized {}", "profile "+aliceName)
	b.awaits(boundText, aliceName+"|alice@example.com")
	other.press("Sign out")
	other.hears("concluded")
	b.hears("authorized {}", "profile "+aliceName, "concluded")
	b.awaits(boundText, "|")
	b.awaits(buttonText, "Sign in")
}

func snippetRemote(t *testing.T, c *chromium) {
	p := newSnippetPages(t, "", map[string]string{"/page": `<script src="/fast.js"></script>` + snippetTag + snippetBind, "/leave": `<a href="/authentiq/sign-out">Leave</a>`})
	s := c.street(t, p.site("session_endpoint full"))
	s.Provider.SetHooks(authentiqtest.Hooks{IDTokenClaims: func(c map[string]any) { c["sid"] = "the-sid" }})
	b := c.window(t, "status of 401")
	here := s.web("app", "/page")
	b.open(here)
	b.press("Sign in")
	b.signIn(s, authentiqtest.Alice)
	b.hears("authorized {}", "profile "+aliceName)
	b.awaits(`String(waits.length > 3)`, "true") // it asks, and says nothing as nothing has changed
	b.awaits(`[...new Set(waits)].join(" ")`, "30000")
	// Anybody may bring a logout token, this page too: it learns nothing from that.
	b.script(`fetch("/authentiq/backchannel-logout", { method: "POST", body: new URLSearchParams({ logout_token: "` + s.LogoutToken(authentiqtest.Alice, "the-sid") + `" }) }); ""`)
	b.hears("authorized {}", "profile "+aliceName, "concluded")
	b.awaits(boundText, "|")
	// Nobody is signed in: it asks no more by itself.
	b.isQuiet()
}

func snippetHidden(t *testing.T, c *chromium) {
	p := newSnippetPages(t, "", map[string]string{"/page": `<script src="/fast.js"></script>` + snippetFake})
	s := c.street(t, p.site(""))
	b := c.window(t, "status of 401")
	p.tell(http.StatusOK, `{"uid":"alice","info":{"name":"Alice"}}`)
	b.open(s.web("app", "/page"))
	b.hears("authorized {}", "profile Alice")
	b.script(`Object.defineProperty(document, "hidden", { get: () => window.away ?? true, configurable: true }); ""`)
	b.isQuiet()
	p.tell(http.StatusUnauthorized, `{}`)
	b.script(`window.away = false; document.dispatchEvent(new Event("visibilitychange", { bubbles: true })); ""`)
	b.hears("authorized {}", "profile Alice", "concluded")
}

func snippetIdle(t *testing.T, c *chromium) {
	p := newSnippetPages(t, "", map[string]string{"/page": `<script src="/fast.js"></script>` + snippetTag, "/private/page": "private"})
	s := c.street(t, p.site("session {\nidle 10m\n}"))
	b := c.window(t, "status of 401")
	b.open(s.web("app", "/page"))
	b.press("Sign in")
	b.signIn(s, authentiqtest.Alice)
	b.hears("authorized {}", "profile "+aliceName)
	start := time.Now()
	for minute := 2; minute < 10; minute += 2 {
		s.setClock(start.Add(time.Duration(minute) * time.Minute))
		b.script(`waits.length = 0; ""`)
		b.awaits(`String(waits.length > 2)`, "true") // it has asked, with the clock there
	}
	b.hears("authorized {}", "profile "+aliceName)
	s.setClock(start.Add(10*time.Minute + time.Second))
	b.hears("authorized {}", "profile "+aliceName, "concluded")
}

func snippetReload(t *testing.T, c *chromium) {
	p := newSnippetPages(t, "", map[string]string{"/page": `<script class="authentiq-snippet" src="/authentiq/authentiq.js" data-button></script><script src="/events.js"></script><script>
		sessionStorage.loads = +(sessionStorage.loads ?? 0) + 1
		authentiq.subscribe("authorized", () => location.reload())
		authentiq.subscribe("concluded", () => location.replace("/bye"))</script>`, "/bye": "Bye"})
	s := c.street(t, p.site(""))
	b := c.window(t, "status of 401")
	b.open(s.web("app", "/page"))
	b.press("Sign in")
	b.signIn(s, authentiqtest.Alice)
	b.awaits(`sessionStorage.loads + " " + seen.join(", ")`, "3 profile "+aliceName)
	b.press("Sign out")
	b.sees(s.web("app", "/bye"), http.StatusOK, "Bye")
	b.open(s.web("app", "/page"))
	b.awaits(`seen.join(", ") + `+buttonText, "Sign in")
}

func snippetLoads(t *testing.T, c *chromium) {
	const twice = `<script class="authentiq-snippet" src="/authentiq/authentiq.js"></script><h1>Twice</h1><p>` + snippetTag + `</p><p><script class="authentiq-snippet" src="/authentiq/authentiq.js" data-button data-sign-out-text="Leave"></script></p>`
	tag := `<script class="authentiq-snippet" src="/authentiq/authentiq.js" data-button=yes HOW></script>`
	late := `<script type="module">await new Promise(done => setTimeout(done, 300)); const script = document.createElement("script"); script.src = "/events.js"; document.body.append(script)</script>`
	page := func(how string) string {
		return "<html><head><title>Application</title>" + strings.Replace(tag, "HOW", how, 1) + "</head><body><h1>Here</h1>" + snippetBind + late + "</body></html>"
	}
	pages := map[string]string{
		"/head": page(""), "/defer": page("defer"), "/async": page("async"), "/module": page(`type="module"`), "/twice": twice,
		"/made": snippetBind + `<script>const script = document.createElement("script"); script.className = "authentiq-snippet"; script.dataset.button = "yes"; script.src = "/authentiq/authentiq.js?v=3"; document.body.append(script)</script>` + late,
	}
	p := newSnippetPages(t, "", pages)
	s := c.street(t, p.site("session_endpoint full"))
	b := c.window(t, "NavigationEntryMarkedSkippable")
	b.open(s.web("app", "/authentiq/sign-in?return_to=/head"))
	b.signIn(s, authentiqtest.Alice)
	b.sees(s.web("app", "/head"), http.StatusOK, "Here", aliceName)
	for path := range pages {
		b.open(s.web("app", path))
		b.awaits(boundText, map[bool]string{true: "", false: aliceName + "|alice@example.com"}[path == "/twice"])
		b.awaits(`seen.filter(event => event.startsWith("profile")).join(", ")`, "profile "+aliceName)
		b.script(`authentiq.bind(); ""`) // what is there is not made again
		want := "Sign out"
		if path == "/twice" {
			want = "Sign out|Leave"
		}
		b.awaits(`[...document.querySelectorAll("button")].map(button => button.textContent).join("|")`, want)
	}
}

func snippetEndpoint(t *testing.T, c *chromium) {
	for options, walk := range map[string]func(*street, *tab){
		"": func(s *street, b *tab) {
			b.open(s.web("app", "/page"))
			b.press("Sign in")
			b.signIn(s, authentiqtest.Alice)
			b.hears("authorized {}", "profile "+aliceName)
			b.awaits(boundText, aliceName+"|")
			b.awaits(`Object.keys(told).sort().join(" ")`, "locale name sid sub")
		},
		"path_prefix /sso/gate\ncallback_url https://app.example.test:PORT/authentiq/callback\nsession_endpoint full": func(s *street, b *tab) {
			b.open(s.web("app", "/prefix"))
			b.press("Sign in")
			b.signIn(s, authentiqtest.Alice)
			b.hears("authorized {}", "profile "+aliceName)
			b.awaits(boundText, aliceName+"|alice@example.com")
		},
		"session_endpoint off": func(s *street, b *tab) {
			b.open(s.web("app", "/page"))
			b.hears("error client_error")
			b.awaits(buttonText, "none")
			b.awaits(`authentiq.signIn() ?? authentiq.signOut() ?? "nothing"`, "nothing")
			b.hears("error client_error")
		},
		"session_endpoint full\nrequire groups staff": func(s *street, b *tab) {
			b.open(s.web("app", "/authentiq/sign-in?return_to=/page"))
			b.signIn(s, authentiqtest.Alice)
			b.sees(s.web("app", "/authentiq/callback"), http.StatusForbidden, "You can’t enter here")
			b.open(s.web("app", "/page"))
			b.hears()
			b.awaits(buttonText, "Sign in")
		},
	} {
		p := newSnippetPages(t, "", map[string]string{"/page": snippetTag + snippetBind, "/prefix": strings.Replace(snippetTag, "/authentiq/", "/sso/gate/", 1) + snippetBind})
		s := c.street(t, p.site(options))
		walk(s, c.window(t, "status of 401", "status of 404", "status of 403", "there is no session endpoint"))
	}
}

func snippetOutage(t *testing.T, c *chromium) {
	p := newSnippetPages(t, "", map[string]string{"/page": `<script src="/fast.js"></script>` + snippetFake + snippetBind})
	s := c.street(t, p.site(""))
	b := c.window(t, "status of 503", "status of 401", "status of 403", "ERR_FAILED")
	p.tell(http.StatusOK, `{"uid":"alice","info":{"name":"Alice"}}`)
	b.open(s.web("app", "/page"))
	b.hears("authorized {}", "profile Alice")
	b.script(`waits.length = 0; ""`)
	p.tell(http.StatusServiceUnavailable, `{"status":503}`)
	b.awaits(`[...new Set(waits)].join(" ").replace(/^30000 /, "")`, "60000 120000 240000 300000")
	b.awaits(`String(waits.length > 6)`, "true")
	// Neither a proxy's page nor a redirect is the gate's word.
	for status, body := range map[int]string{http.StatusUnauthorized: "<h1>Who are you?</h1>", http.StatusFound: "", http.StatusOK: `{"name":"nobody"}`} {
		p.tell(status, body)
		asked := p.count()
		testrig.Await(t, "it asks", func() bool { return p.count() > asked+1 })
	}
	b.hears("authorized {}", "profile Alice", "error temporarily_unavailable")
	b.awaits(boundText, "Alice|")
	p.tell(http.StatusOK, `{"uid":"alice","info":{"name":"Alice"}}`)
	b.script(`waits.length = 0; ""`)
	b.awaits(`[...new Set(waits.slice(2))].join(" ")`, "30000")
	b.hears("authorized {}", "profile Alice", "error temporarily_unavailable")
	// What is said of the user changes, not who he is.
	p.tell(http.StatusOK, `{"uid":"alice","info":{"name":"Alice Jane"}}`)
	b.hears("authorized {}", "profile Alice", "error temporarily_unavailable", "profile Alice Jane")
	p.tell(http.StatusServiceUnavailable, ``)
	b.hears("authorized {}", "profile Alice", "error temporarily_unavailable", "profile Alice Jane", "error temporarily_unavailable")
	p.tell(http.StatusForbidden, `{"status":403,"detail":"Your email address has to be shared."}`)
	b.hears("authorized {}", "profile Alice", "error temporarily_unavailable", "profile Alice Jane", "error temporarily_unavailable", "concluded", "error access_denied")
	b.awaits(boundText, "|")
	p.tell(http.StatusUnauthorized, `{}`)
	asked := p.count()
	testrig.Await(t, "it asks", func() bool { return p.count() > asked })
	b.isQuiet()
	p.tell(http.StatusOK, `{"uid":"alice","info":{"name":"Alice"}}`)
	b.script(`dispatchEvent(new Event("focus")); ""`)
	b.awaits(boundText, "Alice|")
}

func snippetOther(t *testing.T, c *chromium) {
	p := newSnippetPages(t, "", map[string]string{"/page": snippetFake + snippetBind, "/else": "Elsewhere"})
	s := c.street(t, p.site(""))
	b := c.window(t, "status of 401")
	p.tell(http.StatusOK, `{"uid":"alice","info":{"name":"Alice","email":"alice@example.com"}}`)
	b.open(s.web("app", "/page"))
	b.hears("authorized {}", "profile Alice")
	p.tell(http.StatusOK, `{"uid":"bob","info":{"name":"Bob"}}`)
	asked := p.count()
	b.script(`setInterval(() => { if (!window.flicks || flicks < 20) { window.flicks = (window.flicks ?? 0) + 1; dispatchEvent(new Event("focus")) } }, 50); ""`)
	b.hears("authorized {}", "profile Alice", "concluded", "authorized {}", "profile Bob")
	b.awaits(`String(flicks)`, "20")
	if n := p.count() - asked; n != 1 {
		t.Errorf("somebody comes back, and it asks %d times", n)
	}
	b.awaits(boundText, "Bob|")
	// Also when it happened while no page was open.
	b.open(s.web("app", "/else"))
	p.tell(http.StatusOK, `{"uid":"carol","info":{"name":"Carol"}}`)
	b.open(s.web("app", "/page"))
	b.hears("concluded", "authorized {}", "profile Carol")
	b.open(s.web("app", "/else"))
	p.tell(http.StatusUnauthorized, `{}`)
	b.open(s.web("app", "/page"))
	b.hears("concluded")
	b.awaits(`Object.keys(sessionStorage).join("|")`, "")
}

func snippetHostile(t *testing.T, c *chromium) {
	p := newSnippetPages(t, "", map[string]string{"/page": snippetFake +
		`<p data-authentiq-profile-bind="name"></p><p data-authentiq-profile-bind="__proto__"></p><p data-authentiq-profile-bind="__proto__.polluted"></p><p data-authentiq-profile-bind="constructor"></p>
		<p data-authentiq-profile-bind="constructor.name"></p><p data-authentiq-profile-bind="name.length"></p><p data-authentiq-profile-bind="toString"></p><p data-authentiq-profile-bind="address.__proto__.x"></p>
		<p data-authentiq-profile-bind="address.formatted"></p><p data-authentiq-profile-bind=""></p><p data-authentiq-profile-bind="."></p><p data-authentiq-profile-bind="null"></p><p data-authentiq-profile-bind="valueOf"></p><p data-authentiq-profile-bind="address.constructor.name"></p>
		<button class="authentiq-button" data-sign-out-claim="name" data-theme="a b &quot;"></button>
		<script data-authentiq-profile-bind="code" type="text/plain"></script><script data-authentiq-profile-bind="code"></script><style data-authentiq-profile-bind="code"></style>
		<svg><text data-authentiq-profile-bind="name"></text></svg><a id="link" href="/x" data-authentiq-profile-bind="name"></a><template data-authentiq-profile-bind="name"></template>`})
	s := c.street(t, p.site(""))
	b := c.window(t)
	p.tell(http.StatusOK, `{"uid":"<b>","__proto__":{"polluted":"top"},"info":{"name":"<img src=x onerror=\"window.hit=1\">","__proto__":{"polluted":"info"},"location":{"__proto__":{"x":"deep"},"formatted":"</p><script>window.hit=1</script>"}},
		"extra":{"__proto__":{"polluted":"extra"},"constructor":{"name":"mine"},"toString":"text","code":"window.hit=1","null":null},"sid":7}`)
	b.open(s.web("app", "/page"))
	img := `<img src=x onerror="window.hit=1">`
	b.awaits(`[...document.querySelectorAll("p")].map(p => p.textContent).join("|")`, img+"||extra||mine||text|deep|</p><script>window.hit=1</script>|||||")
	b.awaits(`document.querySelector(".authentiq-button:not([type])").textContent`, "Sign out "+img)
	b.awaits(`String([window.hit, {}.polluted, Object.prototype.polluted, document.querySelectorAll("img").length, document.scripts.length, link.getAttribute("href"), told.constructor.name])`, ",,,0,4,/x,mine")
	b.awaits(`[...document.querySelectorAll("script[data-authentiq-profile-bind], style")].map(e => e.textContent).join("")`, "")
	b.hears("authorized {}", "profile "+img)
}

func snippetTyped(t *testing.T, c *chromium) {
	p := newSnippetPages(t, "", map[string]string{"/page": snippetFake + `<label>a<input id="a" data-authentiq-profile-bind="name"></label><label>b<input id="b" data-authentiq-profile-bind="name"></label>
		<label>c<input id="c" value="theirs" data-authentiq-profile-bind="name"></label><label>d<textarea id="d" data-authentiq-profile-bind="email"></textarea></label><label>e<input id="e" type="checkbox" data-authentiq-profile-bind="name"></label>`})
	s := c.street(t, p.site(""))
	b := c.window(t, "status of 401", "GenericIssue")
	fields := `[a, b, c, d, e].map(field => field.value).join("|")`
	p.tell(http.StatusOK, `{"uid":"alice","info":{"name":"Alice","email":"a@example.com"}}`)
	b.open(s.web("app", "/page"))
	b.awaits(fields, "Alice|Alice|theirs|a@example.com|on")
	b.script(`b.value = "Al"; ""`)
	p.tell(http.StatusOK, `{"uid":"alice","info":{"name":"Alice Jane"}}`)
	b.script(`dispatchEvent(new Event("focus")); ""`)
	b.awaits(fields, "Alice Jane|Al|theirs||on")
	// Elements that come later are filled when the page says so.
	b.script(`document.body.append(Object.assign(document.createElement("i"), { id: "late" })); late.dataset.authentiqProfileBind = "name"; authentiq.bind(); ""`)
	b.awaits(`late.textContent`, "Alice Jane")
	p.tell(http.StatusUnauthorized, `{}`)
	b.script(`dispatchEvent(new Event("focus")); ""`)
	b.awaits(fields+` + late.textContent`, "|Al|theirs||on")
}

func snippetReady(t *testing.T, c *chromium) {
	p := newSnippetPages(t, "", map[string]string{"/page": `<script src="/fast.js"></script>` + snippetFake +
		`<script>authentiq.subscribe("profile", () => below())</script><script src="/slow.js"></script><p id="heard"></p><script>function below() { heard.textContent = "heard" }</script>` + snippetBind})
	s := c.street(t, p.site(""))
	p.tell(http.StatusOK, `{"uid":"alice","info":{"name":"Alice"}}`)
	b := c.window(t)
	b.open(s.web("app", "/page"))
	b.awaits(`heard.textContent`, "heard")
	b.awaits(boundText, "Alice|")
}

func snippetSubscribers(t *testing.T, c *chromium) {
	p := newSnippetPages(t, "", map[string]string{"/page": snippetFake + `<script>
		window.heard = []
		authentiq.subscribe("profile", () => { throw new Error("of the page") })
		const off = authentiq.subscribe("profile", () => heard.push("off"))
		const same = () => heard.push("same")
		const first = authentiq.subscribe("profile", same)
		authentiq.subscribe("profile", same)
		authentiq.subscribe("__proto__", same)
		authentiq.subscribe("profile", profile => { heard.push("last " + profile.name); off() })
		</script>`})
	s := c.street(t, p.site(""))
	b := c.window(t, "status of 401", "of the page")
	p.tell(http.StatusOK, `{"uid":"alice","info":{"name":"Alice"}}`)
	b.open(s.web("app", "/page"))
	b.awaits(`heard.join(" ")`, "off same same last Alice")
	// Who comes late hears what holds now, once; what is over he does not.
	b.script(`heard.length = 0; for (const event of ["profile", "authorized", "concluded", "error"]) authentiq.subscribe(event, () => heard.push(event)); authentiq.subscribe("profile", () => heard.push("gone"))(); first(); ""`)
	b.awaits(`heard.join(" ")`, "profile authorized")
	p.tell(http.StatusUnauthorized, `{}`)
	b.script(`heard.length = 0; dispatchEvent(new Event("focus")); ""`)
	b.awaits(`heard.join(" ")`, "concluded")
	b.script(`heard.length = 0; for (const event of ["profile", "authorized", "concluded", "error"]) authentiq.subscribe(event, () => heard.push("late " + event)); ""`)
	b.awaits(`heard.join(" ")`, "late concluded")
	p.tell(http.StatusOK, `{"uid":"bob","info":{"name":"Bob"}}`)
	b.script(`heard.length = 0; dispatchEvent(new Event("focus")); ""`)
	b.awaits(`heard.join(" ")`, "authorized late authorized same last Bob profile late profile")
}

func snippetClobbered(t *testing.T, c *chromium) {
	p := newSnippetPages(t, "", map[string]string{"/page": `<form id="authentiq"><input name="subscribe"></form><img name="currentScript" alt=""><img name="hidden" alt=""><img id="location" alt=""><a id="home" href="//evil.test/"></a>
		<script type="text/plain" class="authentiq-snippet" src="https://elsewhere.test/authentiq/authentiq.js"></script>` + snippetFake + snippetBind +
		`<form data-authentiq-profile-bind="name"><input name="textContent"><input name="matches"><input name="getAttribute"></form><p data-authentiq-profile-bind="name"></p>`,
		"/base": snippetFake + snippetBind + `<base href="https://elsewhere.test/">`})
	s := c.street(t, p.site(""))
	b := c.window(t, "is not a function", "GenericIssue", "Form")
	p.tell(http.StatusOK, `{"uid":"alice","info":{"name":"Alice"}}`)
	b.open(s.web("app", "/page"))
	b.hears("authorized {}", "profile Alice")
	b.awaits(`document.querySelector("p:last-child").textContent`, "Alice")
	b.open(s.web("app", "/base"))
	b.hears("profile Alice")
	b.awaits(buttonText, "Sign out")
}

func snippetAddress(t *testing.T, c *chromium) {
	p := newSnippetPages(t, "", map[string]string{"//elsewhere.test/page": snippetTag, "/": "Home"})
	s := c.street(t, p.site("")+"https://elsewhere.test:PORT {\n"+webTLS+"log\nheader Access-Control-Allow-Origin *\nrespond elsewhere\n}\n")
	b := c.window(t, "status of 401", "Scripts may close only the windows that were opened by them")
	odd := s.web("app", "//elsewhere.test/page")
	b.open(odd + "#authentiq-popup")
	b.awaits(`(`+buttonText+`) + location.hash`, "Sign in")
	for _, display := range []string{"page", "popup"} {
		b.open(odd)
		b.awaits(buttonText, "Sign in")
		b.script(`document.querySelector("script").dataset.display = "` + display + `"; ""`)
		if display == "popup" {
			popup := b.popup(func() { b.press("Sign in") })
			popup.sees(s.web("app", "/"), http.StatusOK, "Home") // the provider still knows her
			b.script(`dispatchEvent(new Event("focus")); ""`)
			b.awaits(buttonText, "Sign out")
			continue
		}
		b.press("Sign in")
		b.signIn(s, authentiqtest.Alice)
		b.sees(s.web("app", "/"), http.StatusOK, "Home")
		b.open(odd)
		b.awaits(buttonText, "Sign out")
		b.press("Sign out")
		b.sees(s.web("app", "/"), http.StatusOK, "Home")
		b.open(s.web("app", "/authentiq/sign-in?return_to=/"))
		b.signIn(s, authentiqtest.Alice)
		b.sees(s.web("app", "/"), http.StatusOK, "Home")
		b.forget(s.web("app", "/authentiq/session"))
	}
	for _, e := range s.Events("handled request") {
		if request, _ := e["request"].(map[string]any); strings.HasPrefix(fmt.Sprint(request["host"]), "elsewhere.test") {
			t.Errorf("the other site was asked: %v", request["uri"])
		}
	}
}

// htmlBlocks are the pages that the documents show.
func htmlBlocks(t *testing.T) (blocks []string) {
	t.Helper()
	documents, err := filepath.Glob("../../docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range append(documents, "../../README.md") {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range regexp.MustCompile("(?ms)^```html\n(.*?)^```").FindAllStringSubmatch(string(text), -1) {
			blocks = append(blocks, m[1])
		}
	}
	return blocks
}

func snippetDocuments(t *testing.T, c *chromium) {
	pages := make(map[string]string)
	for i, block := range htmlBlocks(t) {
		body, whole := strings.CutPrefix(block, "<!doctype html>")
		pages[fmt.Sprint("/", i)] = body
		if whole {
			pages["/whole"] = body
		}
	}
	p := newSnippetPages(t, "", pages)
	s := c.street(t, p.site("session_endpoint full"))
	b := c.window(t, "status of 401", "here is", "nobody is here any more")
	for path := range pages {
		b.forget(s.web("app", "/authentiq/session"))
		b.forget(s.Provider.EndpointURL(authentiqtest.Authorize))
		b.open(s.web("app", path))
		b.press("Sign in")
		b.signIn(s, authentiqtest.Alice)
		b.awaits(`document.querySelector("button").textContent.slice(0, 8)`, "Sign out")
		if path == "/whole" {
			b.sees(s.web("app", path), http.StatusOK, "Welcome Alice", "Sign out "+aliceName)
		}
	}
	b.window.mu.Lock()
	defer b.window.mu.Unlock()
	if !strings.Contains(strings.Join(b.window.heard, ""), `"value":"`+authentiqtest.Alice) || pages["/whole"] == "" {
		t.Errorf("the page of the documents says nothing: %q", b.window.heard)
	}
}

func snippetElsewhere(t *testing.T, c *chromium) {
	p := newSnippetPages(t, "", map[string]string{
		"/theirs": `<script class="authentiq-snippet" src="https://app.example.test:` + "SITE" + `/authentiq/authentiq.js"></script><script>document.title = typeof authentiq</script>`,
		"/copied": snippetFake,
		"/far":    `<script class="authentiq-snippet" src="https://app.example.test:` + "SITE" + `/fake/authentiq.js" data-button=yes></script><script src="/events.js"></script><button class="authentiq-button">Sign in</button>`,
	})
	s := c.street(t, p.site("")+"https://elsewhere.test:PORT {\n"+webTLS+"reverse_proxy "+p.addr+"\n}\n")
	for path, body := range p.pages {
		p.pages[path] = strings.ReplaceAll(body, "SITE", s.Port)
	}
	b := c.window(t, "ERR_BLOCKED_BY_RESPONSE", "BlockedByResponse", "blockedByResponse", "it works from a script tag", "CorpNotSameOrigin")
	b.open(s.elsewhere() + "theirs")
	b.awaits(`document.title`, "undefined")
	asked := p.count()
	b.open(s.elsewhere() + "far")
	b.hears("error client_error")
	b.click(".authentiq-button")
	b.hears("error client_error")
	if p.count() != asked {
		t.Error("a copy of another origin asked for a session")
	}
	// What a message of another tab's says counts for nothing: it is asked.
	p.tell(http.StatusOK, `{"uid":"alice","info":{"name":"Alice"}}`)
	b.open(s.web("app", "/copied"))
	b.hears("authorized {}", "profile Alice")
	b.script(`new BroadcastChannel("authentiq " + new URL("/fake/", location)).postMessage({ uid: "mallory", event: "concluded" }); postMessage("concluded"); ""`)
	testrig.Await(t, "it asks", func() bool { return p.count() > asked+1 })
	b.hears("authorized {}", "profile Alice")
	if !strings.Contains(p.snippet, `new BroadcastChannel(key)`) {
		t.Error("the name of the channel is another")
	}
}
